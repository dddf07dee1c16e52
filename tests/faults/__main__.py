"""Faults between real processes: `python -m tests.faults [--help]`, as root. What a round is: tests/faults/README.md.

Exit status: 0, 1 (a violation), 2 (wrong use), 3 (cannot be run here).
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

import psutil
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.faults.disk import sweep
from tests.faults.namespaces import Lab, left_by
from tests.faults.plan import Round, Stint, plan, plan_of
from tests.faults.registry import Fault, all_faults
from tests.faults.report import as_json, as_markdown, as_table
from tests.faults.rounds import QUICK, Pace, Result, run_stint

NEEDS: Final = ("ip", "bridge", "nft", "nsenter", "setpriv")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=100, help="how many (100)")
    parser.add_argument("--seed", default="1", help="what they are drawn from (1)")
    parser.add_argument("--only", action="append", metavar="FAULT", help="this fault; may be repeated")
    parser.add_argument("--nodes", type=int, action="append", help="clusters of this size (3 and 5)")
    parser.add_argument("--draw", help="the choices of one round, as a failure prints it; implies one round")
    parser.add_argument("--quick", action="store_true", help="each quick fault once, with short timers")
    parser.add_argument("--json", type=Path, help="the results as JSON into this file")
    parser.add_argument("--markdown", type=Path, help="the table as Markdown into this file")
    parser.add_argument("--directory", type=Path, help="where nodes keep their data and logs (a temporary one)")
    parser.add_argument("--keep", action="store_true", help="keep logs and histories of rounds that pass, too")
    parser.add_argument("--list", action="store_true", help="the faults that there are")
    return parser.parse_args(arguments)


def cannot_run() -> str:
    """Why this machine cannot, or nothing."""
    if os.geteuid() != 0:
        return "needs root, for network namespaces"
    missing = [name for name in NEEDS if shutil.which(name) is None]
    return f"missing: {', '.join(missing)} (packaging/apt-test.txt)" if missing else ""


def chosen(options: argparse.Namespace, faults: dict[str, Fault]) -> list[Stint]:
    """The plan. Raises ValueError."""
    names = options.only or [name for name, fault in faults.items() if fault.quick or not options.quick]
    unknown = [name for name in names if name not in faults]
    if unknown:
        raise ValueError(f"--only: there is no fault named {', '.join(unknown)} (see --list)")
    if options.rounds < 1:
        raise ValueError(f"--rounds: {options.rounds}, must be at least 1")
    wanted = [faults[name] for name in names]
    if options.draw is not None:
        if len(wanted) != 1 or len(options.nodes or []) != 1:
            raise ValueError("--draw: say --only and --nodes too, one of each")
        return [Stint(options.nodes[0], (Round(1, wanted[0], options.nodes[0], options.draw),))]
    sizes = options.nodes or sorted({size for fault in wanted for size in fault.sizes})
    if options.quick:
        # The smallest cluster that a fault makes sense for, so that most share one.
        rounds = [Round(at, one, min(one.sizes), f"{options.seed}/{at}") for at, one in enumerate(wanted, 1)]
        return plan_of(rounds)
    return plan(options.seed, options.rounds, wanted, sizes)


def repeat_command(result: Result) -> str:
    return f"python -m tests.faults --only {result.fault} --nodes {result.nodes} --draw {result.draw}"


def left_behind() -> list[str]:
    """Processes and namespaces that should be gone."""
    processes = [f"process {child.pid}: {child.name()}" for child in psutil.Process().children(recursive=True)]
    return processes + [f"network namespace {name}" for name in left_by(os.getpid())]


def line_of(result: Result) -> str:
    """A round in a line."""
    notes = f"  ({', '.join(result.notes)})" if result.notes and not result.violations else ""
    return (
        f"{result.number:4} {result.fault:24} {result.nodes} nodes  {result.writes:5} writes  "
        f"gap {result.gap_s:5.2f} s at {result.gap_at_s:4.1f} s  healed at {result.faulty_s:4.1f} s, "
        f"whole {result.whole_s:4.1f} s later  {result.rss_mib:3.0f} MiB  "
        f"{'VIOLATION' if result.violations else 'ok'}{notes}"
    )


def run(options: argparse.Namespace, stints: list[Stint], directory: Path, console: Console) -> list[Result]:
    """All rounds; tells on the way what happens."""
    results: list[Result] = []
    total = sum(len(stint.rounds) for stint in stints)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    sweep()
    with Lab() as lab, Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total)

        def began(round_: Round) -> None:
            progress.update(task, description=f"{round_.fault.name}, {round_.nodes} nodes")

        def done(result: Result) -> None:
            results.append(result)
            progress.advance(task)
            told = [line_of(result)]
            if result.violations:
                told += [*result.violations, f"kept: {result.kept}", f"again: {repeat_command(result)}"]
            progress.console.print("\n       ".join(told), markup=False, highlight=False, soft_wrap=True)

        for stint in stints:
            pace = replace(QUICK if options.quick else Pace(), keep=options.keep)
            run_stint(lab, stint, directory, pace, done, began)
    return results


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    console = Console()
    faults = all_faults()
    if options.list:
        for fault in faults.values():
            console.print(f"{fault.name:24} {fault.about}", highlight=False, soft_wrap=True)
        return 0
    try:
        stints = chosen(options, faults)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if reason := cannot_run():
        print(reason, file=sys.stderr)
        return 3
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    directory = options.directory or Path(tempfile.mkdtemp(prefix="rocinante-faults-"))
    began = time.monotonic()
    results = run(options, stints, directory, console)
    order = list(faults)
    console.print(as_table(results, order))
    seconds = time.monotonic() - began
    if options.json:
        options.json.write_text(as_json(results, seed=options.seed, seconds=seconds))
    if options.markdown:
        command = f"python -m tests.faults {shlex.join(sys.argv[1:] if arguments is None else arguments)}".strip()
        options.markdown.write_text(as_markdown(results, order, command=command, seconds=seconds))
    if left := left_behind():
        console.print("left behind:", *left, sep="\n  ", highlight=False)
        return 1
    if any(result.violations for result in results):
        console.print(f"VIOLATIONS; logs and histories are in {directory}")
        return 1
    if options.keep:
        console.print(f"logs and histories are in {directory}")
    else:
        shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
