"""A simulated disk: LevelDB's interface over a dictionary, with what is synced and what is not, under the real log.

The real `LevelDbLog` runs on it, with the real encoding of its records. What a crash leaves: everything that was
synced; of the unsynced batches, in their order, a prefix; of the writes that waited for the disk thread, also a prefix,
whose acknowledgement nobody got. A batch is there wholly or not at all: LevelDB's log drops a record that was torn.
Faults: a write or a sync that fails (EIO, ENOSPC), reads that fail at a start, a full disk, a slow one, a flipped bit
in a record or in a snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import plyvel

from rocinante.errors import StorageError
from rocinante.node.disk import Disk
from rocinante.raft.types import HardState, Ready, SnapshotMeta
from rocinante.storage import records
from rocinante.storage.base import Identity, LogStore, SnapshotStore
from rocinante.storage.directory import unusable
from rocinante.storage.leveldb import LevelDbLog
from rocinante.storage.memory import MemorySnapshots

from .named import REACHED
from .world import Place, World, current_host

GIB = 1 << 30
NO_SPACE: Final = b"simulated: No space left on device"
DECODED_MAX: Final = 100_000
"""Records whose decoded form is remembered: the oracle asks for the same ones again and again."""


class Batch:
    """plyvel's write batch. `None` deletes."""

    def __init__(self, files: Files, sync: bool) -> None:
        self._files = files
        self._sync = sync
        self.changes: dict[bytes, bytes | None] = {}

    def put(self, key: bytes, value: bytes) -> None:
        self.changes[key] = value

    def delete(self, key: bytes) -> None:
        self.changes[key] = None

    def write(self) -> None:
        self._files.write(self.changes, sync=self._sync)

    def __enter__(self) -> Batch:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.write()


