"""The commands of the state machine: what a log entry carries, to the byte.

An entry's data is a sequence of frames, `u32 length | command`, so that the driver can put all that waits into one
entry without looking inside. A command is encoded once, with its frame, by the node that proposes it; the same bytes go
to the log, to the peers and here.

    command = u8 kind | u64 session | u64 seq | u64 ack | body          (big endian, header 25 bytes)

`session` and `seq` name the request, so that a retry is carried out once (dissertation, section 6.3): every command of
a session is applied at most once, and its cached result is given again. `ack` says that the results of all seqs below
it were received, so that they can be forgotten. `session` 0 marks the commands of the system itself (expiry, clock),
which are idempotent. Each node proposes what comes without a client session under one of its own (the *gateway
session*), so it may safely propose again after a change of leader.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import Final, NamedTuple

_HEADER: Final = struct.Struct(">BQQQ")
_LENGTH: Final = struct.Struct(">I")
HEADER_BYTES: Final = _HEADER.size


class Kind(IntEnum):
    """What a command does; `body` is …"""

    KV_PUT = 1
    """etcdserverpb.PutRequest"""
    KV_DELETE = 2
    """etcdserverpb.DeleteRangeRequest"""
    KV_TXN = 3
    """etcdserverpb.TxnRequest"""
    KV_COMPACT = 4
    """etcdserverpb.CompactionRequest"""
    FLOW_PUT = 16
    """u8 length | origin | flow batch (flows/batch.py)"""
    FLOW_DELETE = 17
    """u8 length | origin | u32 count | (u8 length | key)…  ; origin "" deletes under every origin"""
    FLOW_EXPIRE = 18
    """u64 now (unix ms) | u8 key width | u32 first row | u32 row behind the last | u8 length | origin : of these rows
    drop those whose deadline is <= now"""
    FLOW_DELETE_WHERE = 19
    """u8 key width | u32 first row | u32 row behind the last | u8 length | origin | filter (flows/filter_codec.py): of
    these rows delete those that the filter means"""
    SESSION_OPEN = 32
    """empty; opens `session` (again: no effect)"""
    SESSION_CLOSE = 33
    """empty"""
    CLOCK = 34
    """u64 now (unix ms): the state's own time moves forward to it; sessions idle for too long end"""


class Command(NamedTuple):
    kind: int
    session: int
    seq: int
    ack: int
    body: memoryview
    """A part of the entry, not a copy: a batch of flows has megabytes."""


class CommandError(ValueError):
    """The bytes are not a command."""


def encode(kind: Kind, session: int, seq: int, ack: int, body: bytes | memoryview) -> bytes:
    return b"".join((_HEADER.pack(kind, session, seq, ack), body))


def framed(kind: Kind, session: int, seq: int, ack: int, body: bytes | memoryview) -> bytes:
    """The command as it stands in an entry: such frames one behind the other are an entry's data."""
    return b"".join((_LENGTH.pack(HEADER_BYTES + len(body)), _HEADER.pack(kind, session, seq, ack), body))


def unframed(frame: bytes) -> bytes:
    """The command in a frame that `framed` made."""
    return frame[_LENGTH.size :]


def decode(data: bytes) -> Command:
    """Raises CommandError when `data` is shorter than a header."""
    if len(data) < HEADER_BYTES:
        raise CommandError(f"a command has at least {HEADER_BYTES} bytes, this one {len(data)}")
    kind, session, seq, ack = _HEADER.unpack_from(data)
    return Command(kind, session, seq, ack, memoryview(data)[HEADER_BYTES:])


def pack(commands: Iterable[bytes]) -> bytes:
    """Put encoded commands into the data of one entry."""
    parts: list[bytes] = []
    for command in commands:
        parts.append(_LENGTH.pack(len(command)))
        parts.append(command)
    return b"".join(parts)


def unpack(data: bytes) -> Iterator[Command]:
    """The commands of one entry, in order. Raises CommandError where the frames do not fill `data` exactly."""
    at, end = 0, len(data)
    view = memoryview(data)
    while at < end:
        if at + 4 > end:
            raise CommandError("a frame's length is cut off")
        (length,) = _LENGTH.unpack_from(data, at)
        at += 4
        if length < HEADER_BYTES or at + length > end:
            raise CommandError(f"a frame of {length} bytes does not fit the entry")
        kind, session, seq, ack = _HEADER.unpack_from(data, at)
        yield Command(kind, session, seq, ack, view[at + HEADER_BYTES : at + length])
        at += length
