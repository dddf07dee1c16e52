"""A state from the content of a snapshot (`snapshot.py` has the layout). Everything is checked, and nothing is taken
from content that is not whole."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterable
from itertools import accumulate, pairwise

from google.protobuf.message import DecodeError

from rocinante import limits
from rocinante.state.applier import State
from rocinante.state.flows import FlowTable
from rocinante.state.kv.versions import Version
from rocinante.state.order import SEGMENT_KEYS, Segment
from rocinante.state.outcome import decode_outcome
from rocinante.state.sections import SnapshotError, unframe
from rocinante.state.sessions import KeptOutcome, KeptSession, Sessions
from rocinante.state.snapshot import (
    END,
    END_LAYOUT,
    KEY_LAYOUT,
    META,
    META_LAYOUT,
    OUTCOME_LAYOUT,
    OUTCOMES,
    SEGMENT,
    SEGMENT_LAYOUT,
    SESSION_LAYOUT,
    SESSIONS,
    TABLE,
    TABLE_LAYOUT,
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
        self._expected_segments = 0
        self._expected_records = 0
        self._expected_ghosts = 0
        self._last_tag = 0
        self._ended = False
        self._handlers: dict[int, Callable[[bytes], None]] = {
            META: self._take_meta,
            VERSIONS: self._take_versions,
            SESSIONS: self._take_sessions,
            OUTCOMES: self._take_outcomes,
            TABLE: self._take_table,
            SEGMENT: self._take_segment,
            END: self._take_end,
        }

    def take(self, tag: int, payload: bytes) -> None:
        if self._ended or (tag == META) != (self._last_tag == 0) or (tag < self._last_tag and tag != TABLE):
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
        origin_end = 1 + payload[0]
        origin = payload[1:origin_end].decode()
        if origin in self._state.tables.tables:
            raise SnapshotError(f"snapshot: the table of origin {origin!r} stands twice")
        table = FlowTable(origin)
        order = table.order
        if origin_end > len(payload):
            raise SnapshotError("snapshot: a table is cut off")
        order.next_position, order.sweep_position, records, ghosts, segments = TABLE_LAYOUT.unpack(payload[origin_end:])
        self._expected_records, self._expected_ghosts, self._expected_segments = records, ghosts, segments
        self._state.tables.tables[origin] = table
        self._table = table

    def _take_segment(self, payload: bytes) -> None:
        table = self._table
        if table is None:
            raise SnapshotError("snapshot: a segment stands before its table")
        dense, first, count = SEGMENT_LAYOUT.unpack_from(payload)
        at = SEGMENT_LAYOUT.size
        if not 1 <= count <= SEGMENT_KEYS or dense > 1:
            raise SnapshotError(f"snapshot: a segment of {count} keys cannot be")
        positions: array[int] | None = None
        if not dense:
            positions = array("Q", struct.unpack_from(f">{count}Q", payload, at))
            at += 8 * count
        key_bytes = payload[at : at + count]
        at += count
        value_bytes = struct.unpack_from(f">{count}I", payload, at)
        at += 4 * count
        ends = list(accumulate((*key_bytes, *value_bytes), initial=at))
        if len(key_bytes) != count or ends[-1] != len(payload):
            raise SnapshotError("snapshot: a segment has not the length that it should")
        items = [payload[start:end] for start, end in pairwise(ends)]
        keys, values = items[:count], items[count:]
        segment = Segment(first, keys, positions)
        before = table.order.segments[-1] if table.order.segments else None
        if (
            (positions is not None and (positions[0] != first or any(a >= b for a, b in pairwise(positions))))
            or (before is not None and before.position(len(before.keys) - 1) >= first)
            or segment.position(count - 1) >= table.order.next_position
        ):
            raise SnapshotError("snapshot: the positions of a segment are not in order")
        table.order.segments.append(segment)
        table.records.update((key, value) for key, value in zip(keys, values, strict=True) if value)
        table.order.ghosts.update(key for key, value in zip(keys, values, strict=True) if not value)

    def _end_table(self) -> None:
        table, self._table = self._table, None
        if table is None:
            return
        found = (len(table.records), len(table.order.ghosts), len(table.order.segments))
        expected = (self._expected_records, self._expected_ghosts, self._expected_segments)
        if found != expected or not found[0] or sum(map(_keys, table.order.segments)) != found[0] + found[1]:
            raise SnapshotError(
                f"snapshot: the table of origin {table.origin!r} has {found} records, ghosts and segments;"
                f" {expected} are expected"
            )

    def _take_end(self, payload: bytes) -> None:
        found = (len(self._versions), len(self._sessions), len(self._outcomes), len(self._state.tables.tables))
        if END_LAYOUT.unpack(payload) != found:
            raise SnapshotError(f"snapshot: its end says {END_LAYOUT.unpack(payload)} items, {found} were found")
        if len(self._sessions) > limits.SESSIONS_MAX:
            raise SnapshotError(f"snapshot: {len(self._sessions)} sessions; at most {limits.SESSIONS_MAX}")
        self._ended = True


def _keys(segment: Segment) -> int:
    return len(segment.keys)