class Files:
    """A LevelDB, and what outlives a crash of it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._durable: dict[bytes, bytes] = {}
        self._data: dict[bytes, bytes] = {}
        """As the process sees it."""
        self._unsynced: list[dict[bytes, bytes | None]] = []
        self.fail_next = ""
        """`sync`: the next synced write fails, and leaves behind what it likes; `write`: the next of any kind does."""
        self.no_space = False
        """Every write fails."""
        self.unreadable = False
        """Every read fails (EIO)."""

    # --- plyvel.DB

    def get(self, key: bytes, *, verify_checksums: bool = False) -> bytes | None:
        if self.unreadable:
            raise plyvel.IOError(b"simulated: Input/output error")
        return self._data.get(key)

    def iterator(
        self,
        *,
        start: bytes,
        stop: bytes,
        include_value: bool = True,
        verify_checksums: bool = False,
        fill_cache: bool = True,
    ) -> Any:
        return _Rows(
            [(key, self._data[key]) if include_value else key for key in sorted(self._data) if start <= key < stop]
        )

    def write_batch(self, *, transaction: bool, sync: bool) -> Batch:
        assert transaction, "without it plyvel writes the batch even when its block raised"
        return Batch(self, sync)

    def compact_range(self, *, start: bytes, stop: bytes) -> None:
        return

    def close(self) -> None:
        return

    # --- the disk below

    def write(self, changes: dict[bytes, bytes | None], *, sync: bool) -> None:
        if self.no_space:
            raise plyvel.IOError(NO_SPACE)
        if self.fail_next and (sync or self.fail_next == "write"):
            self.fail_next = ""
            if self._world.random.random() < 0.5:
                self._unsynced.append(changes)
            raise plyvel.IOError(b"simulated: Input/output error")
        _change(self._data, changes)
        self._unsynced.append(changes)
        if sync:
            for batch in self._unsynced:
                _change(self._durable, batch)
            self._unsynced.clear()

    def crash(self) -> None:
        """Keep what was synced and a prefix of the rest, which is durable from now on."""
        if self._unsynced:
            self._world.count(REACHED + "a crash with writes that are not synced")
        for batch in self._unsynced[: self._world.random.randint(0, len(self._unsynced))]:
            _change(self._durable, batch)
        self._unsynced.clear()
        self._data = dict(self._durable)
        self.fail_next = ""

    def holds(self, index: int, term: int = 0) -> bool:
        """Whether an entry (of this term, if one is given) is durable, or a snapshot that stands for it."""
        value = self._durable.get(records.entry_key(index))
        if value is not None and (not term or _term(value) == term):
            return True
        return self.snapshot_index() >= index

    def snapshot_index(self) -> int:
        value = self._durable.get(records.KEY_SNAPSHOT)
        return _snapshot_index(value) if value is not None else 0

    def knows(self, index: int) -> bool:
        """Whether a restart knows that this index is committed."""
        return max(self.hard_state().commit, self.snapshot_index()) >= index

    def hard_state(self) -> HardState:
        value = self._durable.get(records.KEY_HARD)
        return _hard_state(value) if value is not None else HardState()

    def flip_a_bit(self) -> str:
        """Somewhere in what a start reads; where."""
        bounds = records.decode_bounds(self._durable[records.KEY_BOUNDS])
        live = [
            key
            for key in sorted(self._durable)
            if not key.startswith(records.ENTRY_PREFIX) or bounds.first <= records.key_index(key) <= bounds.last
        ]
        key = self._world.random.choice(live)
        value = bytearray(self._durable[key])
        at = self._world.random.randrange(len(value) * 8)
        value[at // 8] ^= 1 << at % 8
        self._durable[key] = self._data[key] = bytes(value)
        return f"bit {at} of {key!r}"


@lru_cache(DECODED_MAX)
def _term(value: bytes) -> int:
    return records.decode_entry(value).term


@lru_cache(DECODED_MAX)
def _snapshot_index(value: bytes) -> int:
    return records.decode_meta(records.unseal(value)).index


@lru_cache(DECODED_MAX)
def _hard_state(value: bytes) -> HardState:
    return records.decode_hard(value)


def _change(data: dict[bytes, bytes], changes: dict[bytes, bytes | None]) -> None:
    for key, value in changes.items():
        if value is None:
            data.pop(key, None)
        else:
            data[key] = value


class _Rows:
    def __init__(self, rows: Sequence[Any]) -> None:
        self._rows = rows

    def __enter__(self) -> Iterator[Any]:
        return iter(self._rows)

    def __exit__(self, *_: object) -> None:
        return


class SimMark:
    """The high-water mark of acknowledged writes: written without a sync, so a power loss may leave an older one."""

    def __init__(self) -> None:
        self._sequence = 0

    def advance(self, sequence: int) -> None:
        self._sequence = sequence

    def read(self) -> int:
        return self._sequence

    def close(self) -> None:
        return


class SimTrimmer:
    """In place of the thread `trim`: deletes at once, unsynced."""

    def __init__(self, db: Files, size_bytes: object, failed: Callable[[str], None]) -> None:
        self._db = db
        self._failed = failed

    def add(self, start: int, stop: int) -> None:
        if start >= stop:
            return
        try:
            with self._db.write_batch(transaction=True, sync=False) as batch:
                for index in range(start, stop):
                    batch.delete(records.entry_key(index))
        except plyvel.Error as error:
            self._failed(str(error))

    def stop(self) -> None:
        return


class SimSnapshots(MemorySnapshots):
    """Files that survive; finished ones are synced (`storage/snapshots.py` promises it), others are gone."""

    def __init__(self) -> None:
        super().__init__()
        self.recorded_index = 0

    def problem(self, meta: SnapshotMeta) -> str | None:
        held = self._held.get((meta.index, meta.term))
        if held is None:
            return f"snapshot {meta.index}: no such file"
        snapshot, content = held
        whole = blake2b(content, digest_size=len(snapshot.digest)).digest() == snapshot.digest
        return None if whole else f"snapshot {meta.index}: the content's digest is wrong"

    def flip_a_bit(self, world: World) -> str:
        """In the newest; where."""
        key = max(self._held)
        snapshot, content = self._held[key]
        at = world.random.randrange(len(content) * 8)
        damaged = bytearray(content)
        damaged[at // 8] ^= 1 << at % 8
        self._held = {**self._held, key: (snapshot, bytes(damaged))}
        return f"bit {at} of snapshot {key[0]}"

    def remove_newer(self, index: int) -> None:
        self._held = {key: value for key, value in self._held.items() if key[0] <= index}

    def prune(self, keep: int) -> None:
        held = self._held
        surplus = {key for key in sorted(held)[: max(len(held) - keep, 0)] if key[0] < self.recorded_index}
        self._held = {key: value for key, value in held.items() if key not in surplus}


class SimMarker:
    """`recovery.Marker`, on the simulated disk."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def exists(self) -> bool:
        return self._storage.catching_up

    def set(self) -> None:
        self._storage.catching_up = True

    def clear(self) -> None:
        self._storage.catching_up = False

    def base(self) -> tuple[int, int]:
        return 1, 1


