"""Text that people and scripts write: endpoints of a client, ids, addresses, filters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from rocinante.client.router import parse_endpoint, parse_endpoints
from rocinante.errors import InvalidArgument
from rocinante.flows import FlowError, FlowFilter, FlowTuple, format_endpoint, parse_protocol
from rocinante.flows import parse_endpoint as parse_flow_endpoint
from rocinante.identity import format_id, parse_id
from rocinante.rest.http import Query
from rocinante.rest.security import is_host_allowed
from tests.fuzz.targets import Target


def _endpoint(text: str) -> None:
    host, _, port = parse_endpoint(text).rpartition(":")
    assert host
    assert 0 < int(port) < 65536


def _flow_endpoint(text: str) -> None:
    address, port = parse_flow_endpoint(text, "source")
    assert parse_flow_endpoint(format_endpoint(address, port), "source") == (address, port)


def _tuple(text: str) -> None:
    protocol, _, rest = text.partition(" ")
    source, _, destination = rest.partition(" > ")
    original = FlowTuple.from_text(protocol, source, destination)
    assert original.key() == original.turned().key()


def _query(text: str) -> None:
    query = Query(text)
    query.integer("limit", 5)
    query.flag("raw")
    query.many("address")
    query.choice("consistency", ("linearizable", "stale"), "stale")
    query.finish()


PARSERS: Final[list[Callable[[str], Any]]] = [
    _endpoint,
    parse_endpoints,
    lambda text: format_id(parse_id(text)),
    _flow_endpoint,
    _tuple,
    parse_protocol,
    lambda text: FlowFilter.parse(address=text.split(",")),
    lambda text: FlowFilter.parse(port=text.split(","), tcp_state=text.split(",")),
    lambda text: FlowFilter.parse(backend=text, zone=text),
    _query,
    lambda text: is_host_allowed(text, frozenset({"localhost"})),
]


def one_text(data: bytes) -> None:
    """The first byte chooses the parser."""
    if not data:
        return
    parser = PARSERS[data[0] % len(PARSERS)]
    try:
        text = data[1:].decode()
    except UnicodeDecodeError:
        return
    try:
        parser(text)
    except (InvalidArgument, FlowError):
        return
    except ValueError:
        if parser is not PARSERS[2]:  # parse_id is documented to raise just that
            raise


def seeds() -> list[bytes]:
    texts = [
        (0, "127.0.0.1:35001"), (0, "[::1]:35001"), (1, "a:1, b:2,[::1]:3"), (2, "00000000000000ff"),
        (3, "192.0.2.1:80"), (3, "[2001:db8::1]:443"), (4, "tcp 192.0.2.1:80 > 10.0.0.1:5"), (5, "icmpv6"), (5, "17"),
        (6, "10.0.0.0/8,::/0"), (7, "80,443"), (8, "10.0.0.5:80"), (8, "65535"),
        (9, "limit=5&raw&address=a,b&consistency=stale"), (10, "[::1]:80"), (10, "evil.example"),
        (0, "a:" + "1" * 5000), (3, "1.2.3.4:" + "1" * 5000), (5, "1" * 5000), (9, "limit=" + "1" * 5000),
    ]  # fmt: skip
    return [bytes((kind,)) + text.encode() for kind, text in texts]


TARGETS: Final = [Target("text", one_text, seeds, 8192, 500)]
