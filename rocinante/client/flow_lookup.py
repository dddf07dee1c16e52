"""What a packed look-up found: thousands of flows in one answer, read as columns or as objects.

The bytes are those of docs/flow-format.md, "The packed answer".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from rocinante.client.flow_messages import key_of
from rocinante.client.types import FlowEntry
from rocinante.errors import Internal, InvalidArgument
from rocinante.flows import FlowColumns, FlowError, FlowRecord, FlowTuple, decode_batch, decode_columns, encode_keys
from rocinante.limits import GRPC_MESSAGE_BYTES_MAX
from rocinante.pb.v1 import flow_pb2

__all__ = ["FlowsFound", "pack_keys"]

T = TypeVar("T")
_IN_VARIABLE: Final = 0x80


def pack_keys(flows: bytes | FlowColumns | Iterable[FlowTuple | FlowRecord | bytes | str]) -> bytes:
    """The packed keys of flows of one address family, one behind the other. Raises InvalidArgument."""
    if isinstance(flows, bytes):
        return flows
    if isinstance(flows, FlowColumns):
        try:
            return encode_keys(flows)
        except FlowError as error:
            raise InvalidArgument(f"flows[{error.index}].{error.field}", error.problem) from None
    keys = [key_of(one, f"flows[{number}]") for number, one in enumerate(flows)]
    for number, key in enumerate(keys):
        if len(key) != len(keys[0]):
            raise InvalidArgument(f"flows[{number}]", "is of another address family than the first one")
    return b"".join(keys)


@dataclass(frozen=True, slots=True)
class FlowsFound:
    """The answer to a look-up of many flows; numbers are places in what was asked."""

    packed: flow_pb2.PackedFlows
    index: int
    """What was applied at the node that answered."""
    age_ms: int
    """0 for a linearizable look-up; else how old the answer may be."""

    def __len__(self) -> int:
        return len(self.packed.found)

    @property
    def found(self) -> NDArray[np.bool_]:
        """Which of the flows there are."""
        found: NDArray[np.bool_] = self._marks != 0
        return found

    @property
    def rows(self) -> NDArray[np.intp]:
        """The numbers of the flows that `columns` has, in its order."""
        marks = self._marks
        return np.flatnonzero((marks != 0) & (marks < _IN_VARIABLE))

    def origin(self, number: int) -> str:
        """Who owns the flow; "" where there is none."""
        mark = self.packed.found[number] & ~_IN_VARIABLE
        return self.packed.origins[mark - 1] if mark else ""

    def columns(self) -> FlowColumns | None:
        """The flows of fixed width, one a row of `rows`; None where there are none. Those with names or data are in
        `entries` only."""
        return self._read(lambda: decode_columns(self.packed.batch)) if self.packed.batch else None

    def entries(self) -> tuple[FlowEntry | None, ...]:
        """All of them as objects, in the order asked."""
        return self._read(self._entries)

    def _entries(self) -> tuple[FlowEntry | None, ...]:
        bound = {"records_max": 1 << 20, "bytes_max": GRPC_MESSAGE_BYTES_MAX}
        fixed = iter(decode_batch(self.packed.batch, **bound) if self.packed.batch else ())
        variable = iter(decode_batch(self.packed.variable, **bound) if self.packed.variable else ())
        made: list[FlowEntry | None] = []
        for number, mark in enumerate(self.packed.found):
            if not mark:
                made.append(None)
                continue
            record = next(variable if mark & _IN_VARIABLE else fixed, None)
            if record is None:
                raise FlowError("found", "says more flows than there are")
            made.append(FlowEntry(record, self.origin(number), record.key.hex()))
        return tuple(made)

    @property
    def _marks(self) -> NDArray[np.uint8]:
        return np.frombuffer(self.packed.found, np.uint8)

    @staticmethod
    def _read(reading: Callable[[], T]) -> T:
        try:
            return reading()
        except (FlowError, IndexError) as error:
            raise Internal(
                f"the answer has flows that this client cannot read ({error}): is the client older?"
            ) from None
