from __future__ import annotations

from collections.abc import Iterator

import pytest

from rocinante.client import Client
from rocinante.services.server import GrpcServer
from tests.agents.sniffing import Served
from tests.support.local_node import LocalNode


@pytest.fixture
def served() -> Iterator[Served]:
    """A flow table behind gRPC (one node, no Raft), and a client to look into it."""
    with LocalNode() as node:
        server = GrpcServer(node, host="127.0.0.1", port=0)
        server.start()
        server.set_serving(True)
        endpoint = f"127.0.0.1:{server.port}"
        with Client(endpoint, discover=False) as client:
            yield Served(node, server, endpoint, client)
        server.stop(0.5)
