"""All bugs, by name: those in the core first."""

from __future__ import annotations

from typing import Final

from tests.mutations.bug import Bug
from tests.mutations.bugs_elections import ELECTIONS
from tests.mutations.bugs_log import REPLICATION, SNAPSHOTS
from tests.mutations.bugs_node import NODE
from tests.mutations.bugs_service import MEMBERSHIP, READS_AND_TRANSFER

BUGS: Final[dict[str, Bug]] = {
    each.name: each for each in (*ELECTIONS, *REPLICATION, *SNAPSHOTS, *MEMBERSHIP, *READS_AND_TRANSFER, *NODE)
}
