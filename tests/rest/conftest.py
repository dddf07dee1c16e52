from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from rocinante.rest import RestServer
from tests.support.local_node import LocalNode

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Making httpx's own context takes longer than most tests here."""


@dataclass
class Rest:
    """A node, its REST server on a free port, and a client of it."""

    node: LocalNode
    server: RestServer
    http: httpx.Client

    def json(self, method: str, path: str, status: int = 200, **more: Any) -> Any:
        answer = self.http.request(method, path, **more)
        assert answer.status_code == status, answer.text
        return answer.json()

    def error(self, method: str, path: str, status: int, **more: Any) -> str:
        """The message of an error with this status, whose form is checked."""
        answer = self.http.request(method, path, **more)
        assert answer.status_code == status, answer.text
        error = answer.json()["error"]
        assert set(error) <= {"code", "message", "leader"}
        return f"{error['code']} {error['message']}"


@pytest.fixture
def rest() -> Iterator[Rest]:
    with LocalNode() as node:
        server = RestServer(node, host="127.0.0.1", port=0, threads=8, allowed_hosts=["rocinante.example"])
        server.start()
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=30, verify=NO_TLS) as http:
                yield Rest(node, server, http)
        finally:
            server.stop()
