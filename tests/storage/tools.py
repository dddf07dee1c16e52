"""Makers and readers for the storage tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rocinante.raft.types import Config, Entry, EntryKind, HardState, SnapshotMeta
from rocinante.storage import Engine, Identity, Loaded, SnapshotFile, Write, open_leveldb

ME = Identity(cluster_id=0xC1, node_id=0xFFFF_FFFF_FFFF_FFFF, datacenter="dc1")
CONFIG = Config(voters=frozenset({1, 2, 2**64 - 1}), learners=frozenset({9}))


def entry(index: int, term: int = 1, data: bytes | None = None) -> Entry:
    return Entry(index, term, EntryKind.NORMAL, b"entry %d of term %d" % (index, term) if data is None else data)


def entries(first: int, last: int, term: int = 1) -> tuple[Entry, ...]:
    return tuple(entry(index, term) for index in range(first, last + 1))


def append(engine: Engine, first: int, last: int, term: int = 1, commit: int = 0) -> None:
    engine.log.persist([Write(HardState(term, 1, commit), entries(first, last, term))])


def meta(index: int, term: int = 1) -> SnapshotMeta:
    return SnapshotMeta(index, term, CONFIG)


def snapshot(engine: Engine, index: int, content: bytes = b"state", term: int = 1) -> SnapshotFile:
    sink = engine.snapshots.create(meta(index, term))
    sink.write(content)
    return sink.finish()


def opened(path: Path) -> tuple[Engine, Loaded]:
    """The engine of a directory with what it loaded; the engine is closed when the load fails."""
    engine = open_leveldb(path, ME)
    try:
        return engine, engine.log.load()
    except BaseException:
        engine.close()
        raise


def reloaded(path: Path) -> Loaded:
    engine, loaded = opened(path)
    engine.close()
    return loaded


def span(found: Sequence[Entry]) -> tuple[int, int] | None:
    return (found[0].index, found[-1].index) if found else None
