"""The replicated state machine: keys, flows, sessions. PURE and deterministic: equal entries give equal states, on
every node.

`apply` is called by one thread, in log order. All other methods are for any thread; each takes `lock` for a bounded
time only: a read that looks at much does so in pieces, at one revision, and lets `apply` go on in between. (The lock is
the one thing of a thread in `state/`; no time, randomness or I/O comes in.) What a reading method returns belongs to
the caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from rocinante.errors import RocinanteError
from rocinante.flows import FlowFilter
from rocinante.pb.etcd import rpc_pb2
from rocinante.state.events import AppliedEvents, KvChanges

Result = (
    rpc_pb2.PutResponse | rpc_pb2.DeleteRangeResponse | rpc_pb2.TxnResponse | rpc_pb2.CompactionResponse | int | None
)
"""What a command answers: KV_* the etcd response (of its header only `revision` is set), FLOW_PUT the number of
records, FLOW_DELETE and FLOW_EXPIRE the number deleted, the others None."""


class CommandOutcome(NamedTuple):
    """What became of one command. `session` and `seq` are as the command has them (0, 0 where the entry could not be
    read)."""

    session: int
    seq: int
    result: Result | RocinanteError


class Applied(NamedTuple):
    """What applying one entry did: an outcome for every command in it, in order, and what changed (None: nothing)."""

    index: int
    outcomes: list[CommandOutcome]
    events: AppliedEvents | None


class Position(NamedTuple):
    """The last entry applied."""

    index: int
    term: int


class FlowEntry(NamedTuple):
    """A flow as the tables have it; `rocinante.flows.unpack_record(key, value)` makes a record of it."""

    origin: str
    key: bytes
    value: bytes


class FlowPage(NamedTuple):
    """`cursor` empty: that was all. A page may be short, even empty, and have a cursor: go on with it."""

    flows: list[FlowEntry]
    cursor: bytes
    index: int
    """The applied index when the page was begun."""


class DuePage(NamedTuple):
    """Keys of one origin whose deadline has come; `cursor` empty: the pass through all tables is complete."""

    origin: str
    keys: list[bytes]
    cursor: bytes


class EventPage(NamedTuple):
    """Events by revision, oldest first; go on at `next_revision`. There is no more now when it is `revision` + 1."""

    changes: list[KvChanges]
    next_revision: int
    revision: int


class FrozenState:
    """The state as it was after one entry. Holds memory until `close` (or the end of a `with`); usable from another
    thread."""

    index: int
    term: int
    revision: int

    def chunks(self, chunk_bytes: int) -> Iterator[bytes]:
        """The snapshot's content, in chunks of this size (the last one shorter). May be called more than once."""
        raise NotImplementedError

    def digest(self) -> bytes:
        """BLAKE2b-256 of the content: equal on all nodes after the same entry."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go. O(1) under the lock: there is nothing to merge."""
        raise NotImplementedError

    def __enter__(self) -> FrozenState:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class StateMachine:
    def apply(self, index: int, term: int, data: bytes) -> Applied:
        """Apply one entry (b"": nothing but the position). Bad data is an outcome, never an exception, and changes
        nothing."""
        raise NotImplementedError

    @property
    def position(self) -> Position:
        raise NotImplementedError

    @property
    def revision(self) -> int:
        """The KV store's revision; 1 for an empty store, as in etcd."""
        raise NotImplementedError

    @property
    def compacted_revision(self) -> int:
        """0: never compacted."""
        raise NotImplementedError

    @property
    def now_ms(self) -> int:
        """The state's own time, moved by CLOCK (unix ms; 0 before the first)."""
        raise NotImplementedError

    def keys_count(self) -> int:
        raise NotImplementedError

    def sessions_count(self) -> int:
        raise NotImplementedError

    def has_session(self, session: int) -> bool:
        raise NotImplementedError

    def sizes(self) -> dict[str, int]:
        """For metrics: keys, kv_history, kv_bytes, sessions, session_results, session_result_bytes, flows,
        flow_origins."""
        raise NotImplementedError

    def kv_range(self, request: rpc_pb2.RangeRequest) -> rpc_pb2.RangeResponse:
        """Raises InvalidArgument, OutOfRange (compacted, future), ResourceExhausted (more than
        RANGE_RESPONSE_BYTES_MAX)."""
        raise NotImplementedError

    def kv_txn_read(self, request: rpc_pb2.TxnRequest) -> rpc_pb2.TxnResponse:
        """A transaction that only reads (`rocinante.state.kv.txn_is_readonly`). Raises as kv_range does."""
        raise NotImplementedError

    def kv_events_since(
        self, start_revision: int, key: bytes = b"\0", range_end: bytes = b"\0", limit: int = 1000
    ) -> EventPage:
        """Events from `start_revision` on. Raises OutOfRange where that is below the compacted revision."""
        raise NotImplementedError

    def flows_get(self, keys: Iterable[bytes], now_ms: int, origin: str = "") -> list[FlowEntry | None]:
        """For each key the newest record of all origins (or of this one); None where there is none before its
        deadline."""
        raise NotImplementedError

    def flows_list(self, flow_filter: FlowFilter, limit: int, cursor: bytes, now_ms: int) -> FlowPage:
        """A page of flows. Raises InvalidArgument for a cursor that is not one, or a limit out of range."""
        raise NotImplementedError

    def flows_due(self, now_ms: int, limit: int, cursor: bytes = b"", origin: str = "") -> DuePage:
        """Look at up to `limit` records for those whose deadline has come; for FLOW_EXPIRE."""
        raise NotImplementedError

    def flows_count(self) -> int:
        """All records of all origins, those past their deadline too."""
        raise NotImplementedError

    def flows_counts(self) -> dict[str, int]:
        """The same by origin."""
        raise NotImplementedError

    def freeze(self) -> FrozenState:
        """Hold on to the state as it is now. Raises ResourceExhausted when STATE_FREEZES_MAX are held."""
        raise NotImplementedError

    def restore(self, chunks: Iterable[bytes]) -> Position:
        """Replace everything by a snapshot's content. Raises ValueError that says what is wrong; then nothing has
        changed."""
        raise NotImplementedError
