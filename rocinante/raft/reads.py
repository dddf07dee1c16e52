"""ReadIndex: linearizable reads without a log entry (dissertation, section 6.4).

Contract: a read may be answered at commit index `i` once a quorum has confirmed, *after* the read arrived, that the
leader still leads. All reads that arrive between two Readys share one round of heartbeats; rounds are numbered and
confirmed in order, and an answer to a round confirms all rounds before it. The caller must have checked that the
leader has committed an entry of its own term. Rounds of different terms never meet: a leader starts its count anew,
and messages of other terms do not reach it.
"""

from __future__ import annotations

from collections import deque

from .quorum import joint_commit
from .types import Config, ReadState


class Reads:
    """The reads that one leader, in one term, has not answered."""

    __slots__ = ("_acks", "_id", "_last", "_rounds", "count", "unsent")

    def __init__(self, node_id: int) -> None:
        self._id = node_id
        self._last = 0
        self._acks: dict[int, int] = {}
        self._rounds: deque[tuple[int, int, list[int]]] = deque()
        self.unsent: list[int] = []
        """Contexts that wait for the next round to start."""
        self.count = 0
        """Contexts that wait, sent or not."""

    def add(self, context: int) -> None:
        self.unsent.append(context)
        self.count += 1

    def start_round(self, commit: int) -> None:
        """All unsent reads start a round; they will be answered at `commit`."""
        self._last += 1
        self._acks[self._id] = self._last
        self._rounds.append((self._last, commit, self.unsent))
        self.unsent = []

    @property
    def current(self) -> int:
        """The round that a heartbeat should ask to confirm, or 0 if there is none."""
        return self._rounds[-1][0] if self._rounds else 0

    def confirm(self, peer: int, number: int) -> None:
        """`peer` answered round `number`, and so all before it."""
        if self._acks.get(peer, 0) < number <= self._last:
            self._acks[peer] = number

    def take_confirmed(self, config: Config) -> list[ReadState]:
        """The answers to all rounds that a quorum of `config` has confirmed."""
        answered: list[ReadState] = []
        if self._rounds:
            confirmed = joint_commit(config, self._acks)
            while self._rounds and self._rounds[0][0] <= confirmed:
                _, index, contexts = self._rounds.popleft()
                answered.extend(ReadState(context, index) for context in contexts)
            self.count -= len(answered)
        return answered

    def fail_unsent(self) -> list[int]:
        """Gives up the reads whose round has not started."""
        failed, self.unsent = self.unsent, []
        self.count -= len(failed)
        return failed

    def fail_all(self) -> list[int]:
        """Gives up everything: leadership is lost."""
        failed = [context for _, _, contexts in self._rounds for context in contexts] + self.unsent
        self._rounds.clear()
        self.unsent = []
        self.count = 0
        return failed
