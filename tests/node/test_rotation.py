"""Leaders that give the others their turn, at random times, while clients write."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.node.tools import FAST, Writers, log_since, metrics
from tests.support.cluster import Cluster


@pytest.mark.parametrize("mode", ["delay_heartbeats", "transfer"])
def test_leadership_moves_again_and_again_and_nothing_is_lost(tmp_path: Path, mode: str) -> None:
    rotation = {"mode": mode, "minSeconds": 1, "maxSeconds": 1}
    with Cluster(tmp_path, timers={**FAST, "electionMs": 300}, rotation=rotation) as cluster:
        cluster.start()
        cluster.wait_leader()
        with Writers(cluster, 3, prefix=f"rotation/{mode}") as writers:
            cluster.wait_until(
                lambda: metrics(cluster, 1)["raft_leader_changes_total"] >= 5, "leadership has moved several times"
            )
            writers.wait_more(10)
        writers.check()
        led = [number for number in cluster.nodes if ": leader in term" in log_since(cluster, number)]
        assert len(led) >= 2, "it is not always the same two hands"
