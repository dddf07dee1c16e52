"""What a node tells of itself: a snapshot in plain data, for REST, metrics and tests. Nothing in it is live."""

from __future__ import annotations

from dataclasses import dataclass

from .progress import Progress, ProgressState
from .types import Config, Role


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """One peer as its leader sees it."""

    match: int
    next: int
    state: ProgressState
    inflight: int
    """Appends with entries that are not answered."""
    inflight_bytes: int
    active: bool
    """Heard since the last check of the quorum."""
    paused: bool
    learner: bool
    pending_snapshot: int

    @classmethod
    def of(cls, peer: Progress, *, learner: bool) -> PeerStatus:
        return cls(
            peer.match,
            peer.next,
            peer.state,
            len(peer.inflights),
            peer.inflights.bytes,
            peer.recent_active,
            peer.paused,
            learner,
            peer.pending_snapshot,
        )


@dataclass(frozen=True, slots=True)
class RotationStatus:
    """Zero and false on a node that does not lead, or with rotation off."""

    draining: bool = False
    holding: bool = False
    hold_left_ticks: int = 0
    turn_left_ticks: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """One node."""

    id: int
    role: Role
    term: int
    vote: int
    leader: int
    commit: int
    applied: int
    persisted: int
    """Last index that this node's disk holds of this log."""
    first_index: int
    last_index: int
    snapshot_index: int
    config: Config
    transferee: int
    """Whom leadership is being handed to, or 0."""
    peers: dict[int, PeerStatus]
    """Empty on a node that does not lead."""
    rotation: RotationStatus
    uncommitted_bytes: int
    leader_silent_ticks: int
    """Ticks since a leader was heard; 0 on the leader."""
    pending_reads: int
    ignored: int
    """Messages dropped since the start."""
