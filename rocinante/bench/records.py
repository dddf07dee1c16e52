"""The flows of the benchmarks, as encoded batches and keys: one record is encoded as any client would, its copies get
other keys by numpy. So making a batch costs a few nanoseconds a record, and what is measured is the cluster.

Flow number n of a kind always has the same key. `stamp` is put into packets_original: who reads a record knows by it
which of the writes it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rocinante.bench.bounds import BENCH_FLOWS_MAX
from rocinante.errors import InvalidArgument
from rocinante.flows import Backend, FlowFlag, FlowRecord, FlowTuple, TcpState, encode_batch, parse_address
from rocinante.limits import FLOW_BATCH_BYTES_MAX, FLOW_BATCH_RECORDS_MAX
from rocinante.pb.v1 import flow_pb2

__all__ = ["Kind", "Pattern", "stamp_of"]

_BATCH_HEADER_BYTES: Final = 12
_FRAME_BYTES: Final = 3
"""What stands before the key in a record of the variable kind."""
_STAMP_OFFSET: Final = 24
"""Of packets_original in a value (docs/flow-format.md)."""
_LENGTH_DELIMITED: Final = 2
_KEY_BYTES: Final = {1: 16, 2: 40}
"""Of the fixed kinds."""
_PORT: Final = 1024
_V4_BITS: Final = 24
"""Of a number in the address; the bits above them are in the port."""

Bytes = NDArray[np.uint8]


class Kind(StrEnum):
    """The kinds of the flow format."""

    IPV4 = "ipv4"
    IPV6 = "ipv6"
    VARIABLE = "variable"


def _record(kind: Kind, zone: int, deadline_ms: int, updated_ms: int) -> FlowRecord:
    """An established connection with a backend. The first endpoint is below the second one, whatever its number."""
    source, destination, backend = ("[2001:db8::]:1024", "[2001:db8:ffff::1]:443", "2001:db8:1::5")
    if kind is not Kind.IPV6:
        source, destination, backend = ("10.0.0.0:1024", "192.0.2.1:443", "172.16.0.5")
    return FlowRecord(
        FlowTuple.from_text("tcp", source, destination, zone=zone),
        tcp_state=TcpState.ESTABLISHED,
        flags=FlowFlag.SEEN_REPLY | FlowFlag.ASSURED,
        deadline_ms=deadline_ms,
        updated_ms=updated_ms,
        backend=Backend(parse_address(backend, "backend"), 8080),
        bytes_original=52_000,
        packets_reply=40,
        bytes_reply=61_000,
        backend_name="pool-1/web-5.example.net" if kind is Kind.VARIABLE else "",
    )


class Pattern:
    """Batches of `records` flows. Raises InvalidArgument when a batch would be larger than a node takes."""

    def __init__(self, kind: Kind, records: int, *, zone: int, deadline_ms: int, updated_ms: int) -> None:
        if not 1 <= records <= FLOW_BATCH_RECORDS_MAX:
            raise InvalidArgument("batch", f"{records} is not in 1 to {FLOW_BATCH_RECORDS_MAX} records")
        (one,) = encode_batch([_record(kind, zone, deadline_ms, updated_ms)])
        self.kind, self.records = kind, records
        self.record_bytes = len(one) - _BATCH_HEADER_BYTES
        self.batch_bytes = _BATCH_HEADER_BYTES + records * self.record_bytes
        if self.batch_bytes > FLOW_BATCH_BYTES_MAX:
            size = f"{records} records of kind {kind} are {self.batch_bytes} bytes"
            raise InvalidArgument("batch", f"{size}, a batch may have {FLOW_BATCH_BYTES_MAX}")
        head = _field_head(self.batch_bytes) + one[:8] + records.to_bytes(4, "big")
        self._buffer = bytearray(head + one[_BATCH_HEADER_BYTES:] * records)
        self._head_bytes = len(head) - _BATCH_HEADER_BYTES
        rows = np.frombuffer(self._buffer, np.uint8, offset=len(head)).reshape(records, self.record_bytes)
        at = _FRAME_BYTES if kind is Kind.VARIABLE else 0
        self.key_bytes = 40 if kind is Kind.IPV6 else 16
        self._keys = rows[:, at : at + self.key_bytes]
        self._stamps = rows[:, at + self.key_bytes + _STAMP_OFFSET :][:, :8]

    def request(self, first: int, stamp: int, most: int = BENCH_FLOWS_MAX) -> bytes:
        """An encoded PutFlowsRequest with the flows from number `first` on; number `most` is 0 again."""
        self._fill(first, stamp, most)
        return bytes(self._buffer)

    def batch(self, first: int, stamp: int, most: int = BENCH_FLOWS_MAX) -> bytes:
        """The batch alone."""
        self._fill(first, stamp, most)
        return bytes(memoryview(self._buffer)[self._head_bytes :])

    def keys(self, numbers: Sequence[int] | NDArray[Any]) -> bytes:
        """Packed keys of these flows, one behind the other."""
        keys = np.repeat(self._keys[:1], len(numbers), axis=0)
        _number_keys(keys, np.asarray(numbers, np.uint32), self.kind)
        return keys.tobytes()

    def read(self, batch: bytes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(numbers of the flows, their stamps) of a batch as `batch` makes them."""
        rows = np.frombuffer(batch, np.uint8, offset=_BATCH_HEADER_BYTES).reshape(-1, self.record_bytes)
        at = _FRAME_BYTES if self.kind is Kind.VARIABLE else 0
        keys, value = rows[:, at : at + self.key_bytes], rows[:, at + self.key_bytes :]
        stamps = np.ascontiguousarray(value[:, _STAMP_OFFSET : _STAMP_OFFSET + 8]).view(">u8")[:, 0]
        if self.kind is Kind.IPV6:
            numbers = np.ascontiguousarray(keys[:, 16:20]).view(">u4")[:, 0].astype(np.int64)
        else:
            low = np.ascontiguousarray(keys[:, 4:8]).view(">u4")[:, 0].astype(np.int64) & ((1 << _V4_BITS) - 1)
            ports = np.ascontiguousarray(keys[:, 12:14]).view(">u2")[:, 0].astype(np.int64)
            numbers = low | (ports - _PORT) << _V4_BITS
        return numbers, stamps.astype(np.int64)

    def _fill(self, first: int, stamp: int, most: int) -> None:
        numbers = np.arange(first, first + self.records, dtype=np.int64) % most
        _number_keys(self._keys, numbers.astype(np.uint32), self.kind)
        self._stamps[:] = np.frombuffer(stamp.to_bytes(8, "big"), np.uint8)


