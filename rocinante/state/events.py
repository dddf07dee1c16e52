"""What applying an entry changed, as watchers get it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from typing import Final, NamedTuple, overload

from rocinante.flows import unpacked
from rocinante.flows.batch import Buffer
from rocinante.pb.etcd import kv_pb2


class FlowChange(IntEnum):
    PUT = 0
    DELETE = 1
    EXPIRE = 2


class KvChanges:
    """All events of one revision, in order; `prev_kv` is always filled where there was one.

    The messages are made when they are first asked for: most of what is applied nobody watches. They are shared by all
    who look at them, and not to be changed.
    """

    __slots__ = ("_events", "_make", "revision")

    def __init__(
        self, revision: int, events: tuple[kv_pb2.Event, ...] | Callable[[], tuple[kv_pb2.Event, ...]]
    ) -> None:
        self.revision = revision
        self._events: tuple[kv_pb2.Event, ...] | None = None
        self._make: Callable[[], tuple[kv_pb2.Event, ...]] | None = None
        if callable(events):
            self._make = events
        else:
            self._events = events

    @property
    def events(self) -> tuple[kv_pb2.Event, ...]:
        # Two threads may both make them: they make the same, and either's stays.
        events, make = self._events, self._make
        if events is None:
            events = self._events = make() if make is not None else ()
        return events

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KvChanges) and (self.revision, self.events) == (other.revision, other.events)

    __hash__ = None  # type: ignore[assignment]  # messages have no hash either

    def __repr__(self) -> str:
        return f"KvChanges(revision={self.revision}, events={self.events!r})"


class PackedKeys(Sequence[bytes]):
    """Keys of one width, one behind the other. They are taken apart when somebody looks at them: a million flows may
    end in one second, and most of what ends nobody watches."""

    __slots__ = ("key_bytes", "packed")

    def __init__(self, packed: bytes = b"", key_bytes: int = 16) -> None:
        self.packed = packed
        self.key_bytes = key_bytes

    def __len__(self) -> int:
        return len(self.packed) // self.key_bytes

    @overload
    def __getitem__(self, number: int) -> bytes: ...
    @overload
    def __getitem__(self, number: slice) -> tuple[bytes, ...]: ...
    def __getitem__(self, number: int | slice) -> bytes | tuple[bytes, ...]:
        if isinstance(number, slice):
            return tuple(self)[number]
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        at = number % len(self) * self.key_bytes
        return self.packed[at : at + self.key_bytes]

    def __iter__(self) -> Iterator[bytes]:
        return (key for (key,) in struct.iter_unpack(f"{self.key_bytes}s", self.packed))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]  # equal to a tuple, which has another hash

    def __repr__(self) -> str:
        return f"PackedKeys({list(self)!r})"


NO_KEYS: Final = PackedKeys()


class FlowChanges(NamedTuple):
    """One batch as it was written (PUT), or the keys that went."""

    kind: FlowChange
    origin: str
    written: Buffer = b""
    """Of a packed one a part of its entry, not a copy."""
    keys: PackedKeys = NO_KEYS

    @property
    def batch(self) -> bytes:
        """The batch as watchers get it: of a fixed kind where it was written packed. That is done when somebody asks:
        most of what is applied nobody watches."""
        return bytes(unpacked(self.written))


class AppliedEvents(NamedTuple):
    """Everything that the entry at `index` changed. `size_bytes` is about what it holds, for the bounds of queues."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    kv: tuple[KvChanges, ...]
    flows: tuple[FlowChanges, ...]
    size_bytes: int
