"""Flows as columns: batches of the fixed kinds are built from arrays and read into them, without Python code for each
record (docs/flow-format.md has the bytes).

The two endpoints of a key are sorted here, and the flag REVERSED is set, as `FlowTuple.key` and `pack_value` do for
objects: the same flows give the same bytes. What has a backend's name or application data, or mixes the address
families behind an IPv4 flow, is of the variable kind, which is for objects only (`encode_batch`, `decode_batch`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np

from rocinante.flows import columns
from rocinante.flows.batch import (
    BYTES_MAX,
    HEADER,
    HEADER_BYTES,
    MAGIC,
    RECORDS_MAX,
    VERSION,
    BatchKind,
    check_records,
    payload,
    validate_batch,
)
from rocinante.flows.column_input import Addresses, Array, Mask, addresses, fail, mask, numbers
from rocinante.flows.errors import FlowError
from rocinante.flows.key import FAMILY_V4, FAMILY_V6, KEY_V4_BYTES, KEY_V6_BYTES, PROTOCOL_ICMP, PROTOCOL_ICMPV6
from rocinante.flows.record import (
    APPLICATION_DATA_BYTES_MAX,
    BACKEND_NAME_BYTES_MAX,
    KNOWN_FLAGS,
    LAYOUT_FLAGS,
    U16_MAX,
    U32_MAX,
    U64_MAX,
    FlowFlag,
    TcpState,
)

U8_MAX: Final = 0xFF
_NUMBERS: Final = {
    "zone": U16_MAX,
    "protocol": U8_MAX,
    "source_port": U16_MAX,
    "destination_port": U16_MAX,
    "tcp_state": U8_MAX,
    "flags": U16_MAX,
    "deadline_ms": U64_MAX,
    "updated_ms": U64_MAX,
    "mark": U32_MAX,
    "backend_port": U16_MAX,
    "reply_source_port": U16_MAX,
    "reply_destination_port": U16_MAX,
    "packets_original": U64_MAX,
    "bytes_original": U64_MAX,
    "packets_reply": U64_MAX,
    "bytes_reply": U64_MAX,
}
"""Columns of numbers, with the greatest that each takes."""
_STATE_MAX: Final = int(max(TcpState))
_AS_IT_IS: Final = (
    "deadline_ms", "updated_ms", "mark", "tcp_state", "packets_original", "bytes_original", "packets_reply",
    "bytes_reply",
)  # fmt: skip
_LAYOUT: Final = int(LAYOUT_FLAGS)
_REVERSED: Final = int(FlowFlag.REVERSED)
_HAS_BACKEND: Final = int(FlowFlag.HAS_BACKEND)
_HAS_REPLY: Final = int(FlowFlag.HAS_REPLY)
_BACKEND_V4: Final = int(FlowFlag.BACKEND_V4)
_REPLY_V4: Final = int(FlowFlag.REPLY_V4)
_RECORD: Final = {
    key_bytes: np.dtype(
        [("key", columns.KEY_FIELDS[key_bytes]), ("value", columns.VALUE_FIELDS[columns.SLOT_BYTES[key_bytes]])]
    )
    for key_bytes in (KEY_V4_BYTES, KEY_V6_BYTES)
}


@dataclass(slots=True, eq=False, kw_only=True)
class FlowColumns:
    """One column a field, one row a flow; a column may be one value that holds for every row.

    Numbers: anything that numpy takes for whole numbers. Addresses: 32-bit numbers (IPv4), a (rows, 4) or (rows, 16)
    array of uint8, or a list of texts or packed addresses, both families mixed. Units are those of `FlowRecord`.
    `source` is who began the flow. Nothing is checked before `encode_columns`.
    """

    source: Any
    destination: Any
    protocol: Any
    """IP protocol numbers."""
    source_port: Any = 0
    destination_port: Any = 0
    zone: Any = 0
    tcp_state: Any = 0
    flags: Any = 0
    """`FlowFlag` without those of the layout, which are derived."""
    deadline_ms: Any = 0
    updated_ms: Any = 0
    mark: Any = 0
    packets_original: Any = 0
    bytes_original: Any = 0
    packets_reply: Any = 0
    bytes_reply: Any = 0
    backend: Any = None
    backend_port: Any = 0
    has_backend: Any = None
    """Which rows have one; None: all where `backend` is given. The other rows of `backend` are not looked at."""
    backend_is_v4: Any = None
    """In a column of 16 bytes: which rows hold an IPv4 address, in the first 4 bytes."""
    reply_source: Any = None
    """The reply tuple, with NAT; zone and protocol are the flow's."""
    reply_destination: Any = None
    reply_source_port: Any = 0
    reply_destination_port: Any = 0
    has_reply: Any = None
    reply_is_v4: Any = None

    def __len__(self) -> int:
        """Rows: the length of the first column that is not one value for all. Raises FlowError for none at all."""
        for field in fields(self):
            given = getattr(self, field.name)
            if given is None or isinstance(given, str | int | np.generic):
                continue
            try:
                return len(given)
            except TypeError:
                raise FlowError(field.name, f"{type(given).__name__} is no column") from None
        return 1


