"""The durable engine: LevelDB for the log, files for the snapshots, one directory for both.

What `persist` returned from is on the disk. What is found at a start is either exactly what was acknowledged, or
refused with DataDirectoryError: every entry has a CRC and its place, LevelDB reads with its own checksums and paranoid
checks, the records say where the log begins and ends, and the mark (mark.py) tells a torn tail from a lost one. Any
failed write or sync makes the log refuse everything from then on; it never retries (a failed fsync marks the pages
clean: Rebello et al., USENIX ATC '20). `repair_db` is never called.

Threads: one (`disk`) calls `persist`, `compact` and `load`; the log's own `trim` deletes what a compaction left behind.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import plyvel

from rocinante import limits
from rocinante.errors import DataDirectoryError, StorageError
from rocinante.raft.types import Entry, HardState, SnapshotMeta
from rocinante.storage import records
from rocinante.storage.base import Engine, Identity, Loaded, LogStore, Progress, SnapshotStore, Write
from rocinante.storage.checks import check_compaction, check_write
from rocinante.storage.directory import (
    ADVICE,
    DataDirectory,
    check_format,
    check_readable,
    compare_identity,
    reason,
    unusable,
)
from rocinante.storage.mark import Mark
from rocinante.storage.records import Bounds, DamagedError
from rocinante.storage.snapshots import FileSnapshots, directory_bytes
from rocinante.storage.trim import Trimmer
from rocinante.version import DATA_FORMAT

_LOG = logging.getLogger(__name__)


class LevelDbLog:
    """Implements `LogStore`."""

    def __init__(self, path: Path, db: Any, mark: Mark, snapshots: FileSnapshots, progress: Progress | None) -> None:
        self._path = path
        self._db = db
        self._mark = mark
        self._snapshots = snapshots
        self._progress = progress
        self._bounds: Bounds | None = None
        self._failure: str | None = None
        self._closed = False
        self._trimmer = Trimmer(db, self.size_bytes, self._fail)

    # --- reading

    def load(self, progress: Progress | None = None) -> Loaded:
        """Read and check everything. Raises DataDirectoryError when anything acknowledged is missing or damaged.

        When the newest snapshot is damaged but an older one is whole and the log reaches back to it, that one is taken.
        """
        try:
            return self._load(progress or self._progress or (lambda _done, _total: None))
        except DamagedError as error:
            raise self._damaged(str(error)) from error
        except plyvel.CorruptionError as error:
            raise self._damaged(reason(error)) from error
        except (plyvel.Error, OSError, StorageError) as error:
            raise unusable(self._path.parent, error) from error

    def _damaged(self, what: str) -> DataDirectoryError:
        return DataDirectoryError(f"damaged log in {self._path}: {' '.join(what.split())}; {ADVICE}")

    def _load(self, progress: Progress) -> Loaded:
        bounds = records.decode_bounds(self._record(records.KEY_BOUNDS))
        hard = records.decode_hard(self._record(records.KEY_HARD))
        meta = records.decode_meta(records.unseal(self._record(records.KEY_SNAPSHOT)))
        acknowledged = self._mark.read()
        if bounds.sequence < acknowledged:
            raise DamagedError(f"it ends with write {bounds.sequence}, but write {acknowledged} was acknowledged")
        if not bounds.first - 1 <= meta.index <= bounds.last:
            raise DamagedError(f"it holds {bounds.first} to {bounds.last}, its snapshot is of {meta.index}")
        if hard.commit > bounds.last:
            raise DamagedError(f"it ends at {bounds.last}, but {hard.commit} was committed")
        # What a snapshot stood for is committed, whatever commit index happened to be written last, and also where an
        # older one has to do.
        hard = hard._replace(commit=max(hard.commit, meta.index))
        meta = self._usable_snapshot(meta, bounds.first)
        entries = self._entries(bounds, meta, hard, progress)
        # A crash came between the file and its record: the log may contradict it. A damaged newer one goes too.
        self._snapshots.remove_newer(meta.index)
        self._remove_void(bounds.first)
        self._bounds = bounds
        self._snapshots.recorded_index = meta.index
        return Loaded(hard, meta, entries, fresh=bounds.sequence == 0)

    def _record(self, key: bytes) -> bytes:
        value: bytes | None = self._db.get(key, verify_checksums=True)
        if value is None:
            raise DamagedError(f"its record {key.decode()} is missing")
        return value

    def _entries(self, bounds: Bounds, meta: SnapshotMeta, hard: HardState, progress: Progress) -> list[Entry]:
        """Those after the snapshot; the ones kept before it are checked too."""
        entries: list[Entry] = []
        total = bounds.last - bounds.first + 1
        due = bounds.first
        term = 0
        progress(0, total)
        with self._db.iterator(
            start=records.entry_key(bounds.first), stop=records.ENTRY_END, verify_checksums=True, fill_cache=False
        ) as stored:
            for key, value in stored:
                index = records.key_index(key)
                if index != due or index > bounds.last:
                    raise DamagedError(f"entry {index} where {due} of {bounds.first} to {bounds.last} was due")
                try:
                    entry = records.decode_entry(value)
                except DamagedError as error:
                    raise DamagedError(f"entry {index}: {error}") from error
                if entry.index != index or not term <= entry.term <= hard.term:
                    raise DamagedError(f"entry {index} says index {entry.index}, term {entry.term} after term {term}")
                term = entry.term
                due += 1
                if index > meta.index:
                    entries.append(entry)
                elif index == meta.index and entry.term != meta.term:
                    raise DamagedError(f"entry {index} has term {entry.term}, the snapshot of it {meta.term}")
                if (due - bounds.first) % limits.LOG_PROGRESS_ENTRIES == 0:
                    progress(due - bounds.first, total)
        if due != bounds.last + 1:
            raise DamagedError(f"it ends at entry {due - 1}, but {bounds.last} was acknowledged")
        progress(total, total)
        return entries

    def _usable_snapshot(self, meta: SnapshotMeta, first: int) -> SnapshotMeta:
        """The recorded snapshot, or an older one where it is damaged and the log reaches back."""
        if meta.index == 0:
            return meta
        problem = self._snapshots.problem(meta)
        if problem is None:
            return meta
        for older in reversed(self._snapshots.list()):
            if first - 1 <= older.meta.index < meta.index and self._snapshots.problem(older.meta) is None:
                _LOG.warning("%s; using the older snapshot of index %d and the log after it", problem, older.meta.index)
                return older.meta
        raise DataDirectoryError(f"damaged snapshot in {self._path.parent}: {problem}; {ADVICE}")

    def _remove_void(self, first: int) -> None:
        """Delete entries below the log's beginning that a compaction did not come to, or whose deletion a crash
        undid."""
        with self._db.iterator(
            start=records.ENTRY_PREFIX, stop=records.entry_key(first), include_value=False, fill_cache=False
        ) as stored:
            void = [records.key_index(key) for key in stored]
        if void:
            for start in range(0, len(void), limits.LOG_TRIM_ENTRIES):
                with self._db.write_batch(transaction=True, sync=False) as batch:
                    for index in void[start : start + limits.LOG_TRIM_ENTRIES]:
                        batch.delete(records.entry_key(index))

    # --- writing

    def initialize(self, identity: Identity) -> None:
        """Write the records of a new, empty log. Raises plyvel.Error."""
        with self._db.write_batch(transaction=True, sync=True) as batch:
            batch.put(records.KEY_FORMAT, records.encode_format(DATA_FORMAT))
            batch.put(records.KEY_IDENTITY, records.encode_identity(identity))
            batch.put(records.KEY_BOUNDS, records.encode_bounds(Bounds()))
            batch.put(records.KEY_HARD, records.encode_hard(HardState()))
            batch.put(records.KEY_SNAPSHOT, records.seal(records.encode_meta(SnapshotMeta())))

    def check_identity(self, identity: Identity) -> None:
        """Raises DataDirectoryError when the log is of a newer format or somebody else's."""
        try:
            check_format(self._path, records.decode_format(self._record(records.KEY_FORMAT)))
            compare_identity(self._path, records.decode_identity(self._record(records.KEY_IDENTITY)), identity)
        except (DamagedError, plyvel.CorruptionError) as error:
            raise self._damaged(reason(error)) from error

    def _fail(self, what: str) -> None:
        if self._failure is None:
            self._failure = what

    def _ready(self) -> Bounds:
        if self._failure is not None:
            raise StorageError(f"the log in {self._path} failed before and takes nothing more: {self._failure}")
        if self._closed:
            raise StorageError(f"the log in {self._path} is closed")
        if self._bounds is None:
            raise StorageError(f"the log in {self._path} must be loaded before it is written to")
        return self._bounds

    def persist(self, writes: Sequence[Write]) -> None:
        """All of it in one synced batch. Raises StorageError; after a failed write every call does."""
        bounds = self._ready()
        if not any(write.hard_state is not None or write.entries or write.snapshot is not None for write in writes):
            return
        limit = (bounds.first, bounds.last)
        for write in writes:
            limit = check_write(write, *limit)
        void: list[tuple[int, int]] = []
        batch = self._db.write_batch(transaction=True, sync=True)
        first, last = bounds.first, bounds.last
        for write in writes:
            if write.snapshot is not None:
                batch.put(records.KEY_SNAPSHOT, records.seal(records.encode_meta(write.snapshot)))
                _delete(batch, write.snapshot.index + 1, last)
                void.append((first, min(write.snapshot.index, last) + 1))
                first, last = write.snapshot.index + 1, write.snapshot.index
            if write.entries:
                for entry in write.entries:
                    batch.put(records.entry_key(entry.index), records.encode_entry(entry))
                _delete(batch, write.entries[-1].index + 1, last)
                last = write.entries[-1].index
            if write.hard_state is not None:
                batch.put(records.KEY_HARD, records.encode_hard(write.hard_state))
        self._write(batch, Bounds(first, last, bounds.sequence + 1))
        for write in writes:
            if write.snapshot is not None:
                self._snapshots.recorded_index = write.snapshot.index
        for start, stop in void:
            self._trimmer.add(start, stop)

    def compact(self, snapshot: SnapshotMeta, keep_from: int) -> None:
        """Record the snapshot and the log's new beginning, synced; the `trim` thread deletes. Raises StorageError.

        A snapshot older than the recorded one changes nothing: the leader's came while it was being written.
        """
        bounds = self._ready()
        check_compaction(snapshot, keep_from, bounds.last)
        if snapshot.index < self._snapshots.recorded_index:
            return
        first = max(bounds.first, keep_from)
        batch = self._db.write_batch(transaction=True, sync=True)
        batch.put(records.KEY_SNAPSHOT, records.seal(records.encode_meta(snapshot)))
        # Synced, unlike the deletions: they may reach the disk in a later file of LevelDB's and must not come
        # without it.
        self._write(batch, Bounds(first, bounds.last, bounds.sequence + 1))
        self._snapshots.recorded_index = snapshot.index
        self._trimmer.add(bounds.first, first)

    def _write(self, batch: Any, bounds: Bounds) -> None:
        batch.put(records.KEY_BOUNDS, records.encode_bounds(bounds))
        try:
            batch.write()
            self._mark.advance(bounds.sequence)
        except (plyvel.Error, OSError) as error:
            self._fail(reason(error))
            raise StorageError(f"cannot write to the log in {self._path}: {reason(error)}") from error
        self._bounds = bounds

    # --- the rest

    def settle(self, timeout_s: float) -> bool:
        """Wait until the entries below the log's beginning are deleted; False when that took too long."""
        return self._trimmer.settle(timeout_s)

    def size_bytes(self) -> int:
        """Of LevelDB's files."""
        return directory_bytes(self._path)

    def close(self) -> None:
        """Whatever was persisted stays. Waits for what the `trim` thread is doing (a second at most)."""
        if self._closed:
            return
        self._closed = True
        self._trimmer.stop()
        self._db.close()
        self._mark.close()


