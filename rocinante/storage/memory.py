"""The memory engine: the same interface, nothing on disk. For tests and throw-away clusters.

A node that restarts has forgotten everything, its vote too: it is safe only as a new node under a new id, or where the
whole cluster is thrown away. The log below a compaction is given back at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b

from rocinante.errors import StorageError
from rocinante.raft.types import Entry, HardState, SnapshotMeta
from rocinante.storage.base import Engine, Identity, Loaded, LogStore, Progress, SnapshotFile, SnapshotStore, Write
from rocinante.storage.checks import check_compaction, check_write
from rocinante.storage.snapshots import DIGEST_BYTES


class MemoryLog:
    """A log that ends with the process. One thread writes."""

    def __init__(self) -> None:
        self._hard = HardState()
        self._snapshot = SnapshotMeta()
        self._first = 1
        self._entries: list[Entry] = []
        self._bytes = 0
        self._written = False
        self._closed = False

    def load(self, progress: Progress | None = None) -> Loaded:
        """What was persisted in this process so far: nothing, for a new one."""
        entries = [entry for entry in self._entries if entry.index > self._snapshot.index]
        if progress is not None:
            progress(len(entries), len(entries))
        return Loaded(self._hard, self._snapshot, entries, fresh=not self._written)

    def persist(self, writes: Sequence[Write]) -> None:
        """Raises StorageError when closed, or when entries would leave a gap; then nothing was changed."""
        if self._closed:
            raise StorageError("the log is closed")
        self._check(writes)
        for write in writes:
            self._written = True
            if write.snapshot is not None:
                self._snapshot = write.snapshot
                self._first = write.snapshot.index + 1
                self._entries = []
                self._bytes = 0
            if write.entries:
                at = write.entries[0].index - self._first
                self._bytes -= sum(len(entry.data) for entry in self._entries[at:])
                self._entries[at:] = write.entries
                self._bytes += sum(len(entry.data) for entry in write.entries)
            if write.hard_state is not None:
                self._hard = write.hard_state

    def _check(self, writes: Sequence[Write]) -> None:
        first, last = self._first, self._first + len(self._entries) - 1
        for write in writes:
            first, last = check_write(write, first, last)

    def compact(self, snapshot: SnapshotMeta, keep_from: int) -> None:
        """Remember the snapshot, drop entries below `keep_from`. One older than the last changes nothing."""
        if self._closed:
            raise StorageError("the log is closed")
        check_compaction(snapshot, keep_from, self._first + len(self._entries) - 1)
        if snapshot.index < self._snapshot.index:
            return
        self._snapshot = snapshot
        drop = max(keep_from - self._first, 0)
        self._bytes -= sum(len(entry.data) for entry in self._entries[:drop])
        del self._entries[:drop]
        self._first += drop

    def size_bytes(self) -> int:
        """Of the entries' data."""
        return self._bytes

    def close(self) -> None:
        self._closed = True


class MemorySink:
    def __init__(self, store: MemorySnapshots, meta: SnapshotMeta) -> None:
        self._store = store
        self._meta = meta
        self._chunks: list[bytes] | None = []

    def write(self, chunk: bytes) -> None:
        if self._chunks is None:
            raise StorageError("the snapshot is already finished or given up")
        self._chunks.append(bytes(chunk))

    def finish(self, expected_digest: bytes | None = None) -> SnapshotFile:
        """Raises ValueError when the digest is another."""
        if self._chunks is None:
            raise StorageError("the snapshot is already finished or given up")
        content = b"".join(self._chunks)
        self._chunks = None
        digest = blake2b(content, digest_size=DIGEST_BYTES).digest()
        if expected_digest is not None and digest != expected_digest:
            raise ValueError(
                f"snapshot of index {self._meta.index}: the content's digest is {digest.hex()}, "
                f"expected {expected_digest.hex()}"
            )
        snapshot = SnapshotFile(self._meta, len(content), digest)
        self._store.add(snapshot, content)
        return snapshot

    def abort(self) -> None:
        self._chunks = None


class MemorySnapshots:
    """Snapshots as bytes. Each change replaces the whole table, so that any thread may read."""

    def __init__(self) -> None:
        self._held: dict[tuple[int, int], tuple[SnapshotFile, bytes]] = {}

    def create(self, meta: SnapshotMeta) -> MemorySink:
        return MemorySink(self, meta)

    def add(self, snapshot: SnapshotFile, content: bytes) -> None:
        self._held = {**self._held, (snapshot.meta.index, snapshot.meta.term): (snapshot, content)}

    def list(self) -> Sequence[SnapshotFile]:
        """Oldest first."""
        held = self._held
        return [held[key][0] for key in sorted(held)]

    def read(self, snapshot: SnapshotFile, chunk_bytes: int) -> Iterator[bytes]:
        """The content in chunks. Raises StorageError when it was pruned."""
        held = self._held.get((snapshot.meta.index, snapshot.meta.term))
        if held is None or held[0].digest != snapshot.digest:
            raise StorageError(f"there is no snapshot of index {snapshot.meta.index} with that digest any more")
        content = held[1]
        for at in range(0, len(content), chunk_bytes):
            yield content[at : at + chunk_bytes]

    def prune(self, keep: int) -> None:
        """Drop all but the newest `keep`."""
        held = self._held
        self._held = {key: held[key] for key in sorted(held)[max(len(held) - keep, 0) :]}

    def size_bytes(self) -> int:
        return sum(snapshot.size_bytes for snapshot, _ in self._held.values())


class MemoryEngine:
    """Implements `Engine`."""

    name = "memory"

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.log: LogStore = MemoryLog()
        self.snapshots: SnapshotStore = MemorySnapshots()

    def disk_free_bytes(self) -> int | None:
        return None

    def close(self) -> None:
        self.log.close()

    def abandon(self) -> None:
        self.close()


def open_memory(identity: Identity) -> Engine:
    """An empty engine that keeps nothing."""
    return MemoryEngine(identity)
