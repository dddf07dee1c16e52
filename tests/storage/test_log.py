"""What the log keeps, the same for both engines; and what only a disk can be asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rocinante.errors import StorageError
from rocinante.raft.types import Config, Entry, EntryKind, HardState, SnapshotMeta
from rocinante.storage import Engine, Loaded, Write, open_leveldb, open_memory
from rocinante.storage.leveldb import LevelDbLog
from tests.storage.tools import CONFIG, ME, append, entries, entry, meta, opened, reloaded, snapshot, span


@pytest.fixture(params=["leveldb", "memory"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    engine = open_leveldb(tmp_path / "data", ME) if request.param == "leveldb" else open_memory(ME)
    assert engine.log.load() == Loaded()
    yield engine
    engine.close()


def again(engine: Engine) -> Loaded:
    """What a fresh read of the store finds (of the disk's in the same process: the tables are LevelDB's)."""
    return engine.log.load()


def test_a_new_store_is_fresh_and_empty(engine: Engine) -> None:
    assert again(engine) == Loaded(HardState(), SnapshotMeta(), [], fresh=True)


def test_everything_written_is_read_back(engine: Engine) -> None:
    change = Entry(2, 1, EntryKind.CONFIG, b"\0\xff" * 100)
    engine.log.persist([Write(HardState(1, 2**64 - 1, 0), (entry(1, data=b""), change))])
    engine.log.persist([Write(HardState(1, 2**64 - 1, 2))])
    found = again(engine)
    assert found.entries == [entry(1, data=b""), change]
    assert found.hard_state == HardState(1, 2**64 - 1, 2)
    assert found.entries[1].kind is EntryKind.CONFIG
    assert not found.fresh


# Each row: groups of writes (term, first, last), a group persisted at once; then (index, term) of what must be there.
SUFFIXES = {
    "append": ([[(1, 1, 3)], [(1, 4, 5)]], [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)]),
    "shorter suffix deletes the rest": ([[(1, 1, 9)], [(2, 3, 4)]], [(1, 1), (2, 1), (3, 2), (4, 2)]),
    "same length": ([[(1, 1, 3)], [(2, 2, 3)]], [(1, 1), (2, 2), (3, 2)]),
    "the whole log": ([[(1, 1, 3)], [(2, 1, 1)]], [(1, 2)]),
    "append and conflict in one group": ([[(1, 1, 9), (2, 4, 5)]], [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2)]),
    "conflict, then longer, in one group": (
        [[(1, 1, 4)], [(2, 2, 2), (2, 3, 5)]],
        [(1, 1), *((i, 2) for i in range(2, 6))],
    ),
    "two conflicts in one group": ([[(1, 1, 8), (2, 5, 7), (3, 2, 3)]], [(1, 1), (2, 3), (3, 3)]),
}


@pytest.mark.parametrize("name", SUFFIXES)
def test_a_conflicting_suffix_is_replaced(engine: Engine, name: str) -> None:
    groups, expected = SUFFIXES[name]
    for group in groups:
        engine.log.persist([Write(HardState(term, 1, 0), entries(first, last, term)) for term, first, last in group])
    assert [(found.index, found.term) for found in again(engine).entries] == expected


@pytest.mark.parametrize(
    ("writes", "complaint"),
    [
        ([Write(entries=entries(5, 6))], "entry 5 does not follow on a log of 1 to 3"),
        ([Write(entries=(entry(4), entry(6)))], "entry 6 comes where 5 was due"),
        ([Write(entries=entries(4, 4)), Write(entries=entries(6, 6))], "entry 6 does not follow on a log of 1 to 4"),
        ([Write(snapshot=meta(9), entries=entries(9, 9))], "entry 9 does not follow on a log of 10 to 9"),
    ],
)
def test_a_gap_is_refused_and_changes_nothing(engine: Engine, writes: list[Write], complaint: str) -> None:
    append(engine, 1, 3)
    with pytest.raises(StorageError, match=complaint):
        engine.log.persist([Write(HardState(7, 7, 0)), *writes])
    found = again(engine)
    assert (span(found.entries), found.hard_state.term) == ((1, 3), 1)


def test_a_received_snapshot_replaces_the_log(engine: Engine) -> None:
    append(engine, 1, 9, term=1)
    snapshot(engine, 7, term=2)
    engine.log.persist([Write(HardState(2, 1, 7), snapshot=meta(7, 2)), Write(None, entries(8, 8, term=2))])
    found = again(engine)
    assert found.snapshot == SnapshotMeta(7, 2, CONFIG)
    assert found.entries == [entry(8, term=2)]


def test_a_snapshot_far_ahead_of_the_log(engine: Engine) -> None:
    append(engine, 1, 3)
    far = 2**60
    snapshot(engine, far)
    engine.log.persist([Write(HardState(1, 1, 0), snapshot=meta(far))])
    append(engine, far + 1, far + 2)
    found = again(engine)
    assert span(found.entries) == (far + 1, far + 2)
    # The entries up to the snapshot are committed, whatever the hard state last said.
    assert found.snapshot.index == far


def test_a_snapshot_keeps_a_joint_configuration(engine: Engine) -> None:
    joint = Config(frozenset({1, 2}), frozenset({2, 3}), frozenset({4}), frozenset({3}), auto_leave=True)
    append(engine, 1, 3)
    engine.snapshots.create(SnapshotMeta(3, 1, joint)).finish()
    engine.log.compact(SnapshotMeta(3, 1, joint), 4)
    assert again(engine).snapshot.config == joint


def test_compaction_keeps_what_it_was_told_to(engine: Engine) -> None:
    append(engine, 1, 100, commit=80)
    snapshot(engine, 80)
    engine.log.compact(meta(80), 60)
    found = again(engine)
    assert (found.snapshot, span(found.entries)) == (meta(80), (81, 100))
    with pytest.raises(StorageError, match="entry 59 does not follow on a log of 60 to 100"):
        engine.log.persist([Write(entries=entries(59, 60))])
    append(engine, 101, 101)
    assert span(again(engine).entries) == (81, 101)


@pytest.mark.parametrize(("index", "keep_from"), [(101, 50), (80, 82), (80, 0)], ids=["beyond the log", "a gap", "0"])
def test_a_compaction_that_loses_entries_is_refused(engine: Engine, index: int, keep_from: int) -> None:
    append(engine, 1, 100, commit=80)
    snapshot(engine, 50)
    engine.log.compact(meta(50), 30)
    with pytest.raises(StorageError, match="cannot compact"):
        engine.log.compact(meta(index), keep_from)
    assert again(engine).snapshot.index == 50


def test_a_compaction_that_was_overtaken_changes_nothing(engine: Engine) -> None:
    """The leader's snapshot came while the node's own, older one was being written."""
    append(engine, 1, 100, commit=80)
    snapshot(engine, 120)
    engine.log.persist([Write(HardState(1, 1, 120), snapshot=meta(120))])
    engine.log.compact(meta(80), 60)
    found = again(engine)
    assert (found.snapshot, found.entries) == (meta(120), [])
    append(engine, 121, 122)
    assert span(again(engine).entries) == (121, 122)


def test_a_closed_log_refuses(engine: Engine) -> None:
    engine.log.close()
    engine.log.close()
    with pytest.raises(StorageError, match="closed"):
        append(engine, 1, 1)
    with pytest.raises(StorageError, match="closed"):
        engine.log.compact(meta(0), 1)


def test_it_is_all_there_after_a_restart(tmp_path: Path) -> None:
    engine, _ = opened(tmp_path / "data")
    append(engine, 1, 100, term=3, commit=70)
    snapshot(engine, 60, term=3)
    engine.log.compact(meta(60, 3), 40)
    engine.close()
    found = reloaded(tmp_path / "data")
    assert found.hard_state == HardState(3, 1, 70)
    assert found.snapshot == meta(60, 3)
    assert found.entries == list(entries(61, 100, 3))
    assert not found.fresh


def test_compaction_deletes_from_the_disk(tmp_path: Path) -> None:
    engine, _ = opened(tmp_path / "data")
    assert isinstance(engine.log, LevelDbLog)
    append(engine, 1, 5000)
    snapshot(engine, 4000)
    engine.log.compact(meta(4000), 3901)
    assert engine.log.settle(10)
    assert sum(1 for _ in engine.log._db.iterator(prefix=b"e", include_value=False)) == 1100
    engine.close()


def test_void_entries_that_a_crash_left_are_deleted_at_the_next_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, _ = opened(tmp_path / "data")
    append(engine, 1, 2000)
    snapshot(engine, 1500)
    assert isinstance(engine.log, LevelDbLog)
    # As if the process died before the trim thread came to it.
    monkeypatch.setattr(engine.log._trimmer, "add", lambda start, stop: None)
    engine.log.compact(meta(1500), 1001)
    engine.close()
    engine, found = opened(tmp_path / "data")
    assert span(found.entries) == (1501, 2000)
    assert isinstance(engine.log, LevelDbLog)
    assert sum(1 for _ in engine.log._db.iterator(prefix=b"e", include_value=False)) == 1000
    engine.close()


def test_the_disk_stays_flat_under_steady_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rocinante import limits

    monkeypatch.setattr(limits, "LOG_WRITE_BUFFER_BYTES", 512 * limits.KIB)
    monkeypatch.setattr(limits, "LOG_RECLAIM_BYTES", 2 * limits.MIB)
    engine, _ = opened(tmp_path / "data")
    assert isinstance(engine.log, LevelDbLog)
    data = bytes(range(256)) * 64
    sizes = []
    for start in range(1, 4001, 200):
        engine.log.persist([Write(HardState(1, 1, 0), [entry(i, data=data) for i in range(start, start + 200)])])
        if start > 200:
            snapshot(engine, start - 1)
            engine.log.compact(meta(start - 1), start - 100)
            engine.snapshots.prune(2)
            assert engine.log.settle(30)
            sizes.append(engine.log.size_bytes())
    # 64 MB went through; what is live is 5 MB.
    assert max(sizes) < 20_000_000
    engine.close()


def test_writes_before_the_load_are_refused(tmp_path: Path) -> None:
    engine = open_leveldb(tmp_path / "data", ME)
    with pytest.raises(StorageError, match="must be loaded"):
        append(engine, 1, 1)
    engine.close()


def test_a_long_log_loads_with_progress(tmp_path: Path) -> None:
    engine, _ = opened(tmp_path / "data")
    append(engine, 1, 10_000)
    engine.close()
    calls: list[tuple[int, int]] = []
    engine = open_leveldb(tmp_path / "data", ME, progress=lambda done, total: calls.append((done, total)))
    assert len(engine.log.load().entries) == 10_000
    engine.close()
    assert calls[0] == (0, 10_000)
    assert calls[-1] == (10_000, 10_000)
    assert calls == sorted(calls)
    assert len(calls) >= 5


def test_huge_entries(tmp_path: Path) -> None:
    engine, _ = opened(tmp_path / "data")
    huge = bytes(20 * 1024 * 1024)
    engine.log.persist([Write(HardState(1, 1, 0), (entry(1, data=huge), entry(2, data=huge), entry(3)))])
    engine.close()
    assert [len(found.data) for found in reloaded(tmp_path / "data").entries] == [len(huge), len(huge), 17]


def test_sizes(engine: Engine) -> None:
    append(engine, 1, 1000)
    assert engine.log.size_bytes() > 10_000
    snapshot(engine, 5, bytes(5000))
    assert engine.snapshots.size_bytes() >= 5000
    free = engine.disk_free_bytes()
    assert free is None if engine.name == "memory" else free is not None and free > 0
