"""Columns, objects and an encoder that was written from the document alone give the same bytes."""

from __future__ import annotations

import array
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocinante.flows import (
    FlowColumns,
    FlowError,
    FlowRecord,
    FlowTuple,
    decode_batch,
    decode_columns,
    encode_batch,
    encode_columns,
)
from tests.flows import independent
from tests.flows.strategies import records
from tests.flows.test_batch import GOOD_V4, GOOD_V6, GOOD_VARIABLE, poke
from tests.flows.test_format_document import NUMBERS, VECTORS

PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132, "icmp": 1}
STATES = {"SYN_SENT": 1, "ESTABLISHED": 3, "TIME_WAIT": 7}
FLAGS = {"SEEN_REPLY": 2, "ASSURED": 4, "NAT_SRC": 8, "NAT_DST": 16}


def from_vector(written: dict[str, Any]) -> independent.Flow:
    """A flow as the document's vectors write it."""

    def ends(text: str) -> tuple[independent.End, independent.End]:
        _, source, _, destination = text.split()
        return independent.end(source), independent.end(destination)

    source, destination = ends(written["original"])
    return independent.Flow(
        zone=written.get("zone", 0),
        protocol=PROTOCOLS[written["original"].split()[0]],
        source=source,
        destination=destination,
        state=STATES[written["tcp_state"]] if "tcp_state" in written else 0,
        flags=sum(FLAGS[name] for name in written.get("flags", [])),
        deadline_ms=written.get("deadline_ms", 0),
        updated_ms=written.get("updated_ms", 0),
        mark=written.get("mark", 0),
        counters=tuple(written.get(name, 0) for name in NUMBERS[3:]),
        backend=independent.end(written["backend"]) if "backend" in written else None,
        reply=ends(written["reply"]) if "reply" in written else None,
        name=written.get("backend_name", ""),
        data=bytes.fromhex(written.get("application_data", "")),
    )


@pytest.mark.parametrize(("text", "batch"), [pytest.param(*rest, id=name) for name, *rest in VECTORS])
def test_the_independent_encoder_makes_the_documents_vectors(text: str, batch: str) -> None:
    expected = bytes.fromhex(batch)
    made = independent.batches([from_vector(written) for written in json.loads(text)])
    if expected[5] in (4, 5):  # packed
        made = [independent.packed(one) for one in made]
    assert made == [expected]


def plain(record: FlowRecord) -> independent.Flow:
    """The same flow for the independent encoder."""
    original, reply = record.original, record.reply
    return independent.Flow(
        zone=original.zone,
        protocol=original.protocol,
        source=(original.source, original.source_port),
        destination=(original.destination, original.destination_port),
        state=int(record.tcp_state),
        flags=int(record.flags),
        deadline_ms=record.deadline_ms,
        updated_ms=record.updated_ms,
        mark=record.mark,
        counters=(record.packets_original, record.bytes_original, record.packets_reply, record.bytes_reply),
        backend=None if record.backend is None else (record.backend.address, record.backend.port),
        reply=None
        if reply is None
        else ((reply.source, reply.source_port), (reply.destination, reply.destination_port)),
        name=record.backend_name,
        data=record.application_data,
    )


def in_columns(flows: Sequence[FlowRecord]) -> FlowColumns:
    """The same flows as lists, addresses packed and mixed."""
    backends = [record.backend for record in flows]
    replies = [record.reply for record in flows]

    def filling(flow: FlowRecord) -> bytes:
        return bytes(len(flow.original.source))

    return FlowColumns(
        source=[record.original.source for record in flows],
        destination=[record.original.destination for record in flows],
        protocol=[record.original.protocol for record in flows],
        source_port=[record.original.source_port for record in flows],
        destination_port=[record.original.destination_port for record in flows],
        zone=[record.original.zone for record in flows],
        tcp_state=[int(record.tcp_state) for record in flows],
        flags=[int(record.flags) for record in flows],
        deadline_ms=[record.deadline_ms for record in flows],
        updated_ms=[record.updated_ms for record in flows],
        mark=[record.mark for record in flows],
        packets_original=[record.packets_original for record in flows],
        bytes_original=[record.bytes_original for record in flows],
        packets_reply=[record.packets_reply for record in flows],
        bytes_reply=[record.bytes_reply for record in flows],
        backend=[one.address if one else filling(flow) for one, flow in zip(backends, flows, strict=True)],
        backend_port=[one.port if one else 9 for one in backends],
        has_backend=[one is not None for one in backends],
        reply_source=[one.source if one else filling(flow) for one, flow in zip(replies, flows, strict=True)],
        reply_destination=[one.destination if one else filling(flow) for one, flow in zip(replies, flows, strict=True)],
        reply_source_port=[one.source_port if one else 9 for one in replies],
        reply_destination_port=[one.destination_port if one else 8 for one in replies],
        has_reply=[one is not None for one in replies],
    )


