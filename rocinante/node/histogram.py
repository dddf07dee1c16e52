"""A histogram of durations in fixed buckets, for /metrics: one thread observes, anybody reads."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

BUCKETS_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Histogram:
    """Prometheus' kind: cumulative buckets, a sum and a count. Seconds."""

    __slots__ = ("_counts", "count", "sum")

    def __init__(self) -> None:
        self._counts = [0] * (len(BUCKETS_S) + 1)
        self.count = 0
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(BUCKETS_S, seconds)] += 1
        self.count += 1
        self.sum += seconds

    def samples(self, name: str) -> dict[str, float]:
        """By Prometheus name, with the labels in braces."""
        result: dict[str, float] = {}
        total = 0
        for bound, count in zip(BUCKETS_S, self._counts, strict=False):
            total += count
            result[f'{name}_bucket{{le="{bound:g}"}}'] = total
        result[f'{name}_bucket{{le="+Inf"}}'] = self.count
        result[f"{name}_sum"] = self.sum
        result[f"{name}_count"] = self.count
        return result
