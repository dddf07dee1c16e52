"""What the scenarios of real nodes share: quick timers, writers, plain HTTP, logs and metrics."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

import grpc
import pytest

from rocinante.client import Client
from rocinante.errors import RocinanteError
from rocinante.flows import FlowRecord, encode_batch
from rocinante.pb.etcd import rpc_pb2
from rocinante.pb.v1 import flow_pb2
from tests.support.cluster import ADDRESS, AGREE_S, Cluster, ClusterFailure

FAST: Final = {"tickMs": 10, "heartbeatMs": 50, "electionMs": 1000}
"""Quick to notice what happens, and not so quick that a node which gets no processor for a while is taken for a dead
one. (A leader whose process has ended is replaced at once in any case.)"""
RAN: Final = ": candidate in term"
"""What the log of a node says that stood for election, and did not only ask whether it would be elected. (On a busy
machine there may be an election by chance: another leader is no sign that somebody disturbed the old one.)"""


class Writers:
    """Threads that each write one unique key after the other, with the Python client and its retries.

    with Writers(cluster, 4) as writers:
        …
    writers.check()
    """

    def __init__(self, cluster: Cluster, count: int, *, prefix: str, timeout_s: float = AGREE_S) -> None:
        self._cluster = cluster
        self._prefix = prefix
        self._timeout_s = timeout_s
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.value = ""
        """What is written; empty: the key itself."""
        self.acknowledged: dict[str, float] = {}
        """Key → time.monotonic() of the answer."""
        self.failed: dict[str, RocinanteError] = {}
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(count)]

    def _run(self, number: int) -> None:
        with Client(self._cluster.endpoints(), timeout_s=self._timeout_s) as client:
            turn = 0
            while not self._stop.is_set():
                turn += 1
                key = f"{self._prefix}/{number}/{turn:06}"
                try:
                    client.kv.put(key, self.value or key)
                except RocinanteError as error:
                    with self._lock:
                        self.failed[key] = error
                else:
                    with self._lock:
                        self.acknowledged[key] = time.monotonic()

    def wait_more(self, count: int, timeout_s: float = AGREE_S) -> None:
        """Until `count` more writes were acknowledged than now."""
        target = len(self.acknowledged) + count
        self._cluster.wait_until(lambda: len(self.acknowledged) >= target, f"{count} more writes", timeout_s)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def check(self) -> None:
        """Every acknowledged write is there, once, on each running node, and the states are equal."""
        assert self.acknowledged
        assert not self.failed, f"{len(self.failed)} writes failed, such as {next(iter(self.failed.items()))}"
        self._cluster.wait_equal_digests()
        for number in self._cluster.running():
            versions = held(self._cluster, number, self._prefix)
            lost = self.acknowledged.keys() - versions.keys()
            assert not lost, f"node{number} lost {len(lost)} acknowledged writes, such as {min(lost)}"
            assert set(versions.values()) == {1}, f"node{number} holds keys that were written more than once"


def held(cluster: Cluster, number: int, prefix: str) -> dict[str, int]:
    """The keys below `prefix` that this node itself holds, with their versions."""
    request = rpc_pb2.RangeRequest(
        key=f"{prefix}/".encode(), range_end=f"{prefix}0".encode(), serializable=True, keys_only=True
    )
    answer = cluster.call(number, "/etcdserverpb.KV/Range", request, rpc_pb2.RangeResponse, timeout_s=AGREE_S)
    return {kv.key.decode(): kv.version for kv in answer.kvs}


def rest(
    cluster: Cluster,
    number: int,
    method: str,
    path: str,
    body: object = None,
    more_headers: Mapping[str, str] | None = None,
    *,
    timeout_ms: int = 10_000,
) -> Answer:
    """One HTTP request; `body` is sent as JSON, bytes as they are."""
    connection = http.client.HTTPConnection(ADDRESS, cluster.nodes[number].rest, timeout=timeout_ms / 1000 + 10)
    headers = {"Rocinante-Timeout-Ms": str(timeout_ms), **(more_headers or {})}
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
        headers["Content-Type"] = "application/json"
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return Answer(response.status, response.read())
    finally:
        connection.close()


class Answer:
    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.body = body

    @property
    def json(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed

    @property
    def error(self) -> tuple[str, str]:
        """(code, message)"""
        error = self.json["error"]
        return error["code"], error["message"]


def metrics(cluster: Cluster, number: int) -> dict[str, float]:
    """What /metrics says, by name without `rocinante_`, labels in braces."""
    found: dict[str, float] = {}
    for line in rest(cluster, number, "GET", "/metrics").body.decode().splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name.removeprefix("rocinante_")] = float(value)
    return found


def log_since(cluster: Cluster, number: int, offset: int = 0) -> str:
    """What the node logged from this byte on."""
    return cluster.nodes[number].log.read_bytes()[offset:].decode(errors="replace")


def log_size(cluster: Cluster, number: int) -> int:
    return cluster.nodes[number].log.stat().st_size


def wait_log(cluster: Cluster, number: int, text: str, offset: int = 0, timeout_s: float = AGREE_S) -> None:
    cluster.wait_until(lambda: text in log_since(cluster, number, offset), f"node{number} logs {text!r}", timeout_s)


def wait_drained(cluster: Cluster, number: int, *more: str) -> None:
    """Until nothing waits in the node's buffers. (It proposes something itself now and then: the time.)"""
    names = ("ingress_proposals", "ingress_bytes", "proposals_waiting", *more)

    def drained() -> bool:
        counted = metrics(cluster, number)
        return all(counted[name] == 0 for name in names)

    cluster.wait_until(drained, f"node{number} keeps nothing of what was asked")


