"""Fixtures and rules for all tests.

- `@requires(...)` and `@pytest.mark.root`: a test whose needs are not met is skipped with what to do about it, and
  fails where `CI=true`.
- The processes that tests start keep what Python compiles, as they do where people run them: hundreds of them start,
  and compiling the software anew costs each of them as much as all else that a node does until it is ready.
- At the end nothing may be left behind (`tests.support.leaks`): that is an error of the run.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.support import leaks, ports, tools

_RUN = leaks.mark_this_run()

# Images of containers often forbid it. `make clean` removes what was kept; git ignores it.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("requires"):
        for name in marker.args:
            if reason := tools.missing(name):
                _unmet(reason, must=tools.must_be_here(name))
    if item.get_closest_marker("root") is not None and os.geteuid() != 0:
        _unmet("needs root", must=tools.in_ci())


def _unmet(reason: str, *, must: bool) -> None:
    if must:
        pytest.fail(f"{reason} (CI=true: nothing is skipped)", pytrace=False)
    pytest.skip(reason)


def pytest_configure() -> None:
    """A script that starts the tests with `&` has SIGINT ignored, and all that they start would not hear a Ctrl-C."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _nothing_left_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Set up before all other fixtures and torn down after them."""
    yield
    if left := leaks.leftovers(_RUN, tmp_path_factory.getbasetemp()):
        pytest.fail("left behind by the tests:\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture
def free_port() -> int:
    """A TCP and UDP port of 127.0.0.1 that nobody else gets in this run."""
    return ports.free_port()


@pytest.fixture
def free_ports() -> Callable[[int], list[int]]:
    """`free_ports(3)`: three different ones."""
    return ports.free_ports
