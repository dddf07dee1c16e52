"""Answers to PRE_VOTE and VOTE, the same in every role (paper, figure 2; dissertation, sections 3.6 and 9.6).

Contract: at most one vote a term, given to a log at least as up-to-date as the own one, and remembered in the hard
state before the answer leaves (the answer waits for the disk). A pre-vote changes nothing, not even a timer. Whether
the request is heard at all (lease, term) was decided before, in `core.Raft.step`.

A learner answers too: it may be a voter already in a configuration that it has not received yet (etcd/raft's
campaign_learner_must_vote); refusing could leave the cluster without a leader for ever.

Requests and answers say what their sender knows to be committed, and who holds the same entry knows it from then on
(raft-rs, `maybe_commit_by_vote`). A configuration counts once it is applied, so somebody who was not told that a change
is committed, or forgot it in a crash, asks for votes by the old configuration: of a node whose longer log refuses him,
and which itself lost its vote by that change; or of one that is gone. Without this, neither could ever be elected.
"""

from __future__ import annotations

from .server import Server
from .types import NONE, Message, MessageType

_RESPONSE = {MessageType.PRE_VOTE: MessageType.PRE_VOTE_RESPONSE, MessageType.VOTE: MessageType.VOTE_RESPONSE}


def answer_vote(server: Server, message: Message) -> None:
    """Grants or refuses. A granted answer carries the term that was asked for, a refusal the own one."""
    learn_commit(server, message)
    pre_vote = message.type is MessageType.PRE_VOTE
    may_vote = (
        server.vote == message.sender  # a repeated request gets the same answer
        or (server.vote == NONE and server.leader == NONE)
        or (pre_vote and message.term > server.term)
    )
    granted = may_vote and server.log.is_up_to_date(message.log_index, message.log_term)
    if granted and not pre_vote:
        server.vote = message.sender
        server.elapsed = 0
    server.send(
        Message(
            _RESPONSE[message.type],
            message.sender,
            server.id,
            message.term if granted else server.term,
            commit=server.log.commit,
            hint_term=server.log.term(server.log.commit),
            reject=not granted,
        )
    )


def learn_commit(server: Server, message: Message) -> None:
    """What was committed stays so, whoever says it: by log matching, all up to an entry that is here too is the same.

    A leader counts for itself, and what it commits by its configuration must not run ahead of that count.
    """
    log, commit = server.log, message.commit
    if commit > log.commit and log.matches(commit, message.hint_term) and server.leader != server.id:
        log.commit_to(commit)


def refuse_stale_pre_vote(server: Server, message: Message) -> None:
    """A pre-candidate with a lower term is told the term, else it would ask for ever (etcd #8501)."""
    server.send(Message(MessageType.PRE_VOTE_RESPONSE, message.sender, server.id, server.term, reject=True))
