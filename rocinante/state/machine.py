"""The replicated state machine: keys, flows, sessions. PURE and deterministic: equal entries give equal states, on
every node.

`apply` is called by one thread, in log order. All other methods are for any thread; each takes `lock` for a bounded
time only: a read that looks at much does so in pieces, at one revision, and lets `apply` go on in between. (The lock is
the one thing of a thread in `state/`; no time, randomness or I/O comes in.) What a reading method returns belongs to
the caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from threading import Lock
from typing import Final, NamedTuple

from rocinante import limits
from rocinante.errors import InvalidArgument, ResourceExhausted
from rocinante.flows import FlowFilter
from rocinante.pb.etcd import rpc_pb2
from rocinante.state.applier import Applied, Applier, CommandOutcome, State
from rocinante.state.events import KvChanges
from rocinante.state.flows import FlowEntry, Rows
from rocinante.state.kv import (
    PinnedView,
    View,
    check_chosen,
    check_range,
    check_txn,
    choose,
    errors,
    read_range,
    run,
    txn_is_readonly,
)
from rocinante.state.lookup import LookUp, PackedFlows, packed_keys_array, tables_of
from rocinante.state.outcome import Result
from rocinante.state.restore import restore_state
from rocinante.state.snapshot import FrozenState

__all__ = [
    "Applied",
    "CommandOutcome",
    "DuePage",
    "EventPage",
    "FlowEntry",
    "FlowPage",
    "FrozenState",
    "MatchPage",
    "PackedFlows",
    "Position",
    "Result",
    "StateMachine",
]


_TOGETHER_MIN: Final = 8
"""So many keys are looked up together; fewer are quicker one by one."""


class Position(NamedTuple):
    """The last entry applied."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    term: int


class FlowPage(NamedTuple):
    """`cursor` empty: that was all. A page may be short, even empty, and have a cursor: go on with it."""

    flows: list[FlowEntry]
    cursor: bytes
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    """The applied index when the page was begun."""


class DuePage(NamedTuple):
    """Rows that were looked at (None: there are none left) and how many of them have a flow whose deadline has come;
    `cursor` empty: the pass through all tables is complete."""

    rows: Rows | None
    due: int
    cursor: bytes


class MatchPage(NamedTuple):
    """Rows that were looked at (None: there are none left) and how many of them a filter means; `cursor` empty: the
    pass is complete."""

    rows: Rows | None
    matching: int
    cursor: bytes


class EventPage(NamedTuple):
    """Events by revision, oldest first; go on at `next_revision`. There is no more now when it is `revision` + 1."""

    changes: list[KvChanges]
    next_revision: int
    revision: int


