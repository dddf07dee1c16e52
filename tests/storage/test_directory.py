"""Whose directory it is, and how it comes into being: a refusal is one line, says what to do, changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import plyvel
import pytest

from rocinante.errors import DataDirectoryError
from rocinante.storage import DirectoryUnavailableError, Identity, open_leveldb, records
from rocinante.storage import leveldb as leveldb_module
from tests.storage.tools import ME, append, opened, reloaded, span


def tree(path: Path) -> list[str]:
    return sorted(str(found.relative_to(path)) for found in path.rglob("*"))


@pytest.fixture
def used(tmp_path: Path) -> Path:
    """A directory with ten entries in it."""
    engine, _ = opened(tmp_path / "data")
    append(engine, 1, 10, commit=5)
    engine.close()
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (ME._replace(cluster_id=7), "belongs to cluster 00000000000000c1, this is cluster 0000000000000007"),
        (ME._replace(node_id=7), "belongs to node ffffffffffffffff, this is node 0000000000000007"),
        (ME._replace(datacenter="dc2"), "belongs to datacenter dc1, this is datacenter dc2"),
    ],
)
@pytest.mark.parametrize("readable", [True, False], ids=["identity.json", "LevelDB"])
def test_anothers_directory_is_refused(used: Path, other: Identity, message: str, readable: bool) -> None:
    if not readable:
        # Somebody edited identity.json: the log itself still knows.
        content = json.loads((used / "identity.json").read_text())
        content |= {"cluster": f"{other.cluster_id:x}", "node": f"{other.node_id:x}", "datacenter": other.datacenter}
        (used / "identity.json").write_text(json.dumps(content))
    with pytest.raises(DataDirectoryError, match=message) as caught:
        open_leveldb(used, other, cleanup_on_failure=True)
    assert "\n" not in str(caught.value)
    assert "check dataDir" in str(caught.value)
    assert "log" in tree(used)


def test_a_newer_format_is_refused(used: Path) -> None:
    identity = used / "identity.json"
    identity.write_text(identity.read_text().replace('"format": 2', '"format": 3'))
    with pytest.raises(DataDirectoryError, match="is of data format 3, this software knows 2: start the newer version"):
        open_leveldb(used, ME)


def test_an_older_format_that_is_not_read_any_more_is_refused(used: Path) -> None:
    identity = used / "identity.json"
    identity.write_text(identity.read_text().replace('"format": 2', '"format": 1'))
    with pytest.raises(DataDirectoryError, match="is of data format 1, which this version does not read any more"):
        open_leveldb(used, ME)


def test_a_newer_format_in_the_log_is_refused(used: Path) -> None:
    with plyvel.DB(str(used / "log")) as db:
        db.put(records.KEY_FORMAT, records.encode_format(3))
    with pytest.raises(DataDirectoryError, match="is of data format 3"):
        open_leveldb(used, ME)


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"dear")
    with pytest.raises(
        DataDirectoryError, match=r"not empty and not a data directory of Rocinante \(it holds 'photo.jpg'"
    ):
        open_leveldb(tmp_path, ME, cleanup_on_failure=True)
    assert tree(tmp_path) == ["photo.jpg"]


def test_a_log_without_its_identity_is_not_taken_for_new(used: Path) -> None:
    (used / "identity.json").unlink()
    with pytest.raises(DataDirectoryError, match="a damaged node must not vote"):
        open_leveldb(used, ME, cleanup_on_failure=True)
    assert "log/CURRENT" in tree(used)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}', '{"format": "x"}', "\udcff"])
def test_an_identity_that_cannot_be_understood(used: Path, content: str) -> None:
    (used / "identity.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(DataDirectoryError, match=r"identity.json cannot be understood; a damaged node must not vote"):
        open_leveldb(used, ME)


@pytest.mark.parametrize("name", ["log", "mark", "snapshots"])
def test_a_missing_part(used: Path, name: str) -> None:
    (used / name).rename(used.parent / name)
    with pytest.raises(DataDirectoryError, match=f"damaged data directory: .*{name} is missing"):
        open_leveldb(used, ME)


HOLDER = """
import sys
from rocinante.storage import open_leveldb
from tests.storage.tools import ME
engine = open_leveldb(sys.argv[1], ME)
print("held", flush=True)
sys.stdin.read()
engine.close()
"""


def test_two_processes(used: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(used)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(DirectoryUnavailableError, match=rf"in use by another process \(pid {holder.pid}\)$"):
        open_leveldb(used, ME, cleanup_on_failure=True)
    holder.communicate()
    assert span(reloaded(used).entries) == (1, 10)


def test_the_same_process_twice(used: Path) -> None:
    first, _ = opened(used)
    with pytest.raises(DirectoryUnavailableError, match="in use"):
        open_leveldb(used, ME)
    append(first, 11, 11)
    first.close()
    assert span(reloaded(used).entries) == (1, 11)


def below_a_file(path: Path) -> Path:
    (path / "file").write_bytes(b"")
    return path / "file" / "data"


def not_a_directory(path: Path) -> Path:
    (path / "data").write_bytes(b"")
    return path / "data"


@pytest.mark.parametrize("place", [below_a_file, not_a_directory])
def test_a_place_that_cannot_be_a_directory(tmp_path: Path, place: Callable[[Path], Path]) -> None:
    path = place(tmp_path)
    before = tree(tmp_path)
    with pytest.raises(DirectoryUnavailableError, match=r"cannot use .* as data directory: Not a directory") as caught:
        open_leveldb(path, ME, cleanup_on_failure=True)
    assert "\n" not in str(caught.value)
    assert tree(tmp_path) == before


def test_a_directory_that_may_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(0o500)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        with pytest.raises(DirectoryUnavailableError, match=r"cannot use .* as data directory: Permission denied"):
            open_leveldb(tmp_path / "closed" / "data", ME, cleanup_on_failure=True)
    finally:
        if root:
            os.seteuid(0)
    assert tree(tmp_path) == ["closed"]


class Breaks(Exception):
    pass


FIRST_STARTS = {"new parents": "a/b/data", "an existing, empty directory": "data"}


@pytest.mark.parametrize("name", FIRST_STARTS)
@pytest.mark.parametrize("step", ["plyvel.DB", "LevelDbLog.initialize", "DataDirectory.complete"])
def test_a_first_start_that_fails_half_way(
    tmp_path: Path, name: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failure is made by hand: a step raises what a full disk would."""
    path = tmp_path / FIRST_STARTS[name]
    if name == "an existing, empty directory":
        path.mkdir()
    before = tree(tmp_path)

    def fail(*_args: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    owner, attribute = step.split(".")
    target = plyvel if owner == "plyvel" else getattr(leveldb_module, owner)
    with monkeypatch.context() as patch:
        patch.setattr(target, attribute, fail)
        with pytest.raises(DirectoryUnavailableError, match=r"No space left on device; make room and start again$"):
            open_leveldb(path, ME, cleanup_on_failure=True)
        assert tree(tmp_path) == before
        with pytest.raises(DirectoryUnavailableError):
            open_leveldb(path, ME, cleanup_on_failure=False)
    assert "identity.json" in tree(path)
    # Nothing was ever acknowledged from the half-made directory: it is made again.
    assert reloaded(path).fresh


def test_a_first_start_that_was_cut_off_before_it_claimed_the_directory(tmp_path: Path) -> None:
    """Found by killing the first start at each of its calls to the disk (tests/faults/test_crash_points.py)."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / ".identity.json").write_text('{"form')
    engine, found = opened(tmp_path / "data")
    engine.close()
    assert found.fresh
    assert ".identity.json" not in tree(tmp_path / "data")


def test_a_half_made_directory_of_another_node_is_still_the_others(tmp_path: Path) -> None:
    opened(tmp_path)[0].close()
    identity = tmp_path / "identity.json"
    identity.write_text(identity.read_text().replace("true", "false"))
    with pytest.raises(DataDirectoryError, match="belongs to node"):
        open_leveldb(tmp_path, ME._replace(node_id=1))
    assert reloaded(tmp_path).fresh


@pytest.mark.parametrize("cleanup", [True, False])
def test_a_start_that_is_abandoned_after_the_open(tmp_path: Path, cleanup: bool) -> None:
    engine = open_leveldb(tmp_path / "data", ME, cleanup_on_failure=cleanup)
    engine.log.load()
    append(engine, 1, 1)
    # The node keeps a file of its own there.
    (tmp_path / "data" / "CATCHING-UP").write_bytes(b"")
    engine.abandon()
    assert (tmp_path / "data").exists() is not cleanup


def test_abandoning_never_removes_what_an_earlier_start_made(used: Path) -> None:
    engine = open_leveldb(used, ME, cleanup_on_failure=True)
    engine.log.load()
    engine.abandon()
    assert span(reloaded(used).entries) == (1, 10)