def lead(cluster: Cluster, number: int) -> None:
    """Leadership is handed to this node; asked for again where it went elsewhere meanwhile."""

    def leads() -> bool:
        rest(cluster, number, "POST", "/v1/admin/transfer", {"to": f"node{number}"})
        return cluster.leader() == number

    cluster.wait_until(leads, f"node{number} leads")


def refused(cluster: Cluster, number: int, records: Sequence[FlowRecord]) -> str:
    """What a node says that has no room for these flows. Asked once: a client would ask again until its time is up, and
    may then not know what became of the last try."""
    (batch,) = encode_batch(records)
    request = flow_pb2.PutFlowsRequest(batch=batch)
    with pytest.raises(grpc.RpcError) as caught:
        cluster.call(number, "/rocinante.v1.Flow/Put", request, flow_pb2.PutFlowsResponse)
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    return str(error.details())


def others(cluster: Cluster, *numbers: int) -> list[int]:
    return [number for number in cluster.nodes if number not in numbers]


def put_many(cluster: Cluster, count: int, *, prefix: str, value: bytes = b"v", node: int | None = None) -> None:
    """Write `count` keys, many in a transaction, through one node (by default the leader)."""
    through = node if node is not None else cluster.wait_leader()
    step = min(100, 1_000_000 // (len(value) + 50))
    for first in range(0, count, step):
        puts = [
            rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=f"{prefix}/{number:06}".encode(), value=value))
            for number in range(first, min(count, first + step))
        ]
        cluster.call(through, "/etcdserverpb.KV/Txn", rpc_pb2.TxnRequest(success=puts), rpc_pb2.TxnResponse, AGREE_S)


def put_entries(cluster: Cluster, count: int, *, prefix: str, value: bytes = b"v") -> None:
    """Write one key after the other until the log has grown by `count` entries."""
    leader = cluster.wait_leader()
    with Client(cluster.endpoint(leader), discover=False, timeout_s=AGREE_S) as client:
        first = int(str(cluster.status(leader)["commit"]))
        turn = 0
        while True:
            client.kv.put(f"{prefix}/{turn:06}", value)
            turn += 1
            if turn >= count and int(str(cluster.status(leader)["commit"])) >= first + count:
                return


def settle(cluster: Cluster) -> None:
    """Whatever a test did to it: all nodes run, take part, know one leader and are connected with one another."""
    for number, node in cluster.nodes.items():
        if node.paused:
            cluster.resume(number)
        if not node.running:
            cluster.start(number, wait=False)
    for number in cluster.nodes:
        if (status := cluster.nodes[number].status(10.0)) is not None and not status["grpc_enabled"]:
            rest(cluster, number, "POST", "/v1/admin/grpc", {"enabled": True})
    for number in cluster.nodes:
        cluster.wait_ready(number)
    cluster.wait_leader()

    def connected() -> bool:
        found = cluster.statuses()
        return len(found) == len(cluster.nodes) and all(
            len(status["peers"]) == len(cluster.nodes) - 1  # type: ignore[arg-type]
            and all(peer["connected"] for peer in status["peers"])  # type: ignore[attr-defined]
            and not status["alarms"]
            and status["leader"] is not None
            for status in found.values()
        )

    cluster.wait_until(connected, "every node is connected with every other, without an alarm")


def number_of(cluster: Cluster, identifier: object) -> int:
    """The node with this id (as /v1/status writes it)."""
    for number, status in cluster.statuses().items():
        if status["id"] == identifier:
            return number
    raise ClusterFailure(f"no node has the id {identifier}")


def write_as(cluster: Cluster, number: int, key: str, value: str, session: int, seq: int) -> rpc_pb2.PutResponse:
    """A put under a client session, without any retry; the answer without what it says of the node that answered."""
    request = rpc_pb2.PutRequest(key=key.encode(), value=value.encode(), prev_kv=True)
    with grpc.insecure_channel(cluster.endpoint(number)) as channel:
        put = channel.unary_unary(
            "/etcdserverpb.KV/Put",
            request_serializer=rpc_pb2.PutRequest.SerializeToString,
            response_deserializer=rpc_pb2.PutResponse.FromString,
        )
        answer: rpc_pb2.PutResponse = put(
            request,
            timeout=AGREE_S,
            metadata=[("rocinante-session", f"{session:016x}"), ("rocinante-seq", str(seq))],
            wait_for_ready=True,
        )
    answer.header.ClearField("member_id")
    answer.header.ClearField("raft_term")
    return answer
