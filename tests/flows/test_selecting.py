"""What a filter leaves of a batch, many records at a time, is what it leaves of them one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rocinante.flows import FlowFilter, FlowRecord, decode_batch, encode_batch, iter_pairs, validate_batch
from rocinante.flows.selecting import encode_pairs, fixed_batch, select_batch, select_keys
from tests.flows.strategies import records
from tests.flows.test_filter_codec import FILTERS


def info_of(batch: bytes):  # type: ignore[no-untyped-def]
    return validate_batch(batch, records_max=65_536, bytes_max=1 << 23)


@given(st.lists(records(), min_size=1, max_size=30), FILTERS)
def test_as_one_by_one(some: list[FlowRecord], asked: FlowFilter) -> None:
    for batch in encode_batch(some):
        pairs = list(iter_pairs(batch, info_of(batch)))
        wanted = [asked.matches(bytes(key), bytes(value), "dc1") for key, value in pairs]
        expected = [record for record, is_wanted in zip(decode_batch(batch), wanted, strict=True) if is_wanted]
        selected = select_batch(batch, info_of(batch), asked)
        assert (decode_batch(selected) if selected else []) == expected
        if all(wanted):
            assert selected is batch, "nothing is copied"


@given(st.lists(records(), min_size=1, max_size=30), FILTERS)
def test_keys_by_what_they_say(some: list[FlowRecord], asked: FlowFilter) -> None:
    by_key_alone = FlowFilter(asked.networks, asked.ports, asked.protocols, zone=asked.zone)
    for width in (16, 40):
        keys = [record.key for record in some if len(record.key) == width]
        packed = select_keys(b"".join(keys), width, asked)
        assert packed == b"".join(key for key in keys if by_key_alone.matches(key, b"", "dc1"))


@given(st.lists(records(), min_size=1, max_size=30))
def test_batches_from_what_a_table_has(some: list[FlowRecord]) -> None:
    for batch in encode_batch(some):
        pairs = [(bytes(key), bytes(value)) for key, value in iter_pairs(batch, info_of(batch))]
        if batch[5] == 3:
            assert encode_pairs(pairs) == [batch]
        else:
            assert fixed_batch(len(pairs[0][0]), b"".join(key + value for key, value in pairs)) == batch
