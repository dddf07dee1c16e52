"""What of a batch, or of packed keys, a filter means: many records at a time, without taking them apart."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rocinante.flows import columns
from rocinante.flows.batch import (
    BYTES_MAX,
    HEADER,
    HEADER_BYTES,
    MAGIC,
    PAIRS,
    RECORDS_MAX,
    VERSION,
    BatchInfo,
    BatchKind,
    iter_pairs,
)
from rocinante.flows.filter import FlowFilter
from rocinante.flows.key import KEY_V4_BYTES, KEY_V6_BYTES

_FRAME: Final = struct.Struct(">BH")
_KEY_BYTES: Final = {90: KEY_V4_BYTES, 150: KEY_V6_BYTES}


def select_batch(batch: bytes, info: BatchInfo, asked: FlowFilter) -> bytes:
    """The batch of those records of a valid batch that the filter means, whoever owns them: the same object where it
    means all of them, empty where none."""
    asked = replace(asked, origin="")
    if asked.is_empty:
        return batch
    width = PAIRS[info.kind].size if info.kind in PAIRS else 0
    if not width:
        return _select_variable(batch, info, asked)
    payload = memoryview(batch)[HEADER_BYTES:]
    wanted = columns.matches(asked, *columns.split(payload, _KEY_BYTES[width]))
    count = int(np.count_nonzero(wanted))
    if count in (0, info.count):
        return batch if count else b""
    records: NDArray[np.void] = np.frombuffer(payload, f"V{width}")
    return HEADER.pack(MAGIC, VERSION, info.kind, 0, count) + records[wanted].tobytes()


def _select_variable(batch: bytes, info: BatchInfo, asked: FlowFilter) -> bytes:
    pairs = [(key, value) for key, value in iter_pairs(batch, info) if asked.matches(key, value, "")]
    if len(pairs) in (0, info.count):
        return batch if pairs else b""
    return encode_pairs(pairs)[0]


def encode_pairs(pairs: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
    """Packed keys and wide values, with or without a tail, as batches of the variable kind of up to RECORDS_MAX records
    and BYTES_MAX bytes."""
    made: list[bytes] = []
    parts: list[bytes] = []
    size = count = 0
    for key, value in pairs:
        added = _FRAME.size + len(key) + len(value)
        if count == RECORDS_MAX or (count and HEADER_BYTES + size + added > BYTES_MAX):
            made.append(b"".join((HEADER.pack(MAGIC, VERSION, BatchKind.VARIABLE, 0, count), *parts)))
            parts, size, count = [], 0, 0
        parts += (_FRAME.pack(len(key), len(value)), key, value)
        size, count = size + added, count + 1
    if count:
        made.append(b"".join((HEADER.pack(MAGIC, VERSION, BatchKind.VARIABLE, 0, count), *parts)))
    return made


def fixed_batch(key_bytes: int, records: bytes) -> bytes:
    """Records of one width, key and value behind each other, as a batch. Not more than a batch takes."""
    kind = BatchKind.V6 if key_bytes == KEY_V6_BYTES else BatchKind.V4
    return HEADER.pack(MAGIC, VERSION, kind, 0, len(records) // PAIRS[kind].size) + records


def select_keys(packed: bytes, key_bytes: int, asked: FlowFilter) -> bytes:
    """Of keys of one width, one behind the other, those that the filter may mean, whoever owns them: what it says of
    values (states, backend) is not looked at."""
    asked = replace(asked, origin="", states=frozenset(), backend=None)
    if asked.is_empty:
        return packed
    keys: NDArray[np.void] = np.frombuffer(packed, f"V{key_bytes}")
    wanted = columns.matches_keys(asked, keys)
    return packed if wanted.all() else keys[wanted].tobytes()
