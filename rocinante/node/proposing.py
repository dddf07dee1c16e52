"""How the driver gets proposals into the leader's log, wherever the leader is.

A leader packs all that waits into one entry; a follower forwards it, in one frame, to the leader. What cannot be
placed waits until its deadline. What was placed but not applied is proposed again when the leader or the term
changes, or when a forward seems lost: the state machine applies each command at most once (state/command.py), as long
as it knows the session. Hence what opens one is not proposed again: who asked for it opens another.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from rocinante import limits
from rocinante.node.pending import Pending
from rocinante.node.requests import Proposal
from rocinante.pb.v1 import peer_pb2 as pb
from rocinante.raft.core import Raft
from rocinante.raft.types import NONE, ProposalDropped, Role
from rocinante.state import command


class FrameSender(Protocol):
    def __call__(self, to: int, frame: pb.PeerMessage, *, urgent: bool = False) -> bool: ...


class Proposer:
    """See the module. Only the driver calls."""

    def __init__(
        self, core: Raft, pending: Pending, send_frame: FrameSender, alarm: Callable[[], str] = lambda: ""
    ) -> None:
        """`alarm`: why this node's disk takes no more writes, or ""."""
        self._core = core
        self._pending = pending
        self._send_frame = send_frame
        self._alarm = alarm
        self._waiting: deque[Proposal] = deque()
        self._waiting_bytes = 0
        self._held: list[Proposal] = []
        """Waiting for the gateway session."""
        self._forwards: dict[int, list[Proposal]] = {}
        self._forward_number = random.SystemRandom().getrandbits(48)
        """Not from 0: a refusal meant for this node's former life must not be taken for one of this life."""
        self._place = (0, NONE)
        """(term, leader) that the outstanding proposals were given to."""
        self._retry_at = 0.0
        self._pause_until = 0.0
        """After a refusal: not again at once, or leader and follower would play ping-pong."""
        self.entries = 0
        self.forwarded = 0
        self.retried = 0
        self.dropped = 0

    @property
    def waiting(self) -> int:
        return len(self._waiting) + len(self._held)

    def take(self, proposals: list[Proposal]) -> None:
        gateway = self._pending.gateway
        for proposal in proposals:
            if proposal.gateway and proposal.seq and not gateway.open:
                proposal.refused = "no leader is known"
                self._held.append(proposal)
            else:
                self._waiting.append(proposal)
                self._waiting_bytes += len(proposal.frame)

    def _put_first(self, proposals: list[Proposal]) -> None:
        self._waiting.extendleft(reversed(proposals))
        self._waiting_bytes += sum(len(proposal.frame) for proposal in proposals)

    def gateway_opened(self) -> None:
        held, self._held = self._held, []
        mine = self._pending.gateway.session
        self._put_first([proposal for proposal in held if proposal.session == mine])
        for proposal in held:
            if proposal.session != mine:
                self._pending.rename_untried(proposal)

    def run(self) -> None:
        """Place what waits."""
        core = self._core
        place = (core.term, core.leader)
        if place != self._place:
            self._place = place
            self._pause_until = 0.0
            self._forwards.clear()
            if core.leader != NONE:
                self._propose_again()
        if not self._waiting or time.monotonic() < self._pause_until:
            return
        if core.leader == NONE:
            self._refuse("there is no leader at the moment")
        elif core.role is Role.LEADER:
            self._append()
        else:
            self._forward(core.leader)

    def _refuse(self, reason: str, *, exhausted: bool = False) -> None:
        for proposal in self._waiting:
            proposal.refused, proposal.exhausted = reason, exhausted

    def _propose_again(self) -> None:
        """A new leader or term: nobody knows whether what was placed before survives, so place it again."""
        waiting = {id(proposal) for proposal in self._waiting} | {id(proposal) for proposal in self._held}
        again: list[Proposal] = []
        for item in self._pending.outstanding():
            if not item.tries or id(item) in waiting:
                continue
            if item.once:
                self._pending.give_up(item, "the leader changed")  # who asked opens another session
            else:
                again.append(item)
        self.retried += len(again)
        self._put_first(again)
        self._retry_at = time.monotonic() + limits.FORWARD_RETRY_S

    def _batch(self) -> list[Proposal]:
        """The next proposals that fit one entry; those that were given up meanwhile are dropped."""
        batch: list[Proposal] = []
        size = 0
        while self._waiting and len(batch) < limits.ENTRY_COMMANDS_MAX:
            proposal = self._waiting[0]
            size += len(proposal.frame)
            if batch and size > limits.ENTRY_BYTES_MAX:
                break
            self._waiting.popleft()
            self._waiting_bytes -= len(proposal.frame)
            if not proposal.future.done():
                batch.append(proposal)
        return batch

    def _gathering(self, under_way: int, most: int) -> bool:
        """Group commit: with enough under way, what is little waits for more; an answer brings the next turn."""
        return under_way >= most and self._waiting_bytes < limits.GROUP_BYTES

    def _forwards_under_way(self) -> int:
        """Those that have no outcome yet."""
        for number in [at for at, batch in self._forwards.items() if batch[-1].future.done()]:
            del self._forwards[number]
        return len(self._forwards)

    def _append(self) -> None:
        log = self._core.log
        while not self._gathering(log.last_index - log.commit, limits.GROUP_ENTRIES) and (batch := self._batch()):
            try:
                self._core.propose(b"".join([proposal.frame for proposal in batch]))
            except ProposalDropped as error:
                self._pause_until = time.monotonic() + limits.REFUSED_PAUSE_S
                self._put_first(batch)
                self._refuse(
                    f"the leader takes no writes at the moment: {error.reason}", exhausted="bytes" in error.reason
                )
                return
            self.entries += 1
            for proposal in batch:
                proposal.tries += 1

    def _forward(self, leader: int) -> None:
        while not self._gathering(self._forwards_under_way(), limits.GROUP_FORWARDS) and (batch := self._batch()):
            commands = [proposal.command for proposal in batch]
            self._forward_number += 1
            frame = pb.PeerMessage(forward=pb.Forward(commands=commands, number=self._forward_number))
            if not self._send_frame(leader, frame):
                self._put_first(batch)
                self._refuse("the leader cannot be reached from this node")
                return
            self.forwarded += len(batch)
            for proposal in batch:
                proposal.tries += 1
            self._forwards[self._forward_number] = batch
            while len(self._forwards) > limits.FORWARDS_REMEMBERED_MAX:
                del self._forwards[next(iter(self._forwards))]

    def take_forward(self, sender: int, forward: pb.Forward) -> None:
        """A follower's clients want this in the log. The answer is the log itself; only a refusal is said."""
        reason, exhausted = self._alarm(), True
        if not reason:
            try:
                self._core.propose(command.pack(forward.commands))
                self._core.hurry(sender)
                self.entries += 1
            except ProposalDropped as error:
                reason, exhausted = error.reason, "bytes" in error.reason
        if reason:
            self.dropped += 1
            answer = pb.ForwardDropped(number=forward.number, reason=reason, exhausted=exhausted)
            self._send_frame(sender, pb.PeerMessage(dropped=answer), urgent=True)

    def take_dropped(self, dropped: pb.ForwardDropped) -> None:
        """The leader did not append it: certainly, so that try does not count. That it has no room is an answer."""
        batch = self._forwards.pop(dropped.number, [])
        for proposal in batch:
            proposal.tries -= 1
            proposal.refused, proposal.exhausted = f"the leader refused it: {dropped.reason}", dropped.exhausted
            if dropped.exhausted and not proposal.tries:
                self._pending.give_up(proposal)
        self._pause_until = time.monotonic() + limits.REFUSED_PAUSE_S
        self._put_first([proposal for proposal in batch if not proposal.future.done()])

    def sweep(self, now: float) -> None:
        """Now and then: what was given up goes, forwards that seem lost go again. (In this node's own log nothing is
        lost while it leads.)
        """
        self._drop_given_up()
        if now < self._retry_at or self._core.role is Role.LEADER or self._core.leader == NONE:
            return
        self._retry_at = now + limits.FORWARD_RETRY_S
        if self._forwards:
            old, self._forwards = self._forwards, {}
            late = {id(proposal) for batch in old.values() for proposal in batch if not proposal.future.done()}
            if late:
                self._propose_again()

    def _drop_given_up(self) -> None:
        """Without a leader nothing takes them from the queues, and clients that try again would fill the memory."""
        if any(proposal.future.done() for proposal in self._held):
            self._held = [proposal for proposal in self._held if not proposal.future.done()]
        if any(proposal.future.done() for proposal in self._waiting):
            self._waiting = deque(proposal for proposal in self._waiting if not proposal.future.done())
            self._waiting_bytes = sum(len(proposal.frame) for proposal in self._waiting)
