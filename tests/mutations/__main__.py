"""`make mutations`: puts each bug into the product, and shows who sees it; writes the table of it (table.md).

First the golden files of tests/raft, all of them, and the test that the bug names; then lives in the simulator, from
seed 1 on, until one fails. Exit status 1 when a bug is not seen, or not by the script or test that claims its point, or
when the product without a bug is not green where a bug was seen.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Final

from tests.mutations.bug import Bug, is_test
from tests.mutations.bugs import BUGS
from tests.mutations.jobs import ROOT, Job, Sight, run_jobs
from tests.mutations.record import TABLE, Row, write
from tests.raft.playing import FILES

SEEDS_MAX: Final = 300
"""For each bug; one that only the simulator is meant to see gets so many in any case."""
WORLDS: Final = ("rocinante", "tests/raft", "tests/simulation", "tests/mutations")
"""What the table depends on."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS_MAX, metavar="N", help=f"at most (default {SEEDS_MAX})")
    parser.add_argument("--only", default="", metavar="TEXT", help="bugs whose name has it; no table is written")
    chosen = parser.parse_args()
    if chosen.seeds < 0:
        parser.error("--seeds: expected a number of at least 0")
    return chosen


def tree() -> str:
    """Which product this is."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()

    changed = git("status", "--porcelain", "--", *WORLDS, f":!{TABLE.relative_to(ROOT)}")
    return git("rev-parse", "--short=12", "HEAD^{tree}") + (" and changes that are not committed" if changed else "")


def problem(bug: Bug, sight: Sight) -> str:
    """What is wrong with how it was seen, or ""."""
    if sight.error:
        return sight.error
    if bug.script and bug.script not in sight.scripts:
        others = ", ".join(sorted(sight.scripts)) or "no script"
        return f"{bug.script} does not see it ({others} does)"
    return "" if sight.seen else "NOT SEEN by anything"


def scripts_for(bug: Bug) -> tuple[str, ...]:
    return (*FILES, bug.script) if is_test(bug) else tuple(FILES)


def seeds_for(bug: Bug, seeds_max: int) -> int:
    return seeds_max if bug.script else max(seeds_max, SEEDS_MAX)


def look(bugs: Sequence[Bug], seeds_max: int) -> tuple[list[Row], int]:
    """The rows, and how many bugs were not seen as they must be."""
    began, done, wrong = time.monotonic(), 0, 0

    def tell(job: Job, sight: Sight) -> None:
        nonlocal done, wrong
        done += 1
        why = problem(BUGS[job.bug], sight)
        wrong += bool(why)
        told = f"{len(sight.scripts)} scripts, " + (
            f"seed {sight.seed}: {sight.what[:90]}" if sight.seed else "no seed"
        )
        print(f"{done:3}/{len(bugs)} {time.monotonic() - began:6.0f} s  {job.bug}: {why or told}", flush=True)

    jobs = [Job(each.name, scripts_for(each), range(1, seeds_for(each, seeds_max) + 1), see_all=True) for each in bugs]
    sights = run_jobs(jobs, tell)
    rows = [
        Row(bug.name, bug.source, bug.script, len(sight.scripts), sight.seed, sight.what)
        for bug, sight in zip(bugs, sights, strict=True)
    ]
    return rows, wrong


def main() -> int:
    chosen = arguments()
    bugs = [each for each in BUGS.values() if chosen.only in each.name]
    which = tree()
    rows, wrong = look(bugs, chosen.seeds)
    seeds = sorted({row.seed for row in rows if row.seed})
    print(f"the product without a bug: all scripts, and seeds {', '.join(map(str, seeds)) or 'none'}", flush=True)
    [green] = run_jobs([Job("", tuple(FILES), seeds, see_all=True)])
    if green.seen or green.error:
        print(f"NOT GREEN without a bug: {green.scripts} seed {green.seed} {green.what} {green.error}")
        return 1
    if wrong:
        print(f"{wrong} of {len(bugs)} bugs are not seen as they must be; {TABLE.name} stays as it was")
        return 1
    if not chosen.only:
        write(rows, seeds_max=chosen.seeds, tree=which)
        print(f"{TABLE.relative_to(ROOT)} is written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
