"""The flow tables: one for each origin, from packed keys to packed values.

A batch is applied by a few dozen numpy operations (`rows.py`, `row_index.py`), without Python code for each record, at
a cost that does not depend on how many flows there are. A table has a store of rows for each width of keys.

Reads are in pieces of FLOW_PIECE_RECORDS rows under the machine's lock. What a list promises, while records are written
all the time: a record that is there from its first page to its last is found exactly once; one that comes, goes or
comes again in between may be found or not.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple, TypeVar

import numpy as np

from rocinante import limits
from rocinante.errors import InvalidArgument, ResourceExhausted
from rocinante.flows import (
    BatchInfo,
    FlowError,
    FlowFilter,
    columns,
    iter_pairs,
    payload,
    times_ms,
    validate_batch,
)
from rocinante.flows.batch import BatchKind, Buffer
from rocinante.flows.filter_codec import decode_filter, encode_filter
from rocinante.flows.packing import columns_of
from rocinante.state.events import FlowChange, FlowChanges, PackedKeys
from rocinante.state.row_index import I64
from rocinante.state.rows import OUTSIDE, Raw, RowStore, deadlines_of

_CURSOR: Final = struct.Struct(">BBQ")
_CURSOR_VERSION: Final = 2
_COUNT: Final = struct.Struct(">I")
_EXPIRE: Final = struct.Struct(">QBII")
_ROWS: Final = struct.Struct(">BII")
WIDTHS: Final = tuple(sorted(columns.SLOT_BYTES))
"""The widths of keys, in the order in which a table is gone through."""
_V = TypeVar("_V")
_KEY_BYTES: Final = {BatchKind.V4: WIDTHS[0], BatchKind.V6: WIDTHS[1]}


class FlowEntry(NamedTuple):
    """A flow as the tables have it; `rocinante.flows.unpack_record(key, value)` makes a record of it."""

    origin: str
    key: bytes
    value: bytes


class Rows(NamedTuple):
    """Rows `first` to `stop` - 1 of the flows of an origin with keys of a width: a place that is the same on all
    nodes."""

    origin: str
    key_bytes: int
    first: int
    stop: int


class FlowTable:
    """The flows of one origin."""

    __slots__ = ("origin", "stores")

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.stores: dict[int, RowStore] = {}
        """By the width of the keys."""

    @property
    def live(self) -> int:
        return sum(store.live for store in list(self.stores.values()))

    @property
    def live_bytes(self) -> int:
        return sum(store.live_bytes for store in list(self.stores.values()))

    @property
    def outside_bytes(self) -> int:
        return sum(store.outside_bytes for store in list(self.stores.values()))

    def store(self, key_bytes: int) -> RowStore:
        """The store for keys of this width, which is made where there is none."""
        found = self.stores.get(key_bytes)
        if found is None:
            found = self.stores[key_bytes] = RowStore(key_bytes, columns.SLOT_BYTES[key_bytes])
        return found

    def put_variable(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        """Records of the variable kind: of a key that comes twice the later one counts."""
        for key_bytes, values in _by_width(dict(pairs)).items():
            store = self.store(key_bytes)
            fitting = {key: value for key, value in values.items() if len(value) == store.slot_bytes}
            if fitting:
                slots = np.frombuffer(b"".join(fitting.values()), store.slots.dtype)
                store.put(np.frombuffer(b"".join(fitting), store.keys.dtype), slots, deadlines_of(slots))
            if len(fitting) < len(values):
                store.put_outside({key: value for key, value in values.items() if key not in fitting})

    def entry(self, key: bytes) -> FlowEntry | None:
        store = self.stores.get(len(key))
        row = -1 if store is None else store.find_one(key)
        return None if store is None or row < 0 else FlowEntry(self.origin, key, store.value(row))


class FlowTables:
    """The tables of all origins; applies the bodies of the FLOW_* commands. Bad input raises and changes nothing."""

    def __init__(self) -> None:
        self.tables: dict[str, FlowTable] = {}
        self.dropped: list[RowStore] = []
        """Emptied stores, whose memory is still to be given back (`StateMachine.release_memory`)."""

    # These three may be called without the machine's lock: they copy a dict's values in one go.

    def count(self) -> int:
        return sum(table.live for table in list(self.tables.values()))

    def size_bytes(self) -> int:
        """What the flows take (docs/flow-format.md has how it is counted)."""
        return sum(table.live_bytes for table in list(self.tables.values()))

    def rows_used(self, origin: str) -> int:
        """Rows of all stores of an origin (""; of all): what a pass looks at."""
        tables = [table for name, table in list(self.tables.items()) if not origin or name == origin]
        return sum(store.used for table in tables for store in list(table.stores.values()))

    # --- commands

    def put(self, body: bytes | memoryview) -> tuple[int, FlowChanges]:
        """Take a batch as it is. Returns (records, change). Raises InvalidArgument, ResourceExhausted (too many
        origins or flows)."""
        origin, at = _read_origin(body, 0)
        if not origin:
            raise InvalidArgument("origin", "is empty")
        written: Buffer = body[at:]
        bounds = {"records_max": limits.FLOW_BATCH_RECORDS_MAX, "bytes_max": limits.FLOW_BATCH_BYTES_MAX}
        pairs: Iterator[tuple[bytes, bytes]] | None = None
        try:
            packed = columns_of(written, **bounds)
            if packed is None:
                written = bytes(written)  # watchers get it as it is
            info = validate_batch(written, **bounds) if packed is None else BatchInfo(packed.kind, packed.count)
            if info.kind is BatchKind.VARIABLE:
                pairs = iter_pairs(written, info)
        except FlowError as error:
            raise InvalidArgument("batch", str(error)) from error
        if self.count() + info.count > limits.FLOW_RECORDS_MAX:
            raise ResourceExhausted(f"batch: the tables hold at most {limits.FLOW_RECORDS_MAX} flows")
        if pairs is not None and self._outside_bytes() + len(written) > limits.FLOW_OUTSIDE_BYTES_MAX:
            raise ResourceExhausted(
                f"batch: names and application data of flows take at most {limits.FLOW_OUTSIDE_BYTES_MAX} bytes"
            )
        table = self.tables.get(origin)
        if table is None:
            if len(self.tables) >= limits.FLOW_ORIGINS_MAX:
                raise ResourceExhausted(f"origin: there are flows of {limits.FLOW_ORIGINS_MAX} origins already")
            table = self.tables[origin] = FlowTable(origin)
        if pairs is not None:
            table.put_variable(pairs)
        elif packed is not None:
            table.store(packed.key_bytes).put_columns(packed)
        elif info.count == 1:
            ((key, slot),) = iter_pairs(written, info)
            table.store(len(key)).put_one(key, slot, times_ms(slot)[0])
        else:
            key_bytes = _KEY_BYTES[info.kind]
            keys, slots = columns.split(payload(written), key_bytes)
            table.store(key_bytes).put(keys, slots, deadlines_of(slots))
        return info.count, FlowChanges(FlowChange.PUT, origin, written)

    def delete(self, body: bytes) -> tuple[int, list[FlowChanges]]:
        """Delete keys, of every origin where the body names none. Returns (records that were there, changes)."""
        origin, at = _read_origin(body, 0)
        keys = _by_width(dict.fromkeys(_read_keys(body, at, limits.FLOW_BATCH_RECORDS_MAX)))
        changes: list[FlowChanges] = []
        for table in self._of(origin):
            for key_bytes, some in keys.items():
                store = table.stores.get(key_bytes)
                if store is not None:
                    rows = store.find(np.frombuffer(b"".join(some), store.keys.dtype))
                    self._delete(table, store, rows[rows >= 0], FlowChange.DELETE, changes)
        return sum(len(change.keys) for change in changes), changes

    def expire(self, body: bytes) -> tuple[int, list[FlowChanges]]:
        """Drop what is due in the body's rows at the body's time. Returns (records dropped, changes)."""
        now_ms, key_bytes, first, stop, origin = _read_expire(body)
        table = self.tables.get(origin)
        store = None if table is None else table.stores.get(key_bytes)
        changes: list[FlowChanges] = []
        if table is not None and store is not None:
            self._delete(table, store, store.due(first, stop, now_ms), FlowChange.EXPIRE, changes)
        return sum(len(change.keys) for change in changes), changes

    def delete_where(self, body: bytes) -> tuple[int, list[FlowChanges]]:
        """Delete what the body's filter means in the body's rows. Returns (records deleted, changes)."""
        rows, asked = _read_delete_where(body)
        table = self.tables.get(rows.origin)
        store = None if table is None else table.stores.get(rows.key_bytes)
        changes: list[FlowChanges] = []
        if table is not None and store is not None:
            wanted = self._matching(store, rows.first, rows.stop, asked, 0)
            self._delete(table, store, wanted, FlowChange.DELETE, changes)
        return sum(len(change.keys) for change in changes), changes

    def count_new(self, origin: str, batch: bytes) -> int:
        """How many flows a valid batch would add; keys that stand twice in it may count twice."""
        bounds = {"records_max": limits.FLOW_BATCH_RECORDS_MAX, "bytes_max": limits.FLOW_BATCH_BYTES_MAX}
        packed = columns_of(batch, **bounds)
        info = validate_batch(batch, **bounds) if packed is None else BatchInfo(packed.kind, packed.count)
        table = self.tables.get(origin)
        if table is None:
            return info.count
        if info.kind is BatchKind.VARIABLE:
            return sum(table.entry(key) is None for key in {key for key, _ in iter_pairs(batch, info)})
        key_bytes = _KEY_BYTES[info.kind]
        store = table.stores.get(key_bytes)
        if store is None:
            return info.count
        keys = columns.split(payload(batch), key_bytes)[0] if packed is None else packed.keys()
        return int(np.count_nonzero(store.find(keys) < 0))

    def _outside_bytes(self) -> int:
        return sum(table.outside_bytes for table in self.tables.values())

    def _of(self, origin: str) -> list[FlowTable]:
        if not origin:
            return [self.tables[name] for name in sorted(self.tables)]
        table = self.tables.get(origin)
        return [] if table is None else [table]

    def _delete(
        self, table: FlowTable, store: RowStore, rows: I64, kind: FlowChange, changes: list[FlowChanges]
    ) -> None:
        if not rows.size:
            return
        gone = PackedKeys(store.keys[rows].tobytes(), store.key_bytes)
        store.delete(rows)
        changes.append(FlowChanges(kind, table.origin, keys=gone))
        if not store.live:
            self.dropped.append(table.stores.pop(store.key_bytes))
        if not table.stores:
            del self.tables[table.origin]

    # --- reads

    def get(self, key: bytes, now_ms: int, origin: str) -> FlowEntry | None:
        """The newest record of all origins, or that of one; of equally new ones that of the origin that sorts first."""
        found: FlowEntry | None = None
        newest_ms = -1
        for table in self._of(origin):
            entry = table.entry(key)
            if entry is None:
                continue
            deadline_ms, updated_ms = times_ms(entry.value)
            if 0 < deadline_ms <= now_ms or updated_ms <= newest_ms:
                continue
            newest_ms, found = updated_ms, entry
        return found

    def get_many(self, keys: Sequence[bytes], now_ms: int, origin: str) -> list[FlowEntry | None]:
        """`get` for each of many keys (16 or 40 bytes each)."""
        found: list[FlowEntry | None] = [None] * len(keys)
        newest_ms = [-1] * len(keys)
        numbers: dict[int, list[int]] = {}
        for number, key in enumerate(keys):
            numbers.setdefault(len(key), []).append(number)
        for table in self._of(origin):
            for key_bytes, some in numbers.items():
                store = table.stores.get(key_bytes)
                if store is None:
                    continue
                rows = store.find(np.frombuffer(b"".join([keys[number] for number in some]), store.keys.dtype))
                there = np.flatnonzero(rows >= 0)
                there = there[store.deadlines[rows[there]] > np.uint64(now_ms)]
                for place, value in zip(there.tolist(), store.values(rows[there]), strict=True):
                    number = some[place]
                    _, updated_ms = times_ms(value)
                    if updated_ms > newest_ms[number]:
                        newest_ms[number] = updated_ms
                        found[number] = FlowEntry(table.origin, keys[number], value)
        return found

    def list_piece(
        self, flow_filter: FlowFilter, limit: int, cursor: bytes, now_ms: int
    ) -> tuple[list[FlowEntry], bytes, int]:
        """(matching records, cursor to go on with, rows looked at) of at most FLOW_PIECE_RECORDS rows.

        Without an origin in the filter a record that another origin has a newer one of is left out, as `get` would not
        give it.
        """
        place = self._resume(cursor, flow_filter.origin, limits.FLOW_PIECE_RECORDS)
        if place is None:
            return [], b"", 0
        origin, key_bytes, first, stop = place
        store = self.tables[origin].stores[key_bytes]
        alone = len(self.tables) == 1 or bool(flow_filter.origin)
        found: list[FlowEntry] = []
        for row in self._matching(store, first, stop, flow_filter, now_ms).tolist():
            entry = FlowEntry(origin, store.keys[row].tobytes(), store.value(row))
            if alone or self.get(entry.key, now_ms, "") == entry:
                found.append(entry)
                if len(found) >= limit:
                    return found, self._after(place._replace(stop=row + 1), flow_filter.origin), row + 1 - first
        return found, self._after(place, flow_filter.origin), stop - first

    @staticmethod
    def _matching(store: RowStore, first: int, stop: int, asked: FlowFilter, now_ms: int) -> I64:
        rows = store.held(first, stop)
        rows = rows[store.deadlines[rows] > np.uint64(now_ms)]
        if asked.is_empty or not rows.size:
            return rows
        keys: Raw = store.keys[rows]
        wanted = columns.matches(asked, keys, store.slots[rows])
        if asked.backend is not None and store.outside:
            for number in np.flatnonzero(store.states[rows] == OUTSIDE).tolist():
                value = store.outside[int(rows[number])]
                wanted[number] = asked.matches(keys[number].tobytes(), value, asked.origin)
        return rows[wanted]

    def due_piece(self, now_ms: int, cursor: bytes, origin: str, rows_max: int) -> tuple[Rows | None, int, bytes]:
        """(rows looked at, how many of them are due, cursor) of at most `rows_max` rows of one store; None: there are
        none left."""
        place = self._resume(cursor, origin, rows_max)
        if place is None:
            return None, 0, b""
        store = self.tables[place.origin].stores[place.key_bytes]
        due = len(store.due(place.first, place.stop, now_ms))
        return place, due, self._after(place, origin)

    def matching_piece(self, asked: FlowFilter, cursor: bytes, rows_max: int) -> tuple[Rows | None, int, bytes]:
        """(rows looked at, how many of them the filter means, cursor) of at most `rows_max` rows of one store; None:
        there are none left. What is past its deadline counts too."""
        place = self._resume(cursor, asked.origin, rows_max)
        if place is None:
            return None, 0, b""
        store = self.tables[place.origin].stores[place.key_bytes]
        wanted = len(self._matching(store, place.first, place.stop, asked, 0))
        return place, wanted, self._after(place, asked.origin)

    def batch_piece(
        self, asked: FlowFilter, cursor: bytes, now_ms: int, rows_max: int
    ) -> tuple[str, list[bytes], bytes]:
        """(origin, batches, cursor) of what the filter means in at most `rows_max` rows of one store."""
        place = self._resume(cursor, asked.origin, rows_max)
        if place is None:
            return "", [], b""
        store = self.tables[place.origin].stores[place.key_bytes]
        rows = self._matching(store, place.first, place.stop, asked, now_ms)
        return place.origin, store.batches(rows), self._after(place, asked.origin)

    def _resume(self, cursor: bytes, only: str, rows_max: int) -> Rows | None:
        """The rows to look at next: tables are gone through by name, one that is gone is left out."""
        origin, key_bytes, row = _read_cursor(cursor)
        for name in sorted(self.tables):
            if name < origin or (only and name != only):
                continue
            for width in WIDTHS:
                store = self.tables[name].stores.get(width)
                first = row if (name, width) == (origin, key_bytes) else 0
                if store is None or (name == origin and width < key_bytes) or first >= store.used:
                    continue
                return Rows(name, width, first, min(first + rows_max, store.used))
        return None

    def _after(self, place: Rows, only: str) -> bytes:
        """The cursor behind these rows; empty where nothing follows."""
        cursor = _write_cursor(place.origin, place.key_bytes, place.stop)
        return cursor if self._resume(cursor, only, 1) is not None else b""


def _by_width(values: dict[bytes, _V]) -> dict[int, dict[bytes, _V]]:
    """The same by the width of the keys; other widths, which no flow has, are left out."""
    widths: dict[int, dict[bytes, _V]] = {}
    for key, value in values.items():
        if len(key) in columns.SLOT_BYTES:
            widths.setdefault(len(key), {})[key] = value
    return widths


def _write_cursor(origin: str, key_bytes: int, row: int) -> bytes:
    return _CURSOR.pack(_CURSOR_VERSION, key_bytes, row) + origin.encode()


def _read_cursor(cursor: bytes) -> tuple[str, int, int]:
    """(origin, width of the keys, row)."""
    if not cursor:
        return "", 0, 0
    if len(cursor) < _CURSOR.size or cursor[0] != _CURSOR_VERSION:
        raise InvalidArgument("cursor", "is not one that a list has given")
    _, key_bytes, row = _CURSOR.unpack_from(cursor)
    try:
        return cursor[_CURSOR.size :].decode(), key_bytes, row
    except UnicodeDecodeError as error:
        raise InvalidArgument("cursor", "is not one that a list has given") from error


def _read_origin(body: bytes | memoryview, at: int) -> tuple[str, int]:
    """(origin, where what follows it begins)."""
    if len(body) <= at or len(body) < at + 1 + body[at]:
        raise InvalidArgument("origin", "is cut off")
    end = at + 1 + body[at]
    if body[at] > limits.FLOW_ORIGIN_BYTES_MAX:
        raise InvalidArgument("origin", f"{body[at]} bytes; at most {limits.FLOW_ORIGIN_BYTES_MAX}")
    try:
        return bytes(body[at + 1 : end]).decode(), end
    except UnicodeDecodeError as error:
        raise InvalidArgument("origin", "is not UTF-8") from error


def _read_keys(body: bytes, at: int, keys_max: int) -> list[bytes]:
    """The keys that fill the rest of a body."""
    if len(body) < at + _COUNT.size:
        raise InvalidArgument("count", "is cut off")
    (count,) = _COUNT.unpack_from(body, at)
    if count > keys_max:
        raise InvalidArgument("count", f"{count} keys; at most {keys_max}")
    at += _COUNT.size
    keys: list[bytes] = []
    for _ in range(count):
        if at >= len(body):
            raise InvalidArgument(f"keys[{len(keys)}]", "is cut off")
        end = at + 1 + body[at]
        keys.append(body[at + 1 : end])
        at = end
    if at != len(body):
        raise InvalidArgument("keys", f"{len(body)} bytes; {at} are expected")
    return keys


def _read_expire(body: bytes) -> tuple[int, int, int, int, str]:
    """(now, width of the keys, first row, row behind the last, origin)."""
    if len(body) < _EXPIRE.size:
        raise InvalidArgument("rows", "are cut off")
    now_ms, key_bytes, first, stop = _EXPIRE.unpack_from(body)
    origin, end = _read_origin(body, _EXPIRE.size)
    if end != len(body):
        raise InvalidArgument("rows", f"{len(body)} bytes; {end} are expected")
    _check_rows(key_bytes, first, stop)
    return now_ms, key_bytes, first, stop, origin


def _read_delete_where(body: bytes) -> tuple[Rows, FlowFilter]:
    if len(body) < _ROWS.size:
        raise InvalidArgument("rows", "are cut off")
    key_bytes, first, stop = _ROWS.unpack_from(body)
    origin, end = _read_origin(body, _ROWS.size)
    _check_rows(key_bytes, first, stop)
    try:
        return Rows(origin, key_bytes, first, stop), decode_filter(body[end:])
    except FlowError as error:
        raise InvalidArgument(error.field, error.problem) from error


def _check_rows(key_bytes: int, first: int, stop: int) -> None:
    if key_bytes not in WIDTHS:
        raise InvalidArgument("rows", f"no flow has a key of {key_bytes} bytes")
    if not 0 < stop - first <= limits.FLOW_EXPIRE_ROWS_MAX:
        raise InvalidArgument("rows", f"{first} to {stop} are not 1 to {limits.FLOW_EXPIRE_ROWS_MAX}")


def encode_put(origin: str, batch: bytes) -> bytes:
    """The body of a FLOW_PUT."""
    return _write_origin(origin) + batch


def encode_delete(origin: str, keys: Iterable[bytes]) -> bytes:
    """The body of a FLOW_DELETE; origin "": under every origin."""
    return _write_origin(origin) + _write_keys(list(keys))


def encode_expire(now_ms: int, rows: Rows) -> bytes:
    """The body of a FLOW_EXPIRE: `u64 now | u8 key width | u32 first row | u32 row behind the last | origin`."""
    return _EXPIRE.pack(now_ms, rows.key_bytes, rows.first, rows.stop) + _write_origin(rows.origin)


def encode_delete_where(rows: Rows, asked: FlowFilter) -> bytes:
    """The body of a FLOW_DELETE_WHERE: `u8 key width | u32 first row | u32 row behind the last | origin | filter`."""
    return _ROWS.pack(rows.key_bytes, rows.first, rows.stop) + _write_origin(rows.origin) + encode_filter(asked)


def _write_origin(origin: str) -> bytes:
    name = origin.encode()
    if len(name) > limits.FLOW_ORIGIN_BYTES_MAX:
        raise InvalidArgument("origin", f"{len(name)} bytes; at most {limits.FLOW_ORIGIN_BYTES_MAX}")
    return bytes((len(name),)) + name


def _write_keys(keys: list[bytes]) -> bytes:
    return _COUNT.pack(len(keys)) + b"".join([bytes((len(key),)) + key for key in keys])
