"""The follower: takes entries, heartbeats and snapshots from its leader, and runs for election when there is none.

Contract: nothing is answered before it is durable; a late or repeated append erases nothing (paper, figure 2:
AppendEntries, InstallSnapshot). The append answers say up to where the logs are known to agree.
"""

from __future__ import annotations

from collections.abc import Callable

from .server import Behaviour, Server
from .types import NONE, Entry, FatalInconsistency, Message, MessageType, Role
from .voting import answer_vote


class Follower(Behaviour):
    __slots__ = ()

    role = Role.FOLLOWER

    def tick(self) -> None:
        server = self.server
        server.elapsed += 1
        server.silence += 1
        if server.elapsed >= server.timeout:
            server.reset_election_timer()
            server.start_election()

    def step(self, message: Message) -> None:
        handler = _HANDLERS.get(message.type)
        if handler is None:
            self.server.ignored += 1  # an answer to something asked in another role
        else:
            handler(self.server, message)


def _follow(server: Server, message: Message) -> None:
    if server.leader not in (NONE, message.sender):
        raise FatalInconsistency(
            f"two leaders in term {server.term}: {server.leader:016x} and {message.sender:016x}; a node voted twice"
        )
    server.heard_leader(message.sender)


def on_append(server: Server, message: Message) -> None:
    _follow(server, message)
    log, entries = server.log, message.entries
    if entries and not _well_formed(message, entries):
        server.ignored += 1
        return
    if message.log_index < log.commit:
        # An old append. What it carries is known or was compacted; say how far this log is certain to agree.
        _acknowledge(server, message.sender, log.commit)
        return
    if not log.matches(message.log_index, message.log_term):
        _reject(server, message)
        return
    last = message.log_index
    if entries:
        log.accept(entries)
        last = entries[-1].index
    # Not `last_index`: what lies behind this append may still conflict (figure 2: "index of last new entry").
    log.commit_to(min(message.commit, last))
    _acknowledge(server, message.sender, last)


def _well_formed(message: Message, entries: tuple[Entry, ...]) -> bool:
    return (
        entries[0].index == message.log_index + 1
        and entries[-1].index == message.log_index + len(entries)
        and message.log_term <= entries[0].term <= entries[-1].term <= message.term
    )


def _acknowledge(server: Server, leader: int, index: int) -> None:
    server.outbox_after_persist.append(
        Message(MessageType.APPEND_RESPONSE, leader, server.id, server.term, log_index=index)
    )


def _reject(server: Server, message: Message) -> None:
    """Refuses, with the last place where the logs may agree: no term here above the leader's (paper, end of 5.3)."""
    hint_index, hint_term = server.log.find_conflict_by_term(message.log_index, message.log_term)
    server.outbox_after_persist.append(
        Message(
            MessageType.APPEND_RESPONSE,
            message.sender,
            server.id,
            server.term,
            log_index=message.log_index,
            reject=True,
            hint_index=hint_index,
            hint_term=hint_term,
        )
    )


def on_heartbeat(server: Server, message: Message) -> None:
    _follow(server, message)
    server.log.commit_to(message.commit)
    server.outbox.append(
        Message(MessageType.HEARTBEAT_RESPONSE, message.sender, server.id, server.term, context=message.context)
    )


def on_snapshot(server: Server, message: Message) -> None:
    """Restores a snapshot that is ahead; ignores an old one; keeps the log where it agrees (paper, section 7).

    A node that is not in the snapshot's configuration takes it all the same: it may have been added after the
    snapshot was made, and has no other way to the log behind it. It will not campaign until it finds itself in.
    """
    _follow(server, message)
    log, snapshot = server.log, message.snapshot
    if snapshot is None or snapshot.index < 1 or not 1 <= snapshot.term <= message.term:
        server.ignored += 1
        return
    if snapshot.index > log.commit:
        if log.matches(snapshot.index, snapshot.term):
            log.commit_to(snapshot.index)
        else:
            log.restore(snapshot)
            server.apply_snapshot_config(snapshot.config)
    _acknowledge(server, message.sender, log.commit)


def on_timeout_now(server: Server, _message: Message) -> None:
    """The leader hands over: run at once, without pre-vote, through every lease (dissertation, section 3.10)."""
    server.start_election(force=True)


_HANDLERS: dict[MessageType, Callable[[Server, Message], None]] = {
    MessageType.APPEND: on_append,
    MessageType.HEARTBEAT: on_heartbeat,
    MessageType.SNAPSHOT: on_snapshot,
    MessageType.TIMEOUT_NOW: on_timeout_now,
    MessageType.VOTE: answer_vote,
    MessageType.PRE_VOTE: answer_vote,
}
