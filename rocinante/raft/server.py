"""What all roles share: the persistent and volatile state of figure 2, the timers, and the way out for messages.

Contract: a `Server` has exactly one `Behaviour` at a time, the role; a role's own state (votes, progress, reads,
rotation) lives and dies with it. Roles change only through the `become_*` methods, which `core.Raft` implements. A
message that depends on something not yet durable goes to `outbox_after_persist`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from random import Random
from typing import ClassVar, Final

from .log import RaftLog
from .options import RaftOptions
from .types import (
    NONE,
    Config,
    HardState,
    Message,
    MessageType,
    NotLeader,
    ProposalDropped,
    ReadState,
    Role,
)

AFTER_PERSIST: Final = frozenset(
    {
        MessageType.VOTE,
        MessageType.VOTE_RESPONSE,
        MessageType.PRE_VOTE_RESPONSE,
        MessageType.APPEND_RESPONSE,
    }
)
"""Messages that promise something about this node's disk, and wait for it (dissertation, section 3.8)."""


class Behaviour(ABC):
    """A role: what it does with time, messages and requests. The defaults are those of a node that does not lead."""

    __slots__ = ("server",)

    role: ClassVar[Role]
    listening: ClassVar[bool] = True
    """Whether protocol messages are taken at all."""

    def __init__(self, server: Server) -> None:
        self.server = server

    @abstractmethod
    def tick(self) -> None:
        """One tick has passed."""

    @abstractmethod
    def step(self, message: Message) -> None:
        """Takes a message of this term (or a pre-vote of a higher one)."""

    @property
    def claims_lease(self) -> bool:
        """Whether a leader heard of a moment ago is a reason to refuse votes."""
        return True

    @property
    def has_output(self) -> bool:
        """Whether `flush` would produce something."""
        return False

    def flush(self) -> None:
        """Writes the messages that were put off until the next Ready."""
        return

    def on_persisted(self) -> None:
        """Something became durable."""
        return

    def on_applied(self) -> None:
        """`log.applied` moved."""
        return

    def on_config(self) -> None:
        """`server.config` changed."""
        return

    def leave(self) -> None:
        """Another role takes over."""
        return

    def refusal(self) -> ProposalDropped:
        """Why this role takes no request."""
        return NotLeader("not the leader", self.server.leader)


class Server(ABC):
    """One node's consensus state, without the behaviour of any role."""

    __slots__ = (
        "behaviour",
        "config",
        "durable",
        "elapsed",
        "id",
        "ignored",
        "leader",
        "log",
        "options",
        "outbox",
        "outbox_after_persist",
        "random",
        "reads_done",
        "reads_failed",
        "silence",
        "term",
        "timeout",
        "vote",
    )

    behaviour: Behaviour

    def __init__(
        self, node_id: int, options: RaftOptions, hard_state: HardState, log: RaftLog, config: Config, random: Random
    ) -> None:
        self.id = node_id
        self.options = options
        self.random = random
        self.log = log
        self.config = config
        self.term = hard_state.term
        self.vote = hard_state.vote
        self.leader = NONE
        self.durable = hard_state
        """The last hard state that is known to be on disk."""
        self.elapsed = 0
        """Ticks since the election timer was reset; a leader counts to its next check of the quorum."""
        self.silence = 0
        """Ticks since a leader was heard."""
        self.timeout = 0
        """Election timeout now, in ticks."""
        self.outbox: list[Message] = []
        self.outbox_after_persist: list[Message] = []
        self.reads_done: list[ReadState] = []
        self.reads_failed: list[int] = []
        self.ignored = 0
        """Messages dropped: for another node, from a stranger, stale, malformed, or while not ready."""

    # --- transitions, see core.py -------------------------------------------------------------------------------

    @abstractmethod
    def become_follower(self, term: int, leader: int) -> None: ...

    @abstractmethod
    def become_candidate(self, *, force: bool) -> None: ...

    @abstractmethod
    def become_leader(self) -> None: ...

    @abstractmethod
    def start_election(self, *, force: bool = False) -> None: ...

    @abstractmethod
    def apply_snapshot_config(self, config: Config) -> None: ...

    # --- shared acts --------------------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        if message.type in AFTER_PERSIST:
            self.outbox_after_persist.append(message)
        else:
            self.outbox.append(message)

    def reset_election_timer(self) -> None:
        """A fresh timeout from [election_ticks, 2 * election_ticks), so that split votes resolve (paper, 5.2)."""
        ticks = self.options.election_ticks
        self.elapsed = 0
        self.timeout = ticks + self.random.randrange(ticks)

    def heard_leader(self, leader: int) -> None:
        self.leader = leader
        self.elapsed = 0
        self.silence = 0

    @property
    def in_lease(self) -> bool:
        """Whether a leader was heard so lately that votes are refused (dissertation, section 4.2.3)."""
        return (
            self.options.check_quorum
            and self.leader != NONE
            and self.elapsed < self.options.election_ticks
            and self.behaviour.claims_lease
        )

    @property
    def promotable(self) -> bool:
        """Whether this node may lead: a voter, as far as it knows, that is not in the middle of a snapshot."""
        config = self.config
        return (self.id in config.voters or self.id in config.voters_outgoing) and not self.log.pending_snapshot
