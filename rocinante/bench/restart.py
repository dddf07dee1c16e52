"""`rocinante bench restart` and `bench snapshot`: what a large table costs when a node starts, and while it is saved.

Restart: the table is filled, a follower is stopped as an operator stops it (or killed), started, and watched until
`/readyz` says that it is ready: its process, its snapshot, its log. A node's memory a flow is that of its process then,
less that of the same node when it had just started and had no flow.

Snapshot: small batches go to the leader at a rate, and the leader takes a snapshot. The longest stretch without an
acknowledgement is given for that time, and for as long before it, so that the machine's own pauses are seen.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rocinante.bench.bounds import BENCH_READY_TIMEOUT_S
from rocinante.bench.crew import Crew
from rocinante.bench.flows import FlowPlan, FlowSample
from rocinante.bench.measured import Latency, longest_gap_s
from rocinante.bench.own import OwnCluster
from rocinante.bench.records import Kind
from rocinante.bench.running import Running, leader_of, loads, prepared
from rocinante.errors import InvalidArgument, Unavailable

__all__ = ["RestartRound", "SnapshotRound", "restart", "snapshot"]

_BEFORE_S: Final = 5.0
"""Of load before a snapshot is taken …"""
_AFTER_S: Final = 1.0
"""… and after it."""


@dataclass(frozen=True, slots=True)
class RestartRound:
    """Times in seconds."""

    node: str
    flows: int
    stop_s: float
    """0: it was killed."""
    ready_s: float
    """From the start of the process."""
    caught_up_s: float
    """… until it had what was committed when it was started."""
    memory_bytes: int
    memory_bytes_per_flow: float


def restart(
    own: OwnCluster, running: Running, kind: Kind, flows: int, rounds: int, *, kill: bool
) -> list[RestartRound]:
    """Raises Unavailable."""
    empty = {name: _memory(own, running, name) for name in own.nodes}
    running.fill(kind, flows)
    made = []
    for number in range(rounds):
        running.progress(f"restart {number + 1} of {rounds}", number, rounds, "")
        leader = own.wait_leader()
        name = next(name for name in own.nodes if name != leader)
        stop_s = 0.0
        if kill:
            own.kill(name)
        else:
            stop_s = own.stop(name)
        target, began_s = own.applied(leader), time.monotonic()
        own.start(name)
        own.wait_ready(name)
        ready_s = time.monotonic() - began_s
        own.wait_applied(name, target)
        caught_up_s = time.monotonic() - began_s
        there, memory = int(str(own.status(name)["flows"])), _memory(own, running, name)
        if there < flows:
            raise Unavailable(f"{name} has {there} flows after its start, of {flows}")
        per_flow = (memory - empty[name]) / there
        made.append(RestartRound(name, there, stop_s, ready_s, caught_up_s, memory, per_flow))
    return made


def _memory(own: OwnCluster, running: Running, name: str) -> int:
    """Of the node's process, as it says itself."""
    figures = running.nodes.of(name, own.nodes[name].rest_endpoint)
    if figures is None or "memory_bytes" not in figures.values:
        raise Unavailable(f"{name} does not say how much memory it has")
    return int(figures.values["memory_bytes"])


@dataclass(frozen=True, slots=True)
class SnapshotRound:
    """Times in seconds; gaps are stretches without an acknowledgement."""

    node: str
    flows: int
    bytes: int
    snapshot_s: float
    gap_s: float
    """The longest one while the snapshot was taken."""
    gap_before_s: float
    """The longest one in as long a time before."""
    during: Latency
    before: Latency


def snapshot(own: OwnCluster, running: Running, plan: FlowPlan, flows: int, rounds: int) -> list[SnapshotRound]:
    """Raises Unavailable."""
    if plan.rate is None:
        raise InvalidArgument("rate", "is missing: a snapshot is taken under a load")
    running.fill(plan.kind, flows)
    made = []
    for number in range(rounds):
        leader = own.wait_leader()
        loaded = replace(plan, endpoints=(leader_of(running.client),), table=flows, updates=True)
        loaded = prepared(loaded, BENCH_READY_TIMEOUT_S)
        with Crew(loads(loaded)) as crew:
            crew.go()
            running.progress(f"snapshot {number + 1} of {rounds}: before", number, rounds, "")
            crew.watch_for(_BEFORE_S, lambda _: None)
            running.progress(f"snapshot {number + 1} of {rounds}: under way", number, rounds, "")
            began_s = time.monotonic()
            taken = running.client.admin.snapshot(endpoint=own.nodes[leader].endpoint, timeout_s=BENCH_READY_TIMEOUT_S)
            ended_s = time.monotonic()
            crew.watch_for(_AFTER_S, lambda _: None)
            crew.stop()
            samples: list[FlowSample] = crew.results(timeout_s=BENCH_READY_TIMEOUT_S)
        made.append(_snapshot_round(leader, flows, taken.size_bytes, (began_s, ended_s), samples))
    return made


def _snapshot_round(
    leader: str, flows: int, size: int, stretch: tuple[float, float], samples: list[FlowSample]
) -> SnapshotRound:
    began_s, ended_s = stretch
    due = np.concatenate([np.frombuffer(sample.due_s, np.float64) for sample in samples])
    ended = np.concatenate([np.frombuffer(sample.ended_s, np.float64) for sample in samples])
    earlier_s = max(float(due.min()) if len(due) else began_s, began_s - (ended_s - began_s))

    def latency(since_s: float, until_s: float) -> Latency:
        chosen: NDArray[Any] = (due >= since_s) & (due < until_s)
        return Latency.of((ended - due)[chosen])

    return SnapshotRound(
        node=leader,
        flows=flows,
        bytes=size,
        snapshot_s=ended_s - began_s,
        gap_s=longest_gap_s(ended.tolist(), began_s, ended_s),
        gap_before_s=longest_gap_s(ended.tolist(), earlier_s, began_s),
        during=latency(began_s, ended_s),
        before=latency(earlier_s, began_s),
    )
