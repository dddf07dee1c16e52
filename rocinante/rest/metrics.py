"""`/metrics` in Prometheus' text form (or OpenMetrics, where it is asked for).

Three sources: the node's status, the numbers that the node and its parts count (`NodePort.metrics` and the
`metrics_sources`: a name without `rocinante_`, labels in braces, `_total` for counters, `_bucket{…le="…"}`, `_sum`
and `_count` for histograms), and what REST counts of itself. A number that the status has already is not taken
twice.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from rocinante.identity import format_id
from rocinante.ports import NodeStatus
from rocinante.rest.context import RestContext
from rocinante.rest.http import Reply, Request
from rocinante.rest.metrics_help import help_text
from rocinante.version import __version__

PREFIX: Final = "rocinante_"
ROLES: Final = ("not_ready", "follower", "candidate", "leader")
_SAMPLE: Final = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?")
_LABEL: Final = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
_HISTOGRAM: Final = re.compile(r"(.+)_(bucket|sum|count)")


class Sample(NamedTuple):
    name: str
    labels: tuple[tuple[str, str], ...]
    value: float


def parse_sample(key: str, value: float) -> Sample:
    """A key of `NodePort.metrics`. Raises ValueError for what Prometheus would not take."""
    match = _SAMPLE.fullmatch(key)
    if not match:
        raise ValueError(f"{key!r} is not a metric's name")
    labels = tuple((name, _unescape(text)) for name, text in _LABEL.findall(match[2] or ""))
    return Sample(match[1].removeprefix(PREFIX), labels, float(value))


def _unescape(text: str) -> str:
    return text.replace(r"\n", "\n").replace(r"\"", '"').replace(r"\\", "\\")


class NodeCollector(Collector):
    """The node's numbers at the moment of the scrape."""

    def __init__(self, context: RestContext) -> None:
        self._context = context

    def collect(self) -> Iterable[Metric]:
        families = {metric.name: metric for metric in _status_families(self._context.node.status())}
        families["rest"] = _gauge("rest_queue_depth", self._context.queue_depth())
        samples: dict[Sample, None] = {}
        for source in (self._context.node.metrics, *self._context.metrics_sources):
            samples.update(dict.fromkeys(parse_sample(key, value) for key, value in source().items()))
        known = set(families)
        for metric in _sample_families(samples):
            if metric.name not in known:
                known.add(metric.name)
                families[metric.name] = metric
        return families.values()


def _gauge(name: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, help_text(name), value=float(value))


def _status_families(status: NodeStatus) -> Iterable[Metric]:
    yield InfoMetricFamily(
        f"{PREFIX}node",
        "Which node this is.",
        {
            "version": __version__,
            "name": status.name,
            "cluster": status.cluster,
            "datacenter": status.datacenter,
            "cluster_id": format_id(status.cluster_id),
            "lineage": status.lineage,
            "storage": status.storage,
        },
    )
    role = GaugeMetricFamily(f"{PREFIX}raft_role", help_text("raft_role"), labels=["role"])
    for name in ROLES:
        role.add_metric([name], float(status.role == name))
    yield role
    numbers = {
        "raft_term": status.term,
        "raft_has_leader": status.leader != 0,
        "raft_is_leader": status.role == "leader",
        "raft_commit_index": status.commit,
        "raft_applied_index": status.applied,
        "raft_last_index": status.last_index,
        "raft_first_index": status.first_index,
        "raft_snapshot_index": status.snapshot_index,
        "storage_log_bytes": status.log_bytes,
        "storage_alarms": len(status.alarms),
        "kv_revision": status.revision,
        "kv_keys": status.keys,
        "flow_records": status.flows,
        "grpc_enabled": status.grpc_enabled,
        "node_uptime_seconds": status.uptime_ms / 1000,
    }
    for name, value in numbers.items():
        yield _gauge(name, value)
    yield from _peer_families(status)


def _peer_families(status: NodeStatus) -> Iterable[Metric]:
    connected, lag, heard = (
        GaugeMetricFamily(PREFIX + name, help_text(name), labels=["peer"])
        for name in ("peer_connected", "peer_lag_entries", "peer_heard_seconds")
    )
    for peer in status.peers:
        connected.add_metric([peer.member.name], float(peer.connected))
        lag.add_metric([peer.member.name], float(peer.lag))
        heard.add_metric([peer.member.name], peer.heard_ms / 1000 if peer.heard_ms >= 0 else math.nan)
    return connected, lag, heard


def _sample_families(samples: Iterable[Sample]) -> Iterable[Metric]:
    """Counters by `_total`, histograms by their `_bucket`s, all else gauges."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.name, []).append(sample)
    histograms = {match[1] for name in groups if (match := _HISTOGRAM.fullmatch(name)) and match[2] == "bucket"}
    for base in sorted(histograms):
        yield _histogram(base, groups)
    for name, group in sorted(groups.items()):
        match = _HISTOGRAM.fullmatch(name)
        if match and match[1] in histograms:
            continue
        family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
        base = name.removesuffix("_total")
        metric = family(PREFIX + base, help_text(base))
        for sample in group:
            full_name = metric.name + ("_total" if name.endswith("_total") else "")
            metric.add_sample(full_name, dict(sample.labels), sample.value)
        yield metric


def _histogram(base: str, groups: Mapping[str, list[Sample]]) -> Metric:
    metric = HistogramMetricFamily(PREFIX + base, help_text(base))
    for part in ("bucket", "sum", "count"):
        for sample in groups.get(f"{base}_{part}", []):
            metric.add_sample(f"{metric.name}_{part}", dict(sample.labels), sample.value)
    return metric


def get_metrics(context: RestContext, request: Request) -> Reply:
    """All numbers of this node, of REST and of the process."""
    request.query.finish()
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(NodeCollector(context))
    registry.register(WrittenBytes())
    registry.register(_Forward(context.statistics.registry))
    encoder, content_type = choose_encoder(request.header("accept"))
    return Reply(encoder(registry), content_type=content_type)


class WrittenBytes(Collector):
    """What the process had the kernel write to disks, LevelDB's rewriting included (proc(5), /proc/pid/io); nothing
    where the platform does not say."""

    def collect(self) -> Iterable[Metric]:
        try:
            lines = Path("/proc/self/io").read_text().splitlines()
        except OSError:
            return
        values = dict(line.split(": ", 1) for line in lines)
        name = "process_written_bytes"
        yield CounterMetricFamily(PREFIX + name, help_text(name), value=float(values["write_bytes"]))


class _Forward(Collector):
    """The families of another registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        return self._registry.collect()
