"""Watching keys: an iterator of events in the order of their revisions, none lost and none twice, over the death of
nodes.

Each response holds whole revisions (no fragments are asked for), so the next revision to ask for after it is the one
after its last event, as in etcd's own client (clientv3/watch.go, nextRev).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from rocinante.client.connection import Connection
from rocinante.client.streams import Resumable
from rocinante.client.stubs import kv
from rocinante.client.types import EventKind, KeyValue, KvEvent
from rocinante.errors import FailedPrecondition, InvalidArgument, OutOfRange
from rocinante.pb.etcd import kv_pb2, rpc_pb2

__all__ = ["KvWatch"]


class _Requests:
    """The requests of one watch stream: the create request, and then nothing until the stream ends (its end would end
    the watch)."""

    def __init__(self, first: rpc_pb2.WatchRequest) -> None:
        self._first: rpc_pb2.WatchRequest | None = first
        self._over = threading.Event()

    def __iter__(self) -> _Requests:
        return self

    def __next__(self) -> rpc_pb2.WatchRequest:
        first, self._first = self._first, None
        if first is not None:
            return first
        self._over.wait()
        raise StopIteration

    def finish(self) -> None:
        self._over.set()


class KvWatch:
    """Events of one range of keys. Iterate in one thread; `close` from any.

    Iterating raises OutOfRange when the revision to go on from is compacted (read the keys again and watch from there),
    Unavailable when no node can be reached within the client's time, InvalidArgument or FailedPrecondition when the
    cluster refuses the watch.
    """

    def __init__(
        self,
        connection: Connection,
        key: bytes,
        range_end: bytes,
        *,
        from_revision: int,
        previous: bool,
        puts: bool,
        deletes: bool,
    ) -> None:
        if from_revision < 0:
            raise InvalidArgument("from_revision", f"is {from_revision}, must not be negative")
        if not puts and not deletes:
            raise InvalidArgument("puts", "and deletes are both off: there would be no event")
        self._connection = connection
        self._create = rpc_pb2.WatchCreateRequest(key=key, range_end=range_end, prev_kv=previous)
        if not puts:
            self._create.filters.append(rpc_pb2.WatchCreateRequest.FilterType.NOPUT)
        if not deletes:
            self._create.filters.append(rpc_pb2.WatchCreateRequest.FilterType.NODELETE)
        self._next_revision = from_revision
        self._cancelled_at = -1
        self._stream: Resumable[rpc_pb2.WatchResponse] = Resumable(connection, "Watch", self._open)
        self._events = self._run()

    def __iter__(self) -> Iterator[KvEvent]:
        return self

    def __next__(self) -> KvEvent:
        return next(self._events)

    def __enter__(self) -> KvWatch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def next_revision(self) -> int:
        """Where a later watch would go on; 0 before the first answer of a watch from now on."""
        return self._next_revision

    def close(self) -> None:
        """End the watch; the iteration ends. May be repeated."""
        self._stream.close()

    def _open(self, endpoint: str) -> Any:
        self._create.start_revision = self._next_revision
        requests = _Requests(rpc_pb2.WatchRequest(create_request=self._create))
        call = self._connection.transport.callable(endpoint, kv.WATCH)(requests)
        if not call.add_callback(requests.finish):
            requests.finish()
        return call

    def _run(self) -> Iterator[KvEvent]:
        try:
            for answer in self._stream.messages():
                if answer.canceled:
                    self._cancelled(answer)
                    continue
                if answer.created and not self._next_revision:
                    self._next_revision = answer.header.revision + 1
                for event in answer.events:
                    yield _event(event)
                if answer.events:
                    self._next_revision = answer.events[-1].kv.mod_revision + 1
        finally:
            self._stream.close()

    def _cancelled(self, answer: rpc_pb2.WatchResponse) -> None:
        """The node ended the watch: raise, or have it opened again where it only was too slow."""
        if answer.compact_revision:
            raise OutOfRange(
                f"revision {self._next_revision} is compacted, {answer.compact_revision} is the first that is kept:"
                " read the keys again and watch from there"
            )
        if self._cancelled_at == self._next_revision:
            raise FailedPrecondition(answer.cancel_reason or "the node ended the watch")
        self._cancelled_at = self._next_revision
        self._stream.restart()


def _event(event: kv_pb2.Event) -> KvEvent:
    before = KeyValue.from_pb(event.prev_kv) if event.HasField("prev_kv") else None
    return KvEvent(EventKind(int(event.type)), KeyValue.from_pb(event.kv), before)
