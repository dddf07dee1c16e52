"""What the flow table's changes look like to one watch: filtered, as objects or as batches, in pieces of a
bounded size. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from rocinante import convert, limits
from rocinante.flows import FlowFilter, iter_pairs, unpack_record, validate_batch
from rocinante.pb.v1 import flow_pb2 as pb
from rocinante.state.events import AppliedEvents, FlowChange, FlowChanges
from rocinante.state.machine import FlowEntry

_EVENT_TYPES = {
    FlowChange.PUT: pb.FlowEvent.PUT,
    FlowChange.DELETE: pb.FlowEvent.DELETE,
    FlowChange.EXPIRE: pb.FlowEvent.EXPIRE,
}


@dataclass(frozen=True)
class FlowView:
    """A watch's filter and form. `as_batches` holds where the filter asks for whole batches only (at most for
    an origin)."""

    flow_filter: FlowFilter
    batches: bool
    as_batches: bool = field(init=False)

    def __post_init__(self) -> None:
        whole = replace(self.flow_filter, origin="").is_empty
        object.__setattr__(self, "as_batches", self.batches and whole)

    def events(self, applied: AppliedEvents) -> list[pb.FlowEvent]:
        """Everything of one log entry that this watch wants."""
        made: list[pb.FlowEvent] = []
        for change in applied.flows:
            if change.kind == FlowChange.PUT:
                made.extend(self._put(change, applied.index))
            else:
                keys = [key for key in change.keys if self._wants_gone(key, change.origin)]
                if keys:
                    kind = _EVENT_TYPES[change.kind]
                    made.append(pb.FlowEvent(type=kind, index=applied.index, origin=change.origin, keys=keys))
        return made

    def _put(self, change: FlowChanges, index: int) -> Iterator[pb.FlowEvent]:
        origin = self.flow_filter.origin
        if origin and change.origin != origin:
            return
        if self.as_batches:
            yield pb.FlowEvent(index=index, origin=change.origin, batch=change.batch)
            return
        info = validate_batch(
            change.batch, records_max=limits.FLOW_BATCH_RECORDS_MAX, bytes_max=limits.FLOW_BATCH_BYTES_MAX
        )
        matches = self.flow_filter.matches
        pairs = [(k, v) for k, v in iter_pairs(change.batch, info) if matches(k, v, change.origin)]
        for part in _parts(pairs, limits.FLOW_WATCH_RECORDS_MAX):
            flows = [convert.record_to_message(unpack_record(key, value), change.origin) for key, value in part]
            yield pb.FlowEvent(index=index, origin=change.origin, flows=flows)

    def _wants_gone(self, key: bytes, origin: str) -> bool:
        """What the value said is not known any more: a key that may have matched is told."""
        asked = replace(
            self.flow_filter, states=frozenset(), backend=None, origin=self.flow_filter.origin if origin else ""
        )
        return asked.matches(key, b"", origin)

    def table(self, entries: Sequence[FlowEntry], index: int) -> list[pb.FlowEvent]:
        """A page of the table, in the same form as a write of it."""
        by_origin: dict[str, list[tuple[bytes, bytes]]] = {}
        for entry in entries:
            by_origin.setdefault(entry.origin, []).append((entry.key, entry.value))
        made: list[pb.FlowEvent] = []
        for origin, pairs in by_origin.items():
            if self.as_batches:
                batches = convert.batches_of_pairs(pairs)
                made.extend(pb.FlowEvent(index=index, origin=origin, batch=batch) for batch in batches)
            else:
                flows = [convert.record_to_message(unpack_record(key, value), origin) for key, value in pairs]
                made.append(pb.FlowEvent(index=index, origin=origin, flows=flows))
        return made


def responses(events: Iterable[tuple[int, list[pb.FlowEvent]]], before: int) -> Iterator[pb.WatchFlowsResponse]:
    """Entries (index, events) as answers of about `limits.WATCH_RESPONSE_BYTES_MAX`.

    An answer's `index` is that of the last entry that is told in full: whoever resumes from it misses nothing.
    `before` is the index told last.
    """
    response = pb.WatchFlowsResponse(index=before)
    size = 0
    for index, entry in events:
        for event in entry:
            added = event.ByteSize()
            if size and size + added > limits.WATCH_RESPONSE_BYTES_MAX:
                yield response
                response = pb.WatchFlowsResponse(index=response.index)
                size = 0
            response.events.append(event)
            size += added
        response.index = index
    if size:
        yield response


def _parts(pairs: list[tuple[bytes, bytes]], most: int) -> Iterator[list[tuple[bytes, bytes]]]:
    for start in range(0, len(pairs), most):
        yield pairs[start : start + most]
