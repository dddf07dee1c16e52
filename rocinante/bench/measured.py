"""What was measured, as numbers: exact percentiles of latencies, and what the nodes say of themselves before and after.

Percentiles are by nearest rank over every single value. A node's figures are those of its `/metrics`; what it does not
say (a platform without /proc) is missing, not zero.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

import httpx
import numpy as np
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families

from rocinante.bench.plan import quantile
from rocinante.client import Client
from rocinante.errors import Unavailable
from rocinante.identity import endpoint
from rocinante.tokens import bearer, own_token

__all__ = ["Latency", "NodeFigures", "Nodes", "Stretch", "joined", "longest_gap_s", "together"]

QUANTILES: Final = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99, "p99_9_ms": 0.999, "max_ms": 1.0}
_SCRAPE_TIMEOUT_S: Final = 10.0
_COUNTERS: Final = {
    "process_cpu_seconds_total": "cpu_s",
    "rocinante_process_written_bytes_total": "disk_bytes",
    "rocinante_storage_entry_bytes_total": "log_bytes",
    "rocinante_peer_sent_bytes_total": "sent_bytes",
    "rocinante_raft_elections_total": "elections",
    "rocinante_watch_fell_behind_total": "fell_behind",
    "rocinante_storage_snapshots_taken_total": "snapshots",
}
"""Which metric is which figure; those of several peers are added up."""
_GAUGES: Final = {
    "process_resident_memory_bytes": "memory_bytes",
    "rocinante_flow_records": "flows",
    "rocinante_raft_term": "term",
}
PER_MILLION: Final = ("cpu_s", "disk_bytes", "log_bytes", "sent_bytes")


@dataclass(frozen=True, slots=True)
class Latency:
    """Of batches, look-ups or kept-up changes, in ms."""

    count: int
    mean_ms: float
    percentiles: Mapping[str, float]

    @classmethod
    def of(cls, seconds: Sequence[float] | NDArray[np.float64]) -> Self:
        ordered = np.sort(np.asarray(seconds, np.float64))
        values = {name: 1000 * float(quantile(ordered, q)) for name, q in QUANTILES.items()}  # type: ignore[arg-type]
        return cls(len(ordered), 1000 * float(ordered.mean()) if len(ordered) else 0.0, values)

    def document(self) -> dict[str, float]:
        return {
            **{name: round(value, 3) for name, value in self.percentiles.items()},
            "mean_ms": round(self.mean_ms, 3),
        }

    def __getitem__(self, name: str) -> float:
        return self.percentiles[name]


def longest_gap_s(times_s: Iterable[float], begin_s: float, end_s: float) -> float:
    """The longest stretch in which nothing happened, of those that begin in [begin, end); one that lasts beyond the end
    counts wholly. Where nothing happens afterwards at all: until the last of `times_s`, or the end."""
    after = sorted(time for time in times_s if time > begin_s)
    edges = np.array([begin_s, *after]) if after and after[-1] >= end_s else np.array([begin_s, *after, end_s])
    return float(np.diff(edges)[edges[:-1] < end_s].max())


@dataclass(slots=True)
class NodeFigures:
    """One node at one moment, or what lies between two."""

    name: str
    values: dict[str, float] = field(default_factory=dict)
    at_s: float = 0.0
    """When it said so, `time.monotonic()`."""
    since_s: float = 0.0
    """Counters count from here on; 0: from the node's start."""

    def since(self, before: NodeFigures) -> NodeFigures:
        """Counters since then, gauges now."""
        counters = set(_COUNTERS.values())
        values = {
            name: value - before.values[name] if name in counters else value
            for name, value in self.values.items()
            if name not in counters or name in before.values
        }
        return NodeFigures(self.name, values, self.at_s, before.at_s)

    def per_million(self, records: int) -> dict[str, float]:
        """What a million records cost this node."""
        if not records:
            return {}
        return {name: round(1e6 * self.values[name] / records, 3) for name in PER_MILLION if name in self.values}


class Nodes:
    """Reads the figures of all members of a cluster, by their REST interface."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._http = httpx.Client(headers=bearer(own_token(None)), timeout=_SCRAPE_TIMEOUT_S, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def figures(self) -> dict[str, NodeFigures]:
        """By the nodes' names. A node that does not answer is left out; raises Unavailable when none does."""
        found: dict[str, NodeFigures] = {}
        for member in self._client.cluster.members().members:
            if (figures := self.of(member.name, endpoint(member.address, member.rest))) is not None:
                found[member.name] = figures
        if not found:
            raise Unavailable("no node's REST interface answers: its metrics are needed")
        return found

    def of(self, name: str, rest: str) -> NodeFigures | None:
        """Of the node whose REST interface is at IP:PORT."""
        asked_s = time.monotonic()
        try:
            answer = self._http.get(f"http://{rest}/metrics")
            answer.raise_for_status()
        except httpx.HTTPError:
            return None
        return NodeFigures(name, _parse(answer.text), asked_s + answer.elapsed.total_seconds() / 2)


def _parse(text: str) -> dict[str, float]:
    values: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = _COUNTERS.get(sample.name) or _GAUGES.get(sample.name)
            if name is not None:
                values[name] = values.get(name, 0.0) + sample.value
    return values


def differences(before: Mapping[str, NodeFigures], after: Mapping[str, NodeFigures]) -> list[NodeFigures]:
    """Of the nodes that answered both times."""
    return [figures.since(before[name]) for name, figures in after.items() if name in before]


@dataclass(frozen=True, slots=True)
class Stretch:
    """What was measured: the time between two readings of the nodes' figures."""

    began_s: float
    ended_s: float
    nodes: list[NodeFigures]
    """What lies between the readings."""

    @property
    def seconds(self) -> float:
        return self.ended_s - self.began_s

    def has(self, times_s: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which of these moments are in it."""
        inside: NDArray[np.bool_] = (times_s >= self.began_s) & (times_s < self.ended_s)
        return inside

    def shares(self) -> list[dict[str, Any]]:
        """For JSON: how much of a processor each node took."""
        return [
            {"name": node.name, "cpu_share": round(node.values["cpu_s"] / (node.at_s - node.since_s), 3)}
            for node in self.nodes
            if "cpu_s" in node.values
        ]


def joined(parts: Iterable[Sequence[float]]) -> NDArray[np.float64]:
    """The moments or times that several processes noted."""
    return np.concatenate([np.frombuffer(part, np.float64) for part in parts])  # type: ignore[call-overload]


def together(counts: Iterable[Counter[str]]) -> Counter[str]:
    """What several processes counted."""
    found: Counter[str] = Counter()
    for one in counts:
        found.update(one)
    return found


def costs(nodes: Sequence[NodeFigures], records: Callable[[float, float], int]) -> list[dict[str, Any]]:
    """For JSON: each node, what a million records cost it, and what it is like now. `records` says how many were done
    between two moments: the nodes are not all asked at the same one."""
    gauges = set(_GAUGES.values()) - {"term"}
    return [
        {
            "name": node.name,
            "per_million": node.per_million(records(node.since_s, node.at_s)),
            **{name: int(node.values[name]) for name in sorted(gauges & set(node.values))},
            "elections": int(node.values.get("elections", 0)),
            "snapshots": int(node.values.get("snapshots", 0)),
        }
        for node in nodes
    ]
