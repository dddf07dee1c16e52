"""The short form of `make faults`: each kind once, on as few clusters as possible. And the harness itself: it would
find a bug, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.namespaces import left_by, remove_leftovers
from tests.faults.registry import all_faults
from tests.support.tools import ROOT, requires

pytestmark = [pytest.mark.root, requires("ip", "nft", "gcc", "/usr/include/dlfcn.h")]

RUN_S = 900.0
WAIT_S = 120.0
OLD_ANSWER = r"not linearizable|revision \d+ for .* after \d+ for"
"""What is lost or read from an old state shows in the keys that somebody asks for, or in the store's revision."""
QUICK = [name for name, fault in all_faults().items() if fault.quick]


class Run:
    """`python -m tests.faults…` as a process of its own: it moves into another network namespace."""

    def __init__(self, log: Path, *arguments: str, module: str = "tests.faults") -> None:
        self._log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
            )

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def wait(self, timeout_s: float) -> int:
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.close()
            pytest.fail(f"not done within {timeout_s:.0f} s:\n{self.output}", pytrace=False)

    def wait_for(self, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not reached():
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.05)

    def close(self) -> None:
        """SIGTERM and some time, so that it removes its namespaces and mounts."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(WAIT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        remove_leftovers()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def start_one(*arguments: str, module: str = "tests.faults") -> Run:
        runs.append(Run(tmp_path / f"run-{len(runs)}.log", *arguments, module=module))
        return runs[-1]

    yield start_one
    for run in runs:
        run.close()


@pytest.fixture(scope="module")
def rounds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The round of each fault, all of them run by one process."""
    directory = tmp_path_factory.mktemp("faults")
    report = directory / "report.json"
    run = Run(directory / "log", "--quick", "--json", str(report), "--directory", str(directory / "nodes"))
    try:
        run.wait(RUN_S)
    finally:
        run.close()
    assert report.exists(), run.output
    assert left_by(run.process.pid) == []
    return {found["fault"]: found for found in json.loads(report.read_text())["rounds"]}


@pytest.mark.timeout(int(RUN_S) + 60)
@pytest.mark.parametrize("name", QUICK)
def test_all_that_was_told_is_true(name: str, rounds: dict[str, dict[str, Any]]) -> None:
    assert rounds[name]["violations"] == [], json.dumps(rounds[name], indent=1)
    assert rounds[name]["writes"] > 0


@pytest.mark.timeout(460)
@pytest.mark.parametrize(
    ("bug", "fault", "found"),
    [
        ("stale-reads", "leader-alone", OLD_ANSWER),
        ("late-writes", "all-kill", OLD_ANSWER),
        ("other-bytes", "follower-kill", "has another state"),
    ],
)
def test_a_bug_would_be_found(bug: str, fault: str, found: str, start: Callable[..., Run]) -> None:
    run = start(bug, fault, module="tests.faults.broken")
    assert run.wait(400) == 0, run.output
    assert re.search(found, run.output), run.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_ended_leaves_nothing_behind(
    number: signal.Signals, start: Callable[..., Run], tmp_path: Path
) -> None:
    run = start("--only", "follower-kill", "--nodes", "3", "--rounds", "5", "--directory", str(tmp_path / "nodes"))
    run.wait_for(lambda: len(left_by(run.process.pid)) == 5)
    run.process.send_signal(number)
    assert run.wait(WAIT_S) != 0
    assert left_by(run.process.pid) == []


def test_what_a_killed_run_leaves_behind_is_removed_by_the_next(start: Callable[..., Run], tmp_path: Path) -> None:
    run = start("--only", "follower-kill", "--nodes", "3", "--rounds", "5", "--directory", str(tmp_path / "nodes"))
    run.wait_for(lambda: len(left_by(run.process.pid)) == 5)
    run.process.kill()
    run.process.wait(WAIT_S)
    left = left_by(run.process.pid)
    assert len(left) == 5
    assert set(left) <= set(remove_leftovers())
    assert left_by(run.process.pid) == []


def test_a_fault_that_does_not_exist_is_told(start: Callable[..., Run]) -> None:
    run = start("--only", "no-such")
    assert run.wait(WAIT_S) == 2
    assert "no-such" in run.output


def test_the_run_needs_root_and_says_so() -> None:
    script = "import os; os.geteuid = lambda: 1000\nfrom tests.faults.__main__ import main\nraise SystemExit(main([]))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S, env=dict(os.environ)
    )
    assert done.returncode == 3
    assert "needs root" in done.stderr
