"""The versions of keys, and where they are found: by key, in key order, at a revision.

A key is in `live` while its newest version is a value, in `dead` while it is a tombstone; both are sorted, so that a
range is a walk and a count a bisection. The versions of a key are in order of revision, oldest first.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from heapq import merge
from itertools import islice
from operator import itemgetter
from typing import Final, NamedTuple

from sortedcontainers import SortedList

from rocinante.pb.etcd import kv_pb2

FROM_KEY: Final = b"\0"
"""As a range's end: all keys from its start on."""
_main = itemgetter(0)


class Version(NamedTuple):
    """One version of a key. A tombstone has `value` None and version 0."""

    main: int
    sub: int
    create: int
    version: int
    value: bytes | None
    lease: int


def fill(message: kv_pb2.KeyValue, key: bytes, version: Version, *, keys_only: bool = False) -> None:
    """Write a version that is no tombstone into an empty message. (Setting fields is twice as fast as passing them.)"""
    main, _, create, number, value, lease = version
    message.key = key
    message.create_revision = create
    message.mod_revision = main
    message.version = number
    if value and not keys_only:
        message.value = value
    if lease:
        message.lease = lease


class KeyIndex:
    """All keys with at least one version."""

    __slots__ = ("dead", "live", "versions")

    def __init__(self) -> None:
        self.versions: dict[bytes, list[Version]] = {}
        self.live: SortedList[bytes] = SortedList()
        self.dead: SortedList[bytes] = SortedList()

    def newest(self, key: bytes) -> Version | None:
        """The newest version that is no tombstone."""
        versions = self.versions.get(key)
        if versions is None or versions[-1].value is None:
            return None
        return versions[-1]

    def append(self, key: bytes, version: Version) -> None:
        """Add a key's newest version."""
        versions = self.versions.get(key)
        if versions is None:
            self.versions[key] = [version]
            (self.dead if version.value is None else self.live).add(key)
            return
        self._move(key, versions[-1].value is None, version.value is None)
        versions.append(version)

    def pop(self, key: bytes) -> Version:
        """Take a key's newest version away again."""
        versions = self.versions[key]
        version = versions.pop()
        if versions:
            self._move(key, version.value is None, versions[-1].value is None)
        else:
            (self.dead if version.value is None else self.live).remove(key)
            del self.versions[key]
        return version

    def _move(self, key: bytes, was_dead: bool, is_dead: bool) -> None:
        if was_dead != is_dead:
            (self.dead if was_dead else self.live).remove(key)
            (self.dead if is_dead else self.live).add(key)

    def at(self, key: bytes, revision: int) -> Version | None:
        """The version that held at `revision`; None where there was none or a tombstone."""
        versions = self.versions.get(key)
        if versions is None:
            return None
        return version_at(versions, revision)

    def count(self, key: bytes, range_end: bytes) -> int:
        """Live keys in a range, by bisection."""
        if not range_end:
            return 1 if self.newest(key) is not None else 0
        end = len(self.live) if range_end == FROM_KEY else self.live.bisect_left(range_end)
        return max(0, end - self.live.bisect_left(key))

    def walk_live(self, key: bytes, range_end: bytes, *, inclusive: bool = True) -> Iterator[bytes]:
        """Live keys of a range in order; `inclusive` False leaves `key` itself out."""
        return _irange(self.live, key, range_end, inclusive)

    def walk_all(self, key: bytes, range_end: bytes, *, inclusive: bool = True) -> Iterator[bytes]:
        """Keys of a range in order, dead ones too."""
        return merge(_irange(self.live, key, range_end, inclusive), _irange(self.dead, key, range_end, inclusive))

    def compact_key(self, key: bytes, revision: int) -> int:
        """Drop what no read at `revision` or later can see. Returns about how many bytes that freed.

        A tombstone of exactly this revision stays, so that a watch that resumes here still sees it (etcd issue 19179).
        """
        versions = self.versions.get(key)
        if versions is None:
            return 0
        keep = bisect_right(versions, revision, key=_main) - 1
        if keep < 0:
            return 0
        if versions[keep].value is None and versions[keep].main < revision:
            keep += 1
        freed = sum(size_bytes(key, version) for version in islice(versions, keep))
        if keep == len(versions):
            del self.versions[key]
            self.dead.remove(key)
        elif keep:
            del versions[:keep]
        return freed


def version_at(versions: list[Version], revision: int) -> Version | None:
    """Of one key's versions the one that held at `revision`; None where there was none or a tombstone."""
    newest = versions[-1]
    if newest.main > revision:
        at = bisect_right(versions, revision, key=_main) - 1
        if at < 0:
            return None
        newest = versions[at]
    return newest if newest.value is not None else None


def retained(versions: list[Version], compacted: int, revision: int) -> list[Version]:
    """Of one key's versions those that count, at `revision`, after a compaction at `compacted`: the same on all
    nodes."""
    first = max(0, bisect_right(versions, compacted, key=_main) - 1)
    last = bisect_right(versions, revision, key=_main)
    kept = versions[first:last]
    if kept and kept[0].value is None and kept[0].main < compacted:
        del kept[0]
    return kept


def size_bytes(key: bytes, version: Version) -> int:
    """About what one version takes in memory."""
    return 200 + len(key) + len(version.value or b"")


def _irange(keys: SortedList[bytes], key: bytes, range_end: bytes, inclusive: bool) -> Iterator[bytes]:
    if range_end == FROM_KEY:
        return keys.irange(minimum=key, inclusive=(inclusive, False))
    if range_end <= key:
        return iter(())
    return keys.irange(minimum=key, maximum=range_end, inclusive=(inclusive, False))
