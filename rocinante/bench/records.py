"""The flows of the benchmarks, as encoded batches and keys: numbered flows out of traffic.py, with a stamp.

Flow number n of a kind always has the same key. The stamp is the `mark` of all records of a batch: who reads one knows
by it which of the writes it was. A batch is sent as the client's writer sends it: packed, where it has records enough
for that (client/flow_flight.py), or plain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rocinante.bench import traffic
from rocinante.bench.bounds import BENCH_FLOWS_MAX
from rocinante.errors import InvalidArgument
from rocinante.flows import packed
from rocinante.flows.columns import KEY_FIELDS
from rocinante.flows.key import KEY_V4_BYTES, KEY_V6_BYTES
from rocinante.flows.packing import base_at, is_packed
from rocinante.limits import FLOW_BATCH_BYTES_MAX, FLOW_BATCH_RECORDS_MAX, WRITER_PACK_RECORDS_MIN
from rocinante.pb.v1 import flow_pb2

__all__ = ["Encoding", "Kind", "Made", "Pattern", "moment", "passed_s", "stamp_of"]

HEADER_BYTES: Final = 12
_DEADLINE_AT, _UPDATED_AT, _MARK_AT = 0, 8, 16
"""Of a value (docs/flow-format.md)."""
_MARK_BYTES: Final = 4
_MOMENTS_PER_S: Final = 100_000
_MOMENTS_MASK: Final = 0xFFFF_FFFF
_LENGTH_DELIMITED: Final = 2
_KEY_BYTES: Final = {1: KEY_V4_BYTES, 2: KEY_V6_BYTES}
"""Of the fixed kinds."""

Bytes = NDArray[np.uint8]


class Kind(StrEnum):
    """The kinds of the flow format."""

    IPV4 = "ipv4"
    IPV6 = "ipv6"
    VARIABLE = "variable"


class Encoding(StrEnum):
    """How a batch travels."""

    PACKED = "packed"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class Made:
    """A request or a batch but for its stamp, which costs next to nothing to put in."""

    content: bytearray
    at: int
    """Where the stamp stands …"""
    every: int
    """… and again, so many bytes later: 0, where it stands once."""

    def __len__(self) -> int:
        return len(self.content)

    def stamped(self, stamp: int) -> bytes:
        mark = stamp.to_bytes(_MARK_BYTES, "big")
        if self.every:
            _marks(self.content, self.at, self.every)[:] = np.frombuffer(mark, np.uint8)
        else:
            self.content[self.at : self.at + _MARK_BYTES] = mark
        return bytes(self.content)


def _marks(content: bytearray, at: int, every: int) -> Bytes:
    """The marks of all records, a row each."""
    count = 1 + (len(content) - at - _MARK_BYTES) // every
    found: Bytes = np.ndarray((count, _MARK_BYTES), np.uint8, content, at, (every, 1))
    return found


class Pattern:
    """Batches of `records` flows. `updated_ms`: none was updated later; `deadline_ms`: none ends earlier.

    Raises InvalidArgument when a batch would be larger than a node takes.
    """

    def __init__(
        self, kind: Kind, records: int, *, zone: int, deadline_ms: int, updated_ms: int,
        encoding: Encoding = Encoding.PLAIN,
    ) -> None:  # fmt: skip
        if not 1 <= records <= FLOW_BATCH_RECORDS_MAX:
            raise InvalidArgument("batch", f"{records} is not in 1 to {FLOW_BATCH_RECORDS_MAX} records")
        self.kind, self.records, self.encoding, self._zone = kind, records, encoding, zone
        self.key_bytes = KEY_V6_BYTES if kind is Kind.IPV6 else KEY_V4_BYTES
        self._deadline_ms, self._updated_ms = deadline_ms, updated_ms
        self._pool, self._frame = _pool(kind)
        self.record_bytes = len(self._frame) + self.key_bytes + self._pool.values.shape[1]
        self.batch_bytes = HEADER_BYTES + records * self.record_bytes
        """Of a plain one."""
        if self.batch_bytes > FLOW_BATCH_BYTES_MAX:
            size = f"{records} records of kind {kind} are {self.batch_bytes} bytes"
            raise InvalidArgument("batch", f"{size}, a batch may have {FLOW_BATCH_BYTES_MAX}")
        number = list(Kind).index(kind) + 1
        self._head = b"RFB1" + bytes((1, number, 0, 0)) + records.to_bytes(4, "big")

    def batch(self, first: int, stamp: int, most: int = BENCH_FLOWS_MAX) -> bytes:
        """A plain one with the flows from number `first` on; number `most` is 0 again."""
        return self._plain(first, most).stamped(stamp)

    def request(self, first: int, stamp: int, most: int = BENCH_FLOWS_MAX) -> bytes:
        """An encoded PutFlowsRequest with that batch, as it travels."""
        return self.made(first, most).stamped(stamp)

    def made(self, first: int, most: int = BENCH_FLOWS_MAX, *, request: bool = True) -> Made:
        """The same with a stamp to come; without `request` the batch alone."""
        plain = self._plain(first, most)
        batch, at, every = plain.content, plain.at, plain.every
        if self.encoding is Encoding.PACKED and self.records >= WRITER_PACK_RECORDS_MIN:
            found = packed(memoryview(batch))
            if is_packed(found):
                batch, at, every = bytearray(found), base_at(found, "mark"), 0
        if not request:
            return Made(batch, at, every)
        head = _field_head(len(batch))
        return Made(bytearray(head) + batch, len(head) + at, every)

    def keys(self, numbers: Sequence[int] | NDArray[Any]) -> bytes:
        """Packed keys of these flows, one behind the other."""
        return traffic.keys_of(numbers, self.key_bytes, self._zone).tobytes()

    def read(self, batch: bytes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(numbers of the flows, their stamps) of a plain batch as `batch` makes them."""
        rows = np.frombuffer(batch, np.uint8, offset=HEADER_BYTES).reshape(-1, self.record_bytes)
        at = len(self._frame)
        keys = np.ascontiguousarray(rows[:, at : at + self.key_bytes]).view(KEY_FIELDS[self.key_bytes])[:, 0]
        at += self.key_bytes + _MARK_AT
        stamps = np.ascontiguousarray(rows[:, at : at + _MARK_BYTES]).view(">u4")[:, 0]
        return traffic.numbers_of(keys), stamps.astype(np.int64)

    def _plain(self, first: int, most: int) -> Made:
        written = np.arange(first, first + self.records, dtype=np.int64)
        numbers = written % most
        content = bytearray(HEADER_BYTES + self.records * self.record_bytes)
        content[:HEADER_BYTES] = self._head
        rows = np.frombuffer(content, np.uint8, offset=HEADER_BYTES).reshape(self.records, -1)
        at = len(self._frame)
        rows[:, :at] = np.frombuffer(self._frame, np.uint8)
        keys = traffic.keys_of(numbers, self.key_bytes, self._zone)
        rows[:, at : at + self.key_bytes] = keys.view(np.uint8).reshape(self.records, -1)
        at += self.key_bytes
        pool = self._pool
        row = pool.row_of(numbers, written)
        rows[:, at:] = pool.values[row]
        updated = np.uint64(self._updated_ms) - pool.age_ms[row]
        deadline = np.uint64(self._deadline_ms) + (pool.life_ms - pool.age_ms)[row]
        rows[:, at + _DEADLINE_AT :][:, :8] = deadline.astype(">u8").view(np.uint8).reshape(-1, 8)
        rows[:, at + _UPDATED_AT :][:, :8] = updated.astype(">u8").view(np.uint8).reshape(-1, 8)
        return Made(content, HEADER_BYTES + at + _MARK_AT, self.record_bytes)


