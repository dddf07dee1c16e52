"""`snapshot save` and `snapshot restore`: a file that is there can be restored, and what was restored is the state that
was saved."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import pytest

from rocinante.client import Client
from rocinante.config import load_config
from rocinante.errors import FailedPrecondition
from rocinante.flows import FlowRecord, FlowTuple
from rocinante.identity import cluster_id, format_id
from rocinante.limits import RESTORE_SKIP
from rocinante.node.directory import snapshot_head
from rocinante.node.opening import open_node
from rocinante.pb.etcd import rpc_pb2
from rocinante.ports import SnapshotInfo
from rocinante.raft.types import Config
from rocinante.snapshot_file import HEADER_BYTES, SnapshotWriter, read_content, read_header
from rocinante.storage import found_identity
from tests.cli.conftest import Run
from tests.client.serving import Cluster

YAML = """\
artifact:
  cluster:
    name: {name}
    storage: {{engine: {engine}}}
    controllers:
      - {{address: 127.0.0.1, port: 35091, rest: 8091}}
      - {{address: 127.0.0.1, port: 35092, rest: 8092}}
"""


@pytest.fixture
def saving(cluster: Cluster) -> Cluster:
    """A cluster whose node saves what a real one does: its members, then the state."""
    node = cluster.node
    save = node.save

    def whole() -> tuple[SnapshotInfo, Iterator[bytes]]:
        info, chunks = save()
        members = {node.member.id: node.member}
        content = snapshot_head(members, Config(frozenset(members))) + b"".join(chunks)
        digest = blake2b(content, digest_size=32).digest()
        parts = [content[at : at + 1000] for at in range(0, len(content), 1000)]
        return SnapshotInfo(info.index, info.term, len(content), digest), iter(parts)

    node.save = whole  # type: ignore[method-assign]
    with Client(cluster.endpoints) as client:
        for number in range(50):
            client.kv.put(f"key-{number}", str(number) * 20)
        client.flows.put([FlowRecord(FlowTuple.from_text("tcp", "192.0.2.1:1", "192.0.2.2:2"), updated_ms=1)])
    return cluster


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "cluster.yaml"
    file.write_text(YAML.format(name="test", engine="leveldb"))
    return file


def test_what_was_saved_is_restored_on_every_node(on: Run, saving: Cluster, config: Path, tmp_path: Path) -> None:
    file = tmp_path / "backup.snap"
    saved = json.loads(on("snapshot", "save", str(file), "-o", "json").out)
    assert (saved["keys"], saved["flows"], saved["cluster"], saved["datacenter"]) == (50, 1, "test", "dc1")
    assert saved["bytes"] == file.stat().st_size - HEADER_BYTES
    assert read_header(file).digest == saved["digest"]
    assert sorted(tmp_path.iterdir()) == [file, config], "nothing half-made stays"
    for name in ("node1", "node2"):
        directory = tmp_path / name
        arguments = ("snapshot", "restore", str(file), "--config", str(config), "--name", name, "--lineage", "second")
        ran = on(*arguments, "--data-dir", str(directory))
        assert (ran.status, ran.err) == (0, "")
        assert f"restored to {directory}: entry {saved['index']} of term {saved['term']}, 50 keys, 1 flows" in ran.text
        found, _ = load_config(config)
        controller = found.controller(name)
        assert controller is not None
        opened = open_node(found, controller, directory, join=False, progress=lambda *_: None)
        try:
            assert sorted(member.name for member in opened.members.values()) == ["node1", "node2"]
            assert len(opened.loaded.snapshot.config.voters) == 2
            key = opened.state.kv_range(rpc_pb2.RangeRequest(key=b"key-7")).kvs[0]
            assert (key.value, key.version, key.mod_revision) == (b"7" * 20, 1, 9)
            assert opened.state.revision == saved["revision"] + RESTORE_SKIP
            assert opened.state.position == (saved["index"] + RESTORE_SKIP, saved["term"])
            assert opened.identity.cluster_id == cluster_id("test", "dc1", "second") != cluster_id("test", "dc1")
            assert (opened.recovering, opened.base) == (True, opened.state.position)
        finally:
            opened.engine.close()


def test_a_file_is_not_replaced_unless_asked(on: Run, saving: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "backup.snap"
    file.write_text("precious")
    ran = on("snapshot", "save", str(file))
    assert (ran.status, "is there already" in ran.err, file.read_text()) == (1, True, "precious")
    assert on("snapshot", "save", str(file), "--force").status == 0
    assert read_header(file).cluster == "test"
    ran = on("snapshot", "save", str(tmp_path / "none" / "backup.snap"))
    assert (ran.status, "No such file or directory" in ran.err) == (1, True)


def test_what_does_not_arrive_whole_is_not_kept(on: Run, saving: Cluster, tmp_path: Path) -> None:
    whole = saving.node.save

    def cut_short() -> tuple[SnapshotInfo, Iterator[bytes]]:
        info, chunks = whole()
        return info, iter(list(chunks)[:-1])

    saving.node.save = cut_short  # type: ignore[method-assign]
    ran = on("snapshot", "save", str(tmp_path / "backup.snap"))
    assert (ran.status in (1, 3), ran.err.count("\n"), list(tmp_path.iterdir())) == (True, 1, [])


def damage(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 0xFF
    file.write_bytes(content)


WRONG_USE = {"memory", "no lineage", "odd lineage"}


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ("not empty", "is not empty"),
        ("content", "damaged"),
        ("header", "header is damaged"),
        ("short", "expected"),
        ("foreign file", "is not a snapshot that"),
        ("other datacenter", "is of datacenter 'dc1', which owns its flows"),
        ("no lineage", "--lineage: is missing: choose a word that this cluster never had"),
        ("odd lineage", "--lineage: 'a b' is not 1 to 63 letters, digits and . _ : -"),
        ("no such name", "has no controller 'node9'; there are node1, node2"),
        ("memory", "memory keeps nothing on disk"),
    ],
)
def test_what_cannot_be_restored_leaves_nothing(
    on: Run, saving: Cluster, config: Path, tmp_path: Path, trouble: str, message: str
) -> None:
    file, directory = tmp_path / "backup.snap", tmp_path / "data"
    assert on("snapshot", "save", str(file)).status == 0
    if trouble == "not empty":
        directory.mkdir()
        (directory / "mine").touch()
    elif trouble == "content":
        damage(file, HEADER_BYTES + 500)
    elif trouble == "header":
        damage(file, 30)
    elif trouble == "short":
        file.write_bytes(file.read_bytes()[:-1])
    elif trouble == "foreign file":
        file.write_bytes(b"#!/bin/sh\n" * 1000)
    elif trouble == "other datacenter":
        config.write_text(YAML.format(name="test, datacenter: dc2", engine="leveldb").replace("test, d", "test\n    d"))
    elif trouble == "memory":
        config.write_text(YAML.format(name="test", engine="memory"))
    name = "node9" if trouble == "no such name" else "node1"
    arguments = ["--config", str(config), "--name", name, "--data-dir", str(directory)]
    if trouble != "no lineage":
        arguments += ["--lineage", "a b" if trouble == "odd lineage" else "second"]
    ran = on("snapshot", "restore", str(file), *arguments)
    assert (ran.status, message in ran.err) == (2 if trouble in WRONG_USE else 1, True), ran.err
    assert [path.name for path in directory.iterdir()] == ["mine"] if trouble == "not empty" else not directory.exists()


def restored(on: Run, file: Path, config: Path, *more: str) -> tuple[int, str]:
    ran = on("snapshot", "restore", str(file), "--config", str(config), *more)
    return ran.status, ran.err


def test_all_members_at_once_under_a_word_of_its_own(on: Run, saving: Cluster, config: Path, tmp_path: Path) -> None:
    file, base = tmp_path / "backup.snap", tmp_path / "data"
    on("snapshot", "save", str(file))
    config.write_text(YAML.format(name="other", engine="leveldb"))
    ran = on("snapshot", "restore", str(file), "--config", str(config), "--data-dir", str(base), "-o", "json")
    made = json.loads(ran.out)
    assert made["paths"] == [str(base / "other-node1"), str(base / "other-node2")]
    assert made["cluster_id"] == format_id(cluster_id("other", "dc1", made["lineage"]))
    assert sorted(path.name for path in base.iterdir()) == ["other-node1", "other-node2"]
    identities = {found_identity(path) for path in base.iterdir()}
    assert {(found.cluster, found.lineage) for found in identities if found} == {("other", made["lineage"])}
    status, err = restored(on, file, config, "--data-dir", str(base))
    assert (status, "say --force to have it moved aside" in err) == (1, True)


def test_force_moves_aside_and_deletes_nothing(on: Run, saving: Cluster, config: Path, tmp_path: Path) -> None:
    file, old = tmp_path / "backup.snap", tmp_path / "node1"
    on("snapshot", "save", str(file))
    (old / "deep").mkdir(parents=True)
    (old / "deep" / "mine").write_text("precious")
    one = ("--name", "node1", "--data-dir", str(old), "--lineage")
    assert restored(on, file, config, *one, "second", "--force") == (0, "")
    assert (tmp_path / "node1.before-second" / "deep" / "mine").read_text() == "precious"
    assert found_identity(old) is not None
    with (old / "LOCK").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        status, err = restored(on, file, config, *one, "third", "--force")
    assert (status, "in use by another process" in err) == (75, True)
    assert not (tmp_path / "node1.before-third").exists()


def test_a_lineage_is_not_used_again(on: Run, saving: Cluster, config: Path, tmp_path: Path) -> None:
    file, again = tmp_path / "backup.snap", tmp_path / "again.snap"
    on("snapshot", "save", str(file))
    one = ("--name", "node1", "--data-dir", str(tmp_path / "data"), "--lineage")
    assert restored(on, file, config, *one, "second")[0] == 0
    ran = on("snapshot", "save", str(again), "--data-dir", str(tmp_path / "data"), "-o", "json")
    saved = json.loads(ran.out)
    assert (saved["lineage"], saved["cluster"], saved["keys"], saved["flows"]) == ("second", "test", 50, 1)
    status, err = restored(on, again, config, *one, "second", "--force")
    assert (status, "is that of the cluster that was saved" in err) == (2, True)


def test_one_that_fails_takes_the_others_back(on: Run, saving: Cluster, config: Path, tmp_path: Path) -> None:
    file, base = tmp_path / "backup.snap", tmp_path / "data"
    on("snapshot", "save", str(file))
    for name in ("test-node1", "test-node2"):
        (base / name).mkdir(parents=True)
        (base / name / "mine").touch()
    (base / "test-node2.before-second").mkdir()
    status, err = restored(on, file, config, "--data-dir", str(base), "--lineage", "second", "--force")
    assert (status, "test-node2.before-second is there already" in err) == (1, True)
    assert sorted(str(path.relative_to(base)) for path in base.rglob("mine")) == ["test-node1/mine", "test-node2/mine"]


def test_verify_says_what_is_in_a_file(on: Run, saving: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "backup.snap"
    on("snapshot", "save", str(file))
    verified = json.loads(on("snapshot", "verify", str(file), "-o", "json").out)
    assert (verified["keys"], verified["flows"], verified["bytes"]) == (50, 1, file.stat().st_size - HEADER_BYTES)
    assert on("snapshot", "verify", str(file)).text.startswith(f"whole: {file}: entry ")
    damage(file, HEADER_BYTES + 500)
    ran = on("snapshot", "verify", str(file))
    assert (ran.status, "use another copy" in ran.err) == (1, True)
    ran = on("snapshot", "verify", str(tmp_path / "none"))
    assert (ran.status, "No such file or directory" in ran.err) == (1, True)


def test_a_save_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "backup.snap"
    writer = SnapshotWriter(file)
    writer.write(b"half")
    assert list(tmp_path.iterdir()) == [], "it has no name before it is whole: nothing stays of it, however it ends"
    writer.write(b" and half")
    saved = writer.finish(cluster="test", datacenter="dc1", index=1, term=1)
    assert b"".join(read_content(file, saved)) == b"half and half"
    with SnapshotWriter(file, replace=True) as other:
        other.write(b"more")
    assert (list(tmp_path.iterdir()), read_header(file)) == ([file], saved)
    with pytest.raises(FailedPrecondition, match="is there already"):
        SnapshotWriter(file)


@pytest.mark.parametrize("place", ["none", "empty", "file"])
def test_what_is_no_data_directory_cannot_be_saved(on: Run, tmp_path: Path, place: str) -> None:
    directory = tmp_path / place
    if place == "empty":
        directory.mkdir()
    elif place == "file":
        directory.touch()
    ran = on("snapshot", "save", str(tmp_path / "backup.snap"), "--data-dir", str(directory))
    assert ran.status == (75 if place == "file" else 65)
    assert "is not a node's data directory" in ran.err or "Not a directory" in ran.err
    assert not (tmp_path / "backup.snap").exists()
    assert place != "empty" or list(directory.iterdir()) == []


@pytest.mark.root
@pytest.mark.parametrize("before", ["a node's", "empty", "none"])
def test_what_root_restores_belongs_to_the_owner_of_what_was_there(
    on: Run, saving: Cluster, config: Path, tmp_path: Path, before: str
) -> None:
    file, base = tmp_path / "backup.snap", tmp_path / "lib"
    on("snapshot", "save", str(file))
    directory = base / "node1"
    (directory if before != "none" else base).mkdir(parents=True)
    if before == "a node's":
        (directory / "identity.json").touch()
    os.chown(directory if before != "none" else base, 4711, 4712)
    one = ("--name", "node1", "--data-dir", str(directory), "--lineage", "second")
    assert restored(on, file, config, *one, "--force") == (0, "")
    assert {(path.stat().st_uid, path.stat().st_gid) for path in (directory, *directory.rglob("*"))} == {(4711, 4712)}
    assert directory.stat().st_mode & 0o777 == 0o700
