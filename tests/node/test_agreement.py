"""Three nodes are one: what is written through any of them is read, at once, from every other."""

from __future__ import annotations

import time

from rocinante.client import Client
from rocinante.flows import FlowRecord, FlowTuple, TcpState
from rocinante.pb.v1 import flow_pb2
from tests.node.tools import Writers, others, rest, wait_drained
from tests.support.cluster import Cluster


def flow(number: int, deadline_ms: int = 0) -> FlowRecord:
    original = FlowTuple.from_text("tcp", f"192.0.2.{number % 250}:{20000 + number}", "198.51.100.7:443")
    return FlowRecord(original, TcpState.ESTABLISHED, deadline_ms=deadline_ms, updated_ms=time.time_ns() // 1_000_000)


def test_what_is_put_on_each_node_is_read_at_once_on_every_other(cluster: Cluster) -> None:
    for turn in range(5):
        for writer in cluster.nodes:
            value = f"{turn} by {writer}"
            cluster.put(writer, f"agreement/{writer}", value)
            for reader in cluster.nodes:
                assert cluster.get(reader, f"agreement/{writer}") == value
    cluster.wait_equal_digests()


def test_status_and_peers_show_who_leads_and_that_all_are_connected(cluster: Cluster) -> None:
    leader = cluster.wait_leader()
    cluster.put(leader, "agreement/status", "v")
    cluster.wait_applied()
    leads = cluster.status(leader)
    for number in cluster.nodes:
        status = cluster.status(number)
        assert status["role"] == ("leader" if number == leader else "follower")
        assert (status["leader"], status["leader_name"]) == (leads["id"], f"node{leader}")
        assert (status["term"], status["storage"], status["ready"]) == (leads["term"], "leveldb", True)
        assert (status["alarms"], status["not_ready_reason"]) == ([], "")
        peers = rest(cluster, number, "GET", "/v1/peers").json["peers"]
        assert {peer["name"]: peer["connected"] for peer in peers} == {
            f"node{other}": True for other in others(cluster, number)
        }
        members = rest(cluster, number, "GET", "/v1/members").json
        assert [(member["name"], member["leader"]) for member in members["members"]] == [
            (f"node{other}", other == leader) for other in cluster.nodes
        ]

    def roles_known() -> bool:
        told = {peer["name"]: peer["role"] for peer in rest(cluster, leader, "GET", "/v1/peers").json["peers"]}
        return told == {f"node{other}": "follower" for other in others(cluster, leader)}

    cluster.wait_until(roles_known, "the leader knows what the others say of themselves")


def test_many_writers_at_once_through_all_nodes(cluster: Cluster) -> None:
    with Writers(cluster, 8, prefix="agreement/many") as writers:
        writers.wait_more(400)
    writers.check()
    for number in cluster.nodes:
        wait_drained(cluster, number)


def test_flows_past_their_deadline_vanish_from_reads_at_once_and_from_all_tables_soon(cluster: Cluster) -> None:
    with Client(cluster.endpoints()) as client:
        before = {number: int(str(cluster.status(number)["flows"])) for number in cluster.nodes}
        deadline_ms = time.time_ns() // 1_000_000 + 1_500
        client.flows.put([flow(number, deadline_ms) for number in range(500)])
        client.flows.put([flow(1_000)])
        while time.time_ns() // 1_000_000 < deadline_ms:
            time.sleep(0.01)  # the deadline is one of the wall clock: there is no event to wait for
        for number in cluster.nodes:
            request = flow_pb2.GetFlowsRequest(keys=[flow(7).key, flow(1_000).key], consistency=flow_pb2.STALE)

            def hidden(number: int = number, request: flow_pb2.GetFlowsRequest = request) -> bool:
                """By the cluster's time, which a follower knows as late as the leader's word travels."""
                answer = cluster.call(number, "/rocinante.v1.Flow/Get", request, flow_pb2.GetFlowsResponse)
                return [result.found for result in answer.results] == [False, True]

            cluster.wait_until(hidden, "reads hide the flows")

        def dropped() -> bool:
            return all(int(str(cluster.status(n)["flows"])) == before[n] + 1 for n in cluster.nodes)

        cluster.wait_until(dropped, "every replica has dropped the flows")
        cluster.wait_equal_digests()
        client.flows.delete([flow(1_000)])


def test_a_watch_goes_on_without_a_gap_when_its_node_and_the_leader_die(cluster: Cluster) -> None:
    leader = cluster.wait_leader()
    wanted = [f"agreement/watch/{number:03}" for number in range(60)]
    with Client([cluster.endpoint(leader), *cluster.endpoints()], timeout_s=60.0) as client:
        first = client.kv.put("agreement/watch", "begin").revision
        with client.kv.watch("agreement/watch/", prefix=True, from_revision=first) as watch:
            for key in wanted[:20]:
                client.kv.put(key, key)
            seen = [next(watch).item.key.decode() for _ in range(20)]
            cluster.kill(leader)
            for key in wanted[20:40]:
                client.kv.put(key, key)
            cluster.start(leader)
            for key in wanted[40:]:
                client.kv.put(key, key)
            seen += [next(watch).item.key.decode() for _ in range(40)]
    assert seen == wanted