@cache
def _pool(kind: Kind) -> tuple[traffic.Pool, bytes]:
    """(what is known of flows, what stands before each key)."""
    if kind is Kind.IPV6:
        return traffic.fixed_pool(KEY_V6_BYTES), b""
    if kind is Kind.IPV4:
        return traffic.fixed_pool(KEY_V4_BYTES), b""
    return traffic.named_pool()


def stamp_of(batch: bytes, zone: int) -> tuple[int, int] | None:
    """(stamp of the first record, number of records) of a batch of any kind; None where it is not of this zone, so not
    of this benchmark."""
    at = HEADER_BYTES
    key_bytes = _KEY_BYTES.get(batch[5], 0)
    if not key_bytes:
        key_bytes = batch[at]
        at += traffic.FRAME_BYTES
    if int.from_bytes(batch[at : at + 2], "big") != zone:
        return None
    at += key_bytes + _MARK_AT
    return int.from_bytes(batch[at : at + _MARK_BYTES], "big"), int.from_bytes(batch[8:HEADER_BYTES], "big")


def moment(at_s: float) -> int:
    """A moment of `time.monotonic` as a stamp: hundredths of a millisecond, anew after half a day."""
    return int(at_s * _MOMENTS_PER_S) & _MOMENTS_MASK


def passed_s(stamp: int, now_s: float) -> float:
    """Since the moment of that stamp."""
    return ((moment(now_s) - stamp) & _MOMENTS_MASK) / _MOMENTS_PER_S


def _field_head(size: int) -> bytes:
    """What stands before `batch` in a PutFlowsRequest: its tag and its length."""
    number = flow_pb2.PutFlowsRequest.DESCRIPTOR.fields_by_name["batch"].number
    parts = bytearray([number << 3 | _LENGTH_DELIMITED])
    while size > 0x7F:
        parts.append(size & 0x7F | 0x80)
        size >>= 7
    parts.append(size)
    return bytes(parts)
