"""The leader dies, freezes, comes back: nothing acknowledged is lost, nothing stale is read, nothing applies twice."""

from __future__ import annotations

import threading
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from rocinante.client.transport import CHANNEL_OPTIONS
from rocinante.pb.v1 import cluster_pb2
from tests.node.tools import Writers, lead, log_size, others, rest, settle, wait_log, write_as
from tests.support.cluster import Cluster

GIVEN_UP_S = 45.0
"""Less than what gRPC takes by itself, and much more than what it should be: 10 s between nodes, 15 s for a client."""


def test_kill_9_of_the_leader_under_writers_loses_nothing_and_applies_nothing_twice(cluster: Cluster) -> None:
    with Writers(cluster, 4, prefix="loss/kill") as writers:
        for _ in range(2):
            writers.wait_more(50)
            leader = cluster.wait_leader()
            cluster.kill(leader)
            killed_at = time.monotonic()
            cluster.wait_leader(other_than=leader)
            writers.wait_more(50)
            gap_s = min(at for at in writers.acknowledged.values() if at > killed_at + 0.05) - killed_at
            assert gap_s < 30.0
            cluster.start(leader)
    writers.check()


def test_both_followers_die_and_the_leader_confirms_nothing_until_one_is_back(cluster: Cluster) -> None:
    leader = cluster.wait_leader()
    first, second = others(cluster, leader)
    cluster.put(leader, "loss/minority", "before")
    cluster.kill(first)
    cluster.kill(second)
    answer = rest(cluster, leader, "PUT", "/v1/kv/loss%2Fminority", b"during", timeout_ms=500)
    assert (answer.status, answer.error[0]) in [(503, "UNAVAILABLE"), (503, "DEADLINE_EXCEEDED")]
    read = rest(cluster, leader, "GET", "/v1/kv/loss%2Fminority", timeout_ms=500)
    assert (read.status, read.error[0]) == (503, "UNAVAILABLE")
    stale = rest(cluster, leader, "GET", "/v1/kv/loss%2Fminority?serializable&raw")
    assert (stale.status, stale.body) == (200, b"before")
    cluster.wait_until(lambda: cluster.status(leader)["role"] != "leader", "a leader without a quorum steps down")
    cluster.start(first)
    cluster.wait_leader()
    cluster.put(first, "loss/minority", "after")
    assert cluster.get(leader, "loss/minority") == "after"


class Reader:
    """Linearizable reads on one node, one after the other, with the time at which each was asked."""

    def __init__(self, cluster: Cluster, number: int, key: str) -> None:
        self._arguments = (cluster, number, key)
        self._stop = threading.Event()
        self.seen: list[tuple[float, int]] = []
        self.refused = 0
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.is_set():
            asked = time.monotonic()
            try:
                value = self._arguments[0].get(self._arguments[1], self._arguments[2], timeout_s=60.0)
            except grpc.RpcError:
                self.refused += 1
            else:
                self.seen.append((asked, int(value or 0)))

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def test_a_leader_that_was_frozen_serves_no_stale_read_when_it_wakes(cluster: Cluster) -> None:
    """Reads wait at its socket when it wakes: it still believes that it leads, and must not answer from that."""
    leader = cluster.wait_leader()
    cluster.put(leader, "loss/frozen", "1")
    readers = [Reader(cluster, leader, "loss/frozen") for _ in range(8)]
    acknowledged: list[tuple[float, int]] = []
    offset = log_size(cluster, leader)
    cluster.pause(leader)
    new = cluster.wait_leader(other_than=leader)
    end = time.monotonic() + 2.5
    value = 1
    while time.monotonic() < end:
        value += 1
        cluster.put(new, "loss/frozen", str(value))
        acknowledged.append((time.monotonic(), value))
    for reader in readers:
        reader.__enter__()
    time.sleep(0.2)  # their requests reach the socket of a process that stands still: nothing tells when
    cluster.resume(leader)
    cluster.wait_until(
        lambda: all(reader.seen and reader.seen[-1][1] >= value for reader in readers), "it reads what is new"
    )
    for reader in readers:
        reader.__exit__()
    for reader in readers:
        for asked, seen in reader.seen:
            known = max((value for at, value in acknowledged if at < asked), default=1)
            assert seen >= known, f"a read that began after {known} was acknowledged returned {seen}"
    wait_log(cluster, leader, "(was leader in term", offset)


