"""A cluster of real node processes on the loopback interface, for end-to-end tests and benchmarks.

    with Cluster(tmp_path, nodes=3, storage={"compactEntries": 500}) as cluster:
        cluster.start()
        leader = cluster.wait_leader()
        cluster.kill(leader)
        cluster.wait_leader()

Nodes are numbered from 1, as their names are (`node1`, …). Keyword arguments become keys of the YAML's `cluster`
section. Each node has its own data directory and log file below `directory`. Every wait has a deadline and ends
early when a node that should run has died. Leaving the `with` block kills, by its pid, whatever was started; when an
exception leaves it, the end of each log is printed.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import grpc
import yaml
from google.protobuf.message import Message

from rocinante.pb.etcd import rpc_pb2
from rocinante.pb.v1 import admin_pb2
from tests.support.ports import free_ports
from tests.support.rpc import Response, Rpc

ADDRESS: Final = "127.0.0.1"
START_S: Final = 90.0
"""Until a started node is ready: Python's imports on two busy cores take seconds. Like all of these, only a failure
waits so long."""
STOP_S: Final = 60.0
AGREE_S: Final = 60.0
CALL_S: Final = 30.0
"""For one answer: a machine that is busy, or a change of leader, is no failure."""
ASK_S: Final = 5.0
"""For one try of a status: where nobody answers, the others are asked all the same."""
POLL_S: Final = 0.02
LOG_TAIL_LINES: Final = 40

Status = dict[str, object]


class ClusterFailure(AssertionError):
    """The cluster did not get where it should have within the deadline; the message says what was seen last."""


class NodeProcess:
    """One node: its ports, its files, and the process while it runs."""

    def __init__(self, number: int, directory: Path, grpc: int, rest: int, address: str = ADDRESS) -> None:
        self.number = number
        self.name = f"node{number}"
        self.address = address
        self.grpc = grpc
        self.rest = rest
        self.data = directory / self.name
        self.log = directory / f"{self.name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.paused = False
        self.expected_to_run = False
        self.config: Path | None = None
        """A configuration file of its own."""
        self.arguments: list[str] = []
        """Further arguments of `rocinante node`."""
        self.prefix: list[str] = []
        """What the command begins with, where the node is to run in another place. It must keep the process's pid."""
        self.environment: dict[str, str] = {}
        self.headers: dict[str, str] = {}
        """Of the requests that `status` makes."""

    @property
    def endpoint(self) -> str:
        return f"{self.address}:{self.grpc}"

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.rest}"

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def tail(self, lines: int = LOG_TAIL_LINES) -> str:
        text = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(text[-lines:])

    def status(self, timeout_s: float = ASK_S) -> Status | None:
        """What GET /v1/status answers; None when it does not answer (dead, paused, not listening yet)."""
        if not self.running or self.paused:
            return None
        connection = http.client.HTTPConnection(self.address, self.rest, timeout=timeout_s)
        try:
            connection.request("GET", "/v1/status", headers=self.headers)
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        if response.status != 200:
            return None
        answer: Status = json.loads(body)
        return answer


