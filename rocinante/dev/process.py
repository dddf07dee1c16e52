"""One child of the launcher: a node or the sniffer, its log file, and how it is.

A child has a session of its own, so that Ctrl-C and a closing terminal reach the launcher alone, which ends the
children in order; and it dies with the launcher whatever happens to that (`child.py`). Children must be started by
the launcher's main thread.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final

from rocinante.limits import DEV_LOG_TAIL_BYTES

_EXEC_WAIT_S: Final = 5.0
_SHIM: Final = Path(__file__).with_name("child.py")


class Condition(StrEnum):
    NEW = "new"
    RUNNING = "running"
    PAUSED = "paused"
    KILLED = "killed"
    """By the user."""
    ENDED = "ended"
    """When it was told to, with status 0."""
    DIED = "died"
    """By itself."""


class Child:
    """`command` is run with this interpreter: `python -m …`."""

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name = name
        self.log = log
        self._command = [sys.executable, *command]
        self._process: subprocess.Popen[bytes] | None = None
        self.condition = Condition.NEW
        self.status: int | None = None
        """The last exit status, or minus the signal's number."""

    @property
    def alive(self) -> bool:
        return self.condition in (Condition.RUNNING, Condition.PAUSED)

    @property
    def pid(self) -> int:
        """0 when it does not run."""
        return self._process.pid if self._process is not None and self.alive else 0

    def start(self) -> None:
        """Its output goes to the end of its log."""
        if self.alive:
            raise ValueError(f"{self.name} runs already")
        reading, writing = os.pipe()
        command = [sys.executable, "-I", "-S", str(_SHIM), str(os.getpid()), str(writing), *self._command]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(writing,),
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        # Until the program runs it may not die with us yet: nobody may stop it before.
        os.close(writing)
        select.select([reading], [], [], _EXEC_WAIT_S)
        os.close(reading)
        self.condition = Condition.RUNNING
        self.status = None

    def poll(self) -> bool:
        """Whether it has ended since the last time this was asked."""
        if self._process is None or not self.alive or (status := self._process.poll()) is None:
            return False
        self.status = status
        self.condition = Condition.DIED
        return True

    def kill(self) -> None:
        """SIGKILL, at once, also while it is paused."""
        process = self._running()
        process.kill()
        self.status = process.wait()
        self.condition = Condition.KILLED

    def pause(self) -> None:
        self._running().send_signal(signal.SIGSTOP)
        self.condition = Condition.PAUSED

    def resume(self) -> None:
        self._running().send_signal(signal.SIGCONT)
        self.condition = Condition.RUNNING

    def terminate(self) -> None:
        """Ask it to end; `poll` and `wait` see it do so."""
        if self.alive:
            process = self._running()
            process.terminate()
            process.send_signal(signal.SIGCONT)

    def wait(self, timeout_s: float) -> bool:
        """Whether it has ended within the time."""
        if self._process is None or not self.alive:
            return True
        try:
            self.status = self._process.wait(max(timeout_s, 0.0))
        except subprocess.TimeoutExpired:
            return False
        self.condition = Condition.ENDED if self.status == 0 else Condition.DIED
        return True

    def last_line(self) -> str:
        """Of its log."""
        try:
            with self.log.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - DEV_LOG_TAIL_BYTES))
                lines = file.read().decode(errors="replace").split("\n")
        except FileNotFoundError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def describe_end(self) -> str:
        """`exit status 74` or `signal SIGKILL`."""
        if self.status is None:
            return ""
        if self.status >= 0:
            return f"exit status {self.status}"
        try:
            return f"signal {signal.Signals(-self.status).name}"
        except ValueError:
            return f"signal {-self.status}"

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or not self.alive:
            raise ValueError(f"{self.name} does not run")
        return self._process
