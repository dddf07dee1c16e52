"""The state as the content of a snapshot, and back. Sections (`sections.py`), in this order, numbers big endian:

    1 meta:     u64 index | u64 term | u64 now_ms | i64 revision | i64 compacted revision
    2 versions: (u16 key length | key | i64 main | u32 sub | i64 create | i64 version | i64 lease | u8 is value | u32
    length | value)…
                in order of key, then of revision; what the compaction has made unreachable is not in it
    3 sessions: (u64 session | u64 used_ms | u64 floor)…           the one not used for longest first
    4 outcomes: (u64 session | u64 seq | u32 length | outcome)…    the one applied first first
    5 table:    u8 length | origin | u8 stores               one for each origin, sorted by name; its stores follow
    6 store:    u8 key width | u32 slot width | u64 rows used | u64 rows with a flow | u64 free rows
                narrow keys first; its rows and its free rows follow
    7 rows:     u64 first row | u32 n | n × u8 state | keys | slots | (u32 length | value)…
                keys and slots of the rows that have a flow, values of those whose value stands outside its slot
    8 free:     u32 row…                                     the row that was freed last is the last
    9 end:      u64 versions | u64 sessions | u64 outcomes | u64 tables

A frozen state is written while `apply` goes on: of keys the versions at its revision are there as long as it pins them,
of flows the stores remember what was overwritten (`rows.py`). It takes the machine's lock for one piece at a time.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager
from hashlib import blake2b
from itertools import islice
from typing import Final

from rocinante import limits
from rocinante.state.applier import State
from rocinante.state.flows import WIDTHS, FlowTable
from rocinante.state.kv.versions import FROM_KEY, Version, retained
from rocinante.state.rows import FrozenRows, Piece
from rocinante.state.sections import frame, rechunk

META: Final = 1
VERSIONS: Final = 2
SESSIONS: Final = 3
OUTCOMES: Final = 4
TABLE: Final = 5
STORE: Final = 6
ROWS: Final = 7
FREE_ROWS: Final = 8
END: Final = 9
META_LAYOUT: Final = struct.Struct(">QQQqq")
KEY_LAYOUT: Final = struct.Struct(">H")
VERSION_LAYOUT: Final = struct.Struct(">qIqqqBI")
SESSION_LAYOUT: Final = struct.Struct(">QQQ")
OUTCOME_LAYOUT: Final = struct.Struct(">QQI")
STORE_LAYOUT: Final = struct.Struct(">BIQQQ")
ROWS_LAYOUT: Final = struct.Struct(">QI")
OUTSIDE_LAYOUT: Final = struct.Struct(">I")
ROWS_PIECE: Final = 4096
"""Rows in a section, copied in one go under the lock (about 0.2 ms)."""
FREE_PIECE: Final = 65_536
END_LAYOUT: Final = struct.Struct(">QQQQ")
_SECTION_BYTES: Final = 256 * 1024
"""A section of small items ends when it has reached this size."""

_Section = tuple[int, bytes]


class FrozenState:
    """The state as it was after one entry. Holds memory until `close` (or the end of a `with`); usable from any
    thread."""

    def __init__(self, state: State, lock: AbstractContextManager[object]) -> None:
        """The caller holds the lock. Costs a copy of the sessions and of the numbers of free rows."""
        self.index = state.index
        self.term = state.term
        self.revision = state.store.revision
        self._now_ms = state.now_ms
        self._lock = lock
        self._store = state.store
        self._compacted = state.store.compacted
        self._sessions, self._outcomes = state.sessions.keep()
        self._tables = [_FrozenTable(state.tables.tables[name]) for name in sorted(state.tables.tables)]
        self._store.pins += 1
        self._closed = False

    def chunks(self, chunk_bytes: int = limits.SNAPSHOT_CHUNK_BYTES) -> Iterator[bytes]:
        """The snapshot's content, in chunks of this size (the last one shorter). May be called more than once."""
        return rechunk(frame(self._sections()), chunk_bytes)

    def digest(self) -> bytes:
        """BLAKE2b-256 of the content: equal on all nodes after the same entry, and that of the snapshot's file."""
        digest = blake2b(digest_size=32)
        for part in frame(self._sections()):
            digest.update(part)
        return digest.digest()

    def close(self) -> None:
        """Let go, in O(1) under the lock: there is nothing to merge. What was remembered is freed in the calling
        thread."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._store.pins -= 1
            for table in self._tables:
                table.close()
        self._tables, self._sessions, self._outcomes = [], [], []

    @property
    def closed(self) -> bool:
        return self._closed

    def __enter__(self) -> FrozenState:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _sections(self) -> Iterator[_Section]:
        """Every section of the content. What it yields depends on the frozen state alone."""
        if self._closed:
            raise ValueError("the frozen state is closed")
        yield META, META_LAYOUT.pack(self.index, self.term, self._now_ms, self.revision, self._compacted)
        versions = 0
        for section, count in self._version_sections():
            versions += count
            yield section
        sessions, outcomes, tables = self._sessions, self._outcomes, self._tables
        yield from _packed(SESSIONS, (SESSION_LAYOUT.pack(*session) for session in sessions))
        yield from _packed(
            OUTCOMES, (OUTCOME_LAYOUT.pack(session, seq, len(kept)) + kept for session, seq, kept in outcomes)
        )
        for table in tables:
            origin = table.origin.encode()
            yield TABLE, bytes((len(origin),)) + origin + bytes((len(table.stores),))
            for store in table.stores:
                yield from self._store_sections(store)
        yield END, END_LAYOUT.pack(versions, len(sessions), len(outcomes), len(tables))

    def _version_sections(self) -> Iterator[tuple[_Section, int]]:
        """Sections of versions, with how many are in each."""
        parts: list[bytes] = []
        size = count = 0
        for key, versions in self._kept_versions():
            name = KEY_LAYOUT.pack(len(key)) + key
            for main, sub, create, version, value, lease in versions:
                content = value or b""
                fixed = VERSION_LAYOUT.pack(main, sub, create, version, lease, value is not None, len(content))
                parts += (name, fixed, content)
                size += len(name) + len(fixed) + len(content)
                count += 1
                if size >= _SECTION_BYTES:
                    yield (VERSIONS, b"".join(parts)), count
                    parts, size, count = [], 0, 0
        if parts:
            yield (VERSIONS, b"".join(parts)), count

    def _kept_versions(self) -> Iterator[tuple[bytes, list[Version]]]:
        index = self._store.index
        start, first = b"\0", True
        while True:
            with self._lock:
                names = list(islice(index.walk_all(start, FROM_KEY, inclusive=first), limits.KV_PIECE_KEYS))
                kept = [(name, retained(index.versions[name], self._compacted, self.revision)) for name in names]
            yield from kept
            if len(names) < limits.KV_PIECE_KEYS:
                return
            start, first = names[-1], False

    def _store_sections(self, store: FrozenRows) -> Iterator[_Section]:
        free = store.free
        yield STORE, STORE_LAYOUT.pack(store.key_bytes, store.slot_bytes, store.used, store.live, len(free))
        for first in range(0, store.used, ROWS_PIECE):
            with self._lock:
                piece = store.piece(first, first + ROWS_PIECE)
            yield ROWS, _encode_piece(piece)
        for first in range(0, len(free), FREE_PIECE):
            yield FREE_ROWS, free[first : first + FREE_PIECE].astype(">u4").tobytes()


class _FrozenTable:
    """One origin's flows as they were."""

    def __init__(self, table: FlowTable) -> None:
        self.origin = table.origin
        self.stores = [table.stores[width].freeze() for width in WIDTHS if width in table.stores]

    def close(self) -> None:
        for store in self.stores:
            store.close()


def _encode_piece(piece: Piece) -> bytes:
    outside: list[bytes] = []
    for row in sorted(piece.outside):
        value = piece.outside[row]
        outside += (OUTSIDE_LAYOUT.pack(len(value)), value)
    return b"".join(
        (
            ROWS_LAYOUT.pack(piece.first, len(piece.states)),
            piece.states.tobytes(),
            piece.keys.tobytes(),
            piece.slots.tobytes(),
            *outside,
        )
    )


def _packed(tag: int, items: Iterator[bytes]) -> Iterator[_Section]:
    parts: list[bytes] = []
    size = 0
    for item in items:
        parts.append(item)
        size += len(item)
        if size >= _SECTION_BYTES:
            yield tag, b"".join(parts)
            parts, size = [], 0
    if parts:
        yield tag, b"".join(parts)
