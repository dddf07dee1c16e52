"""The contract of `Raft` with its caller: boots, errors, bounds, and that persist-before-send is really held."""

from __future__ import annotations

import ast
import sys
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

import rocinante.raft
from rocinante.raft import (
    Change,
    ChangeKind,
    Config,
    ConfigChange,
    Entry,
    EntryKind,
    FatalInconsistency,
    HardState,
    Message,
    MessageType,
    NotLeader,
    ProposalDropped,
    Raft,
    RaftOptions,
    ReadNotPossible,
    Role,
    RotationMode,
    SnapshotMeta,
)

from .harness import Cluster, check_persisted_before_send

THREE = SnapshotMeta(0, 0, Config(frozenset({1, 2, 3})))


def raft(**changes: Any) -> Raft:
    values: dict[str, Any] = {
        "hard_state": HardState(),
        "snapshot": THREE,
        "entries": (),
        "applied": 0,
        "random": Random(1),
        **changes,
    }
    options = values.pop("options", RaftOptions())
    return Raft(values.pop("node_id", 1), options, **values)


# --- boot -------------------------------------------------------------------------------------------------------


def test_a_node_boots_not_ready() -> None:
    node = raft()
    assert (node.role, node.role.public) == (Role.NOT_READY, "not_ready")
    node.set_ready()
    assert node.role is Role.FOLLOWER
    node.set_ready()
    assert not node.has_ready()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"hard_state": HardState(1), "entries": (Entry(1, 2, EntryKind.NORMAL, b""),)}, "stored term is 1"),
        ({"hard_state": HardState(1, 0, 4)}, "stored entries were lost"),
        ({"applied": 3}, "stored entries were lost"),
    ],
)
def test_what_a_disk_cannot_hold(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(FatalInconsistency, match=why):
        raft(**changes)


def test_an_id_of_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="node_id"):
        raft(node_id=0)


def test_changes_that_the_state_machine_holds_already_are_in_the_configuration() -> None:
    """`applied` may be ahead of the snapshot: those entries are not handed out again, so the core reads them itself."""
    cluster = Cluster([1])
    node = cluster.elect(1)
    node.raft.propose_change(ConfigChange((Change(ChangeKind.ADD_LEARNER, 2),)))
    cluster.turn(node)
    again = raft(
        hard_state=node.disk.hard_state, snapshot=node.disk.snapshot, entries=tuple(node.disk.entries), applied=2
    )
    assert again.config.learners == {2}
    assert not again.has_ready()


# --- requests ---------------------------------------------------------------------------------------------------


def test_a_follower_says_who_leads() -> None:
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    follower = cluster.nodes[2].raft
    with pytest.raises(NotLeader) as refused:
        follower.propose(b"x")
    assert refused.value.leader == 1
    with pytest.raises(NotLeader):
        follower.propose_change(ConfigChange((Change(ChangeKind.REMOVE, 3),)))
    with pytest.raises(NotLeader):
        follower.transfer(3)
    with pytest.raises(ReadNotPossible):
        follower.read_index(1)


def test_a_proposal_gets_the_place_where_it_is_applied() -> None:
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    places = [leader.raft.propose(b"%d" % number) for number in range(5)]
    cluster.stabilize()
    assert places == [(index, 1) for index in range(2, 7)]
    assert [(index, data) for (index, _), data in zip(places, (b"0", b"1", b"2", b"3", b"4"), strict=True)] == (
        cluster.nodes[3].machine.data
    )


def test_the_bytes_of_a_proposal_are_the_bytes_that_are_applied() -> None:
    cluster = Cluster([1, 2])
    leader = cluster.elect(1)
    data = b"never copied"
    leader.raft.propose(data)
    cluster.stabilize()
    assert all(node.machine.data[0][1] is data for node in cluster.nodes.values())


def test_pending_reads_are_bounded() -> None:
    cluster = Cluster([1, 2, 3], options=RaftOptions(max_pending_reads=2))
    leader = cluster.elect(1).raft
    leader.read_index(1)
    leader.read_index(2)
    with pytest.raises(ReadNotPossible, match="pending already"):
        leader.read_index(3)
    assert leader.status().pending_reads == 2
    cluster.stabilize()
    leader.read_index(3)
    assert sorted(read.context for read in cluster.nodes[1].reads) == [1, 2]


