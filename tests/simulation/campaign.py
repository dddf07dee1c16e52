"""Many seeds, over processes: what they add up to, and which of them failed.

The unit of work is a block of seeds, run by one process, whose `Total` can be kept (`record.py`) and added to others.
"""

from __future__ import annotations

import gc
import multiprocessing
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from .simulation import Result, run
from .world import SimulationFailure

AHEAD: Final = 2
"""Blocks that wait for each process."""
GARBAGE_THRESHOLD: Final = 200_000
"""Objects between two looks for cycles: a run leaves few, and looking costs a tenth of its time."""
HASH_BITS: Final = 64


@dataclass(slots=True)
class Total:
    seeds: int = 0
    virtual_seconds: float = 0.0
    real_seconds: float = 0.0
    """Of all processes together, for one run of each seed."""
    events: int = 0
    operations: int = 0
    unknown: int = 0
    refused: int = 0
    retries: int = 0
    entries: int = 0
    twice: int = 0
    """Seeds that were run twice, and were the same run."""
    hash: int = 0
    """Of all runs, whatever their order."""
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
        self.hash = (self.hash + result.hash) % (1 << HASH_BITS)
        self.counts.update(result.counts)

    def merge(self, other: Total) -> None:
        for name in (
            "seeds",
            "virtual_seconds",
            "real_seconds",
            "events",
            "operations",
            "unknown",
            "refused",
            "retries",
            "entries",
            "twice",
        ):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.hash = (self.hash + other.hash) % (1 << HASH_BITS)
        self.counts.update(other.counts)
        self.failures.update(other.failures)

    @property
    def speed(self) -> float:
        """Virtual seconds in a second of one core."""
        return self.virtual_seconds / self.real_seconds if self.real_seconds else 0.0


def run_block(seeds: Sequence[int], twice: bool) -> Total:
    """These seeds, one after the other, in this process. `twice`: each again, and it must be the same run."""
    gc.set_threshold(GARBAGE_THRESHOLD)
    total = Total()
    for seed in seeds:
        began = time.perf_counter()
        try:
            result = run(seed)
            total.real_seconds += time.perf_counter() - began
            if twice and (again := run(seed)).hash != result.hash:
                raise SimulationFailure(f"seed {seed} is two different runs: {result} and {again}")
        except SimulationFailure as failure:
            total.seeds += 1
            total.failures[seed] = str(failure)
        else:
            total.twice += twice
            total.add(result)
    return total


def campaign(
    blocks: Iterable[Sequence[int]],
    *,
    processes: int,
    twice: bool = False,
    failures_max: int = 10,
    on_block: Callable[[Sequence[int], Total], None] = lambda _block, _total: None,
) -> Total:
    """Run the blocks until they, or the patience, end. `on_block` is told of each that is done, in any order."""
    total = Total()
    for block, part in _outcomes(iter(blocks), processes, twice, total, failures_max):
        total.merge(part)
        on_block(block, part)
    return total


def _outcomes(
    blocks: Iterator[Sequence[int]], processes: int, twice: bool, total: Total, failures_max: int
) -> Iterator[tuple[Sequence[int], Total]]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_begin) as pool:
        running: dict[Future[Total], Sequence[int]] = {}
        try:
            while True:
                if len(total.failures) < failures_max:
                    for block in islice(blocks, processes * AHEAD - len(running)):
                        running[pool.submit(run_block, block, twice)] = block
                if not running:
                    return
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield running.pop(future), future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _begin() -> None:
    """In each process: who is at the terminal stops the campaign, and that ends its processes in order."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
