"""The knobs of the core, with their units. Everything that the core bounds is bounded here.

Contract: a `RaftOptions` that exists is valid; a wrong value raises `ValueError` naming the field.
Times are ticks (the caller decides how long a tick is), sizes are bytes of entry data plus
`log.ENTRY_OVERHEAD_BYTES` for each entry.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum


class RotationMode(StrEnum):
    """How a leader gives others their turn; see `rotation.py`."""

    OFF = "off"
    DELAY_HEARTBEATS = "delay_heartbeats"
    TRANSFER = "transfer"


@dataclass(frozen=True, slots=True)
class RaftOptions:
    """All options of one node. Every node of a cluster should have the same tick counts."""

    election_ticks: int = 10
    """Shortest election timeout; each one is drawn from [election_ticks, 2 * election_ticks) (raft paper, 5.2)."""
    heartbeat_ticks: int = 1
    """Ticks between two heartbeats of a leader; well below `election_ticks`."""
    max_inflight_appends: int = 256
    """Unanswered appends with entries to one peer before the leader pauses (dissertation, 10.2.1)."""
    max_inflight_bytes: int = 64 * 1024 * 1024
    """Bytes of entries in unanswered appends to one peer before the leader pauses."""
    max_append_bytes: int = 1024 * 1024
    """Bytes of entries in one append; one entry always fits."""
    max_uncommitted_bytes: int = 64 * 1024 * 1024
    """Bytes in the uncommitted tail of a leader's log before proposals are dropped; an empty tail takes any one."""
    max_committed_bytes: int = 4 * 1024 * 1024
    """Bytes of committed entries that one Ready hands out; one entry always fits."""
    max_applying_bytes: int = 64 * 1024 * 1024
    """Bytes of entries handed out and not yet applied before no more are handed out."""
    max_pending_reads: int = 65536
    """ReadIndex requests that wait for their round."""
    max_term_leap: int = 1 << 32
    """A message of a term that is further ahead than this is dropped as damaged: no cluster gets there in a life, and
    following it could end the numbers that a term has on the disk and on the wire (64 bits)."""
    pre_vote: bool = True
    """Ask before the term is raised (dissertation, 9.6)."""
    check_quorum: bool = True
    """A leader without a quorum steps down, and who hears a leader refuses votes (dissertation, 6.2 and 4.2.3)."""
    lazy_commit: bool = False
    """Tell followers of a greater commit index with the next entries, or at the next tick, not by an empty append of
    its own at once; except those that `Raft.hurry` named. Saves half of the messages of a lone proposal."""
    frugal_reads: bool = False
    """Ask only as many peers as a quorum needs to confirm a round of reads; all of them at the next heartbeat."""
    rotation: RotationMode = RotationMode.OFF
    rotation_min_ticks: int = 600
    """A leader's shortest turn."""
    rotation_max_ticks: int = 1200
    """A leader's longest turn."""
    rotation_margin_ticks: int = 10
    """By how much a delayed heartbeat outlasts the longest election timeout, 2 * election_ticks."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "rotation", _rotation_mode(self.rotation))  # a plain string is welcome too
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _FLAGS:
                if not isinstance(value, bool):
                    raise ValueError(f"{field.name}: expected true or false, got {value!r}")
            elif field.name != "rotation" and (type(value) is not int or value < 1):
                raise ValueError(f"{field.name}: expected a whole number of at least 1, got {value!r}")
        if self.election_ticks <= self.heartbeat_ticks:
            raise ValueError(
                f"election_ticks: must be greater than heartbeat_ticks ({self.heartbeat_ticks}), "
                f"got {self.election_ticks}"
            )
        if self.rotation_max_ticks < self.rotation_min_ticks:
            raise ValueError(
                f"rotation_max_ticks: must be at least rotation_min_ticks ({self.rotation_min_ticks}), "
                f"got {self.rotation_max_ticks}"
            )


_FLAGS = frozenset({"pre_vote", "check_quorum", "lazy_commit", "frugal_reads"})


def _rotation_mode(value: object) -> RotationMode:
    try:
        return RotationMode(str(value))
    except ValueError:
        allowed = ", ".join(mode.value for mode in RotationMode)
        raise ValueError(f"rotation: expected one of {allowed}, got {value!r}") from None
