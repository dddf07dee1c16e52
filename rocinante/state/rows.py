"""A store of flows of one key width: rows in flat arrays, changed a batch at a time.

A row is a key, a value of the width of its slot, and its deadline. A value that is wider than the slot (a name,
application data) stands outside, by its row; the slot then has the value's beginning, which is the same in every shape
(docs/flow-format.md), so that whatever looks at many rows looks at the slots alone.

Which row a flow has depends on the commands alone, never on this process: new flows take the rows freed last, then the
next ones at the end. So a row's number is a place that means the same on every node, for a cursor and for an expiry.

Frozen rows (`FrozenRows`) keep what was: before a row that they cover is written for the first time, its content goes
into arrays beside it. Nothing is copied when a freeze begins, and nothing is merged when it ends.

numpy's promise that this relies on: of several values assigned to one place, the last one stays (the user guide's
"Indexing with arrays of indices"; a test holds it).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rocinante import limits
from rocinante.flows.columns import VALUE_FIELDS
from rocinante.flows.packing import Columns
from rocinante.flows.selecting import encode_pairs, fixed_batch
from rocinante.state.regions import give_back, populate, reserve
from rocinante.state.row_index import I64, U64, Ends, RowIndex

FREE: Final = 0
HELD: Final = 1
OUTSIDE: Final = 2
"""Its value is wider than the slot."""
NEVER: Final = np.uint64(0xFFFFFFFFFFFFFFFF)
"""The deadline of a flow that has none, and of a row that has no flow."""
ROWS_MAX: Final = limits.FLOW_RECORDS_MAX + limits.FLOW_BATCH_RECORDS_MAX
"""Address space is reserved for so many; a batch may need rows for keys that stand twice in it."""

_AHEAD_SHARE: Final = 16
"""Pages are asked for ahead of the rows for at most this part of what the table has …"""
_AHEAD_ROWS_MIN: Final = 1024
"""… from so many rows on …"""
_AHEAD_ROWS_MAX: Final = 8192
"""… and for no more than so many at a time (0.8 MB for IPv4, 0.3 ms)."""

ROW_BYTES_BESIDE: Final = 34
"""Of a row, beside its key and slot: deadline 8, state 1, place among the free rows 4, hash index 21."""
OUTSIDE_BYTES_BESIDE: Final = 150
"""Of a value outside its slot, beside its bytes (measured: the bytes object, and its place in the dict)."""

Raw = NDArray[Any]
"""Keys or values as numpy has them: `V16`, `V74`, …"""
States = NDArray[np.uint8]


class Piece(NamedTuple):
    """Rows `first` to `first + len(states)` - 1, copied."""

    first: int
    states: States
    keys: Raw
    slots: Raw
    outside: dict[int, bytes]
    """Row → value."""


class RowStore:
    """See the module. What changes it is given checked input: it cannot fail half way."""

    __slots__ = (
        "_free",
        "_free_count",
        "_index",
        "_paged",
        "_words",
        "deadlines",
        "frozen",
        "key_bytes",
        "keys",
        "live",
        "outside",
        "outside_bytes",
        "slot_bytes",
        "slots",
        "states",
        "used",
    )

    def __init__(self, key_bytes: int, slot_bytes: int, capacity: int = ROWS_MAX) -> None:
        self.key_bytes, self.slot_bytes = key_bytes, slot_bytes
        words = key_bytes // 8
        self._words: U64 = reserve(capacity * words, np.uint64).reshape(capacity, words)
        self.keys: Raw = self._words.reshape(-1).view(f"V{key_bytes}")
        self.slots: Raw = reserve(capacity, f"V{slot_bytes}")
        self.deadlines: U64 = reserve(capacity, np.uint64)
        """Unix ms, or NEVER."""
        self.states: States = reserve(capacity, np.uint8)
        self._free: NDArray[np.uint32] = reserve(capacity, np.uint32)
        self._free_count = 0
        self.used = 0
        """Rows that were ever taken: those from here on are untouched."""
        self._paged = 0
        """Rows whose pages were asked for, if any were."""
        self.live = 0
        self.outside: dict[int, bytes] = {}
        self.outside_bytes = 0
        """Of their values."""
        self._index = RowIndex(self._words, capacity)
        self.frozen: list[FrozenRows] = []

    # --- look up

    def find(self, keys: Raw) -> I64:
        """The row of each key, -1 where there is none."""
        words = _words(keys)
        return self._index.find(words, self._index.hashes(words))

    def find_one(self, key: bytes) -> int:
        return self._index.find_one(key)

    def value(self, row: int) -> bytes:
        if self.states[row] == OUTSIDE:
            return self.outside[row]
        value: bytes = self.slots[row].tobytes()
        return value

    def values(self, rows: I64) -> list[bytes]:
        taken: list[bytes] = self.slots[rows].tolist()
        if self.outside:
            for number in np.flatnonzero(self.states[rows] == OUTSIDE).tolist():
                taken[number] = self.outside[int(rows[number])]
        return taken

    def batches(self, rows: I64) -> list[bytes]:
        """The flows of these rows as encoded batches: one of the fixed kind, one of the variable."""
        made: list[bytes] = []
        outside = rows[self.states[rows] == OUTSIDE] if self.outside else rows[:0]
        if outside.size:
            rows = rows[self.states[rows] == HELD]
            pairs = [(self.keys[row].tobytes(), self.outside[row]) for row in outside.tolist()]
            made += encode_pairs(pairs)
        if rows.size:
            records = np.empty(rows.size, [("key", self.keys.dtype), ("value", self.slots.dtype)])
            records["key"], records["value"] = self.keys[rows], self.slots[rows]
            made.append(fixed_batch(self.key_bytes, records.tobytes()))
        return made

    def held(self, first: int, stop: int) -> I64:
        """The rows from `first` to `stop` - 1 that have a flow."""
        return np.flatnonzero(self.states[first : min(stop, self.used)]) + first

    def due(self, first: int, stop: int, now_ms: int) -> I64:
        """Those whose deadline is not after `now_ms`."""
        return np.flatnonzero(self.deadlines[first : min(stop, self.used)] <= np.uint64(now_ms)) + first

    # --- change

    def put(self, keys: Raw, slots: Raw, deadlines: U64) -> None:
        """Write flows whose values fit their slots; where a key stands more than once the last one counts."""
        rows = self._rows_for(keys)
        self.slots[rows] = slots
        self._held(rows, deadlines)

    def put_one(self, key: bytes, slot: bytes, deadline_ms: int) -> None:
        """The same for one flow (of many it would not be: a key that stands twice takes a row more for a moment). What
        `put` does by some forty operations of numpy takes five times as long for one."""
        row = self._index.find_one(key)
        if row >= 0:
            if self.frozen:
                self._remember(np.array([row]))
        else:
            row = self._new_row()
            self.keys[row] = key
            self._index.insert_one(row, key)
            self.live += 1
        self.slots[row] = slot
        self.deadlines[row] = deadline_ms or NEVER
        if self.outside:
            self._forget_outside(np.array([row]))
        self.states[row] = HELD

    def _new_row(self) -> int:
        """As `_take` has it."""
        if not self._free_count:
            self.used += 1
            self._ahead()
            return self.used - 1
        self._free_count -= 1
        row = int(self._free[self._free_count])
        if self.frozen:
            self._remember(np.array([row]))
        return row

    def put_columns(self, columns: Columns) -> None:
        """The same for the flows of a packed batch."""
        rows = self._rows_for(columns.keys())
        if isinstance(rows, slice):
            columns.write_values(self.slots[rows], zeroed=True)
        else:
            slots = np.empty(columns.count, self.slots.dtype)
            columns.write_values(slots)
            self.slots[rows] = slots
        self._held(rows, _column_of_deadlines(columns))

    def _held(self, rows: I64 | slice, deadlines: U64 | np.uint64) -> None:
        """Keys and slots of these rows are written."""
        self.deadlines[rows] = deadlines
        if not isinstance(rows, slice):
            self._forget_outside(rows)
        self.states[rows] = HELD

    def put_outside(self, values: Mapping[bytes, bytes]) -> None:
        """Write flows whose values do not fit, by their keys."""
        keys = np.frombuffer(b"".join(values), f"V{self.key_bytes}")
        found = self._rows_for(keys)
        rows = np.arange(found.start, found.stop) if isinstance(found, slice) else found
        starts = b"".join(value[: self.slot_bytes] for value in values.values())
        self.slots[rows] = slots = np.frombuffer(starts, f"V{self.slot_bytes}")
        self.deadlines[rows] = deadlines_of(slots)
        self._forget_outside(rows)
        self.states[rows] = OUTSIDE
        self.outside.update(zip(rows.tolist(), values.values(), strict=True))
        self.outside_bytes += sum(map(len, values.values()))

    def delete(self, rows: I64) -> None:
        """Rows that have a flow, each given once."""
        if self.frozen:
            self._remember(rows)
        self._forget_outside(rows)
        self.states[rows] = FREE
        self.deadlines[rows] = NEVER
        self._index.remove(rows)
        self._give_back(rows)
        self.live -= len(rows)

    def _rows_for(self, keys: Raw) -> I64 | slice:
        """The rows of these keys, new ones for those that have none, with their keys written. A slice where all are
        untouched ones, in order."""
        words = _words(keys)
        tags = self._index.hashes(words)
        rows, ends = self._index.locate(words, tags)
        fresh = np.flatnonzero(rows < 0)
        if self.frozen:
            self._remember(rows[rows >= 0])
        if not fresh.size:
            return rows
        if fresh.size < len(keys):
            keys, tags, ends = keys[fresh], tags[fresh], Ends(ends.buckets[fresh], ends.taken[fresh])
        reused, untouched = self._take(fresh.size)
        taken = np.arange(untouched.start, untouched.stop)
        if reused.size:
            taken = np.concatenate((reused, taken))
            if self.frozen:
                self._remember(reused)
            self.keys[taken] = keys
        else:
            self.keys[untouched] = keys
        linked = self._index.insert(taken, tags, ends)
        self.live += int(np.count_nonzero(linked))
        if len(taken) == len(rows) and not reused.size and linked.all():
            return untouched
        rows[fresh] = taken
        if not linked.all():
            double = np.flatnonzero(~linked)
            rows[fresh[double]] = self.find(keys[double])
            unused = taken[double]
            self.deadlines[unused] = NEVER
            self._give_back(unused)
        return rows

    def _forget_outside(self, rows: I64) -> None:
        if self.outside:
            for row in rows[self.states[rows] == OUTSIDE].tolist():
                self.outside_bytes -= len(self.outside.pop(row, b""))  # a row may be given twice

    def _take(self, count: int) -> tuple[I64, slice]:
        """Free rows, the one freed last first, then untouched ones."""
        left = self._free_count - min(count, self._free_count)
        again: I64 = self._free[left : self._free_count][::-1].astype(np.int64)
        self._free_count = left
        untouched = slice(self.used, self.used + count - len(again))
        self.used = untouched.stop
        self._ahead()
        return again, untouched

    def _ahead(self) -> None:
        """Have the kernel give the pages of the next rows of a large table many at a time, before they are written:
        page by page at the first touch takes half as long again."""
        if self.used <= self._paged or self.used < _AHEAD_SHARE * _AHEAD_ROWS_MIN:
            return
        rows = min(self.used // _AHEAD_SHARE, _AHEAD_ROWS_MAX)
        stop = min(self.used + rows, len(self.states))
        for array in (self.keys, self.slots, self.deadlines, self.states):
            populate(array, max(self._paged, 0) * array.itemsize, stop * array.itemsize)
        self._paged = stop

    def _give_back(self, rows: I64) -> None:
        self._free[self._free_count : self._free_count + len(rows)] = rows
        self._free_count += len(rows)

    def _remember(self, rows: I64) -> None:
        for frozen in self.frozen:
            frozen.remember(rows)

    # --- memory

    @property
    def live_bytes(self) -> int:
        """What the flows take, by a count that is the same on every node (docs/flow-format.md)."""
        row_bytes = self.key_bytes + self.slot_bytes + ROW_BYTES_BESIDE
        return self.live * row_bytes + len(self.outside) * OUTSIDE_BYTES_BESIDE + self.outside_bytes

    def regions(self) -> list[tuple[Raw, int]]:
        """The arrays, with how many bytes of each were ever written."""
        arrays: list[Raw] = [self.keys, self.slots, self.deadlines, self.states, self._free]
        return [*((array, self.used * array.itemsize) for array in arrays), *self._index.regions()]

    def give_back(self, step_bytes: int) -> Iterator[int]:
        """Return the memory of a store that nobody uses any more to the kernel, a step at a time: dropped in one go,
        a gigabyte would hold up all threads for a fifth of a second. Yields the bytes of each step."""
        self.outside = {}
        for array, written in self.regions():
            for first in range(0, written, step_bytes):
                stop = min(first + step_bytes, written)
                give_back(array, first, stop)
                yield stop - first

    # --- snapshots

    def freeze(self) -> FrozenRows:
        frozen = FrozenRows(self, self._free[: self._free_count].copy())
        self.frozen.append(frozen)
        return frozen

    def load(self, piece: Piece) -> None:
        """Rows of a snapshot, in order, into a store that nobody uses yet. Raises ValueError where they cannot be."""
        count = len(piece.states)
        stop = piece.first + count
        if piece.first != self.used or stop > len(self.states):
            raise ValueError(f"rows {piece.first} to {stop} do not follow row {self.used}")
        rows = np.flatnonzero(piece.states) + piece.first
        self.used = stop
        self.states[piece.first : stop] = piece.states
        self.deadlines[piece.first : stop] = NEVER
        self.keys[rows] = piece.keys
        self.slots[rows] = piece.slots
        self.deadlines[rows] = deadlines_of(piece.slots)
        self.outside.update(piece.outside)
        self.outside_bytes += sum(map(len, piece.outside.values()))
        words = self._words[rows]
        tags = self._index.hashes(words)
        found, ends = self._index.locate(words, tags)
        if (found >= 0).any() or not self._index.insert(rows, tags, ends).all():
            raise ValueError("a key stands twice")
        self.live += len(rows)

    def load_free(self, rows: NDArray[np.uint32]) -> None:
        """The free rows of a snapshot, the one freed last at the end. Raises ValueError where they cannot be."""
        if (rows >= self.used).any() or self.states[rows].any():
            raise ValueError("a row is said to be free that is not")
        self._give_back(rows.astype(np.int64))

    def check_loaded(self) -> None:
        """Raises ValueError where the rows and the free ones do not add up."""
        free = self._free[: self._free_count]
        if self.live + len(free) != self.used or len(np.unique(free)) != len(free):
            raise ValueError(f"{self.live} rows with flows and {len(free)} free ones are not {self.used}")


class FrozenRows:
    """The rows of a store as they were. Its methods need the machine's lock."""

    __slots__ = (
        "_keys",
        "_outside",
        "_remembered",
        "_slots",
        "_states",
        "_store",
        "free",
        "key_bytes",
        "live",
        "slot_bytes",
        "used",
    )

    def __init__(self, store: RowStore, free: NDArray[np.uint32]) -> None:
        self.key_bytes, self.slot_bytes = store.key_bytes, store.slot_bytes
        self.used, self.live, self.free = store.used, store.live, free
        self._store = store
        self._remembered: NDArray[np.bool_] = reserve(store.used, np.bool_)
        self._states: States = reserve(store.used, np.uint8)
        self._keys: Raw = reserve(store.used, store.keys.dtype)
        self._slots: Raw = reserve(store.used, store.slots.dtype)
        self._outside: dict[int, bytes] = {}

    def remember(self, rows: I64) -> None:
        """These are about to be written."""
        rows = rows[rows < self.used]
        rows = rows[~self._remembered[rows]]
        if not rows.size:
            return
        store = self._store
        self._remembered[rows] = True
        states = store.states[rows]
        self._states[rows] = states
        self._keys[rows] = store.keys[rows]
        self._slots[rows] = store.slots[rows]
        if store.outside:
            for row in rows[states == OUTSIDE].tolist():
                self._outside[row] = store.outside[row]

    def piece(self, first: int, stop: int) -> Piece:
        """Rows `first` to `stop` - 1, keys and slots of those that had a flow only."""
        store, span = self._store, slice(first, min(stop, self.used))
        changed = np.flatnonzero(self._remembered[span])
        states, keys, slots = store.states[span].copy(), store.keys[span], store.slots[span]
        if changed.size:
            keys, slots = keys.copy(), slots.copy()
            before = changed + first
            states[changed], keys[changed], slots[changed] = (
                self._states[before],
                self._keys[before],
                self._slots[before],
            )
        there = np.flatnonzero(states)
        outside: dict[int, bytes] = {}
        for row in (np.flatnonzero(states == OUTSIDE) + first).tolist():
            outside[row] = self._outside[row] if self._remembered[row] else store.outside[row]
        return Piece(first, states, keys[there], slots[there], outside)

    def close(self) -> None:
        """Let go of the store. What was remembered is freed by whoever holds this object last."""
        self._store.frozen = [held for held in self._store.frozen if held is not self]


def _words(keys: Raw) -> U64:
    """The same bytes as (n, words) numbers."""
    keys = np.ascontiguousarray(keys)
    return keys.view(np.uint64).reshape(len(keys), -1)


def deadlines_of(slots: Raw) -> U64:
    """The deadlines that values begin with; NEVER where they say 0."""
    deadlines: U64 = slots.view(VALUE_FIELDS[slots.dtype.itemsize])["deadline_ms"].astype(np.uint64)
    deadlines -= np.uint64(1)  # 0, no deadline, turns round to the greatest number
    ended = deadlines != NEVER
    np.add(deadlines, np.uint64(1), out=deadlines, where=ended)
    return deadlines


def _column_of_deadlines(columns: Columns) -> U64 | np.uint64:
    """What `deadlines_of` says of the values; one, where they are the same."""
    deadlines = columns.varying.get("deadline_ms")
    if deadlines is None:
        return np.uint64(columns.same["deadline_ms"]) or NEVER
    return deadlines if deadlines.min() else np.where(deadlines == 0, NEVER, deadlines)
