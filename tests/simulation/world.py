"""Virtual time: one queue of events, one source of chance, and what the nodes see in place of `time` and `random`.

Contract: the run is a function of the seed. Everything that happens is an event of this queue; events of one moment
happen in the order in which they were put. An event belongs to a host (or to nobody): while it runs, `World.current` is
that host, and `time.monotonic()` is that host's clock. What belongs to a host that crashed meanwhile does not happen;
what belongs to one that is paused happens when it goes on.
"""

from __future__ import annotations

import heapq
import random as real_random
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol
from zlib import crc32

TRACE_LINES_MAX: Final = 400
"""Of the last events, for who has to understand a failure."""
EVENTS_MAX: Final = 500_000
"""Of one run, which has some 15,000: more is a storm, such as two nodes that answer each other without end."""
EPOCH_NS: Final = 1_700_000_000_000_000_000
"""The virtual wall clock's beginning."""


class Place(Protocol):
    """A machine, as the queue sees it."""

    name: str
    life: int
    """Grows with each start: what was meant for a former life does not happen."""
    paused: bool
    rate: float
    offset: float
    stash: list[tuple[str, Callable[[], None]]]


class SimulationFailure(AssertionError):
    """Something that must never happen did."""


class Handle:
    """Of one event; the asyncio.TimerHandle of the simulated loop."""

    __slots__ = ("cancelled_",)

    def __init__(self) -> None:
        self.cancelled_ = False

    def cancel(self) -> None:
        self.cancelled_ = True


class World:
    """See the module."""

    def __init__(self, seed: int, *, verbose: bool = False) -> None:
        self.random = real_random.Random(seed)
        self.now = 0.0
        """Seconds."""
        self.current: Place | None = None
        self.events = 0
        self.hash = 0
        """Of all that happened, in order."""
        self.verbose = verbose
        self.trace: deque[str] = deque(maxlen=TRACE_LINES_MAX)
        self.after_event: Callable[[Place], None] = lambda _place: None
        self.counts: dict[str, int] = {}
        """What happened how often, by kind: which faults a run had."""
        self._queue: list[tuple[float, int, Place | None, int, str, Callable[[], None], Handle]] = []
        self._number = 0

    def at(self, delay: float, place: Place | None, what: str, act: Callable[[], None]) -> Handle:
        """`act` happens after `delay` seconds of true time, unless `place` crashes before."""
        handle = Handle()
        self._number += 1
        life = place.life if place is not None else 0
        heapq.heappush(self._queue, (self.now + max(0.0, delay), self._number, place, life, what, act, handle))
        return handle

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def note(self, text: str) -> None:
        """A line of the trace; part of the hash."""
        self.hash = crc32(text.encode(), self.hash)
        line = f"{self.now:10.4f} {self.current.name if self.current else '-':8} {text}"
        self.trace.append(line)
        if self.verbose:
            print(line)

    def run_until(self, time: float, stop: Callable[[], bool] = lambda: False) -> None:
        """Let happen what is due until `time` (seconds), or until `stop()`."""
        queue = self._queue
        while queue and queue[0][0] <= time and not stop():
            self.now, _, place, life, what, act, handle = heapq.heappop(queue)
            if handle.cancelled_ or (place is not None and place.life != life):
                continue
            if place is not None and place.paused:
                place.stash.append((what, act))
                continue
            self.run_now(place, what, act)
        if not stop():
            self.now = max(self.now, time)

    def run_now(self, place: Place | None, what: str, act: Callable[[], None]) -> None:
        """As an event of `place`, at this moment."""
        self.events += 1
        if self.events > EVENTS_MAX:
            raise SimulationFailure(f"a storm: more than {EVENTS_MAX} events")
        self.hash = crc32(b"%d %r %s" % (int(self.now * 1e6), place and place.name, what.encode()), self.hash)
        before, self.current = self.current, place
        try:
            act()
            if place is not None:
                self.after_event(place)
        finally:
            self.current = before

    def resume(self, place: Place) -> None:
        """The paused host goes on: what waited for it happens now, in order."""
        place.paused = False
        stash, place.stash = place.stash, []
        for what, act in stash:
            self.at(0.0, place, what, act)

    # --- what the nodes see

    def monotonic(self) -> float:
        place = self.current
        if place is None:
            return self.now
        return place.offset + self.now * place.rate


class VirtualTime:
    """In place of the module `time`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.monotonic = world.monotonic
        self.perf_counter = world.monotonic

    def time_ns(self) -> int:
        return EPOCH_NS + int(self._world.monotonic() * 1e9)

    def time(self) -> float:
        return self.time_ns() / 1e9

    def sleep(self, seconds: float) -> None:
        raise SimulationFailure(f"somebody sleeps for {seconds} s on a thread of the simulation")


class VirtualRandom:
    """In place of the module `random`: the operating system's randomness comes from the seed."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.Random = real_random.Random
        self.uniform = world.random.uniform
        self.random = world.random.random

    def SystemRandom(self) -> real_random.Random:
        return self._world.random


class VirtualLoop:
    """What a driver needs of an asyncio loop. A host's clock may run faster or slower than the others'."""

    def __init__(self, world: World, place: Place) -> None:
        self._world = world
        self._place = place

    def call_soon(self, callback: Callable[..., object], *arguments: Any) -> Handle:
        return self._world.at(0.0, self._place, "turn", lambda: _call(callback, arguments))

    def call_soon_threadsafe(self, callback: Callable[..., object], *arguments: Any) -> Handle:
        return self._world.at(
            self._world.random.random() * 0.0005, self._place, "turn", lambda: _call(callback, arguments)
        )

    def call_later(self, delay: float, callback: Callable[..., object], *arguments: Any) -> Handle:
        return self._world.at(delay / self._place.rate, self._place, "timer", lambda: _call(callback, arguments))


def _call(callback: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    callback(*arguments)


class _Active:
    """The world that the nodes of this process live in: one at a time."""

    world: World | None = None


def enter(world: World | None) -> None:
    """From now on, `current_host` is that world's."""
    _Active.world = world


def current_host() -> Any:
    """The `Host` whose event is happening."""
    world = _Active.world
    assert world is not None
    assert world.current is not None
    return world.current
