"""Which rounds a run has: drawn from a seed, each fault as often as the others.

Contract: pure. The same arguments give the same plan. Faults are dealt as cards: each deck has every fault once, with a
number of nodes that it makes sense for. Rounds of one deck that need the same cluster share one (a `Stint`).
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tests.faults.registry import Fault


@dataclass(frozen=True, slots=True)
class Round:
    number: int
    fault: Fault
    nodes: int
    draw: str
    """The seed of all that the round chooses."""


class Stint(NamedTuple):
    """Rounds on one cluster, one after the other."""

    nodes: int
    rounds: tuple[Round, ...]

    @property
    def fault(self) -> Fault:
        """Any of them: they agree on what the cluster must be like."""
        return self.rounds[0].fault


def plan(seed: str, rounds: int, faults: Sequence[Fault], sizes: Sequence[int]) -> list[Stint]:
    """`sizes`: the numbers of nodes that are wanted; a fault that makes sense for none of them is left out.

    Raises ValueError when none is left.
    """
    usable = [fault for fault in faults if set(fault.sizes) & set(sizes)]
    if not usable:
        raise ValueError(f"no fault makes sense for {', '.join(map(str, sizes))} nodes")
    rng = random.Random(f"plan/{seed}")
    stints: list[Stint] = []
    number = 0
    while number < rounds:
        deck = rng.sample(usable, len(usable))[: rounds - number]
        cards = []
        for fault in deck:
            number += 1
            nodes = rng.choice([size for size in fault.sizes if size in sizes])
            cards.append(Round(number, fault, nodes, f"{seed}/{number}"))
        stints += plan_of(cards)
    return stints


def plan_of(cards: Sequence[Round]) -> list[Stint]:
    """The rounds of a deck by the cluster that they need, otherwise in their order."""
    groups: dict[str, list[Round]] = {}
    for card in cards:
        rig = f"{card.fault.rig.__module__}.{card.fault.rig.__qualname__}" if card.fault.rig is not None else ""
        key = f"{card.nodes} {json.dumps(card.fault.options, sort_keys=True)} {rig}"
        groups.setdefault(key, []).append(card)
    return [Stint(group[0].nodes, tuple(group)) for group in groups.values()]