def test_a_request_that_is_sent_again_to_another_node_over_a_change_of_leader_applies_once(cluster: Cluster) -> None:
    leader = cluster.wait_leader()
    session = cluster.call(
        leader, "/rocinante.v1.Cluster/OpenSession", cluster_pb2.OpenSessionRequest(), cluster_pb2.OpenSessionResponse
    ).session
    first = write_as(cluster, leader, "loss/once", "once", session, 1)
    cluster.kill(leader)
    new = cluster.wait_leader(other_than=leader)
    follower = next(number for number in others(cluster, leader) if number != new)
    cluster.put(new, "loss/between", "v")
    for node in (new, follower):
        again = write_as(cluster, node, "loss/once", "once", session, 1)
        assert again == first, "the same request has the same answer, whoever is asked"
    assert write_as(cluster, follower, "loss/once", "once", session, 2).prev_kv.version == 1
    cluster.start(leader)
    assert write_as(cluster, leader, "loss/once", "once", session, 1) == first
    cluster.wait_equal_digests()


def test_two_nodes_that_get_the_same_request_at_once_carry_it_out_once(cluster: Cluster) -> None:
    leader = cluster.wait_leader()
    session = cluster.call(
        leader, "/rocinante.v1.Cluster/OpenSession", cluster_pb2.OpenSessionRequest(), cluster_pb2.OpenSessionResponse
    ).session
    for seq in range(1, 11):
        answers: dict[int, object] = {}

        def ask(number: int, seq: int = seq, answers: dict[int, object] = answers) -> None:
            answers[number] = write_as(cluster, number, f"loss/same/{seq}", "v", session, seq)

        threads = [threading.Thread(target=ask, args=(number,)) for number in cluster.nodes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == 3
        assert answers[1] == answers[2] == answers[3]


def test_a_paused_follower_catches_up_and_the_others_do_not_wait_for_it(cluster: Cluster) -> None:
    leader = cluster.wait_leader()
    follower = others(cluster, leader)[0]
    cluster.pause(follower)
    with Writers(cluster, 2, prefix="loss/paused") as writers:
        writers.wait_more(100)
    cluster.resume(follower)
    writers.check()
    assert cluster.leader() is not None


def test_connections_to_a_node_that_stands_still_are_given_up_in_seconds(cluster: Cluster) -> None:
    """A host that lost its power says nothing either. gRPC by itself takes a minute (`grpc.http2.ping_timeout_ms`)."""
    leader = cluster.wait_leader()
    still, other = others(cluster, leader)
    offsets = {number: log_size(cluster, number) for number in (leader, other)}
    with grpc.insecure_channel(cluster.endpoint(still), options=CHANNEL_OPTIONS) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=GIVEN_UP_S)
        next(watch)
        cluster.pause(still)
        try:
            given_up = f"append channel to node{still} ({cluster.endpoint(still)}): UNAVAILABLE"
            for number, offset in offsets.items():
                wait_log(cluster, number, given_up, offset, GIVEN_UP_S)
            with pytest.raises(grpc.RpcError) as ended:
                next(watch)
        finally:
            cluster.resume(still)
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE, "not its time was up, but the connection"
    settle(cluster)  # … and the connections are there again


def test_rest_moves_leadership_to_the_node_it_names(cluster: Cluster) -> None:
    leader = cluster.wait_leader()
    target, asked = others(cluster, leader)
    answer = rest(cluster, asked, "POST", "/v1/admin/transfer", {"to": f"node{target}"})
    assert (answer.status, answer.json["leader_name"]) == (200, f"node{target}")
    lead(cluster, target)  # until all agree on it
    wait_log(cluster, leader, f"handing leadership over to node{target}")
