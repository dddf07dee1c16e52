from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocinante.flows import (
    PAIRS,
    Backend,
    BatchInfo,
    BatchKind,
    FlowError,
    FlowFlag,
    FlowRecord,
    FlowTuple,
    TcpState,
    check_records,
    decode_batch,
    encode_batch,
    iter_pairs,
    times_ms,
    unpack_record,
    validate_batch,
)
from tests.flows.strategies import records

V4 = FlowTuple.from_text("tcp", "10.0.0.2:1234", "10.0.0.1:80")
V6 = FlowTuple.from_text("tcp", "[::2]:1234", "[::1]:80")


def validate(batch: bytes) -> BatchInfo:
    return validate_batch(batch, records_max=65_536, bytes_max=8 << 20)


def check(batch: bytes) -> None:
    check_records(batch, validate(batch), backend_name_bytes_max=255, application_data_bytes_max=1024)


def one(record: FlowRecord) -> bytes:
    (batch,) = encode_batch([record])
    return batch


@given(st.lists(records(), max_size=8))
def test_what_is_decoded_is_what_was_encoded(flows: list[FlowRecord]) -> None:
    batches = encode_batch(flows)
    decoded = [record for batch in batches for record in decode_batch(batch)]
    assert sorted(map(repr, decoded)) == sorted(map(repr, flows))
    kinds = [validate(batch).kind for batch in batches]
    assert kinds == sorted(set(kinds)), "one batch a kind, in order"
    for batch in batches:
        check(batch)


@given(records())
def test_times_are_at_the_same_place_in_every_kind(record: FlowRecord) -> None:
    ((_, value),) = iter_pairs(one(record), validate(one(record)))
    assert times_ms(value) == (record.deadline_ms, record.updated_ms)
    assert struct.unpack_from(">QQ", value) == (record.deadline_ms, record.updated_ms)


def test_a_table_takes_a_fixed_batch_without_python_code() -> None:
    flows = [FlowRecord(FlowTuple.from_text("tcp", f"10.0.0.{n}:1", "10.1.0.1:2"), mark=n) for n in range(1, 200)]
    (batch,) = encode_batch(flows)
    table: dict[bytes, bytes] = {}
    table.update(PAIRS[BatchKind.V4].iter_unpack(batch[12:]))
    assert [unpack_record(key, value) for key, value in table.items()] == flows


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        (FlowRecord(V4), BatchKind.V4),
        (FlowRecord(V4, backend=Backend(b"\1\2\3\4", 5), reply=V4), BatchKind.V4),
        (FlowRecord(V6), BatchKind.V6),
        (FlowRecord(V6, backend=Backend(b"\1\2\3\4", 5), reply=V4), BatchKind.V6),
        (FlowRecord(V4, backend=Backend(bytes(16), 5)), BatchKind.VARIABLE),
        (FlowRecord(V4, reply=V6), BatchKind.VARIABLE),
        (FlowRecord(V4, backend_name="web"), BatchKind.VARIABLE),
        (FlowRecord(V6, application_data=b"x"), BatchKind.VARIABLE),
    ],
)
def test_what_has_a_name_or_data_or_both_families_is_variable(record: FlowRecord, kind: BatchKind) -> None:
    batch = one(record)
    assert validate(batch) == BatchInfo(kind, 1)
    assert decode_batch(batch) == [record]


def test_batches_are_split_by_records_and_by_bytes() -> None:
    flows = [FlowRecord(V4, mark=number) for number in range(10)]
    assert [len(decode_batch(batch)) for batch in encode_batch(flows, records_max=4)] == [4, 4, 2]
    assert [len(batch) for batch in encode_batch(flows, bytes_max=12 + 3 * 90)] == [282, 282, 282, 102]
    assert encode_batch([]) == []


