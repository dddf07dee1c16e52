"""What a client is told about a command whose way is not certain (node/pending.py, node/proposing.py)."""

from __future__ import annotations

import time

import pytest

from rocinante.errors import OutcomeUnknown, SessionExpired, Unavailable
from rocinante.node.pending import Pending
from rocinante.node.proposing import Proposer
from rocinante.node.requests import Ingress, Proposal, Read, WaitingReads
from rocinante.pb.v1 import peer_pb2 as pb
from rocinante.ports import SessionRef
from rocinante.state.command import Kind
from tests.raft.harness import Cluster


class Waiting:
    """A node's commands that wait, and a core that it can give them to: 1 of three, which leads or follows."""

    def __init__(self, leader: int = 1) -> None:
        self.cluster = Cluster([1, 2, 3])
        self.cluster.elect(leader)
        self.core = self.cluster.nodes[1].raft
        self.ingress = Ingress(proposals_max=100, bytes_max=1 << 20)
        self.again: list[Proposal] = []
        self.pending = Pending(self.ingress, self.again.append)
        self.frames: list[tuple[int, pb.PeerMessage]] = []
        self.proposer = Proposer(self.core, self.pending, self._send)

    def hand_over(self, to: int) -> None:
        """Another leads, in another term."""
        leader = self.cluster.leader
        assert leader is not None
        leader.raft.transfer(to)
        self.cluster.stabilize()

    def _send(self, to: int, frame: pb.PeerMessage, *, urgent: bool = False) -> bool:
        self.frames.append((to, frame))
        return True

    def add(self, *, session: SessionRef | None = None, kind: Kind = Kind.KV_PUT) -> Proposal:
        proposal = self.pending.add(kind, b"body", session, time.monotonic() + 60)
        self.pending.gateway.open = True
        self.proposer.take(self.ingress.take().proposals)
        return proposal


def test_what_was_never_tried_has_certainly_not_happened() -> None:
    waiting = Waiting()
    proposal = waiting.add()
    waiting.pending.give_up(proposal)
    assert isinstance(proposal.future.exception(0), Unavailable)


def test_what_was_tried_may_have_happened() -> None:
    waiting = Waiting()
    proposal = waiting.add()
    waiting.proposer.run()
    assert proposal.tries == 1
    waiting.pending.give_up(proposal)
    assert isinstance(proposal.future.exception(0), OutcomeUnknown)


@pytest.mark.parametrize("leader", [1, 2])
def test_a_change_of_leader_is_no_answer_but_another_try(leader: int) -> None:
    waiting = Waiting(leader)
    proposal = waiting.add()
    waiting.proposer.run()
    waiting.hand_over(3)
    waiting.proposer.run()
    assert not proposal.future.done()
    assert proposal.tries == 2
    assert waiting.frames[-1][0] == 3
    assert list(waiting.frames[-1][1].forward.commands) == [proposal.command]


def test_a_refusal_takes_back_only_the_try_that_was_refused() -> None:
    """The other one may be in the log."""
    waiting = Waiting(leader=2)
    proposal = waiting.add()
    waiting.proposer.run()
    waiting.hand_over(3)
    waiting.proposer.run()
    number = waiting.frames[-1][1].forward.number
    waiting.proposer.take_dropped(pb.ForwardDropped(number=number, reason="full", exhausted=True))
    assert proposal.tries == 1
    waiting.pending.give_up(proposal)
    assert isinstance(proposal.future.exception(0), OutcomeUnknown)


@pytest.mark.parametrize(("tries", "again"), [(1, True), (2, False)])
def test_a_command_of_an_ended_gateway_session_gets_a_new_name_only_if_it_was_tried_once(
    tries: int, again: bool
) -> None:
    """Tried twice, the first may have been applied before the session ended."""
    waiting = Waiting()
    proposal = waiting.add()
    proposal.tries = tries
    waiting.pending.resolve(7, 1, [(proposal.session, proposal.seq, SessionExpired("it ended"))])
    assert bool(waiting.again) is again
    if not again:
        assert isinstance(proposal.future.exception(0), OutcomeUnknown)


@pytest.mark.parametrize("leader", [1, 2])
@pytest.mark.parametrize("session", [None, SessionRef(5, 0)], ids=["the node's own", "a client's"])
def test_a_session_is_opened_under_its_id_once_at_most(leader: int, session: SessionRef | None) -> None:
    """A second OPEN may come when the session was used and closed: what is repeated under it would be new then."""
    waiting = Waiting(leader)
    proposal = waiting.add(session=session, kind=Kind.SESSION_OPEN)
    waiting.proposer.run()
    placed = len(waiting.frames), waiting.core.log.last_index
    waiting.hand_over(3)
    waiting.proposer.run()
    assert isinstance(proposal.future.exception(0), OutcomeUnknown)
    assert waiting.frames[placed[0] :] == []
    assert not waiting.pending.outstanding()


def test_an_opening_that_was_refused_is_tried_again() -> None:
    """Nobody has it in a log."""
    waiting = Waiting(leader=2)
    proposal = waiting.add(session=SessionRef(5, 0), kind=Kind.SESSION_OPEN)
    waiting.proposer.run()
    number = waiting.frames[-1][1].forward.number
    waiting.proposer.take_dropped(pb.ForwardDropped(number=number, reason="rotating"))
    waiting.hand_over(3)
    waiting.proposer.run()
    assert waiting.frames[-1][0] == 3
    assert list(waiting.frames[-1][1].forward.commands) == [proposal.command]


def test_what_waits_for_a_gateway_that_was_given_up_goes_under_the_next() -> None:
    waiting = Waiting()
    proposal = waiting.pending.add(Kind.KV_PUT, b"body", None, time.monotonic() + 60)
    waiting.proposer.take(waiting.ingress.take().proposals)
    waiting.pending.reopen_gateway()
    waiting.pending.gateway.open = True
    waiting.proposer.gateway_opened()
    (renamed,) = waiting.ingress.take().proposals
    assert (renamed.session, renamed.seq) == (waiting.pending.gateway.session, 1)
    assert renamed.future is proposal.future
    assert [item.key for item in waiting.pending.outstanding()] == [renamed.key]


def test_a_clients_own_session_is_never_renamed() -> None:
    waiting = Waiting()
    proposal = waiting.add(session=SessionRef(5, 1, 1))
    proposal.tries = 1
    waiting.pending.resolve(7, 1, [(5, 1, SessionExpired("it ended"))])
    assert not waiting.again
    assert isinstance(proposal.future.exception(0), SessionExpired)


def test_a_read_waits_until_its_point_is_applied() -> None:
    waiting = WaitingReads()
    reads = [Read(time.monotonic() + 60, Waiting().add().future)]  # type: ignore[arg-type]  # any future does
    assert waiting.add(5, reads, applied=4) == []
    assert waiting.applied(4) == []
    assert waiting.applied(5) == reads
    assert waiting.add(5, reads, applied=5) == reads
