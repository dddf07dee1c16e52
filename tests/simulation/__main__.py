"""`python -m tests.simulation --seeds 1-500`: run the seeds; exit status 1 when one failed, 2 for wrong use.

`--record FILE` keeps what was done, and goes on where it stopped; `--report FILE` shows all of it.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from . import report
from .campaign import Total, campaign
from .record import Block, Record, RecordError, commit_of_tree, missing
from .simulation import run
from .world import SimulationFailure

BLOCK_SEEDS: Final = 20
"""Of one line of a record: some seconds, which is what a stopped campaign loses."""
COLUMNS: Final = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
    TimeRemainingColumn(),
    TextColumn("{task.fields[speed]:.0f} x real time, {task.fields[failed]} failed"),
)


def parse_seeds(text: str) -> range:
    """`500` (1 to 500) or `7-9`. Raises ArgumentTypeError."""
    first, dash, last = text.partition("-") if "-" in text else ("1", "-", text)
    if not first.isdigit() or (dash and not last.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r}: expected FIRST-LAST, or one number for 1 to that")
    seeds = range(int(first), int(last) + 1)
    if not seeds:
        raise argparse.ArgumentTypeError(f"{text!r}: there is no seed in it")
    return seeds


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=parse_seeds, default=range(1, 501), metavar="FIRST-LAST", help="or one number")
    parser.add_argument("--seed", type=int, metavar="N", help="this one alone, with every event worth a line")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, metavar="N")
    parser.add_argument("--twice", action="store_true", help="run each seed twice and compare the runs")
    parser.add_argument("--failures", type=int, default=5, metavar="N", help="stop after so many (default 5)")
    parser.add_argument("--record", type=Path, metavar="FILE", help="append what was done; leave out what it has")
    parser.add_argument("--report", type=Path, metavar="FILE", help="show what a record has, and run nothing")
    parser.add_argument("--markdown", action="store_true", help="the report as Markdown")
    chosen = parser.parse_args()
    if chosen.processes < 1 or chosen.failures < 1:
        parser.error("--processes, --failures: expected a number of at least 1")
    if chosen.markdown and not chosen.report:
        parser.error("--markdown: it is a form of --report")
    return chosen


def one(seed: int) -> int:
    try:
        print(run(seed, verbose=True))
    except SimulationFailure as failure:
        print(failure)
        return 1
    return 0


def tell(path: Path, *, as_markdown: bool) -> int:
    blocks = Record(path).blocks()
    if not blocks:
        print(f"{path}: there is no record", file=sys.stderr)
        return 2
    if as_markdown:
        print(report.markdown(blocks))
    else:
        console = Console()
        report.show(console, report.sum_of(blocks))
        commits = dict.fromkeys(block.commit for block in blocks)
        console.print(f"seeds {report.seeds_of(blocks)}, run by {', '.join(commits)}")
    return 1 if any(block.total.failures for block in blocks) else 0


def many(chosen: argparse.Namespace) -> int:
    console = Console()
    record = Record(chosen.record) if chosen.record else None
    done: list[Block] = []
    if record is not None:
        record.repair()
        done = record.blocks()
    commit = commit_of_tree()
    if other := {block.commit for block in done} - {commit}:
        console.print(f"the record has seeds that were run by {', '.join(sorted(other))}; this is {commit}")
    blocks = missing(chosen.seeds, done, BLOCK_SEEDS)
    total = report.sum_of(done)
    with Progress(*COLUMNS, console=console) as progress:
        task = progress.add_task(
            "seeds",
            total=total.seeds + sum(map(len, blocks)),
            completed=total.seeds,
            speed=total.speed,
            failed=len(total.failures),
        )

        def on_block(block: Sequence[int], part: Total) -> None:
            if record is not None:
                record.append(Block(block[0], block[-1], commit, part))
            total.merge(part)
            progress.update(task, completed=total.seeds, speed=total.speed, failed=len(total.failures))

        campaign(
            blocks,
            processes=chosen.processes,
            twice=chosen.twice,
            failures_max=chosen.failures,
            on_block=on_block,
        )
    report.show(console, total)
    return 1 if total.failures else 0


def main() -> int:
    chosen = arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if chosen.report:
            return tell(chosen.report, as_markdown=chosen.markdown)
        return one(chosen.seed) if chosen.seed is not None else many(chosen)
    except RecordError as error:
        print(f"not a record of a campaign: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; --record goes on where it was", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
