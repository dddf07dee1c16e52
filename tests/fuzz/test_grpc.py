"""Hostile clients of a real node over real gRPC: any message to any method, bytes that are none, floods, streams that
are left. It answers with documented statuses only, and lives, and its log holds no failure.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import grpc
import psutil
import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from rocinante import limits
from rocinante.errors import Code
from rocinante.flows import FlowTuple
from rocinante.pb.etcd import rpc_pb2
from rocinante.pb.v1 import admin_pb2, cluster_pb2, flow_pb2
from tests.fuzz.runs import examples
from tests.fuzz.samples import SESSION, batches
from tests.fuzz.strategies import Known, messages
from tests.node.tools import FAST, metrics
from tests.support.cluster import Cluster

UNARY: Final[dict[str, type[Message]]] = {
    "/etcdserverpb.KV/Range": rpc_pb2.RangeRequest,
    "/etcdserverpb.KV/Put": rpc_pb2.PutRequest,
    "/etcdserverpb.KV/DeleteRange": rpc_pb2.DeleteRangeRequest,
    "/etcdserverpb.KV/Txn": rpc_pb2.TxnRequest,
    "/etcdserverpb.KV/Compact": rpc_pb2.CompactionRequest,
    "/rocinante.v1.Flow/Put": flow_pb2.PutFlowsRequest,
    "/rocinante.v1.Flow/Get": flow_pb2.GetFlowsRequest,
    "/rocinante.v1.Flow/List": flow_pb2.ListFlowsRequest,
    "/rocinante.v1.Flow/Delete": flow_pb2.DeleteFlowsRequest,
    "/rocinante.v1.Cluster/Status": cluster_pb2.StatusRequest,
    "/rocinante.v1.Cluster/Members": cluster_pb2.MembersRequest,
    "/rocinante.v1.Cluster/AddMember": cluster_pb2.AddMemberRequest,
    "/rocinante.v1.Cluster/PromoteMember": cluster_pb2.PromoteMemberRequest,
    "/rocinante.v1.Cluster/RemoveMember": cluster_pb2.RemoveMemberRequest,
    "/rocinante.v1.Cluster/TransferLeader": cluster_pb2.TransferLeaderRequest,
    "/rocinante.v1.Cluster/OpenSession": cluster_pb2.OpenSessionRequest,
    "/rocinante.v1.Cluster/CloseSession": cluster_pb2.CloseSessionRequest,
    "/rocinante.v1.Admin/Log": admin_pb2.LogRequest,
    "/rocinante.v1.Admin/Digest": admin_pb2.DigestRequest,
    "/rocinante.v1.Admin/Snapshot": admin_pb2.SnapshotRequest,
}
"""All but Admin/Stop and Admin/SetGrpc, which do what they are asked to."""
STREAMS: Final[dict[str, type[Message]]] = {
    "/etcdserverpb.Watch/Watch": rpc_pb2.WatchRequest,
    "/rocinante.v1.Flow/Watch": flow_pb2.WatchFlowsRequest,
    "/rocinante.v1.Admin/Save": admin_pb2.SaveRequest,
}
OTHERS: Final = (
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/etcdserverpb.Lease/LeaseGrant",
    "/etcdserverpb.KV/Nothing",
    "/nobody.Here/Ever",
    "/",
)
LARGE: Final = (
    "/etcdserverpb.KV/Put", "/etcdserverpb.KV/Txn", "/rocinante.v1.Flow/Put", "/rocinante.v1.Cluster/Status",
    "/etcdserverpb.Watch/Watch", "/rocinante.v1.Flow/Watch",
)  # fmt: skip
DOCUMENTED: Final = {"OK", *Code} - {Code.INTERNAL, Code.DATA_LOSS}
KEYS: Final = st.sampled_from([b"a", b"b", b"c", b"\0"])
TUPLE: Final = FlowTuple.from_text("tcp", "10.0.0.1:1000", "192.0.2.1:80")
KNOWN: Final[Known] = {
    **{f"etcdserverpb.{kind}.key": KEYS for kind in ("RangeRequest", "PutRequest", "DeleteRangeRequest", "Compare")},
    "etcdserverpb.RangeRequest.revision": st.integers(0, 30),
    "etcdserverpb.CompactionRequest.revision": st.integers(0, 30),
    "etcdserverpb.CompactionRequest.physical": st.just(False),
    "etcdserverpb.WatchCreateRequest.start_revision": st.integers(0, 30),
    "rocinante.v1.Endpoint.address": st.sampled_from([TUPLE.source, TUPLE.destination, bytes(16)]),
    "rocinante.v1.Endpoint.port": st.integers(0, 100),
    "rocinante.v1.Tuple.zone": st.integers(0, 1),
    "rocinante.v1.Tuple.protocol": st.sampled_from([1, 6, 17]),
    "rocinante.v1.FlowRecord.tcp_state": st.integers(0, 9),
    "rocinante.v1.FlowRecord.flags": st.integers(0, 31),
    "rocinante.v1.PutFlowsRequest.batch": st.sampled_from([b"", *batches()]),
    "rocinante.v1.PutFlowsRequest.origin": st.sampled_from(["", "dc2"]),
    "rocinante.v1.FlowFilter.address": st.sampled_from(["10.0.0.0/8", "::/0", "1.2.3.4"]),
    "rocinante.v1.FlowFilter.port": st.integers(0, 65535),
    "rocinante.v1.GetFlowsRequest.keys": st.just(TUPLE.key()),
    "rocinante.v1.DeleteFlowsRequest.keys": st.just(TUPLE.key()),
    "rocinante.v1.AddMemberRequest.address": st.just("127.0.0.1"),
    "rocinante.v1.AddMemberRequest.port": st.integers(1, 9),
    "rocinante.v1.CloseSessionRequest.session": st.just(SESSION),
    "rocinante.v1.DigestRequest.at_index": st.integers(0, 5),
}
METADATA: Final = st.sampled_from(
    [(), (("rocinante-session", f"{SESSION:016x}"), ("rocinante-seq", "1")), (("rocinante-session", "x"),),
     (("rocinante-seq", "18446744073709551615"), ("rocinante-session", "f" * 16)), (("grpc-timeout", "1n"),)]
)  # fmt: skip
ROOT: Final = Path(__file__).parents[2]
WATCHES: Final = 400
WATCH_BYTES_MAX: Final = 2 << 20
"""Of a watch that nobody reads: an answer on its way and one that waits, of 200 kB each, and gRPC's copies of them. All
that is written below it would be 30 MB."""
TIMEOUT_S: Final = 2.0
WAITS_S: Final = 0.3
"""Of what waits for something that may never come: an event, an index."""


class Target:
    """A node that runs, and one channel to it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.channel = grpc.insecure_channel(
            cluster.endpoint(1), options=[("grpc.max_send_message_length", -1), ("grpc.enable_retries", 0)]
        )

    def unary(self, method: str, raw: bytes, metadata: Any = (), timeout_s: float = TIMEOUT_S) -> str:
        """How the call ends."""
        try:
            self.channel.unary_unary(method)(raw, timeout=timeout_s, metadata=metadata, wait_for_ready=True)
        except grpc.RpcError as error:
            return str(error.code().name)
        return "OK"

    def stream(
        self, method: str, raws: list[bytes], answers_max: int = 3, metadata: Any = (), timeout_s: float = WAITS_S
    ) -> str:
        """How the call ends when `raws` are sent and a few answers are read; "OK" where it is left then."""
        call = self.channel.stream_stream(method)(iter(raws), timeout=timeout_s, metadata=metadata)
        try:
            for _, _answer in zip(range(answers_max), call, strict=False):
                pass
        except grpc.RpcError as error:
            return str(error.code().name)
        finally:
            call.cancel()
        return "OK"

    def check_unharmed(self) -> None:
        """It lives, serves, and has not met what nobody foresaw."""
        value = self.cluster.put(1, "fuzz/alive", "yes") and self.cluster.get(1, "fuzz/alive")
        assert value == "yes"
        log = self.cluster.nodes[1].log.read_text(errors="replace")
        assert not re.findall(r"^.*(?:Traceback|failed unexpectedly| ERROR ).*$", log, re.M)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with Cluster(tmp_path_factory.mktemp("grpc"), nodes=1, timers=FAST, storage={"engine": "memory"}) as cluster:
        cluster.start()
        cluster.wait_leader()
        made = Target(cluster)
        made.unary("/rocinante.v1.Flow/Put", flow_pb2.PutFlowsRequest(batch=batches()[0]).SerializeToString())
        yield made
        made.channel.close()
        made.check_unharmed()


