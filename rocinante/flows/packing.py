"""The packed kinds of a batch: the records of a fixed kind in columns, to the byte (docs/flow-format.md). Big endian.

    header, 12 bytes, as of any batch; kind 4: the records are those of kind 1 (IPv4), kind 5: of kind 2 (IPv6)
    for each field of key and value, in their order, one column:
        u8 width (0, 1, 2, 4, 8; at most the field's) | base, as wide as the field | count × (value − base), width

`base` is the column's smallest value, `width` the least that the differences fit: so there is one way to pack a batch.
A packed batch is how records travel, and nothing else: it stands for the batch of the fixed kind that `unpacked` makes
of it, whose bounds it has to keep; tables, digests, snapshots and watchers know the fixed kinds only. Both directions
cost some 30 to 50 ns a record, without Python code for each. Who needs keys and values apart, or looks at a few fields,
takes the columns (`Columns`): the batch that they stand for need not be made for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rocinante.flows.batch import BYTES_MAX, HEADER, HEADER_BYTES, MAGIC, RECORDS_MAX, VERSION, BatchKind, Buffer
from rocinante.flows.columns import KEY_FIELDS, SLOT_BYTES, VALUE_FIELDS, Fields, suspect_fields
from rocinante.flows.errors import FlowError
from rocinante.flows.key import KEY_V4_BYTES, KEY_V6_BYTES

PACKED_V4: Final = 4
PACKED_V6: Final = 5
RATIO_MAX: Final = 16
"""A packed batch is not smaller than this part of what it stands for: bounds on bytes bound the work behind them."""
_WIDTHS: Final = (0, 1, 2, 4, 8)
_MOST: Final = {width: (1 << 8 * width) - 1 for width in _WIDTHS}
_WIDTH_OF_BITS: Final = [next(width for width in _WIDTHS if bits <= 8 * width) for bits in range(65)]
_KIND_AT: Final = 5


class _Layout(NamedTuple):
    kind: BatchKind
    key_bytes: int
    record: np.dtype[Any]
    fields: tuple[tuple[str, int], ...]
    """Name and bytes of each, in order."""


def _layout(kind: BatchKind, key_bytes: int) -> _Layout:
    fields: list[tuple[str, np.dtype[Any]]] = []
    for part in (KEY_FIELDS[key_bytes], VALUE_FIELDS[SLOT_BYTES[key_bytes]]):
        fields += [(name, part[name]) for name in part.names or ()]
    return _Layout(kind, key_bytes, np.dtype(fields), tuple((name, of.itemsize) for name, of in fields))


_LAYOUTS: Final = {PACKED_V4: _layout(BatchKind.V4, KEY_V4_BYTES), PACKED_V6: _layout(BatchKind.V6, KEY_V6_BYTES)}
_PACKED: Final = {int(layout.kind): kind for kind, layout in _LAYOUTS.items()}


class _Column(NamedTuple):
    name: str
    field_bytes: int
    width: int
    base: int
    at: int
    """Where its differences begin."""


def is_packed(batch: Buffer) -> bool:
    """Whether this claims to be a batch of a packed kind."""
    return len(batch) >= HEADER_BYTES and batch[:4] == MAGIC and batch[_KIND_AT] in _LAYOUTS


def packed(batch: Buffer) -> Buffer:
    """A valid batch of a fixed kind, packed: the same object where it is of another kind, where packing it would not
    make it smaller, or would make it smaller than RATIO_MAX allows."""
    kind = _PACKED.get(batch[_KIND_AT])
    if kind is None:
        return batch
    layout = _LAYOUTS[kind]
    records = np.frombuffer(memoryview(batch)[HEADER_BYTES:], layout.record)
    parts: list[bytes] = [HEADER.pack(MAGIC, VERSION, kind, 0, len(records))]
    for name, field_bytes in layout.fields:
        values = records[name].astype(_native(field_bytes))
        least = values.min()
        width = _width(int(values.max()) - int(least))
        parts.append(bytes((width,)) + int(least).to_bytes(field_bytes))
        if width:
            values -= least
            parts.append(values.astype(f">u{width}").tobytes())
    size = sum(map(len, parts))
    return b"".join(parts) if len(batch) / RATIO_MAX <= size < len(batch) else batch


def unpacked(batch: Buffer, *, records_max: int = RECORDS_MAX, bytes_max: int = BYTES_MAX) -> Buffer:
    """The batch of a fixed kind that a packed one stands for; any other batch as it is, unchecked.

    Raises FlowError where a packed one is not what `packed` makes, or is of more than `records_max` records or
    `bytes_max` bytes, unpacked. What is in the records is not looked at.
    """
    columns = columns_of(batch, records_max=records_max, bytes_max=bytes_max)
    return batch if columns is None else columns.batch()


def columns_of(batch: Buffer, *, records_max: int = RECORDS_MAX, bytes_max: int = BYTES_MAX) -> Columns | None:
    """The columns of a packed batch; None for any other, unchecked. Raises what `unpacked` raises."""
    if not is_packed(batch):
        return None
    layout = _LAYOUTS[batch[_KIND_AT]]
    return Columns(batch, layout, _check_header(batch, layout, records_max, bytes_max))


class Columns:
    """What a packed batch says, field by field; made by `columns_of`."""

    __slots__ = ("_layout", "count", "same", "varying")

    def __init__(self, batch: Buffer, layout: _Layout, count: int) -> None:
        """Raises FlowError where a column is not what `packed` makes."""
        self._layout = layout
        self.count = count
        self.same: dict[str, int] = {}
        """The value of each field that has the same one in all records …"""
        self.varying: dict[str, NDArray[Any]] = {}
        """… and the values of the others, in the machine's byte order. Every field is in one of the two."""
        for column in _columns(batch, layout, count):
            if column.width:
                self.varying[column.name] = _values(batch, column, count)
            else:
                self.same[column.name] = column.base

    @property
    def kind(self) -> BatchKind:
        return self._layout.kind

    @property
    def key_bytes(self) -> int:
        return self._layout.key_bytes

    def keys(self) -> NDArray[Any]:
        """The packed keys."""
        fields = KEY_FIELDS[self.key_bytes]
        made = np.empty(self.count, fields)
        self._write(made, fields.names or (), zeroed=False)
        return made.view(f"V{self.key_bytes}")

    def write_values(self, slots: NDArray[Any], *, zeroed: bool = False) -> None:
        """Write the packed values, in order, into slots of their width. `zeroed`: all bytes of these are 0."""
        fields = VALUE_FIELDS[slots.dtype.itemsize]
        self._write(slots.view(fields), fields.names or (), zeroed=zeroed)

    def has_suspects(self) -> bool:
        """Whether a record breaks a rule of the format; which, says `check_records` of the batch."""
        key_bytes, fields = self.key_bytes, self._fields
        suspects = suspect_fields(fields(KEY_FIELDS[key_bytes]), fields(VALUE_FIELDS[SLOT_BYTES[key_bytes]]))
        return bool(suspects.any())

    def _fields(self, part: np.dtype[Any]) -> Fields:
        return {
            name: self.varying[name] if name in self.varying else part[name].newbyteorder("=").type(self.same[name])
            for name in part.names or ()
        }

    def batch(self) -> memoryview:
        """The batch that they stand for."""
        layout, count = self._layout, self.count
        made = bytearray(HEADER_BYTES + count * layout.record.itemsize)
        HEADER.pack_into(made, 0, MAGIC, VERSION, layout.kind, 0, count)
        records = np.frombuffer(memoryview(made)[HEADER_BYTES:], layout.record)
        self._write(records, layout.record.names or (), zeroed=True)
        return memoryview(made).toreadonly()

    def _write(self, records: NDArray[Any], names: Sequence[str], *, zeroed: bool) -> None:
        for name in names:
            values = self.varying.get(name)
            if values is not None:
                records[name] = values
            elif (value := self.same[name]) or not zeroed:
                records[name] = value