def _number_keys(keys: Bytes, numbers: NDArray[np.uint32], kind: Kind) -> None:
    """Write the numbers into the first endpoint: IPv6 in the middle of its address, IPv4 in address and port."""
    if kind is Kind.IPV6:
        keys[:, 16:20] = numbers.astype(">u4").view(np.uint8).reshape(-1, 4)
        return
    address = (10 << _V4_BITS | numbers & ((1 << _V4_BITS) - 1)).astype(">u4")
    keys[:, 4:8] = address.view(np.uint8).reshape(-1, 4)
    keys[:, 12:14] = ((numbers >> _V4_BITS) + _PORT).astype(">u2").view(np.uint8).reshape(-1, 2)


def stamp_of(batch: bytes, zone: int) -> tuple[int, int] | None:
    """(stamp of the first record, number of records) of a batch of any kind; None where it is not of this zone, so not
    of this benchmark."""
    at = _BATCH_HEADER_BYTES
    key_bytes = _KEY_BYTES.get(batch[5], 0)
    if not key_bytes:
        key_bytes = batch[at]
        at += _FRAME_BYTES
    if int.from_bytes(batch[at : at + 2], "big") != zone:
        return None
    at += key_bytes + _STAMP_OFFSET
    return int.from_bytes(batch[at : at + 8], "big"), int.from_bytes(batch[8:12], "big")


def _field_head(size: int) -> bytes:
    """What stands before `batch` in a PutFlowsRequest: its tag and its length."""
    number = flow_pb2.PutFlowsRequest.DESCRIPTOR.fields_by_name["batch"].number
    parts = bytearray([number << 3 | _LENGTH_DELIMITED])
    while size > 0x7F:
        parts.append(size & 0x7F | 0x80)
        size >>= 7
    parts.append(size)
    return bytes(parts)
