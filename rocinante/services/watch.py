"""etcdserverpb.Watch: several watches on one stream, each from now on or from a revision of the history.

One coroutine owns a stream's watches and writes its answers; another one only reads requests, into a bounded queue.
Live events come from one watch of the node a stream, opened before the store's revision is looked at, so that
history and live events overlap and nothing falls between.

Backpressure: while a client does not read, nothing more is taken from the node's queue. When that overflows, the
watches of the stream are canceled with a reason that says where to start again; the stream stays open.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

from rocinante import limits
from rocinante.errors import OutOfRange, ResourceExhausted, RocinanteError
from rocinante.pb.etcd import kv_pb2, rpc_pb2
from rocinante.ports import Watch
from rocinante.services import header
from rocinante.services.call import Call, Calls, Handlers
from rocinante.services.wake import Wake
from rocinante.services.watcher import Watcher, WatchResponse
from rocinante.state.events import KvChanges

SERVICE = "etcdserverpb.Watch"
NO_WATCH = -1
"""As watch_id: of no watch (clientv3.InvalidWatchID), or of all of them (progress)."""
COMPACTED = "etcdserver: mvcc: required revision has been compacted"
DUPLICATE_ID = "etcdserver: mvcc: duplicate watch ID provided on the WatchStream"
EMPTY_RANGE = "etcdserver: mvcc: watcher range is empty"


class WatchService:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def handlers(self) -> Handlers:
        path = f"/{SERVICE}/Watch"
        return {path: self._calls.duplex(path, rpc_pb2.WatchRequest, self.watch)}

    async def watch(self, call: Call, requests: AsyncIterator[rpc_pb2.WatchRequest]) -> None:
        """Runs until the client closes its side, or a request cannot be read."""
        stream = _Stream(self._calls, call)
        reader = asyncio.create_task(stream.read(requests))
        try:
            while await stream.turn():
                pass
        finally:
            # First what must not be left: the wait below may be cancelled once more.
            stream.close()
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)


class _Stream:
    """The watches of one stream. All but `read` is called by one coroutine."""

    def __init__(self, calls: Calls, call: Call) -> None:
        self._calls = calls
        self._call = call
        self._state = calls.node.state
        self._loop = asyncio.get_running_loop()
        self._requests: asyncio.Queue[rpc_pb2.WatchRequest | RocinanteError | None] = asyncio.Queue(
            limits.WATCH_REQUESTS_MAX
        )
        self._wake = Wake()
        self._source: Watch | None = None
        self._seen_revision = 0
        """Everything up to here was taken from the source (or lies before it)."""
        self._watchers: dict[int, Watcher] = {}
        self._next_id = 0
        self._progress_asked = False

    async def read(self, requests: AsyncIterator[rpc_pb2.WatchRequest]) -> None:
        """Queue the client's requests; None at their end."""
        end: RocinanteError | None = None
        try:
            async for request in requests:
                await self._requests.put(request)
                self._wake()
        except RocinanteError as error:
            end = error
        await self._requests.put(end)
        self._wake()

    async def turn(self) -> bool:
        """Do what there is to do, or wait for it. False when the client is done."""
        while not self._requests.empty():
            request = self._requests.get_nowait()
            if request is None:
                return False
            if isinstance(request, RocinanteError):
                raise request
            await self._handle(request)
        behind = [watcher for watcher in self._watchers.values() if not watcher.synced]
        for watcher in behind:
            await self._catch_up(watcher)
        busy = await self._take_live() or bool(behind)
        await self._send_progress()
        if not busy and self._requests.empty():
            await self._wake.wait(self._patience_s())
        return True

    def close(self) -> None:
        if self._source is not None:
            self._source.close()
            self._source = None

    # --- requests

    async def _handle(self, request: rpc_pb2.WatchRequest) -> None:
        kind = request.WhichOneof("request_union")
        if kind == "create_request":
            await self._create(request.create_request)
        elif kind == "cancel_request":
            await self._cancel(request.cancel_request.watch_id)
        elif kind == "progress_request":
            self._progress_asked = True

    async def _create(self, request: rpc_pb2.WatchCreateRequest) -> None:
        try:
            self._open_source()
        except ResourceExhausted as error:
            await self._refuse(error.message)
            return
        revision = self._state.revision
        watcher = Watcher.from_request(request.watch_id or self._free_id(), request, revision)
        if request.start_revision < 0:
            await self._refuse(COMPACTED)
        elif watcher.is_empty_range:
            await self._refuse(EMPTY_RANGE)
        elif watcher.id in self._watchers:
            await self._refuse(DUPLICATE_ID)
        elif len(watcher.key) > limits.KEY_BYTES_MAX or len(watcher.range_end) > limits.KEY_BYTES_MAX:
            await self._refuse(f"key: at most {limits.KEY_BYTES_MAX} bytes")
        elif len(self._watchers) >= limits.WATCHES_PER_STREAM_MAX:
            await self._refuse(f"there are {limits.WATCHES_PER_STREAM_MAX} watches on this stream already")
        else:
            watcher.progress_due_s = self._loop.time() + limits.WATCH_PROGRESS_INTERVAL_S
            await self._send(WatchResponse(watch_id=watcher.id, created=True), revision)
            self._watchers[watcher.id] = watcher

    async def _refuse(self, reason: str) -> None:
        response = WatchResponse(watch_id=NO_WATCH, created=True, canceled=True, cancel_reason=reason)
        await self._send(response, self._state.revision)

    async def _cancel(self, identifier: int) -> None:
        if self._watchers.pop(identifier, None) is not None:
            await self._send(WatchResponse(watch_id=identifier, canceled=True), self._state.revision)

    def _free_id(self) -> int:
        while self._next_id in self._watchers:
            self._next_id += 1
        identifier = self._next_id
        self._next_id += 1
        return identifier

    # --- events

    def _open_source(self) -> None:
        if self._source is None:
            self._source = self._calls.node.watch(0)
            self._source.on_events(self._wake)
            self._seen_revision = self._state.revision

    async def _catch_up(self, watcher: Watcher) -> None:
        """Send one page of the history."""
        try:
            page = self._state.kv_events_since(
                watcher.next_revision, watcher.key, watcher.range_end, limits.WATCH_PAGE_EVENTS_MAX
            )
        except OutOfRange:
            del self._watchers[watcher.id]
            compacted = self._state.compacted_revision
            canceled = WatchResponse(
                watch_id=watcher.id, canceled=True, compact_revision=compacted, cancel_reason=COMPACTED
            )
            await self._send(canceled, self._state.revision)
            return
        await self._send_events(watcher, watcher.select(_taken_out(page.changes)), page.revision)
        watcher.next_revision = max(watcher.next_revision, page.next_revision)
        watcher.synced = page.next_revision > page.revision

    async def _take_live(self) -> bool:
        """Send what the node's watch has; whether there was something."""
        source = self._source
        if source is None:
            return False
        changes: list[KvChanges] = []
        taken = size = 0
        try:
            # No more than is sent in one go: what waits here is not counted in the bound of the node's queue.
            while taken < limits.WATCH_DRAIN_ENTRIES_MAX and size < limits.WATCH_RESPONSE_BYTES_MAX:
                if (events := source.get(0.0)) is None:
                    break
                changes.extend(events.kv)
                taken += 1
                size += events.size_bytes
        except OutOfRange:
            await self._cancel_all_slow()
            return True
        if changes:
            self._seen_revision = max(self._seen_revision, changes[-1].revision)
        for watcher in list(self._watchers.values()):
            if watcher.synced:
                await self._send_events(watcher, watcher.select(changes), self._seen_revision)
        return taken > 0

    async def _send_events(self, watcher: Watcher, revisions: Iterator[list[kv_pb2.Event]], at: int) -> None:
        for response in watcher.responses(revisions):
            await self._send(response, at)
            watcher.progress_due_s = self._loop.time() + limits.WATCH_PROGRESS_INTERVAL_S

    async def _cancel_all_slow(self) -> None:
        """The node's queue overflowed: what is lost cannot be told, but from where on it can be read again."""
        self.close()
        watchers, self._watchers = self._watchers, {}
        for watcher in watchers.values():
            reason = f"etcdserver: watch canceled: too slow; start again at revision {watcher.next_revision}"
            await self._send(
                WatchResponse(watch_id=watcher.id, canceled=True, cancel_reason=reason), self._state.revision
            )

    # --- progress

    async def _send_progress(self) -> None:
        watchers = list(self._watchers.values())
        if self._progress_asked and all(watcher.synced for watcher in watchers):
            self._progress_asked = False
            await self._send(WatchResponse(watch_id=NO_WATCH), self._seen_revision or self._state.revision)
        now_s = self._loop.time()
        for watcher in watchers:
            if watcher.progress_notify and watcher.synced and watcher.progress_due_s <= now_s:
                watcher.progress_due_s = now_s + limits.WATCH_PROGRESS_INTERVAL_S
                await self._send(WatchResponse(watch_id=watcher.id), self._seen_revision)

    def _patience_s(self) -> float | None:
        due_s = [watcher.progress_due_s for watcher in self._watchers.values() if watcher.progress_notify]
        return max(0.0, min(due_s) - self._loop.time()) if due_s else None

    async def _send(self, response: WatchResponse, revision: int) -> None:
        response.header.revision = revision
        header.fill(response.header, self._calls.leader)
        await self._call.write(response)


def _taken_out(changes: list[KvChanges]) -> Iterator[KvChanges]:
    """Each in turn, and nobody else holds it then: a page of large values is not kept while the client reads."""
    changes.reverse()
    while changes:
        yield changes.pop()
