"""Who runs for election: the pre-candidate asks whether it would be elected, the candidate is in its new term.

Contract: a pre-candidate changes neither its term nor its vote (dissertation, section 9.6), so a node that was cut off
disturbs nobody when it returns. A candidate's requests, and the vote for itself, count only once the new term and vote
are durable. Each voter's first answer counts, later ones do not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from .quorum import Vote, joint_vote
from .server import Behaviour, Server
from .types import NONE, Message, MessageType, Role
from .voting import answer_vote, learn_commit


class _Running(Behaviour):
    """What pre-candidates and candidates have in common."""

    __slots__ = ("votes",)

    request: ClassVar[MessageType]
    handlers: ClassVar[dict[MessageType, Callable[[Any, Message], None]]]

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.votes: dict[int, bool] = {}

    def tick(self) -> None:
        server = self.server
        server.elapsed += 1
        server.silence += 1
        if server.elapsed >= server.timeout:
            server.reset_election_timer()
            server.start_election()

    def step(self, message: Message) -> None:
        handler = self.handlers.get(message.type)
        if handler is None:
            self.server.ignored += 1
        else:
            handler(self, message)

    def _on_leader(self, message: Message) -> None:
        """Somebody leads in this term already."""
        self.server.become_follower(message.term, message.sender)
        self.server.behaviour.step(message)

    def _on_vote_request(self, message: Message) -> None:
        answer_vote(self.server, message)
        self._yield_to_change()

    def _learn(self, message: Message) -> None:
        """Takes in what the voter knows to be committed; not where its vote has decided the election already."""
        if self.server.behaviour is self or self.server.behaviour.role is Role.FOLLOWER:
            learn_commit(self.server, message)
            self._yield_to_change()

    def _yield_to_change(self) -> None:
        """A change was found to be committed: other votes count, and the next election asks for those."""
        server = self.server
        if server.behaviour is self and server.log.has_config_between(server.log.applied, server.log.commit):
            server.become_follower(server.term, NONE)

    def _ask(self, term: int, *, force: bool) -> None:
        server = self.server
        log, config = server.log, server.config
        for voter in sorted(config.voters | config.voters_outgoing):
            if voter != server.id:
                server.send(
                    Message(
                        self.request,
                        voter,
                        server.id,
                        term,
                        log_index=log.last_index,
                        log_term=log.last_term,
                        commit=log.commit,
                        hint_term=log.term(log.commit),
                        force=force,
                    )
                )

    def _record(self, voter: int, granted: bool) -> Vote:
        self.votes.setdefault(voter, granted)
        return joint_vote(self.server.config, self.votes)


class PreCandidate(_Running):
    __slots__ = ()

    role = Role.PRE_CANDIDATE
    request = MessageType.PRE_VOTE

    def start(self) -> None:
        self._ask(self.server.term + 1, force=False)
        self._count(self.server.id, granted=True)

    def on_pre_vote_response(self, message: Message) -> None:
        if message.reject or message.term == self.server.term + 1:
            self._count(message.sender, granted=not message.reject)
        else:
            self.server.ignored += 1  # granted in an earlier term
        self._learn(message)

    def _count(self, voter: int, *, granted: bool) -> None:
        outcome = self._record(voter, granted)
        if outcome is Vote.WON:
            self.server.become_candidate(force=False)
        elif outcome is Vote.LOST:
            self.server.become_follower(self.server.term, NONE)


class Candidate(_Running):
    __slots__ = ()

    role = Role.CANDIDATE
    request = MessageType.VOTE

    def start(self, *, force: bool) -> None:
        self._ask(self.server.term, force=force)

    def on_persisted(self) -> None:
        server = self.server
        if server.durable.term == server.term and server.durable.vote == server.id and server.id not in self.votes:
            self._count(server.id, granted=True)

    def on_vote_response(self, message: Message) -> None:
        self._count(message.sender, granted=not message.reject)
        self._learn(message)

    def _count(self, voter: int, *, granted: bool) -> None:
        outcome = self._record(voter, granted)
        if outcome is Vote.WON:
            self.server.become_leader()
        elif outcome is Vote.LOST:
            # In the same term, so the vote stays: forgetting it would allow a second one.
            self.server.become_follower(self.server.term, NONE)


_COMMON: dict[MessageType, Callable[[Any, Message], None]] = {
    MessageType.APPEND: _Running._on_leader,
    MessageType.HEARTBEAT: _Running._on_leader,
    MessageType.SNAPSHOT: _Running._on_leader,
    MessageType.VOTE: _Running._on_vote_request,
    MessageType.PRE_VOTE: _Running._on_vote_request,
}
PreCandidate.handlers = {**_COMMON, MessageType.PRE_VOTE_RESPONSE: PreCandidate.on_pre_vote_response}
Candidate.handlers = {**_COMMON, MessageType.VOTE_RESPONSE: Candidate.on_vote_response}
