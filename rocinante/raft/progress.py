"""What a leader knows of one peer, and how much it may send to it.

Contract: `match < next`; `match` never falls while the leader leads. Three states (etcd/raft's design; dissertation,
section 10.2.1 for the pipeline):

PROBE      where the logs agree is not known: one append with entries at a time, then wait for an answer.
REPLICATE  it is known: appends follow each other optimistically (`next` runs ahead of `match`) inside a window that is
           bounded by count and by bytes, and narrow after a refusal. When it is full the peer is *paused*. An answer to
           a heartbeat of the timer lets one empty append through if nothing else was answered meanwhile, so that lost
           appends are noticed.
SNAPSHOT   the entries it needs are compacted: nothing is sent until the snapshot is answered or reported.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum
from typing import Final

NO_NUDGE: Final = -1


class ProgressState(StrEnum):
    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


class Inflights:
    """The window: last index and size of each append with entries that is not answered.

    Each refusal halves it, each answer that is news widens it by one again, as TCP does (RFC 5681). What was sent
    before a refusal is still on its way, and would be sent again with every answer to it: where messages overtake each
    other, a window that stays wide sends each entry as often as it has appends.
    """

    __slots__ = ("_appends", "_limit", "bytes", "max_appends", "max_bytes")

    def __init__(self, max_appends: int, max_bytes: int) -> None:
        self.max_appends = max_appends
        self._limit = max_appends
        self.max_bytes = max_bytes
        self.bytes = 0
        self._appends: deque[tuple[int, int]] = deque()

    def __len__(self) -> int:
        return len(self._appends)

    @property
    def full(self) -> bool:
        return len(self._appends) >= self._limit or self.bytes >= self.max_bytes

    def narrow(self) -> None:
        self._limit = max(1, self._limit // 2)

    def widen(self) -> None:
        self._limit = min(self.max_appends, self._limit + 1)

    def add(self, last_index: int, size: int) -> None:
        self._appends.append((last_index, size))
        self.bytes += size

    def free_to(self, index: int) -> None:
        """Everything up to `index` is answered."""
        appends = self._appends
        while appends and appends[0][0] <= index:
            self.bytes -= appends.popleft()[1]

    def clear(self) -> None:
        self._appends.clear()
        self.bytes = 0


class Progress:
    """One peer, as its leader sees it. See the module for its contract."""

    __slots__ = (
        "held",
        "hurry_to",
        "id",
        "inflights",
        "match",
        "next",
        "nudge_match",
        "pending_snapshot",
        "recent_active",
        "sent_commit",
        "state",
        "wants_append",
    )

    def __init__(self, peer: int, next_index: int, inflights: Inflights, *, recent_active: bool = False) -> None:
        self.id = peer
        self.state = ProgressState.PROBE
        self.match = 0
        self.next = next_index
        self.inflights = inflights
        self.held = False
        """Whether sending waits for an answer of any kind."""
        self.pending_snapshot = 0
        self.recent_active = recent_active
        """Whether the peer was heard since the last check of the quorum."""
        self.sent_commit = 0
        """The greatest commit index that the peer was told of."""
        self.hurry_to = 0
        """A commit index up to here is told at once, also where commits are told lazily."""
        self.wants_append = False
        """Whether the next flush sends an append even if it carries nothing."""
        self.nudge_match = NO_NUDGE
        """`match` when the timer's last heartbeat left, until that is answered; else `NO_NUDGE`."""

    @property
    def paused(self) -> bool:
        return self.held or self.state is ProgressState.SNAPSHOT

    def become_probe(self) -> None:
        """Back to finding out; after a snapshot, from its index on."""
        after = self.match
        if self.state is ProgressState.SNAPSHOT:
            after = max(after, self.pending_snapshot)
        self._enter(ProgressState.PROBE, after + 1)
        self.sent_commit = min(self.sent_commit, after)

    def start_over(self, last_index: int) -> None:
        """The peer lost its log behind `last_index`: nothing of what it acknowledged counts any more."""
        self.match = 0
        self.hurry_to = self.sent_commit = 0
        self._enter(ProgressState.PROBE, last_index + 1)

    def become_replicate(self) -> None:
        self._enter(ProgressState.REPLICATE, self.match + 1)

    def become_snapshot(self, index: int) -> None:
        self._enter(ProgressState.SNAPSHOT, index + 1)
        self.pending_snapshot = index
        self.sent_commit = index

    def _enter(self, state: ProgressState, next_index: int) -> None:
        self.state = state
        self.next = next_index
        self.held = False
        self.pending_snapshot = 0
        self.inflights.clear()

    def sent(self, last_index: int, size: int) -> None:
        """An append up to `last_index` with `size` bytes of entries was sent; size 0: an empty one."""
        if self.state is ProgressState.REPLICATE:
            inflights = self.inflights
            if size:
                self.next = last_index + 1
                inflights.add(last_index, size)
            self.held = inflights.full
        elif size:
            self.held = True

    def can_bump_commit(self, commit: int) -> bool:
        """Whether an empty append would tell the peer a commit index that it has not been told and can use."""
        return commit > self.sent_commit and self.sent_commit < self.next - 1

    def update(self, index: int) -> bool:
        """The peer holds everything up to `index`. Returns whether that is news (late answers are not)."""
        if index <= self.match:
            return False
        self.match = index
        self.inflights.widen()
        if self.next <= index:
            self.next = index + 1
        self.held = False
        return True

    def back_off(self, rejected: int, hint: int) -> bool:
        """The peer refused the append after `rejected`, and the logs may agree at `hint`. False: nothing to go
        back to, or a stale answer."""
        if self.state is ProgressState.REPLICATE:
            if rejected <= self.match:
                return False
            self.inflights.narrow()
            self.next = self.match + 1
        else:
            if rejected != self.next - 1:
                return False
            following = max(min(rejected, hint + 1), self.match + 1)
            if following == self.next:
                # It refuses what it acknowledged: it lost its log, and will say so. Asking again at once would be a
                # storm; the next heartbeat's answer is early enough.
                self.held = True
                return False
            self.next = following
            self.held = False
        self.sent_commit = min(self.sent_commit, self.next - 1)
        return True
