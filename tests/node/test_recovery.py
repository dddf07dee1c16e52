"""A node that lost its data: it votes again only when that can do no harm (rocinante/node/recovery.py)."""

from __future__ import annotations

from pathlib import Path

from tests.node.tools import FAST, Writers, log_since, log_size, metrics, others, put_entries, wait_log
from tests.support.cluster import Cluster

ALARM = "started without data"


def alarms(cluster: Cluster, number: int) -> str:
    return " ".join(str(alarm) for alarm in cluster.status(number)["alarms"])  # type: ignore[attr-defined]


def test_a_wiped_follower_catches_up_and_votes_again(cluster: Cluster) -> None:
    leader = cluster.wait_leader()
    wiped = others(cluster, leader)[0]
    put_entries(cluster, 50, prefix="recovery/before")
    cluster.kill(wiped)
    cluster.wipe(wiped)
    offset = log_size(cluster, wiped)
    cluster.start(wiped)
    cluster.wait_until(lambda: not alarms(cluster, wiped), "the alarm is over")
    marker = cluster.nodes[wiped].data / "CATCHING-UP"
    cluster.wait_until(lambda: not marker.exists(), "its adopted vote is on the disk")
    assert "it votes from now on: caught up to entry" in log_since(cluster, wiped, offset)
    cluster.wait_equal_digests()
    # It votes: with one of the others gone, nobody can be elected without it.
    cluster.kill(leader)
    cluster.wait_leader(other_than=leader)
    cluster.put(wiped, "recovery/after", "v")


def test_a_node_that_was_wiped_and_one_that_missed_the_writes_elect_nobody(cluster: Cluster) -> None:
    """A and C acknowledged it, C forgot it, B never had it. B and C are a majority, but must not act as one."""
    holder = cluster.wait_leader()
    wiped, behind = others(cluster, holder)
    cluster.put(holder, "recovery/base", "v")
    cluster.wait_applied()
    cluster.pause(behind)
    with Writers(cluster, 2, prefix="recovery/acknowledged") as writers:
        writers.wait_more(50)
    cluster.kill(holder)
    cluster.kill(wiped)
    cluster.wipe(wiped)
    cluster.resume(behind)
    offset = log_size(cluster, behind)
    cluster.start(wiped)
    # Several election time-outs: each of them is an attempt.
    cluster.wait_until(
        lambda: metrics(cluster, wiped)["raft_votes_withheld_total"] >= 4, "the wiped one was asked again and again"
    )
    assert "leader in term" not in log_since(cluster, behind, offset)
    assert cluster.leader() is None
    # A restart in the middle of it changes nothing.
    cluster.restart(wiped, wait=False)
    cluster.wait_ready(wiped)
    cluster.wait_until(lambda: metrics(cluster, wiped)["raft_votes_withheld_total"] >= 4, "it is asked, and holds back")
    assert ALARM in alarms(cluster, wiped)
    assert (cluster.nodes[wiped].data / "CATCHING-UP").exists()
    assert cluster.leader() is None
    cluster.start(holder)
    cluster.wait_leader()
    cluster.wait_until(lambda: not alarms(cluster, wiped), "it has caught up")
    writers.check()


def test_a_new_cluster_starts_with_a_majority_and_the_last_node_joins_later(tmp_path: Path) -> None:
    with Cluster(tmp_path, timers=FAST) as cluster:
        cluster.start(1, 2)
        cluster.wait_leader()
        cluster.put(1, "early", "v")
        cluster.start(3)
        wait_log(cluster, 3, "it votes from now on")
        assert cluster.get(3, "early") == "v"
        cluster.wait_equal_digests()
        cluster.wait_until(lambda: not alarms(cluster, 3), "the alarm is over")
        # All of them at once, as after a power cut: none of them is new, none is held back.
        for number in cluster.nodes:
            cluster.kill(number)
        cluster.start()
        cluster.wait_leader()
        assert cluster.get(1, "early") == "v"
        cluster.wait_until(lambda: not any(alarms(cluster, number) for number in cluster.nodes), "no alarm")
