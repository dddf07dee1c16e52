"""Hostile peers of a real node, whose threads the test turns by hand: any well-formed message with any content.

`targets/peers.py` says who may end a node, and who may not.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocinante import limits
from rocinante.node.directory import encode_members
from rocinante.pb.v1 import peer_pb2 as pb
from rocinante.ports import Member
from rocinante.raft.membership import encode_change
from rocinante.raft.types import Change, ChangeKind, Config, ConfigChange, FatalInconsistency, MessageType
from rocinante.state import command
from rocinante.version import PROTOCOL_VERSION
from tests.fuzz.hand_driven import HandDriven, Refused
from tests.fuzz.runs import examples
from tests.fuzz.samples import CLUSTER, NODE, PEER, THIRD, commands, hello, raft_message
from tests.fuzz.strategies import EDGES, Known, messages
from tests.fuzz.targets.peers import LIES, LIVES
from tests.fuzz.targets.storage import change_seeds

IDS = st.sampled_from([NODE, PEER, THIRD, 0, 1])
SMALL = st.integers(0, 5)
KNOWN: Known = {
    "rocinante.v1.Hello.cluster_id": st.just(CLUSTER),
    "rocinante.v1.Hello.sender": st.just(PEER),
    "rocinante.v1.Hello.to": st.just(NODE),
    "rocinante.v1.Hello.protocol_version": st.just(PROTOCOL_VERSION),
    "rocinante.v1.RaftMessage.type": st.integers(1, 10),
    "rocinante.v1.RaftMessage.to": st.just(NODE),
    "rocinante.v1.RaftMessage.sender": st.just(PEER),
    "rocinante.v1.RaftMessage.term": SMALL,
    "rocinante.v1.RaftMessage.log_index": SMALL,
    "rocinante.v1.RaftMessage.log_term": SMALL,
    "rocinante.v1.RaftMessage.commit": SMALL,
    "rocinante.v1.RaftMessage.hint_index": SMALL,
    "rocinante.v1.RaftMessage.hint_term": SMALL,
    "rocinante.v1.LogEntryFrame.index": SMALL,
    "rocinante.v1.LogEntryFrame.term": SMALL,
    "rocinante.v1.LogEntryFrame.kind": st.integers(0, 1),
    "rocinante.v1.LogEntryFrame.data": st.sampled_from(
        [b"", *change_seeds(), *(command.pack([item]) for item in commands())]
    ),
    "rocinante.v1.Forward.commands": st.sampled_from(commands()),
    "rocinante.v1.NodeInfo.role": st.sampled_from(["follower", "leader", "candidate", "not_ready"]),
    "rocinante.v1.TransferRequest.to": IDS,
}
MESSAGES = messages(pb.PeerMessage, KNOWN)
NUMBERS = st.sampled_from(EDGES) | SMALL


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def lie(error: FatalInconsistency) -> bool:
    return any(each in str(error) for each in LIES)


def survives(node: HandDriven, batches: list[bytes]) -> None:
    """One stream after the other; a node that was lied to may end, all others serve in the end."""
    for batch in batches:
        try:
            node.receive(batch)
        except Refused:
            continue
        except FatalInconsistency as error:
            if not lie(error):
                raise
            node.check_durable()
            return
    node.check_durable()
    node.check_serves()


@settings(examples(120))
@given(life=st.sampled_from(LIVES), streams=st.lists(st.lists(MESSAGES, max_size=4), max_size=4))
def test_streams_of_a_member(life: type[HandDriven], streams: list[list[pb.PeerMessage]]) -> None:
    with life() as node:
        survives(node, [pb.PeerBatch(hello=hello(), messages=each).SerializeToString() for each in streams])


@settings(examples(50))
@given(life=st.sampled_from(LIVES), batch=messages(pb.PeerBatch, KNOWN))
def test_streams_of_anybody(life: type[HandDriven], batch: pb.PeerBatch) -> None:
    with life() as node:
        survives(node, [batch.SerializeToString()])


@st.composite
def appends(draw: st.DrawFn) -> pb.PeerMessage:
    """What a leader would send, but for its numbers and contents: entries that follow on one another, of rising
    terms."""
    start, term, log_term = draw(SMALL), draw(st.integers(2, 4)), draw(st.integers(0, 3))
    entries, last = [], log_term
    for at in range(draw(st.integers(0, 4))):
        last = draw(st.integers(last, max(last, term)))
        kind = draw(st.integers(0, 1))
        data: bytes = draw(KNOWN["rocinante.v1.LogEntryFrame.data"] | st.binary(max_size=40))
        entries.append(pb.LogEntryFrame(index=start + 1 + at, term=last, kind=kind, data=data))
    return raft_message(
        MessageType.APPEND, term=term, log_index=start, log_term=log_term, entries=entries, commit=draw(NUMBERS)
    )


@settings(examples(150))
@given(life=st.sampled_from(LIVES), sent=st.lists(appends() | MESSAGES, max_size=6))
def test_a_leader_that_appends_anything(life: type[HandDriven], sent: list[pb.PeerMessage]) -> None:
    with life() as node:
        survives(node, [pb.PeerBatch(hello=hello(), messages=[message]).SerializeToString() for message in sent])


@pytest.mark.parametrize("life", LIVES, ids=["follower", "leader", "without a leader"])
@pytest.mark.parametrize("kind", [kind for kind in MessageType if kind is not MessageType.SNAPSHOT])
@pytest.mark.parametrize("field", ["term", "log_index", "log_term", "commit", "hint_index", "hint_term", "context"])
@pytest.mark.parametrize("number", [2**63 - 1, 2**64 - 1])
def test_one_absurd_number(life: type[HandDriven], kind: MessageType, field: str, number: int) -> None:
    """In a message that is right otherwise; also as a vote that breaks leases."""
    fields = {"term": 3, "log_index": 9, "log_term": 2, field: number}
    for force in (False, True):
        message = raft_message(kind, **fields, force=force)
        with life() as node:
            survives(node, [pb.PeerBatch(hello=hello(), messages=[message]).SerializeToString()])


BAD_CONFIGS: dict[str, bytes] = {
    "noise": b"no change at all",
    "nothing": b"",
    "a context that is no list of members": encode_change(
        ConfigChange((Change(ChangeKind.ADD_LEARNER, 7),), context=b"{}"), Config(frozenset({NODE, PEER, THIRD}))
    ),
    "a member without a port": encode_change(
        ConfigChange((Change(ChangeKind.ADD_LEARNER, 7),), context=b'[{"address": "127.0.0.1"}]')
    ),
    "a member whose name is a number": encode_change(
        ConfigChange(
            (Change(ChangeKind.ADD_LEARNER, 7),),
            context=encode_members([Member(0, "x", "127.0.0.1", 1, 1)]).replace(b'"x"', b"5"),
        )
    ),
    "a member at an absurd port": encode_change(
        ConfigChange(
            (Change(ChangeKind.ADD_LEARNER, 7),), context=encode_members([Member(0, "x", "127.0.0.1", 10**9, 1)])
        )
    ),
}


@pytest.mark.parametrize("data", BAD_CONFIGS.values(), ids=BAD_CONFIGS)
def test_a_membership_change_that_cannot_be_read_is_refused_at_the_door(data: bytes) -> None:
    """In the log it would end every node that has it, and again at each start."""
    entry = pb.LogEntryFrame(index=4, term=2, kind=1, data=data)
    message = raft_message(MessageType.APPEND, log_index=3, log_term=2, entries=[entry], commit=4)
    with HandDriven.follower() as node:
        with pytest.raises(Refused, match="entries"):
            node.feed(message)
        assert node.core.log.last_index == 3
        node.check_serves()


FORWARDS: dict[str, list[bytes]] = {
    "a command that is none": [b"short"],
    "an empty command": [b""],
    "more commands than an entry takes": [commands()[0]] * (limits.ENTRY_COMMANDS_MAX + 1),
    "more bytes than any request has": [bytes(limits.COMMAND_BYTES_MAX + 1)],
    "two that together are larger than an entry": [bytes(limits.ENTRY_BYTES_MAX // 2 + 1)] * 2,
}


@pytest.mark.parametrize("forwarded", FORWARDS.values(), ids=FORWARDS)
def test_a_forward_that_no_node_makes_is_refused(forwarded: list[bytes]) -> None:
    """An entry larger than a message to a peer could never be replicated: the cluster would stand still for good."""
    with HandDriven.leader() as node:
        before = node.core.log.last_index
        with pytest.raises(Refused, match="commands"):
            node.feed(pb.PeerMessage(forward=pb.Forward(commands=forwarded, number=1)))
        assert node.core.log.last_index == before


INFOS: dict[str, dict[str, object]] = {
    "a role that is none": {"role": "emperor"},
    "a version that is a book": {"role": "leader", "version": "x" * 100_000},
}


@pytest.mark.parametrize("fields", INFOS.values(), ids=INFOS)
def test_what_a_peer_says_of_itself_is_bounded(fields: dict[str, object]) -> None:
    with HandDriven.leader() as node, pytest.raises(Refused, match="info"):
        node.feed(pb.PeerMessage(info=pb.NodeInfo(**fields)))  # type: ignore[arg-type]
