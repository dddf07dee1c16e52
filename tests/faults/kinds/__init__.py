"""The faults, one module a noun. A new module is named here."""

from __future__ import annotations

from importlib import import_module
from typing import Final

MODULES: Final = (
    "processes",
    "partitions",
    "slowness",
    "leadership",
    "disks",
    "power",
    "damage",
    "snapshots",
    "members",
)

__all__ = ["load"]


def load() -> None:
    """Import all modules, so that their faults are registered."""
    for name in MODULES:
        import_module(f"{__name__}.{name}")
