"""The storm: faults begin at random moments, last a random time, and are undone.

A run has a choice of the kinds, drawn from its seed. What a Raft cluster cannot survive by design (the data of a
majority lost) is not done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from .named import FAULT
from .world import World

if TYPE_CHECKING:
    from .host import Host
    from .simulation import Simulation

LONG_STORM_S: Final = 12.0
_MEMBERS: Final = ("joint change", "membership")
THEMES: Final[tuple[tuple[str, ...], ...]] = (
    (),
    (),
    (),
    (*_MEMBERS, "crash", "transfer"),
    (*_MEMBERS, "isolate", "replaced machine"),
    ("snapshot", "isolate", "clog", "crash"),
    ("split", "pause", "bridge"),
)
"""Kinds of faults that meet more often in some lives than chance alone would let them."""
Acts = dict[str, Callable[[], None]]


class Storm:
    """See the module. `stop` ends it; what is under way then is undone by `undo`, or by itself."""

    def __init__(self, simulation: Simulation, storm_s: float) -> None:
        self.simulation = simulation
        self.world: World = simulation.world
        random = self.world.random
        short = storm_s < LONG_STORM_S
        self._pause_s = random.choice((0.1, 0.3, 1.0) if short else (1.0, 2.0, 4.0))
        self._lasts = random.choice((0.1, 0.3, 1.0) if short else (0.3, 1.0))
        """What a fault's time is multiplied by."""
        self._leaders = random.choice((0.2, 0.4, 0.8))
        """How often a fault is the leader's."""
        self.under_way = 0
        """Faults whose end is still to come."""
        self.kinds: list[str] = []
        self._acts: list[tuple[str, Callable[[], None]]] = []
        self._weights: list[int] = []
        self._stopped = False

    def begin(self, acts: Acts) -> None:
        random = self.world.random
        chosen = set(random.sample(sorted(acts), random.randint(1, len(acts))))
        theme = random.choice(THEMES)
        if theme:  # mostly these, and a few others
            chosen = {*theme, *random.sample(sorted(chosen), min(len(chosen), 3))}
        self.kinds = sorted(chosen)
        self._acts = [(kind, acts[kind]) for kind in self.kinds]
        self._weights = [4 if kind in theme else random.choice((1, 1, 1, 5)) for kind in self.kinds]
        self._schedule()

    def stop(self) -> None:
        """No more faults begin."""
        self._stopped = True

    def undo(self, hosts: list[Host]) -> None:
        """What is down, paused, full, slow or unreadable is not any more."""
        for host in hosts:
            host.slow, host.crash_in_write = 1.0, False
            host.storage.heal()
            if host.paused:
                self.world.resume(host)
            self.world.at(self.world.random.uniform(0.0, 0.5), None, "start", host.restart)

    def _schedule(self) -> None:
        self.world.at(self.world.random.expovariate(1 / self._pause_s), None, "fault", self._next)

    def _next(self) -> None:
        if self._stopped:
            return
        kind, act = self.world.random.choices(self._acts, self._weights)[0]
        self.world.note(f"fault: {kind}")
        self.world.count(FAULT + kind)
        act()
        self._schedule()

    # --- for the faults

    def host(self) -> Host | None:
        """One that is up; preferably the leader."""
        hosts = [host for host in self.simulation.hosts if host.up and not host.gone]
        if not hosts:
            return None
        leaders = [host for host in hosts if host.leads]
        if leaders and self.world.random.random() < self._leaders:
            return self.world.random.choice(leaders)
        return self.world.random.choice(hosts)

    def ids(self) -> list[int]:
        return [host.id for host in self.simulation.hosts if not host.gone]

    def lasting(self, low: float, high: float) -> float:
        """Seconds."""
        return self.world.random.uniform(low, high) * self._lasts

    def after(self, low: float, high: float, act: Callable[[], None]) -> None:
        """The fault's end."""
        self.under_way += 1

        def end() -> None:
            self.under_way -= 1
            act()

        self.world.at(self.lasting(low, high), None, "fault ends", end)
