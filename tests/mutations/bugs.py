"""All bugs, by name."""

from __future__ import annotations

from typing import Final

from tests.mutations.bug import Bug
from tests.mutations.bugs_node import NODE
from tests.mutations.bugs_raft import RAFT

BUGS: Final[dict[str, Bug]] = {each.name: each for each in (*RAFT, *NODE)}
