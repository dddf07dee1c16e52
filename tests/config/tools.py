"""Configurations as text, for the tests."""

from __future__ import annotations

import socket
from pathlib import Path

from rocinante.config import ClusterConfig, Controller

SECTION_9 = """\
artifact:
  cleanupOnFailure: true
  cluster:
    name: test
    controllers:
      - {address: 127.0.0.1, port: 35001, rest: 8001, wwwroot: /usr/share/rocinante/www}
      - {address: 127.0.0.1, port: 35002, rest: 8002, wwwroot: /usr/share/rocinante/www}
      - {address: 127.0.0.1, port: 35003, rest: 8003, wwwroot: /usr/share/rocinante/www}
"""
"""The configuration that always loads, verbatim."""


def write(directory: Path, text: str | bytes) -> Path:
    path = directory / "cluster.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def cluster(*lines: str) -> str:
    """A valid file with one controller and these lines in `cluster`."""
    head = "artifact:\n  cluster:\n    name: test\n    controllers: [{address: 127.0.0.1, port: 1, rest: 2}]\n"
    return head + "".join(f"    {line}\n" for line in lines)


def controllers(*lines: str) -> str:
    """A file with these controllers; the first one is on line 5."""
    head = "artifact:\n  cluster:\n    name: test\n    controllers:\n"
    return head + "".join(f"      - {line}\n" for line in lines)


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that were free a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def local(count: int) -> ClusterConfig:
    """So many controllers on free ports of the loopback."""
    ports = free_ports(2 * count)
    nodes = (Controller(f"node{i + 1}", "127.0.0.1", ports[2 * i], ports[2 * i + 1]) for i in range(count))
    return ClusterConfig("test", tuple(nodes))