def test_a_removed_leader_gives_its_reads_back() -> None:
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    leader.raft.propose_change(ConfigChange((Change(ChangeKind.REMOVE, 1),)))
    leader.raft.read_index(7)
    cluster.stabilize([1])
    cluster.network.messages = [m for m in cluster.network.messages if m.type is not MessageType.HEARTBEAT]
    cluster.stabilize()
    assert leader.raft.role is Role.FOLLOWER
    assert leader.failed_reads == [7]


# --- duties -----------------------------------------------------------------------------------------------------


def test_nothing_is_left_after_ready() -> None:
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1).raft
    leader.propose(b"x")
    leader.read_index(1)
    leader.tick()
    assert leader.has_ready()
    leader.ready()
    assert not leader.has_ready()


def test_what_was_not_made_cannot_be_persisted() -> None:
    node = raft(ready=True)
    with pytest.raises(FatalInconsistency, match="Ready 1"):
        node.persisted(1)
    number = node.ready().number
    node.persisted(number)
    node.persisted(number)  # again does no harm


def test_one_acknowledgement_covers_all_writes_before_it() -> None:
    cluster = Cluster([1])
    node = cluster.elect(1).raft
    numbers = []
    for data in (b"a", b"b", b"c"):
        node.propose(data)
        numbers.append(node.ready().number)
    node.persisted(numbers[1])
    assert node.log.commit == 3
    node.persisted(numbers[2])
    assert node.log.commit == 4
    assert [entry.data for entry in node.ready().committed] == [b"a", b"b", b"c"]


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (MessageType.VOTE, {}),
        (MessageType.VOTE_RESPONSE, {}),
        (MessageType.APPEND_RESPONSE, {"log_index": 1}),
        (MessageType.APPEND, {}),
        (MessageType.HEARTBEAT, {}),
    ],
)
def test_the_harness_objects_to_what_is_sent_before_it_is_on_disk(kind: MessageType, fields: dict[str, Any]) -> None:
    node = Cluster([1, 2]).nodes[1]
    with pytest.raises(AssertionError, match=kind.name):
        check_persisted_before_send(node, Message(kind, 2, 1, 1, **fields))


@pytest.mark.parametrize("kind", [MessageType.VOTE, MessageType.APPEND])
def test_what_promises_durability_waits_for_the_disk(kind: MessageType) -> None:
    node = raft(ready=True)
    fields: dict[str, Any] = {}
    if kind is MessageType.APPEND:
        fields = {"entries": (Entry(1, 4, EntryKind.NORMAL, b"x"),)}
    node.step(Message(kind, 1, 2, 4, **fields))
    ready = node.ready()
    assert ready.must_persist
    assert ready.hard_state is not None
    assert ready.hard_state.term == 4
    assert ready.messages == []
    assert [message.reject for message in ready.messages_after_persist] == [False]


def test_a_leader_sends_before_its_own_disk_has_written() -> None:
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1).raft
    leader.propose(b"x")
    ready = leader.ready()
    assert [message.type for message in ready.messages] == [MessageType.APPEND] * 2
    assert ready.must_persist
    assert leader.status().persisted == 1


# --- what nobody may do: the last line of defence ---------------------------------------------------------------


def test_only_a_candidate_becomes_leader() -> None:
    node = raft(ready=True)
    with pytest.raises(FatalInconsistency, match="a follower cannot become leader"):
        node.become_leader()
    assert node.role is Role.FOLLOWER


def test_a_term_never_falls() -> None:
    node = raft(ready=True, hard_state=HardState(term=7))
    with pytest.raises(FatalInconsistency, match="would fall from 7 to 6"):
        node.become_follower(6, 0)
    assert node.term == 7


def test_a_node_that_is_not_ready_is_never_given_a_message() -> None:
    with pytest.raises(FatalInconsistency, match="not ready was given"):
        raft().behaviour.step(Message(MessageType.HEARTBEAT, 1, 2, 1))


def test_only_a_change_is_applied_as_one() -> None:
    cluster = Cluster([1])
    node = cluster.elect(1)
    node.raft.propose_change(ConfigChange((Change(ChangeKind.ADD_LEARNER, 2),)))
    node.process()
    node.persist()
    [entry] = node.raft.ready().committed
    with pytest.raises(FatalInconsistency, match="is not a membership change"):
        node.raft.apply_change(entry._replace(kind=EntryKind.NORMAL))


# --- time and chance --------------------------------------------------------------------------------------------