class Cluster:
    """See the module. `options` are keys of the YAML's `cluster` section; `environment` is added to the processes'
    own."""

    def __init__(
        self, directory: Path, nodes: int = 3, *, environment: Mapping[str, str] | None = None, **options: object
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.config = directory / "cluster.yaml"
        self.nodes: Final = {number: self.place(number) for number in range(1, nodes + 1)}
        self._environment = {**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})}
        self._rpc = Rpc()
        self.options: dict[str, object] = {"name": "test", **options}
        self.write_config(self.config)

    def place(self, number: int) -> NodeProcess:
        """Where a node is to run: here, on free ports."""
        grpc, rest = free_ports(2)
        return NodeProcess(number, self.directory, grpc, rest)

    def add(self) -> NodeProcess:
        """Ports and files for one more node. The configuration file does not have it yet, nor does the cluster."""
        number = max(self.nodes) + 1
        node = self.nodes[number] = self.place(number)
        return node

    def write_config(self, path: Path) -> None:
        """The configuration with all nodes that there are now, and the present `options`."""
        controllers = [
            {"address": node.address, "port": node.grpc, "rest": node.rest, "name": node.name}
            for node in self.nodes.values()
        ]
        document = {"artifact": {"cleanupOnFailure": True, "cluster": {**self.options, "controllers": controllers}}}
        path.write_text(yaml.safe_dump(document, sort_keys=False))

    # --- processes

    def start(self, *numbers: int, wait: bool = True) -> None:
        """Start these nodes (all, when none is named) and wait until each has left not-ready, unless `wait` is
        false."""
        chosen = [self.nodes[number] for number in numbers or self.nodes]
        for node in chosen:
            if node.running:
                raise ClusterFailure(f"{node.name} runs already")
            self._spawn(node)
        if wait:
            for node in chosen:
                self.wait_ready(node.number)

    def _spawn(self, node: NodeProcess) -> None:
        command = [sys.executable, "-m", "rocinante.cli.main", "node", "--config", str(node.config or self.config)]
        command += ["--name", node.name, "--data-dir", str(node.data), *node.arguments]
        if threading.current_thread() is threading.main_thread():
            # The kernel ends the node with us, even if we are killed. It follows the starting *thread*, so not from
            # another one.
            command = ["setpriv", "--pdeathsig", "KILL", "--", *command]
        command = [*node.prefix, *command]
        with node.log.open("ab") as log:
            node.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**self._environment, **node.environment},
            )
        self._rpc.forget(node.endpoint)
        node.paused = False
        node.expected_to_run = True

    def kill(self, number: int) -> None:
        """SIGKILL, and wait until it is gone."""
        node = self.nodes[number]
        node.expected_to_run = False
        if node.process is not None:
            node.process.kill()
            node.process.wait(STOP_S)
        node.paused = False

    def stop(self, number: int, timeout_s: float = STOP_S) -> int:
        """SIGTERM; the exit status. Raises ClusterFailure when it does not end in time."""
        node = self.nodes[number]
        process = self._running(node)
        node.expected_to_run = False
        process.terminate()
        return self.wait_exit(number, timeout_s)

    def wait_exit(self, number: int, timeout_s: float = STOP_S) -> int:
        """Wait for the process to end by itself; the exit status."""
        node = self.nodes[number]
        assert node.process is not None, f"{node.name} was never started"
        node.expected_to_run = False
        try:
            return node.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ClusterFailure(f"{node.name} did not end within {timeout_s} s\n{node.tail()}") from None

    def pause(self, number: int) -> None:
        """SIGSTOP; returns once the kernel has stopped it."""
        node = self.nodes[number]
        process = self._running(node)
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        node.paused = True

    def resume(self, number: int) -> None:
        node = self.nodes[number]
        self._running(node).send_signal(signal.SIGCONT)
        node.paused = False

    def restart(self, number: int, *, wait: bool = True) -> None:
        """Stop it gracefully if it runs, and start it again on its data."""
        if self.nodes[number].running:
            self.stop(number)
        self.start(number, wait=wait)

    def wipe(self, number: int) -> None:
        """Remove the data of a node that does not run, as the advice for a damaged disk says."""
        node = self.nodes[number]
        if node.running:
            raise ClusterFailure(f"{node.name} runs")
        subprocess.run(["rm", "-rf", "--", str(node.data)], check=True)

    def running(self) -> list[int]:
        """The nodes whose process is there and not paused."""
        return [node.number for node in self.nodes.values() if node.running and not node.paused]

    def pid(self, number: int) -> int:
        return self._running(self.nodes[number]).pid

    def _running(self, node: NodeProcess) -> subprocess.Popen[bytes]:
        if node.process is None or node.process.poll() is not None:
            raise ClusterFailure(f"{node.name} does not run\n{node.tail()}")
        return node.process

    # --- what they say

    def endpoint(self, number: int) -> str:
        """IP:PORT of the node's gRPC."""
        return self.nodes[number].endpoint

    def endpoints(self) -> list[str]:
        return [node.endpoint for node in self.nodes.values()]

    def url(self, number: int) -> str:
        return self.nodes[number].url

    def status(self, number: int) -> Status:
        """GET /v1/status of one node, which runs and listens; raises ClusterFailure when it does not answer."""
        node = self.nodes[number]
        answer = node.status(CALL_S)
        if answer is None:
            raise ClusterFailure(f"node{number} does not answer\n{node.tail()}")
        return answer

    def statuses(self) -> dict[int, Status]:
        """Of all nodes that answer."""
        answers = {number: node.status() for number, node in self.nodes.items()}
        return {number: answer for number, answer in answers.items() if answer is not None}

    def leader(self) -> int | None:
        """The node that a majority of all nodes agrees leads now; None while there is none."""
        found = self.statuses()
        leaders = [number for number, status in found.items() if status["role"] == "leader"]
        for number in leaders:
            identity, term = found[number]["id"], found[number]["term"]
            agree = [s for s in found.values() if s["term"] == term and _identity(s["leader"]) == identity]
            if 2 * len(agree) > len(self.nodes):
                return number
        return None

    # --- waits

    def wait_until(self, reached: Callable[[], bool], what: str, timeout_s: float = AGREE_S) -> None:
        """Poll until `reached()`; raises ClusterFailure at the deadline, or as soon as a node that should run has
        died."""
        deadline = time.monotonic() + timeout_s
        while not reached():
            self._check_alive()
            if time.monotonic() > deadline:
                seen = "\n".join(f"  node{number}: {_brief(status)}" for number, status in self.statuses().items())
                raise ClusterFailure(f"not within {timeout_s} s: {what}\n{seen or '  no node answers'}")
            time.sleep(POLL_S)

    def _check_alive(self) -> None:
        for node in self.nodes.values():
            if node.expected_to_run and not node.running:
                assert node.process is not None
                node.expected_to_run = False
                raise ClusterFailure(f"{node.name} ended with {node.process.returncode}\n{node.tail()}")

    def wait_ready(self, number: int, timeout_s: float = START_S) -> None:
        """Until the node answers and has left not-ready."""
        node = self.nodes[number]

        def ready() -> bool:
            status = node.status()
            return status is not None and status["role"] != "not_ready"

        self.wait_until(ready, f"{node.name} is ready", timeout_s)

    def wait_leader(self, timeout_s: float = AGREE_S, *, other_than: int | None = None) -> int:
        """Until a majority agrees on a leader (another than `other_than`); its number."""
        found: list[int] = []

        def agreed() -> bool:
            leader = self.leader()
            if leader is not None and leader != other_than:
                found.append(leader)
            return bool(found)

        self.wait_until(agreed, "a leader that a majority agrees on", timeout_s)
        return found[-1]

    def wait_applied(self, index: int | None = None, timeout_s: float = AGREE_S) -> int:
        """Until all running nodes have applied `index` (by default the highest commit index that any knows now);
        that index."""
        target = index if index is not None else max(_number(s["commit"]) for s in self.statuses().values())

        def applied() -> bool:
            found = self.statuses()
            running = self.running()
            return all(number in found and _number(found[number]["applied"]) >= target for number in running)

        self.wait_until(applied, f"all running nodes have applied entry {target}", timeout_s)
        return target

    # --- requests

    def call(
        self, number: int, method: str, request: Message, response: type[Response], timeout_s: float = CALL_S
    ) -> Response:
        """One gRPC call to one node, without a retry; raises grpc.RpcError."""
        return self._rpc.call(self.endpoint(number), method, request, response, timeout_s)

    def put(self, number: int, key: str, value: str, timeout_s: float = CALL_S) -> int:
        """Put through this node; the revision."""
        request = rpc_pb2.PutRequest(key=key.encode(), value=value.encode())
        return self.call(number, "/etcdserverpb.KV/Put", request, rpc_pb2.PutResponse, timeout_s).header.revision

    def get(self, number: int, key: str, *, serializable: bool = False, timeout_s: float = CALL_S) -> str | None:
        """The value that this node answers with; None when there is no such key."""
        request = rpc_pb2.RangeRequest(key=key.encode(), serializable=serializable)
        answer = self.call(number, "/etcdserverpb.KV/Range", request, rpc_pb2.RangeResponse, timeout_s)
        return answer.kvs[0].value.decode() if answer.kvs else None

    def digest(self, number: int, at_index: int = 0, timeout_s: float = CALL_S) -> tuple[int, bytes]:
        """(index, digest of the whole state after that entry), once the node has applied `at_index`."""
        request = admin_pb2.DigestRequest(at_index=at_index)
        answer = self.call(number, "/rocinante.v1.Admin/Digest", request, admin_pb2.DigestResponse, timeout_s)
        return answer.index, answer.digest

    def wait_equal_digests(self, timeout_s: float = AGREE_S) -> bytes:
        """Until all running nodes give the same digest for the same index; that digest.

        The cluster itself may write (expiry, a new term's no-op), so a node may be past the others when asked: ask
        again. Digests that differ at one index raise ClusterFailure at once: that is what must never happen.
        """
        seen: dict[int, bytes] = {}
        result: list[bytes] = []

        def equal() -> bool:
            try:
                found = {number: self.digest(number) for number in self.running()}
            except grpc.RpcError as error:
                # The client's connection to a node that was away may not have found it again yet.
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                return False
            for number, (index, digest) in found.items():
                if seen.setdefault(index, digest) != digest:
                    raise ClusterFailure(f"node{number} has another state after entry {index} than a node asked before")
            if len(set(found.values())) == 1:
                result.append(next(iter(found.values()))[1])
            return bool(result)

        self.wait_until(equal, "all running nodes give one digest for one index", timeout_s)
        return result[-1]

    # --- the end

    def close(self) -> None:
        """Kill, by its pid, every process that was started and is still there."""
        self._rpc.close()
        for node in self.nodes.values():
            node.expected_to_run = False
            if node.process is not None:
                node.process.kill()
        for node in self.nodes.values():
            if node.process is not None:
                node.process.wait(STOP_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        if error is not None:
            for node in self.nodes.values():
                print(f"--- {node.name}: the end of {node.log}\n{node.tail()}", file=sys.stderr)


def _identity(leader: object) -> object:
    """The leader's id, given as such or as an object about it."""
    return leader.get("id") if isinstance(leader, dict) else leader


def _number(value: object) -> int:
    return int(str(value))


def _brief(status: Status) -> str:
    names = ("role", "term", "leader", "commit", "applied", "last_index", "not_ready_reason", "alarms")
    return ", ".join(f"{name}={status[name]}" for name in names if status.get(name))
