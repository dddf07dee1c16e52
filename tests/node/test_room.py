"""The state is bounded: an alarm before it is full, then a refusal that leaves a way out; history goes by itself."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from rocinante.client import Client
from rocinante.flows import FlowRecord, FlowTuple
from rocinante.pb.etcd import rpc_pb2
from tests.node.tools import refused
from tests.support.cluster import Cluster

MIB = 1024 * 1024


def alarms(cluster: Cluster, number: int) -> str:
    return " ".join(str(alarm) for alarm in cluster.status(number)["alarms"])  # type: ignore[attr-defined]


def flow(number: int) -> FlowRecord:
    source = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}:1024"
    return FlowRecord(FlowTuple.from_text("udp", source, "192.0.2.1:53"))


def test_a_full_key_store_refuses_puts_and_takes_deletes(tmp_path: Path) -> None:
    with Cluster(tmp_path, nodes=1, limits={"keyBytes": MIB}, storage={"keepRevisions": 0}) as cluster:
        cluster.start()
        cluster.wait_leader()
        with Client(cluster.endpoints(), timeout_s=60) as client:
            for turn in range(2):
                client.kv.put(f"big/{turn}", b"x" * 500_000)
            cluster.wait_until(lambda: "little room for more keys" in alarms(cluster, 1), "the alarm before it is full")
            client.kv.put("big/2", b"x" * 100_000)
            cluster.wait_until(lambda: "no room for more keys" in alarms(cluster, 1), "the alarm that it is full")
            with pytest.raises(grpc.RpcError, match="mvcc: database space exceeded"):
                cluster.put(1, "small", "x")
            assert client.kv.get("small") is None
            client.kv.delete("big/0")
            client.kv.delete("big/1")
            client.kv.compact(cluster.status(1)["revision"])  # type: ignore[arg-type]
            cluster.wait_until(lambda: not alarms(cluster, 1), "the alarm is over")
            client.kv.put("small", b"x")


def test_a_full_flow_table_refuses_batches_and_takes_deletes(tmp_path: Path) -> None:
    with Cluster(tmp_path, nodes=1, flows={"max": 1_000, "timeouts": "off"}) as cluster:
        cluster.start()
        cluster.wait_leader()
        with Client(cluster.endpoints(), timeout_s=60) as client:
            client.flows.put([flow(number) for number in range(1_000)])
            cluster.wait_until(lambda: "no room for more flows" in alarms(cluster, 1), "the alarm")
            assert "flow table is full" in refused(cluster, 1, [flow(5_000)])
            client.flows.delete([flow(number).original for number in range(500)])
            cluster.wait_until(lambda: not alarms(cluster, 1), "the alarm is over")
            client.flows.put([flow(5_000)])


def test_old_revisions_are_forgotten_by_themselves(tmp_path: Path) -> None:
    with Cluster(tmp_path, nodes=3, storage={"keepRevisions": 100}) as cluster:
        cluster.start()
        leader = cluster.wait_leader()
        for turn in range(200):
            cluster.put(leader, "key", str(turn))

        def compacted() -> bool:
            old = rpc_pb2.RangeRequest(key=b"key", revision=2)
            try:
                cluster.call(leader, "/etcdserverpb.KV/Range", old, rpc_pb2.RangeResponse)
            except grpc.RpcError as error:
                return "required revision has been compacted" in str(error)
            return False

        cluster.wait_until(compacted, "the first revisions are compacted")
        recent = rpc_pb2.RangeRequest(key=b"key", revision=150)
        assert cluster.call(leader, "/etcdserverpb.KV/Range", recent, rpc_pb2.RangeResponse).kvs[0].value == b"148"
        cluster.wait_equal_digests()