@pytest.mark.parametrize("method", UNARY)
def test_any_message(target: Target, method: str) -> None:
    @settings(examples(30))
    @given(message=messages(UNARY[method], KNOWN), metadata=METADATA)
    def run(message: Message, metadata: Any) -> None:
        if isinstance(message, cluster_pb2.AddMemberRequest):
            message.voter = False  # one that does not exist would be half of the votes
        timeout_s = WAITS_S if isinstance(message, admin_pb2.DigestRequest) else TIMEOUT_S
        assert target.unary(method, message.SerializeToString(), metadata, timeout_s) in DOCUMENTED, message

    run()
    target.check_unharmed()


@pytest.mark.parametrize("method", STREAMS)
def test_any_stream(target: Target, method: str) -> None:
    kind = STREAMS[method]

    @settings(examples(30))
    @given(sent=st.lists(messages(kind, KNOWN), min_size=1, max_size=4))
    def run(sent: list[Message]) -> None:
        requests = sent if method.endswith("Watch/Watch") else sent[:1]
        ended = target.stream(method, [each.SerializeToString() for each in requests], answers_max=1)
        assert ended in DOCUMENTED, sent

    run()
    target.check_unharmed()


@settings(examples(60))
@given(method=st.sampled_from([*UNARY, *STREAMS]), raw=st.binary(max_size=100), metadata=METADATA)
def test_bytes_that_are_no_message(target: Target, method: str, raw: bytes, metadata: Any) -> None:
    if method in STREAMS:
        assert target.stream(method, [raw], answers_max=1, metadata=metadata) in DOCUMENTED
    else:
        assert target.unary(method, raw, metadata) in DOCUMENTED


