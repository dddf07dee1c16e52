"""How long a call may still take, and how long it pauses between its tries."""

from __future__ import annotations

import random
from collections.abc import Callable

from rocinante.errors import InvalidArgument
from rocinante.limits import CLIENT_BACKOFF_S, CLIENT_BACKOFF_S_MAX, CLIENT_TIMEOUT_S_MAX

__all__ = ["Backoff", "Deadline", "check_timeout"]


def check_timeout(timeout_s: float) -> float:
    """Raises InvalidArgument for what is not a time to wait."""
    if not 0 < timeout_s <= CLIENT_TIMEOUT_S_MAX:
        raise InvalidArgument("timeout_s", f"{timeout_s} is not above 0 and at most {CLIENT_TIMEOUT_S_MAX:.0f} seconds")
    return timeout_s


class Deadline:
    """A moment on `clock` (monotonic seconds)."""

    def __init__(self, timeout_s: float, clock: Callable[[], float]) -> None:
        self.timeout_s = check_timeout(timeout_s)
        self._clock = clock
        self._end_s = clock() + timeout_s

    def remaining_s(self) -> float:
        return max(0.0, self._end_s - self._clock())

    def passed(self) -> bool:
        return self.remaining_s() <= 0.0


class Backoff:
    """Pauses that double up to a bound, each drawn from its upper half, so that clients that failed together come back
    apart."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._next_s = CLIENT_BACKOFF_S

    def pause_s(self) -> float:
        pause_s = self._next_s * self._rng.uniform(0.5, 1.0)
        self._next_s = min(CLIENT_BACKOFF_S_MAX, self._next_s * 2)
        return pause_s
