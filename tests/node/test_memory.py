"""`storage: memory`: works like the other, says what it is, and a node that restarts is new."""

from __future__ import annotations

from pathlib import Path

from tests.node.tools import FAST, Writers, log_since, log_size, others, wait_log
from tests.support.cluster import Cluster


def test_a_cluster_in_memory_says_so_and_a_node_that_restarts_catches_up_before_it_votes(tmp_path: Path) -> None:
    with Cluster(tmp_path, timers=FAST, storage="memory") as cluster:
        cluster.start()
        leader = cluster.wait_leader()
        for number in cluster.nodes:
            assert "storage is memory: nothing is kept on disk" in log_since(cluster, number)
            assert cluster.status(number)["storage"] == "memory"
            assert not cluster.nodes[number].data.exists()
        for killed in (others(cluster, leader)[0], leader):
            with Writers(cluster, 2, prefix=f"memory/{killed}") as writers:
                writers.wait_more(30)
                cluster.kill(killed)
                cluster.wait_leader()
                writers.wait_more(30)
                offset = log_size(cluster, killed)
                cluster.start(killed)
                wait_log(cluster, killed, "it votes from now on: caught up", offset)
                writers.wait_more(30)
            writers.check()
