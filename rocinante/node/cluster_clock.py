"""The cluster's time, by which flows end and idle sessions go: one for all nodes, and never back.

It is what the leader last said in a CLOCK (unix ms, in the state) and the monotonic clock since then; so it goes on
over a change of leader, and a wall clock that jumps moves nothing. What the leader says follows its wall clock:

| the wall clock is                           | the cluster's time                                                   |
| ------------------------------------------- | -------------------------------------------------------------------- |
| off by up to CLOCK_STEP_MS                  | slewed to it, by CLOCK_SLEW_PERCENT of the time that passes          |
| off by up to CLOCK_NEAR_MS                  | at double speed, or at half, until they agree                        |
| further off, since less than CLOCK_HOLD_MS  | goes on as it was: warning, alarm                                    |
| further off, and stays so                   | at double speed, or at half, until they agree                        |
| ahead, and nobody of the cluster lived      | steps to it: the cluster was down, and that time is over             |

So no clock makes a flow end before half of its time-out, nor after twice of it. CLOCK_NEAR_MS is more than what a node
is usually behind that leads soon after it has caught up: what it knows is as old as the last CLOCK that it found. That
the cluster was down is known from this: since this process has started no CLOCK came of a leader that it follows. (What
another node's log tells it of the time before is of an older term: the cluster elected since.) A clock that goes to and
fro never holds still, and is not followed. A host that was suspended looks like a jump: the monotonic clock stood still
too.

A CLOCK comes late, never early. So a node keeps its own time where that is ahead of a CLOCK, but for what its monotonic
clock may have gained since the last one (CLOCK_DRIFT_PER_MILLE).

PURE but for a lock: clocks are injected. For any thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from rocinante import limits

logger = logging.getLogger(__name__)

Clock = Callable[[], int]
_SECOND_MS: Final = 1000


class ClusterClock:
    """See the module. `monotonic_ms` and `wall_ms` are this host's clocks."""

    def __init__(self, *, monotonic_ms: Clock, wall_ms: Clock, replicated_ms: int) -> None:
        """`replicated_ms`: the state's time as it was found (0: none yet)."""
        self._monotonic_ms, self._wall_ms = monotonic_ms, wall_ms
        self._lock = threading.Lock()
        self._seen_ms = replicated_ms
        """The last CLOCK of which we know."""
        self._base = (replicated_ms, monotonic_ms())
        """The cluster's time at a moment of the monotonic clock; (0, …): nobody has said it yet."""
        self._floor_ms = replicated_ms
        self._heard = False
        """Somebody of this cluster has lived, and said the time, since this process began."""
        self._heard_at_ms = 0
        self._jump_ms = 0
        """How far the wall clock was away when it was last seen to jump; 0: it is near."""
        self._jumped_at_ms = 0
        self._led_at_ms: int | None = None
        self._corrects = False
        self.jumps = 0
        self.alarm = ""
        """What an operator should know of the clock of this host, or ""."""

    def now_ms(self) -> int:
        """The cluster's time, unix ms; the wall clock where nobody has said it yet."""
        with self._lock:
            return self._now_ms(self._monotonic_ms())

    @property
    def offset_ms(self) -> int:
        """How far this host's wall clock is ahead of the cluster's time."""
        return self._wall_ms() - self.now_ms()

    def _now_ms(self, monotonic_ms: int) -> int:
        base_ms, at_ms = self._base
        if not base_ms:
            return self._wall_ms()
        return max(self._floor_ms, base_ms + monotonic_ms - at_ms)

    def observe(self, replicated_ms: int, *, said: bool) -> None:
        """The state's time after an entry, or after a snapshot. `said`: by the leader that this node follows now."""
        if replicated_ms == self._seen_ms:
            return
        with self._lock:
            at_ms = self._monotonic_ms()
            self._seen_ms = replicated_ms
            now_ms = self._now_ms(at_ms) if self._base[0] else 0
            if said:
                self._heard, self._heard_at_ms = True, at_ms
                if self._led_at_ms is None:  # a leader goes by what it said, and is ahead of what comes back
                    gained_ms = (at_ms - self._base[1]) * limits.CLOCK_DRIFT_PER_MILLE // 1000
                    near = 0 < now_ms - replicated_ms <= limits.CLOCK_NEAR_MS
                    base_ms = max(replicated_ms, now_ms - gained_ms) if near else replicated_ms
                    self._base, self._floor_ms = (base_ms, at_ms), max(now_ms, base_ms)
                    return
            if replicated_ms > now_ms:
                self._base, self._floor_ms = (replicated_ms, at_ms), replicated_ms

    def follow(self) -> None:
        """This node does not lead: what the leader says counts. To be called now and then, and before `lead`."""
        with self._lock:
            self._led_at_ms = None
            at_ms = self._monotonic_ms()
            # A node that has just started has nothing to compare its clock with. One that catches up hears old times,
            # one soon after the other.
            if self._heard and at_ms - self._heard_at_ms >= limits.CLOCK_INTERVAL_MS // 2:
                self._look(self._wall_ms() - self._now_ms(at_ms), at_ms)

    def lead(self) -> int:
        """This node leads: the time that it says, which follows its wall clock. To be called about once a second."""
        with self._lock:
            at_ms, wall_ms = self._monotonic_ms(), self._wall_ms()
            now_ms = self._now_ms(at_ms)
            passed_ms = 0 if self._led_at_ms is None else at_ms - self._led_at_ms
            first, self._led_at_ms = self._led_at_ms is None, at_ms
            offset_ms = wall_ms - now_ms
            if first and not self._heard and offset_ms > 0:
                if self._base[0] and offset_ms > limits.CLOCK_NEAR_MS:
                    logger.info(
                        "the cluster's time is %s behind the clock of this host: nobody led meanwhile, so it steps",
                        _span(offset_ms),
                    )
                now_ms, offset_ms = wall_ms, 0
            self._heard = True
            held = self._look(offset_ms, at_ms)
            self._tell_correction(offset_ms)
            now_ms += _correction(offset_ms, passed_ms, held=held)
            self._base, self._floor_ms = (now_ms, at_ms), max(self._floor_ms, now_ms)
            return self._floor_ms

    def _tell_correction(self, offset_ms: int) -> None:
        """One line in the log when a correction that is no alarm begins."""
        corrects = limits.CLOCK_STEP_MS < abs(offset_ms) <= limits.CLOCK_NEAR_MS
        if corrects and not self._corrects:
            direction, speed = ("behind", "twice") if offset_ms > 0 else ("ahead of", "half")
            logger.info(
                "the cluster's time is %s %s the clock of this host: it runs %s as fast until they agree",
                _span(abs(offset_ms)),
                direction,
                speed,
            )
        self._corrects = corrects

    def _look(self, offset_ms: int, at_ms: int) -> bool:
        """Keep the alarm true. Whether the wall clock is to be followed: near, or far and holding still."""
        if abs(offset_ms) <= limits.CLOCK_NEAR_MS:
            if self._jump_ms:
                logger.info("the clock of this host is near the cluster's time again")
            self._jump_ms, self.alarm = 0, ""
            return True
        away_ms = offset_ms if self._jump_ms >= 0 else -offset_ms
        further = not self._jump_ms or away_ms < 0 or away_ms > abs(self._jump_ms) + limits.CLOCK_STEP_MS
        if further:
            self.jumps += 1
            self._jumped_at_ms = at_ms
        held = at_ms - self._jumped_at_ms >= limits.CLOCK_HOLD_MS
        self._jump_ms = offset_ms
        where = f"{_span(abs(offset_ms))} {'ahead of' if offset_ms > 0 else 'behind'}"
        speed = "twice as fast" if offset_ms > 0 else "half as fast"
        left_ms = self._jumped_at_ms + limits.CLOCK_HOLD_MS - at_ms
        what = f"flows end by the cluster's time; a leader's clock that stays so is followed in {_span(left_ms)}"
        if held:
            what = f"while this node leads, the cluster's time runs {speed} until they agree"
        self.alarm = f"the clock of this host is {where} the cluster's time: {what}; check its NTP"
        if further:
            logger.warning("ALARM: %s", self.alarm)
        return held


def _correction(offset_ms: int, passed_ms: int, *, held: bool) -> int:
    """By how much the cluster's time moves towards the wall clock now that so much time has passed."""
    if not held:
        return 0
    if abs(offset_ms) <= limits.CLOCK_STEP_MS:
        most_ms = passed_ms * limits.CLOCK_SLEW_PERCENT // 100
        return max(-most_ms, min(most_ms, offset_ms))
    return min(offset_ms, passed_ms) if offset_ms > 0 else max(offset_ms, -(passed_ms // 2))


def _span(milliseconds: int) -> str:
    """For people: 12 s, 5 min, 3.5 h, 2 days."""
    seconds = max(0, milliseconds) / _SECOND_MS
    for unit_s, name, most_s in ((1, "s", 120), (60, "min", 7200), (3600, "h", 172_800)):
        if seconds < most_s:
            return f"{seconds / unit_s:.3g} {name}"
    return f"{seconds / 86_400:.3g} days"
