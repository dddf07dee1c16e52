"""Ways to end, and to stand aside: signals, the REST interface, the gRPC switch."""

from __future__ import annotations

import os
import signal
import time
from itertools import pairwise

import grpc
import pytest

from tests.node.tools import RAN, Writers, log_since, log_size, others, rest, wait_log
from tests.support.cluster import Cluster


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_leader_that_is_told_to_stop_hands_over_first_and_no_write_fails(
    cluster: Cluster, number: signal.Signals
) -> None:
    leader = cluster.wait_leader()
    with Writers(cluster, 4, prefix=f"stop/{number.name}") as writers:
        writers.wait_more(50)
        process = cluster.pid(leader)
        offsets = {node: log_size(cluster, node) for node in cluster.nodes}
        cluster.nodes[leader].expected_to_run = False
        os.kill(process, number)
        asked_at = time.monotonic()
        new = cluster.wait_leader(other_than=leader)
        assert cluster.wait_exit(leader) == 0
        writers.wait_more(50)
    text = log_since(cluster, leader, offsets[leader])
    assert f"handed leadership over to node{new}" in text
    assert text.rstrip().endswith("stopped")
    assert "Traceback" not in text
    # Whoever is told to take over runs at once, without a pre-vote; after a time-out it would begin with one.
    assert "pre_candidate" not in log_since(cluster, new, offsets[new])
    times = sorted(writers.acknowledged.values())
    gap_s = max(after - before for before, after in pairwise(times) if after > asked_at)
    assert gap_s < 20.0
    writers.check()


def test_a_second_sigterm_ends_the_process_at_once(cluster: Cluster) -> None:
    """The leader cannot hand over to nodes that stand still, and waits for them; whoever asks twice does not."""
    leader = cluster.wait_leader()
    offset = log_size(cluster, leader)
    for other in others(cluster, leader):
        cluster.pause(other)
    cluster.nodes[leader].expected_to_run = False
    process = cluster.nodes[leader].process
    assert process is not None
    process.terminate()
    wait_log(cluster, leader, "stopping", offset)
    process.terminate()
    # Had it gone on to the end of its patience with the others, its status would be 0.
    assert cluster.wait_exit(leader) == -signal.SIGTERM
    assert "stopped" not in log_since(cluster, leader, offset)


def test_a_stop_without_anybody_to_hand_over_to_is_bounded_and_clean(cluster: Cluster) -> None:
    leader = cluster.wait_leader()
    for other in others(cluster, leader):
        cluster.kill(other)
    assert cluster.stop(leader) == 0


def test_a_leader_that_stops_passes_over_a_node_that_stands_still(cluster: Cluster) -> None:
    """All are equally up to date, so it asks the one with the highest id first: that one does not hear it."""
    leader = cluster.wait_leader()
    deaf = max(others(cluster, leader), key=lambda node: int(str(cluster.status(node)["id"]), 16))
    heir = next(node for node in others(cluster, leader) if node != deaf)
    offset = log_size(cluster, leader)
    cluster.pause(deaf)
    assert cluster.stop(leader) == 0
    cluster.resume(deaf)
    assert f"handed leadership over to node{heir}" in log_since(cluster, leader, offset)


def test_rest_stops_a_node_as_sigterm_does(cluster: Cluster) -> None:
    follower = others(cluster, cluster.wait_leader())[0]
    assert rest(cluster, follower, "POST", "/v1/admin/stop", {}).status == 202
    assert cluster.wait_exit(follower) == 0


def test_a_node_is_stopped_and_started_under_writes_and_holds_all_of_them(cluster: Cluster) -> None:
    follower = others(cluster, cluster.wait_leader())[0]
    with Writers(cluster, 4, prefix="stop/restart") as writers:
        writers.wait_more(50)
        assert cluster.stop(follower) == 0
        writers.wait_more(50)
        cluster.start(follower)
        writers.wait_more(50)
    writers.check()


def refusal(cluster: Cluster, number: int) -> tuple[str, str]:
    """How a read through this node's gRPC ends: code and text."""
    try:
        cluster.get(number, "stop/any")
    except grpc.RpcError as error:
        return error.code().name, error.details()
    return "OK", ""


def test_a_leader_whose_grpc_is_switched_off_hands_over_and_is_not_ready_until_it_is_on_again(cluster: Cluster) -> None:
    leader = cluster.wait_leader()
    offset = log_size(cluster, leader)
    cluster.put(leader, "stop/switch", "before")
    answer = rest(cluster, leader, "POST", "/v1/admin/grpc", {"enabled": False})
    assert (answer.status, answer.json) == (202, {"enabled": False})
    new = cluster.wait_leader(other_than=leader)
    cluster.wait_until(lambda: cluster.status(leader)["role"] == "not_ready", "it is not ready")
    status = cluster.status(leader)
    assert (status["grpc_enabled"], status["not_ready_reason"]) == (False, "gRPC is switched off")
    cluster.wait_until(lambda: refusal(cluster, leader)[0] == "UNAVAILABLE", "gRPC is refused")
    assert "gRPC is switched off" in refusal(cluster, leader)[1]
    write = rest(cluster, leader, "PUT", "/v1/kv/x", b"v")
    assert (write.status, write.error[0]) == (503, "UNAVAILABLE")
    assert "gRPC is switched off" in write.error[1]
    assert rest(cluster, leader, "GET", "/readyz").status == 503
    assert rest(cluster, leader, "GET", "/livez").status == 200
    assert "handed leadership over" in log_since(cluster, leader, offset)

    cluster.put(new, "stop/switch", "while it was off")
    commit = int(str(cluster.status(new)["commit"]))
    assert int(str(cluster.status(leader)["applied"])) < commit, "a node that is not ready takes nothing"

    offset = log_size(cluster, leader)
    assert rest(cluster, leader, "POST", "/v1/admin/grpc", {"enabled": True}).status == 202
    cluster.wait_until(lambda: cluster.status(leader)["role"] == "follower", "it follows again")
    cluster.wait_applied(commit)
    assert cluster.get(leader, "stop/switch") == "while it was off"
    assert RAN not in log_since(cluster, leader, offset), "the one that comes back disturbs nobody"
    cluster.wait_equal_digests()


def test_the_switch_thrown_to_and_fro_ends_as_it_was_last_set(cluster: Cluster) -> None:
    follower = others(cluster, cluster.wait_leader())[0]
    for enabled in (False, True, False, True, True, False, False, True):
        assert rest(cluster, follower, "POST", "/v1/admin/grpc", {"enabled": enabled}).status == 202
    cluster.wait_until(lambda: cluster.status(follower)["role"] == "follower", "it follows")
    cluster.wait_until(lambda: refusal(cluster, follower)[0] == "OK", "it serves")
