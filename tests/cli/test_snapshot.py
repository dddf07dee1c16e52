"""`snapshot save` and `snapshot restore`: a file that is there can be restored, and what was restored is the state that
was saved."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import pytest

from rocinante.cli.snapshot_file import HEADER_BYTES, read_header
from rocinante.client import Client
from rocinante.config import load_config
from rocinante.flows import FlowRecord, FlowTuple
from rocinante.node.directory import snapshot_head
from rocinante.node.opening import open_node
from rocinante.pb.etcd import rpc_pb2
from rocinante.ports import SnapshotInfo
from rocinante.raft.types import Config
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
        arguments = ("snapshot", "restore", str(file), "--config", str(config), "--name", name)
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
            assert (key.value, key.version, opened.state.revision) == (b"7" * 20, 1, saved["revision"])
            assert not opened.recovering
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


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ("not empty", "is not empty"),
        ("content", "damaged"),
        ("header", "header is damaged"),
        ("short", "expected"),
        ("foreign file", "is not a snapshot that"),
        ("other cluster", "is of cluster 'test' in 'dc1'"),
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
    elif trouble == "other cluster":
        config.write_text(YAML.format(name="other", engine="leveldb"))
    elif trouble == "memory":
        config.write_text(YAML.format(name="test", engine="memory"))
    name = "node9" if trouble == "no such name" else "node1"
    ran = on("snapshot", "restore", str(file), "--config", str(config), "--name", name, "--data-dir", str(directory))
    assert (ran.status, message in ran.err) == (2 if trouble == "memory" else 1, True), ran.err
    assert [path.name for path in directory.iterdir()] == ["mine"] if trouble == "not empty" else not directory.exists()
