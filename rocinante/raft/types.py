"""The nouns of the consensus core: entries, hard state, snapshots, configurations, messages.

Everything here is plain data without behaviour beyond trivial arithmetic. The core takes and returns these;
`storage/` writes them, `peers/` carries them. Names follow Ongaro's dissertation and etcd/raft.

Units: an *index* and a *term* are integers >= 1 (0 means "none"); a *node id* is an unsigned 64-bit server id
(0 means "none"); time is counted in ticks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import NamedTuple

NONE = 0
"""The id of nobody, and the index before the first one."""


class Role(StrEnum):
    """What a node is. The values are the public names (REST, metrics, the page)."""

    NOT_READY = "not_ready"
    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre_candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"

    @property
    def public(self) -> str:
        """The fixed public name: a pre-candidate reports `candidate`."""
        return "candidate" if self is Role.PRE_CANDIDATE else self.value


class EntryKind(IntEnum):
    NORMAL = 0
    """Opaque bytes for the state machine; empty data is the no-op that starts a term."""
    CONFIG = 1
    """An encoded `ConfigChange` and what it results in (membership.encode_change, decode_change, decode_config)."""


class Entry(NamedTuple):
    """One log entry. Immutable; `data` is never copied or re-encoded between the proposer and the state machine."""

    index: int  # type: ignore[assignment]  # hides tuple.index, on purpose
    term: int
    kind: EntryKind
    data: bytes


class HardState(NamedTuple):
    """What must be on disk before any message of this term is answered (figure 2, persistent state)."""

    term: int = 0
    vote: int = NONE
    commit: int = 0


@dataclass(frozen=True, slots=True)
class Config:
    """A cluster configuration; joint while `voters_outgoing` is not empty (dissertation, section 4.3)."""

    voters: frozenset[int] = frozenset()
    voters_outgoing: frozenset[int] = frozenset()
    learners: frozenset[int] = frozenset()
    learners_next: frozenset[int] = frozenset()
    auto_leave: bool = False

    @property
    def joint(self) -> bool:
        return bool(self.voters_outgoing)

    @property
    def members(self) -> frozenset[int]:
        """Every id that takes part: voters of both halves and learners."""
        return self.voters | self.voters_outgoing | self.learners | self.learners_next


class SnapshotMeta(NamedTuple):
    """What a snapshot stands for: all entries up to `index`, the last of them of `term`, under `config`."""

    index: int = 0  # type: ignore[assignment]  # hides tuple.index, on purpose
    term: int = 0
    config: Config = Config()


class ChangeKind(IntEnum):
    ADD_VOTER = 0
    ADD_LEARNER = 1
    REMOVE = 2


class Change(NamedTuple):
    kind: ChangeKind
    node: int


class Transition(IntEnum):
    """How a change that needs a joint configuration leaves it."""

    AUTO = 0
    """Simple when one voter changes, else joint, left automatically."""
    JOINT_IMPLICIT = 1
    JOINT_EXPLICIT = 2
    LEAVE = 3
    """Leave a joint configuration (no changes)."""


class ConfigChange(NamedTuple):
    changes: tuple[Change, ...] = ()
    transition: Transition = Transition.AUTO
    context: bytes = b""
    """Opaque to the core: the caller's description of the members (addresses, names)."""


class MessageType(IntEnum):
    PRE_VOTE = 1
    PRE_VOTE_RESPONSE = 2
    VOTE = 3
    VOTE_RESPONSE = 4
    APPEND = 5
    APPEND_RESPONSE = 6
    HEARTBEAT = 7
    HEARTBEAT_RESPONSE = 8
    SNAPSHOT = 9
    TIMEOUT_NOW = 10


