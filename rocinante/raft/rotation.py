"""Leader rotation: at random intervals a leader gives the others their turn. Rocinante's addition to Raft.

Off by default.

Contract: a `Rotation` lives as long as one leadership and is told every tick. The length of the turn is drawn from
[rotation_min_ticks, rotation_max_ticks] by the injected source of randomness.

delay_heartbeats  the leader *holds*: it sends nothing for longer than the longest election timeout (paper, section
                  9.3: a new leader emerges as soon as a timeout fires), takes no proposals and no reads, and claims
                  no lease against (pre-)votes, so that two nodes rotate too. If nobody took over it resumes, and
                  draws a new turn.
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
    HOLD = auto()
    RESUME = auto()
    TRANSFER = auto()


class Rotation:
    """The turn of one leader."""

    __slots__ = ("_options", "_random", "hold_left", "holding", "turn_left")

    def __init__(self, options: RaftOptions, random: Random) -> None:
        self._options = options
        self._random = random
        self.holding = False
        self.hold_left = 0
        """Ticks until a holding leader resumes."""
        self.turn_left = 0
        """Ticks until the turn ends; 0 with rotation off."""
        self._draw()

    def _draw(self) -> None:
        if self._options.rotation is not RotationMode.OFF:
            self.turn_left = self._random.randint(self._options.rotation_min_ticks, self._options.rotation_max_ticks)

    def tick(self) -> Act:
        if self.holding:
            self.hold_left -= 1
            if self.hold_left > 0:
                return Act.NOTHING
            self.holding = False
            self._draw()
            return Act.RESUME
        if self.turn_left == 0:
            return Act.NOTHING
        self.turn_left -= 1
        if self.turn_left > 0:
            return Act.NOTHING
        self._draw()
        return Act.HOLD if self._options.rotation is RotationMode.DELAY_HEARTBEATS else Act.TRANSFER

    def hold(self) -> None:
        """Starts to hold back. Lasts longer than any election timeout, which is below 2 * election_ticks."""
        self.holding = True
        self.hold_left = 2 * self._options.election_ticks + self._options.rotation_margin_ticks