def encode_columns(flows: FlowColumns, *, records_max: int = RECORDS_MAX, bytes_max: int = BYTES_MAX) -> list[bytes]:
    """Batches of the flows, in the order of their rows; where both address families occur, those of IPv4 first.

    The bytes are those that `encode_batch` makes of the same flows as objects. No rows: no batch. Raises FlowError that
    names the column and the first row at fault; nothing is made then.
    """
    rows = len(flows)
    if not rows:
        return []
    taken = _Taken(flows, rows)
    is_v4 = taken.source.is_v4
    if is_v4.all():
        return list(_cut(_v4(taken), BatchKind.V4, records_max, bytes_max))
    if not is_v4.any():
        return list(_cut(_v6(taken), BatchKind.V6, records_max, bytes_max))
    v4 = _v4(taken.take(np.flatnonzero(is_v4)))
    v6 = _v6(taken.take(np.flatnonzero(~is_v4)))
    return [*_cut(v4, BatchKind.V4, records_max, bytes_max), *_cut(v6, BatchKind.V6, records_max, bytes_max)]


def encode_keys(flows: FlowColumns) -> bytes:
    """The packed keys of the flows, one behind the other; all of one address family. Only the columns of the tuple are
    needed. Raises FlowError that names column and row."""
    rows = len(flows)
    if not rows:
        return b""
    taken = _Taken(flows, rows)
    is_v4 = taken.source.is_v4
    if is_v4.all() or not is_v4.any():
        packed: bytes = (_v4(taken) if is_v4[0] else _v6(taken))["key"].tobytes()
        return packed
    raise fail("source", "keys of both address families; look them up one family at a time", int(is_v4.argmin()))


