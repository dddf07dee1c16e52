"""A cluster that is lost and begins again from a saved file: what is there, what its clients see, and that nodes from
before cannot mix in. Real processes, and the `rocinante` command."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from rocinante.client import Client
from rocinante.errors import OutOfRange
from rocinante.flows import FlowRecord, FlowTuple, encode_batch
from rocinante.limits import RESTORE_SKIP
from rocinante.node.directory import snapshot_head
from rocinante.pb.v1 import flow_pb2
from rocinante.raft.types import Config
from rocinante.snapshot_file import SnapshotWriter
from rocinante.state.command import Kind
from rocinante.state.flows import encode_put
from tests.node.tools import rest
from tests.state.harness import Driver
from tests.support.cluster import Cluster

COMMAND_S = 120.0


def rocinante(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rocinante.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S, check=False)


def saved_json(*arguments: str) -> dict[str, Any]:
    ran = rocinante(*arguments, "-o", "json")
    assert ran.returncode == 0, ran.stderr
    answer: dict[str, Any] = json.loads(ran.stdout)
    return answer


def restore(cluster: Cluster, file: Path, number: int, lineage: str) -> None:
    node = cluster.nodes[number]
    ran = rocinante(
        *("snapshot", "restore", str(file), "--config", str(node.config or cluster.config), "--name", node.name),
        *("--data-dir", str(node.data), "--lineage", lineage, "--force"),
    )
    assert ran.returncode == 0, ran.stderr


@dataclass
class Story:
    """The tests of this module are one, told in order."""

    cluster: Cluster
    file: Path
    revision: int = 0
    """The last one that the lost cluster acknowledged, …"""
    index: int = 0
    """… and the last entry."""


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    directory = tmp_path_factory.mktemp("restored")
    with Cluster(directory) as cluster:
        cluster.start()
        cluster.wait_leader()
        yield Story(cluster, directory / "backup.snap")


def test_it_is_saved_while_it_serves_from_any_node_by_grpc_and_by_rest(story: Story) -> None:
    cluster = story.cluster
    for number in range(20):
        cluster.put(1, f"key-{number}", "before")
    cluster.wait_applied()
    follower = next(number for number in (1, 2, 3) if number != cluster.wait_leader())
    saved = saved_json("snapshot", "save", str(story.file), "-c", cluster.endpoint(follower))
    assert (saved["keys"], saved["cluster"], saved["lineage"]) == (20, "test", "")
    other = story.file.with_name("by-rest.snap")
    with urllib.request.urlopen(f"{cluster.url(follower)}/v1/snapshot", timeout=60) as answer:
        other.write_bytes(answer.read())
    assert saved_json("snapshot", "verify", str(other))["keys"] == 20
    story.revision = max(cluster.put(1, f"late-{number}", "after the save") for number in range(5))
    story.index = cluster.wait_applied()


def test_nodes_from_before_and_from_after_refuse_one_another(story: Story) -> None:
    """Node 3 is forgotten: it runs on, as a part of the lost cluster."""
    cluster = story.cluster
    for number in (1, 2):
        cluster.kill(number)
    for number in (1, 2):
        restore(cluster, story.file, number, "second")
    cluster.start(1, 2)
    leader = cluster.wait_leader()
    assert leader in (1, 2)
    new, old = cluster.status(1), cluster.status(3)
    assert (new["lineage"], old["lineage"], new["cluster"] == old["cluster"]) == ("second", "", True)
    assert new["cluster_id"] != old["cluster_id"]
    refused = f"cluster_id: {old['cluster_id']} is another cluster, this is {new['cluster_id']}, restored as 'second'"
    cluster.wait_until(
        lambda: refused in cluster.nodes[leader].log.read_text(), "the new leader's log says that node3 is refused"
    )
    other_way = f"cluster_id: {new['cluster_id']} is another cluster, this is {old['cluster_id']}; compare name"
    cluster.wait_until(lambda: other_way in cluster.nodes[3].log.read_text(), "node3 refuses the new ones")
    assert cluster.nodes[1].data.with_name("node1.before-second").is_dir(), "what was there is kept"


def test_what_was_saved_is_there_and_what_came_later_is_not(story: Story) -> None:
    cluster = story.cluster
    assert cluster.get(1, "key-7") == "before"
    assert cluster.get(2, "late-0") is None
    revision = cluster.put(2, "key-7", "again")
    assert story.revision < revision < RESTORE_SKIP + story.revision, "no revision is used twice"
    assert int(str(cluster.status(1)["commit"])) > RESTORE_SKIP


def test_who_watches_from_what_is_gone_is_told_so(story: Story) -> None:
    cluster = story.cluster
    with Client(cluster.endpoint(1)) as client:
        with (
            pytest.raises(OutOfRange, match="compacted"),
            client.kv.watch("key-7", from_revision=story.revision) as old,
        ):
            next(iter(old))
        kept = client.kv.get("key-7")
        assert kept is not None
        with client.kv.watch("key-7", from_revision=kept.mod_revision) as new:
            assert next(iter(new)).item.value == b"again"
    with grpc.insecure_channel(cluster.endpoint(1)) as channel:
        watch = channel.unary_stream(
            "/rocinante.v1.Flow/Watch",
            request_serializer=flow_pb2.WatchFlowsRequest.SerializeToString,
            response_deserializer=flow_pb2.WatchFlowsResponse.FromString,
        )
        first = next(iter(watch(flow_pb2.WatchFlowsRequest(from_index=story.index), timeout=30)))
    assert first.state == flow_pb2.WatchFlowsResponse.FELL_BEHIND


def test_a_node_without_data_joins_the_cluster_that_runs(story: Story) -> None:
    cluster = story.cluster
    cluster.kill(3)
    cluster.wipe(3)
    cluster.start(3)
    cluster.wait_until(lambda: cluster.status(3)["lineage"] == "second", "node3 has learnt who it is")
    cluster.wait_equal_digests()
    assert cluster.get(3, "key-7") == "again"
    assert "runs, restored as 'second': this node, which has no data, joins it" in cluster.nodes[3].log.read_text()


def test_a_lost_majority_is_left_behind_by_an_explicit_act(story: Story) -> None:
    cluster = story.cluster
    survivor = next(number for number in (1, 2, 3) if number != cluster.wait_leader())
    lost = [number for number in (1, 2, 3) if number != survivor]
    last = cluster.put(survivor, "the last one", "acknowledged")
    cluster.wait_applied()
    file = story.file.with_name("left.snap")
    ran = rocinante("snapshot", "save", str(file), "--data-dir", str(cluster.nodes[survivor].data))
    assert (ran.returncode, "in use by another process" in ran.stderr, file.exists()) == (75, True, False)
    for number in (1, 2, 3):
        cluster.kill(number)
    for number in lost:
        cluster.wipe(number)
    saved = saved_json("snapshot", "save", str(file), "--data-dir", str(cluster.nodes[survivor].data))
    assert (saved["lineage"], saved["revision"]) == ("second", last)
    for number in (1, 2, 3):
        restore(cluster, file, number, "third")
    cluster.start()
    cluster.wait_leader()
    assert cluster.get(survivor, "the last one") == "acknowledged"
    assert cluster.get(lost[0], "key-7") == "again"
    assert {status["lineage"] for status in cluster.statuses().values()} == {"third"}
    assert cluster.put(1, "and on", "it goes") > RESTORE_SKIP + last


def test_after_days_flows_have_ended_sessions_live_and_the_clock_is_right(tmp_path: Path) -> None:
    """A file from three days ago: with flows that ended meanwhile, one that has not, and one without a deadline."""
    now_ms = time.time_ns() // 1_000_000
    then_ms = now_ms - 3 * 86_400_000
    driver = Driver()
    driver.do(Kind.CLOCK, then_ms.to_bytes(8))
    driver.do(Kind.SESSION_OPEN, session=0x51)
    ports = {1: then_ms + 60_000, 2: now_ms + 3_600_000, 3: 0}
    for port, deadline_ms in ports.items():
        flow = FlowTuple.from_text("tcp", f"192.0.2.1:{port}", "192.0.2.2:80")
        record = FlowRecord(flow, deadline_ms=deadline_ms, updated_ms=then_ms)
        for batch in encode_batch([record]):
            driver.do(Kind.FLOW_PUT, encode_put("dc1", batch))
    with Cluster(tmp_path, nodes=1) as cluster:
        file = tmp_path / "old.snap"
        with SnapshotWriter(file) as writer:
            writer.write(snapshot_head({}, Config()))
            with driver.machine.freeze() as frozen:
                for chunk in frozen.chunks():
                    writer.write(chunk)
            position = driver.machine.position
            writer.finish(cluster="test", datacenter="dc1", index=position.index, term=position.term)
        restore(cluster, file, 1, "second")
        cluster.start(1)
        cluster.wait_leader()
        with Client(cluster.endpoint(1)) as client:
            cluster.wait_until(
                lambda: cluster.status(1)["flows"] == 2, "the flow that ended is expired, not only hidden"
            )
            left = sorted(flow.record.original.source_port for flow in client.flows.list())
            assert left == [2, 3]
        assert cluster.status(1)["alarms"] == []
        assert "the cluster's time is 3 days behind the clock of this host" in cluster.nodes[1].log.read_text()
        headers = {"Rocinante-Session": "51", "Rocinante-Seq": "1"}
        written, again = (rest(cluster, 1, "PUT", "/v1/kv/k", b"v", headers) for _ in range(2))
        assert (written.status, again.json["revision"]) == (200, written.json["revision"]), "a retry applies once"
