"""Snapshots and log compaction: when, and without stopping the node.

When enough entries (or bytes) were applied since the last one, and they are not few beside what there is to write where
that is much, the apply thread freezes the state (which is instant), the thread `snapshot` writes it. Once the file is
durable, the disk thread and the core drop the log behind it, but for the last entries that a slow follower may want.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue

from rocinante import limits
from rocinante.errors import ResourceExhausted, RocinanteError, StorageError, Unavailable
from rocinante.node.apply import Act, Apply
from rocinante.node.directory import snapshot_head
from rocinante.node.disk import die
from rocinante.ports import SnapshotInfo
from rocinante.raft.types import SnapshotMeta
from rocinante.state.machine import FrozenState
from rocinante.storage.base import SnapshotFile, SnapshotStore

logger = logging.getLogger(__name__)


class Snapshotter:
    """See the module. One snapshot at a time; who asks meanwhile gets the one that is under way."""

    def __init__(
        self,
        apply: Apply,
        store: SnapshotStore,
        *,
        compact_entries: int,
        compact_bytes: int,
        on_snapshot: Callable[[SnapshotMeta], None],
    ) -> None:
        self._apply = apply
        self._store = store
        self._compact_entries = compact_entries
        self._compact_bytes = compact_bytes
        self._on_snapshot = on_snapshot
        self._lock = threading.Lock()
        self._under_way: Future[SnapshotFile] | None = None
        self._stopping = False
        self._jobs: SimpleQueue[tuple[FrozenState, SnapshotMeta, bytes] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="snapshot", daemon=True)
        self._entries = 0
        self._bytes = 0
        self._last_bytes = max((file.size_bytes for file in store.list()[-1:]), default=0)
        """Of the last snapshot, this node's own or the leader's."""
        self.taken = 0
        self.last_seconds = 0.0
        apply.on_entries = self._count

    def start(self) -> None:
        self._thread.start()

    def set_limits(self, compact_entries: int, compact_bytes: int) -> None:
        """New bounds (SIGHUP)."""
        self._compact_entries, self._compact_bytes = compact_entries, compact_bytes

    def stop(self, timeout_s: float) -> None:
        with self._lock:
            self._stopping = True
        self._jobs.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        # Whoever still waits would keep the process from ending.
        self._answer(Unavailable("the node stops"))

    def take(self) -> Future[SnapshotInfo]:
        """A snapshot of what is applied now, or later."""
        result: Future[SnapshotInfo] = Future()

        def done(file: Future[SnapshotFile]) -> None:
            if error := file.exception():
                result.set_exception(error)
            else:
                snapshot = file.result()
                result.set_result(
                    SnapshotInfo(snapshot.meta.index, snapshot.meta.term, snapshot.size_bytes, snapshot.digest)
                )

        self.take_file().add_done_callback(done)
        return result

    def take_file(self) -> Future[SnapshotFile]:
        with self._lock:
            if self._stopping:
                raise Unavailable("the node stops")
            if self._under_way is None:
                self._under_way = Future()
                self._apply.put(Act(self._freeze))
            return self._under_way

    def _count(self, entries: int, size_bytes: int) -> None:
        """On the apply thread, after each batch of entries."""
        self._entries += entries
        self._bytes += size_bytes
        if not self._is_due():
            return
        with self._lock:
            if self._under_way is not None or self._stopping:
                return
            self._under_way = Future()
        self._freeze()

    def _is_due(self) -> bool:
        if self._entries < self._compact_entries and self._bytes < self._compact_bytes:
            return False
        grown = self._bytes + self._entries * limits.COMPACT_ENTRY_BYTES
        # Of a table that grows the next snapshot is larger than the last one.
        size = max(self._last_bytes, self._apply.state.flows_bytes())
        return size <= limits.COMPACT_CHEAP_BYTES or grown >= limits.COMPACT_SHARE * size

    def _freeze(self) -> None:
        """On the apply thread, between two entries."""
        apply = self._apply
        try:
            frozen = apply.state.freeze()
        except ResourceExhausted as error:
            self._answer(error)  # backups and digests hold all there may be; the next entry asks again
            return
        self._entries = self._bytes = 0
        meta = SnapshotMeta(apply.applied, apply.applied_term, apply.config)
        self._jobs.put((frozen, meta, snapshot_head(apply.members, apply.config)))

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            frozen, meta, head = job
            try:
                with frozen:
                    self._write(frozen, meta, head)
            except StorageError as error:
                die(error)
            except Exception as error:  # top of the thread: without snapshots the log grows without bound
                logger.exception("a snapshot failed")
                die(error)

    def _write(self, frozen: FrozenState, meta: SnapshotMeta, head: bytes) -> None:
        began = time.monotonic()
        # A newer one may be there, from the leader and not yet part of the log: what is applied here is older.
        file = next((known for known in self._store.list() if known.meta.index == meta.index), None)
        if file is None:
            sink = self._store.create(meta)
            sink.write(head)
            for chunk in frozen.chunks(limits.SNAPSHOT_CHUNK_BYTES):
                sink.write(chunk)
            file = sink.finish()
        self._last_bytes = file.size_bytes
        self._store.prune(limits.SNAPSHOTS_KEPT)
        self.taken += 1
        self.last_seconds = time.monotonic() - began
        logger.info("snapshot at %d: %d bytes in %.2f s", meta.index, file.size_bytes, self.last_seconds)
        self._on_snapshot(file.meta)
        self._answer(file)

    def _answer(self, outcome: SnapshotFile | RocinanteError) -> None:
        with self._lock:
            waiting, self._under_way = self._under_way, None
        if waiting is None:
            return
        if isinstance(outcome, RocinanteError):
            waiting.set_exception(outcome)
        else:
            waiting.set_result(outcome)
