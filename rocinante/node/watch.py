"""Fan-out of what was applied to watchers, each with a bounded queue of its own, and the recent past to resume from.

The apply thread publishes; nothing here blocks it. A watcher that does not keep up, or asks for what is no longer
kept, is told so and must start again from a snapshot (DESIGN, section 7).
"""

from __future__ import annotations

import threading
from collections import deque
from queue import Empty, SimpleQueue

from rocinante import limits
from rocinante.errors import OutOfRange, ResourceExhausted, Unavailable
from rocinante.ports import WakeUp
from rocinante.state.events import AppliedEvents

_FELL_BEHIND = "the watch fell behind; start again from a snapshot"


class Watcher:
    """One consumer's queue (`rocinante.ports.Watch`)."""

    def __init__(self, hub: WatchHub, backlog: list[AppliedEvents]) -> None:
        self._hub = hub
        self._lock = threading.Lock()
        self._events: deque[AppliedEvents] = deque(backlog)
        self._bytes = sum(item.size_bytes for item in backlog)
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._on_events: WakeUp | None = None
        self._lost = False
        self._ended = False

    def get(self, timeout_s: float) -> AppliedEvents | None:
        event = self._take()
        if event is not None or timeout_s <= 0:
            return event
        try:
            self._wake.get(timeout=timeout_s)
        except Empty:
            pass
        return self._take()

    def _take(self) -> AppliedEvents | None:
        with self._lock:
            if self._lost:
                raise OutOfRange(_FELL_BEHIND)
            if self._events:
                event = self._events.popleft()
                self._bytes -= event.size_bytes
                return event
            if self._ended:
                raise Unavailable("the node stops")
        return None

    def on_events(self, wake: WakeUp) -> None:
        with self._lock:
            self._on_events = wake
            pending = bool(self._events) or self._lost or self._ended
        if pending:
            wake()

    def close(self) -> None:
        self._hub.remove(self)

    def push(self, event: AppliedEvents) -> bool:
        """False when the queue is over its bound: the watcher has lost its place and gets nothing more."""
        with self._lock:
            full = (
                len(self._events) >= limits.WATCH_QUEUE_EVENTS_MAX
                or self._bytes + event.size_bytes > limits.WATCH_QUEUE_BYTES_MAX
            )
            if full and self._events:
                self._lost = True
                self._events.clear()
            else:
                self._events.append(event)
                self._bytes += event.size_bytes
        self._signal()
        return not self._lost

    def end(self, *, lost: bool) -> None:
        with self._lock:
            self._ended = True
            self._lost = self._lost or lost
        self._signal()

    def _signal(self) -> None:
        if self._wake.empty():
            self._wake.put(None)
        if self._on_events is not None:
            self._on_events()


class WatchHub:
    """All watchers of this node, and the events of the last entries."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watchers: dict[Watcher, None] = {}
        """In the order in which they came, which is the order in which they are told."""
        self._history: deque[AppliedEvents] = deque()
        self._history_bytes = 0
        self._complete_after = 0
        """The history has everything after this index."""
        self._ended = False
        self.fell_behind = 0

    @property
    def count(self) -> int:
        return len(self._watchers)

    def reset(self, index: int) -> None:
        """The state was replaced by a snapshot at `index`: what happened before is not known entry by entry."""
        with self._lock:
            self._history.clear()
            self._history_bytes = 0
            self._complete_after = index
            watchers, self._watchers = self._watchers, {}
        for watcher in watchers:
            watcher.end(lost=True)

    def publish(self, events: AppliedEvents) -> None:
        with self._lock:
            self._history.append(events)
            self._history_bytes += events.size_bytes
            while (
                len(self._history) > limits.WATCH_HISTORY_ENTRIES_MAX
                or self._history_bytes > limits.WATCH_HISTORY_BYTES_MAX
            ):
                gone = self._history.popleft()
                self._history_bytes -= gone.size_bytes
                self._complete_after = gone.index
            lost = [watcher for watcher in self._watchers if not watcher.push(events)]
            for watcher in lost:
                del self._watchers[watcher]
            self.fell_behind += len(lost)

    def watch(self, from_index: int, applied: int) -> Watcher:
        """Everything after `from_index` (0: from now on). Raises OutOfRange, ResourceExhausted, Unavailable."""
        with self._lock:
            if self._ended:
                raise Unavailable("the node stops")
            if len(self._watchers) >= limits.WATCHERS_MAX:
                raise ResourceExhausted(f"{limits.WATCHERS_MAX} watchers are open, no more are taken")
            if from_index > applied:
                raise OutOfRange(f"from_index: {from_index} is in the future, the node is at {applied}")
            if from_index and from_index < self._complete_after:
                raise OutOfRange(
                    f"from_index: changes are kept after {self._complete_after} only, {from_index} is older; start "
                    "again from a snapshot"
                )
            backlog = [event for event in self._history if event.index > from_index] if from_index else []
            watcher = Watcher(self, backlog)
            self._watchers[watcher] = None
            return watcher

    def remove(self, watcher: Watcher) -> None:
        with self._lock:
            self._watchers.pop(watcher, None)

    def end(self) -> None:
        """The node stops."""
        with self._lock:
            self._ended = True
            watchers, self._watchers = self._watchers, {}
        for watcher in watchers:
            watcher.end(lost=False)
