"""What the flow table's changes look like to one watch: filtered, as objects or as batches, in pieces of a bounded
size. No I/O.

Events are made as bytes (`rocinante.v1.FlowEvent`), so that a batch that nobody filters is copied once, into the
answer, and never parsed: what a watcher of everything costs does not depend on the number of records.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from rocinante import convert, limits
from rocinante.flows import FlowFilter, iter_pairs, unpack_record, validate_batch
from rocinante.flows.selecting import select_batch, select_keys
from rocinante.pb.v1 import flow_pb2 as pb
from rocinante.state.events import AppliedEvents, FlowChange, FlowChanges
from rocinante.state.machine import FlowEntry

_EVENT_TYPES: Final = {
    FlowChange.PUT: pb.FlowEvent.PUT,
    FlowChange.DELETE: pb.FlowEvent.DELETE,
    FlowChange.EXPIRE: pb.FlowEvent.EXPIRE,
}
_LENGTH_DELIMITED: Final = 2


def _tag(message: type[pb.FlowEvent | pb.WatchFlowsResponse], name: str) -> bytes:
    """What stands before a field of bytes or a message in protobuf's encoding."""
    return _varint(message.DESCRIPTOR.fields_by_name[name].number << 3 | _LENGTH_DELIMITED)


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


_BATCH: Final = _tag(pb.FlowEvent, "batch")
_EVENTS: Final = _tag(pb.WatchFlowsResponse, "events")


class EncodedEvent:
    """A FlowEvent's bytes, in parts that are joined once."""

    __slots__ = ("parts", "size")

    def __init__(self, *parts: bytes) -> None:
        self.size = sum(map(len, parts))
        self.parts = (_EVENTS, _varint(self.size), *parts)

    @classmethod
    def of(cls, event: pb.FlowEvent) -> EncodedEvent:
        return cls(event.SerializeToString())

    @classmethod
    def of_batch(cls, index: int, origin: str, batch: bytes) -> EncodedEvent:
        head = pb.FlowEvent(index=index, origin=origin).SerializeToString()
        return cls(head, _BATCH, _varint(len(batch)), batch)


@dataclass(frozen=True)
class FlowView:
    """A watch's filter and form."""

    flow_filter: FlowFilter
    batches: bool
    whole: bool = field(init=False)
    """Batches are passed on as they were written (at most those of one origin)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "whole", self.batches and replace(self.flow_filter, origin="").is_empty)

    def events(self, applied: AppliedEvents) -> list[EncodedEvent]:
        """Everything of one log entry that this watch wants."""
        made: list[EncodedEvent] = []
        origin = self.flow_filter.origin
        for change in applied.flows:
            if origin and change.origin != origin:
                continue
            if change.kind == FlowChange.PUT:
                made.extend(self._put(change, applied.index))
            else:
                made.extend(self._gone(change, applied.index))
        return made

    def _put(self, change: FlowChanges, index: int) -> Iterator[EncodedEvent]:
        batch = change.batch
        if self.whole:
            yield EncodedEvent.of_batch(index, change.origin, batch)
            return
        bounds = {"records_max": limits.FLOW_BATCH_RECORDS_MAX, "bytes_max": limits.FLOW_BATCH_BYTES_MAX}
        batch = select_batch(batch, validate_batch(batch, **bounds), self.flow_filter)
        if not batch:
            return
        if self.batches:
            yield EncodedEvent.of_batch(index, change.origin, batch)
            return
        pairs = list(iter_pairs(batch, validate_batch(batch, **bounds)))
        for part in _parts(pairs, limits.FLOW_WATCH_RECORDS_MAX):
            flows = [convert.record_to_message(unpack_record(key, value), change.origin) for key, value in part]
            yield EncodedEvent.of(pb.FlowEvent(index=index, origin=change.origin, flows=flows))

    def _gone(self, change: FlowChanges, index: int) -> Iterator[EncodedEvent]:
        """What the value said is not known any more: a key that may have matched is told."""
        key_bytes = change.keys.key_bytes
        packed = select_keys(change.keys.packed, key_bytes, self.flow_filter)
        if not packed:
            return
        event = pb.FlowEvent(type=_EVENT_TYPES[change.kind], index=index, origin=change.origin)
        if self.batches:
            event.packed_keys, event.key_bytes = packed, key_bytes
        else:
            event.keys.extend(packed[at : at + key_bytes] for at in range(0, len(packed), key_bytes))
        yield EncodedEvent.of(event)

    def table(self, entries: Sequence[FlowEntry], index: int) -> list[EncodedEvent]:
        """A page of the table as objects, in the same form as a write of it."""
        by_origin: dict[str, list[FlowEntry]] = {}
        for entry in entries:
            by_origin.setdefault(entry.origin, []).append(entry)
        made: list[EncodedEvent] = []
        for origin, some in by_origin.items():
            flows = [convert.record_to_message(unpack_record(entry.key, entry.value), origin) for entry in some]
            made.append(EncodedEvent.of(pb.FlowEvent(index=index, origin=origin, flows=flows)))
        return made


def responses(
    events: Iterable[tuple[int, list[EncodedEvent]]],
    before: int,
    state: pb.WatchFlowsResponse.State = pb.WatchFlowsResponse.EVENTS,
) -> Iterator[tuple[int, bytes]]:
    """Entries (index, events) as answers of about `limits.FLOW_WATCH_RESPONSE_BYTES_MAX`: (index, bytes of a
    WatchFlowsResponse).

    An answer's `index` is that of the last entry that is told in full: whoever resumes from it misses nothing.
    `before` is the index told last.
    """
    parts: list[bytes] = []
    size, told = 0, before

    def answer() -> tuple[int, bytes]:
        return told, b"".join((pb.WatchFlowsResponse(state=state, index=told).SerializeToString(), *parts))

    for index, entry in events:
        for event in entry:
            if size and size + event.size > limits.FLOW_WATCH_RESPONSE_BYTES_MAX:
                yield answer()
                parts, size = [], 0
            parts += event.parts
            size += event.size
        told = index
    if size:
        yield answer()


def _parts(pairs: list[tuple[bytes, bytes]], most: int) -> Iterator[list[tuple[bytes, bytes]]]:
    for start in range(0, len(pairs), most):
        yield pairs[start : start + most]
