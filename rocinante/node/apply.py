"""The thread `apply` (and, for little things, the driver): the state machine, the events it emits, and the outcomes
that clients wait for.

It takes committed entries in log order, applies them, completes the futures of this node's own clients, publishes the
events, and tells the driver how far it is. It also freezes the state for snapshots (the thread `snapshot` writes
them) and replaces the state by one that came from the leader.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from queue import SimpleQueue

from rocinante import limits
from rocinante.errors import StorageError
from rocinante.node.directory import split_snapshot
from rocinante.node.disk import die
from rocinante.node.pending import Pending
from rocinante.node.requests import WaitingReads
from rocinante.node.watch import WatchHub
from rocinante.ports import Member, ReadPoint
from rocinante.raft.types import Config, Entry, EntryKind, SnapshotMeta
from rocinante.state.machine import StateMachine

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Committed:
    """Entries to apply; `configs` has the configuration and members as each CONFIG entry among them leaves them."""

    entries: tuple[Entry, ...]
    size_bytes: int
    configs: dict[int, tuple[Config, dict[int, Member]]] = field(default_factory=dict)


@dataclass(slots=True)
class Restore:
    """Replace the state by this snapshot (already durable)."""

    meta: SnapshotMeta
    content: Iterable[bytes]
    members: dict[int, Member]


@dataclass(slots=True)
class Act:
    """Something to run between two entries."""

    run: Callable[[], None]


class Apply:
    """See the module. `on_applied`: told the index, and the term of the last CLOCK among what was applied (0: none)."""

    def __init__(
        self,
        state: StateMachine,
        pending: Pending,
        waiting_reads: WaitingReads,
        hub: WatchHub,
        *,
        config: Config,
        members: dict[int, Member],
        on_applied: Callable[[int, int], None],
    ) -> None:
        self.state = state
        self._pending = pending
        self._reads = waiting_reads
        self._hub = hub
        self._on_applied = on_applied
        self._queue: SimpleQueue[Committed | Restore | Act | None] = SimpleQueue()
        self.config = config
        """The configuration as of the applied index."""
        self.members = members
        self.applied, self.applied_term = state.position
        self.on_entries: Callable[[int, int], None] = lambda _entries, _size: None
        """Told how many entries (and bytes) were applied: the snapshotter decides by it."""
        self._thread = threading.Thread(target=self._run, name="apply", daemon=True)
        self._lock = threading.Lock()
        self._waiting = 0
        self._busy = threading.Lock()
        """Held while something is applied, so that a freeze sees index, configuration and state agree."""
        self.entries = 0
        self.commands = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def put(self, item: Committed | Restore | Act) -> None:
        with self._lock:
            self._waiting += 1
        self._queue.put(item)

    def submit(self, item: Committed) -> None:
        """Apply it now, on the caller's thread, when it is little and nothing waits; else it takes its turn.

        Only the driver calls this, so that the order is the log's.
        """
        if item.size_bytes <= limits.APPLY_INLINE_BYTES and not self._waiting and self._busy.acquire(blocking=False):
            try:
                if not self._waiting:
                    self._apply(item)
                    return
            finally:
                self._busy.release()
        self.put(item)

    @property
    def waiting(self) -> int:
        """Items that are not done yet."""
        return self._waiting

    def _run(self) -> None:
        try:
            while True:
                item = self._queue.get()
                if item is None:
                    return
                with self._busy:
                    self._handle(item)
                with self._lock:
                    self._waiting -= 1
        except StorageError as error:
            die(error)
        except Exception as error:  # top of the thread: replicas must not diverge silently
            logger.exception("the apply thread failed")
            die(error)

    def _handle(self, item: Committed | Restore | Act) -> None:
        if isinstance(item, Committed):
            self._apply(item)
        elif isinstance(item, Restore):
            self._restore(item)
        else:
            item.run()

    def _apply(self, item: Committed) -> None:
        if item.entries[0].index != self.applied + 1:
            # Whatever the reason: answers from such a state would be wrong, and the replicas would differ.
            raise ValueError(f"entry {item.entries[0].index} was to be applied after entry {self.applied}")
        size = clock_term = 0
        now_ms = self.state.now_ms
        for entry in item.entries:
            if entry.kind is EntryKind.CONFIG:
                self.config, self.members = item.configs[entry.index]
                self.state.apply(entry.index, entry.term, b"")
                self._pending.resolve_index(entry.index, entry.term)
            else:
                size += len(entry.data)
                applied = self.state.apply(entry.index, entry.term, entry.data)
                self.commands += len(applied.outcomes)
                self._pending.resolve(entry.index, entry.term, applied.outcomes)
                self._pending.resolve_index(entry.index, entry.term)
                if applied.events is not None:
                    self._hub.publish(applied.events)
                if self.state.now_ms != now_ms:
                    now_ms, clock_term = self.state.now_ms, entry.term
        last = item.entries[-1]
        self.entries += len(item.entries)
        self._advance(last.index, last.term, clock_term)
        self.on_entries(len(item.entries), size)

    def _advance(self, index: int, term: int, clock_term: int = 0) -> None:
        self.applied, self.applied_term = index, term
        self._on_applied(index, clock_term)
        for read in self._reads.applied(index):
            if not read.future.done():
                read.future.set_result(ReadPoint(index, 0))

    def _restore(self, item: Restore) -> None:
        logger.info("replacing the state by the snapshot at %d", item.meta.index)
        _, content = split_snapshot(item.content)
        self.state.restore(content)
        self.config, self.members = item.meta.config, item.members
        self._hub.reset(item.meta.index)
        self._pending.forget_indexes(item.meta.index)
        self._advance(item.meta.index, item.meta.term)
