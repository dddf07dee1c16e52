"""The flow tables: one for each origin, from packed keys to packed values.

A batch is applied by `dict.update(struct.iter_unpack(…))`, without Python code for each record. What else has to be
known of it costs only what is new: a dict keeps its keys in the order in which they came, so that the keys that an
update added are its last ones.

A frozen state (`FrozenTable`) keeps the table as it was by remembering, for each key that is written the first time
afterwards, what stood there. So nothing is copied when a freeze begins, there is one table to read from all the time,
and there is nothing to merge when it ends.

Reads are in pieces of FLOW_PIECE_RECORDS under the machine's lock. What a scan (list, due) promises, while records are
written all the time: a record that is there from its first page to its last is found exactly once; one that comes, goes
or comes again in between may be found or not.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable
from itertools import islice
from operator import itemgetter
from typing import Final, NamedTuple

from rocinante import limits
from rocinante.errors import InvalidArgument, ResourceExhausted
from rocinante.flows import FlowError, FlowFilter, is_past, iter_pairs, times_ms, validate_batch
from rocinante.state.events import FlowChange, FlowChanges
from rocinante.state.order import KeyOrder, OrderView, Segment

_CURSOR: Final = struct.Struct(">BQ")
_CURSOR_VERSION: Final = 1
_COUNT: Final = struct.Struct(">I")
_NOW: Final = struct.Struct(">Q")
_key = itemgetter(0)

Preimages = dict[bytes, bytes | None]


class FlowEntry(NamedTuple):
    """A flow as the tables have it; `rocinante.flows.unpack_record(key, value)` makes a record of it."""

    origin: str
    key: bytes
    value: bytes


class FrozenTable:
    """One origin's table as it was. Its methods need the machine's lock."""

    __slots__ = ("_preimages", "_table", "count", "origin", "view")

    def __init__(self, table: FlowTable) -> None:
        self.origin = table.origin
        self.count = len(table.records)
        self.view: OrderView = table.order.view()
        self._table = table
        self._preimages: Preimages = {}
        table.frozen.append(self._preimages)

    def values(self, keys: list[bytes]) -> list[bytes | None]:
        """What stood behind these keys; None for a ghost."""
        now, then = self._table.records, self._preimages
        if not then:
            return list(map(now.get, keys))
        return [then[key] if key in then else now.get(key) for key in keys]

    def keys(self, number: int) -> tuple[Segment, list[bytes]]:
        """A segment of the view, and its keys as they were."""
        segment = self.view.segments[number]
        is_last = number == len(self.view.segments) - 1
        return segment, segment.keys[: self.view.last_keys] if is_last else segment.keys

    def close(self) -> None:
        """Let go of the table. What was remembered is freed by whoever holds this object last."""
        self._table.frozen = [held for held in self._table.frozen if held is not self._preimages]


class FlowTable:
    """The flows of one origin."""

    __slots__ = ("frozen", "order", "origin", "records")

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.records: dict[bytes, bytes] = {}
        self.order = KeyOrder()
        self.frozen: list[Preimages] = []

    def put(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        records = self.records
        if self.frozen:
            pairs = list(pairs)
            self._remember(list(map(_key, pairs)))
        before = len(records)
        records.update(pairs)
        grown = len(records) - before
        if grown:
            added = list(islice(reversed(records), grown))
            added.reverse()
            self.order.add(added)

    def delete(self, keys: list[bytes]) -> None:
        """Delete keys that are there, each given once."""
        if self.frozen:
            self._remember(keys)
        deque(map(self.records.pop, keys), maxlen=0)
        self.order.forget(keys, len(self.records))

    def _remember(self, keys: list[bytes]) -> None:
        """For every frozen state what stands behind these keys, where it does not know yet."""
        for preimages in self.frozen:
            deque(map(preimages.setdefault, keys, map(self.records.get, keys)), maxlen=0)


class FlowTables:
    """The tables of all origins; applies the bodies of the FLOW_* commands. Bad input raises and changes nothing."""

    def __init__(self) -> None:
        self.tables: dict[str, FlowTable] = {}

    def count(self) -> int:
        return sum(len(table.records) for table in self.tables.values())

    # --- commands

    def put(self, body: bytes) -> tuple[int, FlowChanges]:
        """Take a batch as it is. Returns (records, change). Raises InvalidArgument, ResourceExhausted (too many
        origins)."""
        origin, at = _read_origin(body, 0)
        if not origin:
            raise InvalidArgument("origin", "is empty")
        batch = body[at:]
        try:
            info = validate_batch(
                batch, records_max=limits.FLOW_BATCH_RECORDS_MAX, bytes_max=limits.FLOW_BATCH_BYTES_MAX
            )
            pairs = iter_pairs(batch, info)
        except FlowError as error:
            raise InvalidArgument("batch", str(error)) from error
        if self.count() + info.count > limits.FLOW_RECORDS_MAX:
            raise ResourceExhausted(f"batch: the tables hold at most {limits.FLOW_RECORDS_MAX} flows")
        table = self.tables.get(origin)
        if table is None:
            if len(self.tables) >= limits.FLOW_ORIGINS_MAX:
                raise ResourceExhausted(f"origin: there are flows of {limits.FLOW_ORIGINS_MAX} origins already")
            table = self.tables[origin] = FlowTable(origin)
        table.put(pairs)
        return info.count, FlowChanges(FlowChange.PUT, origin, batch)

    def delete(self, body: bytes) -> tuple[int, list[FlowChanges]]:
        """Delete keys, of every origin where the body names none. Returns (records that were there, changes)."""
        origin, at = _read_origin(body, 0)
        keys = _read_keys(body, at, limits.FLOW_BATCH_RECORDS_MAX)
        tables = self._of(origin)
        changes: list[FlowChanges] = []
        for table in tables:
            present = list(filter(table.records.__contains__, dict.fromkeys(keys)))
            if present:
                self._delete(table, present)
                changes.append(FlowChanges(FlowChange.DELETE, table.origin, keys=tuple(present)))
        return sum(len(change.keys) for change in changes), changes

    def expire(self, body: bytes) -> tuple[int, list[FlowChanges]]:
        """Drop those of the keys whose deadline is not after the body's time. Returns (records dropped, changes)."""
        if len(body) < _NOW.size:
            raise InvalidArgument("now", "is cut off")
        (now_ms,) = _NOW.unpack_from(body)
        origin, at = _read_origin(body, _NOW.size)
        keys = _read_keys(body, at, limits.FLOW_EXPIRE_KEYS_MAX)
        changes: list[FlowChanges] = []
        for table in self._of(origin):
            records = table.records
            past = [key for key in dict.fromkeys(keys) if key in records and is_past(records[key], now_ms)]
            if past:
                self._delete(table, past)
                changes.append(FlowChanges(FlowChange.EXPIRE, table.origin, keys=tuple(past)))
        return sum(len(change.keys) for change in changes), changes

    def _of(self, origin: str) -> list[FlowTable]:
        if not origin:
            return [self.tables[name] for name in sorted(self.tables)]
        table = self.tables.get(origin)
        return [] if table is None else [table]

    def _delete(self, table: FlowTable, keys: list[bytes]) -> None:
        table.delete(keys)
        if not table.records:
            del self.tables[table.origin]

    # --- reads

    def get(self, key: bytes, now_ms: int, origin: str) -> FlowEntry | None:
        """The newest record of all origins, or that of one; of equally new ones that of the origin that sorts first."""
        found: FlowEntry | None = None
        newest_ms = -1
        for table in self._of(origin):
            value = table.records.get(key)
            if value is None:
                continue
            deadline_ms, updated_ms = times_ms(value)
            if 0 < deadline_ms <= now_ms or updated_ms <= newest_ms:
                continue
            newest_ms = updated_ms
            found = FlowEntry(table.origin, key, value)
        return found

    def list_piece(
        self, flow_filter: FlowFilter, limit: int, cursor: bytes, now_ms: int
    ) -> tuple[list[FlowEntry], bytes, int]:
        """(matching records, cursor to go on with, records looked at) of at most FLOW_PIECE_RECORDS records.

        Without an origin in the filter a record that another origin has a newer one of is left out, as `get` would not
        give it.
        """
        table, position = self._resume(cursor, flow_filter.origin)
        if table is None:
            return [], b"", 0
        stretch = table.order.walk(position, limits.FLOW_PIECE_RECORDS)
        if stretch is None:
            return [], self._next_table(table, flow_filter.origin), 0
        found: list[FlowEntry] = []
        records, origin, matches = table.records, table.origin, flow_filter.matches
        alone = len(self.tables) == 1 or bool(flow_filter.origin)
        for number, key in enumerate(stretch.keys, 1):
            value = records.get(key)
            if value is None or is_past(value, now_ms) or not matches(key, value, origin):
                continue
            entry = FlowEntry(origin, key, value)
            if alone or self.get(key, now_ms, "") == entry:
                found.append(entry)
                if len(found) >= limit:
                    return found, _write_cursor(origin, stretch.position_after(number)), number
        return found, _write_cursor(origin, stretch.position_after(len(stretch.keys))), len(stretch.keys)

    def due_piece(self, now_ms: int, cursor: bytes, origin: str, limit: int) -> tuple[str, list[bytes], bytes, int]:
        """(origin, keys of it whose deadline has come, cursor, records looked at) of at most `limit` records."""
        table, position = self._resume(cursor, origin)
        if table is None:
            return "", [], b"", 0
        stretch = table.order.walk(position, min(limit, limits.FLOW_PIECE_RECORDS))
        if stretch is None:
            return table.origin, [], self._next_table(table, origin), 0
        get = table.records.get
        due = [key for key in stretch.keys if 0 < int.from_bytes(get(key, b"")[:8]) <= now_ms]
        following = _write_cursor(table.origin, stretch.position_after(len(stretch.keys)))
        return table.origin, due, following, len(stretch.keys)

    def _resume(self, cursor: bytes, only: str) -> tuple[FlowTable | None, int]:
        """The table and position of a cursor: tables are gone through by name, a table that is gone is left out."""
        origin, position = _read_cursor(cursor)
        if only:
            return self.tables.get(only), position if origin == only else 0
        for name in sorted(self.tables):
            if name >= origin:
                return self.tables[name], position if name == origin else 0
        return None, 0

    def _next_table(self, table: FlowTable, only: str) -> bytes:
        if only:
            return b""
        following = [name for name in sorted(self.tables) if name > table.origin]
        return _write_cursor(following[0], 0) if following else b""