@pytest.mark.parametrize("method", OTHERS)
def test_bytes_to_methods_of_others_or_of_nobody(target: Target, method: str) -> None:
    for raw in (b"", b"\xff\xff\xff", b"\x0a\x80\x80\x80\x80\x10"):
        assert target.unary(method, raw) in DOCUMENTED
        assert target.stream(method, [raw], answers_max=1) in DOCUMENTED
    target.check_unharmed()


@pytest.mark.parametrize("method", LARGE)
def test_messages_over_the_limit(target: Target, method: str) -> None:
    sizes = [limits.GRPC_MESSAGE_BYTES_MAX - 64] if method in UNARY else []  # a watch takes it, and waits
    for size in (*sizes, limits.GRPC_MESSAGE_BYTES_MAX + 1):
        unknown = b"\xfa\x7f" + _varint(size) + bytes(size)  # a field that no message has: it is skipped
        if method in UNARY:
            ended = target.unary(method, unknown, timeout_s=60.0)
        else:
            ended = target.stream(method, [unknown], timeout_s=60.0)
        assert ended in DOCUMENTED
        if size > limits.GRPC_MESSAGE_BYTES_MAX:
            assert ended == "RESOURCE_EXHAUSTED"


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def test_a_flood_and_streams_that_are_left(target: Target) -> None:
    """Four hundred watches that nobody reads, large writes below them, sixteen callers at once: bounded, and over when
    the client is gone."""
    process = psutil.Process(target.cluster.pid(1))
    before = process.memory_info().rss
    flood = [sys.executable, "-m", "tests.fuzz.flood", target.cluster.endpoint(1), str(WATCHES)]
    with subprocess.Popen(flood, cwd=ROOT, stdout=subprocess.PIPE, text=True) as client:
        try:
            assert client.stdout is not None
            assert client.stdout.readline() == f"{WATCHES}\n"
            assert metrics(target.cluster, 1)["watch_watchers"] >= WATCHES
            large = rpc_pb2.PutRequest(key=b"flood", value=bytes(200_000)).SerializeToString()
            with ThreadPoolExecutor(16) as pool:
                ended = list(pool.map(lambda _: target.unary("/etcdserverpb.KV/Put", large, (), 60.0), range(150)))
            assert set(ended) <= DOCUMENTED
            assert "OK" in ended
            grown = process.memory_info().rss - before
        finally:
            client.kill()
    assert grown < WATCHES * WATCH_BYTES_MAX
    target.check_unharmed()
    target.cluster.wait_until(lambda: metrics(target.cluster, 1)["watch_watchers"] == 0, "every watch is over")
