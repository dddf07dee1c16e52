"""The leader: takes proposals, replicates, commits, answers reads, changes the membership, hands over.

Contract: its first act is an empty entry, and until that is committed it answers no read and takes no membership change
(paper, section 8; dissertation, sections 4.1 and 6.4). It sends before its own disk has written, and counts itself only
for what has (dissertation, section 10.2.1). It leads until it hears of a higher term, loses its quorum, is removed,
or stops.
"""

from __future__ import annotations

from collections.abc import Callable

from .membership import decode_config, encode_change, leave_joint, next_config
from .progress import Progress, ProgressState
from .reads import Reads
from .replication import Replication
from .rotation import Act, Rotation
from .server import Behaviour, Server
from .types import (
    NONE,
    Config,
    ConfigChange,
    EntryKind,
    FatalInconsistency,
    InvalidChange,
    Message,
    MessageType,
    ProposalDropped,
    ReadNotPossible,
    Role,
    TransferRefused,
    Transition,
)
from .voting import answer_vote


class Leader(Behaviour):
    __slots__ = (
        "heartbeat_due",
        "heartbeat_elapsed",
        "pending_change",
        "reads",
        "removal",
        "replication",
        "rotation",
        "transferee",
    )

    role = Role.LEADER

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.replication = Replication(server)
        self.reads = Reads(server.id)
        self.rotation = Rotation(server.options, server.random)
        self.transferee = NONE
        self.heartbeat_elapsed = 0
        self.heartbeat_due = False
        self.pending_change = server.log.last_index
        """Index of the last entry that may be a membership change not yet applied here: one at a time."""
        self.removal = self._inherited_removal()
        """Index of a change that takes a vote away and is not yet applied here, or 0. See `_check_open`."""

    def start(self) -> None:
        """The empty entry that opens the term. No size limit refuses it."""
        self.server.log.append(self.server.term, EntryKind.NORMAL, b"")
        self.replication.due = True

    # --- time ---------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        server = self.server
        server.elapsed += 1
        self.heartbeat_elapsed += 1
        if server.options.lazy_commit:
            self.replication.bump_commits()
        self._turn()
        if server.elapsed >= server.options.election_ticks:
            server.elapsed = 0
            if not self._check_quorum():
                return
            self._abort_transfer()
        if self.heartbeat_elapsed >= server.options.heartbeat_ticks and not self.rotation.holding:
            self.heartbeat_elapsed = 0
            self.heartbeat_due = True

    def _check_quorum(self) -> bool:
        """A leader that a majority has not answered for an election timeout steps down, in the same term."""
        server = self.server
        if self.rotation.holding:
            return True
        if server.options.check_quorum and not self.replication.quorum_active():
            server.become_follower(server.term, NONE)
            return False
        self.replication.set_active(False)
        return True

    def _turn(self) -> None:
        log = self.server.log
        act = self.rotation.tick(settled=log.commit == log.last_index)
        if act is Act.DRAIN:
            if self._may_rotate():
                self.rotation.drain()
        elif act is Act.HOLD:
            self.server.reads_failed.extend(self.reads.fail_unsent())
            self.heartbeat_due = False
        elif act is Act.RESUME:
            # Silence was our own doing: the peers get a whole timeout to be heard.
            self.replication.set_active(True)
            self.replication.due = self.heartbeat_due = True
            self.server.elapsed = self.heartbeat_elapsed = 0
            self._leave_joint_if_due()
        elif act is Act.TRANSFER and self._may_rotate():
            up_to_date = self._up_to_date_voters()
            if up_to_date:
                self.transfer(self.server.random.choice(up_to_date))

    def _may_rotate(self) -> bool:
        config = self.server.config
        return (
            self.transferee == NONE
            and self.replication.committed_in_term
            and len(config.voters | config.voters_outgoing) > 1
        )

    def _up_to_date_voters(self) -> list[int]:
        """Voters that answer and hold all that is committed: the least that they have left to catch up with."""
        config, commit = self.server.config, self.server.log.commit
        return [
            peer.id
            for peer in self.replication.peers.values()
            if peer.id in config.voters and peer.state is ProgressState.REPLICATE and peer.match >= commit
        ]

    # --- requests -----------------------------------------------------------------------------------------------

    def propose(self, data: bytes) -> tuple[int, int]:
        return self._append(EntryKind.NORMAL, data)

    def _append(self, kind: EntryKind, data: bytes) -> tuple[int, int]:
        server = self.server
        log = server.log
        self._check_open()
        if log.last_index > log.commit:
            uncommitted = log.uncommitted_bytes
            if uncommitted + len(data) > server.options.max_uncommitted_bytes:
                raise ProposalDropped(f"{uncommitted} bytes are uncommitted already", server.id)
        index = log.append(server.term, kind, data)
        self.replication.due = True
        return index, server.term

    def _check_open(self) -> None:
        """Raises `ProposalDropped` while nothing may be appended."""
        if self.transferee != NONE:
            raise ProposalDropped("leadership transfer in progress", self.transferee)
        if self.rotation.closed:
            raise ProposalDropped("rotating")
        if self.removal:
            # Who loses the vote must not hold anything behind the entry that takes it: with a longer log it would
            # refuse those who do not know yet that the change is committed, need its vote, and could never lead.
            raise ProposalDropped("a voter is being removed", self.server.id)

    def propose_change(self, change: ConfigChange) -> tuple[int, int]:
        server = self.server
        self._check_open()
        if not self.replication.committed_in_term:
            raise InvalidChange("nothing is committed in this term yet")
        if self.pending_change > server.log.applied:
            raise InvalidChange(
                f"an earlier change may be pending up to {self.pending_change}, applied is {server.log.applied}"
            )
        result = next_config(server.config, change)
        index, term = self._append(EntryKind.CONFIG, encode_change(change, result))
        self.pending_change = index
        self.removal = index if _takes_vote(server.config, result) else 0
        return index, term

    def read_index(self, context: int) -> None:
        if self.rotation.closed:
            raise ReadNotPossible("rotating")
        if not self.replication.committed_in_term:
            raise ReadNotPossible("nothing is committed in this term yet")
        if self.reads.count >= self.server.options.max_pending_reads:
            raise ReadNotPossible(f"{self.reads.count} reads are pending already")
        self.reads.add(context)

    def transfer(self, to: int) -> None:
        """Catches `to` up, then tells it to run (dissertation, section 3.10). Given up after an election timeout."""
        server = self.server
        config = server.config
        if to == server.id:
            raise TransferRefused("to: this node leads already")
        if to not in config.voters and to not in config.voters_outgoing:
            raise TransferRefused(f"to: {to:016x} is not a voter")
        if self.rotation.closed:
            raise TransferRefused("rotating")
        if to == self.transferee:
            return
        self.transferee = to
        server.elapsed = 0
        peer = self.replication.peers[to]
        if peer.match == server.log.last_index:
            self._send_timeout_now()
        else:
            self.replication.want(peer)

    def _send_timeout_now(self) -> None:
        server = self.server
        server.send(Message(MessageType.TIMEOUT_NOW, self.transferee, server.id, server.term))

    def _abort_transfer(self) -> None:
        if self.transferee != NONE:
            self.transferee = NONE
            self._leave_joint_if_due()

    # --- messages -----------------------------------------------------------------------------------------------

    def step(self, message: Message) -> None:
        handler = _HANDLERS.get(message.type)
        if handler is None:
            self.server.ignored += 1
            return
        handler(self, message)

    def on_append_response(self, message: Message) -> None:
        peer = self.replication.peers.get(message.sender)
        log = self.server.log
        if peer is None or message.log_index > log.last_index:
            self.server.ignored += 1
            return
        peer.recent_active = True
        if message.reject:
            self.replication.on_rejected(peer, message)
            return
        self.replication.on_accepted(peer, message.log_index)
        if peer.id == self.transferee and peer.match == log.last_index:
            self._send_timeout_now()

    def on_heartbeat_response(self, message: Message) -> None:
        peer = self.replication.peers.get(message.sender)
        if peer is None:
            self.server.ignored += 1
            return
        self.replication.on_heartbeat_answer(peer)
        if message.context:
            self.reads.confirm(peer.id, message.context)
            self._answer_reads()

    def on_vote_request(self, message: Message) -> None:
        answer_vote(self.server, message)

    def on_rival(self, message: Message) -> None:
        raise FatalInconsistency(
            f"two leaders in term {self.server.term}: this node and {message.sender:016x}; a node voted twice"
        )

    def report_unreachable(self, peer: int) -> None:
        """What was sent is probably lost: find out where the peer is before sending more."""
        progress = self._peer(peer)
        if progress is not None and progress.state is ProgressState.REPLICATE:
            progress.become_probe()

    def report_snapshot(self, peer: int, ok: bool) -> None:
        """The caller has carried a snapshot, or failed to. Probing goes on with the peer's next sign of life."""
        progress = self._peer(peer)
        if progress is None or progress.state is not ProgressState.SNAPSHOT:
            return
        if not ok:
            progress.pending_snapshot = 0
        progress.become_probe()
        progress.held = True

    def _peer(self, peer: int) -> Progress | None:
        return self.replication.peers.get(peer)

    # --- output -------------------------------------------------------------------------------------------------

    @property
    def claims_lease(self) -> bool:
        return not self.rotation.holding

    @property
    def has_output(self) -> bool:
        if self.rotation.holding:
            return False
        return self.replication.due or self.heartbeat_due or bool(self.reads.unsent)

    def flush(self) -> None:
        if self.rotation.holding:
            return
        reads = self.reads
        asked = bool(reads.unsent)
        if asked:
            reads.start_round(self.server.log.commit)
        if asked or self.heartbeat_due:
            self.replication.broadcast_heartbeat(reads.current, timer=self.heartbeat_due)
            self.heartbeat_due = False
            if asked:
                self._answer_reads()  # a quorum of one is complete already
        if self.replication.due:
            self.replication.flush()

    def _answer_reads(self) -> None:
        self.server.reads_done.extend(self.reads.take_confirmed(self.server.config))

    def on_persisted(self) -> None:
        replication, log = self.replication, self.server.log
        if replication.matches[self.server.id] < log.persisted:
            replication.matches[self.server.id] = log.persisted
            replication.maybe_commit()

    # --- membership ---------------------------------------------------------------------------------------------

    def on_applied(self) -> None:
        self._leave_joint_if_due()

    def _leave_joint_if_due(self) -> None:
        """Proposes, once, to leave a joint configuration that leaves by itself (dissertation, section 4.3)."""
        server = self.server
        if not (server.config.joint and server.config.auto_leave) or self.pending_change > server.log.applied:
            return
        if self.transferee != NONE or self.rotation.closed:
            return  # the next leader does it, or this one when it goes on
        result = leave_joint(server.config)
        leave = encode_change(ConfigChange(transition=Transition.LEAVE), result)
        self.pending_change = server.log.append(server.term, EntryKind.CONFIG, leave)
        self.removal = self.pending_change if _takes_vote(server.config, result) else 0
        self.replication.due = True

    def _inherited_removal(self) -> int:
        """The change among the entries of earlier terms, not applied here, that takes a vote away: one at most."""
        log, config = self.server.log, self.server.config
        for index in reversed(log.config_indexes):
            if index <= log.applied:
                break
            result = decode_config(log.entry(index).data)
            if result is not None and _takes_vote(config, result):
                return index
        return 0

    def on_config(self) -> None:
        server = self.server
        self.removal = 0
        config = server.config
        if server.id not in config.voters and server.id not in config.voters_outgoing:
            # Removed or demoted, and the change is committed: the others go on without (dissertation, section 4.2.2).
            server.become_follower(server.term, NONE)
            return
        self.replication.reconfigure(config)
        self.replication.maybe_commit()
        if self.transferee not in config.voters and self.transferee not in config.voters_outgoing:
            self._abort_transfer()
        self._answer_reads()

    def leave(self) -> None:
        self.server.reads_failed.extend(self.reads.fail_all())


def _takes_vote(before: Config, after: Config) -> bool:
    return bool((before.voters | before.voters_outgoing) - (after.voters | after.voters_outgoing))


_HANDLERS: dict[MessageType, Callable[[Leader, Message], None]] = {
    MessageType.APPEND_RESPONSE: Leader.on_append_response,
    MessageType.HEARTBEAT_RESPONSE: Leader.on_heartbeat_response,
    MessageType.VOTE: Leader.on_vote_request,
    MessageType.PRE_VOTE: Leader.on_vote_request,
    MessageType.APPEND: Leader.on_rival,
    MessageType.HEARTBEAT: Leader.on_rival,
    MessageType.SNAPSHOT: Leader.on_rival,
}
