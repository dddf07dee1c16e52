"""The batch: the unit in which flows are sent, logged and applied, to the byte (docs/flow-format.md). Big endian.

    header, 12 bytes: "RFB1" | u8 version = 1 | u8 kind | u16 zero | u32 count
    kind 1, IPv4:     count × (key 16 | narrow value 74)                        = 90 bytes each
    kind 2, IPv6:     count × (key 40 | wide value 110)                         = 150 bytes each
    kind 3, variable: count × (u8 key length | u16 value length | key | value)  with a wide value and its tail

The records of kinds 1 and 2 have one width, so that a table takes a batch by `dict.update(struct.iter_unpack("16s74s",
…))`, without Python code for each record. Where a key stands twice, the later record counts.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from rocinante.flows import columns
from rocinante.flows.errors import FlowError
from rocinante.flows.key import KEY_V4_BYTES, KEY_V6_BYTES, check_key
from rocinante.flows.record import FlowRecord
from rocinante.flows.value import (
    NARROW_BYTES,
    TAIL_BYTES_MIN,
    VALUE_BYTES_MAX,
    WIDE_BYTES,
    check_value,
    is_narrow,
    pack_value,
    unpack_record,
    unpack_tail,
)

MAGIC: Final = b"RFB1"
VERSION: Final = 1
HEADER: Final = struct.Struct(">4sBBHI")
HEADER_BYTES: Final = HEADER.size
Buffer = bytes | memoryview
"""A batch may be a part of something larger: what has megabytes is not copied to be looked at."""
_PAIR_V4: Final = struct.Struct(f"{KEY_V4_BYTES}s{NARROW_BYTES}s")
_PAIR_V6: Final = struct.Struct(f"{KEY_V6_BYTES}s{WIDE_BYTES}s")
_FRAME: Final = struct.Struct(">BH")


class BatchKind(IntEnum):
    V4 = 1
    V6 = 2
    VARIABLE = 3


PAIRS: Final[dict[int, struct.Struct]] = {BatchKind.V4: _PAIR_V4, BatchKind.V6: _PAIR_V6}
"""`PAIRS[kind].iter_unpack(payload)` gives (key, value) of the fixed kinds."""
_VARIABLE_BYTES_MIN: Final = _FRAME.size + KEY_V4_BYTES + WIDE_BYTES
_VARIABLE_BYTES_MAX: Final = _FRAME.size + KEY_V6_BYTES + VALUE_BYTES_MAX


@dataclass(frozen=True, slots=True)
class BatchInfo:
    """What the header of a validated batch says."""

    kind: BatchKind
    count: int


RECORDS_MAX: Final = 65_536
_FEW: Final = 2
"""So many records are checked one by one: numpy's look at all of them takes as long as at three."""
BYTES_MAX: Final = 8 * 1024 * 1024
"""The bounds that hold where a caller gives none; a cluster's own are FLOW_BATCH_RECORDS_MAX and
FLOW_BATCH_BYTES_MAX."""


def encode_batch(
    records: Iterable[FlowRecord], *, records_max: int = RECORDS_MAX, bytes_max: int = BYTES_MAX
) -> list[bytes]:
    """Encode records, in order within each kind, as batches of at most `records_max` records and `bytes_max` bytes.

    Records of different kinds come into different batches (IPv4, IPv6, variable), so that where one key is given as two
    kinds the order of the two is lost. Raises FlowError with the number of the record that cannot be encoded.
    """
    parts: dict[BatchKind, list[bytes]] = {kind: [] for kind in BatchKind}
    for index, record in enumerate(records):
        try:
            record.check()
        except FlowError as error:
            raise error.at(index) from error
        kind, encoded = encode_record(record)
        parts[kind].append(encoded)
    return [
        HEADER.pack(MAGIC, VERSION, kind, 0, len(some)) + b"".join(some)
        for kind, encoded_records in parts.items()
        for some in _split(encoded_records, records_max, bytes_max - HEADER_BYTES)
    ]


def _split(encoded: list[bytes], records_max: int, bytes_max: int) -> Iterator[list[bytes]]:
    some: list[bytes] = []
    size = 0
    for record in encoded:
        if some and (len(some) == records_max or size + len(record) > bytes_max):
            yield some
            some, size = [], 0
        some.append(record)
        size += len(record)
    if some:
        yield some


def encode_record(record: FlowRecord) -> tuple[BatchKind, bytes]:
    """A checked record as it stands in a batch of its kind."""
    key = record.original.key()
    has_tail = bool(record.backend_name or record.application_data)
    if not has_tail and len(key) == KEY_V6_BYTES:
        return BatchKind.V6, key + pack_value(record, narrow=False, tail=False)
    if not has_tail and is_narrow(record):
        return BatchKind.V4, key + pack_value(record, narrow=True, tail=False)
    value = pack_value(record, narrow=False, tail=has_tail)
    return BatchKind.VARIABLE, _FRAME.pack(len(key), len(value)) + key + value


def fixed_batch(keys: columns.Raw, values: columns.Raw) -> bytes:
    """A batch of a fixed kind from packed keys and values, at least one of each, of the widths of one kind."""
    kind = BatchKind.V6 if keys.dtype.itemsize == KEY_V6_BYTES else BatchKind.V4
    return HEADER.pack(MAGIC, VERSION, kind, 0, len(keys)) + columns.join(keys, values)


def variable_batch(pairs: Sequence[tuple[bytes, bytes]]) -> bytes:
    """A batch of the variable kind from (key, wide value) pairs, at least one."""
    frames = [_FRAME.pack(len(key), len(value)) + key + value for key, value in pairs]
    return HEADER.pack(MAGIC, VERSION, BatchKind.VARIABLE, 0, len(frames)) + b"".join(frames)


