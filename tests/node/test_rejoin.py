"""A node that was removed joins again under its address: its removal is still in the log that it gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from rocinante import limits
from rocinante.client import Client
from tests.node.test_membership import change, identity, wait_members
from tests.node.tools import FAST, log_since, log_size, rest, wait_log
from tests.support.cluster import ADDRESS, Cluster

ALL = {"node1": "voter", "node2": "voter", "node3": "voter"}
LEFT = {"node1": "voter", "node2": "voter"}


@pytest.mark.parametrize("wiped", [True, False], ids=["wiped", "with its old data"])
def test_a_removed_node_that_is_added_again_takes_part_again(tmp_path: Path, wiped: bool) -> None:
    with Cluster(tmp_path, timers=FAST) as cluster:
        cluster.start()
        cluster.put(1, "rejoin/before", "v")
        gone = identity(cluster, 3)
        cluster.wait_applied()
        # It is away when it is removed and added again: it hears of both at once, from the log.
        cluster.kill(3)
        change(cluster, lambda client: client.cluster.remove(gone), LEFT, [1, 2])
        node = cluster.nodes[3]
        if wiped:
            cluster.wipe(3)
            node.arguments = ["--join"]
        again = {**LEFT, "node3": "learner"}
        add = (ADDRESS, node.grpc)
        change(cluster, lambda c: c.cluster.add(*add, name="node3", rest=node.rest), again, [1, 2])
        offset = log_size(cluster, 3)
        cluster.start(3)
        change(cluster, lambda client: client.cluster.promote(gone), ALL, [1, 2])
        wait_members(cluster, ALL, [3])
        wait_log(cluster, 3, "this node was added to the cluster again", offset)
        # By now it would have left, had it taken the removal for the last word.
        quiet = log_size(cluster, 3)
        cluster.wait_until(lambda: _uptime_s(cluster) > limits.REMOVED_LINGER_S + 2, "it would have left by now")
        assert "removed" not in log_since(cluster, 3, quiet)
        assert cluster.status(3)["role"] != "not_ready"
        cluster.wait_equal_digests()
        # It counts: without one of the others it is needed.
        with Client(cluster.endpoints()) as client:
            client.kv.put("rejoin/after", "v")
        cluster.kill(2)
        cluster.wait_leader()
        cluster.put(3, "rejoin/needed", "v")
        assert cluster.get(3, "rejoin/after") == "v"


def test_a_removed_node_takes_part_after_a_restart_until_the_others_refuse_it(tmp_path: Path) -> None:
    """By what the others know they may need its vote (the last one of two voters, say)."""
    with Cluster(tmp_path, timers=FAST) as cluster:
        cluster.start()
        gone = identity(cluster, 3)
        change(cluster, lambda client: client.cluster.remove(gone), LEFT, [1, 2])
        cluster.wait_until(lambda: cluster.status(3)["role"] == "not_ready", "it takes no more part")
        for number in (1, 2, 3):
            cluster.stop(number)
        cluster.start(3)  # until it listens: nobody refuses it
        assert cluster.status(3)["role"] in {"follower", "candidate"}
        assert rest(cluster, 3, "PUT", "/v1/kv/x", b"v").status == 503
        cluster.start(1, 2)
        cluster.wait_until(lambda: cluster.status(3)["role"] == "not_ready", "it takes no more part again")
        cluster.put(1, "rejoin/without it", "v")


def _uptime_s(cluster: Cluster) -> float:
    return float(str(cluster.status(3)["uptime_ms"])) / 1000
