"""Clients that hold a connection without using it are cut off. The clean-up is called early: nobody waits here."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest

from rocinante import limits
from tests.rest.conftest import Rest

PARTIAL = {
    "nothing": b"",
    "half a header": b"GET /livez HTTP/1.1\r\nHost: local",
    "half a body": b"PUT /v1/kv/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n12345",
    "half a chunk": b"PUT /v1/kv/k HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12",
}


def clean_up(rest: Rest) -> None:
    rest.server._server.next_channel_cleanup = 0
    rest.server._server.pull_trigger()


def blocked_channel(rest: Rest) -> Any:
    """The connection that has something to send and cannot; it is there soon after the first bytes are."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for channel in list(rest.server._server.active_channels.values()):
            if channel.total_outbufs_len:
                return channel
    raise AssertionError("no connection is blocked")


@pytest.mark.parametrize("sent", PARTIAL.values(), ids=PARTIAL)
def test_a_request_that_does_not_arrive_is_given_up(rest: Rest, sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REST_REQUEST_TIMEOUT_S", 0)
    rest.server._server.adj.channel_timeout = 0 if not sent else 1000
    with socket.create_connection(("127.0.0.1", rest.server.port), timeout=30) as connection:
        connection.settimeout(0.05)
        connection.sendall(sent)
        for _ in range(1000):
            clean_up(rest)
            try:
                assert connection.recv(100) == b""
                break
            except TimeoutError:
                continue
            except ConnectionResetError:
                break
        else:
            pytest.fail("the connection was kept")
    assert rest.node.state.keys_count() == 0


def test_a_reader_that_takes_nothing_is_cut_off(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(25):
        rest.json("PUT", f"/v1/kv/{number}", content=b"v" * limits.VALUE_BYTES_MAX)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(30)
        connection.connect(("127.0.0.1", rest.server.port))
        connection.sendall(b"GET /v1/kv HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = len(connection.recv(100))
        channel = blocked_channel(rest)
        monkeypatch.setattr(limits, "REST_STALL_TIMEOUT_S", 0)
        while channel.connected:
            clean_up(rest)
        try:
            while more := connection.recv(65536):
                received += len(more)
        except ConnectionResetError:
            pass
        assert received < 25 * limits.VALUE_BYTES_MAX
    assert rest.http.get("/livez").status_code == 200


def test_a_connection_at_work_is_kept(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REST_REQUEST_TIMEOUT_S", 0)
    rest.node.be_slow()
    before = rest.node.proposals
    with socket.create_connection(("127.0.0.1", rest.server.port), timeout=30) as connection:
        connection.sendall(
            b"PUT /v1/kv/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx"
        )
        while rest.node.proposals == before:
            pass
        rest.server._server.adj.channel_timeout = 0
        clean_up(rest)
        rest.node.be_normal()
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
