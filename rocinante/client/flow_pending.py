"""What a writer has not sent yet: the latest record of each flow, and the flows that have to wait.

A flow has at most one record on its way: a later one stays here until the outcome of the earlier one is certain, and
takes the place of what waits here already. So no update is ever overtaken by an older one of the same flow, however
often batches are sent again and whoever leads, and nothing has to be compared at the other end.

Records are handled many at a time by what runs in C (`dict.update`, `filter`, `join`). Contract: not thread-safe; the
writer's lock guards it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import chain, filterfalse, islice
from typing import Final, NamedTuple

from rocinante.errors import InvalidArgument
from rocinante.flows import (
    PAIRS,
    BatchKind,
    FlowColumns,
    FlowError,
    FlowRecord,
    check_records,
    encode_batch,
    encode_columns,
    iter_pairs,
    payload,
    unpacked,
    validate_batch,
)
from rocinante.flows.batch import HEADER, HEADER_BYTES, MAGIC, VERSION, variable_batch
from rocinante.limits import (
    FLOW_APPLICATION_DATA_BYTES_MAX,
    FLOW_BACKEND_NAME_BYTES_MAX,
    FLOW_BATCH_BYTES_MAX,
    FLOW_BATCH_RECORDS_MAX,
)

__all__ = ["Pairs", "Pending", "Taken", "pairs_of"]

_VARIABLE_BYTES_MAX: Final = 3 + 40 + 110 + 3 + FLOW_BACKEND_NAME_BYTES_MAX + FLOW_APPLICATION_DATA_BYTES_MAX
_WIDTH: Final = {kind: PAIRS[kind].size for kind in (BatchKind.V4, BatchKind.V6)}
_OVERHEAD: Final = 3
"""Of a record of the variable kind: the two lengths before it."""
Given = FlowRecord | Iterable[FlowRecord] | FlowColumns | bytes
"""What a writer takes: one record, several, columns, or a batch that is encoded already."""


class Pairs(NamedTuple):
    """Checked records of one kind, the last one of each flow."""

    kind: BatchKind
    records: dict[bytes, bytes]
    """Packed key → packed value."""
    given: int
    """How many there were, with those of flows that came twice."""
    batch: bytes
    """All of them, encoded."""

    @property
    def size_bytes(self) -> int:
        """As they will be sent."""
        width = _WIDTH.get(self.kind)
        if width is not None:
            return width * len(self.records)
        return sum(_OVERHEAD + len(key) + len(value) for key, value in self.records.items())


def pairs_of(flows: Given) -> list[Pairs]:
    """Everything that is wrong with records is found here, one by one, so that it never fails a batch that has those
    of others in it. Raises InvalidArgument that names record and field."""
    try:
        if isinstance(flows, bytes):
            return [_read(flows)]
        if isinstance(flows, FlowColumns):
            return [_read(batch, checked=True) for batch in encode_columns(flows)]
        return _of_objects([flows] if isinstance(flows, FlowRecord) else list(flows))
    except FlowError as error:
        where = f"flows[{error.index}].{error.field}" if error.index >= 0 else error.field
        raise InvalidArgument(where, error.problem) from None


def _of_objects(records: list[FlowRecord]) -> list[Pairs]:
    batches = encode_batch(records)
    for number, record in enumerate(records):  # the format would hold more
        if len(record.application_data) > FLOW_APPLICATION_DATA_BYTES_MAX:
            problem = f"{len(record.application_data)} bytes; at most {FLOW_APPLICATION_DATA_BYTES_MAX}"
            raise FlowError("application_data", problem, number)
    replaced = 0
    if len({batch[5] for batch in batches}) > 1:
        # The order between kinds is lost in batches: of a flow that has several here only the last record goes on.
        last = {record.key: record for record in records}
        replaced = len(records) - len(last)
        if replaced:
            batches = encode_batch(last.values())
    parts = [_read(batch, checked=True) for batch in batches]
    return [parts[0]._replace(given=parts[0].given + replaced), *parts[1:]] if parts else []


def _read(given: bytes, *, checked: bool = False) -> Pairs:
    batch = bytes(unpacked(given, records_max=FLOW_BATCH_RECORDS_MAX, bytes_max=FLOW_BATCH_BYTES_MAX))
    info = validate_batch(batch, records_max=FLOW_BATCH_RECORDS_MAX, bytes_max=FLOW_BATCH_BYTES_MAX)
    if not checked:
        check_records(
            batch,
            info,
            backend_name_bytes_max=FLOW_BACKEND_NAME_BYTES_MAX,
            application_data_bytes_max=FLOW_APPLICATION_DATA_BYTES_MAX,
        )
    if info.kind in PAIRS:
        return Pairs(info.kind, dict(PAIRS[info.kind].iter_unpack(payload(batch))), info.count, batch)
    return Pairs(info.kind, dict(iter_pairs(batch, info)), info.count, batch)


class Taken(NamedTuple):
    """What goes into one batch."""

    batch: bytes
    keys: list[bytes]


class Pending:
    """See the module. `keys_busy` are the flows that have a record on its way."""

    def __init__(self) -> None:
        self._waiting: dict[BatchKind, dict[bytes, bytes]] = {kind: {} for kind in BatchKind}
        self._encoded: dict[BatchKind, bytes] = {}
        """Of a kind: the batch that has exactly the records that wait, where there is one."""
        self._variable_bytes = 0
        self._next_kind = 0
        self._busy: set[bytes] = set()
        self.busy_bytes = 0
        """Of the batches on their way."""

    def __len__(self) -> int:
        """Records that wait."""
        return sum(map(len, self._waiting.values()))

    @property
    def busy(self) -> int:
        """Flows that have a record on its way."""
        return len(self._busy)

    @property
    def size_bytes(self) -> int:
        """Of the records that wait, as they will be sent."""
        fixed = sum(len(self._waiting[kind]) * width for kind, width in _WIDTH.items())
        return fixed + self._variable_bytes

    def add(self, pairs: Pairs) -> int:
        """Records take the place of those of the same flows. Returns how many were replaced, here and before. `pairs`
        belongs to this object from now on."""
        before = len(self)
        for kind, waiting in self._waiting.items():
            if kind is not pairs.kind and waiting:
                for key in waiting.keys() & pairs.records.keys():  # a flow got or lost its name
                    self._drop(kind, key)
        if pairs.kind is BatchKind.VARIABLE:
            for key in self._waiting[pairs.kind].keys() & pairs.records.keys():
                self._drop(pairs.kind, key)
            self._variable_bytes += pairs.size_bytes
        if self._waiting[pairs.kind]:
            self._waiting[pairs.kind].update(pairs.records)
            self._encoded.pop(pairs.kind, None)
        else:
            self._waiting[pairs.kind] = pairs.records
            if pairs.given == len(pairs.records):
                self._encoded[pairs.kind] = pairs.batch
        return before + pairs.given - len(self)

    def _drop(self, kind: BatchKind, key: bytes) -> None:
        value = self._waiting[kind].pop(key)
        self._encoded.pop(kind, None)
        if kind is BatchKind.VARIABLE:
            self._variable_bytes -= _OVERHEAD + len(key) + len(value)

    def keys(self) -> set[bytes]:
        """Of all records that wait."""
        return set(chain.from_iterable(self._waiting.values()))

    def most_of_a_kind(self) -> int:
        """How many records the largest batch could have."""
        return max(map(len, self._waiting.values()))

    def take(self, records_max: int, bytes_max: int) -> Taken | None:
        """The next batch, of those that waited longest of a kind; its flows are busy then. None: nothing can go."""
        kinds = list(BatchKind)
        for step in range(len(kinds)):
            kind = kinds[(self._next_kind + step) % len(kinds)]
            if not self._waiting[kind]:
                continue
            width = _WIDTH.get(kind, _VARIABLE_BYTES_MAX)
            taken = self._take(kind, max(1, min(records_max, (bytes_max - HEADER_BYTES) // width)))
            if taken is not None:
                self._next_kind = (self._next_kind + step + 1) % len(kinds)
                return taken
        return None

    def _take(self, kind: BatchKind, most: int) -> Taken | None:
        waiting = self._waiting[kind]
        if len(waiting) <= most and self._busy.isdisjoint(waiting):
            keys, values = list(waiting), list(waiting.values())
            batch = self._encoded.pop(kind, b"")
            self._waiting[kind] = {}
        else:
            keys = list(islice(filterfalse(self._busy.__contains__, waiting), most))
            if not keys:
                return None
            values = list(map(waiting.pop, keys))
            batch = b""
            self._encoded.pop(kind, None)
        self._busy.update(keys)
        if kind is BatchKind.VARIABLE:
            batch = batch or variable_batch(list(zip(keys, values, strict=True)))
            self._variable_bytes -= len(batch) - HEADER_BYTES
        elif not batch:
            header = HEADER.pack(MAGIC, VERSION, kind, 0, len(keys))
            batch = b"".join(chain((header,), chain.from_iterable(zip(keys, values, strict=True))))
        self.busy_bytes += len(batch)
        return Taken(batch, keys)

    def release(self, keys: Collection[bytes], size_bytes: int) -> None:
        """What became of these records is certain: later ones of the same flows may go."""
        self._busy.difference_update(keys)
        self.busy_bytes -= size_bytes
