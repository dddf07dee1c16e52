"""`python -m tests.simulation.reach --seeds 500`: which lines and branches of the core the seeds do not reach.

Exit status 1 when a line is not reached, unless `--report-only`. What the golden scripts reach besides is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from .__main__ import parse_seeds
from .simulation import run
from .world import SimulationFailure

ROOT: Final = Path(__file__).parents[2]
CORE: Final = "rocinante/raft"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.reach", description=__doc__)
    parser.add_argument("--seeds", type=parse_seeds, default=range(1, 301), metavar="FIRST-LAST", help="or one number")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, metavar="N")
    parser.add_argument("--report-only", action="store_true", help="exit status 0 whatever was not reached")
    parser.add_argument("--share", type=int, metavar="N", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.processes < 1:
        parser.error("--processes: expected a number of at least 1")
    return chosen


def run_share(seeds: range) -> int:
    """In a process that coverage looks at."""
    failed = 0
    for seed in seeds:
        try:
            run(seed)
        except SimulationFailure as failure:
            failed += 1
            print(failure, file=sys.stderr)
    return 1 if failed else 0


def measure(seeds: range, processes: int, directory: Path) -> tuple[dict[str, Any], bool]:
    """(coverage's report as JSON, whether all seeds passed)."""
    covered = [sys.executable, "-m", "coverage"]
    span = f"{seeds.start}-{seeds.stop - 1}"
    shares = [
        subprocess.Popen(
            [
                *(*covered, "run", "--branch", f"--source={CORE}", f"--data-file={directory / f'part.{number}'}"),
                *("-m", "tests.simulation.reach", "--seeds", span, "--processes", str(processes)),
                *("--share", str(number)),
            ],
            cwd=ROOT,
        )
        for number in range(processes)
    ]
    statuses = [share.wait() for share in shares]
    whole, report = f"--data-file={directory / 'whole'}", directory / "report.json"
    parts = [str(directory / f"part.{number}") for number in range(processes)]
    subprocess.run([*covered, "combine", "--quiet", whole, *parts], cwd=ROOT, check=True)
    subprocess.run([*covered, "json", "--quiet", whole, "-o", str(report)], cwd=ROOT, check=True)
    return json.loads(report.read_text()), not any(statuses)


def show(found: dict[str, Any]) -> int:
    """Lines that were not reached."""
    for path, file in sorted(found["files"].items()):
        branches = [f"{before}->{after if after > 0 else 'end'}" for before, after in file["missing_branches"]]
        if file["missing_lines"] or branches:
            print(f"{path}: lines {file['missing_lines'] or 'all reached'}, branches {', '.join(branches) or 'all'}")
    totals = found["totals"]
    print(
        f"{CORE}: {totals['covered_lines']} of {totals['num_statements']} lines, "
        f"{totals['covered_branches']} of {totals['num_branches']} branches"
    )
    return int(totals["missing_lines"])


def main() -> int:
    chosen = arguments()
    if chosen.share is not None:
        return run_share(chosen.seeds[chosen.share :: chosen.processes])
    with tempfile.TemporaryDirectory() as directory:
        found, passed = measure(chosen.seeds, chosen.processes, Path(directory))
    missing = show(found)
    if not passed:
        return 1
    return 1 if missing and not chosen.report_only else 0


if __name__ == "__main__":
    sys.exit(main())
