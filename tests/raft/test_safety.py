"""Random lives of a cluster. A failure names its seed: `ROCINANTE_RAFT_SEED=<seed>` runs that one alone.

`ROCINANTE_RAFT_SEEDS=<first>:<last>` runs a range of one's own.
"""

from __future__ import annotations

import os

import pytest

from .simulation import Simulation

SEEDS = 400
BATCH = 50


def _ranges() -> list[range]:
    if seed := os.environ.get("ROCINANTE_RAFT_SEED"):
        return [range(int(seed), int(seed) + 1)]
    first, last = map(int, os.environ.get("ROCINANTE_RAFT_SEEDS", f"0:{SEEDS}").split(":"))
    return [range(start, min(start + BATCH, last)) for start in range(first, last, BATCH)]


@pytest.mark.parametrize("seeds", _ranges(), ids=lambda seeds: f"{seeds.start}-{seeds.stop - 1}")
def test_a_random_life_is_safe_and_recovers(seeds: range) -> None:
    committed = terms = 0
    for seed in seeds:
        simulation = Simulation(seed)
        simulation.run()
        committed += len(simulation.cluster.oracle.committed)
        terms += len(simulation.cluster.oracle.leaders)
    # The storm must not be so strong that nothing happens in it.
    assert committed > 5 * len(seeds) or len(seeds) == 1
    assert terms > len(seeds) or len(seeds) == 1


def test_a_seed_repeats_its_run() -> None:
    def life(seed: int) -> list[tuple[int, int, bytes]]:
        simulation = Simulation(seed)
        simulation.run()
        return [
            (entry.index, entry.term, entry.data) for _, entry in sorted(simulation.cluster.oracle.committed.items())
        ]

    assert life(7) == life(7)
    assert life(7) != life(8)