def _cut(records: Array, kind: BatchKind, records_max: int, bytes_max: int) -> Iterator[bytes]:
    width = records.dtype.itemsize
    step = max(1, min(records_max, (bytes_max - HEADER_BYTES) // width))
    packed = records.view(np.uint8).data
    for first in range(0, len(records), step):
        count = min(step, len(records) - first)
        header = HEADER.pack(MAGIC, VERSION, kind, 0, count)
        yield b"".join((header, packed[first * width : (first + count) * width]))


class _Taken:
    """The columns, checked, as arrays."""

    __slots__ = (
        "backend", "count", "destination", "has_backend", "has_reply", "number", "reply_destination", "reply_source",
        "source",
    )  # fmt: skip

    def __init__(self, flows: FlowColumns, count: int) -> None:
        self.count = count
        self.number = {name: numbers(name, getattr(flows, name), count, most) for name, most in _NUMBERS.items()}
        self.source = addresses("source", flows.source, count)
        self.destination = addresses("destination", flows.destination, count)
        self._same_family(self.source, self.destination, "destination")
        state = np.atleast_1d(self.number["tcp_state"])
        if state.max() > _STATE_MAX:
            raise fail("tcp_state", f"{state.max()} is not in 0 to {_STATE_MAX}", int(state.argmax()))
        unknown = np.atleast_1d((self.number["flags"] & (U16_MAX ^ KNOWN_FLAGS)) != 0)
        if unknown.any():
            row = int(unknown.argmax())
            bits = int(np.atleast_1d(self.number["flags"])[row])
            raise fail("flags", f"0x{bits:x} has unknown bits; known are 0x{KNOWN_FLAGS:x}", row)
        self._ports_of_icmp("source_port", "destination_port", None)
        self.has_backend, self.backend = self._optional("backend", flows, count, ("backend",))
        self.has_reply, self.reply_source = self._optional("reply", flows, count, ("reply_source",))
        _, self.reply_destination = self._optional("reply", flows, count, ("reply_destination",))
        if self.reply_source is not None and self.reply_destination is not None:
            self._same_family(self.reply_source, self.reply_destination, "reply_destination", self.has_reply)
            self._ports_of_icmp("reply_source_port", "reply_destination_port", self.has_reply)
        elif self.reply_source is not None or self.reply_destination is not None:
            missing = "reply_source" if self.reply_source is None else "reply_destination"
            raise FlowError(missing, "is missing: a reply tuple has both addresses")
        self._narrow()

    @staticmethod
    def _optional(
        part: str, flows: FlowColumns, count: int, column: tuple[str]
    ) -> tuple[Mask | None, Addresses | None]:
        """(which rows have it, None: all; the addresses, None: nobody has)."""
        given, has = getattr(flows, column[0]), getattr(flows, f"has_{part}")
        if given is None:
            if has is not None and mask(f"has_{part}", has, count).any():
                raise FlowError(column[0], f"is missing, and has_{part} is set")
            return None, None
        found = addresses(column[0], given, count, getattr(flows, f"{part}_is_v4"))
        which = None if has is None else mask(f"has_{part}", has, count)
        return which, found

    @staticmethod
    def _same_family(one: Addresses, other: Addresses, column: str, where: Mask | None = None) -> None:
        differ = one.is_v4 != other.is_v4
        if where is not None:
            differ = differ & where
        if differ.any():
            raise fail(column, "its address is not of the family of the source's", int(differ.argmax()))

    def _ports_of_icmp(self, source: str, destination: str, where: Mask | None) -> None:
        protocol = self.number["protocol"]
        wrong = ((protocol == PROTOCOL_ICMP) | (protocol == PROTOCOL_ICMPV6)) & (
            self.number[source] != self.number[destination]
        )
        if where is not None:
            wrong = wrong & where
        if np.any(wrong):
            problem = "for ICMP both ports hold the identifier, so they are the same"
            raise fail(destination, problem, int(np.atleast_1d(wrong).argmax()))

    def _narrow(self) -> None:
        """What stands behind an IPv4 flow must be IPv4: else the record would be of the variable kind."""
        for column, part, has in (
            ("backend", self.backend, self.has_backend),
            ("reply_source", self.reply_source, self.has_reply),
        ):
            if part is None:
                continue
            wrong = self.source.is_v4 & ~part.is_v4
            if has is not None:
                wrong = wrong & has
            if wrong.any():
                problem = "is IPv6 behind an IPv4 flow: that is of the variable kind, which is for objects only"
                raise fail(column, problem, int(wrong.argmax()))

    def take(self, rows: Array) -> _Taken:
        """Some of the rows."""
        made = _Taken.__new__(_Taken)
        made.count = len(rows)
        made.number = {name: found[rows] if found.ndim else found for name, found in self.number.items()}
        made.source, made.destination = self.source.take(rows), self.destination.take(rows)
        made.has_backend = None if self.has_backend is None else self.has_backend[rows]
        made.has_reply = None if self.has_reply is None else self.has_reply[rows]
        made.backend = None if self.backend is None else self.backend.take(rows)
        made.reply_source = None if self.reply_source is None else self.reply_source.take(rows)
        made.reply_destination = None if self.reply_destination is None else self.reply_destination.take(rows)
        return made


def _begin(taken: _Taken, key_bytes: int, swap: Mask) -> tuple[Array, Array, Array, Array]:
    """(records, their keys, their values, the flags so far), with all that is not an address."""
    number = taken.number
    records = np.zeros(taken.count, _RECORD[key_bytes])
    key, value = records["key"], records["value"]
    key["zone"], key["protocol"] = number["zone"], number["protocol"]
    key["family"] = FAMILY_V4 if key_bytes == KEY_V4_BYTES else FAMILY_V6
    source_port, destination_port = number["source_port"], number["destination_port"]
    key["a_port"] = np.where(swap, destination_port, source_port)
    key["b_port"] = np.where(swap, source_port, destination_port)
    for name in _AS_IT_IS:
        if number[name].ndim or number[name]:
            value[name] = number[name]
    flags = swap.astype(np.uint16)  # REVERSED is bit 0
    flags |= (number["flags"] & (U16_MAX ^ _LAYOUT)).astype(np.uint16)
    if taken.backend is not None:
        _put(value, "backend_port", number["backend_port"], taken.has_backend)
        _flag(flags, _HAS_BACKEND, taken.has_backend)
    if taken.reply_source is not None:
        for name in ("reply_source_port", "reply_destination_port"):
            _put(value, name, number[name], taken.has_reply)
        _flag(flags, _HAS_REPLY, taken.has_reply)
    return records, key, value, flags


def _put(value: Array, name: str, given: Array, has: Mask | None) -> None:
    value[name] = given if has is None else np.where(has, given, np.zeros((), given.dtype))


def _flag(flags: Array, bit: int, has: Mask | None) -> None:
    flags |= np.uint16(bit) if has is None else has.astype(np.uint16) * np.uint16(bit)


def _v4(taken: _Taken) -> Array:
    source, destination = taken.source.as_v4(), taken.destination.as_v4()
    number = taken.number
    swap = (source > destination) | ((source == destination) & (number["source_port"] > number["destination_port"]))
    records, key, value, flags = _begin(taken, KEY_V4_BYTES, swap)
    key["a"], key["b"] = np.where(swap, destination, source), np.where(swap, source, destination)
    if taken.backend is not None:
        _put(value, "backend", taken.backend.as_v4(), taken.has_backend)
    if taken.reply_source is not None and taken.reply_destination is not None:
        _put(value, "reply_source", taken.reply_source.as_v4(), taken.has_reply)
        _put(value, "reply_destination", taken.reply_destination.as_v4(), taken.has_reply)
    value["flags"] = flags
    return records


def _v6(taken: _Taken) -> Array:
    (a, a_low), (b, b_low) = taken.source.halves(), taken.destination.halves()
    number = taken.number
    later = number["source_port"] > number["destination_port"]
    swap = (a > b) | ((a == b) & ((a_low > b_low) | ((a_low == b_low) & later)))
    records, key, value, flags = _begin(taken, KEY_V6_BYTES, swap)
    key["a"], key["a_low"] = np.where(swap, b, a), np.where(swap, b_low, a_low)
    key["b"], key["b_low"] = np.where(swap, a, b), np.where(swap, a_low, b_low)
    for name, part, has, bit in (
        ("backend", taken.backend, taken.has_backend, _BACKEND_V4),
        ("reply_source", taken.reply_source, taken.has_reply, _REPLY_V4),
        ("reply_destination", taken.reply_destination, taken.has_reply, _REPLY_V4),
    ):
        if part is not None:
            high, low = part.halves()
            _put(value, name, high, has)
            _put(value, f"{name}_low", low, has)
            _flag(flags, bit, part.is_v4 if has is None else part.is_v4 & has)
    value["flags"] = flags
    return records


def decode_columns(
    batch: bytes | memoryview, *, records_max: int = RECORDS_MAX, bytes_max: int = BYTES_MAX
) -> FlowColumns:
    """A batch of a fixed kind as columns: numbers in the machine's own order, addresses as 32-bit numbers (IPv4) or
    rows of 16 bytes, `has_…` and `…_is_v4` as masks. `encode_columns` makes the same bytes of it again.

    Checks every record, as `decode_batch` does. Raises FlowError that names record and field; for the variable kind,
    which `decode_batch` reads as objects.
    """
    packed = bytes(batch)
    info = validate_batch(packed, records_max=records_max, bytes_max=bytes_max)
    if info.kind is BatchKind.VARIABLE:
        raise FlowError("batch.kind", "a batch of the variable kind is read as objects (decode_batch), not as columns")
    check_records(
        packed,
        info,
        backend_name_bytes_max=BACKEND_NAME_BYTES_MAX,
        application_data_bytes_max=APPLICATION_DATA_BYTES_MAX,
    )
    key_bytes = KEY_V4_BYTES if info.kind is BatchKind.V4 else KEY_V6_BYTES
    return _columns_of(*columns.split(payload(packed), key_bytes))


def _columns_of(keys: Array, values: Array) -> FlowColumns:
    """Columns of checked keys and values."""
    key, value = columns.keys_of(keys), columns.values_of(values)
    flags = value["flags"].astype(np.uint16)
    turned = (flags & _REVERSED) != 0
    wide = keys.dtype.itemsize == KEY_V6_BYTES
    a, b = _read(key, "a", wide), _read(key, "b", wide)
    a_port, b_port = _plain(key["a_port"]), _plain(key["b_port"])
    pick = turned[:, None] if wide else turned
    return FlowColumns(
        source=np.where(pick, b, a),
        destination=np.where(pick, a, b),
        protocol=_plain(key["protocol"]),
        source_port=np.where(turned, b_port, a_port),
        destination_port=np.where(turned, a_port, b_port),
        zone=_plain(key["zone"]),
        flags=flags & np.uint16(U16_MAX ^ _LAYOUT),
        **{name: _plain(value[name]) for name in _AS_IT_IS},
        backend=_read(value, "backend", wide),
        backend_port=_plain(value["backend_port"]),
        has_backend=(flags & _HAS_BACKEND) != 0,
        backend_is_v4=(flags & _BACKEND_V4) != 0 if wide else None,
        reply_source=_read(value, "reply_source", wide),
        reply_destination=_read(value, "reply_destination", wide),
        reply_source_port=_plain(value["reply_source_port"]),
        reply_destination_port=_plain(value["reply_destination_port"]),
        has_reply=(flags & _HAS_REPLY) != 0,
        reply_is_v4=(flags & _REPLY_V4) != 0 if wide else None,
    )


def _plain(found: Array) -> Array:
    """In the machine's own byte order, and a copy."""
    return found.astype(found.dtype.newbyteorder("="))


def _read(fields_of: Array, name: str, wide: bool) -> Array:
    """An address as the public columns have it."""
    if not wide:
        return _plain(fields_of[name])
    both = np.empty((len(fields_of), 2), ">u8")
    both[:, 0], both[:, 1] = fields_of[name], fields_of[f"{name}_low"]
    return both.view(np.uint8)
