"""What the gRPC server counts of its calls.

Only the `grpc` thread writes; any thread may read (each number is one object, replaced atomically), and sees values
that are at most a call apart. Nothing is allocated per call.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

BUCKETS_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the latency histogram, in seconds."""


class MethodMetrics:
    """Counters of one method. A call is `started`, then `finished` with its code."""

    __slots__ = ("buckets", "handled", "latency_s_sum", "method", "started")

    def __init__(self, method: str) -> None:
        self.method = method
        self.started = 0
        self.handled: dict[str, int] = {"OK": 0}
        self.buckets = [0] * (len(BUCKETS_S) + 1)
        self.latency_s_sum = 0.0

    def finish(self, code: str, latency_s: float) -> None:
        handled = self.handled
        handled[code] = handled.get(code, 0) + 1
        self.buckets[bisect_left(BUCKETS_S, latency_s)] += 1
        self.latency_s_sum += latency_s

    def values(self) -> dict[str, float]:
        method = f'method="{self.method}"'
        handled = dict(self.handled)
        total = sum(handled.values())
        values: dict[str, float] = {
            f"grpc_requests_started_total{{{method}}}": self.started,
            f"grpc_requests_in_flight{{{method}}}": max(0, self.started - total),
        }
        for code, count in handled.items():
            values[f'grpc_requests_handled_total{{{method},code="{code}"}}'] = count
        below = 0
        for bound, count in zip((*BUCKETS_S, "+Inf"), list(self.buckets), strict=True):
            below += count
            values[f'grpc_request_duration_seconds_bucket{{{method},le="{bound}"}}'] = below
        values[f"grpc_request_duration_seconds_sum{{{method}}}"] = self.latency_s_sum
        values[f"grpc_request_duration_seconds_count{{{method}}}"] = below
        return values


class CallMetrics:
    """Counters of all methods of a server."""

    def __init__(self) -> None:
        self._methods: dict[str, MethodMetrics] = {}
        self.refused_not_ready = 0
        """Calls that were turned away because the node was not ready."""

    def method(self, path: str) -> MethodMetrics:
        """Of the method at `path` (`/package.Service/Method`); the same object for the same path."""
        return self._methods.setdefault(path, MethodMetrics(path.removeprefix("/")))

    def values(self) -> dict[str, float]:
        """By Prometheus name without the `rocinante_` prefix, labels in braces."""
        values: dict[str, float] = {"grpc_requests_refused_not_ready_total": self.refused_not_ready}
        for method in list(self._methods.values()):
            values.update(method.values())
        return values
