"""One watch of a stream: what it asks for, how far it has come, and its answers. No I/O.

`next_revision` is the first revision that the client has not been told of: what is below it, from the history or
from live events, is passed over, so that the two may overlap and every event is sent once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rocinante import limits
from rocinante.pb.etcd import kv_pb2, rpc_pb2
from rocinante.state.events import KvChanges

WatchResponse = rpc_pb2.WatchResponse
FROM_KEY = b"\0"
"""As `range_end`: every key from `key` on. As `key`: the smallest one."""


@dataclass(slots=True)
class Watcher:
    """A watch under way. `synced`: it gets live events; else it is still reading the history."""

    id: int
    key: bytes
    range_end: bytes
    next_revision: int
    synced: bool
    prev_kv: bool
    progress_notify: bool
    fragment: bool
    skip_puts: bool
    skip_deletes: bool
    progress_due_s: float = 0.0

    @classmethod
    def from_request(cls, identifier: int, request: rpc_pb2.WatchCreateRequest, revision: int) -> Watcher:
        """`revision` is the store's: what follows it comes live, what lies before it from the history."""
        start = request.start_revision or revision + 1
        filters = request.filters
        return cls(
            id=identifier,
            key=request.key or FROM_KEY,
            range_end=request.range_end,
            next_revision=start,
            synced=start > revision,
            prev_kv=request.prev_kv,
            progress_notify=request.progress_notify,
            fragment=request.fragment,
            skip_puts=rpc_pb2.WatchCreateRequest.NOPUT in filters,
            skip_deletes=rpc_pb2.WatchCreateRequest.NODELETE in filters,
        )

    @property
    def is_empty_range(self) -> bool:
        """Whether no key can be meant."""
        return self.range_end not in (b"", FROM_KEY) and self.range_end <= self.key

    def wants(self, event: kv_pb2.Event) -> bool:
        key = event.kv.key
        if not self.range_end:
            if key != self.key:
                return False
        elif key < self.key or (self.range_end != FROM_KEY and key >= self.range_end):
            return False
        return not (self.skip_deletes if event.type == kv_pb2.Event.DELETE else self.skip_puts)

    def select(self, changes: Iterable[KvChanges]) -> Iterator[list[kv_pb2.Event]]:
        """The events to send, by revision; `next_revision` moves along, behind all that was looked at.

        One revision at a time: what a client does not read is not copied for it either.
        """
        for change in changes:
            if change.revision < self.next_revision:
                continue
            self.next_revision = change.revision + 1
            events = [self._sent(event) for event in change.events if self.wants(event)]
            if events:
                yield events

    def _sent(self, event: kv_pb2.Event) -> kv_pb2.Event:
        if self.prev_kv or not event.HasField("prev_kv"):
            return event
        return kv_pb2.Event(type=event.type, kv=event.kv)

    def responses(self, revisions: Iterable[list[kv_pb2.Event]]) -> Iterator[WatchResponse]:
        """Answers of at most about `limits.WATCH_RESPONSE_BYTES_MAX` each.

        The events of one revision stay together; only a single revision that is larger is split, and its parts say
        so (`fragment`) to a client that asked for it.
        """
        gathered: list[kv_pb2.Event] = []
        size = 0
        for events in revisions:
            added = sum(event.ByteSize() for event in events)
            if gathered and size + added > limits.WATCH_RESPONSE_BYTES_MAX:
                response = WatchResponse(watch_id=self.id, events=gathered)
                gathered, size = [], 0  # not held while the client takes its time
                yield response
            if added > limits.WATCH_RESPONSE_BYTES_MAX:
                yield from self._fragments(events)
            else:
                gathered.extend(events)
                size += added
        if gathered:
            yield WatchResponse(watch_id=self.id, events=gathered)

    def _fragments(self, events: list[kv_pb2.Event]) -> Iterator[WatchResponse]:
        part: list[kv_pb2.Event] = []
        size = 0
        for event in events:
            added = event.ByteSize()
            if part and size + added > limits.WATCH_RESPONSE_BYTES_MAX:
                yield WatchResponse(watch_id=self.id, events=part, fragment=self.fragment)
                part, size = [], 0
            part.append(event)
            size += added
        yield WatchResponse(watch_id=self.id, events=part)
