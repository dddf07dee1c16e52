"""When a node that lost its data may vote again (node/recovery.py), rule by rule: a real core, and what peers say."""

from __future__ import annotations

from pathlib import Path

import pytest

from rocinante.node.recovery import Marker, Recovery
from rocinante.pb.v1 import peer_pb2 as pb
from rocinante.raft import Message, MessageType
from tests.raft.harness import Cluster, Disk, Node


class Wiped:
    """Node 3 of a cluster that 1 leads, after its disk was lost: it starts from the bootstrap snapshot at 1."""

    def __init__(self, path: Path, size: int = 3) -> None:
        self.cluster = Cluster(range(1, size + 1), index=1)
        self.leader = self.cluster.elect(1)
        for data in (b"a", b"b", b"c"):
            self.leader.raft.propose(data)
        self.cluster.stabilize()
        lost = self.cluster.nodes[3].disk
        self.cluster.nodes[3].disk = Disk(snapshot=lost.snapshot._replace(), content=lost.content)
        self.cluster.nodes[3].disk.hard_state = lost.hard_state._replace(term=1, vote=0, commit=1)
        self.node: Node = self.cluster.restart(3)
        self.marker = Marker(path / "CATCHING-UP")
        self.marker.set()
        self.recovery = Recovery(self.node.raft, self.marker, active=True, on_done=lambda: None)

    def withholds(self) -> bool:
        """Whether it holds its vote back."""
        return self.recovery.active

    def hears(self, *peers: int, term: int = 0, last_index: int = 0) -> None:
        """What these say of themselves, or something else."""
        for peer in peers:
            core = self.cluster.nodes[peer].raft
            log = core.log
            info = pb.NodeInfo(term=term or core.term, commit=log.commit, last_index=last_index or log.last_index)
            self.recovery.heard(peer, info)

    def follows(self) -> None:
        """The leader finds out, and brings everything."""
        self.leader.raft.peer_lost_its_log(3, self.node.raft.log.last_index)
        self.cluster.tick(2)
        self.recovery.check()


@pytest.fixture
def wiped(tmp_path: Path) -> Wiped:
    return Wiped(tmp_path)


@pytest.mark.parametrize("kind", [MessageType.VOTE, MessageType.PRE_VOTE, MessageType.TIMEOUT_NOW])
def test_it_gives_no_vote_and_does_not_run(wiped: Wiped, kind: MessageType) -> None:
    assert not wiped.recovery.admits(Message(kind, 3, 2, 9))
    assert wiped.recovery.withheld == 1


def test_it_takes_entries_and_believes_no_commit_index_that_it_does_not_hold(wiped: Wiped) -> None:
    assert wiped.recovery.admits(Message(MessageType.APPEND, 3, 1, 2))
    heartbeat = Message(MessageType.HEARTBEAT, 3, 1, 2, commit=5)
    assert wiped.recovery.admits(heartbeat)
    assert heartbeat.commit == 1


def test_it_votes_again_once_it_has_what_was_committed(wiped: Wiped) -> None:
    wiped.hears(1, 2)
    assert wiped.withholds()
    wiped.follows()
    assert wiped.node.raft.log.applied == wiped.leader.raft.log.commit
    assert not wiped.withholds()
    assert wiped.recovery.admits(Message(MessageType.VOTE, 3, 2, 9))


def test_it_waits_for_all_that_the_leader_had_when_it_asked(wiped: Wiped) -> None:
    """An acknowledgement of its former life may be on its way, and commit that."""
    last = wiped.leader.raft.log.last_index
    wiped.follows()
    wiped.hears(2)
    wiped.hears(1, last_index=last + 2)
    assert wiped.withholds()
    wiped.leader.raft.propose(b"d")
    wiped.cluster.tick()
    wiped.recovery.check()
    assert wiped.withholds()
    wiped.leader.raft.propose(b"e")
    wiped.cluster.tick()
    wiped.recovery.check()
    assert not wiped.withholds()


@pytest.mark.parametrize(("peers", "enough"), [((1,), False), ((1, 2), False), ((1, 2, 4), True)])
def test_it_asks_so_many_that_one_of_them_was_in_every_quorum(
    tmp_path: Path, peers: tuple[int, ...], enough: bool
) -> None:
    wiped = Wiped(tmp_path, size=5)
    wiped.hears(*peers)
    wiped.follows()
    assert wiped.withholds() is not enough


def test_it_waits_for_the_highest_term_that_it_heard_of(wiped: Wiped) -> None:
    wiped.hears(1)
    wiped.hears(2, term=9)
    wiped.follows()
    assert wiped.withholds()


def test_the_vote_of_the_term_in_which_it_catches_up_is_the_leaders(wiped: Wiped) -> None:
    """It may have given it away before; a restart before that is durable must not make it forget again."""
    wiped.hears(1, 2)
    wiped.follows()
    assert wiped.node.raft.vote == 1
    assert wiped.marker.exists()
    wiped.cluster.turn(wiped.node)
    wiped.recovery.check()
    assert not wiped.marker.exists()
    wiped.cluster.restart(3)
    assert wiped.cluster.nodes[3].raft.vote == 1


def test_a_majority_of_new_nodes_is_a_new_cluster(tmp_path: Path) -> None:
    cluster = Cluster([1, 2, 3], index=1)
    recovery = Recovery(cluster.nodes[1].raft, Marker(tmp_path / "CATCHING-UP"), active=True, on_done=lambda: None)
    assert recovery.active
    recovery.heard(2, pb.NodeInfo(term=1, last_index=1, commit=1))
    assert not recovery.active


BASE = (1_000_000_028, 3)
"""Index and term of the snapshot that a cluster was restored from."""


def restored(tmp_path: Path) -> Recovery:
    """Node 1 of three, restored, and with no more than the snapshot."""
    marker = Marker(tmp_path / "CATCHING-UP")
    marker.set(BASE)
    node = Cluster([1, 2, 3], index=BASE[0]).nodes[1]
    return Recovery(node.raft, marker, active=True, on_done=lambda: None, base=marker.base())


def test_a_majority_of_restored_nodes_is_a_new_cluster(tmp_path: Path) -> None:
    recovery = restored(tmp_path)
    recovery.heard(2, pb.NodeInfo(term=BASE[1], last_index=BASE[0], commit=BASE[0]))
    assert (recovery.active, (tmp_path / "CATCHING-UP").exists()) == (False, False)


@pytest.mark.parametrize(("entries", "terms"), [(1, 0), (0, 1), (5, 2)])
def test_a_node_that_is_restored_again_when_the_others_went_on_holds_back_its_vote(
    tmp_path: Path, entries: int, terms: int
) -> None:
    """Its former life under the same lineage may have voted, and acknowledged."""
    recovery = restored(tmp_path)
    recovery.heard(2, pb.NodeInfo(term=BASE[1] + terms, last_index=BASE[0] + entries, commit=BASE[0]))
    assert recovery.active


def test_the_marker_of_an_older_version_is_of_a_cluster_that_began_with_nothing(tmp_path: Path) -> None:
    path = tmp_path / "CATCHING-UP"
    assert Marker(path).base() == (1, 1)
    path.write_text("this node started without data and has not caught up with its cluster yet\n")
    assert Marker(path).base() == (1, 1)
    Marker(path).set(BASE)
    assert Marker(path).base() == BASE
