"""Which node is asked, and what the client says when none can."""

from __future__ import annotations

import threading

import pytest

from rocinante.client import Client
from rocinante.errors import FailedPrecondition, OutcomeUnknown, ResourceExhausted, Unavailable
from rocinante.identity import server_id
from rocinante.ports import SessionRef
from rocinante.state.command import Kind
from tests.client.serving import HOST, PATIENCE_S, WHILE_S, Cluster, serving
from tests.support.ports import free_port


def test_all_members_are_found_from_any_one_node(three: Cluster) -> None:
    with Client(three.endpoints[2]) as client:
        client.kv.put("a", "1")
        assert sorted(client.endpoints) == sorted(three.endpoints)
        assert client.leader == three.endpoints[0]


def test_the_leader_is_followed(three: Cluster) -> None:
    with Client(three.endpoints[0]) as client:
        client.kv.put("a", "1")
        three.lead(2)
        three.grpc[0].set_serving(False, "the test says so")
        client.kv.put("a", "2")
        assert client.leader == three.endpoints[2]


def test_the_death_of_the_only_node_that_was_given_does_not_matter_once_the_others_are_known(three: Cluster) -> None:
    with Client(three.endpoints[0]) as client:
        client.kv.put("a", "1")
        three.shut(0)
        assert client.kv.put("a", "2").revision == 3
        assert client.kv.get("a").version == 2


def test_a_call_waits_for_a_node_that_comes_back(one: Cluster) -> None:
    with Client(one.endpoints, timeout_s=PATIENCE_S) as client:
        client.kv.put("a", "1")
        one.shut(0)
        back = threading.Timer(0.3, one.open, [0])
        back.start()
        assert client.kv.put("a", "2").revision == 3
        back.join()


def test_nobody_there() -> None:
    with Client(f"{HOST}:{free_port()}", timeout_s=1.5) as client:
        for call in (lambda: client.kv.put("a", "1"), lambda: client.kv.get("a"), client.cluster.members):
            with pytest.raises(Unavailable, match="connection refused: is the node running"):
                call()


def test_a_rest_port_is_named_as_what_it_is() -> None:
    with (
        serving(rest=True) as cluster,
        Client(f"{HOST}:{cluster.rest_ports[0]}", timeout_s=3) as client,
        pytest.raises(Unavailable, match="not gRPC"),
    ):
        client.kv.get("a")


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        ("be_not_ready", Unavailable, "not ready: replaying the log"),
        ("be_without_leader", Unavailable, "no leader"),
        ("full", ResourceExhausted, "the ingress buffer is full"),
        ("be_slow", OutcomeUnknown, "may or may not have been carried out"),
    ],
)
def test_a_cluster_that_cannot(state: str, error: type[Exception], message: str, one: Cluster) -> None:
    with Client(one.endpoints, timeout_s=PATIENCE_S) as client:
        client.kv.put("a", "1")
        if state == "full":
            one.node.be_refusing(ResourceExhausted("the ingress buffer is full (0 proposals)"))
        else:
            getattr(one.node, state)()
        with pytest.raises(error, match=message):
            client.kv.put("a", "2", timeout_s=WHILE_S)
        one.node.be_normal()
        client.kv.put("b", "1")
        if state != "be_slow":
            assert client.kv.get("a").version == 1, "what is said not to be done is not done"


def test_a_busy_cluster_is_asked_again_until_it_has_room(one: Cluster) -> None:
    with Client(one.endpoints, timeout_s=PATIENCE_S) as client:
        client.kv.put("a", "1")
        one.node.be_refusing(ResourceExhausted("the ingress buffer is full"))
        later = threading.Timer(0.2, one.node.be_normal)
        later.start()
        assert client.kv.put("a", "2").revision == 3
        later.join()


def end_session(client: Client, cluster: Cluster) -> None:
    """Behind the client's back, as the cluster does when it has too many."""
    current = client._connection._sessions._current
    assert current is not None
    cluster.node.propose(Kind.SESSION_CLOSE, b"", session=SessionRef(current.id, 0)).result(PATIENCE_S)


def test_a_session_that_the_cluster_forgot_is_opened_again(one: Cluster) -> None:
    with Client(one.endpoints) as client:
        client.kv.put("a", "1")
        end_session(client, one)
        client.kv.put("a", "2")
        assert one.version(b"a") == 2


def test_closing_ends_the_session_on_the_cluster_and_all_calls(one: Cluster) -> None:
    client = Client(one.endpoints)
    client.kv.put("a", "1")
    before = one.node.state_machine.sessions_count()
    client.close()
    client.close()
    assert one.node.state_machine.sessions_count() == before - 1
    with pytest.raises(Unavailable, match="closed"):
        client.kv.put("a", "2")


def test_calls_to_one_node_go_to_that_node_only(three: Cluster) -> None:
    with Client(three.endpoints) as client:
        assert client.cluster.status(three.endpoints[1]).name == "node1"  # one state behind all doors
        three.shut(1)
        with pytest.raises(Unavailable, match=three.endpoints[1]):
            client.cluster.status(three.endpoints[1])
        with pytest.raises(Unavailable, match=three.endpoints[1]):
            client.admin.log(endpoint=three.endpoints[1])


def test_members_are_added_promoted_removed_and_leadership_moves(one: Cluster) -> None:
    with Client(one.endpoints) as client:
        added = client.cluster.add(HOST, 35077, name="node7", rest=8077)
        seventh = next(member for member in added.members if member.name == "node7")
        assert (seventh.id, seventh.learner, seventh.endpoint) == (server_id(HOST, 35077), True, f"{HOST}:35077")
        client.cluster.promote(seventh.id)
        assert client.cluster.transfer(seventh.id) == seventh.id
        assert client.cluster.leader().name == "node7"
        with pytest.raises(FailedPrecondition):
            client.cluster.promote(seventh.id)
        assert [member.name for member in client.cluster.remove(seventh.id).members] == ["node1"]


def test_admin_calls(one: Cluster) -> None:
    with Client(one.endpoints) as client:
        client.kv.put("a", "1")
        entries = client.admin.log(5, committed=True)
        assert [entry.index for entry in entries] == sorted(entry.index for entry in entries)
        assert "kv_put" in entries[-1].commands[0]
        digest = client.admin.digest()
        assert (len(digest.digest), digest.revision) == (32, 2)
        assert client.admin.snapshot().index == digest.index
        client.admin.stop()
        assert one.node.stopped.wait(PATIENCE_S)