@given(st.lists(records(), max_size=8))
def test_objects_and_the_independent_encoder_agree(flows: list[FlowRecord]) -> None:
    assert encode_batch(flows) == independent.batches([plain(flow) for flow in flows])


@given(st.lists(records(), max_size=8))
def test_columns_and_objects_and_the_independent_encoder_agree(flows: list[FlowRecord]) -> None:
    fixed = [flow for flow in flows if independent.kind(plain(flow)) != 3]
    batches = encode_columns(in_columns(fixed)) if fixed else []
    assert batches == encode_batch(fixed) == independent.batches([plain(flow) for flow in fixed])
    turned = [decode_columns(batch) for batch in batches]
    assert [encode_columns(found) for found in turned] == [[batch] for batch in batches], "and back again"
    assert sum(len(found) for found in turned) == len(fixed)


@given(records())
def test_both_directions_have_one_key(flow: FlowRecord) -> None:
    if independent.kind(plain(flow)) == 3:
        return
    there = encode_columns(in_columns([flow]))[0]
    flow.original = flow.original.turned()
    back = encode_columns(in_columns([flow]))[0]
    width = 16 if there[5] == 1 else 40
    assert there[12 : 12 + width] == back[12 : 12 + width]
    assert decode_batch(back) == [flow]


def test_the_ways_to_write_a_column() -> None:
    """Whatever numpy takes; one value for all rows."""
    expected = encode_batch(
        [
            FlowRecord(FlowTuple.from_text("udp", f"10.0.0.{n}:{n}", "192.0.2.1:53", zone=3), updated_ms=2**64 - n)
            for n in (1, 2, 3)
        ]
    )
    sources: list[Any] = [
        [0x0A000001, 0x0A000002, 0x0A000003],
        np.array([0x0A000001, 0x0A000002, 0x0A000003], ">u4"),
        array.array("I", [0x0A000001, 0x0A000002, 0x0A000003]),
        memoryview(array.array("Q", [0x0A000001, 0x0A000002, 0x0A000003])),
        ["10.0.0.1", b"\x0a\0\0\2", "10.0.0.3"],
        np.array([[10, 0, 0, 1], [10, 0, 0, 2], [10, 0, 0, 3]], np.uint8),
        np.frombuffer(b"\x0a\0\0\1\x0a\0\0\2\x0a\0\0\3", "V4"),
    ]
    ports: list[Any] = [[1, 2, 3], np.array([1, 2, 3], np.int8), array.array("H", [1, 2, 3]), (1, 2, 3)]
    for source in sources:
        for port in ports:
            flows = FlowColumns(
                source=source,
                destination="192.0.2.1",
                protocol=17,
                source_port=port,
                destination_port=np.uint16(53),
                zone=3,
                updated_ms=[2**64 - 1, 2**64 - 2, 2**64 - 3],
            )
            assert encode_columns(flows) == expected


def test_columns_are_cut_into_batches_as_objects_are() -> None:
    flows = [FlowRecord(FlowTuple.from_text("tcp", f"10.0.0.{n}:1", "10.0.0.1:2")) for n in range(2, 12)]
    for bounds in ({"records_max": 4}, {"bytes_max": 12 + 3 * 90}, {}):
        assert encode_columns(in_columns(flows), **bounds) == encode_batch(flows, **bounds)
    assert encode_columns(in_columns([])) == []


def columns(**changed: Any) -> FlowColumns:
    given = {"source": ["10.0.0.1", "10.0.0.2"], "destination": ["10.0.0.3", "10.0.0.4"], "protocol": [6, 1]}
    return FlowColumns(**(given | changed))


