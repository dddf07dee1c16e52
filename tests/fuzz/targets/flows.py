"""Decoders of flows: batches, keys, JSON objects, cursors, and what the state machine makes of an entry."""

from __future__ import annotations

import json
from functools import cache
from typing import Final

from google.protobuf.message import DecodeError

from rocinante.convert import filter_from_message, records_from_messages
from rocinante.errors import InvalidArgument, RocinanteError
from rocinante.flow_json import record_from_json, record_to_json
from rocinante.flows import (
    FlowError,
    FlowFilter,
    check_key,
    check_records,
    decode_batch,
    encode_batch,
    iter_pairs,
    packed,
    unpack_key,
    unpack_record,
    unpacked,
    unpacked_bytes,
    validate_batch,
)
from rocinante.node.logview import describe
from rocinante.pb.etcd import rpc_pb2
from rocinante.pb.v1 import flow_pb2
from rocinante.raft.types import Entry, EntryKind
from rocinante.rest.http import decode_cursor, encode_cursor
from rocinante.state import command
from rocinante.state.machine import StateMachine
from rocinante.state.outcome import decode_outcome, encode_outcome
from tests.fuzz.samples import batches, commands, flow, packed_batches, records, sample_machine
from tests.fuzz.targets import Target

BYTES_MAX: Final = 1 << 20


def one_batch(data: bytes) -> None:
    try:
        info = validate_batch(data, records_max=1000, bytes_max=BYTES_MAX)
        pairs = [(bytes(key), bytes(value)) for key, value in iter_pairs(data, info)]
    except FlowError:
        return
    assert len(pairs) == info.count
    strict: FlowError | None = None
    try:
        check_records(data, info, backend_name_bytes_max=255, application_data_bytes_max=60_000)
    except FlowError as error:
        strict = error
        assert 0 <= error.index < info.count or error.field.startswith("batch"), error
    try:
        found = decode_batch(data, records_max=1000, bytes_max=BYTES_MAX)
    except FlowError as error:
        assert strict is not None, f"decode refuses what the strict check takes: {error}"
        return
    if strict is not None:
        return
    # What the strict check takes comes out of a batch as it went in, to the byte.
    again = encode_batch(found)
    flat = [pair for batch in again for pair in iter_pairs(batch, validate_batch(batch, records_max=1000,
                                                                                  bytes_max=BYTES_MAX))]  # fmt: skip
    if len(again) == 1 and again[0][5] == data[5]:
        assert again[0] == data
    assert sorted((bytes(k), unpack_record(k, v).updated_ms) for k, v in flat) == sorted(
        (key, unpack_record(key, value).updated_ms) for key, value in pairs
    )
    for record, (key, value) in zip(found, pairs, strict=True):
        assert unpack_record(key, value) == record
        assert record.key == record.original.turned().key() == key


def one_packed(data: bytes) -> None:
    """What can be unpacked is what would be packed again; then it is a batch as any other."""
    try:
        fixed = bytes(unpacked(data, records_max=1000, bytes_max=BYTES_MAX))
    except FlowError:
        return
    if fixed != data:
        assert packed(fixed) == data
        assert unpacked_bytes(data) == len(fixed)
    one_batch(fixed)


def one_key(data: bytes) -> None:
    try:
        check_key(data)
    except FlowError:
        return
    original = unpack_key(data)
    assert original.key() == data
    assert original.turned().key() == data
    assert unpack_key(data, reverse=True) == original.turned()


@cache
def _pairs() -> list[tuple[bytes, bytes]]:
    """Key and value of one record of every shape."""
    infos = [(batch, validate_batch(batch, records_max=1000, bytes_max=BYTES_MAX)) for batch in batches()]
    return [(bytes(key), bytes(value)) for batch, info in infos for key, value in iter_pairs(batch, info)]


def one_message(data: bytes) -> None:
    """Flows and filters as messages; the first byte says which."""
    try:
        if data[:1] == b"\x01":
            flow_filter = filter_from_message(flow_pb2.FlowFilter.FromString(data[1:]))
            for key, value in _pairs():
                flow_filter.matches(key, value, "dc1")
            return
        found = records_from_messages(flow_pb2.PutFlowsRequest.FromString(data[1:]).flows)
    except (DecodeError, InvalidArgument):
        return
    encode_batch(found)


