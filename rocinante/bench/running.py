"""What the benchmarks of flows share: a table that is filled before and removed afterwards, and a stage: load for a
while, what it measured, and what the nodes say of themselves before and after.

A stage's figures are of the stretch after the warm-up: batches that were answered in it count for the throughput,
batches that were due in it for the latency, and the nodes' counters are read at its two ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rocinante import limits
from rocinante.bench import bounds
from rocinante.bench.crew import Crew
from rocinante.bench.flows import FlowLoad, FlowPlan, FlowSample
from rocinante.bench.measured import Latency, NodeFigures, Nodes, Stretch, costs, differences, joined, together
from rocinante.bench.processes import share
from rocinante.bench.records import Encoding, Kind
from rocinante.client import Client, FlowSelection
from rocinante.errors import RocinanteError, Unavailable

__all__ = ["Progress", "Running", "Stage", "fresh", "leader_of", "loads", "prepared"]

Progress = Callable[[str, float, float, str], None]
"""(what is done, how far, of how much, the rate in words)."""


def loads(plan: FlowPlan) -> list[FlowLoad]:
    """The load processes of a plan."""
    jobs, first = [], 0
    for number in range(plan.processes):
        count = share(plan.writers, number, plan.processes)
        jobs.append(FlowLoad(plan, range(first, first + count)))
        first += count
    return jobs


def fresh(plan: FlowPlan) -> FlowPlan:
    """Records that are written now, and end in an hour."""
    now_ms = time.time_ns() // 1_000_000
    return replace(plan, updated_ms=now_ms, deadline_ms=now_ms + bounds.BENCH_FLOW_LIFE_MS)


def prepared(plan: FlowPlan, seconds: float) -> FlowPlan:
    """Fresh, and its requests made before it begins, for so many seconds of it."""
    rate = plan.rate
    if rate is None:
        rate = min(bounds.BENCH_PREPARED_RECORDS_PER_S, bounds.BENCH_PREPARED_BATCHES_PER_S * plan.batch)
    return replace(fresh(plan), prepare=int(rate * seconds))


def leader_of(client: Client) -> str:
    """IP:PORT. Raises Unavailable when there is none."""
    leader = client.cluster.leader()
    if leader is None:
        raise Unavailable("the cluster has no leader")
    return leader.endpoint


@dataclass(frozen=True, slots=True)
class Stage:
    """What one stage came to."""

    plan: FlowPlan
    seconds: float
    batches: int
    latency: Latency
    errors: dict[str, int]
    late: int
    given_up: int
    """Batches that were not answered in time, or not even sent before the end."""
    client_cpu_s_per_million: float
    nodes: list[NodeFigures]
    leader: str
    """The name of the node that led at the end."""
    samples: list[FlowSample]

    @property
    def records(self) -> int:
        return self.batches * self.plan.batch

    @property
    def sent_bytes(self) -> int:
        return sum(sample.sent_bytes for sample in self.samples)

    @property
    def sent_records(self) -> int:
        """Those that failed as well; 1, where there was none."""
        return max(1, sum(sample.sent for sample in self.samples) * self.plan.batch)

    def record_bytes(self) -> dict[str, float]:
        """Of a batch like those that were sent, in either encoding, for a record."""
        sizes = {each: len(replace(self.plan, encoding=each).pattern().made(0, request=False)) for each in Encoding}
        return {each.value: round(size / self.plan.batch, 2) for each, size in sizes.items()}

    def answered(self, since_s: float, until_s: float) -> int:
        """Records that were acknowledged between two moments."""
        times = [np.frombuffer(sample.ended_s, np.float64) for sample in self.samples]
        return sum(int(((each >= since_s) & (each < until_s)).sum()) for each in times) * self.plan.batch

    @property
    def per_second(self) -> float:
        return self.records / self.seconds if self.seconds else 0.0

    def document(self) -> dict[str, Any]:
        plan = self.plan
        return {
            "kind": plan.kind.value,
            "batch": plan.batch,
            "writers": plan.writers,
            "in_flight": plan.in_flight if plan.rate is None else None,
            "rate": plan.rate,
            "updates": plan.updates,
            "table": plan.table,
            "seconds": round(self.seconds, 3),
            "batches": self.batches,
            "records": self.records,
            "per_second": round(self.per_second, 1),
            "latency": self.latency.document(),
            "errors": self.errors,
            "sent_late": self.late,
            "given_up": self.given_up,
            "encoding": plan.encoding.value,
            "record_bytes": self.record_bytes(),
            "client": {
                "cpu_s_per_million": round(self.client_cpu_s_per_million, 3),
                "sent_bytes_per_million": round(1e6 * self.sent_bytes / self.sent_records),
                "batches_made_late": sum(sample.made_late for sample in self.samples),
            },
            "leader": self.leader,
            "nodes": costs(self.nodes, self.answered),
        }


class Running:
    """One benchmark against one cluster."""

    def __init__(self, client: Client, progress: Progress, zone: int = bounds.BENCH_ZONE) -> None:
        self.client, self.progress, self.zone = client, progress, zone
        self.nodes = Nodes(client)
        self.filled: dict[Kind, int] = {}
        """How many flows there are of each kind, numbered from 0."""

    def close(self) -> None:
        self.nodes.close()

    @contextmanager
    def table(self, *, keep: bool) -> Iterator[None]:
        """Whatever is written is removed at the end, unless the cluster is gone."""
        try:
            yield
        except Unavailable:
            keep = True
            raise
        finally:
            if not keep:
                self.clear()

    def clear(self) -> None:
        self.progress("removing the flows", 0, 1, "")
        self.client.flows.delete_where(FlowSelection(zone=self.zone))
        self.filled.clear()

    def fill(self, kind: Kind, flows: int) -> None:
        """Put what is missing to `flows` flows, as fast as they go; wait until all nodes have them and are at rest."""
        there = self.filled.get(kind, 0)
        if there >= flows:
            return
        batch = min(bounds.BENCH_FILL_RECORDS, flows - there)
        plan = FlowPlan(
            (leader_of(self.client),), kind, batch, in_flight=bounds.BENCH_FILL_IN_FLIGHT, first=there,
            records=flows - there, zone=self.zone, timeout=limits.REQUEST_TIMEOUT_S_MAX,
        )  # fmt: skip
        what = f"{flows:,} flows"
        with Crew(loads(fresh(plan))) as crew:
            crew.go()
            (sample,) = crew.results(
                lambda notes: self.progress(what, there + (notes[0] or 0), flows, ""), bounds.BENCH_FILL_TIMEOUT_S
            )
        self.filled[kind] = there + sample.chunks * batch
        self.wait_applied(sample.last_index)
        self.settle(what)

    def settle(self, what: str) -> None:
        """Until no node works any more: what filling a table left to do, snapshots and LevelDB's rewriting, is not what
        is measured next."""
        began_s = time.monotonic()
        before = self.nodes.figures()
        while (passed_s := time.monotonic() - began_s) < bounds.BENCH_SETTLE_MAX_S:
            self.progress(f"{what}, until the nodes rest", passed_s, bounds.BENCH_SETTLE_MAX_S, "")
            time.sleep(bounds.BENCH_SETTLE_POLL_S)
            after = self.nodes.figures()
            nodes = differences(before, after)
            if all(
                node.values.get("cpu_s", 0.0) <= bounds.BENCH_SETTLE_SHARE * (node.at_s - node.since_s)
                for node in nodes
            ):
                return
            before = after

    def wait_applied(self, index: int) -> None:
        """On every member that answers."""
        deadline_s = time.monotonic() + bounds.BENCH_READY_TIMEOUT_S
        for member in self.client.cluster.members().members:
            while True:
                try:
                    if self.client.cluster.status(member.endpoint).applied >= index:
                        break
                except RocinanteError:
                    break
                if time.monotonic() > deadline_s:
                    raise Unavailable(f"{member.name} has not caught up")
                time.sleep(bounds.BENCH_POLL_S)

    def stage(self, plan: FlowPlan, *, seconds: float, warm_up: float) -> Stage:
        """Load for so long. Raises Unavailable."""
        total = warm_up + seconds
        plan = prepared(replace(plan, first=max(plan.first, self.filled.get(plan.kind, 0))), total)
        with Crew(loads(plan)) as crew:
            crew.go()
            stretch = self.measure(crew, describe(plan), seconds, warm_up)
            crew.stop()
            samples: list[FlowSample] = crew.results(timeout_s=plan.timeout + bounds.BENCH_START_TIMEOUT_S)
        if not plan.updates:
            self.filled[plan.kind] = plan.first + max(sample.chunks for sample in samples) * plan.batch
        return self._stage(plan, samples, stretch)

    def measure(self, crew: Crew, what: str, seconds: float, warm_up: float) -> Stretch:
        """Let a crew that was told to go warm up, and measure what the nodes do in the seconds after that."""
        total = warm_up + seconds
        crew.watch_for(warm_up, self._told(what, 0.0, total))
        before, began_s = self.nodes.figures(), time.monotonic()
        crew.watch_for(seconds, self._told(what, warm_up, total))
        ended_s, after = time.monotonic(), self.nodes.figures()
        return Stretch(began_s, ended_s, differences(before, after))

    def _stage(self, plan: FlowPlan, samples: list[FlowSample], stretch: Stretch) -> Stage:
        due, ended = joined(sample.due_s for sample in samples), joined(sample.ended_s for sample in samples)
        given_up = joined(sample.given_up_s for sample in samples)
        waited = joined(sample.waited_s for sample in samples)
        latencies = [(ended - due)[stretch.has(due)], waited[stretch.has(given_up)]]
        all_records = len(ended) * plan.batch
        leader = self.client.cluster.leader()
        return Stage(
            plan=plan,
            seconds=stretch.seconds,
            batches=int(stretch.has(ended).sum()),
            latency=Latency.of(np.concatenate(latencies)),
            errors=dict(together(sample.errors for sample in samples)),
            late=sum(sample.late for sample in samples),
            given_up=int(stretch.has(given_up).sum()),
            client_cpu_s_per_million=1e6 * sum(sample.cpu_s for sample in samples) / all_records if all_records else 0,
            nodes=stretch.nodes,
            leader=leader.name if leader is not None else "",
            samples=samples,
        )

    def _told(self, what: str, done_s: float, total_s: float) -> Callable[[Sequence[Any]], None]:
        began_s, before = time.monotonic(), [0]

        def told(notes: Sequence[Any]) -> None:
            passed_s = time.monotonic() - began_s
            written = sum(note or 0 for note in notes)
            if not before[0]:
                before[0] = written
            rate = (written - before[0]) / passed_s if passed_s > 1 else 0.0
            shown = f"{rate:,.0f}/s" if done_s and rate else "" if done_s else "warm-up"
            self.progress(what, done_s + passed_s, total_s, shown)

        return told


def describe(plan: FlowPlan) -> str:
    what = f"{plan.writers} × {plan.in_flight} batches" if plan.rate is None else f"{plan.rate:,.0f}/s in batches"
    return f"{what} of {plan.batch:,}"