SIX = ["2001:db8::1", "2001:db8::2"]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"source_port": [1, 65536], "protocol": 6}, "records[1].source_port: 65536 is not in 0 to 65535"),
        ({"source_port": [-1, 0]}, "records[0].source_port: -1 is not in 0 to 65535"),
        ({"source_port": [0, 7]}, "records[1].destination_port: for ICMP both ports"),
        ({"protocol": [6, 256]}, "records[1].protocol: 256 is not in 0 to 255"),
        ({"zone": [0, 1 << 70]}, "records[1].zone: "),
        ({"mark": [0, 1 << 32]}, "records[1].mark: 4294967296 is not in 0 to 4294967295"),
        ({"mark": [0, 1.5]}, "records[1].mark: 1.5 is not a whole number"),
        ({"mark": [True, False]}, "records[0].mark: True is not a whole number"),
        ({"mark": np.array([0.0, 1.0])}, "records[0].mark: 0.0 is not a whole number"),
        ({"mark": ["a", "b"]}, "records[0].mark: 'a' is not a whole number"),
        ({"mark": [1, 2, 3]}, "mark: has the shape (3,); expected one value, or 2"),
        ({"deadline_ms": [2**64 - 1, -1]}, "records[1].deadline_ms: -1 is not in 0 to"),
        ({"tcp_state": [0, 10]}, "records[1].tcp_state: 10 is not in 0 to 9"),
        ({"flags": [0, 0x200]}, "records[1].flags: 0x200 has unknown bits"),
        ({"source": ["10.0.0.1", "10.0.0.256"]}, "records[1].source: '10.0.0.256' is not an IP address"),
        ({"source": [b"1234", b"12345"]}, "records[1].source: b'12345' is neither text nor 4 or 16 bytes"),
        ({"source": np.zeros((2, 5), np.uint8)}, "source: has the shape (2, 5)"),
        ({"source": [1, 1 << 32]}, "records[1].source: 4294967296 is not in 0 to 4294967295"),
        ({"destination": SIX}, "records[0].destination: its address is not of the family"),
        ({"destination": ["10.0.0.1"] * 3}, "destination: has 3 addresses; the other columns have 2 rows"),
        ({"backend": ["10.0.0.1", "::1"]}, "records[1].backend: is IPv6 behind an IPv4 flow"),
        ({"backend": ["10.0.0.1", "::1"], "has_backend": [1, 2]}, "has_backend: is not a column of true and false"),
        ({"has_backend": [True, False]}, "backend: is missing, and has_backend is set"),
        ({"backend": "10.0.0.1", "backend_port": 65536}, "records[0].backend_port: 65536"),
        ({"reply_source": "10.0.0.1"}, "reply_destination: is missing"),
        ({"reply_source": "10.0.0.1", "reply_destination": "::1"}, "records[0].reply_destination: its address is not"),
        ({"reply_source": SIX, "reply_destination": SIX}, "records[0].reply_source: is IPv6 behind"),
        (
            {"reply_source": 1, "reply_destination": 2, "reply_source_port": [1, 1]},
            "records[1].reply_destination_port: for ICMP",
        ),
        (
            {
                "source": SIX,
                "destination": SIX,
                "backend": np.full((2, 16), 7, np.uint8),
                "backend_is_v4": [False, True],
            },
            "records[1].backend: is said to be IPv4, and the last 12 bytes are not zero",
        ),
    ],
)
def test_a_column_that_cannot_be_encoded_is_named_with_its_row(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(FlowError) as caught:
        encode_columns(columns(**changed))
    assert str(caught.value).startswith(told)


def test_rows_without_a_backend_are_not_looked_at() -> None:
    """Their bytes are zero, whatever stands in the column."""
    flows = columns(backend=["10.0.0.9", "::1"], has_backend=[True, False], backend_port=[80, 81])
    (batch,) = encode_columns(flows)
    first, second = decode_batch(batch)
    assert first.backend == (b"\x0a\0\0\x09", 80)
    assert second.backend is None


@pytest.mark.parametrize(
    ("batch", "field"),
    [
        (GOOD_V4[:-1], "batch"),
        (GOOD_VARIABLE, "batch.kind"),
        (poke(GOOD_V4, 12 + 4, b"\xff"), "key"),
        (poke(GOOD_V4, 12 + 16 + 22, b"\x0a"), "tcp_state"),
        (poke(GOOD_V6, 12 + 40 + 74, b"\1"), "reply"),
    ],
)
def test_what_is_no_good_batch_is_not_decoded(batch: bytes, field: str) -> None:
    with pytest.raises(FlowError) as caught:
        decode_columns(batch)
    assert caught.value.field == field


def test_decoded_columns_are_plain_arrays_in_the_machines_own_order() -> None:
    for batch in (GOOD_V4, GOOD_V6):
        found = decode_columns(memoryview(batch))
        for name in found.__slots__:
            column = getattr(found, name)
            assert column is None or (isinstance(column, np.ndarray) and column.dtype.isnative), name
