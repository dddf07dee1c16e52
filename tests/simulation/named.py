"""The names of what a campaign must have had: every fault, and situations that are worth reaching.

A name that no run counted is told at the end of each campaign (`report.missed`): a fault that is never tried, or a
situation that never comes about, tests nothing.
"""

from __future__ import annotations

from typing import Final

FAULT: Final = "fault: "
REACHED: Final = "reached: "

FAULTS: Final = (
    "bit rot",
    "bridge",
    "clog",
    "crash",
    "crash all",
    "crash in a write",
    "failed sync",
    "full disk",
    "graceful restart",
    "isolate",
    "kill",
    "membership",
    "not ready",
    "one way",
    "pause",
    "slow disk",
    "snapshot",
    "split",
    "transfer",
    "wipe",
)

SITUATIONS: Final[tuple[str, ...]] = ()

NAMED: Final = frozenset({*(FAULT + name for name in FAULTS), *(REACHED + name for name in SITUATIONS)})
