"""Three nodes of a benchmark's own, on this machine: for where no cluster is given, and for what kills nodes.

    with OwnCluster(directory) as own:
        with Client(own.endpoints) as client: …
        own.kill("node2")

Each node is a process, as `rocinante dev` has them (they die with us); ports are free ones below the ephemeral range.
Leaving the `with` block kills them. The defaults of the configuration hold, but for the flow table's bounds, which
leave room for the largest table that a benchmark may ask for.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import httpx
import yaml

from rocinante.bench.began import Began
from rocinante.bench.bounds import BENCH_POLL_S, BENCH_READY_TIMEOUT_S, BENCH_STOP_TIMEOUT_S, BENCH_TABLE_MAX
from rocinante.dev.layout import ADDRESS, is_free
from rocinante.dev.process import Child
from rocinante.errors import Unavailable
from rocinante.limits import MIB

__all__ = ["OwnCluster", "OwnNode"]

_PORTS: Final = range(20_000, 32_000)
_FLOW_BYTES_MAX: Final = 16 * 1024 * MIB
_HTTP_TIMEOUT_S: Final = 2.0


class OwnNode:
    """One node: its ports and its process."""

    def __init__(self, name: str, directory: Path, taken: set[int]) -> None:
        self.name = name
        self.port, self.rest = (_free_port(taken) for _ in range(2))
        self.data = directory / name
        command = ["-m", "rocinante.cli.main", "node", "--config", str(directory / "cluster.yaml"), "--name", name]
        self.child = Child(name, [*command, "--data-dir", str(self.data)], directory / f"{name}.log")

    @property
    def endpoint(self) -> str:
        return f"{ADDRESS}:{self.port}"

    @property
    def rest_endpoint(self) -> str:
        return f"{ADDRESS}:{self.rest}"


class OwnCluster(Began):
    """See the module. Raises Unavailable when a node does not start; with the last line of its log."""

    def __init__(self, directory: Path, nodes: int = 3) -> None:
        taken: set[int] = set()
        self.nodes = {f"node{n}": OwnNode(f"node{n}", directory, taken) for n in range(1, nodes + 1)}
        controllers = [
            {"name": node.name, "address": ADDRESS, "port": node.port, "rest": node.rest}
            for node in self.nodes.values()
        ]
        cluster = {
            "name": "bench",
            "controllers": controllers,
            "flows": {"max": BENCH_TABLE_MAX, "maxBytes": _FLOW_BYTES_MAX},
        }
        document = {"artifact": {"cleanupOnFailure": True, "cluster": cluster}}
        (directory / "cluster.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
        self._http = httpx.Client(timeout=_HTTP_TIMEOUT_S, trust_env=False)

    def begin(self) -> None:
        for node in self.nodes.values():
            node.child.start()
        for name in self.nodes:
            self.wait_ready(name)

    def close(self) -> None:
        for node in self.nodes.values():
            if node.child.alive:
                node.child.kill()
        self._http.close()

    @property
    def endpoints(self) -> tuple[str, ...]:
        return tuple(node.endpoint for node in self.nodes.values())

    def kill(self, name: str) -> None:
        """SIGKILL, at once."""
        self.nodes[name].child.kill()

    def stop(self, name: str) -> float:
        """As an operator stops it; how many seconds it took."""
        child, began_s = self.nodes[name].child, time.monotonic()
        child.terminate()
        if not child.wait(BENCH_STOP_TIMEOUT_S):
            raise Unavailable(f"{name} did not end within {BENCH_STOP_TIMEOUT_S:g} s: {child.last_line()}")
        return time.monotonic() - began_s

    def start(self, name: str) -> None:
        self.nodes[name].child.start()

    def wait_ready(self, name: str) -> None:
        """Until `/readyz` says so: its data is loaded, and it knows a leader."""
        self.wait(name, lambda: self._status_code(name, "/readyz") == 200, "ready")

    def status(self, name: str) -> dict[str, object]:
        """`/v1/status`; empty while it does not answer."""
        try:
            answer = self._http.get(f"http://{self.nodes[name].rest_endpoint}/v1/status")
        except httpx.HTTPError:
            return {}
        found: dict[str, object] = answer.json() if answer.status_code == 200 else {}
        return found

    def applied(self, name: str) -> int:
        """The log index up to which it knows everything; -1 while it does not answer."""
        return int(str(self.status(name).get("applied", -1)))

    def wait_applied(self, name: str, index: int) -> None:
        self.wait(name, lambda: self.applied(name) >= index, f"at entry {index}")

    def leader(self) -> str:
        """The name of the node that says that it leads; "" while none does."""
        return next((name for name in self.nodes if self.status(name).get("role") == "leader"), "")

    def wait_leader(self) -> str:
        found: list[str] = []

        def there() -> bool:
            found.append(self.leader())
            return bool(found[-1])

        self._wait(there, "there is no leader")
        return found[-1]

    def wait(self, name: str, reached: Callable[[], bool], what: str) -> None:
        """Poll; raises Unavailable as soon as the node has died."""
        child = self.nodes[name].child

        def there() -> bool:
            if child.poll() or not child.alive:
                raise Unavailable(f"{name} ended ({child.describe_end()}): {child.last_line()}")
            return reached()

        self._wait(there, f"{name} is not {what}")

    @staticmethod
    def _wait(there: Callable[[], bool], problem: str) -> None:
        deadline_s = time.monotonic() + BENCH_READY_TIMEOUT_S
        while not there():
            if time.monotonic() > deadline_s:
                raise Unavailable(f"{problem} after {BENCH_READY_TIMEOUT_S:g} s")
            time.sleep(BENCH_POLL_S)

    def _status_code(self, name: str, path: str) -> int:
        try:
            return self._http.get(f"http://{self.nodes[name].rest_endpoint}{path}").status_code
        except httpx.HTTPError:
            return 0


def _free_port(taken: set[int]) -> int:
    """A random one, so that two benchmarks that start together do not meet."""
    for port in random.Random().sample(_PORTS, len(_PORTS)):
        if port not in taken and is_free(port):
            taken.add(port)
            return port
    raise Unavailable(f"no free port from {_PORTS.start} to {_PORTS.stop - 1}")
