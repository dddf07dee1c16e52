"""A cluster that changes its members while it serves: add, promote, remove, the leader itself too."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from rocinante.client import Client
from rocinante.errors import AlreadyExists, FailedPrecondition, NotFound, OutcomeUnknown, Unavailable
from tests.node.tools import RAN, Writers, log_since, log_size, others, put_entries, rest, wait_log
from tests.support.cluster import ADDRESS, Cluster


@pytest.fixture(scope="module")
def growing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The tests of this module are one story, told in order."""
    storage = {"compactEntries": 200, "keepEntries": 20}
    with Cluster(tmp_path_factory.mktemp("growing"), storage=storage) as cluster:
        cluster.start()
        yield cluster


def identity(cluster: Cluster, number: int) -> int:
    return int(str(cluster.status(number)["id"]), 16)


def members(cluster: Cluster, number: int) -> dict[str, str]:
    """As the node itself says: name → voter or learner."""
    rows = rest(cluster, number, "GET", "/v1/members").json["members"]
    return {row["name"]: "learner" if row["learner"] else "voter" for row in rows}


def wait_members(cluster: Cluster, expected: dict[str, str], numbers: list[int]) -> None:
    cluster.wait_until(
        lambda: all(members(cluster, number) == expected for number in numbers), f"{numbers} know {expected}"
    )


def change(cluster: Cluster, act: Callable[[Client], object], expected: dict[str, str], numbers: list[int]) -> None:
    """Ask for a change until these nodes know it: on a busy machine a leader may be lost in the middle of it."""

    def asked() -> bool:
        with Client([cluster.endpoint(number) for number in numbers]) as client:
            try:
                act(client)
            except (Unavailable, OutcomeUnknown, AlreadyExists, NotFound, FailedPrecondition):
                pass
        return members(cluster, numbers[0]) == expected

    cluster.wait_until(asked, f"the change to {expected}")
    wait_members(cluster, expected, numbers)


def test_a_node_joins_as_a_learner_and_catches_up(growing: Cluster) -> None:
    put_entries(growing, 500, prefix="members/before")
    node = growing.add()
    node.config = growing.directory / "with-node4.yaml"
    growing.write_config(node.config)
    node.arguments = ["--join"]
    growing.start(4)
    assert growing.status(4)["leader"] is None, "nobody knows it yet"
    expected = {"node1": "voter", "node2": "voter", "node3": "voter", "node4": "learner"}
    change(
        growing,
        lambda client: client.cluster.add(ADDRESS, node.grpc, name="node4", rest=node.rest),
        expected,
        [1, 2, 3],
    )
    wait_members(growing, expected, [4])
    with Client(growing.endpoints()) as client, pytest.raises(AlreadyExists):
        client.cluster.add(ADDRESS, node.grpc, name="node4", rest=node.rest)
    growing.wait_equal_digests()
    leader = growing.wait_leader()
    assert growing.status(4)["leader"] == growing.status(leader)["id"]
    assert growing.get(4, "members/before/000007") == "v", "a learner serves reads, linearizable ones too"
    growing.put(4, "members/through the learner", "v")


def test_a_learner_has_no_vote(growing: Cluster) -> None:
    leader = growing.wait_leader()
    first, second = (number for number in others(growing, leader, 4))
    growing.kill(first)
    growing.kill(second)
    growing.wait_until(lambda: growing.status(leader)["role"] != "leader", "the leader and a learner are no quorum")
    growing.start(first, second)
    growing.wait_leader()


def test_it_is_promoted_and_then_counts(growing: Cluster) -> None:
    leader = growing.wait_leader()
    with Client(growing.endpoints()) as client:
        with pytest.raises(FailedPrecondition, match="voter already"):
            client.cluster.promote(identity(growing, leader))
        with pytest.raises(NotFound):
            client.cluster.promote(12345)
    node4 = identity(growing, 4)
    expected = {f"node{number}": "voter" for number in (1, 2, 3, 4)}
    change(
        growing,
        lambda client: client.cluster.promote(node4),
        expected,
        [1, 2, 3, 4],
    )
    # Of four, three are a quorum: without one of the old ones it is needed.
    missing = others(growing, leader, 4)[0]
    growing.kill(missing)
    growing.wait_leader()
    growing.put(4, "members/counts", "v")
    growing.start(missing)


def test_a_follower_is_removed_under_writes_and_is_not_ready_from_then_on(growing: Cluster) -> None:
    leader = growing.wait_leader()
    removed = others(growing, leader, 4)[0]
    left = others(growing, removed)
    with Writers(growing, 2, prefix="members/removal") as writers:
        writers.wait_more(20)
        gone = identity(growing, removed)
        expected = {f"node{number}": "voter" for number in left}
        change(growing, lambda client: client.cluster.remove(gone), expected, left)
        writers.wait_more(20)
    growing.wait_until(lambda: growing.status(removed)["role"] == "not_ready", "the removed one takes no more part")
    assert "removed from the cluster" in str(growing.status(removed)["not_ready_reason"])
    assert rest(growing, removed, "PUT", "/v1/kv/x", b"v").status == 503
    # It is told so again when it is started again.
    offset = log_size(growing, removed)
    assert growing.stop(removed) == 0
    growing.start(removed, wait=False)
    wait_log(growing, removed, "was removed from the cluster", offset)
    growing.wait_until(lambda: growing.status(removed)["role"] == "not_ready", "it is not ready again")
    assert RAN not in log_since(growing, removed, offset), "and disturbs nobody"
    growing.kill(removed)
    del growing.nodes[removed]
    writers.check()


def test_the_leader_removes_itself_and_another_takes_over(growing: Cluster) -> None:
    leader = growing.wait_leader()
    left = others(growing, leader)
    with Writers(growing, 2, prefix="members/leader") as writers:
        writers.wait_more(20)
        gone = identity(growing, leader)
        expected = {f"node{number}": "voter" for number in left}
        change(growing, lambda client: client.cluster.remove(gone), expected, left)
        growing.wait_until(lambda: growing.status(leader)["role"] == "not_ready", "it is not ready")
        assert "removed from the cluster" in str(growing.status(leader)["not_ready_reason"])
        writers.wait_more(20)
    assert growing.stop(leader) == 0
    del growing.nodes[leader]
    writers.check()


def test_all_start_again_with_the_original_yaml_and_know_who_belongs_to_them(growing: Cluster) -> None:
    left = list(growing.nodes)
    for number in left:
        growing.kill(number)
    if 4 in growing.nodes:  # not where it led, and removed itself
        growing.nodes[4].arguments = []
    growing.start()
    growing.wait_leader()
    wait_members(growing, {f"node{number}": "voter" for number in left}, left)
    growing.put(4, "members/after", "v")
    growing.wait_equal_digests()
    for number in left:
        status = growing.status(number)
        assert [peer["name"] for peer in status["peers"]] == [f"node{o}" for o in left if o != number]  # type: ignore[attr-defined]


def test_the_last_voter_cannot_be_removed(growing: Cluster) -> None:
    first, last = growing.nodes
    gone = identity(growing, first)
    change(growing, lambda client: client.cluster.remove(gone), {f"node{last}": "voter"}, [last])
    growing.wait_until(lambda: growing.status(last)["role"] == "leader", "the one that is left leads")
    with Client(growing.endpoint(last), discover=False) as client, pytest.raises(FailedPrecondition):
        client.cluster.remove(identity(growing, last))
    assert growing.get(last, "members/after") == "v"
