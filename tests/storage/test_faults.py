"""Faults of the process and of the disk: what was acknowledged is there, or the node is told that it is not."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rocinante import limits
from rocinante.errors import DataDirectoryError, StorageError
from rocinante.raft.types import Entry, HardState
from rocinante.storage import DirectoryUnavailableError, Engine, Loaded, Write
from tests.storage.tools import ME, append, entry, meta, opened, reloaded, snapshot, span
from tests.storage.writer import data

KILLS = 12


def test_kill_at_any_moment_loses_nothing_acknowledged(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    choose = random.Random(seed)
    model: dict[int, int] = {}
    for term in range(1, KILLS + 1):
        lines = run_and_kill(tmp_path / "data", term, choose)
        found = reloaded(tmp_path / "data")
        check_acknowledged(model, lines, term, found, f"seed {seed}, run {term}")
    assert len(model) > 100, f"seed {seed}: hardly anything was written"


def run_and_kill(path: Path, term: int, choose: random.Random) -> list[tuple[int, int]]:
    """Start the writer, kill it some acknowledgements and a random moment later; what it acknowledged."""
    writer = subprocess.Popen(
        [sys.executable, "-m", "tests.storage.writer", str(path), str(term), str(choose.randrange(2**32))],
        stdout=subprocess.PIPE,
    )
    assert writer.stdout is not None
    lines = [writer.stdout.readline() for _ in range(choose.choice((1, 5, 40, 45, 200)))]
    threading.Event().wait(choose.random() * 0.003)
    writer.kill()
    lines += writer.stdout.readlines()
    writer.stdout.close()
    writer.wait()
    spans = [line.split() for line in lines if line.endswith(b"\n")]
    return [(int(first), int(last)) for first, last in spans]


def check_acknowledged(
    model: dict[int, int], lines: list[tuple[int, int]], term: int, found: Loaded, where: str
) -> None:
    """`model` is term by index of all that was acknowledged; one more write may have been under way."""
    for first, last in lines:
        for index in [index for index in model if index >= first]:
            del model[index]
        model.update(dict.fromkeys(range(first, last + 1), term))
    last = max(model)
    there = {entry.index: entry for entry in found.entries}
    for index in range(found.snapshot.index + 1, last + 1):
        assert there[index].term == model[index], f"{where}: entry {index}"
        assert there[index].data == data(index, model[index]), f"{where}: entry {index}"
    beyond = {index: entry.term for index, entry in there.items() if index > last}
    assert len(beyond) <= 20, f"{where}: more than the write that was under way"
    assert set(beyond.values()) <= {term}, where
    assert found.hard_state.term == term, where
    model.update(beyond)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Loaded]:
    """A data directory with table files, a write-ahead log and a compaction behind it, and what is in it."""
    path = tmp_path_factory.mktemp("whole") / "data"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "LOG_WRITE_BUFFER_BYTES", 64 * limits.KIB)
        engine, _ = opened(path)
        for start in range(1, 2000, 20):
            batch = [entry(i, data=data(i, 1)) for i in range(start, start + 20)]
            engine.log.persist([Write(HardState(1, 1, start - 1), batch)])
            if start == 1001:
                snapshot(engine, 1000)
                engine.log.compact(meta(1000), 151)
        engine.close()
        # A few more in a fresh write-ahead log.
        engine, _ = opened(path)
        for index in range(2001, 2011):
            append(engine, index, index, commit=index - 1)
        engine.close()
        found = reloaded_copy(path, path.with_name("first look"))
    assert isinstance(found, Loaded)
    assert span(found.entries) == (1001, 2010)
    assert len(list((path / "log").glob("*.ldb"))) >= 2
    assert sum(log.stat().st_size for log in (path / "log").glob("*.log")) > 500
    return path, found


def reloaded_copy(path: Path, copy: Path, damage: Callable[[Path], None] = lambda _: None) -> Loaded | str:
    """What a damaged copy of the directory loads as, or the message with which it is refused."""
    shutil.copytree(path, copy)
    damage(copy)
    try:
        return reloaded(copy)
    except DataDirectoryError as error:
        return str(error)
    finally:
        shutil.rmtree(copy)


def newest(path: Path, pattern: str) -> Path:
    return max(path.glob(pattern))


def cut(pattern: str, keep: float | int) -> Callable[[Path], None]:
    """Truncate the newest such file to a fraction, or by so many bytes where `keep` is negative."""

    def damage(path: Path) -> None:
        file = newest(path, pattern)
        size = file.stat().st_size
        os.truncate(file, size + int(keep) if keep < 0 else int(size * keep))

    return damage


def unlink(pattern: str) -> Callable[[Path], None]:
    return lambda path: newest(path, pattern).unlink()


def unlink_oldest(pattern: str) -> Callable[[Path], None]:
    return lambda path: min(path.glob(pattern)).unlink()


def unlink_all(pattern: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        for file in path.glob(pattern):
            file.unlink()

    return damage


def zeros(pattern: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        file = newest(path, pattern)
        file.write_bytes(bytes(file.stat().st_size))

    return damage


DAMAGES = {
    "write-ahead log cut by a byte: LevelDB drops the tail in silence": cut("log/*.log", -1),
    "write-ahead log cut by half": cut("log/*.log", 0.5),
    "write-ahead log emptied": cut("log/*.log", 0),
    "write-ahead log gone": unlink("log/*.log"),
    "write-ahead log zeroed": zeros("log/*.log"),
    "newest table cut": cut("log/*.ldb", -1),
    "newest table emptied": cut("log/*.ldb", 0),
    "newest table gone": unlink("log/*.ldb"),
    "oldest table gone": unlink_oldest("log/*.ldb"),
    "newest table zeroed": zeros("log/*.ldb"),
    "manifest emptied": cut("log/MANIFEST-*", 0),
    "manifest gone": unlink("log/MANIFEST-*"),
    "manifest zeroed": zeros("log/MANIFEST-*"),
    "CURRENT gone": unlink("log/CURRENT"),
    "CURRENT emptied": cut("log/CURRENT", 0),
    "the mark emptied": cut("mark", 0),
    "half of the mark": cut("mark", 0.5),
    "the mark zeroed": zeros("mark"),
    "the mark gone": unlink("mark"),
    "the log emptied": unlink_all("log/*"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_directory_is_refused(whole: tuple[Path, Loaded], tmp_path: Path, name: str) -> None:
    message = reloaded_copy(whole[0], tmp_path / "copy", DAMAGES[name])
    assert isinstance(message, str), f"loaded {span(message.entries)}"
    assert "remove it from the cluster, empty the directory" in message
    assert "\n" not in message
    assert "b'" not in message
    assert "b'" not in message


@pytest.mark.parametrize("pattern", ["log/*.ldb", "log/*.log", "log/MANIFEST-*", "log/CURRENT", "mark"])
def test_a_flipped_bit_is_refused_or_harmless(whole: tuple[Path, Loaded], tmp_path: Path, pattern: str) -> None:
    """Some bits do not matter (padding, deleted entries): then everything must be there. Most are refused."""
    seed = random.randrange(2**32)
    choose = random.Random(seed)
    refused = 0
    for trial in range(25):

        def flip(path: Path, trial: int = trial) -> None:
            files = sorted(path.glob(pattern))
            file = choose.choices(files, [file.stat().st_size for file in files])[0]
            content = bytearray(file.read_bytes())
            content[choose.randrange(len(content))] ^= 1 << choose.randrange(8)
            file.write_bytes(content)

        found = reloaded_copy(whole[0], tmp_path / "copy", flip)
        refused += isinstance(found, str)
        assert isinstance(found, str) or found == whole[1], f"seed {seed}, trial {trial}: a wrong log was taken"
    # Of the mark a slot that is lost leaves the other; of the rest enough is looked at to notice.
    assert refused >= (0 if pattern == "mark" else 1), f"seed {seed}: {refused} of 25 refused"


@pytest.mark.parametrize("index", [151, 700, 1000, 1001, 1500])
def test_a_flipped_bit_in_an_entry_is_refused(whole: tuple[Path, Loaded], tmp_path: Path, index: int) -> None:
    """Every copy of it that the tables hold is damaged; entries kept behind the snapshot count too."""

    def flip(path: Path) -> None:
        found = 0
        for file in (path / "log").glob("*.ldb"):
            content = file.read_bytes()
            found += content.count(data(index, 1))
            file.write_bytes(content.replace(data(index, 1), data(index, 1)[:-1] + b"!"))
        assert found

    message = reloaded_copy(whole[0], tmp_path / "copy", flip)
    assert isinstance(message, str)
    assert "damaged log" in message


@pytest.mark.parametrize("pattern", ["log/*.log", "log/MANIFEST-*", "log/CURRENT"])
def test_a_file_cut_anywhere_is_refused_or_harmless(whole: tuple[Path, Loaded], tmp_path: Path, pattern: str) -> None:
    """A lost edit of the manifest may be made again from the write-ahead log: then everything must be there."""
    size = newest(whole[0], pattern).stat().st_size
    refused = 0
    for keep in range(0, size, size // 20 + 1):
        found = reloaded_copy(whole[0], tmp_path / "copy", cut(pattern, keep / size))
        refused += isinstance(found, str)
        assert isinstance(found, str) or found == whole[1], f"cut to {keep} of {size} bytes: a wrong log was taken"
    assert refused >= 5


def test_an_older_mark_is_harmless(whole: tuple[Path, Loaded], tmp_path: Path) -> None:
    """A power loss may leave the mark behind the log: it is written without a sync."""

    def older(path: Path) -> None:
        from rocinante.storage.mark import Mark

        mark = Mark(path / "mark", create=False)
        last = mark.read()
        mark.advance(last - 3)
        mark.advance(last - 4)
        mark.close()

    assert reloaded_copy(whole[0], tmp_path / "copy", older) == whole[1]


LIMITED = """
import resource, sys
from pathlib import Path
from rocinante.errors import StorageError
from rocinante.raft.types import HardState
from rocinante.storage import Write
from tests.storage.tools import entry, meta, opened, snapshot
engine, _ = opened(Path(sys.argv[1]))
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
index = 0
try:
    while True:
        engine.log.persist([Write(HardState(1, 1, 0), [entry(index + 1, data=bytes(1000))])])
        index += 1
