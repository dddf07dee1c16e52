"""Would the rounds find a bug? `python -m tests.faults.broken BUG FAULT`: rounds of a fault with broken nodes, until
one finds it.

The bugs are in bugs/sitecustomize.py; the product has none of this. Exit status 0 when a violation was found, which is
told, and 1 when none was.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests.faults.cluster import NetworkCluster
from tests.faults.namespaces import Lab
from tests.faults.plan import Round, Stint
from tests.faults.registry import Rig, all_faults
from tests.faults.rounds import QUICK, Result, run_stint

TRIES: Final = 3
PACE: Final = replace(QUICK, around_s=1.0)
"""Long enough for a bug to show: writes that are held back must be some."""
ONE_NODE: Final = ("other-bytes",)
"""Bugs that all nodes have would be no difference between them."""


def rig_for(bug: str) -> Rig:
    @contextlib.contextmanager
    def rig(cluster: NetworkCluster) -> Iterator[None]:
        for number, node in cluster.nodes.items():
            if bug not in ONE_NODE or number == 1:
                node.environment |= {"PYTHONPATH": str(Path(__file__).parent / "bugs"), "ROCINANTE_BUG": bug}
        yield

    return rig


def main() -> int:
    bug, name = sys.argv[1:]
    fault = replace(all_faults()[name], rig=rig_for(bug))
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="rocinante-faults-") as directory, Lab() as lab:
        for number in range(1, TRIES + 1):
            stint = Stint(3, (Round(number, fault, 3, f"{bug}/{number}"),))
            run_stint(lab, stint, Path(directory), PACE, results.append, lambda _: None)
            if results[-1].violations:
                print(f"found in round {number}:", *results[-1].violations, sep="\n  ")
                return 0
    print(f"not found in {TRIES} rounds")
    return 1


if __name__ == "__main__":
    sys.exit(main())
