"""The core: one node's Raft, as the caller sees it.

Contract: one thread calls; there is no clock, thread, socket, file or global randomness in here. What comes in: `step`
(messages), `tick` (time), `propose` and its kin (requests), `persisted` and `applied_to` (duties done). What comes
out: `Ready` (see `types.Ready` for the caller's duties), and `status`.

A call that raises a `RaftError` other than `FatalInconsistency` has changed nothing. After a `FatalInconsistency` the
node must stop: what it has on disk, or what another node claims, contradicts what was promised.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from random import Random

from .candidate import Candidate, PreCandidate
from .follower import Follower
from .leader import Leader
from .log import RaftLog
from .membership import check_config, decode_change, decode_config, next_config
from .not_ready import NotReady
from .options import RaftOptions
from .server import Server
from .status import PeerStatus, RotationStatus, Status
from .types import (
    NONE,
    Config,
    ConfigChange,
    Entry,
    EntryKind,
    FatalInconsistency,
    HardState,
    InvalidChange,
    Message,
    MessageType,
    ReadNotPossible,
    Ready,
    Role,
    SnapshotMeta,
)
from .voting import refuse_stale_pre_vote

_FROM_LEADER = frozenset({MessageType.APPEND, MessageType.HEARTBEAT, MessageType.SNAPSHOT})
_ANSWERS = frozenset(
    {
        MessageType.PRE_VOTE_RESPONSE,
        MessageType.VOTE_RESPONSE,
        MessageType.APPEND_RESPONSE,
        MessageType.HEARTBEAT_RESPONSE,
    }
)


class Raft(Server):
    """One node. Boots not ready, with what its disk holds."""

    __slots__ = (
        "_changes_due",
        "_commit_age",
        "_handed_commit",
        "_handed_vote",
        "_number",
        "_persisted_number",
        "_states",
    )

    def __init__(
        self,
        node_id: int,
        options: RaftOptions,
        *,
        hard_state: HardState,
        snapshot: SnapshotMeta,
        entries: Sequence[Entry],
        applied: int,
        random: Random,
        ready: bool = False,
    ) -> None:
        """`applied` is what the state machine holds already, at least `snapshot.index`.

        `entries` may begin before the snapshot. Raises `FatalInconsistency` where stored things contradict each other.
        """
        if node_id == NONE:
            raise ValueError("node_id: expected a number other than 0")
        log = RaftLog(snapshot, entries, commit=hard_state.commit, applied=applied)
        if hard_state.term < log.last_term:
            raise FatalInconsistency(
                f"the stored term is {hard_state.term}, but the log has an entry of term {log.last_term}"
            )
        super().__init__(node_id, options, hard_state, log, check_config(snapshot.config), random)
        self._number = self._persisted_number = 0
        self._states: deque[tuple[int, HardState]] = deque()
        self._handed_vote = (hard_state.term, hard_state.vote)
        self._handed_commit = hard_state.commit
        self._commit_age = 0
        self._changes_due: deque[int] = deque()
        for index in log.config_indexes:
            if snapshot.index < index <= log.applied:
                self.config = _changed(self.config, log.entry(index))
        self.behaviour = NotReady(self)
        if ready:
            self.set_ready()

    # --- roles --------------------------------------------------------------------------------------------------

    @property
    def role(self) -> Role:
        return self.behaviour.role

    def set_ready(self) -> None:
        """Begins, or begins again, as a follower with a fresh election timeout. Does nothing if ready already."""
        if self.role is Role.NOT_READY:
            self.become_follower(self.term, NONE)

    def set_not_ready(self) -> None:
        """Stops taking part, at once. Who leads should `transfer` first. Unsent messages are dropped."""
        self.behaviour.leave()
        self.leader = NONE
        self.outbox.clear()
        self.outbox_after_persist.clear()
        self.behaviour = NotReady(self)

    def become_follower(self, term: int, leader: int) -> None:
        self.behaviour.leave()
        self._enter_term(term)
        self.leader = leader
        self.reset_election_timer()
        if leader != NONE:
            self.silence = 0
        self.behaviour = Follower(self)

    def become_candidate(self, *, force: bool) -> None:
        self._enter_term(self.term + 1)
        self.vote = self.id
        self.leader = NONE
        self.reset_election_timer()
        candidate = Candidate(self)
        self.behaviour = candidate
        candidate.start(force=force)

    def become_leader(self) -> None:
        if self.role is not Role.CANDIDATE:
            raise FatalInconsistency(f"a {self.role} cannot become leader")
        self.leader = self.id
        self.elapsed = self.silence = 0
        leader = Leader(self)
        self.behaviour = leader
        leader.start()

    def start_election(self, *, force: bool = False) -> None:
        """Runs, unless this node must not: no voter, or a committed configuration that it has not yet applied."""
        log = self.log
        if not self.promotable or log.has_config_between(log.applied, log.commit):
            return
        if self.options.pre_vote and not force:
            self.leader = NONE
            self.reset_election_timer()
            pre_candidate = PreCandidate(self)
            self.behaviour = pre_candidate
            pre_candidate.start()
        else:
            self.become_candidate(force=force)

    def campaign(self) -> None:
        """Starts an election now, as if the timeout had passed. Nothing happens on a leader or while not ready."""
        if self.role not in (Role.LEADER, Role.NOT_READY):
            self.start_election()

    def forget_leader(self) -> None:
        """A follower no longer holds to its leader: it refuses nobody its vote for its sake, and does not wait for it.

        For a caller who knows that the leader's process has ended. Should that be wrong, its next message repairs it.
        """
        if self.role is Role.FOLLOWER:
            self.leader = NONE

    def _enter_term(self, term: int) -> None:
        if term < self.term:
            raise FatalInconsistency(f"the term would fall from {self.term} to {term}")
        if term > self.term:
            self.term = term
            self.vote = NONE

    # --- in -----------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Time passes. A commit index that moved is written by itself after an election timeout without a write."""
        if self.behaviour.listening and self.log.commit > self._handed_commit:
            self._commit_age += 1
        self.behaviour.tick()

    def step(self, message: Message) -> None:
        """Takes a message. One that is not for this node, stale or out of place is counted in `ignored`."""
        if not self.behaviour.listening or not self._addressed(message):
            self.ignored += 1
            return
        if message.term > self.term:
            if not self._enter_higher_term(message):
                self.ignored += 1
                return
        elif message.term < self.term:
            self._answer_lower_term(message)
            return
        self.behaviour.step(message)

    def _addressed(self, message: Message) -> bool:
        return (
            message.to == self.id
            and message.sender not in (NONE, self.id)
            and 0 < message.term <= self.term + self.options.max_term_leap
        )

    def _enter_higher_term(self, message: Message) -> bool:
        """Follows into the term of `message` (paper, 5.1), unless it must not. False: the message is to be ignored."""
        kind = message.type
        if kind in _ANSWERS and message.sender not in self.config.members:
            return False
        if kind is MessageType.VOTE or kind is MessageType.PRE_VOTE:
            if self.in_lease and not message.force:
                return False  # a leader was heard: no election may disturb it (dissertation, section 4.2.3)
            if kind is MessageType.PRE_VOTE:
                return True
        elif kind is MessageType.PRE_VOTE_RESPONSE and not message.reject:
            return True  # carries the term that was asked for, not one that anybody is in
        self.become_follower(message.term, message.sender if kind in _FROM_LEADER else NONE)
        return True

    def _answer_lower_term(self, message: Message) -> None:
        """Most stale messages are dropped; two senders must hear of the new term, or they would be stuck.

        A leader that does not know of it would be ignored for ever by this node, which, with pre-vote or
        check-quorum, does not force an election either; and a pre-candidate would go on asking with its old term
        (etcd #8501).
        """
        if message.type in _FROM_LEADER and (self.options.check_quorum or self.options.pre_vote):
            self.send(Message(MessageType.APPEND_RESPONSE, message.sender, self.id, self.term))
        elif message.type is MessageType.PRE_VOTE:
            refuse_stale_pre_vote(self, message)
        else:
            self.ignored += 1

    def _leading(self) -> Leader:
        leader = self.behaviour
        if isinstance(leader, Leader):
            return leader
        raise leader.refusal()

    def adopt_options(self, options: RaftOptions) -> None:
        """Other times and bounds from now on. The election timeout under way is drawn anew, and a leader's turn where
        rotation is another; windows towards peers keep their sizes until the next leadership.

        Safe at any time, and with nodes that differ: no promise of Raft depends on a time."""
        another = options.election_ticks != self.options.election_ticks
        self.options = options
        if another:
            self.timeout = options.election_ticks + self.random.randrange(options.election_ticks)
        if isinstance(self.behaviour, Leader):
            self.behaviour.rotation.adopt(options)

    def propose(self, data: bytes) -> tuple[int, int]:
        """Appends `data` to the log of this leader. Returns (index, term): it is committed if that entry is applied.

        Raises `NotLeader`, or `ProposalDropped` while that is not possible.
        """
        return self._leading().propose(data)

    def propose_change(self, change: ConfigChange) -> tuple[int, int]:
        """Appends a membership change. Raises as `propose`, and `InvalidChange` where the rules refuse it."""
        return self._leading().propose_change(change)

    def read_index(self, context: int) -> None:
        """Asks for a linearizable read; `Ready.reads` or `Ready.failed_reads` answers with `context`.

        Raises `ReadNotPossible` where none can start.
        """
        leader = self.behaviour
        if not isinstance(leader, Leader):
            raise ReadNotPossible(str(leader.refusal()))
        leader.read_index(context)

    def hurry(self, peer: int) -> None:
        """Somebody at `peer` waits for what is in the log now. Only of interest with `lazy_commit`, on the leader."""
        if isinstance(self.behaviour, Leader):
            self.behaviour.replication.hurry(peer)

    def peer_lost_its_log(self, peer: int, last_index: int) -> None:
        """`peer` says that it lost what it had acknowledged, and that its log ends at `last_index` now.

        The leader forgets how far it was and finds out anew. Without this it would never look below what it once heard.
        """
        if isinstance(self.behaviour, Leader):
            self.behaviour.replication.start_over(peer, last_index)

    def transfer(self, to: int) -> None:
        """Hands leadership to `to`. Raises `NotLeader`, or `TransferRefused`. Given up after an election timeout."""
        self._leading().transfer(to)

    def report_unreachable(self, peer: int) -> None:
        """Messages to `peer` were lost, or could not be sent."""
        leader = self.behaviour
        if isinstance(leader, Leader):  # nobody else sends, so nobody else cares
            leader.report_unreachable(peer)

    def report_snapshot(self, peer: int, ok: bool) -> None:
        """The content of the snapshot that was asked for with a SNAPSHOT message has arrived at `peer`, or not."""
        leader = self.behaviour
        if isinstance(leader, Leader):  # nobody else sends, so nobody else cares
            leader.report_snapshot(peer, ok)

    # --- out ----------------------------------------------------------------------------------------------------

    def has_ready(self) -> bool:
        """Whether `ready` would hold something."""
        log = self.log
        return bool(
            self.behaviour.has_output
            or self.outbox
            or self.outbox_after_persist
            or log.has_unhanded
            or (log.has_committed and log.applying_bytes < self.options.max_applying_bytes)
            or self.reads_done
            or self.reads_failed
            or self._must_write_state
        )

    @property
    def _must_write_state(self) -> bool:
        return self._handed_vote != (self.term, self.vote) or self._commit_age >= self.options.election_ticks

    def ready(self) -> Ready:
        """All that there is to do now. It counts as handed out; the next Ready goes on from here."""
        self.behaviour.flush()
        self._number = number = self._number + 1
        snapshot, entries = self.log.take_unhanded(number)
        hard_state = None
        if entries or snapshot is not None or self._must_write_state:
            hard_state = HardState(self.term, self.vote, self.log.commit)
            self._handed_vote = (self.term, self.vote)
            self._handed_commit = self.log.commit
            self._commit_age = 0
            self._states.append((number, hard_state))
        committed = self.log.take_committed(self.options.max_committed_bytes, self.options.max_applying_bytes)
        if committed:
            self._changes_due.extend(
                index for index in self.log.config_indexes if committed[0].index <= index <= committed[-1].index
            )
        ready = Ready(
            number,
            hard_state,
            entries,
            snapshot,
            self.outbox,
            self.outbox_after_persist,
            committed,
            tuple(self.reads_done),
            tuple(self.reads_failed),
        )
        self.outbox = []
        self.outbox_after_persist = []
        if self.reads_done:
            self.reads_done = []
        if self.reads_failed:
            self.reads_failed = []
        return ready

    def persisted(self, number: int) -> None:
        """Everything that the Readys up to `number` asked to make durable is durable."""
        if number > self._number:
            raise FatalInconsistency(f"Ready {number} is said to be persisted, but only {self._number} were made")
        if number <= self._persisted_number:
            return
        self._persisted_number = number
        while self._states and self._states[0][0] <= number:
            self.durable = self._states.popleft()[1]
        self.log.written(number)
        self.behaviour.on_persisted()

    def applied_to(self, index: int) -> None:
        """The state machine holds everything up to `index`."""
        if self._changes_due and self._changes_due[0] <= index:
            raise FatalInconsistency(f"applied {index}, but the change at {self._changes_due[0]} was not applied")
        self.log.applied_to(index)
        self.behaviour.on_applied()

    def apply_change(self, entry: Entry) -> Config:
        """Makes the configuration of a CONFIG entry from `Ready.committed` effective. Call once for each, in order.

        Returns the configuration that holds now. Call it while the Ready is being handled, before the next `step`.
        """
        if not self._changes_due or self._changes_due[0] != entry.index:
            raise FatalInconsistency(f"entry {entry.index} is not the next change to apply")
        self._changes_due.popleft()
        self._use(_changed(self.config, entry))
        if self._handed_commit < entry.index:
            # Written soon: who forgets that this is committed would ask for the votes of nodes that may be gone.
            self._commit_age = self.options.election_ticks
        return self.config

    def apply_snapshot_config(self, config: Config) -> None:
        self._changes_due.clear()
        self._use(check_config(config))

    def adopt_vote(self) -> None:
        """Spend the vote of this term on its leader, if it was not cast (as far as this node remembers).

        For a node that lost its memory: whatever it voted before, it will not vote for a second one in this term.
        """
        if self.vote == NONE and self.leader != NONE:
            self.vote = self.leader

    def _use(self, config: Config) -> None:
        if config != self.config:
            self.config = config
            self.behaviour.on_config()

    def compact(self, index: int, snapshot: SnapshotMeta) -> bool:
        """Drops the entries up to `index`. From now on, peers that are behind get `snapshot` (at or after `index`).

        `index <= snapshot.index <= applied`, else `ValueError`; what lies between the first two is kept for peers that
        are only a little behind. False, and nothing done, if a newer snapshot is known or being restored.
        """
        return self.log.compact(index, snapshot)

    def status(self) -> Status:
        log, leader = self.log, self.behaviour
        peers: dict[int, PeerStatus] = {}
        rotation, transferee, pending_reads = RotationStatus(), NONE, 0
        if isinstance(leader, Leader):
            learners = self.config.learners
            peers = {
                peer.id: PeerStatus.of(peer, learner=peer.id in learners) for peer in leader.replication.peers.values()
            }
            turn = leader.rotation
            rotation = RotationStatus(
                turn.draining, turn.holding, turn.hold_left if turn.holding else 0, turn.turn_left
            )
            transferee, pending_reads = leader.transferee, leader.reads.count
        return Status(
            id=self.id,
            role=self.role,
            term=self.term,
            vote=self.vote,
            leader=self.leader,
            commit=log.commit,
            applied=log.applied,
            persisted=log.persisted,
            first_index=log.first_index,
            last_index=log.last_index,
            snapshot_index=log.snapshot.index,
            config=self.config,
            transferee=transferee,
            peers=peers,
            rotation=rotation,
            uncommitted_bytes=log.uncommitted_bytes,
            leader_silent_ticks=self.silence,
            pending_reads=pending_reads,
            ignored=self.ignored,
        )


def _changed(config: Config, entry: Entry) -> Config:
    """The configuration after a CONFIG entry: the one it carries. Unreadable bytes are fatal: others may read them."""
    if entry.kind is not EntryKind.CONFIG:
        raise FatalInconsistency(f"entry {entry.index} is not a membership change")
    try:
        change, result = decode_change(entry.data), decode_config(entry.data)
    except InvalidChange as error:
        raise FatalInconsistency(f"entry {entry.index} is a membership change that cannot be read: {error}") from None
    if result is not None:
        return result
    try:
        return next_config(config, change)
    except InvalidChange:
        return config  # nobody checked it when it was proposed; on all nodes alike it is an empty entry
