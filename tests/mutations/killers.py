"""What may see a bug: the golden files of tests/raft, a test, lives in the simulator. Imported after the bug is in.

A bug is *seen* by a script whose outcome is another one, by a test that fails, and by a seed whose life fails. A
failure that only says that the patch itself is broken (a name that is not there) is no sight of the bug: it is raised
as `BrokenPatch`.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from difflib import ndiff
from io import StringIO
from typing import Any, Final

import pytest

from tests.raft.playing import FILES, play

SCRIPT_S_MAX: Final = 10
TEST_S_MAX: Final = 60
SEED_S_MAX: Final = 60
"""Seconds of a core, however busy the machine is. What takes longer does not end: a bug of its own kind."""
_BROKEN: Final = (NameError, AttributeError, ImportError, SyntaxError)


class BrokenPatch(Exception):
    """The patch makes nonsense, not the bug."""


class _Endless(Exception):
    pass


@contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    def alarm(_number: int, _frame: object) -> None:
        raise _Endless(f"no end after {seconds} s")

    before = signal.signal(signal.SIGPROF, alarm)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _check(error: BaseException) -> None:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, _BROKEN):
            raise BrokenPatch(repr(seen)) from error
        seen = seen.__cause__ or seen.__context__


class _Failures:
    """A plugin of pytest: the exceptions that failed."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []

    def pytest_exception_interact(self, call: pytest.CallInfo[Any]) -> None:
        if call.excinfo is not None:
            self.errors.append(call.excinfo.value)


def _seen_by_test(name: str) -> str:
    failures, output = _Failures(), StringIO()
    with redirect_stdout(output), _at_most(TEST_S_MAX):
        status = pytest.main(["-q", "-x", "-p", "no:cacheprovider", name], plugins=[failures])
    for error in failures.errors:
        _check(error)
    if status == pytest.ExitCode.OK:
        return ""
    if not failures.errors:
        raise BrokenPatch(f"pytest ends with {status}: {output.getvalue()[-500:]}")
    return _first_line(failures.errors[0])


def seen_by_script(name: str) -> str:
    """What is another outcome, or "" where nothing is. `name`: a golden file, or a test of pytest (`FILE::NAME`)."""
    if "::" in name:
        return _seen_by_test(name)
    expected = FILES[name].read_text()
    try:
        with _at_most(SCRIPT_S_MAX):
            now = play(FILES[name])
    except Exception as error:  # noqa: BLE001  # the top of a job: the bug may break anything, and then it was seen
        _check(error)
        return _first_line(error)
    if now == expected:
        return ""
    changed = [line for line in ndiff(expected.splitlines(), now.splitlines()) if line[0] in "-+"]
    return changed[0]


def seen_by_seed(seed: int) -> str:
    """What the simulator says of it, or "" where it finds nothing."""
    from tests.simulation.simulation import run
    from tests.simulation.world import SimulationFailure

    try:
        with _at_most(SEED_S_MAX):
            run(seed)
    except (SimulationFailure, _Endless) as error:
        _check(error)
        return _said(_first_line(error).removeprefix(f"seed {seed}: "))
    return ""


def _said(text: str) -> str:
    """Without the name of the exception that carries it."""
    found = re.fullmatch(r"(?:SimulationFailure|AssertionError)\((?P<quote>['\"])(?P<what>.*)(?P=quote)\)", text)
    return found["what"] if found else text


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [repr(error)])[0]
