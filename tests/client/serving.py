"""Several doors to one agreed state: gRPC and REST servers over one `LocalNode`, as the nodes of a cluster that has
replicated everything.

What the client must get right (whom to ask, when to ask again, under which name) does not depend on how the nodes
agreed; a door that is shut is a node that died. Scenarios with real elections are in the tests of the node.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rocinante.identity import server_id
from rocinante.ports import Member
from rocinante.rest import RestServer
from rocinante.services.server import GrpcServer
from tests.support.local_node import LocalNode
from tests.support.ports import free_ports

HOST = "127.0.0.1"
PATIENCE_S = 30.0
"""For what happens: only a failure waits so long."""
WHILE_S = 2.0
"""For what does not happen: the time until a client gives up. A busy machine must get a request there and an answer
back in it, or the client is right to say something else."""


class Cluster:
    """`doors` gRPC servers (and REST servers where asked for) over one node."""

    def __init__(self, doors: int = 1, *, rest: bool = False) -> None:
        ports = free_ports(doors * 2)
        self.grpc_ports, self.rest_ports = ports[:doors], ports[doors:]
        self.node = LocalNode(port=self.grpc_ports[0], rest=self.rest_ports[0])
        for number, (port, rest_port) in enumerate(zip(self.grpc_ports[1:], self.rest_ports[1:], strict=True), 2):
            member = Member(server_id(HOST, port), f"node{number}", HOST, port, rest_port)
            self.node.add_member(member, voter=True)
        self.grpc: dict[int, GrpcServer] = {}
        self.rest: dict[int, RestServer] = {}
        for door in range(doors):
            self.open(door)
            if rest:
                server = RestServer(self.node, host=HOST, port=self.rest_ports[door], threads=8)
                server.start()
                self.rest[door] = server

    @property
    def endpoints(self) -> list[str]:
        return [f"{HOST}:{port}" for port in self.grpc_ports]

    @property
    def urls(self) -> list[str]:
        return [f"http://{HOST}:{port}" for port in self.rest_ports]

    def open(self, door: int) -> None:
        """(Re)start the gRPC server of a door, as a node that comes back."""
        server = GrpcServer(self.node, host=HOST, port=self.grpc_ports[door])
        server.start()
        server.set_serving(True)
        self.grpc[door] = server

    def shut(self, door: int) -> None:
        """The gRPC server goes, with all its connections."""
        self.grpc.pop(door).stop(0)

    def lead(self, door: int) -> None:
        """Leadership moves to this door's node."""
        self.node.transfer_leader(server_id(HOST, self.grpc_ports[door])).result()

    def version(self, key: bytes) -> int:
        """How often the key was written: what shows a write that was applied twice."""
        from rocinante.pb.etcd import rpc_pb2

        found = self.node.state_machine.kv_range(rpc_pb2.RangeRequest(key=key))
        return found.kvs[0].version if found.kvs else 0

    def close(self) -> None:
        for door in list(self.grpc):
            self.shut(door)
        for server in self.rest.values():
            server.stop()
        self.node.close()


@contextmanager
def serving(doors: int = 1, *, rest: bool = False) -> Iterator[Cluster]:
    cluster = Cluster(doors, rest=rest)
    try:
        yield cluster
    finally:
        cluster.close()
