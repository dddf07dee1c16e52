"""`/v1/events`: what changes, as server-sent events (HTML standard, section 9.2).

    event: kv           one change of a key                      id: its log index
    event: flow         flows written, deleted or expired        id: its log index
    event: role         role, term or leader of this node changed (and once at the start)
    event: status       once a second what /v1/status says, with counts since the stream began; only when asked for
    event: fell-behind  the stream ends: it was too slow, or asked for what is no longer kept

The filters of a list of flows hold here too; of a flow that went only what its key says is known. Several events may
be of one log index; the last of them bears the `id`, so that `Last-Event-ID` always names an entry that was received
whole. `fell-behind` bears the index applied now: who reads the state again and reconnects misses nothing. On a node
that is not ready there are `role` and `status` only. Each stream holds a thread, so there are few places; the next
asker gets 429.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from rocinante import limits
from rocinante.errors import InvalidArgument, OutOfRange, Unauthenticated, Unavailable
from rocinante.flow_json import record_to_json
from rocinante.flows import BatchInfo, FlowError, FlowFilter, iter_pairs, unpack_record, validate_batch
from rocinante.flows.selecting import select_batch, select_keys
from rocinante.pb.etcd import kv_pb2
from rocinante.ports import Watch
from rocinante.rest.context import RestContext, wait
from rocinante.rest.flow_filter import parse_filter
from rocinante.rest.http import Reply, Request, parse_integer
from rocinante.rest.kv import kv_to_json
from rocinante.rest.status import leader_to_json, status_to_json
from rocinante.state.events import AppliedEvents, FlowChange, FlowChanges, PackedKeys
from rocinante.tokens import REFUSAL, offered_in_header

TYPES: Final = ("kv", "flow", "role", "status")
DEFAULT_TYPES: Final = ("kv", "flow", "role")
ALL_FLOWS: Final = FlowFilter()
CHUNK_BYTES: Final = 64 * limits.KIB
EVENT_STREAM_TYPE: Final = "text/event-stream"
BEGIN: Final = b"retry: 2000\n\n"
HEARTBEAT: Final = b": still here\n\n"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a stream's reader asked for."""

    types: frozenset[str]
    prefix: bytes = b""
    summary: bool = False
    from_index: int = 0
    flows: FlowFilter = ALL_FLOWS


def get_events(context: RestContext, request: Request) -> Reply:
    """Open a stream."""
    wanted = _parse(request)
    if request.method == "HEAD":
        return Reply(b"", content_type=EVENT_STREAM_TYPE)
    stream = EventStream(context, wanted, request.is_connected)
    # Now it would be ended; its token may have been taken away since the request was let in.
    if not context.keyring.tokens.allows(offered_in_header(request.header("authorization"))):
        stream.close()
        raise Unauthenticated(REFUSAL)
    return Reply(stream, content_type=EVENT_STREAM_TYPE)


def _parse(request: Request) -> Wanted:
    query = request.query
    types = query.many("types") or list(DEFAULT_TYPES)
    for name in types:
        if name not in TYPES:
            raise InvalidArgument("types", f"has {name[:40]!r}, which is not one of {', '.join(TYPES)}")
    from_index = query.integer("from_index", 0)
    if last := request.header("last-event-id"):
        from_index = parse_integer("Last-Event-ID", last, least=0, most=2**63 - 1)
    prefix = query.text("prefix").encode()
    summary = query.choice("flows", ("full", "summary"), "full") == "summary"
    flow_filter = parse_filter(query)
    query.finish()
    return Wanted(frozenset(types), prefix, summary, from_index, flow_filter)


