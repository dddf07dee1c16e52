"""The order of a table's keys: positions that stay, so that a scan can be interrupted and taken up again while records
come and go.

A key gets the next position when it first comes, and keeps it while it lives. One that is deleted leaves a *ghost*:
when it comes back before the ghost is swept away it has its old place again, so that every key stands here at most
once. Positions and ghosts depend on the commands alone, so that a cursor means the same on all nodes.

Keys stand in segments of at most SEGMENT_KEYS. A segment, once it is not the last, never changes in place: whoever
holds on to the list of segments (a frozen state) has the order as it was.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from typing import Final, NamedTuple

SEGMENT_KEYS: Final = 4096
GHOSTS_MIN: Final = 2 * SEGMENT_KEYS
"""Fewer ghosts than these are left alone."""
_SWEEP_PER_GHOST: Final = 4
"""Keys looked at for each new ghost while there are too many: more than keeps up, so that ghosts stay fewer than live
keys."""


class Segment:
    """Keys in order; the key at `keys[i]` has position `first + i`, or `positions[i]` where some have gone."""

    __slots__ = ("first", "keys", "positions")

    def __init__(self, first: int, keys: list[bytes], positions: array[int] | None = None) -> None:
        self.first = first
        self.keys = keys
        self.positions = positions

    def all_positions(self) -> array[int]:
        if self.positions is not None:
            return self.positions
        return array("Q", range(self.first, self.first + len(self.keys)))

    def find(self, position: int) -> int:
        """Where in `keys` the first key at or behind a position is."""
        if self.positions is not None:
            return bisect_left(self.positions, position)
        return max(0, position - self.first)

    def position(self, at: int) -> int:
        return self.first + at if self.positions is None else self.positions[at]


class Stretch(NamedTuple):
    """Consecutive keys of one segment."""

    segment: Segment
    start: int
    keys: list[bytes]

    def position_after(self, keys: int) -> int:
        """Where to go on behind the first so many of these keys."""
        return self.segment.position(self.start + keys - 1) + 1


class OrderView(NamedTuple):
    """The order as it was; `last_keys` is how many keys its last segment had."""

    segments: list[Segment]
    last_keys: int
    next_position: int
    sweep_position: int
    ghosts: int


class KeyOrder:
    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self.ghosts: set[bytes] = set()
        self.next_position = 0
        self.sweep_position = 0
        """Where the next sweep goes on."""

    def add(self, keys: list[bytes]) -> None:
        """Keys that were not in the table, each once, in the order in which they came."""
        if self.ghosts:
            fresh = [key for key in keys if key not in self.ghosts]
            self.ghosts.difference_update(keys)
        else:
            fresh = keys
        at = 0
        if self.segments:
            last = self.segments[-1]
            if last.positions is None and last.first + len(last.keys) == self.next_position:
                at = min(SEGMENT_KEYS - len(last.keys), len(fresh))
                last.keys += fresh[:at]
                self.next_position += at
        while at < len(fresh):
            some = fresh[at : at + SEGMENT_KEYS]
            self.segments.append(Segment(self.next_position, some))
            self.next_position += len(some)
            at += len(some)

    def forget(self, keys: list[bytes], live: int) -> None:
        """Keys that were in the table, each once, and now are not; `live` are left. Sweeps some ghosts where there are
        many."""
        self.ghosts.update(keys)
        budget = len(keys) * _SWEEP_PER_GHOST
        while budget > 0 and self.segments and len(self.ghosts) > max(GHOSTS_MIN, live // 2):
            budget -= self._sweep()

    def _sweep(self) -> int:
        """Take the ghosts out of the next segment. Returns how many keys that looked at."""
        at = bisect_right(self.segments, self.sweep_position, key=_first) - 1
        if at < 0 or self.segments[at].position(len(self.segments[at].keys) - 1) < self.sweep_position:
            at += 1
        if at >= len(self.segments):
            self.sweep_position = 0
            at = 0
        segment = self.segments[at]
        looked_at = len(segment.keys)
        positions = segment.all_positions()
        self.sweep_position = positions[-1] + 1
        ghosts = self.ghosts
        left = [pair for pair in zip(segment.keys, positions, strict=True) if pair[0] not in ghosts]
        if len(left) < looked_at:
            ghosts.difference_update(segment.keys)
            keys = [key for key, _ in left]
            kept = array("Q", [position for _, position in left])
            self._replace(at, keys, kept)
        return looked_at

    def _replace(self, at: int, keys: list[bytes], positions: array[int]) -> None:
        if at and len(self.segments[at - 1].keys) + len(keys) <= SEGMENT_KEYS:
            before = self.segments[at - 1]
            keys = before.keys + keys
            positions = before.all_positions() + positions
            del self.segments[at]
            at -= 1
        if keys:
            self.segments[at] = Segment(positions[0], keys, positions)
        else:
            del self.segments[at]

    def walk(self, position: int, limit: int) -> Stretch | None:
        """The next keys at or behind a position, at most `limit` and of one segment only, ghosts too; None at the
        end."""
        at = max(0, bisect_right(self.segments, position, key=_first) - 1)
        while at < len(self.segments):
            segment = self.segments[at]
            start = segment.find(position)
            if start < len(segment.keys):
                return Stretch(segment, start, segment.keys[start : start + limit])
            at += 1
        return None

    def view(self) -> OrderView:
        """The order as it is now; costs a copy of the list of segments."""
        last_keys = len(self.segments[-1].keys) if self.segments else 0
        return OrderView(list(self.segments), last_keys, self.next_position, self.sweep_position, len(self.ghosts))


def _first(segment: Segment) -> int:
    return segment.first
