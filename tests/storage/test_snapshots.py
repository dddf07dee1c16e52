"""Snapshots: nothing is visible before it is whole, and nothing damaged is ever taken for whole."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path

import pytest

from rocinante import limits
from rocinante.errors import DataDirectoryError, StorageError
from rocinante.storage import Engine, open_leveldb, open_memory
from tests.storage.tools import ME, append, meta, opened, reloaded, snapshot, span

CONTENT = bytes(range(256)) * 4096


@pytest.fixture(params=["leveldb", "memory"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    engine = open_leveldb(tmp_path / "data", ME) if request.param == "leveldb" else open_memory(ME)
    engine.log.load()
    yield engine
    engine.close()


@pytest.mark.parametrize("content", [b"", b"x", CONTENT], ids=["empty", "one byte", "a megabyte"])
def test_what_was_written_is_read(engine: Engine, content: bytes) -> None:
    written = snapshot(engine, 5, content)
    assert (written.size_bytes, written.digest) == (len(content), blake2b(content, digest_size=32).digest())
    assert engine.snapshots.list() == [written]
    chunks = list(engine.snapshots.read(written, 1000))
    assert b"".join(chunks) == content
    assert all(len(chunk) == 1000 for chunk in chunks[:-1])


def test_nothing_is_visible_before_the_end(engine: Engine) -> None:
    sink = engine.snapshots.create(meta(5))
    sink.write(CONTENT)
    assert engine.snapshots.list() == []
    sink.finish()
    assert len(engine.snapshots.list()) == 1
    with pytest.raises(StorageError, match="already finished"):
        sink.write(b"more")
    with pytest.raises(StorageError, match="already finished"):
        sink.finish()


def test_an_aborted_one_leaves_nothing(engine: Engine, tmp_path: Path) -> None:
    sink = engine.snapshots.create(meta(5))
    sink.write(CONTENT)
    sink.abort()
    sink.abort()
    assert engine.snapshots.list() == []
    assert engine.snapshots.size_bytes() == 0


def test_a_wrong_digest_is_refused(engine: Engine) -> None:
    sink = engine.snapshots.create(meta(5))
    sink.write(b"what came")
    with pytest.raises(ValueError, match=r"index 5: the content's digest is .*, expected 00"):
        sink.finish(expected_digest=bytes(32))
    assert engine.snapshots.list() == []
    sink = engine.snapshots.create(meta(5))
    sink.write(b"what came")
    sink.finish(expected_digest=blake2b(b"what came", digest_size=32).digest())
    assert len(engine.snapshots.list()) == 1


def test_a_long_one_is_synced_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the log's next sync does not wait for all of it."""
    engine, _ = opened(tmp_path)
    monkeypatch.setattr(limits, "SNAPSHOT_SYNC_BYTES", 3000)
    synced: list[int] = []
    real = os.fdatasync

    def fdatasync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_size)
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    sink = engine.snapshots.create(meta(5))
    before = next(tmp_path.rglob(".writing-*")).stat().st_size
    for _ in range(7):
        sink.write(bytes(1000))
    assert len(synced) == 2
    assert synced[1] - synced[0] == 3000
    assert synced[0] >= before + 3000
    written = sink.finish()
    assert b"".join(engine.snapshots.read(written, 1000)) == bytes(7000)
    engine.close()


