"""What was changed, in order of revision, since the last compaction: for watches that resume, and for the compaction
itself."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple

from rocinante.pb.etcd import kv_pb2
from rocinante.state.kv.versions import Version, fill

_TRIM_CHANGES_MIN: Final = 4096
"""The lists are cut only when at least so many, and half of them, have gone: so that cutting costs O(1) a change."""


class Change(NamedTuple):
    """A key's new version, and the one before where that was a value."""

    key: bytes
    version: Version
    previous: Version | None

    def event(self, *, with_previous: bool = True) -> kv_pb2.Event:
        """etcd's event: of a deletion `kv` has the key and mod_revision only."""
        key, version, previous = self
        event = kv_pb2.Event()
        if version.value is None:
            event.type = kv_pb2.Event.DELETE
            event.kv.key = key
            event.kv.mod_revision = version.main
        else:
            fill(event.kv, key, version)
        if previous is not None and with_previous:
            fill(event.prev_kv, key, previous)
        return event


class History:
    """A list of changes whose front is cut by compaction. A change's number stays what it is when the front goes."""

    __slots__ = ("_changes", "_cut", "_first", "_mains")

    def __init__(self) -> None:
        self._mains: list[int] = []
        self._changes: list[Change] = []
        self._first = 0
        """Where in the lists the changes that count begin."""
        self._cut = 0
        """How many changes were cut from the lists."""

    def __len__(self) -> int:
        return len(self._mains) - self._first

    @property
    def first(self) -> int:
        """Number of the oldest change."""
        return self._cut + self._first

    def append(self, change: Change) -> None:
        self._mains.append(change.version.main)
        self._changes.append(change)

    def pop(self) -> None:
        """Take the newest change away again."""
        self._mains.pop()
        self._changes.pop()

    def number_of(self, revision: int) -> int:
        """Number of the first change of this revision or a later one."""
        return self._cut + bisect_left(self._mains, revision, self._first)

    def after(self, revision: int) -> int:
        """Number of the first change behind this revision."""
        return self._cut + bisect_right(self._mains, revision, self._first)

    def slice(self, start: int, stop: int) -> list[Change]:
        """Changes by number."""
        return self._changes[max(start - self._cut, self._first) : max(stop - self._cut, 0)]

    def by_revision(self, revision: int, changes_max: int) -> Iterator[tuple[int, list[Change]]]:
        """(revision, its changes) from this one on; begins no other when it has given `changes_max`."""
        at = self.number_of(revision) - self._cut
        end = len(self._mains)
        stop = min(end, at + changes_max)
        while at < stop:
            main = self._mains[at]
            last = bisect_right(self._mains, main, at)
            yield main, list(islice(self._changes, at, last))
            at = last

    def cut_before(self, revision: int) -> None:
        """Forget the changes of all revisions before this one."""
        self._first = bisect_left(self._mains, revision, self._first)
        if self._first >= _TRIM_CHANGES_MIN and self._first * 2 >= len(self._mains):
            del self._mains[: self._first]
            del self._changes[: self._first]
            self._cut += self._first
            self._first = 0