except StorageError as error:
    print(index, error, sep="|")
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
for attempt in (
    lambda: engine.log.persist([Write(HardState(2, 2, 0))]),
    lambda: engine.log.persist([Write(entries=[entry(index + 1)])]),
    lambda: engine.log.compact(meta(1), 1),
):
    try:
        attempt()
        print("not refused")
    except StorageError as error:
        print(error)
engine.close()
"""


def test_a_failed_write_is_final(tmp_path: Path) -> None:
    """A limit on the file's size makes the kernel fail a real write (EFBIG), in the middle of a record."""
    path = tmp_path / "data"
    done = subprocess.run([sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, check=True)
    first, *refusals = done.stdout.splitlines()
    acknowledged, message = first.split("|")
    assert 50 < int(acknowledged) < 100
    assert "cannot write to the log in" in message
    assert "File too large" in message
    assert len(refusals) == 3
    assert all("failed before and takes nothing more" in refusal for refusal in refusals)
    found = reloaded(path)
    assert found.entries[: int(acknowledged)] == [entry(i, data=bytes(1000)) for i in range(1, int(acknowledged) + 1)]
    assert len(found.entries) <= int(acknowledged) + 1
    assert found.hard_state == HardState(1, 1, 0)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    if os.geteuid() != 0:
        pytest.skip("needs root: mounts a file system")
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(path)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount: {mounted.stderr.strip()}")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def fill(engine: Engine) -> tuple[list[Entry], str]:
    """Write until the disk is full; what was acknowledged, and what was said."""
    kept: list[Entry] = []
    while True:
        more = [entry(len(kept) + 1 + i, data=bytes(5000)) for i in range(3)]
        try:
            engine.log.persist([Write(HardState(1, 1, 0), more)])
        except StorageError as error:
            return kept, str(error)
        kept += more


@pytest.mark.root
def test_a_full_disk(small_disk: Path, tmp_path: Path) -> None:
    engine, _ = opened(small_disk / "data")
    free = engine.disk_free_bytes()
    assert free is not None
    assert 3_000_000 < free < 4_200_000
    kept, message = fill(engine)
    assert "No space left on device" in message
    free = engine.disk_free_bytes()
    assert free is not None
    assert free < 20_000
    with pytest.raises(StorageError, match="takes nothing more"):
        append(engine, len(kept) + 1, len(kept) + 1)
    with pytest.raises(StorageError, match="No space left on device"):
        snapshot(engine, 1, bytes(1_000_000))
    assert list((small_disk / "data" / "snapshots").iterdir()) == []
    engine.close()
    with pytest.raises(DirectoryUnavailableError, match="No space left on device; make room and start again"):
        opened(small_disk / "data")
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert reloaded(small_disk / "data").entries[: len(kept)] == kept


@pytest.mark.root
def test_a_first_start_on_a_full_disk_leaves_nothing(small_disk: Path) -> None:
    from rocinante.storage import open_leveldb

    with (small_disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    assert os.statvfs(small_disk).f_bavail == 0
    with pytest.raises(DirectoryUnavailableError, match="No space left on device"):
        open_leveldb(small_disk / "data", ME, cleanup_on_failure=True)
    assert [found.name for found in small_disk.iterdir()] == ["filler"]
