"""How fast flows are: packets and bytes a second, from the differences of their counters as updates come by.

A flow's rate is that between its last two updates, by their update times (by when they came, where those stand still),
and holds until the next update, or until RATE_STALE_FACTOR times as long has passed without one. The first update of a
flow that was not known tells no rate. Counters that went back (the flow began anew) tell none either.

PURE: time is an argument. No Python code runs per record but a look-up in a dict. Not thread-safe.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rocinante.flows import BatchInfo, BatchKind, FlowRecord, columns, iter_pairs, payload, unpack_record
from rocinante.flows.value import NARROW_BYTES, WIDE_BYTES
from rocinante.limits import RATE_FLOWS_MAX, RATE_STALE_FACTOR, RATE_STALE_MS_MIN

__all__ = ["FlowRate", "FlowRates"]

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
Raw = NDArray[Any]
_ROWS_FIRST: Final = 1024
_COLUMNS: Final[dict[str, Any]] = {
    "packets": np.uint64,
    "bytes": np.uint64,
    "updated_ms": np.uint64,
    "came_ms": np.int64,
    "gap_ms": np.int64,
    "packets_s": np.float64,
    "bytes_s": np.float64,
    "value": f"V{WIDE_BYTES}",
    "value_bytes": np.uint8,
}


class FlowRate(NamedTuple):
    record: FlowRecord
    origin: str
    packets_s: float
    """Both directions together, as the others."""
    bytes_s: float


class FlowRates:
    """See the module."""

    def __init__(self, flows_max: int = RATE_FLOWS_MAX) -> None:
        """`flows_max`: so many are remembered; when there are more, half of them go, those without news first."""
        self._flows_max = flows_max
        self._rows: dict[tuple[str, bytes], int] = {}
        self._names: list[tuple[str, bytes]] = []
        self._columns: dict[str, Raw] = {name: np.zeros(_ROWS_FIRST, kind) for name, kind in _COLUMNS.items()}
        self.updates = 0
        self.forgotten = 0

    def __len__(self) -> int:
        return len(self._rows)

    def clear(self) -> None:
        """The table is told anew: its counters are compared with nothing."""
        self._rows, self._names = {}, []

    def put(self, origin: str, batch: bytes, info: BatchInfo, now_ms: int) -> None:
        """A valid batch came. `now_ms`: any clock that does not jump."""
        if info.kind is BatchKind.VARIABLE:
            by_width: dict[int, list[tuple[bytes, bytes]]] = {}
            for key, value in iter_pairs(batch, info):
                by_width.setdefault(len(key), []).append((key, value[:WIDE_BYTES]))
            for pairs in by_width.values():
                values = np.frombuffer(b"".join(value for _, value in pairs), f"V{WIDE_BYTES}")
                self._put(origin, [key for key, _ in pairs], values, now_ms)
            return
        key_bytes = 40 if info.kind is BatchKind.V6 else 16
        raw_keys, values = columns.split(payload(batch), key_bytes)
        self._put(origin, raw_keys.tolist(), values, now_ms)

    def forget(self, origin: str, keys: Iterable[bytes]) -> None:
        """These went."""
        for key in keys:
            row = self._rows.pop((origin, key), None)
            if row is not None:
                self._take_out(row)

    def _put(self, origin: str, keys: list[bytes], values: Raw, now_ms: int) -> None:
        self.updates += len(keys)
        names = list(zip(repeat(origin), keys))
        rows = np.fromiter(map(self._rows.get, names, repeat(-1)), np.int64, len(names))
        fresh = np.flatnonzero(rows < 0)
        if fresh.size:
            if len(self._rows) + fresh.size > self._flows_max:
                self._prune()
                rows = np.fromiter(map(self._rows.get, names, repeat(-1)), np.int64, len(names))
            for number in np.flatnonzero(rows < 0).tolist():
                rows[number] = self._row_of(names[number], now_ms)
        # Of a key that stands twice the last record counts.
        fields = columns.values_of(values)
        packets = fields["packets_original"].astype(np.uint64) + fields["packets_reply"]
        size = fields["bytes_original"].astype(np.uint64) + fields["bytes_reply"]
        updated = fields["updated_ms"].astype(np.uint64)
        self._note(rows, packets, size, updated, now_ms)
        kept = self._columns["value"]
        if values.dtype.itemsize == NARROW_BYTES:
            padded = np.zeros(len(values), f"V{WIDE_BYTES}")
            padded.view(np.uint8).reshape(-1, WIDE_BYTES)[:, :NARROW_BYTES] = (
                np.ascontiguousarray(values).view(np.uint8).reshape(-1, NARROW_BYTES)
            )
            values = padded
            self._columns["value_bytes"][rows] = NARROW_BYTES
        else:
            self._columns["value_bytes"][rows] = WIDE_BYTES
        kept[rows] = values

    def _note(self, rows: I64, packets: Raw, size: Raw, updated: Raw, now_ms: int) -> None:
        column = self._columns
        known = column["value_bytes"][rows] != 0
        known &= (packets >= column["packets"][rows]) & (size >= column["bytes"][rows])
        before_ms, came_ms = column["updated_ms"][rows], column["came_ms"][rows]
        by_update = updated > before_ms
        gap_ms = np.where(by_update & (before_ms > 0), (updated - before_ms).astype(np.int64), now_ms - came_ms)
        gap_ms = np.maximum(gap_ms, 1)
        seconds: F64 = gap_ms / 1000
        for name, now in (("packets", packets), ("bytes", size)):
            rate = np.where(known, (now - column[name][rows]).astype(np.float64) / seconds, 0.0)
            column[f"{name}_s"][rows] = rate
            column[name][rows] = now
        column["gap_ms"][rows] = gap_ms
        column["updated_ms"][rows] = updated
        column["came_ms"][rows] = now_ms

    def _row_of(self, name: tuple[str, bytes], now_ms: int) -> int:
        row = self._rows.get(name)
        if row is None:
            row = self._rows[name] = len(self._names)
            self._names.append(name)
            if row >= len(self._columns["bytes"]):
                self._columns = {
                    kind: np.concatenate((array, np.zeros(len(array), array.dtype)))
                    for kind, array in self._columns.items()
                }
            self._columns["value_bytes"][row] = 0
            self._columns["came_ms"][row] = now_ms
        return row

    def _take_out(self, row: int) -> None:
        """The last row takes its place."""
        last = len(self._names) - 1
        if row != last:
            name = self._names[row] = self._names[last]
            self._rows[name] = row
            for array in self._columns.values():
                array[row] = array[last]
        self._names.pop()

    def _prune(self) -> None:
        """Forget the half without news for longest."""
        came = self._columns["came_ms"][: len(self._names)]
        keep = np.sort(np.argsort(came, kind="stable")[len(came) // 2 :])
        self.forgotten += len(came) - keep.size
        self._names = [self._names[row] for row in keep.tolist()]
        self._rows = {name: row for row, name in enumerate(self._names)}
        for array in self._columns.values():
            array[: keep.size] = array[keep]

    def _live(self, now_ms: int) -> Raw:
        count = len(self._names)
        age_ms = now_ms - self._columns["came_ms"][:count]
        live: Raw = age_ms <= np.maximum(self._columns["gap_ms"][:count] * RATE_STALE_FACTOR, RATE_STALE_MS_MIN)
        return live

    def totals(self, now_ms: int) -> tuple[float, float]:
        """(packets/s, bytes/s) of all flows together."""
        live = self._live(now_ms)
        count = len(self._names)
        return (
            float(self._columns["packets_s"][:count][live].sum()),
            float(self._columns["bytes_s"][:count][live].sum()),
        )

    def top(self, count: int, now_ms: int, *, by_packets: bool = False) -> list[FlowRate]:
        """The busiest, busiest first; flows without a rate are not among them."""
        rates = self._columns["packets_s" if by_packets else "bytes_s"][: len(self._names)]
        rates = np.where(self._live(now_ms), rates, 0.0)
        best = np.argsort(-rates, kind="stable")[:count]
        found = []
        for row in best.tolist():
            if rates[row] <= 0:
                break
            origin, key = self._names[row]
            value = self._columns["value"][row].tobytes()[: int(self._columns["value_bytes"][row])]
            found.append(
                FlowRate(
                    unpack_record(key, value),
                    origin,
                    float(self._columns["packets_s"][row]),
                    float(self._columns["bytes_s"][row]),
                )
            )
        return found
