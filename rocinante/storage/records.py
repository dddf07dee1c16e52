"""What is in the log's LevelDB, to the byte. Pure; big endian, so that keys sort by index.

    key  "e" | u64 index      value  u32 crc | u64 index | u64 term | u8 kind | data          one entry
    key  "m/format"           value  u32 crc | u32 format
    key  "m/identity"         value  u32 crc | u64 cluster | u64 node | datacenter (UTF-8)
    key  "m/bounds"           value  u32 crc | u64 first | u64 last | u64 sequence
    key  "m/hard"             value  u32 crc | u64 term | u64 vote | u64 commit
    key  "m/snapshot"         value  u32 crc | snapshot metadata

    snapshot metadata = u64 index | u64 term | u8 auto_leave | 4 x (u32 count | u64 id ...)    ids ascending

Each crc is zlib's CRC-32 of all that follows it. `bounds` is written with every batch: `first` to `last` are the
entries that must be there (nothing when last = first - 1), `sequence` counts the batches.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple
from zlib import crc32

from rocinante.raft.types import Config, Entry, EntryKind, HardState, SnapshotMeta
from rocinante.storage.base import Identity

KEY_FORMAT: Final = b"m/format"
KEY_IDENTITY: Final = b"m/identity"
KEY_BOUNDS: Final = b"m/bounds"
KEY_HARD: Final = b"m/hard"
KEY_SNAPSHOT: Final = b"m/snapshot"
ENTRY_PREFIX: Final = b"e"
ENTRY_END: Final = b"f"
"""Just above the key of every entry."""

_CRC: Final = struct.Struct(">I")
_KEY: Final = struct.Struct(">cQ")
_ENTRY: Final = struct.Struct(">QQB")
_ENTRY_START: Final = _CRC.size + _ENTRY.size
_FORMAT: Final = struct.Struct(">I")
_IDENTITY: Final = struct.Struct(">QQ")
_THREE: Final = struct.Struct(">QQQ")
_META: Final = struct.Struct(">QQ?")
_COUNT: Final = struct.Struct(">I")
_KINDS: Final = {int(kind): kind for kind in EntryKind}


class DamagedError(ValueError):
    """Bytes that cannot be what was written."""


class Bounds(NamedTuple):
    """Which entries must be there, and how many batches were written."""

    first: int = 1
    last: int = 0
    sequence: int = 0


def entry_key(index: int) -> bytes:
    return _KEY.pack(ENTRY_PREFIX, index)


def key_index(key: bytes) -> int:
    """The inverse of `entry_key`; raises DamagedError."""
    if len(key) != _KEY.size:
        raise DamagedError(f"a key of {len(key)} bytes among the entries")
    index: int = _KEY.unpack(key)[1]
    return index


def encode_entry(entry: Entry) -> bytes:
    head = _ENTRY.pack(entry.index, entry.term, entry.kind)
    return b"".join((_CRC.pack(crc32(entry.data, crc32(head))), head, entry.data))


def decode_entry(value: bytes) -> Entry:
    """Raises DamagedError."""
    if len(value) < _ENTRY_START:
        raise DamagedError(f"an entry of {len(value)} bytes")
    if _CRC.unpack_from(value)[0] != crc32(memoryview(value)[_CRC.size :]):
        raise DamagedError("its checksum is wrong")
    index, term, kind = _ENTRY.unpack_from(value, _CRC.size)
    if kind not in _KINDS:
        raise DamagedError(f"unknown kind {kind}")
    return Entry(index, term, _KINDS[kind], value[_ENTRY_START:])


def seal(content: bytes) -> bytes:
    """`content` with its CRC in front."""
    return _CRC.pack(crc32(content)) + content


def unseal(value: bytes) -> bytes:
    """The inverse of `seal`; raises DamagedError."""
    if len(value) < _CRC.size or _CRC.unpack_from(value)[0] != crc32(memoryview(value)[_CRC.size :]):
        raise DamagedError("its checksum is wrong")
    return value[_CRC.size :]


def _unpack(layout: struct.Struct, value: bytes) -> tuple[int, ...]:
    content = unseal(value)
    if len(content) != layout.size:
        raise DamagedError(f"{len(content)} bytes, expected {layout.size}")
    return layout.unpack(content)


def encode_format(number: int) -> bytes:
    return seal(_FORMAT.pack(number))


def decode_format(value: bytes) -> int:
    return _unpack(_FORMAT, value)[0]


def encode_identity(identity: Identity) -> bytes:
    return seal(_IDENTITY.pack(identity.cluster_id, identity.node_id) + identity.datacenter.encode())


def decode_identity(value: bytes) -> Identity:
    content = unseal(value)
    if len(content) < _IDENTITY.size:
        raise DamagedError(f"{len(content)} bytes")
    cluster, node = _IDENTITY.unpack_from(content)
    try:
        return Identity(cluster, node, content[_IDENTITY.size :].decode())
    except UnicodeDecodeError:
        raise DamagedError("the datacenter's name is not UTF-8") from None


def encode_bounds(bounds: Bounds) -> bytes:
    return seal(_THREE.pack(*bounds))


def decode_bounds(value: bytes) -> Bounds:
    bounds = Bounds(*_unpack(_THREE, value))
    if bounds.first < 1 or bounds.last < bounds.first - 1:
        raise DamagedError(f"impossible bounds {bounds.first} to {bounds.last}")
    return bounds


def encode_hard(state: HardState) -> bytes:
    return seal(_THREE.pack(*state))


def decode_hard(value: bytes) -> HardState:
    return HardState(*_unpack(_THREE, value))


def encode_meta(meta: SnapshotMeta) -> bytes:
    """A snapshot's metadata with its configuration; unsealed, for the header of a snapshot file too."""
    config = meta.config
    head = _META.pack(meta.index, meta.term, config.auto_leave)
    sets = (config.voters, config.voters_outgoing, config.learners, config.learners_next)
    return head + b"".join(struct.pack(f">I{len(ids)}Q", len(ids), *sorted(ids)) for ids in sets)


def decode_meta(content: bytes) -> SnapshotMeta:
    """Raises DamagedError."""
    try:
        index, term, auto_leave = _META.unpack_from(content)
        offset = _META.size
        sets = []
        for _ in range(4):
            (count,) = _COUNT.unpack_from(content, offset)
            offset += _COUNT.size
            if count * 8 > len(content) - offset:
                raise DamagedError(f"{count} ids do not fit")
            sets.append(frozenset(struct.unpack_from(f">{count}Q", content, offset)))
            offset += 8 * count
    except struct.error:
        raise DamagedError("snapshot metadata is cut short") from None
    if offset != len(content):
        raise DamagedError(f"{len(content) - offset} bytes too many in snapshot metadata")
    return SnapshotMeta(index, term, Config(sets[0], sets[1], sets[2], sets[3], auto_leave))
