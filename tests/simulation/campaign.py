"""Many seeds, over processes: what they add up to, and which of them failed."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from .simulation import Result, run
from .world import SimulationFailure

AHEAD: Final = 2
"""Seeds that wait for each process."""


@dataclass(slots=True)
class Total:
    seeds: int = 0
    virtual_seconds: float = 0.0
    real_seconds: float = 0.0
    """Of all processes together."""
    events: int = 0
    operations: int = 0
    unknown: int = 0
    refused: int = 0
    retries: int = 0
    entries: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    """Faults and other things, by kind."""
    failures: dict[int, str] = field(default_factory=dict)
    """Seed → what went wrong, with the last events."""

    def add(self, result: Result) -> None:
        self.seeds += 1
        self.virtual_seconds += result.seconds
        self.events += result.events
        self.operations += result.operations
        self.unknown += result.unknown
        self.refused += result.refused
        self.retries += result.retries
        self.entries += result.entries
        self.counts.update(result.counts)

    @property
    def speed(self) -> float:
        """Virtual seconds in a second of one core."""
        return self.virtual_seconds / self.real_seconds if self.real_seconds else 0.0


def one(seed: int, twice: bool) -> tuple[int, Result | str, float]:
    """(seed, result or failure, real seconds). `twice`: run it again, and it must be the same run."""
    began = time.perf_counter()
    outcome: Result | str
    try:
        outcome = run(seed)
        if twice and (again := run(seed)).hash != outcome.hash:
            outcome = f"seed {seed} is two different runs: {outcome} and {again}"
    except SimulationFailure as failure:
        outcome = str(failure)
    spent = time.perf_counter() - began
    return seed, outcome, spent / 2 if twice else spent


def campaign(
    seeds: Iterable[int],
    *,
    processes: int,
    twice: Callable[[int], bool] = lambda _seed: False,
    until: float = float("inf"),
    failures_max: int = 10,
    on_seed: Callable[[Total], None] = lambda _total: None,
) -> Total:
    """Run the seeds, in their order, until they or the time (`until`, time.monotonic()) or the patience end."""
    total = Total()
    for seed, outcome, spent in _outcomes(iter(seeds), processes, twice, until, total, failures_max):
        total.real_seconds += spent
        if isinstance(outcome, str):
            total.seeds += 1
            total.failures[seed] = outcome
        else:
            total.add(outcome)
        on_seed(total)
    return total


def _outcomes(
    seeds: Iterator[int],
    processes: int,
    twice: Callable[[int], bool],
    until: float,
    total: Total,
    failures_max: int,
) -> Iterator[tuple[int, Result | str, float]]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        running: set[Future[tuple[int, Result | str, float]]] = set()
        while True:
            if time.monotonic() < until and len(total.failures) < failures_max:
                for seed in islice(seeds, processes * AHEAD - len(running)):
                    running.add(pool.submit(one, seed, twice(seed)))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
