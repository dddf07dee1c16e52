"""The watch of a LocalNode: a bounded queue of applied events."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

from rocinante.errors import OutOfRange, RocinanteError
from rocinante.ports import WakeUp
from rocinante.state.events import AppliedEvents


class LocalWatch:
    """A bounded queue of applied events (`rocinante.ports.Watch`)."""

    def __init__(self, forget: Callable[[LocalWatch], None], history: Sequence[AppliedEvents], events_max: int) -> None:
        self._forget = forget
        self._condition = threading.Condition()
        self._queue: deque[AppliedEvents] = deque(history)
        self._events_max = events_max
        self._error: RocinanteError | None = None
        self._wake: WakeUp | None = None

    def get(self, timeout_s: float) -> AppliedEvents | None:
        with self._condition:
            self._condition.wait_for(lambda: self._queue or self._error, timeout=timeout_s)
            if self._error is not None:
                raise self._error
            return self._queue.popleft() if self._queue else None

    def on_events(self, wake: WakeUp) -> None:
        with self._condition:
            self._wake = wake
            waiting = bool(self._queue) or self._error is not None
        if waiting:
            wake()

    def close(self) -> None:
        self._forget(self)

    def offer(self, events: AppliedEvents) -> None:
        with self._condition:
            if len(self._queue) >= self._events_max:
                self._queue.clear()
                self._error = OutOfRange(f"the watcher fell behind: more than {self._events_max} entries are waiting")
            elif self._error is None:
                self._queue.append(events)
            self._condition.notify_all()
            wake = self._wake
        if wake is not None:
            wake()

    def fail(self, error: RocinanteError) -> None:
        with self._condition:
            self._error = error
            self._condition.notify_all()
            wake = self._wake
        if wake is not None:
            wake()