def test_layout_flags_are_the_encoders() -> None:
    decoded = decode_batch(one(FlowRecord(V4, flags=FlowFlag.HAS_BACKEND | FlowFlag.REVERSED | FlowFlag.ASSURED)))
    assert decoded == [FlowRecord(V4, flags=FlowFlag.ASSURED)]


@pytest.mark.parametrize(
    ("record", "field"),
    [
        (FlowRecord(V4._replace(zone=-1)), "original.zone"),
        (FlowRecord(V4._replace(protocol=256)), "original.protocol"),
        (FlowRecord(V4._replace(source=b"123")), "original.source.address"),
        (FlowRecord(V4._replace(source_port=65536)), "original.source.port"),
        (FlowRecord(V4, tcp_state=10), "tcp_state"),  # type: ignore[arg-type]
        (FlowRecord(V4, flags=FlowFlag(1 << 12)), "flags"),
        (FlowRecord(V4, mark=1 << 32), "mark"),
        (FlowRecord(V4, deadline_ms=-1), "deadline_ms"),
        (FlowRecord(V4, bytes_reply=1 << 64), "bytes_reply"),
        (FlowRecord(V4, backend=Backend(b"12345", 1)), "backend.address"),
        (FlowRecord(V4, backend=Backend(b"1234", 1 << 16)), "backend.port"),
        (FlowRecord(V4, reply=V4._replace(zone=1)), "reply.zone"),
        (FlowRecord(V4, reply=V4._replace(protocol=17)), "reply.protocol"),
        (FlowRecord(V4, backend_name="x" * 256), "backend_name"),
        (FlowRecord(V4, backend_name="\ud800"), "backend_name"),
        (FlowRecord(V4, application_data=bytes(70_000)), "application_data"),
    ],
)
def test_a_record_that_cannot_be_encoded_is_named(record: FlowRecord, field: str) -> None:
    with pytest.raises(FlowError) as caught:
        encode_batch([FlowRecord(V4), record])
    assert (caught.value.field, caught.value.index) == (field, 1)
    assert str(caught.value).startswith(f"records[1].{field}: ")


GOOD_V4 = one(FlowRecord(V4, backend=Backend(b"\1\2\3\4", 5)))
GOOD_V6 = one(FlowRecord(V6, tcp_state=TcpState.ESTABLISHED))
GOOD_VARIABLE = one(FlowRecord(V4, backend_name="web", application_data=b"data"))


def poke(batch: bytes, at: int, new: bytes) -> bytes:
    return batch[:at] + new + batch[at + len(new) :]


@pytest.mark.parametrize(
    ("batch", "field"),
    [
        (b"", "batch"),
        (GOOD_V4[:11], "batch"),
        (poke(GOOD_V4, 0, b"X"), "batch.magic"),
        (poke(GOOD_V4, 4, b"\2"), "batch.version"),
        (poke(GOOD_V4, 5, b"\0"), "batch.kind"),
        (poke(GOOD_V4, 5, b"\4"), "batch.kind"),
        (poke(GOOD_V4, 5, b"\2"), "batch"),
        (poke(GOOD_V4, 5, b"\3"), "batch"),
        (poke(GOOD_V4, 6, b"\1"), "batch.reserved"),
        (poke(GOOD_V4, 8, b"\0\0\0\0"), "batch.count"),
        (poke(GOOD_V4, 8, b"\0\0\0\2"), "batch"),
        (poke(GOOD_V4, 8, b"\xff\xff\xff\xff"), "batch.count"),
        (GOOD_V4 + b"\0", "batch"),
        (GOOD_V4[:-1], "batch"),
    ],
)
def test_a_batch_whose_structure_is_wrong_is_refused_at_once(batch: bytes, field: str) -> None:
    with pytest.raises(FlowError) as caught:
        validate(batch)
    assert caught.value.field == field


K, V = 12, 12 + 16  # where the key and the value of the first record of an IPv4 batch begin
W = 12 + 40  # where the value of the first record of an IPv6 batch begins


