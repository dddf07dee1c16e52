"""The log: every entry since the last compaction, and the cursors that run along it.

Contract:
- entries are contiguous, their terms never fall; an entry at or below `commit` is never replaced (raft paper, figure 3:
  log matching, leader completeness): the attempt raises `FatalInconsistency`.
- `applied <= applying <= min(commit, persisted)`, `commit <= last_index`. What is not on this node's disk is not
  applied.
- every operation is O(1) or O(log n) by index, and moves entries by reference.

Sizes are kept as running totals beside the entries, so that the bytes of any range are one subtraction, and the end of
a slice is one binary search.

Writes are asynchronous: `take_unhanded(number)` hands entries to the disk, `written(number)` acknowledges. A
truncation *clips* the writes in flight, so that the acknowledgement of an old write never marks a newer entry at the
same index as persisted, even if that entry has the old one's term again (the ABA race of asynchronous storage).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from itertools import accumulate
from operator import attrgetter
from typing import Final

from .types import Entry, EntryKind, FatalInconsistency, SnapshotMeta

ENTRY_OVERHEAD_BYTES: Final = 24
"""What an entry counts in every byte limit beside its data: index, term, kind and framing on the wire."""

_CONFIG: Final = EntryKind.CONFIG
_term_of = attrgetter("term")


class _Write:
    """Entries up to `last_index` (and a snapshot, if not 0) that are on their way to the disk."""

    __slots__ = ("last_index", "number", "snapshot_index")

    def __init__(self, number: int, last_index: int, snapshot_index: int) -> None:
        self.number = number
        self.last_index = last_index
        self.snapshot_index = snapshot_index


class RaftLog:
    """The log of one node. See the module for its contract."""

    __slots__ = (
        "_applying_batches",
        "_entries",
        "_handed",
        "_offset",
        "_offset_term",
        "_pending_snapshot",
        "_size_base",
        "_sizes",
        "_snapshot_unhanded",
        "_writes",
        "applied",
        "applying",
        "applying_bytes",
        "commit",
        "config_indexes",
        "last_index",
        "last_term",
        "low",
        "persisted",
        "snapshot",
    )

    def __init__(self, snapshot: SnapshotMeta, entries: Sequence[Entry], *, commit: int, applied: int) -> None:
        """A log as it was found on disk. `entries` may reach back before the snapshot. Raises `FatalInconsistency`."""
        if entries and entries[-1].index < snapshot.index:
            entries = ()  # the snapshot stands for all of them
        _check_stored(snapshot, entries)
        self.snapshot = snapshot
        self._offset = entries[0].index - 1 if entries else snapshot.index
        self._offset_term = snapshot.term if self._offset == snapshot.index else 0
        # The term just before entries that reach back behind the snapshot is not stored: nothing can be matched there.
        self.low = self._offset if self._offset in (snapshot.index, 0) else self._offset + 1
        self._entries: list[Entry] = list(entries)
        self._size_base = 0
        self._sizes: list[int] = list(accumulate(len(entry.data) + ENTRY_OVERHEAD_BYTES for entry in entries))
        self.config_indexes: deque[int] = deque(entry.index for entry in entries if entry.kind is _CONFIG)
        self.last_index = self._offset + len(self._entries)
        self.last_term = entries[-1].term if entries else snapshot.term
        if max(commit, applied) > self.last_index:
            raise FatalInconsistency(
                f"the log ends at {self.last_index}, but {max(commit, applied)} was committed: stored entries were lost"
            )
        self.applied = self.applying = max(applied, snapshot.index)
        self.commit = max(commit, self.applied)
        self.persisted = self._handed = self.last_index
        self._writes: deque[_Write] = deque()
        self._pending_snapshot = self._snapshot_unhanded = 0
        self.applying_bytes = 0
        self._applying_batches: deque[tuple[int, int]] = deque()

    # --- reading ------------------------------------------------------------------------------------------------

    @property
    def first_index(self) -> int:
        """The first entry that is here (or will be, if there is none)."""
        return self._offset + 1

    def term(self, index: int) -> int:
        """The term of the entry at `index`; 0 where it is not known (before `low`, after the end, and at index 0)."""
        position = index - self._offset
        if position > 0:
            return self._entries[position - 1].term if position <= len(self._entries) else 0
        return self._offset_term if position == 0 else 0

    def matches(self, index: int, term: int) -> bool:
        """Whether the entry at `index` is here with `term` (the consistency check of AppendEntries, paper 5.3)."""
        return self.low <= index <= self.last_index and self.term(index) == term

    def is_up_to_date(self, index: int, term: int) -> bool:
        """Whether a log that ends with (index, term) is at least as up-to-date as this one (paper 5.4.1)."""
        return term > self.last_term or (term == self.last_term and index >= self.last_index)

    def entry(self, index: int) -> Entry:
        """The entry at `index`, which must be here."""
        position = index - self._offset - 1
        if position < 0:
            raise IndexError(f"entry {index} is compacted, the log begins at {self.first_index}")
        return self._entries[position]

    def slice(self, lo: int, hi: int, max_bytes: int) -> tuple[Entry, ...]:
        """Entries from `lo` to `hi`, both included, as many as fit into `max_bytes`, at least one."""
        start, stop = lo - self._offset - 1, hi - self._offset
        if start < 0 or stop > len(self._entries):
            raise FatalInconsistency(f"slice {lo}..{hi} of a log from {self.first_index} to {self.last_index}")
        if start >= stop:
            return ()
        sizes = self._sizes
        before = sizes[start - 1] if start else self._size_base
        if sizes[stop - 1] - before > max_bytes:
            stop = max(start + 1, bisect_right(sizes, before + max_bytes, start, stop))
        return tuple(self._entries[start:stop])

    def size(self, after: int, upto: int) -> int:
        """Bytes of the entries in (after, upto]."""
        return self._total(upto) - self._total(after)

    def _total(self, index: int) -> int:
        position = index - self._offset
        return self._sizes[position - 1] if position > 0 else self._size_base

    @property
    def uncommitted_bytes(self) -> int:
        return self._total(self.last_index) - self._total(self.commit)

    def find_conflict_by_term(self, index: int, term: int) -> tuple[int, int]:
        """The greatest (index', term') here with index' <= index and term' <= term: a guess where two logs still agree.

        Both sides use it to skip a whole term for each rejection (paper 5.3, end; dissertation 3.5). term' is 0 where
        it is not known any more.
        """
        index = min(index, self.last_index)
        position = bisect_right(self._entries, term, 0, max(0, index - self._offset), key=_term_of)
        if position:
            return self._offset + position, self._entries[position - 1].term
        if index < self._offset:
            return index, 0
        if self._offset_term <= term:
            return self._offset, self._offset_term
        return max(0, self._offset - 1), 0

    def has_config_between(self, after: int, upto: int) -> bool:
        """Whether a CONFIG entry lies in (after, upto]."""
        return any(after < index <= upto for index in self.config_indexes)

    # --- growing ------------------------------------------------------------------------------------------------

    def append(self, term: int, kind: EntryKind, data: bytes) -> int:
        """The leader's append: one new entry at the end. Returns its index."""
        index = self.last_index + 1
        self._entries.append(Entry(index, term, kind, data))
        sizes = self._sizes
        sizes.append((sizes[-1] if sizes else self._size_base) + len(data) + ENTRY_OVERHEAD_BYTES)
        self.last_index = index
        self.last_term = term
        if kind is _CONFIG:
            self.config_indexes.append(index)
        return index

    def accept(self, entries: tuple[Entry, ...]) -> None:
        """The follower's append: `entries` follow one that `matches`. Replaces a conflicting suffix, and only that.

        Entries that are here already stay, so that a late, shorter append erases nothing (paper, figure 2, steps 3-4).
        """
        if entries[0].index <= self.last_index:
            entries = self._without_known(entries)
            if not entries:
                return
            if entries[0].index <= self.last_index:
                self._truncate(entries[0].index)
        if entries[0].index != self.last_index + 1 or entries[0].term < self.last_term:
            raise FatalInconsistency(
                f"entry {entries[0].index} of term {entries[0].term} cannot follow "
                f"{self.last_index} of term {self.last_term}"
            )
        total = self._sizes[-1] if self._sizes else self._size_base
        for entry in entries:
            total += len(entry.data) + ENTRY_OVERHEAD_BYTES
            self._sizes.append(total)
            if entry.kind is _CONFIG:
                self.config_indexes.append(entry.index)
        self._entries.extend(entries)
        self.last_index = entries[-1].index
        self.last_term = entries[-1].term

    def _without_known(self, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
        for position, entry in enumerate(entries):
            if entry.index > self.last_index or self.term(entry.index) != entry.term:
                return entries[position:] if position else entries
        return ()

    def _truncate(self, index: int) -> None:
        """Drops the entry at `index` and all after it."""
        if index <= self.commit:
            raise FatalInconsistency(f"entry {index} conflicts with a committed one (commit is {self.commit})")
        keep = index - self._offset - 1
        del self._entries[keep:], self._sizes[keep:]
        self._clip(index - 1)
        while self.config_indexes and self.config_indexes[-1] >= index:
            self.config_indexes.pop()
        self.last_index = index - 1
        self.last_term = self.term(index - 1)

    def _clip(self, index: int) -> None:
        for write in self._writes:
            write.last_index = min(write.last_index, index)
        self._handed = min(self._handed, index)
        self.persisted = min(self.persisted, index)

    # --- committing and applying --------------------------------------------------------------------------------

    def commit_to(self, index: int) -> bool:
        """Moves `commit` forward, never back. Returns whether it moved."""
        if index <= self.commit:
            return False
        if index > self.last_index:
            raise FatalInconsistency(
                f"told that {index} is committed, but the log ends at {self.last_index}: this node lost entries that "
                "it had acknowledged; it must be wiped, removed and added again"
            )
        self.commit = index
        return True

    @property
    def has_committed(self) -> bool:
        """Whether there is something to hand to the state machine."""
        return self.applying < self.commit and self.applying < self.persisted and not self._pending_snapshot

    def take_committed(self, max_bytes: int, max_applying_bytes: int) -> tuple[Entry, ...]:
        """The next committed entries that are on this node's disk; they count as *applying* from now on."""
        if not self.has_committed or self.applying_bytes >= max_applying_bytes:
            return ()
        entries = self.slice(self.applying + 1, min(self.commit, self.persisted), max_bytes)
        last = entries[-1].index
        size = self.size(self.applying, last)
        self.applying = last
        self.applying_bytes += size
        self._applying_batches.append((last, size))
        return entries

    def applied_to(self, index: int) -> None:
        """The state machine holds everything up to `index`."""
        if index > self.applying:
            raise FatalInconsistency(f"applied {index}, but only {self.applying} was handed out")
        self.applied = max(self.applied, index)
        while self._applying_batches and self._applying_batches[0][0] <= index:
            self.applying_bytes -= self._applying_batches.popleft()[1]

    # --- the disk -----------------------------------------------------------------------------------------------

    @property
    def has_unhanded(self) -> bool:
        """Whether there is something that the disk has not been told of."""
        return self._handed < self.last_index or bool(self._snapshot_unhanded)

    def take_unhanded(self, number: int) -> tuple[SnapshotMeta | None, tuple[Entry, ...]]:
        """What write `number` must make durable: a restored snapshot, then entries."""
        if not self.has_unhanded:
            return None, ()
        snapshot = self.snapshot if self._snapshot_unhanded else None
        entries = tuple(self._entries[self._handed - self._offset :])
        self._handed = self.last_index
        self._writes.append(_Write(number, self.last_index, self._snapshot_unhanded))
        self._snapshot_unhanded = 0
        return snapshot, entries

    def written(self, number: int) -> None:
        """All writes up to `number` are durable."""
        while self._writes and self._writes[0].number <= number:
            write = self._writes.popleft()
            self.persisted = max(self.persisted, write.last_index)
            if write.snapshot_index and write.snapshot_index == self._pending_snapshot:
                self._pending_snapshot = 0
                self.applied = self.applying = max(self.applying, write.snapshot_index)
                self.applying_bytes = 0
                self._applying_batches.clear()

    # --- snapshots ----------------------------------------------------------------------------------------------

    @property
    def pending_snapshot(self) -> int:
        """Index of a restored snapshot that is not durable yet, or 0."""
        return self._pending_snapshot

    def restore(self, snapshot: SnapshotMeta) -> None:
        """Replaces the whole log by a snapshot that is ahead of `commit` (paper, figure 13, step 7)."""
        if snapshot.index <= self.commit:
            raise FatalInconsistency(f"snapshot {snapshot.index} is behind commit {self.commit}")
        # Writes in flight are of entries that this log does not have any more: they acknowledge the committed part
        # only.
        self._clip(self.commit)
        self._entries.clear()
        self._sizes.clear()
        self._size_base = 0
        self.config_indexes.clear()
        self.snapshot = snapshot
        self._offset = self.low = self.last_index = self.commit = self._handed = snapshot.index
        self._offset_term = self.last_term = snapshot.term
        self._pending_snapshot = self._snapshot_unhanded = snapshot.index

    def first_within(self, index: int, size_bytes: int) -> int:
        """The lowest index from which the entries up to `index` are of at most `size_bytes`."""
        floor = self._total(index) - size_bytes
        if self._size_base >= floor:
            return self._offset + 1
        return self._offset + 2 + bisect_left(self._sizes, floor)

    def compact(self, index: int, snapshot: SnapshotMeta) -> bool:
        """Drops the entries up to `index`; `snapshot` (at or after it) is what peers behind that get from now on.

        False, and nothing done, if a newer snapshot is known or being restored.
        """
        if self._pending_snapshot or snapshot.index < self.snapshot.index:
            return False
        if not index <= snapshot.index <= self.applied:
            raise ValueError(
                f"index: {index} must not be after the snapshot {snapshot.index}, nor that after applied {self.applied}"
            )
        if self.low <= snapshot.index and self.term(snapshot.index) != snapshot.term:
            raise FatalInconsistency(
                f"snapshot {snapshot.index} has term {snapshot.term}, the log {self.term(snapshot.index)}"
            )
        self.snapshot = snapshot
        drop = index - self._offset
        if drop <= 0:
            return True
        self._offset_term = self.term(index)
        self._size_base = self._total(index)
        self._offset = self.low = index
        del self._entries[:drop], self._sizes[:drop]
        while self.config_indexes and self.config_indexes[0] <= index:
            self.config_indexes.popleft()
        return True


def _check_stored(snapshot: SnapshotMeta, entries: Sequence[Entry]) -> None:
    """What was read from disk must be one log: contiguous, of rising terms, in agreement with the snapshot."""
    if not entries:
        return
    if entries[0].index > snapshot.index + 1:
        raise FatalInconsistency(f"entries are missing between snapshot {snapshot.index} and {entries[0].index}")
    index, term = entries[0].index - 1, 0
    for entry in entries:
        if entry.index != index + 1 or entry.term < term or entry.term < 1:
            raise FatalInconsistency(
                f"entry {entry.index} of term {entry.term} follows {index} of term {term} in the stored log"
            )
        if entry.index == snapshot.index and entry.term != snapshot.term:
            raise FatalInconsistency(
                f"the stored log has term {entry.term} at {entry.index}, the snapshot {snapshot.term}"
            )
        index, term = entry.index, entry.term
    if entries[0].index == snapshot.index + 1 and entries[0].term < snapshot.term:
        raise FatalInconsistency(
            f"entry {entries[0].index} of term {entries[0].term} follows a snapshot of term {snapshot.term}"
        )
