"""HTTP itself: bytes that are almost a request, to the real server over a real socket. It answers with a documented
status or closes, and goes on."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocinante.rest import RestServer
from tests.fuzz.runs import examples
from tests.fuzz.strategies import hostile
from tests.fuzz.targets.rest import STATUS, request_seeds
from tests.support.local_node import LocalNode

OWN = {400, 411, 413, 431, 408, 501, 505}
"""What waitress says by itself of what is no HTTP; 501: a Transfer-Encoding other than chunked (RFC 9112, 6.1)."""

SERVES_S = 60.0


@pytest.fixture(scope="module")
def server() -> Iterator[RestServer]:
    with LocalNode() as node:
        made = RestServer(node, host="127.0.0.1", port=0, threads=8, allowed_hosts=["localhost"])
        made.start()
        yield made
        made.stop()


def raw(request: bytes) -> bytes:
    """A seed of the request target as HTTP/1.1."""
    head, _, body = request.partition(b"\n\n")
    first, *headers = head.split(b"\n")
    lines = [
        first + b" HTTP/1.1",
        b"Host: localhost",
        *headers,
        b"Content-Length: %d" % len(body),
        b"Connection: close",
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


SEEDS = [
    *(raw(each) for each in request_seeds() if b"/v1/admin" not in each),
    b"PUT /v1/kv/k HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"GET /livez HTTP/1.0\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\nGET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /v1/flows HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
]


def exchange(port: int, data: bytes) -> bytes:
    """All that comes back, after this was sent and nothing follows."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
        except ConnectionError:
            return b""
    return answer


@settings(examples(200))
@given(data=hostile(SEEDS) | st.lists(st.sampled_from(SEEDS), min_size=2, max_size=3).map(b"".join))
def test_almost_http(server: RestServer, data: bytes) -> None:
    if b"/v1/events" in data or b"admin" in data:
        return  # a stream does not end, and what stops a node is for tests of its own
    answer = exchange(server.port, data)
    for status in re.findall(rb"^HTTP/1\.[01] (\d+)", answer, re.M)[:1]:
        assert int(status) in STATUS | OWN, (data, answer)


def test_it_still_serves(server: RestServer) -> None:
    """Soon: streams of events that were begun above and left have their workers until the server notices."""
    deadline = time.monotonic() + SERVES_S
    while not (answer := exchange(server.port, raw(b"GET /livez"))).startswith(b"HTTP/1.1 200 OK"):
        assert time.monotonic() < deadline, answer
        time.sleep(0.1)
