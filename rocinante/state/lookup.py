"""Many flows looked up at once: packed keys in, packed records out, without Python code for each of them.

Of the records that several origins have under one key the newest is taken, of equally new ones that of the origin whose
name sorts first, as `FlowTables.get` does. The answer's bytes are docs/flow-format.md's packed answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rocinante import limits
from rocinante.errors import InvalidArgument, ResourceExhausted
from rocinante.flows import FlowError, check_key, columns
from rocinante.flows.batch import fixed_batch, variable_batch
from rocinante.flows.key import FAMILY_V4, FAMILY_V6, KEY_V4_BYTES, KEY_V6_BYTES
from rocinante.state.flows import FlowTable, FlowTables
from rocinante.state.row_index import I64
from rocinante.state.rows import OUTSIDE, Raw, RowStore

IN_VARIABLE: Final = 0x80
"""In a byte of `found`: the record is of the variable kind."""


class PackedFlows(NamedTuple):
    """`found` has a byte a key: 0 where there is no flow, else the number of its origin in `origins`, from 1, and
    IN_VARIABLE. `batch` and `variable` have the records, in the order of the keys; b"" where there are none."""

    found: bytes
    origins: tuple[str, ...]
    batch: bytes
    variable: bytes


def packed_keys_array(packed: bytes) -> Raw:
    """Packed keys of one address family as an array. Raises InvalidArgument that names the key which is none."""
    family = packed[2] if len(packed) > 2 else 0
    key_bytes = {FAMILY_V4: KEY_V4_BYTES, FAMILY_V6: KEY_V6_BYTES}.get(family)
    if key_bytes is None or len(packed) % key_bytes:
        raise InvalidArgument(
            "packed_keys", f"{len(packed)} bytes are no keys of {KEY_V4_BYTES} or {KEY_V6_BYTES} each"
        )
    count = len(packed) // key_bytes
    if count > limits.FLOW_LOOKUP_KEYS_MAX:
        raise InvalidArgument("packed_keys", f"{count} keys; at most {limits.FLOW_LOOKUP_KEYS_MAX}")
    keys = np.frombuffer(packed, f"V{key_bytes}")
    wrong = columns.suspect_keys(keys)
    if wrong.any():
        number = int(wrong.argmax())
        try:
            check_key(keys[number].tobytes())
        except FlowError as error:
            raise InvalidArgument(f"packed_keys[{number}]", error.problem) from None
        raise InvalidArgument(f"packed_keys[{number}]", "is no key")
    return keys


def tables_of(tables: FlowTables, origin: str) -> list[FlowTable]:
    """All tables, sorted by origin, or that of one origin."""
    return [tables.tables[name] for name in sorted(tables.tables) if not origin or name == origin]


class LookUp:
    """One look-up, done in pieces; each `piece` needs the machine's lock, `answer` does not."""

    def __init__(self, keys: Raw, now_ms: int) -> None:
        """`keys` of one width."""
        self._keys = keys
        self._now_ms = np.uint64(now_ms)
        self._found: NDArray[np.uint8] = np.zeros(len(keys), np.uint8)
        self._slots: Raw = np.empty(len(keys), f"V{columns.SLOT_BYTES[keys.dtype.itemsize]}")
        self._outside: dict[int, bytes] = {}
        self._origins: dict[str, int] = {}

    def piece(self, tables: Sequence[FlowTable], first: int, stop: int) -> None:
        """Look up keys `first` to `stop` - 1 in these tables, which are sorted by origin."""
        keys = self._keys[first:stop]
        stores = [(table.origin, table.stores.get(keys.dtype.itemsize)) for table in tables]
        newest: NDArray[np.uint64] | None = None if len(stores) < 2 else np.zeros(len(keys), np.uint64)
        for origin, store in stores:
            if store is not None:
                self._in_store(store, self._origins.setdefault(origin, len(self._origins) + 1), first, keys, newest)

    def _in_store(self, store: RowStore, number: int, first: int, keys: Raw, newest: NDArray[np.uint64] | None) -> None:
        rows = store.find(keys)
        there = rows >= 0
        there &= store.deadlines.take(rows, mode="clip") > self._now_ms
        if newest is None:
            # What is not there gets some row's value, which nobody reads: that is cheaper than to leave it out.
            store.slots.take(rows, out=self._slots[first : first + len(keys)], mode="clip")
            np.multiply(there, number, out=self._found[first : first + len(keys)], casting="unsafe")
            if store.outside:
                alive = np.flatnonzero(there)
                self._take_outside(store, rows[alive], alive + first)
            return
        alive = np.flatnonzero(there)
        rows = rows[alive]
        slots = store.slots[rows]
        places = alive + first
        updated = columns.values_of(slots)["updated_ms"].astype(np.uint64)
        better = np.flatnonzero((self._found[places] == 0) | (updated > newest[alive]))
        alive, rows, slots, places = alive[better], rows[better], slots[better], places[better]
        newest[alive] = updated[better]
        if self._outside:
            self._forget(places)
        self._slots[places] = slots
        self._found[places] = number
        if store.outside:
            self._take_outside(store, rows, places)

    def _forget(self, places: I64) -> None:
        """Another origin has a newer record."""
        for place in places[(self._found[places] & IN_VARIABLE) != 0].tolist():
            del self._outside[place]

    def _take_outside(self, store: RowStore, rows: I64, places: I64) -> None:
        wide = np.flatnonzero(store.states[rows] == OUTSIDE)
        self._found[places[wide]] |= IN_VARIABLE
        for place, row in zip(places[wide].tolist(), rows[wide].tolist(), strict=True):
            self._outside[place] = store.outside[row]

    def check_size(self) -> None:
        """Raises ResourceExhausted where what was found of the variable kind is too much for one answer."""
        most = limits.FLOW_LOOKUP_VARIABLE_BYTES_MAX
        if sum(map(len, self._outside.values())) > most:
            raise ResourceExhausted(
                f"packed_keys: their records with names or data are more than {most} bytes: page through fewer keys"
            )

    def answer(self) -> PackedFlows:
        fixed = np.flatnonzero((self._found != 0) & (self._found < IN_VARIABLE))
        if len(fixed) == len(self._keys):
            batch = fixed_batch(self._keys, self._slots)
        else:
            batch = fixed_batch(self._keys[fixed], self._slots[fixed]) if fixed.size else b""
        pairs = [(self._keys[place].tobytes(), self._outside[place]) for place in sorted(self._outside)]
        variable = variable_batch(pairs) if pairs else b""
        return PackedFlows(self._found.tobytes(), tuple(self._origins), batch, variable)