class Storage:
    """All that is on one machine's disk; and the engine of the node that runs on it."""

    name = "leveldb"

    def __init__(self, world: World) -> None:
        self._world = world
        self.files = Files(world)
        self.mark = SimMark()
        self.catching_up = False
        self.made = False
        self.full = False
        self._snapshots = SimSnapshots()
        self.snapshots: SnapshotStore = self._snapshots
        self.log: LogStore

    def flip_a_bit(self, *, of_snapshot: bool) -> tuple[str, int]:
        """Somewhere in what a start reads; where, and the index of the snapshot (0: it is in the log)."""
        newest = self._snapshots.list()[-1:]
        if of_snapshot and newest and newest[0].meta.index == self.files.snapshot_index():
            return self._snapshots.flip_a_bit(self._world), newest[0].meta.index
        return self.files.flip_a_bit(), 0

    def heal(self) -> None:
        self.full = self.files.no_space = self.files.unreadable = False
        self.files.fail_next = ""

    def open(self, identity: Identity) -> Storage:
        """Another start on what is there."""
        log = LevelDbLog(Path("/simulated"), self.files, self.mark, self._snapshots, None)  # type: ignore[arg-type]
        try:
            if self.made:
                log.check_identity(identity)
            else:
                log.initialize(identity)
                self.made = True
        except plyvel.Error as error:
            raise unusable(Path("/simulated"), error) from error
        self.log = log
        return self

    def disk_free_bytes(self) -> int | None:
        return 0 if self.full else 100 * GIB

    def close(self) -> None:
        return

    def abandon(self) -> None:
        return


class SimDisk(Disk):
    """The real disk thread's code, one turn an event: what it takes is durable, and acknowledged, when it ends."""

    def __init__(self, log: LogStore) -> None:
        super().__init__(log)
        self.host: Any = current_host()
        self._turn_due = False

    def start(self) -> None:
        return

    @property
    def full(self) -> bool:
        full = super().full
        if full:
            self.host.oracle.reached("full disk queue holds work back")
        return full

    def put(self, ready: Ready) -> None:
        if ready.entries:
            self.host.oracle.matching.stored(self.host, ready.entries)
        super().put(ready)
        self._schedule()
        if self.host.crash_in_write:
            self.host.crash_in_write = False
            self.host.world.at(self.host.disk_delay() / 2, self.host, "crash", self.host.power_fails)

    def compact(self, snapshot: SnapshotMeta, keep_from: int) -> None:
        super().compact(snapshot, keep_from)
        self._schedule()

    def _schedule(self) -> None:
        if not self._turn_due:
            self._turn_due = True
            place: Place = self.host
            self.host.world.at(self.host.disk_delay(), place, "disk", self._take_turn)

    def _take_turn(self) -> None:
        self._turn_due = False
        try:
            self._turn()
        except StorageError as error:
            self.host.disk_failed(error)
            return
        if not self._queue.empty():
            self._schedule()

    def crash(self) -> None:
        """Of what waits a prefix becomes durable, one by one, and nobody hears of it."""
        self.on_written = lambda _readys: None
        done = self.host.world.random.randint(0, self._queue.qsize())
        if self._queue.qsize() > done:
            self.host.oracle.reached("a write is torn by a crash, and dropped")
        for _ in range(done):
            item = self._queue.get()
            try:
                if isinstance(item, Ready):
                    self._write([item])
                elif item is not None:
                    self._log.compact(*item)
            except StorageError:
                return  # the log failed before
