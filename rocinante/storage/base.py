"""The small interface behind which LevelDB and the memory engine stand. Only the `disk` thread writes.

Any failure of a write or a sync raises `StorageError`; the caller must stop the node without another reply (DESIGN,
section 6: after a failed fsync the pages are marked clean, a retry lies).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from rocinante.raft.types import Entry, HardState, SnapshotMeta


class Identity(NamedTuple):
    """Whose data this is; kept in the directory and checked at every open."""

    cluster_id: int
    node_id: int
    datacenter: str
    cluster: str = ""
    """The cluster's name, for people; what is compared is the id. Empty in a directory that an older version made."""
    lineage: str = ""
    """The word that the cluster was restored under; "": it began empty."""


class Write(NamedTuple):
    """What one Ready wants durable. `entries` replace everything from `entries[0].index` on."""

    hard_state: HardState | None = None
    entries: Sequence[Entry] = ()
    snapshot: SnapshotMeta | None = None
    """A snapshot received from the leader: its content is already durable; the log before and after it goes."""


@dataclass(slots=True)
class Loaded:
    """What was found at the start: contiguous entries after the snapshot, all checked."""

    hard_state: HardState = field(default_factory=HardState)
    snapshot: SnapshotMeta = field(default_factory=SnapshotMeta)
    entries: list[Entry] = field(default_factory=list)
    fresh: bool = True
    """Nothing was there: a new node."""


Progress = Callable[[int, int], None]
"""(done, total): called now and then while a long log is read."""


class LogStore(Protocol):
    def load(self, progress: Progress | None = None) -> Loaded:
        """Read and check everything. Raises DataDirectoryError when it is damaged, with what to do."""

    def persist(self, writes: Sequence[Write]) -> None:
        """Make all of it durable, in order, in one synced atomic write. Raises StorageError."""

    def compact(self, snapshot: SnapshotMeta, keep_from: int) -> None:
        """`snapshot` is durable: remember it, and drop entries below index `keep_from` (<= snapshot.index + 1)."""

    def size_bytes(self) -> int: ...

    def close(self) -> None: ...


class SnapshotFile(NamedTuple):
    meta: SnapshotMeta
    size_bytes: int
    """Of the content."""
    digest: bytes
    """BLAKE2b-256 of the content."""


class SnapshotSink(Protocol):
    """A snapshot being written; nothing of it is visible before `finish`."""

    def write(self, chunk: bytes) -> None: ...

    def finish(self, expected_digest: bytes | None = None) -> SnapshotFile:
        """Sync, check, make visible (rename, sync of the directory). Raises StorageError; a wrong digest raises
        ValueError."""

    def abort(self) -> None: ...


class SnapshotStore(Protocol):
    def create(self, meta: SnapshotMeta) -> SnapshotSink: ...

    def list(self) -> Sequence[SnapshotFile]:
        """Oldest first."""

    def read(self, snapshot: SnapshotFile, chunk_bytes: int) -> Iterator[bytes]:
        """The content in chunks. Raises StorageError when it does not have the digest that it should (checked at the
        end)."""

    def prune(self, keep: int) -> None: ...

    def size_bytes(self) -> int: ...


class Engine(Protocol):
    """One node's storage: its log and its snapshots. `open()` of leveldb.py and memory.py return one."""

    name: str
    log: LogStore
    snapshots: SnapshotStore

    def disk_free_bytes(self) -> int | None:
        """Room left on the file system; None for memory."""

    def close(self) -> None: ...

    def abandon(self) -> None:
        """The node's first start failed after the engine was opened: close, and with `cleanup_on_failure` remove what
        this open made.

        Without effect on a directory that an earlier open completed. Only before the node has answered anybody.
        """