@dataclass(slots=True)
class Message:
    """One protocol message between two nodes. Which fields count depends on `type`; the rest stay at 0.

    PRE_VOTE, VOTE                `log_index`, `log_term`: the candidate's last entry; `force`: by transfer, skips the
                                  lease; `commit`, `hint_term`: what the sender knows to be committed, and that
                                  entry's term.
    *_VOTE_RESPONSE               `reject`; `commit`, `hint_term` as above.
    APPEND                        `log_index`, `log_term`: the entry before `entries`; `entries`; `commit`.
    APPEND_RESPONSE               `log_index`: last index now known to match, or when `reject` the index that was
                                  refused, with `hint_index`/`hint_term` for the fast back-off (figure 7; raft paper
                                  section 5.3).
    HEARTBEAT                     `commit` (never above what the receiver is known to hold), `context`: the ReadIndex
                                  round.
    HEARTBEAT_RESPONSE            `context` echoed.
    SNAPSHOT                      `snapshot`: the metadata; the caller carries the content out of band, in chunks.
    TIMEOUT_NOW                   campaign at once (leadership transfer, dissertation section 3.10).
    """

    type: MessageType
    to: int
    sender: int
    term: int
    log_index: int = 0
    log_term: int = 0
    entries: tuple[Entry, ...] = ()
    commit: int = 0
    reject: bool = False
    hint_index: int = 0
    hint_term: int = 0
    context: int = 0
    force: bool = False
    snapshot: SnapshotMeta | None = None


class ReadState(NamedTuple):
    """An answered ReadIndex request: once `index` is applied, the state may be read (dissertation, section 6.4)."""

    context: int
    index: int  # type: ignore[assignment]  # hides tuple.index, on purpose


@dataclass(slots=True)
class Ready:
    """What the caller must do now. The duty is data, so that a test can hold it.

    1. Send `messages` at once (the leader's disk write goes on in parallel).
    2. Make `snapshot` (if any), then `entries` and `hard_state` durable, in the order of the Ready numbers, in one
       synced write. A snapshot replaces the whole stored log. `entries` may overwrite a conflicting suffix: everything
       from `entries[0].index` on is replaced.
    3. Only then send `messages_after_persist`, and call `Raft.persisted(number)`. A Ready that has messages to hold
       back but nothing to persist itself still waits for the writes of the Readys before it. `persisted(n)` covers all
       Readys up to n, so several may be acknowledged by one call.
    4. Hand `committed` to the state machine, in order: for each CONFIG entry first call `Raft.apply_change(entry)`;
       report with `Raft.applied_to(index)`. A snapshot counts as applied once its Ready is persisted: load it before
       the `committed` of later Readys.
    5. Answer `reads` (each once its `index` is applied) and refuse `failed_reads`.

    Several Readys may be in flight; each is persisted in the order of `number`. A commit index that moves is not
    by itself a reason to write (figure 2: commitIndex is volatile): it rides along with the next `hard_state`. Where
    nothing else is written it gets one of its own, at most once in an election timeout, so that a restart replays most.
    """

    number: int
    hard_state: HardState | None = None
    entries: tuple[Entry, ...] = ()
    snapshot: SnapshotMeta | None = None
    messages: list[Message] = field(default_factory=list)
    messages_after_persist: list[Message] = field(default_factory=list)
    committed: tuple[Entry, ...] = ()
    reads: tuple[ReadState, ...] = ()
    failed_reads: tuple[int, ...] = ()
    """Contexts of `read_index` calls that will never be answered: leadership was lost meanwhile."""

    @property
    def must_persist(self) -> bool:
        return self.hard_state is not None or bool(self.entries) or self.snapshot is not None


class RaftError(Exception):
    """Base of what the core raises."""


class ProposalDropped(RaftError):  # says what happened, better than an Error would
    """The proposal was not appended: it is certain that it will not be committed."""

    def __init__(self, reason: str, leader: int = NONE) -> None:
        super().__init__(reason)
        self.reason = reason
        self.leader = leader


class NotLeader(ProposalDropped):
    """Only the leader can do this; `leader` says who that is, or 0."""


class ReadNotPossible(RaftError):  # says what happened, better than an Error would
    """A linearizable read cannot start here and now (no leader, or no commit in this term yet)."""


class InvalidChange(RaftError):  # says what happened, better than an Error would
    """A membership change that the rules refuse (one at a time, never zero voters, ...)."""


class TransferRefused(RaftError):  # says what happened, better than an Error would
    """Leadership cannot be handed to that node (a learner, a stranger, the leader itself)."""


class FatalInconsistency(RaftError):  # says what happened, better than an Error would
    """An invariant of the log is broken (a committed entry would be overwritten, ...). The node must stop."""
