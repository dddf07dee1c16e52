"""Bugs that a node has when ROCINANTE_BUG names one. They prove that the rounds would find such a bug.

Python imports this file at a node's start when its directory is in PYTHONPATH; only tests/faults/broken.py puts it
there.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from typing import Any, Final

SOUND_WRITES: Final = 25
"""So that the cluster comes into being."""
HELD_BACK_WRITES: Final = 40


def stale_reads() -> None:
    """A node answers linearizable reads from what it has, without asking whether anybody else leads."""
    from rocinante.node.node import Node

    real: Callable[..., Any] = Node.read
    Node.read = lambda self, **options: real(self, **{**options, "linearizable": False})  # type: ignore[method-assign]


def late_writes() -> None:
    """What is acknowledged reaches the disk a little later, some dozens of writes at a time."""
    from rocinante.raft.types import SnapshotMeta
    from rocinante.storage.base import Write
    from rocinante.storage.leveldb import LevelDbLog

    held: list[Write] = []
    turns = itertools.count(1)
    persist, compact = LevelDbLog.persist, LevelDbLog.compact

    def late(self: LevelDbLog, writes: Sequence[Write]) -> None:
        held.extend(writes)
        if next(turns) < SOUND_WRITES or len(held) >= HELD_BACK_WRITES:
            flush(self)

    def flush(self: LevelDbLog) -> None:
        persist(self, list(held))
        held.clear()

    def compact_all(self: LevelDbLog, snapshot: SnapshotMeta, keep_from: int) -> None:
        flush(self)
        compact(self, snapshot, keep_from)

    LevelDbLog.persist = late  # type: ignore[method-assign]
    LevelDbLog.compact = compact_all  # type: ignore[method-assign]


def other_bytes() -> None:
    """A node applies something else than the others now and then: its state is not theirs."""
    from rocinante.state.machine import StateMachine

    real = StateMachine.apply
    turns = itertools.count(1)

    def careless(self: StateMachine, index: int, term: int, data: bytes) -> Any:
        wrong = data and next(turns) % 50 == 0
        return real(self, index, term, data[:-1] + bytes([data[-1] ^ 1]) if wrong else data)

    StateMachine.apply = careless  # type: ignore[method-assign]


BUGS: Final = {"stale-reads": stale_reads, "late-writes": late_writes, "other-bytes": other_bytes}

if name := os.environ.get("ROCINANTE_BUG"):
    BUGS[name]()