def _delete(batch: Any, start: int, last: int) -> None:
    for index in range(start, last + 1):
        batch.delete(records.entry_key(index))


class LevelDbEngine:
    """Implements `Engine`."""

    name = "leveldb"

    def __init__(self, directory: DataDirectory, log: LevelDbLog, snapshots: FileSnapshots, *, cleanup: bool) -> None:
        self._directory = directory
        self._cleanup = cleanup
        self.log: LogStore = log
        self.snapshots: SnapshotStore = snapshots

    def disk_free_bytes(self) -> int | None:
        """Room left for this process. Raises StorageError when the file system does not answer."""
        try:
            return self._directory.free_bytes()
        except OSError as error:
            raise StorageError(f"cannot ask {self._directory.path} for its free room: {reason(error)}") from error

    def close(self) -> None:
        self.log.close()
        self._directory.close()

    def abandon(self) -> None:
        """The first start failed: close, and with `cleanup_on_failure` remove what this open made."""
        self.log.close()
        if self._cleanup:
            self._directory.remove_made()
        else:
            self._directory.close()


def open_leveldb(
    directory: str | Path, identity: Identity, *, cleanup_on_failure: bool = False, progress: Progress | None = None
) -> Engine:
    """Open, or make, the data directory of this node. `progress` is used by `log.load` unless that is given its own.

    Raises DataDirectoryError: it is another's, newer, damaged (one line, with what to do); as DirectoryUnavailableError
    when it is merely not usable now: in use, not writable, full. Raises StorageError when the disk fails. A first open
    that fails leaves nothing behind with `cleanup_on_failure`, else a directory that the next open makes again.
    """
    place = DataDirectory.open(Path(directory), identity)
    try:
        return _open(place, identity, cleanup_on_failure, progress)
    except DataDirectoryError:
        _give_up(place, cleanup_on_failure)
        raise
    except (OSError, plyvel.Error) as error:
        _give_up(place, cleanup_on_failure)
        raise unusable(place.path, error) from error


