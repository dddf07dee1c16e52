"""A record without a deadline gets one by its zone, protocol and state: many at a time as one by one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocinante.flows import (
    FlowFlag,
    FlowRecord,
    FlowTuple,
    TcpState,
    decode_batch,
    encode_batch,
    packed,
    unpacked,
    validate_batch,
)
from rocinante.flows.timeouts import NO_DEADLINE, TIMEOUT_NAMES, Timeouts
from tests.flows.strategies import records

NOW_MS = 1_800_000_000_000
DEFAULT = {name: 100 + number for number, name in enumerate(TIMEOUT_NAMES)}
TIMEOUTS = Timeouts(DEFAULT, {3: {**DEFAULT, "udp": 7, "tcp_established": 9}, 65_535: dict.fromkeys(DEFAULT, 5)})


def flow(protocol: str | int, *, zone: int = 0, address: str = "192.0.2.1", **fields: object) -> FlowRecord:
    other = "198.51.100.1" if "." in address else "2001:db8::2"
    ends = (f"[{address}]:7", f"[{other}]:7") if ":" in address else (f"{address}:7", f"{other}:7")
    return FlowRecord(FlowTuple.from_text(str(protocol), *ends, zone), updated_ms=NOW_MS, **fields)  # type: ignore[arg-type]


def stamped(*flows: FlowRecord, timeouts: Timeouts = TIMEOUTS) -> list[FlowRecord]:
    """All of them, whatever their kind, in the order of encode_batch."""
    found = []
    for batch in encode_batch(flows):
        info = validate_batch(batch, records_max=65_536, bytes_max=1 << 23)
        found += decode_batch(timeouts.stamp(batch, info, NOW_MS))
    return found


def seconds(record: FlowRecord) -> float:
    (made,) = stamped(record)
    return (made.deadline_ms - NOW_MS) / 1000


@pytest.mark.parametrize("state", TcpState)
def test_tcp_by_state(state: TcpState) -> None:
    assert seconds(flow("tcp", tcp_state=state)) == DEFAULT[f"tcp_{state.name.lower()}"]
    assert seconds(flow("tcp", address="2001:db8::1", tcp_state=state)) == DEFAULT[f"tcp_{state.name.lower()}"]
    assert seconds(flow("tcp", tcp_state=state, backend_name="web")) == DEFAULT[f"tcp_{state.name.lower()}"]


@pytest.mark.parametrize(
    ("protocol", "before", "after"),
    [
        # protocol, its time-out, and that once an answer was seen
        ("udp", "udp", "udp_stream"),
        (136, "udp", "udp_stream"),
        (47, "gre", "gre_stream"),
        ("icmp", "icmp", "icmp"),
        (58, "icmpv6", "icmpv6"),
        ("sctp", "sctp", "sctp"),
        (33, "dccp", "dccp"),
        (89, "generic", "generic"),
        (255, "generic", "generic"),
    ],
)
def test_other_protocols(protocol: str | int, before: str, after: str) -> None:
    assert seconds(flow(protocol)) == DEFAULT[before]
    assert seconds(flow(protocol, flags=FlowFlag.SEEN_REPLY)) == DEFAULT[after]
    assert seconds(flow(protocol, flags=FlowFlag.SEEN_REPLY, application_data=b"x")) == DEFAULT[after]


@pytest.mark.parametrize(("zone", "expected"), [(0, DEFAULT["udp"]), (3, 7), (4, DEFAULT["udp"]), (65_535, 5)])
def test_zones(zone: int, expected: int) -> None:
    assert seconds(flow("udp", zone=zone)) == expected


@pytest.mark.parametrize(
    ("updated_ms", "expected_s"),
    [
        (NOW_MS, 100),
        (NOW_MS - 99_000, 1),  # counted from the last news
        (0, 100),  # … from now where there is none,
        (NOW_MS - 100_000, 100),  # … where it would be over already,
        (1_000, 100),
        (NOW_MS + 60_000, 100),  # … or is still to come
        (2**64 - 1, 100),
    ],
)
def test_what_it_is_counted_from(updated_ms: int, expected_s: int) -> None:
    timeouts = Timeouts(dict.fromkeys(DEFAULT, 100))
    fixed, variable = stamped(
        replace(flow("tcp"), updated_ms=updated_ms),
        replace(flow("udp", application_data=b"x"), updated_ms=updated_ms),
        timeouts=timeouts,
    )
    assert [record.deadline_ms - NOW_MS for record in (fixed, variable)] == [expected_s * 1000] * 2
    assert fixed.updated_ms == updated_ms


def test_a_deadline_that_is_stated_stays_and_so_does_none() -> None:
    stated = [replace(flow("udp"), deadline_ms=deadline) for deadline in (1, NOW_MS + 5, NO_DEADLINE)]
    (batch,) = encode_batch(stated)
    info = validate_batch(batch, records_max=9, bytes_max=9999)
    assert TIMEOUTS.stamp(batch, info, NOW_MS) is batch, "nothing to do, nothing copied"
    mixed = [stated[0], flow("udp"), stated[1], flow("icmp"), stated[2]]
    assert [record.deadline_ms - NOW_MS for record in stamped(*mixed)] == [
        1 - NOW_MS,
        DEFAULT["udp"] * 1000,
        5,
        DEFAULT["icmp"] * 1000,
        NO_DEADLINE - NOW_MS,
    ]


@given(st.lists(records(), min_size=1, max_size=40))
def test_many_at_a_time_are_as_one_by_one(some: list[FlowRecord]) -> None:
    for batch in encode_batch(some):
        info = validate_batch(batch, records_max=65_536, bytes_max=1 << 23)
        before = decode_batch(batch)
        for was, now in zip(before, decode_batch(TIMEOUTS.stamp(batch, info, NOW_MS)), strict=True):
            timeout_ms = TIMEOUTS.timeout_ms(
                was.original.zone,
                was.original.protocol,
                was.tcp_state,
                seen_reply=bool(was.flags & FlowFlag.SEEN_REPLY),
            )
            begin_ms = was.updated_ms if NOW_MS - timeout_ms < was.updated_ms <= NOW_MS else NOW_MS
            expected = was if was.deadline_ms else replace(was, deadline_ms=begin_ms + timeout_ms)
            assert now == expected


def test_a_packed_batch_is_stamped_as_what_it_stands_for() -> None:
    bounds = {"records_max": 65_536, "bytes_max": 1 << 23}
    for address in ("192.0.2.1", "2001:db8::1"):
        flows = [flow("udp", address=address, zone=zone, mark=zone << 20, bytes_reply=zone << 30) for zone in range(40)]
        flows[7].deadline_ms = 9
        (fixed,) = encode_batch(flows)
        given = packed(fixed)
        assert given is not fixed
        done = TIMEOUTS.stamp_any(given, NOW_MS, **bounds)
        assert done == packed(TIMEOUTS.stamp(fixed, validate_batch(fixed, **bounds), NOW_MS))
        assert unpacked(done) == TIMEOUTS.stamp_any(fixed, NOW_MS, **bounds)
        assert TIMEOUTS.stamp_any(done, NOW_MS, **bounds) is done, "nothing to do, nothing copied"
