"""The value of a flow: what a table keeps behind a key, to the byte (docs/flow-format.md).

Three shapes, told apart by their length; the first 56 bytes are the same in all of them, so that deadline and update
time are where every reader and the expiry scan look for them:

    offset 0 u64 deadline_ms | 8 u64 updated_ms | 16 u32 mark | 20 u16 flags | 22 u8 tcp state | 23 u8 zero |
    24 u64 packets original | 32 u64 bytes original | 40 u64 packets reply | 48 u64 bytes reply
    narrow (74 bytes): 56 backend address 4 | 60 u16 port
                       62 reply source 4 | 66 reply destination 4 | 70 u16 source port | 72 u16 destination port
    wide (110 bytes):  56 backend address 16 | 72 u16 port
                       74 reply source 16 | 90 reply destination 16 | 106 u16 source port | 108 u16 destination port
    variable: wide, then u8 length | backend name | u16 length | application data
"""

from __future__ import annotations

import struct
from typing import Final

from rocinante.flows.errors import FlowError
from rocinante.flows.key import KEY_V4_BYTES, FlowTuple, unpack_key
from rocinante.flows.record import KNOWN_FLAGS, LAYOUT_FLAGS, Backend, FlowFlag, FlowRecord, TcpState

FLAGS_OFFSET: Final = 20
STATE_OFFSET: Final = 22
BACKEND_OFFSET: Final = 56
# Plain numbers, for the operators of an IntFlag cost about a microsecond each.
_REVERSED: Final = int(FlowFlag.REVERSED)
_HAS_BACKEND: Final = int(FlowFlag.HAS_BACKEND)
_HAS_REPLY: Final = int(FlowFlag.HAS_REPLY)
_BACKEND_V4: Final = int(FlowFlag.BACKEND_V4)
_REPLY_V4: Final = int(FlowFlag.REPLY_V4)
_LAYOUT: Final = int(LAYOUT_FLAGS)
_FLAGS: Final = tuple(FlowFlag(bits) for bits in range(KNOWN_FLAGS + 1))
_STATES: Final = tuple(TcpState)
_STATE_MAX: Final = int(max(TcpState))
_TIMES = struct.Struct(">QQ")
_COMMON: Final = ">QQIHBBQQQQ"
NARROW: Final = struct.Struct(_COMMON + "4sH4s4sHH")
WIDE: Final = struct.Struct(_COMMON + "16sH16s16sHH")
NARROW_BYTES: Final = NARROW.size
WIDE_BYTES: Final = WIDE.size
TAIL_BYTES_MIN: Final = 3
VALUE_BYTES_MAX: Final = 0xFFFF
"""A value's length is a u16 in a batch of the variable kind."""
_PADDING: Final = bytes(12)
_TAIL_DATA: Final = struct.Struct(">H")


def pack_value(record: FlowRecord, *, narrow: bool, tail: bool) -> bytes:
    """The value of a checked record. `narrow` needs that it has nothing of IPv6, `tail` False that it has no name and
    no data."""
    flags = int(record.flags) & ~_LAYOUT
    if record.original.reversed:
        flags |= _REVERSED
    backend_address, backend_port = b"", 0
    if record.backend is not None:
        backend_address, backend_port = record.backend
        flags |= _HAS_BACKEND
        if not narrow and len(backend_address) == 4:
            flags |= _BACKEND_V4
    source, source_port, destination, destination_port = b"", 0, b"", 0
    if record.reply is not None:
        _, _, source, source_port, destination, destination_port = record.reply
        flags |= _HAS_REPLY
        if not narrow and len(source) == 4:
            flags |= _REPLY_V4
    layout = NARROW if narrow else WIDE
    packed = layout.pack(
        record.deadline_ms,
        record.updated_ms,
        record.mark,
        flags,
        record.tcp_state,
        0,
        record.packets_original,
        record.bytes_original,
        record.packets_reply,
        record.bytes_reply,
        backend_address,
        backend_port,
        source,
        destination,
        source_port,
        destination_port,
    )
    if not tail:
        return packed
    name = record.backend_name.encode()
    return b"".join(
        (packed, bytes((len(name),)), name, _TAIL_DATA.pack(len(record.application_data)), record.application_data)
    )


def is_narrow(record: FlowRecord) -> bool:
    """Whether nothing in the record is IPv6."""
    return (
        len(record.original.source) == 4
        and (record.backend is None or len(record.backend.address) == 4)
        and (record.reply is None or len(record.reply.source) == 4)
    )


