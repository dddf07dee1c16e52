"""A state from the content of a snapshot (`snapshot.py` has the layout). Everything is checked, and nothing is taken
from content that is not whole."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable

import numpy as np
from google.protobuf.message import DecodeError

from rocinante import limits
from rocinante.flows.columns import SLOT_BYTES
from rocinante.state.applier import State
from rocinante.state.flows import WIDTHS, FlowTable
from rocinante.state.kv.versions import Version
from rocinante.state.outcome import decode_outcome
from rocinante.state.rows import OUTSIDE, ROWS_MAX, Piece, RowStore
from rocinante.state.sections import SnapshotError, unframe
from rocinante.state.sessions import KeptOutcome, KeptSession, Sessions
from rocinante.state.snapshot import (
    END,
    END_LAYOUT,
    FREE_ROWS,
    KEY_LAYOUT,
    META,
    META_LAYOUT,
    OUTCOME_LAYOUT,
    OUTCOMES,
    OUTSIDE_LAYOUT,
    ROWS,
    ROWS_LAYOUT,
    ROWS_PIECE,
    SESSION_LAYOUT,
    SESSIONS,
    STORE,
    STORE_LAYOUT,
    TABLE,
    VERSION_LAYOUT,
    VERSIONS,
)


def restore_state(chunks: Iterable[bytes]) -> State:
    """Raises SnapshotError that says what is wrong."""
    builder = _Builder()
    for tag, payload in unframe(chunks):
        try:
            builder.take(tag, payload)
        except SnapshotError:
            raise
        except (struct.error, ValueError, IndexError, DecodeError) as error:
            raise SnapshotError(f"snapshot: a section with tag {tag} cannot be read: {error}") from error
    return builder.finish()


class _Builder:
    """Takes the sections in order."""

    def __init__(self) -> None:
        self._state = State()
        self._revision = 0
        self._compacted = 0
        self._versions: list[tuple[bytes, Version]] = []
        self._sessions: list[KeptSession] = []
        self._outcomes: list[KeptOutcome] = []
        self._table: FlowTable | None = None
        self._origin = ""
        self._stores_due = 0
        self._store: RowStore | None = None
        self._store_expected = (0, 0, 0)
        """Rows used, with a flow, free."""
        self._last_tag = 0
        self._ended = False
        self._handlers: dict[int, Callable[[bytes], None]] = {
            META: self._take_meta,
            VERSIONS: self._take_versions,
            SESSIONS: self._take_sessions,
            OUTCOMES: self._take_outcomes,
            TABLE: self._take_table,
            STORE: self._take_store,
            ROWS: self._take_rows,
            FREE_ROWS: self._take_free,
            END: self._take_end,
        }

    def take(self, tag: int, payload: bytes) -> None:
        if (
            self._ended
            or (tag == META) != (self._last_tag == 0)
            or (tag < self._last_tag and tag not in (TABLE, STORE))
        ):
            raise SnapshotError(f"snapshot: a section with tag {tag} does not belong behind one with {self._last_tag}")
        if tag in (TABLE, END):
            self._end_table()
        handler = self._handlers.get(tag)
        if handler is None:
            raise SnapshotError(f"snapshot: a section with tag {tag} is not known")
        handler(payload)
        self._last_tag = tag

    def finish(self) -> State:
        if not self._ended:
            raise SnapshotError("snapshot: its last section is missing")
        try:
            self._state.sessions = Sessions.load(self._sessions, self._outcomes)
        except ValueError as error:
            raise SnapshotError(f"snapshot: {error}") from error
        self._state.store.load(self._revision, self._compacted, self._versions)
        return self._state

    def _take_meta(self, payload: bytes) -> None:
        state = self._state
        state.index, state.term, state.now_ms, self._revision, self._compacted = META_LAYOUT.unpack(payload)
        if self._revision < 1 or not -1 <= self._compacted <= self._revision:
            raise SnapshotError(f"snapshot: revision {self._revision}, compacted {self._compacted} cannot be")

    def _take_versions(self, payload: bytes) -> None:
        at, end = 0, len(payload)
        last = (self._versions[-1][0], *self._versions[-1][1][:2]) if self._versions else (b"", 0, 0)
        while at < end:
            (key_bytes,) = KEY_LAYOUT.unpack_from(payload, at)
            at += KEY_LAYOUT.size
            key = payload[at : at + key_bytes]
            at += key_bytes
            main, sub, create, version, lease, is_value, length = VERSION_LAYOUT.unpack_from(payload, at)
            at += VERSION_LAYOUT.size
            value = payload[at : at + length]
            at += length
            if at > end or not 1 < main <= self._revision or last >= (key, main, sub) or (length and not is_value):
                raise SnapshotError(f"snapshot: the version of {key!r} at revision {main} does not belong here")
            last = (key, main, sub)
            self._versions.append((key, Version(main, sub, create, version, value if is_value else None, lease)))

    def _take_sessions(self, payload: bytes) -> None:
        self._sessions += map(KeptSession._make, SESSION_LAYOUT.iter_unpack(payload))

    def _take_outcomes(self, payload: bytes) -> None:
        at, end = 0, len(payload)
        while at < end:
            session, seq, length = OUTCOME_LAYOUT.unpack_from(payload, at)
            at += OUTCOME_LAYOUT.size
            outcome = payload[at : at + length]
            decode_outcome(outcome)
            self._outcomes.append(KeptOutcome(session, seq, outcome))
            at += length
        if at != end:
            raise SnapshotError("snapshot: the last outcome of a section is cut off")

    def _take_table(self, payload: bytes) -> None:
        self._end_store()
        origin_end = 1 + payload[0]
        origin = payload[1:origin_end].decode()
        if len(payload) != origin_end + 1 or not 1 <= payload[-1] <= len(WIDTHS):
            raise SnapshotError("snapshot: a table is cut off, or has a number of stores that cannot be")
        if origin <= self._origin or len(self._state.tables.tables) >= limits.FLOW_ORIGINS_MAX:
            raise SnapshotError(f"snapshot: the table of origin {origin!r} does not stand in order, or is too many")
        self._origin = origin
        self._stores_due = payload[-1]
        self._table = self._state.tables.tables[origin] = FlowTable(origin)

    def _take_store(self, payload: bytes) -> None:
        self._end_store()
        table = self._table
        key_bytes, slot_bytes, used, live, free = STORE_LAYOUT.unpack(payload)
        if table is None or not self._stores_due or key_bytes in table.stores:
            raise SnapshotError("snapshot: a store stands where none is due")
        if SLOT_BYTES.get(key_bytes) != slot_bytes or used > ROWS_MAX or not live:
            raise SnapshotError(f"snapshot: a store of {key_bytes} and {slot_bytes} bytes, {used} rows, cannot be")
        self._stores_due -= 1
        self._store = table.store(key_bytes)
        self._store_expected = (used, live, used - live)
        if free != used - live:
            raise SnapshotError(f"snapshot: {live} rows with flows and {free} free ones are not {used}")

    def _take_rows(self, payload: bytes) -> None:
        store = self._due_store()
        first, count = ROWS_LAYOUT.unpack_from(payload)
        at = ROWS_LAYOUT.size
        states = np.frombuffer(payload, np.uint8, count, at)
        at += count
        if not 1 <= count <= ROWS_PIECE or (states > OUTSIDE).any():
            raise SnapshotError(f"snapshot: {count} rows, or their states, cannot be")
        live = int(np.count_nonzero(states))
        keys = np.frombuffer(payload, store.keys.dtype, live, at)
        at += keys.nbytes
        slots = np.frombuffer(payload, store.slots.dtype, live, at)
        at += slots.nbytes
        outside: dict[int, bytes] = {}
        for row in (np.flatnonzero(states == OUTSIDE) + first).tolist():
            (length,) = OUTSIDE_LAYOUT.unpack_from(payload, at)
            at += OUTSIDE_LAYOUT.size
            outside[row] = payload[at : at + length]
            at += length
        if at != len(payload):
            raise SnapshotError("snapshot: a piece of a table has not the length that it should")
        store.load(Piece(first, states, keys, slots, outside))

    def _take_free(self, payload: bytes) -> None:
        self._due_store().load_free(np.frombuffer(payload, ">u4").astype(np.uint32))

    def _due_store(self) -> RowStore:
        if self._store is None:
            raise SnapshotError("snapshot: rows stand before their store")
        return self._store

    def _end_store(self) -> None:
        store, self._store = self._store, None
        if store is None:
            return
        found = (store.used, store.live, store.used - store.live)
        if found != self._store_expected:
            raise SnapshotError(f"snapshot: a store has {found} rows; {self._store_expected} are expected")
        store.check_loaded()

    def _end_table(self) -> None:
        self._end_store()
        if self._stores_due:
            raise SnapshotError(f"snapshot: {self._stores_due} stores of origin {self._origin!r} are missing")
        self._table = None

    def _take_end(self, payload: bytes) -> None:
        found = (len(self._versions), len(self._sessions), len(self._outcomes), len(self._state.tables.tables))
        if END_LAYOUT.unpack(payload) != found:
            raise SnapshotError(f"snapshot: its end says {END_LAYOUT.unpack(payload)} items, {found} were found")
        if len(self._sessions) > limits.SESSIONS_MAX:
            raise SnapshotError(f"snapshot: {len(self._sessions)} sessions; at most {limits.SESSIONS_MAX}")
        self._ended = True