class EventStream:
    """An iterator of chunks for one reader; `close` gives its place back. Used by one thread."""

    def __init__(self, context: RestContext, wanted: Wanted, is_connected: Callable[[], bool]) -> None:
        self._context, self._wanted, self._is_connected = context, wanted, is_connected
        self._awake = threading.Event()
        self._began_at = context.streams_ended
        self._give_back = context.take_stream(self._awake.set)
        self._watch: Watch | None = None
        self._role: dict[str, Any] = {}
        self._counts = {"entries": 0, "kv_events": 0, "flow_updates": 0}
        self._written_s, self._status_s = time.monotonic(), 0.0
        self._lost = ""
        try:
            if self._bears_changes and wanted.from_index > context.node.status().applied:
                # Read at a node that is further than this one: wait until this one has what is committed.
                timeout_s = limits.REQUEST_TIMEOUT_S
                wait(context.node.read(timeout_s=timeout_s), timeout_s, changes=False)
            self._watch = self._open(wanted.from_index)
        except OutOfRange as error:
            self._lost = error.message
        except Unavailable:
            if self._bears_changes:  # role and status are streamed by a node that is not ready, too
                self._give_back()
                raise
        except BaseException:
            self._give_back()
            raise
        self._chunks = self._run()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._chunks)

    def close(self) -> None:
        if self._watch is not None:
            self._watch.close()
        self._give_back()

    def _open(self, from_index: int) -> Watch:
        watch = self._context.node.watch(from_index)
        watch.on_events(self._awake.set)
        return watch

    @property
    def _bears_changes(self) -> bool:
        return bool(self._wanted.types & {"kv", "flow"})

    def _open_again(self) -> Watch | None:
        """A node that is not ready tells its role and status, and has nothing to count."""
        try:
            return self._open(0)
        except Unavailable:
            return None

    @property
    def _is_ended(self) -> bool:
        return self._context.closing.is_set() or self._context.streams_ended != self._began_at

    def _run(self) -> Iterator[bytes]:
        yield BEGIN
        while not self._lost and not self._is_ended and self._is_connected():
            try:
                yield from self._turn()
            except OutOfRange as error:
                self._fall_behind(error.message)
            except Unavailable:
                return  # the node stops
        if self._lost:
            index = self._context.node.status().applied
            yield _message("fell-behind", {"message": self._lost, "index": index}, index)

    def _turn(self) -> Iterator[bytes]:
        """Send what has changed; wait for it for a short time only, so that role, status and the reader are looked
        after.
        """
        yield from self._observe()
        if self._watch is None:
            self._watch = self._open_again()
        self._awake.wait(limits.REST_EVENT_POLL_S)
        self._awake.clear()
        if self._watch is None:
            return
        events = self._watch.get(0)
        buffer = bytearray()
        while events is not None:
            for message in self._messages(events):
                buffer += message
                if len(buffer) > CHUNK_BYTES:
                    yield self._written(bytes(buffer))
                    buffer.clear()
            events = self._watch.get(0)
        if buffer:
            yield self._written(bytes(buffer))

    def _written(self, chunk: bytes) -> bytes:
        self._written_s = time.monotonic()
        return chunk

    def _observe(self) -> Iterator[bytes]:
        now_s = time.monotonic()
        status = self._context.node.status()
        role = {"role": status.role, "term": status.term, **leader_to_json(status)}
        if role != self._role:
            self._role = role
            if "role" in self._wanted.types:
                yield self._written(_message("role", role))
        if "status" in self._wanted.types and now_s - self._status_s >= limits.REST_EVENT_POLL_S:
            self._status_s = now_s
            yield self._written(_message("status", {"status": status_to_json(status), "counts": self._counts}))
        if now_s - self._written_s > limits.REST_EVENT_HEARTBEAT_S:
            yield self._written(HEARTBEAT)

    def _fall_behind(self, message: str) -> None:
        """A stream of numbers begins again with what is now; one of changes must not hide that some are missing."""
        if self._bears_changes:
            self._lost = message
            return
        if self._watch is not None:
            self._watch.close()
        self._watch = self._open(0)

    def _messages(self, events: AppliedEvents) -> Iterator[bytes]:
        self._counts["entries"] += 1
        self._counts["kv_events"] += sum(len(changes.events) for changes in events.kv)
        self._counts["flow_updates"] += sum(
            _count(changes) for changes in events.flows if changes.kind is FlowChange.PUT
        )
        last: bytes = b""
        for name, content in self._contents(events):
            if last:
                yield last + b"\n"
            last = _lines(name, content | {"index": events.index})
        if last:
            yield last + b"id: %d\n\n" % events.index

    def _contents(self, events: AppliedEvents) -> Iterator[tuple[str, dict[str, Any]]]:
        if "kv" in self._wanted.types:
            for kv_changes in events.kv:
                for event in kv_changes.events:
                    if event.kv.key.startswith(self._wanted.prefix):
                        yield "kv", _kv_content(event, kv_changes.revision)
        if "flow" in self._wanted.types:
            for flow_changes in events.flows:
                chosen = _chosen(flow_changes, self._wanted.flows)
                for content in _flow_contents(chosen, self._wanted.summary) if chosen is not None else ():
                    yield "flow", content


def _kv_content(event: kv_pb2.Event, revision: int) -> dict[str, Any]:
    is_put = event.type == kv_pb2.Event.PUT
    return {"type": "put" if is_put else "delete", "revision": revision} | kv_to_json(event.kv, with_value=is_put)


def _chosen(changes: FlowChanges, asked: FlowFilter) -> FlowChanges | None:
    """What of the changes the filter means; of keys that went, those that it may have meant."""
    if asked.is_empty:
        return changes
    if asked.origin and changes.origin != asked.origin:
        return None
    if changes.kind is FlowChange.PUT:
        batch = changes.batch
        chosen = select_batch(batch, _info(batch), asked)
        return changes._replace(written=chosen) if chosen else None
    packed = select_keys(changes.keys.packed, changes.keys.key_bytes, asked)
    return changes._replace(keys=PackedKeys(packed, changes.keys.key_bytes)) if packed else None


def _flow_contents(changes: FlowChanges, summary: bool) -> Iterator[dict[str, Any]]:
    head: dict[str, Any] = {"type": changes.kind.name.lower(), "origin": changes.origin, "records": _count(changes)}
    if summary:
        yield head
    elif changes.kind is FlowChange.PUT:
        batch = changes.batch
        pairs = iter_pairs(batch, _info(batch))
        while some := list(islice(pairs, limits.REST_EVENT_FLOWS_MAX)):
            flows = [record_to_json(unpack_record(key, value), changes.origin) for key, value in some]
            yield head | {"records": len(flows), "flows": flows}
    else:
        keys = iter(changes.keys)
        while ids := [key.hex() for key in islice(keys, limits.REST_EVENT_FLOWS_MAX)]:
            yield head | {"records": len(ids), "ids": ids}


def _count(changes: FlowChanges) -> int:
    if changes.kind is not FlowChange.PUT:
        return len(changes.keys)
    try:
        return _info(changes.batch).count
    except FlowError:
        return 0  # the state machine refused it too: nothing was written


def _info(batch: bytes) -> BatchInfo:
    return validate_batch(batch, records_max=limits.FLOW_BATCH_RECORDS_MAX, bytes_max=limits.FLOW_BATCH_BYTES_MAX)


def _lines(name: str, content: dict[str, Any]) -> bytes:
    """An event without its id and its end. JSON has no line ends inside, so one `data:` line does."""
    data = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return f"event: {name}\ndata: {data}\n".encode()


def _message(name: str, content: dict[str, Any], identifier: int | None = None) -> bytes:
    return _lines(name, content) + (b"" if identifier is None else b"id: %d\n" % identifier) + b"\n"
