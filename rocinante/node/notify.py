"""systemd: READY, STOPPING, STATUS, WATCHDOG, RELOADING and EXTEND_TIMEOUT_USEC, through the `sdnotify` package
(sd_notify(3)).

Without `NOTIFY_SOCKET` all of it is silence. The thread `notify` feeds the watchdog only while the driver turns, so
that a node whose driver hangs is killed and restarted.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import sdnotify

from rocinante import limits


class Notifier:
    """See the module. Thread-safe."""

    def __init__(self) -> None:
        self._socket = sdnotify.SystemdNotifier()
        self.enabled = bool(os.environ.get("NOTIFY_SOCKET"))
        self._status = ""
        self._stopped = threading.Event()
        self._turn: Callable[[], int] = lambda: 0
        self._describe: Callable[[], str] = lambda: ""
        self._thread = threading.Thread(target=self._run, name="notify", daemon=True)
        watchdog = os.environ.get("WATCHDOG_USEC", "")
        pid = os.environ.get("WATCHDOG_PID", "")
        mine = not pid or pid == str(os.getpid())
        self._watchdog_s = int(watchdog) / 1_000_000 if watchdog.isdigit() and mine else 0.0
        self.fed = 0

    def _send(self, state: str) -> None:
        if self.enabled:
            self._socket.notify(state)

    def start(self, turn: Callable[[], int], describe: Callable[[], str]) -> None:
        """`turn` counts the driver's turns; `describe` is the STATUS line."""
        self._turn, self._describe = turn, describe
        if self.enabled:
            self._thread.start()

    def ready(self) -> None:
        self._send("READY=1")

    def stopping(self) -> None:
        self._stopped.set()
        self._send("STOPPING=1")

    def reloading(self) -> None:
        """Type=notify-reload wants the time; READY=1 follows when it is done."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def status(self, text: str) -> None:
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text}")

    def extend_timeout(self, seconds: float) -> None:
        """A long start or stop goes on: give it this much more from now."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")

    def _run(self) -> None:
        every = min(self._watchdog_s / 3, limits.NOTIFY_INTERVAL_S) if self._watchdog_s else limits.NOTIFY_INTERVAL_S
        last = -1
        while not self._stopped.wait(every):
            turn = self._turn()
            if turn != last:
                last = turn
                if self._watchdog_s:
                    self._send("WATCHDOG=1")
                    self.fed += 1
            self.status(self._describe())
