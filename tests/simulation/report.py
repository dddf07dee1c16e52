"""What a campaign did, for a terminal and as Markdown: seeds, times, faults and situations by kind, what was missed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from .campaign import Total
from .named import FAULT, NAMED, REACHED
from .record import Block

Rows = list[tuple[str, str]]


def sum_of(blocks: Sequence[Block]) -> Total:
    total = Total()
    for block in blocks:
        total.merge(block.total)
    return total


def seeds_of(blocks: Sequence[Block]) -> str:
    """`1-500, 601-700`."""
    spans: list[tuple[int, int]] = []
    for block in sorted(blocks, key=lambda block: block.first):
        if spans and spans[-1][1] + 1 == block.first:
            spans[-1] = (spans[-1][0], block.last)
        else:
            spans.append((block.first, block.last))
    return ", ".join(f"{first}-{last}" for first, last in spans) or "none"


def missed(total: Total) -> list[str]:
    """Named faults and situations that no run had."""
    return sorted(name for name in NAMED if not total.counts[name])


def figures(total: Total) -> Rows:
    hours = total.virtual_seconds / 3600
    return [
        ("seeds", f"{total.seeds:,}"),
        ("of them run twice, and the same run", f"{total.twice:,}"),
        ("simulated hours", f"{hours:,.1f}"),
        ("core hours", f"{total.real_seconds / 3600:,.2f}"),
        ("simulated time / real time, each core", f"{total.speed:,.0f}"),
        ("events", f"{total.events:,}"),
        ("entries committed", f"{total.entries:,}"),
        ("calls of clients done", f"{total.operations:,}"),
        ("calls of unknown outcome", f"{total.unknown:,}"),
        ("calls refused", f"{total.refused:,}"),
        ("tries beyond the first", f"{total.retries:,}"),
        ("sum of the runs' hashes", f"{total.hash:016x}"),
        ("FAILURES", f"{len(total.failures):,}"),
    ]


def _kinds(total: Total) -> Iterator[tuple[str, Rows]]:
    """(heading, rows): faults, situations, the rest."""
    for heading, prefix in (("fault", FAULT), ("situation reached", REACHED), ("what else", "")):
        names = {name for name in {*total.counts, *NAMED} if name.startswith(prefix)}
        if not prefix:
            names = {name for name in names if not name.startswith((FAULT, REACHED))}
        rows = [(name.removeprefix(prefix), f"{total.counts[name]:,}") for name in names]
        yield heading, sorted(rows)


def show(console: Console, total: Total) -> None:
    table = Table("what", "figure", title="the campaign")
    for row in figures(total):
        table.add_row(*row)
    console.print(table)
    for heading, rows in _kinds(total):
        table = Table(heading, "times")
        for name, times in rows:
            table.add_row(name, times, style="bold red" if times == "0" else None)
        console.print(table)
    for seed, failure in sorted(total.failures.items()):
        console.rule(f"seed {seed}")
        console.print(failure, markup=False, highlight=False)
    if gone := missed(total):
        console.print(f"NOT REACHED: {'; '.join(gone)}", markup=False, highlight=False, soft_wrap=True)
    if total.failures:
        seeds = ", ".join(map(str, sorted(total.failures)))
        console.print(f"FAILED: {seeds}. Again, with all its events: python -m tests.simulation --seed N")


def markdown(blocks: Sequence[Block]) -> str:
    """For the documents."""
    total = sum_of(blocks)
    commits = ", ".join(f"`{commit}`" for commit in dict.fromkeys(block.commit for block in blocks))
    lines = [f"Seeds {seeds_of(blocks)}, run by {commits}.", ""]
    lines += _markdown_table(("what", "figure"), figures(total))
    for heading, rows in _kinds(total):
        lines += ["", *_markdown_table((heading, "times"), rows)]
    gone = missed(total)
    lines += ["", f"Not reached: {'; '.join(gone)}." if gone else "Every named fault and situation was reached."]
    if total.failures:
        lines += ["", f"Seeds that failed: {', '.join(map(str, sorted(total.failures)))}."]
    return "\n".join(lines)


def _markdown_table(head: tuple[str, str], rows: Rows) -> list[str]:
    return [f"| {head[0]} | {head[1]} |", "| --- | ---: |", *(f"| {what} | {figure} |" for what, figure in rows)]
