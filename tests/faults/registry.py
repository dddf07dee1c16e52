"""What a fault is, and all there are.

    @fault("leader-cut-off", lasts_s=(2.0, 5.0), expects=[Expect("faulted", r"leads no more")])
    def leader_cut_off(scene: Scene) -> Iterator[None]:
        "The leader is cut off from all others."
        leader = scene.fault(scene.leader())
        scene.cluster.network.cut(between([leader], scene.others(leader)))
        yield                                  # the fault lasts, under load
        scene.hit(scene.cluster.network.heal())

Contract: a fault is a generator with one `yield`. What stands before it injects the fault, what stands after it heals
it: starts what was killed, continues what was stopped, makes the network whole. Whatever it does to a process it does
through the cluster (`kill`, `stop`, `pause`, `wait_exit`, `may_die`), which so knows who may be dead. It waits for
events by the cluster's `wait_...`; all its choices come from `scene.random`. It does not wait for the recovery of the
cluster: the round does, and checks it (verify.py).
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final, Literal

from tests.faults.cluster import NetworkCluster
from tests.support.cluster import ClusterFailure

Where = Literal["faulted", "others", "any"]
Inject = Callable[["Scene"], Iterator[None]]
Rig = Callable[[NetworkCluster], AbstractContextManager[None]]

SIZES: Final = (3, 5)
LASTS_S: Final = (1.5, 4.0)
POLL_S: Final = 0.1
GAP_S_MAX: Final = 15.0
"""Between two acknowledged writes, beside the time that the fault lasts: an election takes one to two seconds by the
default timers, the rest is for a machine that others use too."""


@dataclass(frozen=True, slots=True)
class Expect:
    """What an operator must find in the logs that the round wrote: on each faulted node, on at least one of the others,
    or on at least one of all."""

    where: Where
    pattern: str

    def missing(self, logs: Mapping[int, str], faulted: Iterable[int]) -> list[str]:
        """What is not there, in words."""
        found = self._found(logs)
        chosen = set(faulted)
        if self.where == "faulted":
            return [f"node{n} did not log /{self.pattern}/" for n in sorted(chosen - found)]
        candidates = set(logs) - chosen if self.where == "others" else set(logs)
        if found & candidates:
            return []
        return [f"none of {', '.join(f'node{n}' for n in sorted(candidates))} logged /{self.pattern}/"]

    def present(self, logs: Mapping[int, str], faulted: Iterable[int]) -> list[str]:
        """What is there on any node that is meant, in words."""
        chosen = set(faulted)
        meant = {"faulted": chosen, "others": set(logs) - chosen, "any": set(logs)}[self.where]
        return [f"node{n} logged /{self.pattern}/" for n in sorted(self._found(logs) & meant)]

    def _found(self, logs: Mapping[int, str]) -> set[int]:
        wanted = re.compile(self.pattern, re.MULTILINE)
        return {number for number, text in logs.items() if wanted.search(text)}


@dataclass(slots=True)
class Scene:
    """What a fault may use, and what it tells."""

    cluster: NetworkCluster
    random: random.Random
    faulted: set[int] = field(default_factory=set)
    hits: int | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def numbers(self) -> list[int]:
        """All nodes of the cluster."""
        return sorted(self.cluster.nodes)

    def leader(self) -> int:
        """The leader that a majority agrees on, once there is one."""
        return self.cluster.wait_leader()

    def follower(self) -> int:
        """One of the others."""
        return self.random.choice(self.others(self.leader()))

    def others(self, *numbers: int) -> list[int]:
        return [number for number in self.numbers if number not in numbers]

    def minority(self, *, with_leader: bool) -> list[int]:
        """As many nodes as may fail, with the leader or without it."""
        leader = self.leader()
        count = (len(self.numbers) - 1) // 2
        if with_leader:
            return [leader, *self.random.sample(self.others(leader), count - 1)]
        return self.random.sample(self.others(leader), count)

    def fault(self, *numbers: int) -> int:
        """These nodes are the ones that the fault is about (`Expect("faulted", …)`); the first of them."""
        self.faulted.update(numbers)
        return numbers[0]

    def wait(self, seconds: float) -> None:
        """Let the fault last, under load. Raises ClusterFailure as soon as a node has died that should run."""
        deadline = time.monotonic() + seconds
        while (left_s := deadline - time.monotonic()) > 0:
            if died := self.cluster.died():
                raise ClusterFailure(f"ended by themselves: {', '.join(f'node{number}' for number in died)}")
            time.sleep(min(POLL_S, left_s))

    def wait_logged(self, pattern: str, *numbers: int) -> None:
        """Until one of these nodes has written this to its log since the round began: what a fault is to bring about
        takes as long as it takes on a busy machine, and comes before the healing."""
        wanted = re.compile(pattern, re.MULTILINE)
        self.cluster.wait_until(
            lambda: any(wanted.search(self.cluster.logged(number)) for number in numbers),
            f"{' or '.join(f'node{number}' for number in numbers)} logs /{pattern}/",
        )

    def hit(self, count: int) -> None:
        """How often the fault struck (packets dropped, writes failed). A fault that never did fails the round."""
        self.hits = (self.hits or 0) + count

    def note(self, text: str) -> None:
        """What is told when the round fails, and kept with its result."""
        self.notes.append(text)


@dataclass(frozen=True, slots=True)
class Fault:
    name: str
    about: str
    inject: Inject
    sizes: tuple[int, ...]
    """Numbers of nodes that it makes sense for."""
    lasts_s: tuple[float, float]
    """Between injection and healing; drawn."""
    expects: tuple[Expect, ...]
    forbids: tuple[Expect, ...]
    """As `expects`, for what must not be there."""
    tolerates: tuple[str, ...]
    """Regular expressions of lines with FATAL, ERROR or a traceback that this fault brings about; any other fails."""
    options: Mapping[str, object]
    """Keys of the YAML's `cluster` section that the cluster must have."""
    rig: Rig | None
    """What must be there before the first node starts (a mount, a library), and go after the last one has ended."""
    gap_s_max: float | None
    """The longest time without an acknowledged write, for a fault during which writes go on. None: `GAP_S_MAX` and the
    time from the fault's first act until every process serves again."""
    quick: bool
    """Part of the short form (`make test`)."""


_FAULTS: Final[dict[str, Fault]] = {}


def fault(
    name: str,
    *,
    sizes: Iterable[int] = SIZES,
    lasts_s: tuple[float, float] = LASTS_S,
    expects: Iterable[Expect] = (),
    forbids: Iterable[Expect] = (),
    tolerates: Iterable[str] = (),
    options: Mapping[str, object] | None = None,
    rig: Rig | None = None,
    gap_s_max: float | None = None,
    quick: bool = True,
) -> Callable[[Inject], Inject]:
    """Registers a fault. Its docstring's first line says to users what it is."""

    def register(inject: Inject) -> Inject:
        if name in _FAULTS:
            raise ValueError(f"there are two faults named {name}")
        about = (inject.__doc__ or "").strip().splitlines()
        if not about:
            raise ValueError(f"{name} does not say what it is")
        _FAULTS[name] = Fault(
            name,
            about[0],
            inject,
            tuple(sizes),
            lasts_s,
            tuple(expects),
            tuple(forbids),
            tuple(tolerates),
            dict(options or {}),
            rig,
            gap_s_max,
            quick,
        )
        return inject

    return register


def all_faults() -> dict[str, Fault]:
    """By name, in the order of the modules (tests/faults/kinds)."""
    from tests.faults import kinds  # its modules use `fault`

    kinds.load()
    return dict(_FAULTS)