def test_election_timeouts_are_drawn_from_the_whole_range() -> None:
    node = raft(options=RaftOptions(election_ticks=10))
    seen = set()
    for _ in range(400):
        node.set_ready()
        seen.add(node.timeout)
        node.set_not_ready()
    assert seen == set(range(10, 20))


def test_turns_are_drawn_from_the_whole_range() -> None:
    options = RaftOptions(rotation=RotationMode.TRANSFER, rotation_min_ticks=5, rotation_max_ticks=9)
    seen = set()
    for seed in range(60):
        cluster = Cluster([1], options=options, seed=seed)
        seen.add(cluster.elect(1).raft.status().rotation.turn_left_ticks)
    assert seen == {5, 6, 7, 8, 9}


def test_other_options_are_adopted_at_run_time() -> None:
    cluster = Cluster([1, 2, 3], options=RaftOptions(election_ticks=10, heartbeat_ticks=2))
    leader, follower = cluster.elect(1).raft, cluster.nodes[2].raft
    assert leader.status().rotation.turn_left_ticks == 0
    slower = RaftOptions(election_ticks=100, heartbeat_ticks=2)
    follower.adopt_options(slower)
    assert 100 <= follower.timeout < 200
    timeout = follower.timeout
    follower.adopt_options(slower)
    assert follower.timeout == timeout, "what is the same is not drawn again"
    turns = RaftOptions(rotation=RotationMode.TRANSFER, rotation_min_ticks=5, rotation_max_ticks=9)
    leader.adopt_options(turns)
    left = leader.status().rotation.turn_left_ticks
    assert 5 <= left <= 9
    leader.adopt_options(replace(turns, max_pending_reads=turns.max_pending_reads + 1))
    assert leader.status().rotation.turn_left_ticks == left, "the turn under way goes on"
    leader.adopt_options(RaftOptions())
    assert leader.status().rotation.turn_left_ticks == 0
    leader.tick()
    assert leader.role is Role.LEADER


@pytest.mark.parametrize("mode", [RotationMode.DELAY_HEARTBEATS, RotationMode.TRANSFER])
@pytest.mark.parametrize("size", [2, 3, 5])
def test_everybody_leads_in_the_course_of_time(mode: RotationMode, size: int) -> None:
    options = RaftOptions(rotation=mode, rotation_min_ticks=20, rotation_max_ticks=40, rotation_margin_ticks=3)
    cluster = Cluster(range(1, size + 1), options=options, seed=3)
    accepted = 0
    for _ in range(800):
        cluster.tick()
        leader = cluster.leader
        if leader is not None:
            try:
                leader.raft.propose(b"x")
            except ProposalDropped:
                continue
            accepted += 1
    assert set(cluster.oracle.leaders.values()) == set(cluster.nodes)
    assert accepted > 300
    assert len({node.machine.index for node in cluster.nodes.values()}) <= 2


def test_one_node_alone_does_not_rotate() -> None:
    options = RaftOptions(rotation=RotationMode.DELAY_HEARTBEATS, rotation_min_ticks=5, rotation_max_ticks=5)
    cluster = Cluster([1], options=options)
    leader = cluster.elect(1).raft
    for _ in range(100):
        cluster.tick()
        leader.propose(b"x")
    assert leader.term == 1


# --- the house --------------------------------------------------------------------------------------------------

PURE = {
    "__future__",
    "abc",
    "bisect",
    "collections",
    "dataclasses",
    "enum",
    "itertools",
    "operator",
    "random",
    "struct",
}


def test_the_core_is_pure() -> None:
    """No clock, thread, socket, file; of `random` only the type of what is injected; nothing of ours but itself."""
    package = Path(rocinante.raft.__file__).parent
    for path in sorted(package.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                assert node.module is not None
                assert node.module.split(".")[0] in PURE | {"typing"}, f"{path.name} imports {node.module}"
                if node.module == "random":
                    assert [name.name for name in node.names] == ["Random"], f"{path.name} uses the global random"
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 1, f"{path.name} imports from outside of raft/"
            elif isinstance(node, ast.Import):
                names = {name.name.split(".")[0] for name in node.names}
                assert names <= PURE - {"random"}, f"{path.name} imports {names}"
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("open", "print", "input", "exec", "eval"), f"{path.name}: {node.func.id}"
    assert {module for module in PURE if module not in sys.stdlib_module_names} <= {"__future__"}
