"""The directory of a development cluster."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from rocinante.config import StorageEngine, load_config
from rocinante.dev.layout import DevError, config_path, lay_out, locked, wipe
from tests.support.ports import free_ports

DISK, MEMORY = StorageEngine.LEVELDB, StorageEngine.MEMORY


def base_of(count: int) -> int:
    """A base from which `count` ports are (most probably) free."""
    return free_ports(1)[0] // 100 * 100 - 1_000 + count


def test_the_yaml_is_one_that_a_node_loads(tmp_path: Path) -> None:
    places = lay_out(tmp_path, 3, MEMORY, None)
    config, warnings = load_config(config_path(tmp_path))
    assert [(c.name, c.address, c.port, c.rest) for c in config.controllers] == [
        (place.name, "127.0.0.1", place.port, place.rest) for place in places
    ]
    assert config.storage.engine is MEMORY
    assert not warnings
    assert len({port for place in places for port in (place.port, place.rest)}) == 6


def test_taken_ports_are_stepped_over(tmp_path: Path) -> None:
    base = base_of(0)
    with socket.create_server(("127.0.0.1", base)), socket.create_server(("127.0.0.1", base + 2)):
        places = lay_out(tmp_path, 2, DISK, base)
    assert [place.port for place in places] == [base + 1, base + 3]
    assert [place.rest for place in places] == [base + 4, base + 5]


def test_with_data_the_ports_stay(tmp_path: Path) -> None:
    first = lay_out(tmp_path, 2, DISK, base_of(10))
    first[0].data.mkdir()
    assert lay_out(tmp_path, 2, DISK, None) == first


def test_with_data_a_taken_port_is_an_error_that_names_it(tmp_path: Path) -> None:
    first = lay_out(tmp_path, 1, DISK, base_of(20))
    first[0].data.mkdir()
    with (
        socket.create_server(("127.0.0.1", first[0].rest)),
        pytest.raises(DevError, match=rf"port {first[0].rest} \(REST of node1, .*is taken: .*--fresh"),
    ):
        lay_out(tmp_path, 1, DISK, None)


@pytest.mark.parametrize(
    ("nodes", "storage", "base_port", "message"),
    [
        (5, DISK, None, "has data of a cluster with 3 nodes, not 5: use --fresh or another --dir"),
        (3, MEMORY, None, "storage leveldb, not memory"),
        (3, DISK, 60_000, "ports from .* on, not from 60000"),
    ],
)
def test_with_data_another_cluster_is_refused(
    nodes: int, storage: StorageEngine, base_port: int | None, message: str, tmp_path: Path
) -> None:
    lay_out(tmp_path, 3, DISK, base_of(30))[2].data.mkdir()
    with pytest.raises(DevError, match=message) as raised:
        lay_out(tmp_path, nodes, storage, base_port)
    assert raised.value.status == 2


def test_a_broken_yaml_beside_data_is_an_error(tmp_path: Path) -> None:
    lay_out(tmp_path, 1, DISK, base_of(40))[0].data.mkdir()
    config_path(tmp_path).write_text("artifact: [")
    with pytest.raises(DevError, match=r"cluster\.yaml: .*mend it or use --fresh"):
        lay_out(tmp_path, 1, DISK, None)


def test_wipe_leaves_what_is_not_ours(tmp_path: Path) -> None:
    place = lay_out(tmp_path, 1, DISK, base_of(50))[0]
    place.data.mkdir()
    (place.data / "log").write_text("x")
    place.log.write_text("x")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "node9").symlink_to(tmp_path / "elsewhere")
    wipe(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "node9", "notes.txt"]


def test_two_launchers_do_not_share_a_directory(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "dev"),
        pytest.raises(DevError, match=rf"another `rocinante dev` \(pid {os.getpid()}\)"),
        locked(tmp_path / "dev"),
    ):
        pass
    with locked(tmp_path / "dev"):
        pass


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DevError, match=r"--dir .*file/dev: Not a directory"), locked(tmp_path / "file" / "dev"):
        pass
