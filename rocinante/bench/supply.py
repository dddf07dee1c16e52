"""The requests of one load process: made before the measurement, as far as its memory goes, so that what is measured
has no making of records in it.

Contract. A load's batches are numbered; of flows that are updated in turns the numbers begin anew after `period`
batches, and a batch is kept to be sent again. Of new flows each is given once and forgotten. One that was not made
beforehand is made when it is asked for, and counted in `made_late`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rocinante.bench.bounds import BENCH_PREPARED_BATCHES_MAX, BENCH_PREPARED_BYTES_MAX
from rocinante.bench.records import Made

__all__ = ["Supply"]


class Supply:
    """`make` makes the batch of a number."""

    def __init__(self, make: Callable[[int], Made], period: int | None = None) -> None:
        self._make, self._period = make, period
        self._made: dict[int, Made] = {}
        self._bytes = 0
        self.made_late = 0

    def prepare(self, numbers: Iterable[int]) -> None:
        """Make these, until one is there already or there is no more room."""
        for number in numbers:
            place = number if self._period is None else number % self._period
            if place in self._made or len(self._made) >= BENCH_PREPARED_BATCHES_MAX:
                return
            made = self._make(number)
            self._bytes += len(made)
            if self._bytes > BENCH_PREPARED_BYTES_MAX:
                return
            self._made[place] = made

    def take(self, number: int, stamp: int) -> bytes:
        """The request of that number."""
        made = self._made.pop(number, None) if self._period is None else self._made.get(number % self._period)
        if made is None:
            self.made_late += 1
            made = self._make(number)
        return made.stamped(stamp)
