"""The bounded buffer in front of the driver: full is an answer, and afterwards everything is as before."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import grpc
import pytest

from tests.node.tools import FAST, metrics, others, rest, wait_drained
from tests.support.cluster import Cluster

ROOM = 16
FILLED_S = 8.0
"""So long the buffer is full: time enough to look at it on a busy machine."""


def put(cluster: Cluster, number: int, key: str, timeout_s: float) -> str:
    try:
        cluster.put(number, key, "v", timeout_s)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


@pytest.mark.parametrize("asked", ["the leader", "a follower"])
def test_a_full_buffer_refuses_and_forgets_those_whose_time_is_up(tmp_path: Path, asked: str) -> None:
    with Cluster(tmp_path, timers=FAST, limits={"ingressProposals": ROOM}) as cluster:
        cluster.start()
        leader = cluster.wait_leader()
        node = leader if asked == "the leader" else others(cluster, leader)[0]
        cluster.put(node, "before", "v")  # and so the node has its session
        for other in others(cluster, node):
            cluster.pause(other)
        outcomes: list[str] = []
        threads = [
            threading.Thread(target=lambda n=n: outcomes.append(put(cluster, node, f"in/{n}", FILLED_S)))
            for n in range(ROOM)
        ]
        for thread in threads:
            thread.start()
        cluster.wait_until(lambda: metrics(cluster, node)["ingress_proposals"] == ROOM, "the buffer is full")
        assert put(cluster, node, "out", FILLED_S / 2) == "RESOURCE_EXHAUSTED"
        refused = rest(cluster, node, "PUT", "/v1/kv/out", b"v", timeout_ms=int(FILLED_S * 500))
        assert (refused.status, refused.error[0]) == (429, "RESOURCE_EXHAUSTED")
        assert "too many requests wait" in refused.error[1]
        assert metrics(cluster, node)["ingress_refused_total"] >= 2
        for thread in threads:
            thread.join()
        assert set(outcomes) <= {"DEADLINE_EXCEEDED", "UNAVAILABLE"}, Counter(outcomes)
        cluster.wait_until(lambda: metrics(cluster, node)["ingress_proposals"] == 0, "all were given up")
        assert metrics(cluster, node)["ingress_bytes"] == 0
        for other in others(cluster, node):
            cluster.resume(other)
        cluster.wait_leader()
        for number in cluster.nodes:
            cluster.wait_until(lambda n=number: put(cluster, n, f"after/{n}", 30.0) == "OK", "writes go on")  # type: ignore[misc]
        cluster.wait_equal_digests()
        wait_drained(cluster, node)


def test_what_was_given_up_without_a_leader_leaves_no_trace(cluster: Cluster) -> None:
    """Clients that try again and again must not fill the node's memory; and what was not placed was not done."""
    leader = cluster.wait_leader()
    node, other = others(cluster, leader)
    cluster.kill(leader)
    cluster.kill(other)
    cluster.wait_until(lambda: cluster.status(node)["leader"] is None, "it knows no leader")
    for number in range(5):
        answer = rest(cluster, node, "PUT", f"/v1/kv/ingress%2F{number}", b"v", timeout_ms=100)
        assert (answer.status, answer.error[0]) == (503, "UNAVAILABLE"), "never placed: certainly not done"
        assert "no leader" in answer.error[1]
    cluster.wait_until(lambda: metrics(cluster, node)["proposals_waiting"] == 0, "nothing is kept")
    assert metrics(cluster, node)["ingress_proposals"] == 0
    cluster.start(leader)
    cluster.wait_leader()
    assert cluster.get(node, "ingress/0") is None
