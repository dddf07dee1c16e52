"""What the REST server counts of itself, for `/metrics`."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

disable_created_metrics()  # type: ignore[no-untyped-call]  # a `_created` beside each counter doubles the page for nobody

LATENCY_BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class RestStatistics:
    """Counters of one server, in a registry of their own (several nodes may live in one process in tests)."""

    def __init__(self) -> None:
        self.registry: Final = CollectorRegistry()
        self.requests: Final = Counter(
            "rocinante_rest_requests",
            "REST requests answered, by route and HTTP status.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.latency: Final = Histogram(
            "rocinante_rest_request_duration_seconds",
            "Time from the start of a REST request's work to its answer (event streams are left out).",
            ("route",),
            buckets=LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self.refused: Final = Counter(
            "rocinante_rest_refused",
            "REST requests refused before any work, by reason: busy, streams (too many), host (not allowed).",
            ("reason",),
            registry=self.registry,
        )
        for reason in ("busy", "streams", "host"):
            self.refused.labels(reason)
        self.in_flight: Final = Gauge(
            "rocinante_rest_requests_in_flight", "REST requests at work now.", registry=self.registry
        )
        self.streams: Final = Gauge("rocinante_rest_event_streams", "Event streams open now.", registry=self.registry)