class StateMachine:
    def __init__(self) -> None:
        self.lock = Lock()
        self._state = State()
        self._applier = Applier(self._state)
        self._position = Position(0, 0)
        self._frozen: list[FrozenState] = []

    def apply(self, index: int, term: int, data: bytes) -> Applied:
        """Apply one entry (b"": nothing but the position). Bad data is an outcome, never an exception, and changes
        nothing.

        Raises ValueError when the entry is not behind the last one: that is the caller's mistake.
        """
        with self.lock:
            if index <= self._state.index:
                raise ValueError(f"entry {index} cannot be applied after entry {self._state.index}")
            applied = self._applier.apply(index, term, data)
            self._position = Position(index, term)
            return applied

    # --- numbers; each is read at once, without the lock

    @property
    def position(self) -> Position:
        return self._position

    @property
    def revision(self) -> int:
        """The KV store's revision; 1 for an empty store, as in etcd."""
        return self._state.store.revision

    @property
    def compacted_revision(self) -> int:
        """0: never compacted."""
        return max(0, self._state.store.compacted)

    @property
    def now_ms(self) -> int:
        """The state's own time, moved by CLOCK (unix ms; 0 before the first)."""
        return self._state.now_ms

    def keys_count(self) -> int:
        return len(self._state.store.index.live)

    def sessions_count(self) -> int:
        return len(self._state.sessions)

    def has_session(self, session: int) -> bool:
        return session in self._state.sessions

    @property
    def flow_records_written(self) -> int:
        """Records of the batches that were applied since this process, or its last snapshot from a leader, began."""
        return self._applier.flow_records

    def sizes(self) -> dict[str, int]:
        """For metrics: keys, kv_history (changes kept), kv_bytes (about), sessions, session_results,
        session_result_bytes, flows, flow_bytes (about), flow_origins.
        """
        with self.lock:
            state = self._state
            return {
                "keys": len(state.store.index.live),
                "kv_history": len(state.store.history),
                "kv_bytes": state.store.bytes,
                "sessions": len(state.sessions),
                "session_results": state.sessions.outcomes_count,
                "session_result_bytes": state.sessions.outcome_bytes,
                "flows": state.tables.count(),
                "flow_bytes": state.tables.size_bytes(),
                "flow_origins": len(state.tables.tables),
            }

    # --- keys

    def kv_range(self, request: rpc_pb2.RangeRequest) -> rpc_pb2.RangeResponse:
        """Raises InvalidArgument, OutOfRange (compacted, future), ResourceExhausted (more than
        RANGE_RESPONSE_BYTES_MAX)."""
        check_range(request)
        if not request.range_end:
            with self.lock:
                return read_range(View(self._state.store), request)
        view = PinnedView(self._state.store, self.lock)
        try:
            return read_range(view, request)
        finally:
            view.close()

    def kv_txn_read(self, request: rpc_pb2.TxnRequest) -> rpc_pb2.TxnResponse:
        """A transaction that only reads (`rocinante.state.kv.txn_is_readonly`). Raises as kv_range does."""
        check_txn(request)
        if not txn_is_readonly(request):
            raise InvalidArgument("request_txn", "writes: it has to be proposed")
        view = PinnedView(self._state.store, self.lock)
        try:
            chosen = choose(view, request)
            check_chosen(view, chosen)
            response = run(view, chosen, None, None)
            response.header.revision = view.revision
            return response
        finally:
            view.close()

    def kv_events_since(
        self,
        start_revision: int,
        key: bytes = b"\0",
        range_end: bytes = b"\0",
        limit: int = limits.KV_EVENTS_PAGE_CHANGES_MAX,
    ) -> EventPage:
        """Events from `start_revision` on, of a key (range_end empty) or a range; by default of all keys.

        Looks at about `limit` changes, at most KV_EVENTS_PAGE_CHANGES_MAX. Raises InvalidArgument; OutOfRange where the
        revision is below the compacted one, then a watcher has to read the keys first.
        """
        if not key:
            raise errors.empty_key()
        if limit < 1:
            raise InvalidArgument("limit", f"{limit} is not positive")
        limit = min(limit, limits.KV_EVENTS_PAGE_CHANGES_MAX)
        with self.lock:
            store = self._state.store
            changes, following = store.changes_since(start_revision, key, range_end, limit)
            return EventPage(changes, following, store.revision)

    # --- flows

    def flows_get(self, keys: Iterable[bytes], now_ms: int, origin: str = "") -> list[FlowEntry | None]:
        """For each key the newest record of all origins (or of this one); None where there is none before its
        deadline."""
        wanted = list(keys)
        found: list[FlowEntry | None] = []
        for at in range(0, len(wanted), limits.FLOW_PIECE_RECORDS):
            with self.lock:
                tables, piece = self._state.tables, wanted[at : at + limits.FLOW_PIECE_RECORDS]
                if len(piece) < _TOGETHER_MIN:
                    found += [tables.get(key, now_ms, origin) for key in piece]
                else:
                    found += tables.get_many(piece, now_ms, origin)
        return found

    def flows_lookup(self, packed_keys: bytes, now_ms: int, origin: str = "") -> PackedFlows:
        """`flows_get` for packed keys of one address family (all of 16 or all of 40 bytes), one behind the other.

        Raises InvalidArgument that names the key which is none; ResourceExhausted where the records of the variable
        kind are more than FLOW_LOOKUP_VARIABLE_BYTES_MAX.
        """
        keys = packed_keys_array(packed_keys)
        asked = LookUp(keys, now_ms)
        for first in range(0, len(keys), limits.FLOW_PIECE_RECORDS):
            with self.lock:
                asked.piece(tables_of(self._state.tables, origin), first, first + limits.FLOW_PIECE_RECORDS)
            asked.check_size()
        return asked.answer()

    def flows_list(self, flow_filter: FlowFilter, limit: int, cursor: bytes, now_ms: int) -> FlowPage:
        """A page of flows, in the order in which they came, origin by origin (see `flows.py` for what it promises).

        Raises InvalidArgument for a cursor that is not one, or a limit out of 1 to FLOW_LIST_RECORDS_MAX.
        """
        if not 1 <= limit <= limits.FLOW_LIST_RECORDS_MAX:
            raise InvalidArgument("limit", f"{limit} is not in 1 to {limits.FLOW_LIST_RECORDS_MAX}")
        found: list[FlowEntry] = []
        looked_at = 0
        index = self._position.index
        while True:
            with self.lock:
                some, cursor, count = self._state.tables.list_piece(flow_filter, limit - len(found), cursor, now_ms)
            found += some
            looked_at += count
            if not cursor or len(found) >= limit or looked_at >= limits.FLOW_SCAN_RECORDS_MAX:
                return FlowPage(found, cursor, index)

    def flows_due(
        self, now_ms: int, cursor: bytes = b"", *, rows_max: int = limits.FLOW_EXPIRE_ROWS_MAX, origin: str = ""
    ) -> DuePage:
        """Look at up to `rows_max` rows for flows whose deadline has come; for FLOW_EXPIRE.

        With `origin` "" the pass goes through all origins, one after the other. Raises InvalidArgument.
        """
        if not 1 <= rows_max <= limits.FLOW_EXPIRE_ROWS_MAX:
            raise InvalidArgument("rows_max", f"{rows_max} is not in 1 to {limits.FLOW_EXPIRE_ROWS_MAX}")
        with self.lock:
            return DuePage(*self._state.tables.due_piece(now_ms, cursor, origin, rows_max))

    def flows_matching(self, asked: FlowFilter, cursor: bytes = b"") -> MatchPage:
        """Look at up to FLOW_EXPIRE_ROWS_MAX rows for what a filter means; for FLOW_DELETE_WHERE. Raises
        InvalidArgument for a cursor that is none."""
        with self.lock:
            return MatchPage(*self._state.tables.matching_piece(asked, cursor, limits.FLOW_EXPIRE_ROWS_MAX))

    def flows_batches(self, asked: FlowFilter, cursor: bytes, now_ms: int) -> tuple[str, list[bytes], bytes]:
        """(origin, batches, cursor) of what a filter means in up to FLOW_BATCH_ROWS rows of one origin; `cursor` empty:
        that was all. Unlike a list it gives what each origin has. Raises InvalidArgument for a cursor that is none."""
        with self.lock:
            return self._state.tables.batch_piece(asked, cursor, now_ms, limits.FLOW_BATCH_ROWS)

    def flows_rows(self, origin: str = "") -> int:
        """Rows that a pass through the flows of an origin ("": of all) looks at."""
        return self._state.tables.rows_used(origin)

    def flows_new(self, origin: str, batch: bytes) -> int:
        """How many flows a valid batch would add now."""
        with self.lock:
            return self._state.tables.count_new(origin, batch)

    def flows_count(self) -> int:
        """All records of all origins, those past their deadline too. Takes no lock."""
        return self._state.tables.count()

    def flows_bytes(self) -> int:
        """What they take, as docs/flow-format.md counts it. Takes no lock."""
        return self._state.tables.size_bytes()

    def release_memory(self) -> Iterator[int]:
        """Give the memory of emptied stores back to the kernel, a step of FLOW_RELEASE_STEP_BYTES at a time (under
        half a millisecond each); yields the bytes of each. What a snapshot still reads waits for the next call."""
        with self.lock:
            tables = self._state.tables
            stores = [store for store in tables.dropped if not store.frozen]
            tables.dropped = [store for store in tables.dropped if store.frozen]
        while stores:
            yield from stores.pop().give_back(limits.FLOW_RELEASE_STEP_BYTES)

    def flows_counts(self) -> dict[str, int]:
        """The same by origin."""
        with self.lock:
            return {name: table.live for name, table in sorted(self._state.tables.tables.items())}

    # --- snapshots

    def freeze(self) -> FrozenState:
        """Hold on to the state as it is now. Raises ResourceExhausted when STATE_FREEZES_MAX are held.

        Takes a few milliseconds at most; close the frozen state as soon as it is not needed any more.
        """
        with self.lock:
            self._frozen = [held for held in self._frozen if not held.closed]
            if len(self._frozen) >= limits.STATE_FREEZES_MAX:
                raise ResourceExhausted(f"{limits.STATE_FREEZES_MAX} snapshots of the state are under way already")
            frozen = FrozenState(self._state, self.lock)
            self._frozen.append(frozen)
            return frozen

    def skip(self, entries: int, revisions: int) -> Position:
        """Leave out log indexes and revisions: for a state that another cluster begins with, after the one that it was
        taken from has gone on. Nothing of it is used twice for two things then: who watches from one of the old
        numbers is told that what it asks for is gone, and begins with what there is.
        """
        with self.lock:
            state = self._state
            state.store.skip(revisions)
            state.index += entries
            self._position = Position(state.index, state.term)
            return self._position

    def restore(self, chunks: Iterable[bytes]) -> Position:
        """Replace everything by a snapshot's content. Raises SnapshotError, a ValueError that says what is wrong.

        Nothing has changed then. States frozen before go on to be what they were.
        """
        state = restore_state(chunks)
        applier = Applier(state)
        with self.lock:
            before = self._state.tables
            state.tables.dropped = [
                *before.dropped,
                *(store for table in before.tables.values() for store in table.stores.values()),
            ]
            self._state, self._applier = state, applier
            self._position = Position(state.index, state.term)
            return self._position