def _write_cursor(origin: str, position: int) -> bytes:
    return _CURSOR.pack(_CURSOR_VERSION, position) + origin.encode()


def _read_cursor(cursor: bytes) -> tuple[str, int]:
    if not cursor:
        return "", 0
    if len(cursor) < _CURSOR.size or cursor[0] != _CURSOR_VERSION:
        raise InvalidArgument("cursor", "is not one that a list has given")
    _, position = _CURSOR.unpack_from(cursor)
    try:
        return cursor[_CURSOR.size :].decode(), position
    except UnicodeDecodeError as error:
        raise InvalidArgument("cursor", "is not one that a list has given") from error


def _read_origin(body: bytes, at: int) -> tuple[str, int]:
    """(origin, where what follows it begins)."""
    if len(body) <= at or len(body) < at + 1 + body[at]:
        raise InvalidArgument("origin", "is cut off")
    end = at + 1 + body[at]
    if body[at] > limits.FLOW_ORIGIN_BYTES_MAX:
        raise InvalidArgument("origin", f"{body[at]} bytes; at most {limits.FLOW_ORIGIN_BYTES_MAX}")
    try:
        return body[at + 1 : end].decode(), end
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


def encode_put(origin: str, batch: bytes) -> bytes:
    """The body of a FLOW_PUT."""
    return _write_origin(origin) + batch


def encode_delete(origin: str, keys: Iterable[bytes]) -> bytes:
    """The body of a FLOW_DELETE; origin "": under every origin."""
    return _write_origin(origin) + _write_keys(list(keys))


def encode_expire(now_ms: int, origin: str, keys: Iterable[bytes]) -> bytes:
    """The body of a FLOW_EXPIRE."""
    return _NOW.pack(now_ms) + _write_origin(origin) + _write_keys(list(keys))


def _write_origin(origin: str) -> bytes:
    name = origin.encode()
    if len(name) > limits.FLOW_ORIGIN_BYTES_MAX:
        raise InvalidArgument("origin", f"{len(name)} bytes; at most {limits.FLOW_ORIGIN_BYTES_MAX}")
    return bytes((len(name),)) + name


def _write_keys(keys: list[bytes]) -> bytes:
    return _COUNT.pack(len(keys)) + b"".join([bytes((len(key),)) + key for key in keys])
