"""Virtual time: one queue of events, one source of chance, and what the nodes see in place of `time` and `random`.

Contract: the run is a function of the seed. Everything that happens is an event of this queue; events of one moment
happen in the order in which they were put. An event belongs to a host (or to nobody): while it runs, `World.current` is
that host, and `time.monotonic()` is that host's clock. What belongs to a host that crashed meanwhile does not happen;
what belongs to one that is paused happens when it goes on.
"""

from __future__ import annotations

import random as real_random
from collections import deque
from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from typing import Any, Final, Protocol
from zlib import crc32

TRACE_LINES_MAX: Final = 400
"""Of the last events, for who has to understand a failure."""
EVENTS_MAX: Final = 500_000
"""Of one run, which has some thousands: more is a storm, such as two nodes that answer each other without end."""
LOOK_S: Final = 0.05
"""How often `run_until` asks whether what it waits for has come (virtual seconds)."""
EPOCH_NS: Final = 1_700_000_000_000_000_000
"""The virtual wall clock's beginning."""


class Place(Protocol):
    """A machine, as the queue sees it."""

    name: str
    life: int
    """Grows with each start: what was meant for a former life does not happen."""
    paused: bool
    rate: float
    """Of its monotonic clock, against true time."""
    offset: float
    wall_ns: int
    """How far its wall clock is off."""
    stash: list[tuple[str, Callable[[], object]]]


class SimulationFailure(AssertionError):
    """Something that must never happen did."""


class Handle:
    """Of one event; the asyncio.TimerHandle of the simulated loop."""

    __slots__ = ("_cancelled", "_number")

    def __init__(self, cancelled: set[int], number: int) -> None:
        self._cancelled = cancelled
        self._number = number

    def cancel(self) -> None:
        self._cancelled.add(self._number)


class World:
    """See the module."""

    def __init__(self, seed: int, *, verbose: bool = False) -> None:
        self.random = real_random.Random(seed)
        self.chance = self.random.random
        self.now = 0.0
        """Seconds."""
        self.current: Place | None = None
        self.events = 0
        self.hash = 0
        """Of all that happened, in order."""
        self.verbose = verbose
        self.trace: deque[str] = deque(maxlen=TRACE_LINES_MAX)
        self.after_event: Callable[[Any], None] = lambda _place: None
        self.counts: dict[str, int] = {}
        """What happened how often, by kind: which faults a run had."""
        self._queue: list[tuple[float, int, Place | None, int, str, Callable[[], object]]] = []
        self._cancelled: set[int] = set()
        self._number = 0

    def at(self, delay: float, place: Place | None, what: str, act: Callable[[], object]) -> None:
        """`act` happens after `delay` seconds of true time, unless `place` crashes before."""
        self._number = number = self._number + 1
        when = self.now + delay if delay > 0.0 else self.now
        heappush(self._queue, (when, number, place, place.life if place is not None else 0, what, act))

    def handle(self) -> Handle:
        """Of the event that was put last."""
        return Handle(self._cancelled, self._number)

    def count(self, what: str, times: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + times

    def note(self, text: str) -> None:
        """A line of the trace; part of the hash."""
        self.hash = crc32(text.encode(), self.hash)
        line = f"{self.now:10.4f} {self.current.name if self.current else '-':8} {text}"
        self.trace.append(line)
        if self.verbose:
            print(line)

    def run_until(self, time: float, stop: Callable[[], bool] | None = None) -> None:
        """Let happen what is due until `time` (seconds), or until `stop()`, which is looked at every `LOOK_S`."""
        if stop is None:
            self._run_to(time)
            return
        while not stop() and self.now < time:
            self._run_to(min(time, self.now + LOOK_S))

    def _run_to(self, time: float) -> None:
        queue, cancelled = self._queue, self._cancelled
        while queue and queue[0][0] <= time:
            self.now, number, place, life, what, act = heappop(queue)
            if number in cancelled:
                cancelled.remove(number)
                continue
            if place is None:
                self._happen(None, number, act)
            elif place.life == life:
                if place.paused:
                    place.stash.append((what, act))
                else:
                    self._happen(place, number, act)
        self.now = max(self.now, time)

    def _happen(self, place: Place | None, number: int, act: Callable[[], object]) -> None:
        self.events += 1
        if self.events > EVENTS_MAX:
            raise SimulationFailure(f"a storm: more than {EVENTS_MAX} events")
        # Numbers only, so that every process comes to the same; an event's number stands for what put it there.
        self.hash = hash((self.hash, self.now, number))
        before, self.current = self.current, place
        try:
            act()
            if place is not None:
                self.after_event(place)
        finally:
            self.current = before

    def run_now(self, place: Place | None, what: str, act: Callable[[], object]) -> None:
        """As an event of `place`, at this moment."""
        self._number += 1
        self._happen(place, self._number, act)

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
        place = self._world.current
        if place is None:
            return EPOCH_NS + int(self._world.now * 1e9)
        return EPOCH_NS + int(self._world.now * place.rate * 1e9) + place.wall_ns

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
        self._world.at(0.0, self._place, "turn", _bound(callback, arguments))
        return self._world.handle()

    def call_soon_threadsafe(self, callback: Callable[..., object], *arguments: Any) -> Handle:
        self._world.at(self._world.chance() * 0.0005, self._place, "turn", _bound(callback, arguments))
        return self._world.handle()

    def call_later(self, delay: float, callback: Callable[..., object], *arguments: Any) -> Handle:
        self._world.at(delay / self._place.rate, self._place, "timer", _bound(callback, arguments))
        return self._world.handle()


def _bound(callback: Callable[..., object], arguments: tuple[Any, ...]) -> Callable[[], object]:
    return partial(callback, *arguments) if arguments else callback


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