def least(batch: Buffer, field: str) -> int:
    """The smallest value of a field in a packed batch whose header and columns are right (`unpacked`)."""
    layout = _LAYOUTS[batch[_KIND_AT]]
    *_, count = HEADER.unpack_from(batch)
    return next(column.base for column in _columns(batch, layout, count) if column.name == field)


def base_at(batch: Buffer, field: str) -> int:
    """Where the smallest value of a field stands in such a batch: who changes it moves the whole column."""
    layout = _LAYOUTS[batch[_KIND_AT]]
    *_, count = HEADER.unpack_from(batch)
    return next(column.at - column.field_bytes for column in _columns(batch, layout, count) if column.name == field)


def unpacked_bytes(batch: Buffer) -> int:
    """The length of what `unpacked` makes of a batch, by its header alone."""
    if not is_packed(batch):
        return len(batch)
    *_, count = HEADER.unpack_from(batch)
    return HEADER_BYTES + int(count) * _LAYOUTS[batch[_KIND_AT]].record.itemsize


def _native(field_bytes: int) -> np.dtype[Any]:
    return np.dtype(f"=u{field_bytes}")


def _width(most: int) -> int:
    return _WIDTH_OF_BITS[most.bit_length()]


def _check_header(batch: Buffer, layout: _Layout, records_max: int, bytes_max: int) -> int:
    """The number of records."""
    _, version, _, zero, count = HEADER.unpack_from(batch)
    if version != VERSION:
        raise FlowError("batch.version", f"{version} is not {VERSION}")
    if zero:
        raise FlowError("batch.reserved", f"{zero}; it must be zero")
    if not 1 <= count <= records_max:
        raise FlowError("batch.count", f"{count} is not in 1 to {records_max}")
    size = HEADER_BYTES + count * layout.record.itemsize
    if size > bytes_max:
        raise FlowError("batch", f"{size} bytes, unpacked; at most {bytes_max}")
    if len(batch) * RATIO_MAX < size:
        raise FlowError("batch", f"{len(batch)} bytes for {size}: more than {RATIO_MAX} times is not packed")
    return int(count)


