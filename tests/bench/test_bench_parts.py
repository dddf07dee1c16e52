"""The flows of the benchmarks are what the format says, and their arithmetic is right."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from rocinante.bench import traffic
from rocinante.bench.bounds import BENCH_FLOWS_MAX
from rocinante.bench.failover import Checked, Checker
from rocinante.bench.flows import FlowPlan
from rocinante.bench.measured import Latency, NodeFigures, longest_gap_s
from rocinante.bench.records import Encoding, Kind, Made, Pattern, moment, passed_s, stamp_of
from rocinante.bench.supply import Supply
from rocinante.client import EventKind, FlowChange
from rocinante.config import FlowOptions
from rocinante.flows import check_records, decode_batch, unpacked, validate_batch
from rocinante.flows.packing import is_packed
from rocinante.limits import FLOW_BATCH_BYTES_MAX, FLOW_BATCH_RECORDS_MAX, WRITER_PACK_RECORDS_MIN
from rocinante.node.flow_timeouts import flow_timeouts
from rocinante.pb.v1 import flow_pb2

ZONE = 7
NOW_MS = 1_700_000_000_000
END_MS = NOW_MS + 3_600_000
BOUNDS = {"records_max": FLOW_BATCH_RECORDS_MAX, "bytes_max": FLOW_BATCH_BYTES_MAX}


def pattern(kind: Kind, records: int = 50, encoding: Encoding = Encoding.PLAIN) -> Pattern:
    return Pattern(kind, records, zone=ZONE, deadline_ms=END_MS, updated_ms=NOW_MS, encoding=encoding)


@pytest.mark.parametrize("first", [0, 1_000, (1 << 24) - 10, BENCH_FLOWS_MAX - 50])
@pytest.mark.parametrize("kind", list(Kind))
def test_a_request_is_a_batch_that_every_node_takes(kind: Kind, first: int) -> None:
    made = pattern(kind)
    batch = flow_pb2.PutFlowsRequest.FromString(made.request(first, 12_345)).batch
    assert batch == made.batch(first, 12_345)
    info = validate_batch(batch, **BOUNDS)
    check_records(batch, info, backend_name_bytes_max=255, application_data_bytes_max=1024)
    assert info.count == 50
    records = list(decode_batch(batch))
    assert {(record.original.zone, record.mark) for record in records} == {(ZONE, 12_345)}
    assert all(NOW_MS - traffic.AGE_MS_MAX < record.updated_ms <= NOW_MS for record in records)
    assert all(record.deadline_ms > END_MS for record in records), "nothing ends while it is measured"
    assert b"".join(record.key for record in records) == made.keys(range(first, first + 50))
    assert len({record.key for record in records}) == 50
    numbers, stamps = made.read(batch)
    assert numbers.tolist() == list(range(first, first + 50))
    assert set(stamps.tolist()) == {12_345}
    assert stamp_of(batch, ZONE) == (12_345, 50)
    assert stamp_of(batch, ZONE + 1) is None


@pytest.mark.parametrize("kind", list(Kind))
def test_a_packed_request_stands_for_the_same_records(kind: Kind) -> None:
    made, plain = pattern(kind, 600, Encoding.PACKED), pattern(kind, 600)
    for stamp in (7, 0xFFFF_FFFF):
        sent = flow_pb2.PutFlowsRequest.FromString(made.request(5, stamp)).batch
        assert bytes(unpacked(sent, **BOUNDS)) == plain.batch(5, stamp)
        assert is_packed(sent) is (kind is not Kind.VARIABLE), "there is no packed form of the variable kind"
    small = pattern(kind, WRITER_PACK_RECORDS_MIN - 1, Encoding.PACKED)
    assert small.made(0, request=False).stamped(1) == small.batch(0, 1), "as the client's writer does it"


def test_a_request_that_is_sent_again_has_another_stamp_and_else_the_same() -> None:
    made = pattern(Kind.IPV4, 600, Encoding.PACKED).made(0, request=False)
    one, other = made.stamped(1), made.stamped(2)
    assert len(one) == len(other)
    assert [stamp_of(bytes(unpacked(batch, **BOUNDS)), ZONE) for batch in (one, other)] == [(1, 600), (2, 600)]


def test_the_records_are_a_mix() -> None:
    """Its shares, and what follows from them: a packed record has the columns of real ones."""
    records = list(decode_batch(pattern(Kind.IPV4, 4_096).batch(0, 1)))
    tcp = [record for record in records if record.original.protocol == 6]
    assert len(tcp) / len(records) == pytest.approx(0.73, abs=0.05)
    for state, (share, _) in traffic.TCP_STATES.items():
        assert sum(record.tcp_state is state for record in tcp) / len(tcp) == pytest.approx(share / 100, abs=0.03)
    assert len({record.original.source[:3] for record in records}) > 900, "prefixes"
    servers = Counter(record.original.destination for record in records)
    assert len(servers) > 60
    assert servers.most_common(1)[0][1] > 5 * len(records) / len(servers), "a few are busy"
    assert all(32_768 <= record.original.source_port < 49_152 for record in records)
    packets = sorted(record.packets_original for record in records)
    assert packets[len(packets) // 2] * 50 < packets[-1], "a few flows have most of the packets"
    assert 0.6 < sum(record.backend is not None for record in records) / len(records) < 0.8
    seconds = {(record.deadline_ms - END_MS + NOW_MS - record.updated_ms) // 1000 for record in records}
    assert {10, 30, 60, 120, 432_000} == seconds
    packed_batch = pattern(Kind.IPV4, 4_096, Encoding.PACKED).made(0, request=False)
    assert 35 < len(packed_batch) / 4_096 < 45


def test_the_time_outs_are_those_of_a_node() -> None:
    timeouts = flow_timeouts(FlowOptions())
    assert timeouts is not None
    for state, (_, seconds) in traffic.TCP_STATES.items():
        assert timeouts.timeout_ms(0, 6, state, seen_reply=True) == seconds * 1000
    assert timeouts.timeout_ms(0, 17, 0, seen_reply=False) == traffic.UDP_S * 1000
    assert timeouts.timeout_ms(0, 17, 0, seen_reply=True) == traffic.UDP_STREAM_S * 1000
    assert timeouts.timeout_ms(0, 1, 0, seen_reply=True) == traffic.ICMP_S * 1000


@pytest.mark.parametrize("kind", [Kind.IPV4, Kind.IPV6])
def test_no_two_flows_have_one_key(kind: Kind) -> None:
    made = pattern(kind)
    keys = made.keys(np.arange(200_000))
    assert len({keys[at : at + made.key_bytes] for at in range(0, len(keys), made.key_bytes)}) == 200_000


def test_a_flow_that_is_written_again_has_other_counters() -> None:
    made = pattern(Kind.IPV4, 64)
    once, again = (list(decode_batch(made.batch(first, 1, most=2_048))) for first in (0, 2_048))
    assert [record.key for record in once] == [record.key for record in again]
    assert sum(a.bytes_original == b.bytes_original for a, b in zip(once, again, strict=True)) < 5


def test_moments_are_stamps() -> None:
    for at_s in (0.0, 12.5, 42_949.6, 1e6):
        assert passed_s(moment(at_s), at_s + 0.25) == pytest.approx(0.25, abs=2e-5)


def test_what_is_made_before_is_what_would_be_made() -> None:
    made = pattern(Kind.IPV4, 10)

    def make(number: int) -> Made:
        return made.made(10 * number, 40)

    updates, new = Supply(make, period=4), Supply(make)
    for supply in (updates, new):
        supply.prepare(range(6))
        assert [supply.take(number, 3) for number in range(8)] == [make(number).stamped(3) for number in range(8)]
    assert (updates.made_late, new.made_late) == (0, 2)


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