def unpack_record(key: bytes, value: bytes) -> FlowRecord:
    """The record of a key and its value, as a table keeps them. Raises FlowError when they are not valid."""
    check_value(key, value)
    narrow = len(value) == NARROW_BYTES
    (
        deadline_ms,
        updated_ms,
        mark,
        bits,
        state,
        _,
        packets_original,
        bytes_original,
        packets_reply,
        bytes_reply,
        backend_address,
        backend_port,
        source,
        destination,
        source_port,
        destination_port,
    ) = (NARROW if narrow else WIDE).unpack_from(value)
    original = unpack_key(key, reverse=bool(bits & _REVERSED))
    backend: Backend | None = None
    if bits & _HAS_BACKEND:
        backend = Backend(backend_address[:4] if bits & _BACKEND_V4 else backend_address, backend_port)
    reply: FlowTuple | None = None
    if bits & _HAS_REPLY:
        if bits & _REPLY_V4:
            source, destination = source[:4], destination[:4]
        reply = FlowTuple(original.zone, original.protocol, source, source_port, destination, destination_port)
    name, data = unpack_tail(value)
    return FlowRecord(
        original=original,
        tcp_state=_STATES[state],
        flags=_FLAGS[bits & ~_LAYOUT],
        deadline_ms=deadline_ms,
        updated_ms=updated_ms,
        mark=mark,
        backend=backend,
        backend_name=name.decode(),
        reply=reply,
        packets_original=packets_original,
        bytes_original=bytes_original,
        packets_reply=packets_reply,
        bytes_reply=bytes_reply,
        application_data=data,
    )


def unpack_tail(value: bytes) -> tuple[bytes, bytes]:
    """(backend name, application data) of a value; both empty where there is no tail. Raises FlowError when it is cut
    off."""
    if len(value) <= WIDE_BYTES:
        return b"", b""
    name_end = WIDE_BYTES + 1 + value[WIDE_BYTES]
    if len(value) < name_end + 2:
        raise FlowError("backend_name", "is cut off")
    data_at = name_end + 2
    (length,) = _TAIL_DATA.unpack_from(value, name_end)
    if len(value) != data_at + length:
        raise FlowError("application_data", f"{len(value) - data_at} bytes; its length says {length}")
    return value[WIDE_BYTES + 1 : name_end], value[data_at:]


def times_ms(value: bytes) -> tuple[int, int]:
    """(deadline, update time) of a value of any shape."""
    deadline_ms, updated_ms = _TIMES.unpack_from(value)
    return deadline_ms, updated_ms


def is_past(value: bytes, now_ms: int) -> bool:
    """Whether the record's deadline has come; one without a deadline (0) lasts."""
    return 0 < int.from_bytes(value[:8]) <= now_ms


def check_value(key: bytes, value: bytes) -> None:
    """Raise FlowError unless the value may stand behind this key: shape, known bits, and zero where nothing is."""
    narrow = len(value) == NARROW_BYTES
    if not narrow and len(value) != WIDE_BYTES and len(value) < WIDE_BYTES + TAIL_BYTES_MIN:
        raise FlowError("value", f"{len(value)} bytes is neither narrow ({NARROW_BYTES}), wide ({WIDE_BYTES}) nor more")
    if narrow and len(key) != KEY_V4_BYTES:
        raise FlowError("value", "a narrow value stands behind an IPv4 key only")
    fields = (NARROW if narrow else WIDE).unpack_from(value)
    flags, state, reserved = fields[3:6]
    if flags & ~KNOWN_FLAGS:
        raise FlowError("flags", f"0x{flags:x} has unknown bits; known are 0x{KNOWN_FLAGS:x}")
    if state > _STATE_MAX:
        raise FlowError("tcp_state", f"{state} is not in 0 to {_STATE_MAX}")
    if reserved:
        raise FlowError("reserved", f"byte 23 is {reserved}; it must be zero")
    if flags & _REVERSED and unpack_key(key) == unpack_key(key, reverse=True):
        raise FlowError("flags", "REVERSED is set, and both endpoints are the same")
    _check_optional("backend", flags & _HAS_BACKEND, flags & _BACKEND_V4, narrow, fields[10:11], fields[11:12])
    _check_optional("reply", flags & _HAS_REPLY, flags & _REPLY_V4, narrow, fields[12:14], fields[14:16])
    if len(value) <= WIDE_BYTES:
        return
    name, _ = unpack_tail(value)
    try:
        name.decode()
    except UnicodeDecodeError as error:
        raise FlowError("backend_name", "is not UTF-8") from error


def _check_optional(
    field: str, present: int, is_v4: int, narrow: bool, addresses: tuple[bytes, ...], ports: tuple[int, ...]
) -> None:
    """Zero where the field is absent; of an IPv4 address in a wide value the last 12 bytes are zero."""
    if not present and (any(ports) or b"".join(addresses).strip(b"\0")):
        raise FlowError(field, f"its bytes are not zero, and the flag HAS_{field.upper()} is not set")
    if is_v4:
        if narrow or not present:
            raise FlowError("flags", f"{field.upper()}_V4 is set where there is no wide {field}")
        if any(address[4:] != _PADDING for address in addresses):
            raise FlowError(field, f"{field.upper()}_V4 is set, and the last 12 bytes of its address are not zero")