@pytest.mark.parametrize(
    ("batch", "field"),
    [
        (poke(GOOD_V4, K + 2, b"\6"), "key"),
        (poke(GOOD_V4, K + 4, b"\xff"), "key"),
        (poke(GOOD_V4, K + 3, b"\1"), "key"),
        (poke(GOOD_V4, V + 20, b"\x80"), "flags"),
        (poke(GOOD_V4, V + 20, b"\0\xa0"), "flags"),  # BACKEND_V4 in a narrow value
        (poke(GOOD_V4, V + 20, b"\0\0"), "backend"),  # no HAS_BACKEND, and yet bytes
        (poke(GOOD_V4, V + 22, b"\x0a"), "tcp_state"),
        (poke(GOOD_V4, V + 23, b"\1"), "reserved"),
        (poke(GOOD_V4, V + 62, b"\1"), "reply"),
        (poke(GOOD_V6, 12 + 2, b"\4"), "key"),
        (poke(GOOD_V6, W + 20, b"\0\x80"), "flags"),
        (poke(GOOD_V6, W + 74, b"\1"), "reply"),
        (poke(poke(GOOD_V6, W + 20, b"\1\x40"), W + 79, b"\1"), "reply"),  # REPLY_V4, and more than 4 bytes
        (poke(GOOD_VARIABLE, 12, b"\x11"), "key"),
        (poke(GOOD_VARIABLE, 13, b"\0\x10"), "value"),
        (poke(GOOD_VARIABLE, 13, b"\xff"), "batch"),
        (poke(GOOD_VARIABLE, 15 + 16 + 110, b"\xff"), "backend_name"),
        (poke(GOOD_VARIABLE, 15 + 16 + 111, b"\xff"), "backend_name"),
        (poke(GOOD_VARIABLE, 15 + 16 + 114, b"\xff"), "application_data"),
        (GOOD_VARIABLE + b"\0", "batch"),
    ],
)
def test_a_bad_record_is_named_by_the_strict_check(batch: bytes, field: str) -> None:
    with pytest.raises(FlowError) as caught:
        check(batch)
    assert caught.value.field == field
    with pytest.raises(FlowError):
        decode_batch(batch)


def test_the_strict_check_says_which_record() -> None:
    (batch,) = encode_batch([FlowRecord(V4)] * 100)
    with pytest.raises(FlowError, match=r"records\[57\]\.tcp_state: 200"):
        check(poke(batch, 12 + 57 * 90 + 16 + 22, b"\xc8"))


def test_names_and_data_are_bounded_by_the_caller() -> None:
    batch = one(FlowRecord(V4, backend_name="web", application_data=b"data"))
    check_records(batch, validate(batch), backend_name_bytes_max=3, application_data_bytes_max=4)
    for name_max, data_max, field in ((2, 4, "backend_name"), (3, 3, "application_data")):
        with pytest.raises(FlowError) as caught:
            check_records(batch, validate(batch), backend_name_bytes_max=name_max, application_data_bytes_max=data_max)
        assert caught.value.field == field


@given(st.sampled_from([GOOD_V4, GOOD_V6, GOOD_VARIABLE]), st.data())
def test_a_damaged_batch_is_refused_or_is_another_good_one(batch: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(batch) - 1))
    damaged = poke(batch, at, data.draw(st.binary(min_size=1, max_size=4)))[: len(batch)]
    try:
        check(damaged)
    except FlowError:
        with pytest.raises(FlowError):
            decode_batch(damaged)
    else:
        assert [
            value for batch in encode_batch(decode_batch(damaged)) for value in decode_batch(batch)
        ] == decode_batch(damaged)


@given(st.binary(max_size=400))
def test_noise_is_refused(noise: bytes) -> None:
    for batch in (noise, b"RFB1\x01\x01\0\0\0\0\0\1" + noise, b"RFB1\x01\x03\0\0\0\0\0\1" + noise):
        try:
            decode_batch(batch)
        except FlowError:
            continue
