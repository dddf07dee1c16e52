"""The results of a run as a table, for the terminal, for Markdown and as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Final

from rich.table import Table

from tests.faults.rounds import Result
from tests.support.tools import ROOT

COMMAND_S: Final = 10.0
COLUMNS: Final = (
    "fault",
    "rounds",
    "writes",
    "reads",
    "unknown",
    "gap, median",
    "longest",
    "violations",
)


def rows(results: Sequence[Result], order: Sequence[str]) -> list[tuple[str, ...]]:
    """One for each fault, in the given order, and one for all."""
    by_fault = {name: [result for result in results if result.fault == name] for name in order}
    found = [_row(name, group) for name, group in by_fault.items() if group]
    return [*found, _row("all", list(results))] if results else []


def _row(name: str, group: Sequence[Result]) -> tuple[str, ...]:
    gaps = [result.gap_s for result in group]
    return (
        name,
        str(len(group)),
        f"{sum(result.writes for result in group):,}",
        f"{sum(result.reads for result in group):,}",
        f"{sum(result.unknown for result in group):,}",
        f"{statistics.median(gaps):.2f} s",
        f"{max(gaps):.2f} s",
        str(sum(bool(result.violations) for result in group)),
    )


def as_table(results: Sequence[Result], order: Sequence[str]) -> Table:
    table = Table(*COLUMNS, box=None, header_style="bold", pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows(results, order):
        table.add_row(*row)
    return table


def as_markdown(results: Sequence[Result], order: Sequence[str], *, command: str, seconds: float) -> str:
    """The table, and under which circumstances it came about."""
    sizes = sorted({result.nodes for result in results})
    rounds = ", ".join(f"{sum(result.nodes == size for result in results)} with {size} nodes" for size in sizes)
    lines = [
        f"`{command}`, commit {commit()}, Python {platform.python_version()}, {os.cpu_count()} cores, "
        f"{seconds / 60:.0f} minutes; {len(results)} rounds: {rounds}.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "| --- |" + " ---: |" * (len(COLUMNS) - 1),
    ]
    lines += ["| " + " | ".join(row) + " |" for row in rows(results, order)]
    return "\n".join(lines) + "\n"


def commit() -> str:
    """What was run; with a plus where files differ from it."""
    try:
        run = partial(subprocess.run, cwd=ROOT, capture_output=True, text=True, check=True, timeout=COMMAND_S)
        head = run(["git", "rev-parse", "--short=10", "HEAD"]).stdout.strip()
        changed = run(["git", "status", "--porcelain", "--untracked-files=no"]).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return head + ("+" if changed else "")


def as_json(results: Sequence[Result], *, seed: str, seconds: float) -> str:
    return json.dumps(
        {
            "seed": seed,
            "seconds": round(seconds, 1),
            "cores": os.cpu_count(),
            "rounds": [asdict(result) for result in results],
        },
        indent=1,
    )
