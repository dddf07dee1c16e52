"""The `trim` thread: deletes entries that a compaction made superfluous, and gives their room back.

It keeps the disk thread free: `compact` only moves the log's recorded beginning (one synced record), which is what
makes the entries below it void; when they go does not matter, and after a crash the next load removes them. So the
deletions are small unsynced batches, between which synced writes get their turn. Deleted entries still take room until
LevelDB compacts their files, which by itself it does too late for large entries (docs/storage.md has the figures): so,
once enough has grown, this thread asks it to. That takes up to a second, in which writes go on.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import plyvel

from rocinante import limits
from rocinante.storage.directory import reason
from rocinante.storage.records import ENTRY_PREFIX, entry_key


class Trimmer:
    """Owns the keys below the log's beginning. `add` may be called by the writer's thread only."""

    def __init__(self, db: Any, size_bytes: Callable[[], int], failed: Callable[[str], None]) -> None:
        self._db = db
        self._size_bytes = size_bytes
        self._size_bytes_after = 0
        self._failed = failed
        self._changed = threading.Condition()
        self._ranges: deque[tuple[int, int]] = deque()
        self._busy = False
        self._stopping = False
        self._thread: threading.Thread | None = None

    def add(self, start: int, stop: int) -> None:
        """Entries `start` to `stop` - 1 are void."""
        if start >= stop:
            return
        with self._changed:
            if self._ranges and self._ranges[-1][1] == start:
                start = self._ranges.pop()[0]
            self._ranges.append((start, stop))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="trim", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def settle(self, timeout_s: float) -> bool:
        """Wait until all that was added is deleted; False when it took too long."""
        with self._changed:
            return self._changed.wait_for(lambda: self._stopping or not (self._ranges or self._busy), timeout_s)

    def stop(self) -> None:
        """Finish the batch or the compaction that is under way, leave the rest to the next load."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _take(self) -> tuple[int, int] | None:
        """The next few entries to delete; None: stop."""
        with self._changed:
            self._busy = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._stopping or bool(self._ranges))
            if self._stopping:
                return None
            start, stop = self._ranges.popleft()
            middle = min(start + limits.LOG_TRIM_ENTRIES, stop)
            if middle < stop:
                self._ranges.appendleft((middle, stop))
            self._busy = True
            return start, middle

    def _reclaim(self, stop: int) -> None:
        """Where the files grew enough since the last time, have LevelDB drop what was deleted below `stop`."""
        with self._changed:
            if self._ranges or self._stopping:
                return
        if self._size_bytes() - self._size_bytes_after < limits.LOG_RECLAIM_BYTES:
            return
        # It reports no error; a failure shows at the next write, which LevelDB then refuses.
        self._db.compact_range(start=ENTRY_PREFIX, stop=entry_key(stop))
        self._size_bytes_after = self._size_bytes()

    def _run(self) -> None:
        while (span := self._take()) is not None:
            try:
                with self._db.write_batch(transaction=True, sync=False) as batch:
                    for index in range(*span):
                        batch.delete(entry_key(index))
                self._reclaim(span[1])
            except plyvel.Error as error:
                self._failed(f"cannot delete old entries: {reason(error)}")
                with self._changed:
                    self._stopping = True
                    self._changed.notify_all()
                return
