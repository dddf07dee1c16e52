"""`python -m tests.simulation --seeds 1-500`: run the seeds; exit status 1 when one failed, 2 for wrong use."""

from __future__ import annotations

import argparse
import os
import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from .campaign import Total, campaign
from .simulation import run
from .world import SimulationFailure


def parse_seeds(text: str) -> range:
    """`7` or `1-500`. Raises ArgumentTypeError."""
    first, dash, last = text.partition("-")
    if not first.isdigit() or (dash and not last.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r}: expected FIRST-LAST or one number")
    seeds = range(int(first), int(last if dash else first) + 1)
    if not seeds:
        raise argparse.ArgumentTypeError(f"{text!r}: there is no seed in it")
    return seeds


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=parse_seeds, default=range(1, 501), metavar="FIRST-LAST")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, metavar="N")
    parser.add_argument("--twice", action="store_true", help="run each seed twice and compare the runs")
    parser.add_argument("--failures", type=int, default=5, metavar="N", help="stop after so many (default 5)")
    parser.add_argument("--verbose", action="store_true", help="every event worth a line; for one seed")
    chosen = parser.parse_args()
    if chosen.processes < 1 or chosen.failures < 1:
        parser.error("--processes, --failures: expected a number of at least 1")
    if chosen.verbose and len(chosen.seeds) > 1:
        parser.error("--verbose: for one seed only")
    return chosen


def report(console: Console, total: Total, seconds: float) -> None:
    hours = total.virtual_seconds / 3600
    console.print(
        f"{total.seeds} seeds in {seconds:.0f} s: {hours:.1f} simulated hours ({total.speed:.0f} x real time on each "
        f"core), {total.events:,} events, {total.entries:,} entries committed, {total.operations:,} calls done, "
        f"{total.unknown:,} of unknown outcome, {total.refused:,} refused, {total.retries:,} tried again"
    )
    table = Table("what", "times")
    for kind, times in sorted(total.counts.items()):
        table.add_row(kind, f"{times:,}")
    console.print(table)
    for seed, failure in sorted(total.failures.items()):
        console.rule(f"seed {seed}")
        console.print(failure, markup=False, highlight=False)
    if total.failures:
        seeds = ", ".join(map(str, sorted(total.failures)))
        console.print(f"FAILED: {seeds}. Again, with all its events: python -m tests.simulation --seeds N --verbose")


def main() -> int:
    chosen = arguments()
    console = Console()
    if chosen.verbose:
        try:
            print(run(chosen.seeds[0], verbose=True))
        except SimulationFailure as failure:
            print(failure)
            return 1
        return 0
    began = time.monotonic()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[speed]:.0f} x real time, {task.fields[failed]} failed"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("seeds", total=len(chosen.seeds), speed=0.0, failed=0)

        def on_seed(total: Total) -> None:
            progress.update(task, completed=total.seeds, speed=total.speed, failed=len(total.failures))

        total = campaign(
            chosen.seeds,
            processes=chosen.processes,
            twice=lambda _seed: bool(chosen.twice),
            failures_max=chosen.failures,
            on_seed=on_seed,
        )
    report(console, total, time.monotonic() - began)
    return 1 if total.failures else 0


if __name__ == "__main__":
    sys.exit(main())
