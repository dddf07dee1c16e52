"""The flows of the benchmarks are what the format says, and their arithmetic is right."""

from __future__ import annotations

import numpy as np
import pytest

from rocinante.bench.bounds import BENCH_FLOWS_MAX
from rocinante.bench.failover import Checked, Checker
from rocinante.bench.flows import FlowPlan
from rocinante.bench.measured import Latency, NodeFigures, longest_gap_s
from rocinante.bench.records import Kind, Pattern, stamp_of
from rocinante.client import EventKind, FlowChange
from rocinante.flows import decode_batch, validate_batch
from rocinante.limits import FLOW_BATCH_BYTES_MAX, FLOW_BATCH_RECORDS_MAX
from rocinante.pb.v1 import flow_pb2

ZONE = 7


def pattern(kind: Kind, records: int = 50) -> Pattern:
    return Pattern(kind, records, zone=ZONE, deadline_ms=5_000, updated_ms=4_000)


@pytest.mark.parametrize("first", [0, 1_000, (1 << 24) - 10, BENCH_FLOWS_MAX - 50])
@pytest.mark.parametrize("kind", list(Kind))
def test_a_request_is_a_batch_that_every_node_takes(kind: Kind, first: int) -> None:
    made = pattern(kind)
    batch = flow_pb2.PutFlowsRequest.FromString(made.request(first, 12_345)).batch
    assert batch == made.batch(first, 12_345)
    info = validate_batch(batch, records_max=FLOW_BATCH_RECORDS_MAX, bytes_max=FLOW_BATCH_BYTES_MAX)
    assert info.count == 50
    records = list(decode_batch(batch))
    assert {record.packets_original for record in records} == {12_345}
    assert {(record.original.zone, record.deadline_ms, record.updated_ms) for record in records} == {
        (ZONE, 5_000, 4_000)
    }
    assert b"".join(record.key for record in records) == made.keys(range(first, first + 50))
    assert len({record.key for record in records}) == 50
    numbers, stamps = made.read(batch)
    assert numbers.tolist() == list(range(first, first + 50))
    assert set(stamps.tolist()) == {12_345}
    assert stamp_of(batch, ZONE) == (12_345, 50)
    assert stamp_of(batch, ZONE + 1) is None


def test_numbers_begin_anew_behind_the_table() -> None:
    made = pattern(Kind.IPV4, 8)
    assert made.read(made.batch(4, 1, most=10))[0].tolist() == [4, 5, 6, 7, 8, 9, 0, 1]


def test_percentiles_are_of_every_value() -> None:
    latency = Latency.of(np.arange(1000, 0, -1) / 1000)
    assert [latency[name] for name in ("p50_ms", "p90_ms", "p99_ms", "p99_9_ms", "max_ms")] == [
        500,
        900,
        990,
        999,
        1000,
    ]
    assert latency.mean_ms == pytest.approx(500.5)
    assert Latency.of([])["max_ms"] == 0


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([1, 2, 3, 4, 9, 9.5, 10.5], 5),  # 4 to 9
        ([1, 9.9, 30], 20.1),  # one that lasts beyond the end counts wholly
        ([12], 12),  # nothing inside: from the begin to what came after
        ([], 10),
        ([-5, 1, 2], 8),  # nothing afterwards: until the end
    ],
)
def test_the_longest_gap(times: list[float], expected: float) -> None:
    assert longest_gap_s(times, 0, 10) == pytest.approx(expected)


def test_costs_are_what_came_in_between() -> None:
    before = NodeFigures("node1", {"cpu_s": 5.0, "log_bytes": 100.0, "memory_bytes": 7.0}, 10.0)
    after = NodeFigures("node1", {"cpu_s": 6.0, "log_bytes": 300.0, "memory_bytes": 9.0}, 20.0)
    found = after.since(before)
    assert (found.since_s, found.at_s, found.values["memory_bytes"]) == (10.0, 20.0, 9.0)
    assert found.per_million(500_000) == {"cpu_s": 2.0, "log_bytes": 400.0}
    assert found.per_million(0) == {}


class Changes(list[FlowChange]):
    index = 0


def test_the_checker_counts_what_came_twice_or_after_a_later_one() -> None:
    plan = FlowPlan(batch=10, updates=True, table=20)
    made = plan.pattern()
    batches = [
        made.batch(0, 1),
        made.batch(10, 1),
        made.batch(0, 2),
        made.batch(0, 2),
        made.batch(10, 3),
        made.batch(10, 2),
    ]
    changes = Changes(FlowChange(EventKind.PUT, index, "dc1", (), batch, ()) for index, batch in enumerate(batches, 1))
    seen, last = Checked(0, 0, 0, 0), np.zeros(20, np.int64)
    Checker((), plan)._read(changes, last, seen)  # type: ignore[arg-type]
    assert (seen.changes, seen.twice) == (60, 20)
