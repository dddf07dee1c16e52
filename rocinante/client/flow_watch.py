"""Watching flows: an iterator of changes in the order of the log, over the death of nodes.

A log index means the same on every node, so a stream that breaks goes on elsewhere from the last index that was read. A
snapshot that breaks before its end is begun anew: an event RESET tells the reader to forget what it has.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any

from rocinante.client.connection import Connection
from rocinante.client.flow_messages import entry_from_pb
from rocinante.client.streams import Resumable
from rocinante.client.stubs import flow
from rocinante.client.types import EventKind, FlowChange
from rocinante.errors import Internal, InvalidArgument, OutOfRange
from rocinante.flows.key import KEY_V4_BYTES, KEY_V6_BYTES
from rocinante.pb.v1 import flow_pb2

__all__ = ["FlowWatch"]

_STATE = flow_pb2.WatchFlowsResponse.State


class FlowWatch:
    """Changes of the flow table. Iterate in one thread; `close` from any.

    Iterating raises OutOfRange when the watch fell behind, or asked for what is no longer kept, and may not begin anew
    (`snapshot` off), and Unavailable when no node can be reached within the client's time.
    """

    def __init__(
        self,
        connection: Connection,
        selection: flow_pb2.FlowFilter | None,
        *,
        from_index: int,
        snapshot: bool,
        batches: bool,
    ) -> None:
        if from_index < 0:
            raise InvalidArgument("from_index", f"is {from_index}, must not be negative")
        if snapshot and from_index:
            raise InvalidArgument("from_index", "is given together with snapshot: a snapshot begins where the table is")
        self._connection = connection
        self._request = flow_pb2.WatchFlowsRequest(filter=selection, batches=batches)
        self._may_reset = snapshot
        self._needs_snapshot = snapshot
        self._in_snapshot = False
        self._index = from_index
        self._stream: Resumable[flow_pb2.WatchFlowsResponse] = Resumable(connection, "Watch", self._open)
        self._changes = self._run()

    def __iter__(self) -> Iterator[FlowChange]:
        return self

    def __next__(self) -> FlowChange:
        return next(self._changes)

    def __enter__(self) -> FlowWatch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def index(self) -> int:
        """The last log index of which all was read: where a later watch goes on."""
        return self._index

    def close(self) -> None:
        """End the watch; the iteration ends. May be repeated."""
        self._stream.close()

    def _open(self, endpoint: str) -> Any:
        self._in_snapshot = False
        self._request.snapshot = self._needs_snapshot
        self._request.from_index = 0 if self._needs_snapshot else self._index
        return self._connection.transport.callable(endpoint, flow.WATCH)(self._request)

    def _run(self) -> Iterator[FlowChange]:
        try:
            for answer in self._stream.messages():
                if answer.state == _STATE.FELL_BEHIND:
                    self._fell_behind()
                elif answer.state == _STATE.SNAPSHOT:
                    yield from self._snapshot(answer)
                elif answer.state == _STATE.SNAPSHOT_DONE:
                    yield from self._done(answer)
                else:
                    yield from self._events(answer)
        finally:
            self._stream.close()

    def _snapshot(self, answer: flow_pb2.WatchFlowsResponse) -> Iterator[FlowChange]:
        if not self._in_snapshot:
            self._in_snapshot = True
            yield FlowChange(EventKind.RESET, answer.index)
        yield from map(_change, answer.events)

    def _done(self, answer: flow_pb2.WatchFlowsResponse) -> Iterator[FlowChange]:
        if not self._in_snapshot:  # an empty table has no SNAPSHOT answer
            yield FlowChange(EventKind.RESET, answer.index)
        self._in_snapshot = self._needs_snapshot = False
        self._index = answer.index
        yield FlowChange(EventKind.SYNCED, answer.index)

    def _events(self, answer: flow_pb2.WatchFlowsResponse) -> Iterator[FlowChange]:
        yield from map(_change, answer.events)
        last = answer.events[-1].index if answer.events else 0
        self._index = max(self._index, answer.index, last)

    def _fell_behind(self) -> None:
        if not self._may_reset:
            raise OutOfRange(
                f"what follows log index {self._index} is no longer kept, or this reader is too slow:"
                " watch again with a snapshot"
            )
        self._needs_snapshot = True
        self._stream.restart()


def _change(event: flow_pb2.FlowEvent) -> FlowChange:
    return FlowChange(
        EventKind(int(event.type)),
        event.index,
        event.origin,
        tuple(map(entry_from_pb, event.flows)),
        event.batch,
        tuple(event.keys) or _unpacked(event.packed_keys, event.key_bytes),
    )


def _unpacked(packed: bytes, key_bytes: int) -> tuple[bytes, ...]:
    if not packed:
        return ()
    if key_bytes not in (KEY_V4_BYTES, KEY_V6_BYTES) or len(packed) % key_bytes:
        raise Internal(f"the answer has {len(packed)} bytes of keys of {key_bytes}: is the client older?")
    return tuple(packed[at : at + key_bytes] for at in range(0, len(packed), key_bytes))
