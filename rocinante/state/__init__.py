"""The replicated state machine: commands in, outcomes and events out. PURE and deterministic (`machine.py`)."""

from __future__ import annotations

from rocinante.state.command import Command, CommandError, Kind
from rocinante.state.events import AppliedEvents, FlowChange, FlowChanges, KvChanges
from rocinante.state.machine import (
    Applied,
    CommandOutcome,
    DuePage,
    EventPage,
    FlowEntry,
    FlowPage,
    FrozenState,
    Position,
    Result,
    StateMachine,
)
from rocinante.state.sections import SnapshotError

__all__ = [
    "Applied",
    "AppliedEvents",
    "Command",
    "CommandError",
    "CommandOutcome",
    "DuePage",
    "EventPage",
    "FlowChange",
    "FlowChanges",
    "FlowEntry",
    "FlowPage",
    "FrozenState",
    "Kind",
    "KvChanges",
    "Position",
    "Result",
    "SnapshotError",
    "StateMachine",
]