def _columns(batch: Buffer, layout: _Layout, count: int) -> list[_Column]:
    found: list[_Column] = []
    at = HEADER_BYTES
    for name, field_bytes in layout.fields:
        start = at + 1 + field_bytes
        if start > len(batch):
            raise FlowError("batch", f"ends within the column {name}")
        width = batch[at]
        if width not in _WIDTHS or width > field_bytes:
            raise FlowError("batch", f"the column {name} says a width of {width}")
        found.append(_Column(name, field_bytes, width, int.from_bytes(batch[at + 1 : start]), start))
        at = start + width * count
    if at != len(batch):
        raise FlowError("batch", f"{len(batch)} bytes; its columns have {at}")
    return found


def _values(batch: Buffer, column: _Column, count: int) -> NDArray[Any]:
    """The values of a column that varies. Raises FlowError where there is another way to pack them, or none."""
    width = column.width
    differences = np.frombuffer(batch, f">u{width}", count, column.at).astype(_native(width))
    most = int(np.maximum.reduce(differences))  # `max` and `min` cost as much again in Python, for a small batch
    if np.minimum.reduce(differences) or _width(most) != width:
        raise FlowError("batch", f"the column {column.name} is not packed as it should be")
    if column.base + most > _MOST[column.field_bytes]:
        raise FlowError("batch", f"the column {column.name} is beyond what the field holds")
    # Only now as wide as the field: what is narrow is looked through faster.
    values = differences if width == column.field_bytes else differences.astype(_native(column.field_bytes))
    if column.base:
        values += values.dtype.type(column.base)
    return values
