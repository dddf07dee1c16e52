"""What a bug is: its name, who shipped it, and how it is put into the product."""

from __future__ import annotations

from typing import NamedTuple

from tests.mutations.patching import Patch


class Bug(NamedTuple):
    name: str
    """What the software would do."""
    source: str
    """Who shipped it, or where it is ruled out; "found here" for one of our own."""
    patches: tuple[Patch, ...]
    script: str = ""
    """The golden file of tests/raft whose point this bug breaks, or the test (`FILE::NAME`): it must see it, whoever
    else does. "": only the simulator is meant to."""


def bug(name: str, source: str, *patches: tuple[str, str, str], script: str = "") -> Bug:
    return Bug(name, source, tuple(Patch(*patch) for patch in patches), script)


def is_test(bug: Bug) -> bool:
    """Whether a test of pytest, and no golden file, claims its point."""
    return "::" in bug.script
