"""Leader rotation: at random intervals a leader gives the others their turn. Rocinante's addition to Raft.

Off by default.

Contract: a `Rotation` lives as long as one leadership and is told every tick. The length of the turn is drawn from
[rotation_min_ticks, rotation_max_ticks] by the injected source of randomness.

delay_heartbeats  the leader first *drains*: it takes no proposals and no reads any more, and waits until what it has is
                  committed (at most an election timeout). Then it *holds*: it sends nothing for longer than the longest
                  election timeout (paper, section 9.3: a new leader emerges as soon as a timeout fires), and claims no
                  lease against (pre-)votes, so that two nodes rotate too. If nobody took over it resumes, and draws a
                  new turn.
transfer          the leader hands leadership to a random voter that is up to date (dissertation, section 3.10): no gap.

Safety needs nothing of this: a held leader is a slow leader.
"""

from __future__ import annotations

from enum import Enum, auto
from random import Random

from .options import RaftOptions, RotationMode


class Act(Enum):
    """What the leader has to do after a tick."""

    NOTHING = auto()
    DRAIN = auto()
    HOLD = auto()
    RESUME = auto()
    TRANSFER = auto()


class Rotation:
    """The turn of one leader."""

    __slots__ = ("_drain_left", "_options", "_random", "draining", "hold_left", "holding", "turn_left")

    def __init__(self, options: RaftOptions, random: Random) -> None:
        self._options = options
        self._random = random
        self.draining = False
        self.holding = False
        self._drain_left = 0
        self.hold_left = 0
        """Ticks until a holding leader resumes."""
        self.turn_left = 0
        """Ticks until the turn ends; 0 with rotation off."""
        self._draw()

    def _draw(self) -> None:
        if self._options.rotation is not RotationMode.OFF:
            self.turn_left = self._random.randint(self._options.rotation_min_ticks, self._options.rotation_max_ticks)

    def adopt(self, options: RaftOptions) -> None:
        """Other options. A turn is drawn anew where its length is another, but for one that is ending already."""
        before, self._options = self._options, options
        turn = (options.rotation, options.rotation_min_ticks, options.rotation_max_ticks)
        if turn != (before.rotation, before.rotation_min_ticks, before.rotation_max_ticks) and not self.closed:
            self.turn_left = 0
            self._draw()

    @property
    def closed(self) -> bool:
        """Whether requests are refused."""
        return self.draining or self.holding

    def tick(self, *, settled: bool) -> Act:
        """One tick. `settled`: all that the leader has is committed."""
        if self.holding:
            self.hold_left -= 1
            if self.hold_left > 0:
                return Act.NOTHING
            self.holding = False
            self._draw()
            return Act.RESUME
        if self.draining:
            self._drain_left -= 1
            if not settled and self._drain_left > 0:
                return Act.NOTHING
            self.draining = False
            self.holding = True
            self.hold_left = 2 * self._options.election_ticks + self._options.rotation_margin_ticks
            return Act.HOLD
        if self.turn_left == 0:
            return Act.NOTHING
        self.turn_left -= 1
        if self.turn_left > 0:
            return Act.NOTHING
        self._draw()  # for the case that now is a bad moment
        return Act.DRAIN if self._options.rotation is RotationMode.DELAY_HEARTBEATS else Act.TRANSFER

    def drain(self) -> None:
        """Closes the door; the hold follows."""
        self.draining = True
        self._drain_left = self._options.election_ticks
