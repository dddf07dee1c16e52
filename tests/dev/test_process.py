"""A child of the launcher: its conditions, its end, and that it never outlives the launcher."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rocinante.dev.process import Child, Condition

WAIT_S = 60.0


def child(tmp_path: Path, program: str) -> Child:
    return Child("node1", ["-c", program], tmp_path / "node1.log")


def wait_until(reached: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not reached():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def state(pid: int) -> str:
    """`R`, `S`, `T` … of /proc; "" when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


SLEEP = "print('here', flush=True); import time; time.sleep(60)"


def started(tmp_path: Path, program: str = SLEEP) -> Child:
    made = child(tmp_path, program)
    made.start()
    wait_until(lambda: made.last_line() == "here", "the child's first line")
    return made


def test_kill_and_start_again(tmp_path: Path) -> None:
    made = started(tmp_path)
    first = made.pid
    made.kill()
    assert (made.condition, made.pid, made.describe_end()) == (Condition.KILLED, 0, "signal SIGKILL")
    assert state(first) == ""
    made.start()
    assert made.condition is Condition.RUNNING
    assert made.pid not in (0, first)
    made.kill()


def test_pause_and_continue(tmp_path: Path) -> None:
    made = started(tmp_path)
    made.pause()
    wait_until(lambda: state(made.pid) == "T", "it is stopped")
    assert made.condition is Condition.PAUSED
    made.resume()
    wait_until(lambda: state(made.pid) == "S", "it goes on")
    made.pause()
    made.kill()
    assert made.status == -signal.SIGKILL


def test_a_paused_one_ends_when_it_is_asked_to(tmp_path: Path) -> None:
    made = started(tmp_path)
    made.pause()
    made.terminate()
    assert made.wait(WAIT_S)
    assert made.describe_end() == "signal SIGTERM"


def test_its_own_death_is_noticed_with_status_and_last_line(tmp_path: Path) -> None:
    made = child(tmp_path, "import sys; print('the disk is broken'); print(); sys.exit(74)")
    made.start()
    wait_until(made.poll, "its death")
    assert made.condition is Condition.DIED
    assert (made.describe_end(), made.last_line()) == ("exit status 74", "the disk is broken")
    assert not made.poll(), "said once"


@pytest.mark.parametrize("action", ["kill", "pause", "resume"])
def test_what_does_not_run_cannot_be_signalled(action: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="node1 does not run"):
        getattr(child(tmp_path, SLEEP), action)()


def test_it_is_not_started_twice(tmp_path: Path) -> None:
    made = started(tmp_path)
    with pytest.raises(ValueError, match="node1 runs already"):
        made.start()
    made.kill()


LAUNCHER = """
import pathlib, sys, time
from rocinante.dev.process import Child
made = Child("node1", ["-c", "import time; time.sleep(60)"], pathlib.Path(sys.argv[1]))
made.start()
if sys.argv[2] == "paused":
    made.pause()
print(made.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("condition", ["running", "paused"])
def test_it_dies_with_a_launcher_that_was_killed(condition: str, tmp_path: Path) -> None:
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(tmp_path / "log"), condition], stdout=subprocess.PIPE, text=True
    )
    assert launcher.stdout is not None
    pid = int(launcher.stdout.readline())
    launcher.kill()
    launcher.wait()
    launcher.stdout.close()
    wait_until(lambda: state(pid) in ("", "Z"), "the child ended")


def test_a_parent_that_died_before_the_start_is_noticed() -> None:
    shim = Path(sys.modules[Child.__module__].__file__ or "").with_name("child.py")
    run = subprocess.run(
        [sys.executable, "-I", "-S", str(shim), str(os.getpid() + 1), "1", sys.executable, "-c", "print('started')"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout, run.stderr) == (1, "", "the parent is gone\n")
