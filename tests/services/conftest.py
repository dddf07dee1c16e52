from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from rocinante.services.server import GrpcServer
from tests.services.wire import Wire
from tests.support.local_node import LocalNode


@pytest.fixture
def node() -> Iterator[LocalNode]:
    with LocalNode() as made:
        yield made


@pytest.fixture
def serve() -> Iterator[Callable[[LocalNode], GrpcServer]]:
    """Start a server for a node, ready; it ends with the test."""
    servers: list[GrpcServer] = []

    def start(node: LocalNode, **options: object) -> GrpcServer:
        server = GrpcServer(node, host="127.0.0.1", port=0, **options)  # type: ignore[arg-type]
        server.start()
        servers.append(server)
        server.set_serving(True)
        return server

    yield start
    for server in servers:
        server.stop(0.5)


@pytest.fixture
def server(node: LocalNode, serve: Callable[[LocalNode], GrpcServer]) -> GrpcServer:
    return serve(node)


@pytest.fixture
def wire(server: GrpcServer) -> Iterator[Wire]:
    made = Wire(f"127.0.0.1:{server.port}")
    yield made
    made.close()
