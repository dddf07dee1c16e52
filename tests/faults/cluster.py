"""A cluster of real node processes, each on a host (network namespace) of its own.

    with Lab() as lab, NetworkCluster(lab, directory, nodes=3) as cluster:
        cluster.start()
        cluster.network.cut(between([cluster.wait_leader()], [2]))

Contract: all of tests/support/cluster.py, and besides: the network between the nodes (`network`), what each node wrote
to its log since a moment (`mark_logs`, `logged`), how much memory it uses, and which nodes were expected to die.
Leaving the `with` block ends all processes and heals the network.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Final

import psutil

from rocinante.client import Client
from rocinante.identity import server_id
from tests.faults.namespaces import NODES_MAX, Lab, node_address
from tests.faults.network import Network
from tests.support.cluster import Cluster, NodeProcess, Status

GRPC_PORT: Final = 35001
REST_PORT: Final = 8001
CLIENT_TIMEOUT_S: Final = 15.0


class NetworkCluster(Cluster):
    """See the module. `options` are keys of the YAML's `cluster` section."""

    def __init__(self, lab: Lab, directory: Path, nodes: int = 3, **options: object) -> None:
        if not 1 <= nodes <= NODES_MAX:
            raise ValueError(f"nodes: {nodes}, must be from 1 to {NODES_MAX}")
        self.lab: Final = lab
        self.network: Final = Network(lab)
        self._marks: dict[int, int] = {}
        self._client: Client | None = None
        super().__init__(directory, nodes, environment=None, **options)

    def place(self, number: int) -> NodeProcess:
        """A host of its own for each node, the same ports on all."""
        self.lab.add_node(number)
        node = NodeProcess(number, self.directory, GRPC_PORT, REST_PORT, node_address(number))
        node.prefix = self.lab.prefix(number)
        return node

    def kill_at_once(self, numbers: Iterable[int]) -> None:
        """SIGKILL for all of them, within a millisecond: none sees another one die first."""
        chosen = [self.nodes[number] for number in numbers]
        for node in chosen:
            node.expected_to_run = False
        for node in chosen:
            if node.process is not None:
                node.process.kill()
        for node in chosen:
            self.kill(node.number)

    def status_of(self, number: int) -> Status:
        """As `status`, once the node answers."""
        self.wait_until(lambda: self.nodes[number].status() is not None, f"node{number} answers")
        return self.status(number)

    def term(self) -> int:
        """The highest term that any node is in."""
        return max(int(str(status["term"])) for status in self.statuses().values())

    def identity(self, number: int) -> int:
        """A node's server id."""
        node = self.nodes[number]
        return server_id(node.address, node.grpc)

    @property
    def client(self) -> Client:
        """A client for what a fault does through the API: transfers, membership."""
        if self._client is None:
            self._client = Client(self.endpoints(), timeout_s=CLIENT_TIMEOUT_S)
        return self._client

    # --- what an operator reads

    def mark_logs(self) -> None:
        """`logged` gives what is written from now on."""
        self._marks = {n: node.log.stat().st_size if node.log.exists() else 0 for n, node in self.nodes.items()}

    def logged(self, number: int) -> str:
        """What the node wrote to its log since `mark_logs`."""
        node = self.nodes[number]
        if not node.log.exists():
            return ""
        with node.log.open("rb") as log:
            log.seek(self._marks.get(number, 0))
            return log.read().decode(errors="replace")

    def may_die(self, number: int) -> None:
        """This node ends by itself because of the fault: from now on that is no violation."""
        self.nodes[number].expected_to_run = False

    def died(self) -> list[int]:
        """The nodes that should run and do not."""
        return [number for number, node in self.nodes.items() if node.expected_to_run and not node.running]

    def rss_mib(self, number: int) -> float:
        """Memory of a node's process."""
        return float(psutil.Process(self.pid(number)).memory_info().rss) / 2**20

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
        super().close()
        self.network.close()
        self.network.heal()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()  # without the logs' ends on the terminal: who runs rounds keeps the directory
