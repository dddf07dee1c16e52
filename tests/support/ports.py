"""Free TCP and UDP ports for tests.

A port is handed out once per test run, and never to two test runs on one machine at the same time: each run holds an
abstract Unix socket named after the port (it vanishes with the process, so nothing is left behind). Ports come from
below the kernel's ephemeral range (`net.ipv4.ip_local_port_range`, by default from 32768), so that no outgoing
connection takes one between the probe and its use.
"""

from __future__ import annotations

import itertools
import os
import socket
from typing import Final

FIRST: Final = 20_000
LAST: Final = 32_000
HOST: Final = "127.0.0.1"

_claims: dict[int, socket.socket] = {}
_candidates = itertools.cycle(range(FIRST, LAST))
# Runs that start together begin their walk at different places.
for _ in range(os.getpid() * 37 % (LAST - FIRST)):
    next(_candidates)


def free_port(host: str = HOST) -> int:
    """A port that nobody listens on at `host`, TCP or UDP, and that no other caller is given. Raises OSError when
    there is none."""
    for port in itertools.islice(_candidates, LAST - FIRST):
        if port not in _claims and (claim := _claim(port)) is not None:
            if _can_bind(host, port):
                _claims[port] = claim
                return port
            claim.close()
    raise OSError(f"no free port between {FIRST} and {LAST}")


def free_ports(count: int, host: str = HOST) -> list[int]:
    """`count` different ports, see `free_port`."""
    return [free_port(host) for _ in range(count)]


def free_block(count: int, host: str = HOST) -> int:
    """The first of `count` ports in a row, all of them as `free_port` gives them."""
    row: list[int] = []
    while len(row) < count:
        port = free_port(host)
        row = [*row, port] if row and port == row[-1] + 1 else [port]
    return row[0]


def _claim(port: int) -> socket.socket | None:
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(f"\0rocinante-test-port-{port}")
    except OSError:
        claim.close()
        return None
    return claim


def _can_bind(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # TIME_WAIT is no reason to refuse a port
            try:
                probe.bind((host, port))
            except OSError:
                return False
    return True
