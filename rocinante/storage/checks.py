"""What a log store refuses, whichever engine it is: it would mean a bug above, and a log with a hole below. Pure."""

from __future__ import annotations

from rocinante.errors import StorageError
from rocinante.raft.types import SnapshotMeta
from rocinante.storage.base import Write


def check_write(write: Write, first: int, last: int) -> tuple[int, int]:
    """The log's bounds after `write`. Raises StorageError when it would leave a gap or touch what was compacted."""
    if write.snapshot is not None:
        if write.snapshot.index < first - 1:
            raise StorageError(f"a snapshot of index {write.snapshot.index} is behind the log, which begins at {first}")
        first, last = write.snapshot.index + 1, write.snapshot.index
    if write.entries:
        start = write.entries[0].index
        if not first <= start <= last + 1:
            raise StorageError(f"entry {start} does not follow on a log of {first} to {last}")
        for offset, entry in enumerate(write.entries):
            if entry.index != start + offset:
                raise StorageError(f"entry {entry.index} comes where {start + offset} was due")
        last = write.entries[-1].index
    return first, last


def check_compaction(snapshot: SnapshotMeta, keep_from: int, last: int) -> None:
    """Raises StorageError for a compaction that would drop what no snapshot holds."""
    if snapshot.index > last or not 1 <= keep_from <= snapshot.index + 1:
        raise StorageError(
            f"cannot compact to {keep_from} behind a snapshot of index {snapshot.index}: the log ends at {last}"
        )
