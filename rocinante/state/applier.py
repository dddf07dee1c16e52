"""Carries out the commands of entries: one state, one entry at a time, every command wholly or not at all.

What a command may be refused with is an outcome as good as any: it is kept for a retry too. An exception of another
kind than RocinanteError is a bug, goes on to the caller and stops the node, for a state machine that guesses would
differ from the others.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

from google.protobuf.message import DecodeError, Message

from rocinante import limits
from rocinante.errors import InvalidArgument, RocinanteError
from rocinante.pb.etcd import rpc_pb2
from rocinante.state.command import Command, CommandError, Kind, unpack
from rocinante.state.events import AppliedEvents, FlowChanges, KvChanges
from rocinante.state.flows import FlowTables
from rocinante.state.kv.store import KvStore
from rocinante.state.kv.writer import KvWriter
from rocinante.state.outcome import Result, decode_outcome, encode_outcome
from rocinante.state.sessions import Sessions

_OPEN: Final = int(Kind.SESSION_OPEN)
_CLOSE: Final = int(Kind.SESSION_CLOSE)
_NOW: Final = struct.Struct(">Q")
_EVENTS_OVERHEAD_BYTES: Final = 200
_M = TypeVar("_M", bound=Message)


class CommandOutcome(NamedTuple):
    """What became of one command. `session` and `seq` are the command's (0, 0 where the entry could not be read)."""

    session: int
    seq: int
    result: Result | RocinanteError


class Applied(NamedTuple):
    """What applying one entry did: an outcome for every command in it, in order, and what changed (None: nothing)."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    outcomes: list[CommandOutcome]
    events: AppliedEvents | None


@dataclass(slots=True)
class State:
    """All that is replicated."""

    index: int = 0
    term: int = 0
    now_ms: int = 0
    store: KvStore = field(default_factory=KvStore)
    tables: FlowTables = field(default_factory=FlowTables)
    sessions: Sessions = field(default_factory=Sessions)


class Applier:
    def __init__(self, state: State) -> None:
        self._state = state
        self._writer = KvWriter(state.store)
        self._kv: list[KvChanges] = []
        self._flows: list[FlowChanges] = []
        self._size_bytes = 0
        self.flow_records = 0
        """Of all batches applied: for metrics, and not a part of the state."""
        self._handlers: dict[int, Callable[[memoryview], Result]] = {
            Kind.KV_PUT: self._kv_put,
            Kind.KV_DELETE: self._kv_delete,
            Kind.KV_TXN: self._kv_txn,
            Kind.KV_COMPACT: self._kv_compact,
            Kind.FLOW_PUT: self._flow_put,
            Kind.FLOW_DELETE: self._flow_delete,
            Kind.FLOW_EXPIRE: self._flow_expire,
            Kind.FLOW_DELETE_WHERE: self._flow_delete_where,
            Kind.CLOCK: self._clock,
        }

    def apply(self, index: int, term: int, data: bytes) -> Applied:
        """Apply one entry."""
        outcomes: list[CommandOutcome] = []
        try:
            # All frames are read before the first command is carried out: an entry that is cut off changes nothing.
            commands = list(unpack(data))
        except CommandError as error:
            commands = []
            outcomes.append(CommandOutcome(0, 0, InvalidArgument("entry", str(error))))
        for command in commands:
            outcomes.append(CommandOutcome(command.session, command.seq, self._command(command)))  # noqa: PERF401
        self._state.index, self._state.term = index, term
        self._state.store.compact_step(limits.KV_COMPACT_STEP_CHANGES)
        if not self._kv and not self._flows:
            return Applied(index, outcomes, None)
        size_bytes = self._size_bytes + _EVENTS_OVERHEAD_BYTES * (len(self._kv) + len(self._flows))
        events = AppliedEvents(index, tuple(self._kv), tuple(self._flows), size_bytes)
        self._kv, self._flows, self._size_bytes = [], [], 0
        return Applied(index, outcomes, events)

    def _command(self, command: Command) -> Result | RocinanteError:
        kind, session, seq, ack, body = command
        sessions = self._state.sessions
        try:
            if kind == _OPEN:
                sessions.open(session, self._state.now_ms)
                return None
            if kind == _CLOSE:
                sessions.close(session)
                return None
            if session:
                kept = sessions.begin(session, seq, ack, self._state.now_ms)
                if kept is not None:
                    return decode_outcome(kept)
        except RocinanteError as error:
            return error.with_traceback(None)
        outcome: Result | RocinanteError
        handler = self._handlers.get(kind)
        if handler is None:
            outcome = InvalidArgument("kind", f"{kind} is not a command that this version knows")
        else:
            try:
                outcome = handler(body)
            except RocinanteError as error:
                error.__cause__ = error.__context__ = None
                outcome = error.with_traceback(None)
        if session:
            sessions.finish(session, seq, encode_outcome(outcome))
        return outcome

    # --- one handler a kind; each changes everything or, where it raises, nothing

    def _kv_changed(self, changes: KvChanges | None) -> None:
        if changes is not None:
            self._kv.append(changes)
            self._size_bytes += self._state.store.committed_bytes

    def _kv_put(self, body: memoryview) -> Result:
        response, changes = self._writer.put(_parse(rpc_pb2.PutRequest, body))
        self._kv_changed(changes)
        return response

    def _kv_delete(self, body: memoryview) -> Result:
        response, changes = self._writer.delete(_parse(rpc_pb2.DeleteRangeRequest, body))
        self._kv_changed(changes)
        return response

    def _kv_txn(self, body: memoryview) -> Result:
        response, changes = self._writer.txn(_parse(rpc_pb2.TxnRequest, body))
        self._kv_changed(changes)
        return response

    def _kv_compact(self, body: memoryview) -> Result:
        return self._writer.compact(_parse(rpc_pb2.CompactionRequest, body))

    def _flows_changed(self, changes: list[FlowChanges]) -> None:
        for change in changes:
            self._flows.append(change)
            self._size_bytes += len(change.written) + len(change.keys.packed)

    def _flow_put(self, body: memoryview) -> Result:
        count, change = self._state.tables.put(body)
        self.flow_records += count
        self._flows_changed([change])
        return count

    def _flow_delete(self, body: memoryview) -> Result:
        count, changes = self._state.tables.delete(bytes(body))
        self._flows_changed(changes)
        return count

    def _flow_expire(self, body: memoryview) -> Result:
        count, changes = self._state.tables.expire(bytes(body))
        self._flows_changed(changes)
        return count

    def _flow_delete_where(self, body: memoryview) -> Result:
        count, changes = self._state.tables.delete_where(bytes(body))
        self._flows_changed(changes)
        return count

    def _clock(self, body: memoryview) -> Result:
        if len(body) != _NOW.size:
            raise InvalidArgument("now", f"{len(body)} bytes; {_NOW.size} are expected")
        now_ms: int = _NOW.unpack(body)[0]
        if now_ms > self._state.now_ms:
            self._state.sessions.expire(self._state.now_ms, now_ms)
            self._state.now_ms = now_ms
        return None


def _parse(message: type[_M], body: memoryview) -> _M:
    """The text does not repeat protobuf's, which may change with its version, and outcomes must be the same on all
    nodes."""
    try:
        return message.FromString(bytes(body))
    except DecodeError:
        raise InvalidArgument("body", f"is not a {message.DESCRIPTOR.full_name}") from None