def _give_up(place: DataDirectory, cleanup: bool) -> None:
    if cleanup:
        place.remove_made()
    else:
        place.close()


def _open(place: DataDirectory, identity: Identity, cleanup: bool, progress: Progress | None) -> LevelDbEngine:
    snapshots = FileSnapshots(place.snapshots)
    if not place.fresh:
        check_readable(place.log)
        check_readable(place.snapshots)
    mark = Mark(place.mark, create=place.fresh)
    try:
        db = plyvel.DB(
            str(place.log),
            create_if_missing=place.fresh,
            error_if_exists=place.fresh,
            paranoid_checks=True,
            write_buffer_size=limits.LOG_WRITE_BUFFER_BYTES,
            max_file_size=limits.LOG_FILE_BYTES,
            max_open_files=limits.LOG_OPEN_FILES_MAX,
            lru_cache_size=limits.LOG_CACHE_BYTES,
            compression=None,
        )
    except BaseException:
        mark.close()
        raise
    log = LevelDbLog(place.log, db, mark, snapshots, progress)
    try:
        snapshots.remove_leftovers()
        if place.fresh:
            log.initialize(identity)
            place.complete(identity)
        else:
            log.check_identity(identity)
    except BaseException:
        log.close()
        raise
    return LevelDbEngine(place, log, snapshots, cleanup=cleanup)
