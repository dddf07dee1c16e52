"""Decoders of what is on the disk: log records, membership changes, snapshot files, the state in a snapshot."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

from rocinante.errors import StorageError
from rocinante.node.directory import encode_members, split_snapshot
from rocinante.ports import Member
from rocinante.raft.membership import decode_change, decode_config, encode_change
from rocinante.raft.types import (
    Change,
    ChangeKind,
    Config,
    ConfigChange,
    Entry,
    EntryKind,
    HardState,
    InvalidChange,
    SnapshotMeta,
    Transition,
)
from rocinante.state.machine import StateMachine
from rocinante.state.sections import MAGIC, SnapshotError, frame, unframe
from rocinante.state.sections import VERSION as STATE_VERSION
from rocinante.storage import records
from rocinante.storage.base import Identity
from rocinante.storage.records import DamagedError
from rocinante.storage.snapshots import DIGEST_BYTES, FileSnapshots, file_name
from tests.fuzz.samples import sample_machine
from tests.fuzz.targets import Target

CONFIG: Final = Config(voters=frozenset({1, 2, 2**64 - 1}), learners=frozenset({7}))
JOINT: Final = Config(frozenset({1, 2}), frozenset({2, 3}), frozenset({9}), frozenset({3}), auto_leave=True)

Codec = tuple[Callable[[bytes], Any], Callable[[Any], bytes]]
CODECS: Final[list[Codec]] = [
    (records.decode_entry, records.encode_entry),
    (records.decode_format, records.encode_format),
    (records.decode_identity, records.encode_identity),
    (records.decode_bounds, records.encode_bounds),
    (records.decode_hard, records.encode_hard),
    (lambda value: records.decode_meta(records.unseal(value)), lambda meta: records.seal(records.encode_meta(meta))),
]


def one_record(data: bytes) -> None:
    """The first byte chooses the decoder and whether the checksum is made right (else nothing behind it is reached)."""
    if not data:
        return
    decode, encode = CODECS[data[0] % len(CODECS)]
    value = data[1:] if data[0] & 0x80 else records.seal(data[1:])
    try:
        found = decode(value)
    except DamagedError:
        return
    again = encode(found)
    assert decode(again) == found
    if decode is not CODECS[5][0]:  # ids may stand in any order, and twice, in what is read
        assert again == value, (value, found, again)


def record_seeds() -> list[bytes]:
    values: list[tuple[int, bytes]] = [
        (0, records.encode_entry(Entry(7, 3, EntryKind.NORMAL, b"data"))),
        (0, records.encode_entry(Entry(8, 3, EntryKind.CONFIG, b""))),
        (1, records.encode_format(1)),
        (2, records.encode_identity(Identity(1, 2, "dc1"))),
        (3, records.encode_bounds(records.Bounds(1, 9, 4))),
        (4, records.encode_hard(HardState(3, 2, 9))),
        (5, records.seal(records.encode_meta(SnapshotMeta(9, 3, CONFIG)))),
        (5, records.seal(records.encode_meta(SnapshotMeta(9, 3, JOINT)))),
    ]
    return [bytes((kind,)) + value[4:] for kind, value in values] + [
        bytes((0x80 + (kind - 0x80) % len(CODECS),)) + value for kind, value in values
    ]


def one_change(data: bytes) -> None:
    """What a CONFIG entry holds."""
    try:
        change, result = decode_change(data), decode_config(data)
    except InvalidChange:
        return
    again = encode_change(change, result)
    assert (decode_change(again), decode_config(again)) == (change, result)


def change_seeds() -> list[bytes]:
    context = encode_members([Member(0, "node4", "127.0.0.1", 35004, 8004)])
    add = ConfigChange((Change(ChangeKind.ADD_LEARNER, 7),), context=context)
    swap = ConfigChange((Change(ChangeKind.ADD_VOTER, 9), Change(ChangeKind.REMOVE, 1)), Transition.JOINT_IMPLICIT)
    return [
        encode_change(add, CONFIG),
        encode_change(add),
        encode_change(swap, JOINT),
        encode_change(ConfigChange(transition=Transition.LEAVE), CONFIG),
    ]


META: Final = SnapshotMeta(9, 3, CONFIG)
_PREFIX: Final = struct.Struct(">8sII")
_folder: list[Path] = []


def folder() -> Path:
    """One directory for all executions of this process; a file in memory where the machine has such a place."""
    if not _folder:
        shared = Path("/dev/shm")
        _folder.append(Path(mkdtemp(prefix="rocinante-fuzz-", dir=shared if shared.is_dir() else None)))
    return _folder[0]


def one_snapshot_file(data: bytes) -> None:
    """A file as it may be found. With an odd first byte its checksum and digest are made right."""
    if not data:
        return
    content = _repair(data[1:]) if data[0] & 1 else data[1:]
    path = folder() / file_name(META)
    path.write_bytes(content)
    try:
        store = FileSnapshots(folder())
        listed = store.list()
        problem = store.problem(META)
        for snapshot in listed:
            if snapshot.meta == META:
                _read_all(store, snapshot, problem)
    finally:
        path.unlink()


def _read_all(store: FileSnapshots, snapshot: Any, problem: str | None) -> None:
    try:
        read = b"".join(store.read(snapshot, 64))
    except StorageError:
        assert problem is not None
        return
    assert problem is None, problem
    assert len(read) == snapshot.size_bytes


def _repair(content: bytes) -> bytes:
    """Right lengths, checksum and digest around whatever metadata and content there are."""
    if len(content) < _PREFIX.size + 12 + DIGEST_BYTES:
        return content
    magic, version, meta_bytes = _PREFIX.unpack_from(content)
    meta_bytes = min(meta_bytes, len(content) - _PREFIX.size - 12 - DIGEST_BYTES)
    meta = content[_PREFIX.size : _PREFIX.size + meta_bytes]
    body = content[_PREFIX.size + meta_bytes + 12 : len(content) - DIGEST_BYTES]
    head = _PREFIX.pack(magic, version, meta_bytes) + meta + struct.pack(">Q", len(body))
    return head + struct.pack(">I", zlib.crc32(head)) + body + blake2b(body, digest_size=DIGEST_BYTES).digest()


def snapshot_file_seeds() -> list[bytes]:
    seeds = []
    for content in (b"", b"content " * 20):
        meta = records.encode_meta(META)
        body = _PREFIX.pack(b"ROCISNAP", 1, len(meta)) + meta + bytes(12) + content + bytes(DIGEST_BYTES)
        seeds += [b"\x01" + body, b"\x00" + _repair(body)]
    return seeds


def one_state(data: bytes) -> None:
    """A snapshot's content. The first byte: 0 as it is; else as sections (u8 tag, u16 length, payload) that are framed
    with right checksums, so that what is behind them is reached."""
    if not data:
        return
    content = data[1:] if data[0] == 0 else b"".join(frame(_sections(data[1:])))
    machine = StateMachine()
    try:
        position = machine.restore([content[at : at + 50] for at in range(0, len(content), 50)])
    except SnapshotError:
        assert machine.position == (0, 0)
        assert machine.revision == 1
        return
    assert machine.position == position
    # What was taken is a state: it can be written, and read, again, and takes the next entry.
    with machine.freeze() as frozen:
        written = b"".join(frozen.chunks(1024))
    other = StateMachine()
    other.restore([written])
    with other.freeze() as frozen:
        assert b"".join(frozen.chunks(1024)) == written


def _sections(data: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while at + 3 <= len(data):
        tag, length = data[at], int.from_bytes(data[at + 1 : at + 3])
        found.append((tag, data[at + 3 : at + 3 + length]))
        at += 3 + length
    return found


def state_seeds() -> list[bytes]:
    seeds = []
    for machine in (StateMachine(), sample_machine()):
        if not machine.position.index:
            machine.apply(1, 1, b"")
        with machine.freeze() as frozen:
            content = b"".join(frozen.chunks(1 << 20))
        sections = b"".join(bytes((tag,)) + len(payload).to_bytes(2) + payload for tag, payload in unframe([content]))
        seeds += [b"\x00" + content, b"\x01" + sections]
    return [*seeds, b"\x00" + MAGIC + STATE_VERSION.to_bytes(2) + b"\x01\x7f\xff\xff\xff"]


def one_snapshot_head(data: bytes) -> None:
    """The members at the head of a snapshot."""
    try:
        members, rest = split_snapshot([data[at : at + 7] for at in range(0, len(data), 7)])
    except StorageError:
        return
    assert b"".join(rest) == data[4 + int.from_bytes(data[:4]) :]
    for identifier, member in members.items():
        assert isinstance(member.name, str)
        assert 0 < identifier < 2**64
        assert 0 <= member.port <= 65535
    encode_members(members.values())


def snapshot_head_seeds() -> list[bytes]:
    rows = [Member(0, f"node{n}", "127.0.0.1", 35000 + n, 8000 + n) for n in (1, 2, 3)]
    rows.append(Member(0, "six", "2001:db8::1", 1, 65535))
    heads = [encode_members(rows[:count]) for count in (0, 1, 4)]
    return [len(head).to_bytes(4) + head + b"RSTATE" for head in heads]


TARGETS: Final = [
    Target("record", one_record, record_seeds, 512, 400),
    Target("change", one_change, change_seeds, 512),
    Target("snapshot_file", one_snapshot_file, snapshot_file_seeds, 1024),
    Target("snapshot_head", one_snapshot_head, snapshot_head_seeds, 1024),
    Target("state", one_state, state_seeds, 8192, 250),
]
