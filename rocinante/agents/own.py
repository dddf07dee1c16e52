"""Which traffic is the cluster's own: TCP to or from its gRPC endpoints.

Recording it would never end: the write of a flow's counters is traffic of a flow, whose counters are to be written.
So it is left out, in the kernel where that can be done, unless the user wants it (`--include-own`; the refresh
interval then bounds it to one record a flow in that time).
"""

from __future__ import annotations

import socket
from collections.abc import Iterable

from rocinante.agents.capture import Endpoint
from rocinante.agents.errors import AgentError
from rocinante.errors import EXIT_USAGE
from rocinante.flows import parse_address


def split_endpoint(text: str) -> tuple[str, int]:
    """`HOST:PORT`, `[IPv6]:PORT`. Raises AgentError."""
    host, colon, port = text.strip().rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise AgentError(f"--cluster {text!r}: expected HOST:PORT", EXIT_USAGE)
    return host, int(port)


def resolve(endpoints: Iterable[str]) -> frozenset[Endpoint]:
    """The addresses of these endpoints; a name that does not resolve has none (the client says so)."""
    found: set[Endpoint] = set()
    for text in endpoints:
        host, port = split_endpoint(text)
        try:
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError:
            continue
        found.update((parse_address(str(address[0]).partition("%")[0], "address"), port) for *_, address in answers)
    return frozenset(found)