def test_a_sync_that_fails_while_it_is_written_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, _ = opened(tmp_path)
    monkeypatch.setattr(limits, "SNAPSHOT_SYNC_BYTES", 1000)

    def fdatasync(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    sink = engine.snapshots.create(meta(5))
    monkeypatch.setattr(os, "fdatasync", fdatasync)
    with pytest.raises(StorageError, match=r"cannot write the snapshot .*Input/output error"):
        sink.write(bytes(1000))
    monkeypatch.undo()
    assert engine.snapshots.list() == []
    assert not list(tmp_path.rglob(".writing-*"))
    engine.close()


def test_pruning_keeps_the_newest(engine: Engine) -> None:
    append(engine, 1, 2000)
    for index in (9, 100, 1000):
        snapshot(engine, index)
        engine.log.compact(meta(index), 1)
    engine.snapshots.prune(5)
    assert len(engine.snapshots.list()) == 3
    engine.snapshots.prune(2)
    assert [found.meta.index for found in engine.snapshots.list()] == [100, 1000]


def test_pruning_keeps_what_a_restart_needs(tmp_path: Path) -> None:
    """The disk thread is behind: it has recorded 20, will record 30, then 40."""
    engine, _ = opened(tmp_path)
    append(engine, 1, 50)
    for index in (10, 20, 30, 40):
        snapshot(engine, index)
    engine.log.compact(meta(20), 21)
    engine.snapshots.prune(1)
    assert [found.meta.index for found in engine.snapshots.list()] == [20, 30, 40]
    engine.log.compact(meta(30), 31)
    engine.close()
    engine, found = opened(tmp_path)
    assert (found.snapshot, span(found.entries)) == (meta(30), (31, 50))
    engine.close()


def test_one_that_was_pruned_while_it_is_read_goes_on(tmp_path: Path) -> None:
    engine, _ = opened(tmp_path)
    append(engine, 1, 9)
    written = snapshot(engine, 5, CONTENT)
    reader = engine.snapshots.read(written, 1000)
    first = next(reader)
    snapshot(engine, 7)
    engine.log.compact(meta(7), 8)
    engine.snapshots.prune(1)
    assert first + b"".join(reader) == CONTENT
    with pytest.raises(StorageError, match="No such file"):
        next(engine.snapshots.read(written, 1000))
    engine.close()


def test_what_a_crash_left_half_written_is_removed_at_the_next_open(tmp_path: Path) -> None:
    engine, _ = opened(tmp_path)
    sink = engine.snapshots.create(meta(5))
    sink.write(CONTENT)
    engine.close()  # The sink is simply forgotten, as by a crash.
    assert len(list((tmp_path / "snapshots").iterdir())) == 1
    engine, _ = opened(tmp_path)
    assert list((tmp_path / "snapshots").iterdir()) == []
    engine.close()
    sink.abort()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def cut_to_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(at: int) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[at] ^= 0x10
        path.write_bytes(content)

    damage.__name__ = f"flip_{at}"
    return damage


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def newer(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"ROCISNAP\0\0\0\1", b"ROCISNAP\0\0\0\2", 1))


DAMAGES = [cut, cut_to_header, empty, longer, newer, *(flip(at) for at in (0, 9, 14, 20, 60, 200, 5000, -33, -1))]
damages = pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)


def compacted(path: Path, keep_from: int) -> list[Path]:
    """A node with snapshots of 20 and 30 and the log from `keep_from` to 40; its snapshot files."""
    engine, _ = opened(path)
    append(engine, 1, 40, commit=35)
    for index in (20, 30):
        snapshot(engine, index, CONTENT)
        engine.log.compact(meta(index), min(keep_from, index + 1))
    engine.close()
    return sorted((path / "snapshots").iterdir())


@damages
def test_a_damaged_snapshot_is_never_read_as_whole(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    engine, _ = opened(tmp_path)
    written = snapshot(engine, 5, CONTENT)
    damage(next((tmp_path / "snapshots").iterdir()))
    with pytest.raises(StorageError, match="damaged snapshot"):
        list(engine.snapshots.read(written, 65536))
    engine.close()


@damages
def test_a_damaged_newest_snapshot_without_the_log_behind_it(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    damage(compacted(tmp_path, keep_from=31)[1])
    with pytest.raises(DataDirectoryError, match=r"damaged snapshot in .*; a damaged node must not vote: remove it"):
        opened(tmp_path)


@damages
def test_a_damaged_newest_snapshot_with_the_log_behind_it(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    damage(compacted(tmp_path, keep_from=15)[1])
    engine, found = opened(tmp_path)
    assert (found.snapshot.index, span(found.entries), found.hard_state.commit) == (20, (21, 40), 35)
    # The log is whole and goes on as before: the next snapshot may be taken.
    append(engine, 41, 50, commit=45)
    snapshot(engine, 45, CONTENT)
    engine.log.compact(meta(45), 41)
    engine.close()
    assert span(reloaded(tmp_path).entries) == (46, 50)


@pytest.mark.parametrize("keep_from", [15, 31])
def test_a_missing_newest_snapshot(tmp_path: Path, keep_from: int) -> None:
    compacted(tmp_path, keep_from)[1].unlink()
    if keep_from > 21:
        with pytest.raises(DataDirectoryError, match="No such file"):
            opened(tmp_path)
    else:
        assert reloaded(tmp_path).snapshot.index == 20


def test_a_snapshot_that_the_log_does_not_know_of_is_not_used(tmp_path: Path) -> None:
    """A crash came between the file and the record of it: the file is void, for the log may contradict it."""
    compacted(tmp_path, keep_from=31)
    engine, _ = opened(tmp_path)
    snapshot(engine, 99)
    engine.close()
    engine, found = opened(tmp_path)
    assert found.snapshot.index == 30
    assert [held.meta.index for held in engine.snapshots.list()] == [20, 30]
    engine.close()