def validate_batch(batch: Buffer, *, records_max: int, bytes_max: int) -> BatchInfo:
    """Check the header and that the length fits the count, without looking at the records. Raises FlowError."""
    if len(batch) > bytes_max:
        raise FlowError("batch", f"{len(batch)} bytes; at most {bytes_max}")
    if len(batch) < HEADER_BYTES:
        raise FlowError("batch", f"{len(batch)} bytes; the header alone has {HEADER_BYTES}")
    magic, version, kind, zero, count = HEADER.unpack_from(batch)
    if magic != MAGIC:
        raise FlowError("batch.magic", f"{magic!r} is not {MAGIC!r}")
    if version != VERSION:
        raise FlowError("batch.version", f"{version} is not {VERSION}")
    if zero:
        raise FlowError("batch.reserved", f"{zero}; it must be zero")
    if not 1 <= count <= records_max:
        raise FlowError("batch.count", f"{count} is not in 1 to {records_max}")
    payload = len(batch) - HEADER_BYTES
    if kind in PAIRS:
        if payload != count * PAIRS[kind].size:
            raise FlowError("batch", f"{payload} bytes of records; {count} × {PAIRS[kind].size} are expected")
    elif kind == BatchKind.VARIABLE:
        if not count * _VARIABLE_BYTES_MIN <= payload <= count * _VARIABLE_BYTES_MAX:
            raise FlowError("batch", f"{payload} bytes of records cannot be {count} of the variable kind")
    else:
        raise FlowError("batch.kind", f"{kind} is not one of {', '.join(str(int(known)) for known in BatchKind)}")
    return BatchInfo(BatchKind(kind), count)


def iter_pairs(batch: Buffer, info: BatchInfo) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of every record of a validated batch. Of the variable kind, raises FlowError where a frame does not
    fit."""
    if info.kind in PAIRS:
        return PAIRS[info.kind].iter_unpack(memoryview(batch)[HEADER_BYTES:])
    return iter(_variable_pairs(bytes(batch), info.count))


def _variable_pairs(batch: bytes, count: int) -> list[tuple[bytes, bytes]]:
    pairs: list[tuple[bytes, bytes]] = []
    at, end = HEADER_BYTES, len(batch)
    for index in range(count):
        if end - at < _FRAME.size:
            raise FlowError("batch", "ends within the record", index)
        key_bytes, value_bytes = _FRAME.unpack_from(batch, at)
        at += _FRAME.size
        if key_bytes not in (KEY_V4_BYTES, KEY_V6_BYTES):
            raise FlowError("key", f"{key_bytes} bytes; a key has {KEY_V4_BYTES} or {KEY_V6_BYTES}", index)
        if value_bytes != WIDE_BYTES and value_bytes < WIDE_BYTES + TAIL_BYTES_MIN:
            raise FlowError(
                "value", f"{value_bytes} bytes; one of the variable kind has {WIDE_BYTES} and a tail", index
            )
        if end - at < key_bytes + value_bytes:
            raise FlowError("batch", "ends within the record", index)
        value_at = at + key_bytes
        value = batch[value_at : value_at + value_bytes]
        try:
            unpack_tail(value)
        except FlowError as error:
            raise error.at(index) from error
        pairs.append((batch[at:value_at], value))
        at = value_at + value_bytes
    if at != end:
        raise FlowError("batch", f"{end - at} bytes follow the last record")
    return pairs


def check_records(
    batch: Buffer, info: BatchInfo, *, backend_name_bytes_max: int, application_data_bytes_max: int
) -> None:
    """Check every record of a validated batch strictly. Raises FlowError that says which record and which field.

    Strict: canonical keys, known flags, a known TCP state, zero in what is reserved or absent, names in UTF-8, sizes
    within the bounds.
    """
    if info.kind in PAIRS and info.count > _FEW:
        key_bytes = KEY_V6_BYTES if info.kind is BatchKind.V6 else KEY_V4_BYTES
        keys, values = columns.split(payload(batch), key_bytes)
        suspects = columns.suspects(keys, values)
        if suspects.any():
            bad = int(suspects.argmax())
            _check_pair(keys[bad].tobytes(), values[bad].tobytes(), bad)
            raise FlowError("record", "is not valid", bad)
        return
    for index, (key, value) in enumerate(iter_pairs(batch, info)):
        _check_pair(key, value, index)
        name, data = unpack_tail(value)
        if len(name) > backend_name_bytes_max:
            raise FlowError("backend_name", f"{len(name)} bytes; at most {backend_name_bytes_max}", index)
        if len(data) > application_data_bytes_max:
            raise FlowError("application_data", f"{len(data)} bytes; at most {application_data_bytes_max}", index)


def _check_pair(key: bytes, value: bytes, index: int) -> None:
    try:
        check_key(key)
        check_value(key, value)
    except FlowError as error:
        raise error.at(index) from error


def payload(batch: Buffer) -> memoryview:
    """The records of a batch, without a copy."""
    return memoryview(batch)[HEADER_BYTES:]


def decode_batch(batch: Buffer, *, records_max: int = RECORDS_MAX, bytes_max: int = BYTES_MAX) -> list[FlowRecord]:
    """All records of a batch, in order. Raises FlowError that says which record cannot be read."""
    info = validate_batch(batch, records_max=records_max, bytes_max=bytes_max)
    records: list[FlowRecord] = []
    for index, (key, value) in enumerate(iter_pairs(batch, info)):
        try:
            records.append(unpack_record(key, value))
        except FlowError as error:
            raise error.at(index) from error
    return records
