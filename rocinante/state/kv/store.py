"""The multi-version store: what etcd calls mvcc. One writer at a time; who reads beside it holds the machine's lock, or
a view (`view.py`).

A store begins at revision 1; every write (a put, a delete that deletes something, a transaction that changes something)
makes one new revision `main`, its changes numbered by `sub`. Between `begin` and `commit` the changes are seen at
`read_revision`, and `rollback` undoes them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rocinante import limits
from rocinante.pb.etcd import kv_pb2
from rocinante.state.events import KvChanges
from rocinante.state.kv import errors
from rocinante.state.kv.history import Change, History
from rocinante.state.kv.versions import KeyIndex, Version, size_bytes, version_at

NEVER_COMPACTED: Final = -1
"""etcd's compactMainRev of a store that was never compacted: a compaction at 0 is allowed once."""


class KvStore:
    def __init__(self) -> None:
        self.revision = 1
        self.compacted = NEVER_COMPACTED
        self.index = KeyIndex()
        self.history = History()
        self.bytes = 0
        """About what all versions take."""
        self.pins = 0
        """Views and frozen states that look at an older revision: as long as there is one, nothing is dropped."""
        self.committed_bytes = 0
        """About what the events of the last commit take."""
        self._changes: list[Change] = []
        self._before: dict[bytes, Version | None] = {}
        """What the keys that this write changes were before it."""
        self._changed_bytes = 0
        self._sweep_at = 0
        """Number of the change up to which the last compaction has been carried out."""
        self._sweeping = False

    @property
    def read_revision(self) -> int:
        """What a read sees now: within a write that has changed something, the revision that it makes."""
        return self.revision + 1 if self._changes else self.revision

    # --- one write: any number of put and delete, then commit or rollback

    def put(self, key: bytes, value: bytes, lease: int) -> None:
        previous = self.index.newest(key)
        main = self.revision + 1
        if previous is None:
            version = Version(main, len(self._changes), main, 1, value, lease)
        else:
            version = Version(main, len(self._changes), previous.create, previous.version + 1, value, lease)
        self._append(key, version, previous)

    def delete(self, key: bytes, range_end: bytes) -> int:
        """Delete a key or a range. Returns how many keys that were."""
        keys = list(self.index.walk_live(key, range_end)) if range_end else [key]
        deleted = 0
        for name in keys:
            previous = self.index.newest(name)
            if previous is not None:
                tombstone = Version(self.revision + 1, len(self._changes), 0, 0, None, 0)
                self._append(name, tombstone, previous)
                deleted += 1
        return deleted

    def commit(self) -> KvChanges | None:
        """Make the changes a revision; None where there were none."""
        if not self._changes:
            return None
        self.revision += 1
        self.committed_bytes = self._changed_bytes
        changed = self._changes
        self._changes = []
        self._before = {}
        self._changed_bytes = 0
        return KvChanges(self.revision, _events_of(changed, with_previous=True))

    def rollback(self) -> None:
        """Undo the changes since the last commit."""
        for change in reversed(self._changes):
            self.index.pop(change.key)
            self.history.pop()
            self.bytes -= size_bytes(change.key, change.version)
        self._changes = []
        self._before = {}
        self._changed_bytes = 0

    def _append(self, key: bytes, version: Version, previous: Version | None) -> None:
        # Of a key that is changed twice at once an event's prev_kv is, both times, what it was at the revision before.
        change = Change(key, version, self._before.setdefault(key, previous))
        self.index.append(key, version)
        self.history.append(change)
        self._changes.append(change)
        size = size_bytes(key, version)
        self.bytes += size
        self._changed_bytes += size + (size_bytes(key, previous) if previous is not None else 0)

    # --- compaction

    def compact(self, revision: int) -> None:
        """Forget what only reads before `revision` can see. Raises OutOfRange. The work is done by `compact_step`."""
        if revision <= self.compacted:
            raise errors.compacted()
        if revision > self.revision:
            raise errors.future_revision()
        # What the running sweep has passed it need not look at again, but for the tombstones that it had to keep.
        kept = self.history.number_of(self.compacted)
        self._sweep_at = min(self._sweep_at, kept) if self._sweeping else self.history.first
        self._sweeping = True
        self.compacted = revision

    def compact_step(self, changes_max: int) -> bool:
        """Carry out some of the last compaction. Returns whether there is more to do. What reads see does not depend on
        it."""
        if not self._sweeping or self.pins:
            return self._sweeping
        start = max(self._sweep_at, self.history.first)
        stop = min(start + changes_max, self.history.after(self.compacted))
        for change in self.history.slice(start, stop):
            self.bytes -= self.index.compact_key(change.key, self.compacted)
        self._sweep_at = stop
        if stop == self.history.after(self.compacted):
            self.history.cut_before(self.compacted)
            self._sweeping = False
        return self._sweeping

    def skip(self, revisions: int) -> None:
        """Leave out so many revisions, and forget the history before them: who waits for one of them is told that it
        was compacted. Only where nobody looks at an older revision.
        """
        if self.pins or self._changes:
            raise ValueError("the store is being read or written")
        self.revision += revisions
        if self.compacted < self.revision:
            self.compact(self.revision)
        while self.compact_step(limits.KV_COMPACT_STEP_CHANGES):
            pass

    # --- watches

    def changes_since(
        self, revision: int, key: bytes, range_end: bytes, changes_max: int
    ) -> tuple[list[KvChanges], int]:
        """(events from `revision` on, the revision to go on with). Raises OutOfRange below the compacted revision.

        Looks at about `changes_max` changes, and never gives a part of a revision.
        """
        if revision < self.compacted:
            raise errors.compacted()
        found: list[KvChanges] = []
        following = max(revision, 1)
        for main, changes in self.history.by_revision(revision, changes_max):
            wanted = [change for change in changes if _within(change.key, key, range_end)]
            if main == self.compacted:
                wanted = self._survivors(wanted)
            if wanted:
                # etcd reads prev_kv at the revision before, which at the compacted revision is gone.
                found.append(KvChanges(main, _events_of(wanted, with_previous=main > self.compacted)))
            following = main + 1
        if self.history.number_of(following) == self.history.after(self.revision):
            following = max(following, self.revision + 1)
        return found, following

    def _survivors(self, changes: list[Change]) -> list[Change]:
        """Of the changes of the compacted revision those that are the last of their keys: the others are gone."""
        last = {change.key: change.version.sub for change in changes}
        return [change for change in changes if last[change.key] == change.version.sub]

    # --- from a snapshot

    def load(self, revision: int, compacted: int, versions: list[tuple[bytes, Version]]) -> None:
        """Fill an empty store. `versions` are in order of key, then of revision."""
        self.revision, self.compacted = revision, compacted
        changes: list[Change] = []
        index = self.index
        for key, version in versions:
            older = index.versions.get(key)
            if older is None:
                previous = None
                index.versions[key] = [version]
            else:
                previous = version_at(older, version.main - 1)
                older.append(version)
            changes.append(Change(key, version, previous))
            self.bytes += size_bytes(key, version)
        index.live.update(key for key, kept in index.versions.items() if kept[-1].value is not None)
        index.dead.update(key for key, kept in index.versions.items() if kept[-1].value is None)
        changes.sort(key=lambda change: change.version[:2])
        for change in changes:
            if change.version.main >= compacted:
                self.history.append(change)


def _events_of(changes: list[Change], *, with_previous: bool) -> Callable[[], tuple[kv_pb2.Event, ...]]:
    return lambda: tuple([change.event(with_previous=with_previous) for change in changes])


def _within(name: bytes, key: bytes, range_end: bytes) -> bool:
    if not range_end:
        return name == key
    return name >= key and (range_end == b"\0" or name < range_end)
