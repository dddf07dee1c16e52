"""Packed batches: what they stand for, byte for byte, against the second encoder; and everything that is none."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocinante.flows import (
    BatchKind,
    FlowError,
    FlowRecord,
    check_records,
    decode_batch,
    encode_batch,
    packed,
    unpacked,
    unpacked_bytes,
    validate_batch,
)
from rocinante.flows.batch import payload
from rocinante.flows.columns import split, suspects
from rocinante.flows.packing import RATIO_MAX, columns_of, is_packed, least
from tests.flows import independent
from tests.flows.strategies import records

COLUMNS = {1: [2, 1, 1, 4, 4, 2, 2], 2: [2, 1, 1, 8, 8, 8, 8, 2, 2]}
COMMON = [8, 8, 4, 2, 1, 1, 8, 8, 8, 8]
REST = {1: [4, 2, 4, 4, 2, 2], 2: [8, 8, 2, 8, 8, 8, 8, 2, 2]}
DEADLINE_AT = {1: 16, 2: 40}
"""In a record."""


def widths_of(kind: int) -> list[int]:
    return [*COLUMNS[kind], *COMMON, *REST[kind]]


def batch_of(kind: int, count: int, spans: list[int], seed: int) -> bytes:
    """Records of numbers: what is in them is not looked at. `spans`: how many bytes of each field differ."""
    random = np.random.default_rng(seed)
    rows = np.zeros((count, sum(widths_of(kind))), np.uint8)
    at = 0
    for width, span in zip(widths_of(kind), spans, strict=False):
        rows[:, at : at + width] = random.integers(0, 256, width)
        differing = min(span, width)
        rows[:, at + width - differing : at + width] = random.integers(0, 256, (count, differing))
        at += width
    return struct.pack(">4sBBHI", b"RFB1", 1, kind, 0, count) + rows.tobytes()


@given(
    kind=st.sampled_from([1, 2]),
    count=st.integers(1, 300),
    spans=st.lists(st.sampled_from([0, 0, 1, 2, 3, 4, 5, 8]), min_size=28, max_size=28),
    seed=st.integers(0, 2**32),
)
def test_the_second_encoder_packs_alike_and_nothing_is_lost(kind: int, count: int, spans: list[int], seed: int) -> None:
    batch = batch_of(kind, count, spans, seed)
    expected = independent.packed(batch)
    found = packed(batch)
    if len(batch) / RATIO_MAX <= len(expected) < len(batch):
        assert bytes(found) == expected
        assert is_packed(found)
        assert unpacked_bytes(found) == len(batch)
        deadlines = [
            int.from_bytes(batch[at : at + 8]) for at in range(12 + DEADLINE_AT[kind], len(batch), sum(widths_of(kind)))
        ]
        assert least(found, "deadline_ms") == min(deadlines)
    else:
        assert found is batch, "not worth it: it stays as it is"
    assert bytes(unpacked(found)) == batch


@given(st.lists(records(), max_size=8))
def test_records_come_back_whatever_their_kind(flows: list[FlowRecord]) -> None:
    for batch in encode_batch(flows * 20):
        again = bytes(unpacked(packed(batch)))
        assert again == batch
        assert decode_batch(again) == decode_batch(batch)


def test_a_batch_of_the_variable_kind_stays_as_it_is() -> None:
    batch = struct.pack(">4sBBHI", b"RFB1", 1, BatchKind.VARIABLE, 0, 1) + bytes(200)
    assert packed(batch) is batch
    assert unpacked(batch) is batch


def test_the_checks_of_records_are_made_on_what_it_stands_for() -> None:
    batch = batch_of(1, 100, [2] * 23, 7)
    fixed = unpacked(packed(batch))
    with pytest.raises(FlowError):
        check_records(
            fixed,
            validate_batch(fixed, records_max=100, bytes_max=1 << 20),
            backend_name_bytes_max=255,
            application_data_bytes_max=1024,
        )


def test_a_packed_batch_is_no_batch_to_those_who_have_not_unpacked_it() -> None:
    with pytest.raises(FlowError, match=r"batch\.kind"):
        validate_batch(bytes(packed(GOOD)), records_max=65_536, bytes_max=8 << 20)


GOOD = batch_of(1, 64, [0, 0, 0, 2, 4, 2, 1, 3, 2, 0, 1, 1], 3)
PACKED = bytes(packed(GOOD))
FIRST_WIDTH, A_WIDTH = 12, 12 + 3 + 2 + 2
"""Where the columns zone and a begin."""


def changed(at: int, value: bytes) -> Callable[[], bytes]:
    return lambda: PACKED[:at] + value + PACKED[at + len(value) :]


def wider() -> bytes:
    """Column a, of two bytes a record, written with four."""
    start = A_WIDTH + 5
    two = np.frombuffer(PACKED, ">u2", 64, start)
    return PACKED[:A_WIDTH] + b"\4" + PACKED[A_WIDTH + 1 : start] + two.astype(">u4").tobytes() + PACKED[start + 128 :]


def shifted() -> bytes:
    """Column a with a base one lower, and all differences one higher."""
    start = A_WIDTH + 5
    base = int.from_bytes(PACKED[A_WIDTH + 1 : start]) - 1
    two = np.frombuffer(PACKED, ">u2", 64, start) + 1
    return PACKED[: A_WIDTH + 1] + base.to_bytes(4) + two.astype(">u2").tobytes() + PACKED[start + 128 :]


REFUSED: list[tuple[str, Callable[[], bytes], str]] = [
    ("a version that nobody knows", changed(4, b"\2"), "version"),
    ("reserved bytes", changed(6, b"\0\1"), "reserved"),
    ("no records", changed(8, bytes(4)), "count"),
    ("more records than allowed", changed(8, (65_537).to_bytes(4)), "count"),
    ("more than its columns have", changed(8, (65).to_bytes(4)), "batch: "),
    ("fewer than its columns have", changed(8, (63).to_bytes(4)), "batch: "),
    ("a width that is none", changed(FIRST_WIDTH, b"\3"), "the column zone says a width of 3"),
    ("wider than the field", changed(FIRST_WIDTH, b"\4"), "the column zone says a width of 4"),
    ("wider than it has to be", wider, "the column a is not packed as it should be"),
    ("a base that is not the least", shifted, "the column a is not packed as it should be"),
    ("beyond the field", changed(A_WIDTH + 1, b"\xff\xff\xff\xff"), "the column a is beyond what the field holds"),
    ("cut off", lambda: PACKED[:-1], "batch: "),
    ("cut off in the first column", lambda: PACKED[:14], "batch: "),
    ("a byte more", lambda: PACKED + b"\0", "batch: "),
]


@pytest.mark.parametrize(("make", "text"), [pytest.param(*rest, id=name) for name, *rest in REFUSED])
def test_refused(make: Callable[[], bytes], text: str) -> None:
    batch = make()
    assert batch != PACKED
    with pytest.raises(FlowError, match=text):
        unpacked(batch)


def test_what_unpacks_to_more_than_the_bound_is_refused() -> None:
    with pytest.raises(FlowError, match="unpacked; at most 1000"):
        unpacked(PACKED, bytes_max=1000)


def test_a_few_bytes_cannot_stand_for_many_records() -> None:
    """Else bounds on bytes would not bound the work behind them."""
    same = struct.pack(">4sBBHI", b"RFB1", 1, 1, 0, 1000) + bytes(90) * 1000
    assert packed(same) is same
    with pytest.raises(FlowError, match="more than 16 times is not packed"):
        unpacked(independent.packed(same))


@given(at=st.integers(0, len(PACKED) - 1), bit=st.integers(0, 7))
def test_whatever_is_flipped_it_is_refused_or_packs_to_itself(at: int, bit: int) -> None:
    batch = bytearray(PACKED)
    batch[at] ^= 1 << bit
    try:
        fixed = unpacked(bytes(batch))
    except FlowError:
        return
    if is_packed(bytes(batch)):
        assert bytes(packed(fixed)) == bytes(batch), "one set of records, one packed batch"


@given(flows=st.lists(records(), min_size=1, max_size=8), data=st.data())
def test_columns_are_the_batch_and_show_what_breaks_a_rule(flows: list[FlowRecord], data: st.DataObject) -> None:
    """Valid records, and the same with a byte changed somewhere: by columns as by the batch that they stand for."""
    for batch in encode_batch(flows * 20):
        if batch[5] == BatchKind.VARIABLE:
            continue
        changed = bytearray(batch)
        for at in data.draw(st.lists(st.integers(12, len(batch) - 1), max_size=2)):
            changed[at] ^= 1 << data.draw(st.integers(0, 7))
        columns = columns_of(packed(bytes(changed)))
        if columns is None:
            continue  # it was not worth packing
        key_bytes = {1: 16, 2: 40}[changed[5]]
        keys, values = split(payload(bytes(changed)), key_bytes)
        assert columns.has_suspects() == bool(suspects(keys, values).any())
        assert columns.keys().tobytes() == keys.tobytes()
        for zeroed in (True, False):
            slots = np.frombuffer(bytearray((0 if zeroed else 0xAA,)) * values.nbytes, values.dtype)
            columns.write_values(slots, zeroed=zeroed)
            assert slots.tobytes() == values.tobytes()