def one_json(data: bytes) -> None:
    """A flow as JSON text, as REST and the command line take it."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return
    try:
        record = record_from_json(value, "flows[0]", 5)
    except InvalidArgument as error:
        assert error.message.startswith("flows[0]")
        return
    encode_batch([record])
    shown = record_to_json(record, "dc1")
    text = json.dumps(shown, ensure_ascii=False).encode()
    assert record_from_json(json.loads(text), "flows[0]", 5) == record or record.flags & 0x1E1


_machine: list[StateMachine] = []


def _shared() -> StateMachine:
    if not _machine:
        _machine.append(sample_machine())
    return _machine[0]


def one_cursor(data: bytes) -> None:
    """A cursor as an answer gave it, or not; in REST's text form and as bytes."""
    try:
        content = decode_cursor(data.decode("utf-8", "surrogateescape"))
        assert decode_cursor(encode_cursor(content)) == content
    except InvalidArgument:
        pass
    for scan in (
        lambda: _shared().flows_list(FlowFilter.parse(), 100, data, 0),
        lambda: _shared().flows_due(1000, data, rows_max=10),
    ):
        try:
            scan()
        except InvalidArgument as error:
            assert error.field == "cursor"


_START: list[list[bytes]] = []


def one_entry(data: bytes) -> None:
    """An entry's data: every command has an outcome, and the state can be written and read afterwards."""
    if not _START:
        with sample_machine().freeze() as frozen:
            _START.append(list(frozen.chunks(1 << 20)))
    machine = StateMachine()
    machine.restore(_START[0])
    applied = machine.apply(machine.position.index + 1, 1, data)
    for _, _, result in applied.outcomes:
        assert encode_outcome(decode_outcome(encode_outcome(result))) == encode_outcome(result)
    describe(Entry(7, 1, EntryKind.NORMAL, data), committed=True)
    with machine.freeze() as frozen:
        content = list(frozen.chunks(1 << 20))
    other = StateMachine()
    other.restore(content)
    try:
        machine.kv_range(rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0"))
        machine.flows_list(FlowFilter.parse(backend="x", address=["::/0"]), 100, b"", 0)
    except RocinanteError as error:  # as documented: more than an answer may hold
        assert error.code == "RESOURCE_EXHAUSTED"


def one_outcome(data: bytes) -> None:
    try:
        found = decode_outcome(data)
    except (ValueError, DecodeError):
        return
    encode_outcome(found)


def json_seeds() -> list[bytes]:
    return [json.dumps(record_to_json(record, "dc1")).encode() for record in records()]


def message_seeds() -> list[bytes]:
    from rocinante.convert import record_to_message

    flows = [record_to_message(record) for record in records()]
    filters = [
        flow_pb2.FlowFilter(address=["10.0.0.0/8", "::/0"], port=[80], protocol=[6], tcp_state=[3], zone=0),
        flow_pb2.FlowFilter(backend="10.0.0.5:8443", origin="dc1"),
    ]
    return [
        b"\x00" + flow_pb2.PutFlowsRequest(flows=flows[:3]).SerializeToString(),
        b"\x00" + flow_pb2.PutFlowsRequest(flows=flows[3:]).SerializeToString(),
        *(b"\x01" + each.SerializeToString() for each in filters),
    ]


def cursor_seeds() -> list[bytes]:
    page = _shared().flows_list(FlowFilter.parse(), 3, b"", 0)
    due = _shared().flows_due(1, rows_max=3)
    return [page.cursor, encode_cursor(page.cursor).encode(), due.cursor]


def outcome_seeds() -> list[bytes]:
    machine = sample_machine()
    applied = machine.apply(100, 1, command.pack(commands()))
    return [encode_outcome(result) for _, _, result in applied.outcomes]


TARGETS: Final = [
    Target("flow_batch", one_batch, lambda: list(batches()), 2048, 400),
    Target("flow_packed", one_packed, lambda: list(packed_batches()), 2048, 400),
    Target("flow_key", one_key, lambda: [flow(1).key, records()[2].key, records()[5].key], 64),
    Target("flow_message", one_message, message_seeds, 2048),
    Target("flow_json", one_json, json_seeds, 2048),
    Target("cursor", one_cursor, cursor_seeds, 256),
    Target(
        "entry",
        one_entry,
        lambda: [command.pack([each]) for each in commands()] + [command.pack(commands())],
        2048,
        300,
    ),
    Target("outcome", one_outcome, outcome_seeds, 512),
]
