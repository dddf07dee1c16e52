"""What may stand in a column, taken as arrays: numbers, yes or no, addresses.

A column is whatever numpy takes (arrays, `array.array`, memoryviews, lists), or one value that holds for every row.
Each function checks every row and raises FlowError with the column's name and the number of the first row at fault.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rocinante.flows.errors import FlowError
from rocinante.flows.key import parse_address

Array = NDArray[Any]
Mask = NDArray[np.bool_]
Bytes = NDArray[np.uint8]
U64 = NDArray[np.uint64]

_V4_MAX: Final = 0xFFFFFFFF
_TYPES: Final = {(1 << bits) - 1: np.dtype(f"u{bits // 8}") for bits in (8, 16, 32, 64)}


def fail(column: str, problem: str, row: int) -> FlowError:
    """The error for a row of a column; row -1: the column as a whole."""
    return FlowError(column, problem, row)


def numbers(column: str, given: Any, rows: int, most: int) -> Array:
    """Whole numbers from 0 to `most`, the greatest of an unsigned type: an array of `rows` of that type, or of no
    dimension for one value that holds for all."""
    found = _array(column, given, rows)
    if found.dtype.kind not in "iu":
        found = _exact(column, given, found)
    if found.size and (
        (found.dtype.kind == "i" and found.min() < 0) or (_greatest(found) > most and int(found.max()) > most)
    ):
        wrong = np.atleast_1d((found < 0) | (found > most) if found.dtype.kind == "i" else found > most)
        row = int(wrong.argmax())
        raise fail(column, f"{int(np.atleast_1d(found)[row])} is not in 0 to {most}", row)
    return found.astype(_TYPES[most], copy=False)


def _greatest(found: Array) -> int:
    return int(np.iinfo(found.dtype).max)


def _array(column: str, given: Any, rows: int) -> Array:
    try:
        found = np.asarray(given)
    except (ValueError, TypeError, OverflowError) as error:
        raise fail(column, f"is no column of numbers ({error})", -1) from None
    if found.ndim and found.shape != (rows,):
        raise fail(column, f"has the shape {found.shape}; expected one value, or {rows} as the other columns", -1)
    return found


def _exact(column: str, given: Any, found: Array) -> Array:
    """What numpy did not take for whole numbers: a list whose numbers need 64 bits, or the row that is none."""
    values = np.atleast_1d(np.array(given, dtype=object)).tolist()
    for row, value in enumerate(values):
        if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
            raise fail(column, f"{value!r} is not a whole number", row)
        if not 0 <= value < 1 << 64:
            raise fail(column, f"{value} is not in 0 to {(1 << 64) - 1}", row)
    exact = np.array([int(value) for value in values], np.uint64)
    return exact if found.ndim else exact.reshape(())


def mask(column: str, given: Any, rows: int) -> Mask:
    """Yes or no for each row."""
    found = _array(column, given, rows)
    if found.dtype.kind == "O" or found.dtype.kind not in "biu" or (found.size and found.max() > 1):
        raise fail(column, "is not a column of true and false", -1)
    return np.broadcast_to(found.astype(np.bool_), (rows,))


class Addresses(NamedTuple):
    """A column of addresses: `number` where all are IPv4, else `wide`, where one of IPv4 is in the first 4 of the 16
    bytes, the others zero, and `is_v4` says so."""

    number: Array | None
    wide: Bytes | None
    is_v4: Mask

    def take(self, rows: Array) -> Addresses:
        return Addresses(
            None if self.number is None else self.number[rows],
            None if self.wide is None else self.wide[rows],
            self.is_v4[rows],
        )

    def as_v4(self) -> Array:
        """As numbers, of rows that are all IPv4."""
        if self.number is not None:
            return self.number
        assert self.wide is not None
        return np.ascontiguousarray(self.wide[:, :4]).view(">u4")[:, 0].astype(np.uint32)

    def halves(self) -> tuple[U64, U64]:
        """The upper and the lower 64 bits, of IPv4 in the first 4 bytes."""
        if self.number is not None:
            return self.number.astype(np.uint64) << np.uint64(32), np.zeros(len(self.number), np.uint64)
        assert self.wide is not None
        both = np.ascontiguousarray(self.wide).view(">u8").astype(np.uint64)
        return both[:, 0], both[:, 1]


def addresses(column: str, given: Any, rows: int, is_v4: Any = None) -> Addresses:
    """Addresses as 32-bit numbers (IPv4), as rows of 4 or 16 bytes, or as a list of texts or packed addresses, both
    families mixed; one text or number holds for every row.

    `is_v4`: of rows of 16 bytes those that hold an IPv4 address in the first 4.
    """
    if isinstance(given, str):
        given = [given]
    if isinstance(given, list | tuple) and any(isinstance(one, str | bytes) for one in given):
        found = _listed(column, given)
    else:
        found = _arrayed(column, given, rows)
    if len(found.is_v4) == 1 != rows and (isinstance(given, int) or len(given) == 1):
        found = found.take(np.zeros(rows, np.intp))
    if len(found.is_v4) != rows:
        raise fail(column, f"has {len(found.is_v4)} addresses; the other columns have {rows} rows", -1)
    return (
        found if is_v4 is None or found.wide is None else _marked(column, found, mask(f"{column}_is_v4", is_v4, rows))
    )


def _marked(column: str, found: Addresses, said: Mask) -> Addresses:
    assert found.wide is not None
    wrong = said & ~found.is_v4 & found.wide[:, 4:].any(axis=1)
    if wrong.any():
        raise fail(column, "is said to be IPv4, and the last 12 bytes are not zero", int(wrong.argmax()))
    return found._replace(is_v4=found.is_v4 | said)


def _arrayed(column: str, given: Any, rows: int) -> Addresses:
    found = np.asarray(given)
    if found.dtype.kind == "V" and found.dtype.names is None and found.ndim == 1 and found.dtype.itemsize in (4, 16):
        found = np.ascontiguousarray(found).view(np.uint8).reshape(len(found), -1)
    if found.ndim == 2 and found.dtype == np.uint8 and found.shape[1] in (4, 16):
        if found.shape[1] == 4:
            number = np.ascontiguousarray(found).view(">u4")[:, 0].astype(np.uint32)
            return Addresses(number, None, np.ones(len(found), np.bool_))
        return Addresses(None, found, np.zeros(len(found), np.bool_))
    if found.ndim == 2:
        raise fail(column, f"has the shape {found.shape} of {found.dtype}; expected rows of 4 or 16 uint8", -1)
    checked = np.atleast_1d(numbers(column, given, rows, _V4_MAX)).astype(np.uint32)
    return Addresses(checked, None, np.ones(len(checked), np.bool_))


def _listed(column: str, given: Sequence[Any]) -> Addresses:
    """Texts and packed addresses; each text is read once."""
    packed: list[bytes] = []
    known: dict[str, bytes] = {}
    for row, one in enumerate(given):
        if isinstance(one, str):
            found = known.get(one)
            if found is None:
                try:
                    found = known[one] = parse_address(one, column)
                except FlowError as error:
                    raise error.at(row) from None
        elif isinstance(one, bytes) and len(one) in (4, 16):
            found = one
        else:
            raise fail(column, f"{one!r} is neither text nor 4 or 16 bytes", row)
        packed.append(found)
    is_v4 = np.fromiter((len(one) == 4 for one in packed), np.bool_, len(packed))
    if is_v4.all():
        number = np.frombuffer(b"".join(packed), ">u4").astype(np.uint32)
        return Addresses(number, None, is_v4)
    wide = np.frombuffer(b"".join(one.ljust(16, b"\0") for one in packed), np.uint8).reshape(len(packed), 16)
    return Addresses(None, wide, is_v4)
