"""The directory of a development cluster: the ports of its nodes, its cluster YAML, and that one launcher uses it.

    cluster.yaml   as any cluster has it
    node1/ …       each node's data
    node1.log …    each node's log, appended to
    lock           held by the launcher that runs

A node's identity is its address and port, and its data belongs to that. So the ports of a directory with data never
change: they come from the YAML that is there, and a run that asks for something else is refused, not obeyed by half.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from rocinante.config import StorageEngine, load_config
from rocinante.errors import EXIT_FAILED, EXIT_USAGE, ConfigError

ADDRESS: Final = "127.0.0.1"
GRPC_PORT: Final = 35_001
REST_PORT: Final = 8_001
_PORT_MAX: Final = 65_535


class DevError(Exception):
    """It cannot start; one line that says what to do."""

    def __init__(self, message: str, status: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class NodePlace:
    """A node: its ports and where its things are."""

    number: int
    port: int
    rest: int
    directory: Path

    @property
    def name(self) -> str:
        return f"node{self.number}"

    @property
    def endpoint(self) -> str:
        return f"{ADDRESS}:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self.rest}/"

    @property
    def data(self) -> Path:
        return self.directory / self.name

    @property
    def log(self) -> Path:
        return self.directory / f"{self.name}.log"


def config_path(directory: Path) -> Path:
    return directory / "cluster.yaml"


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the directory. Raises DevError when it cannot be made, written, or is held by another launcher."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise DevError(f"--dir {directory}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(file, 32).decode(errors="replace").strip()
            raise DevError(
                f"--dir {directory}: another `rocinante dev` (pid {holder}) runs there: quit it or use another --dir"
            ) from None
        os.ftruncate(file, 0)
        os.write(file, str(os.getpid()).encode())
        yield
    finally:
        os.close(file)


def wipe(directory: Path) -> None:
    """Remove what earlier runs left: data, logs and YAML, and nothing else that may be there."""
    for path in directory.glob("node*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.suffix == ".log":
            path.unlink()
    for name in ("cluster.yaml", "sniffer.log"):
        (directory / name).unlink(missing_ok=True)


def lay_out(directory: Path, nodes: int, storage: StorageEngine, base_port: int | None) -> list[NodePlace]:
    """The nodes, their YAML written. Raises DevError."""
    kept = _kept(directory)
    if kept:
        _check_kept(directory, kept, nodes, storage, base_port)
        for node in kept:
            for port, what in ((node.port, "gRPC"), (node.rest, "REST")):
                if not is_free(port):
                    raise DevError(
                        f"port {port} ({what} of {node.name}, whose data is in {node.data}) is taken: "
                        "end what uses it, or use --fresh or another --dir"
                    )
        return kept
    first_grpc, first_rest = (GRPC_PORT, REST_PORT) if base_port is None else (base_port, base_port + nodes)
    taken: set[int] = set()
    grpc = [_next_free(first_grpc, taken) for _ in range(nodes)]
    rest = [_next_free(first_rest, taken) for _ in range(nodes)]
    places = [NodePlace(n + 1, grpc[n], rest[n], directory) for n in range(nodes)]
    _write(directory, places, storage)
    return places


def is_free(port: int) -> bool:
    """Nobody listens on it; connections of the past do not matter (SO_REUSEADDR, as servers set it)."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def _next_free(first: int, taken: set[int]) -> int:
    for port in range(first, _PORT_MAX + 1):
        if port not in taken and is_free(port):
            taken.add(port)
            return port
    raise DevError(f"no free port from {first} on")


def _kept(directory: Path) -> list[NodePlace]:
    """The nodes of an earlier run whose data is still there."""
    path = config_path(directory)
    if not path.exists() or not any(child.is_dir() for child in directory.glob("node*")):
        return []
    try:
        config, _ = load_config(path)
    except ConfigError as error:
        raise DevError(f"{path}: {error.problems[0]}; mend it or use --fresh", EXIT_USAGE) from error
    return [
        NodePlace(number, controller.port, controller.rest, directory)
        for number, controller in enumerate(config.controllers, 1)
    ]


def _check_kept(
    directory: Path, kept: list[NodePlace], nodes: int, storage: StorageEngine, base_port: int | None
) -> None:
    engine = load_config(config_path(directory))[0].storage.engine
    differs = ""
    if len(kept) != nodes:
        differs = f"{len(kept)} nodes, not {nodes}"
    elif engine is not storage:
        differs = f"storage {engine}, not {storage}"
    elif base_port is not None and kept[0].port < base_port:
        differs = f"ports from {kept[0].port} on, not from {base_port}"
    if differs:
        raise DevError(f"{directory} has data of a cluster with {differs}: use --fresh or another --dir", EXIT_USAGE)


def _write(directory: Path, places: list[NodePlace], storage: StorageEngine) -> None:
    document = {
        "artifact": {
            "cleanupOnFailure": True,
            "cluster": {
                "name": "dev",
                "controllers": [
                    {"name": place.name, "address": ADDRESS, "port": place.port, "rest": place.rest} for place in places
                ],
                "storage": {"engine": str(storage), "dataDir": str(directory.absolute())},
            },
        }
    }
    try:
        config_path(directory).write_text(yaml.safe_dump(document, sort_keys=False))
    except OSError as error:
        raise DevError(f"{config_path(directory)}: {error.strerror}") from error
