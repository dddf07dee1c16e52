"""The thread `disk`: the log. Group commit: one synced write for all that waits.

It takes the Readys in order, writes them, and only then tells the driver, which sends what depends on them. A Ready
that changes nothing but the commit index comes once in an election timeout at most, and is synced like any other.

Any failure of the disk ends the process at once, with a message and `EXIT_STORAGE`: no reply, no retry.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

from rocinante import limits
from rocinante.errors import EXIT_STORAGE, StorageError
from rocinante.node.histogram import Histogram
from rocinante.raft.types import Ready, SnapshotMeta
from rocinante.storage import is_full
from rocinante.storage.base import LogStore, Write

logger = logging.getLogger(__name__)


def die(error: Exception) -> None:
    """The disk failed: say so and end, without another word to anybody."""
    logger.critical(
        "FATAL: the data directory can no longer be written or trusted: %s. The node stops and must not be restarted "
        "before %s",
        error,
        "there is room; nothing that it acknowledged is lost."
        if is_full(error)
        else "the disk is repaired; if data was lost, wipe the directory and let the node join again.",
    )
    logging.shutdown()
    os._exit(EXIT_STORAGE)


class Disk:
    """See the module. `put` never blocks: the driver stops making Readys while `full`."""

    def __init__(self, log: LogStore) -> None:
        self._log = log
        self.on_written: Callable[[list[Ready]], None] = lambda _readys: None
        """Told which Readys are durable now; the node sets it."""
        self._queue: SimpleQueue[Ready | tuple[SnapshotMeta, int] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="disk", daemon=True)
        self.writes = 0
        self.readys = 0
        self.entries = 0
        self.bytes = 0
        self.sync_seconds = Histogram()

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """After everything that waits."""
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    @property
    def waiting(self) -> int:
        return self._queue.qsize()

    @property
    def full(self) -> bool:
        return self._queue.qsize() >= limits.DISK_QUEUE_READYS_MAX

    def put(self, ready: Ready) -> None:
        self._queue.put(ready)

    def compact(self, snapshot: SnapshotMeta, keep_from: int) -> None:
        """The snapshot is durable: drop what it replaces, after what waits now."""
        self._queue.put((snapshot, keep_from))

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except StorageError as error:
            die(error)
        except Exception as error:  # top of the thread: a node whose log thread is gone must not go on
            logger.exception("the disk thread failed")
            die(error)

    def _turn(self) -> bool:
        item = self._queue.get()
        readys: list[Ready] = []
        while True:
            if isinstance(item, Ready):
                readys.append(item)
            else:
                self._write(readys)
                readys = []
                if item is None:
                    return False
                self._log.compact(*item)
            if len(readys) >= limits.DISK_QUEUE_READYS_MAX or self._queue.empty():
                break
            item = self._queue.get()
        self._write(readys)
        return True

    def _write(self, readys: list[Ready]) -> None:
        if not readys:
            return
        writes = [Write(ready.hard_state, ready.entries, ready.snapshot) for ready in readys if self._must_sync(ready)]
        if writes:
            began = time.perf_counter()
            self._log.persist(writes)
            self.sync_seconds.observe(time.perf_counter() - began)
            self.writes += 1
            for write in writes:
                self.entries += len(write.entries)
                for entry in write.entries:
                    self.bytes += len(entry.data)
        self.readys += len(readys)
        self.on_written(readys)

    @staticmethod
    def _must_sync(ready: Ready) -> bool:
        """A commit index by itself too, which the core asks for once in an election timeout at most: a node that is
        the last voter, and restarts without knowing that the others were removed, would wait for them for ever."""
        return ready.must_persist
