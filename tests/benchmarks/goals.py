"""The goals of the flow engine, one row each: `python -m tests.benchmarks.goals [--help]`.

Runs the rows that are named (all, when none is), one after the other, and prints what came of each beside its goal.
Each row is one command that measures and prints JSON; here is only what is taken from it. What was measured is kept
in a file (`--results`), so that rows may be run one at a time; `--write` puts the table of that file into
docs/benchmarks.md. It says where a figure comes from: the day, the load average before the command, and how fast the
machine was before and after it (tests/benchmarks/pace.py).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from tests.benchmarks import pace

ROOT: Final = Path(__file__).resolve().parents[2]
DOCUMENT: Final = ROOT / "docs" / "benchmarks.md"
BEGIN: Final = "<!-- goals: written by `python -m tests.benchmarks.goals --write` -->"
END: Final = "<!-- end of goals -->"
NOT_MEASURED: Final = "not measured on a quiet machine yet"
ROW_S: Final = 240.0
"""How long a row may take …"""
END_S: Final = 30.0
"""… and then its end."""
HALF: Final = "HALF"
FULL_ELECTIONS_S: Final = "1800"
SHORT_ELECTIONS_S: Final = "180"

SHORT: Final = {
    "--flows": "20000", "--seconds": "1", "--warm-up": "0.5", "--rounds": "1", "--rate": "5000",
    "--watchers": "2",
}  # fmt: skip
"""What the options of a command are with --short …"""
SHORT_TABLE: Final = 5_000
SHORT_MORE: Final = {
    "compare": ("--seconds", "0.5", "--rounds", "1", "--warm-up", "0.2"),
    "flow_life": ("--flows", "20000", "--rate", "5000"),
    "lookup": ("--table", "20000"),
}
"""… and what is added."""

Document = dict[str, Any]
Results = dict[str, Any]
"""By name of the row."""


class CannotRun(Exception):
    """A row needs another one's figure."""


@dataclass(frozen=True, slots=True)
class Verdict:
    figure: str
    met: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One goal."""

    name: str
    measure: str
    goal: str
    words: tuple[str, ...]
    """The command; HALF is half of what the row `writer` came to, whose batches have 1,000 records, too."""
    judge: Callable[[Document], Verdict]

    def command(self, results: Results, full: bool, short: bool = False) -> list[str]:
        """What is run. Raises CannotRun."""
        words = [sys.executable, "-m", "rocinante.cli.main", *self.words[1:]]
        if self.words[0] == "python":
            words = [sys.executable, *self.words[1:]]
        if HALF in words:
            if "writer" not in results:
                raise CannotRun("run the row `writer` first: this one is at half of its rate")
            rate = results["writer"]["document"]["scenarios"]["writer"]["rocinante"]["per_second"]
            words[words.index(HALF)] = f"{rate / 2:.0f}"
        if full and SHORT_ELECTIONS_S in words:
            words[words.index(SHORT_ELECTIONS_S)] = FULL_ELECTIONS_S
        return shortened(words) if short else words


def shortened(words: list[str]) -> list[str]:
    """The same command with small numbers: whether it works, not how fast the cluster is."""
    made = words[:]
    for option, value in SHORT.items():
        if option in made:
            made[made.index(option) + 1] = value
    if "--table" in made:
        at = made.index("--table") + 1
        made[at] = ",".join(str(max(SHORT_TABLE, int(size) // 250)) for size in made[at].split(","))
    verb = next((name for name in SHORT_MORE if any(name in word for word in made)), None)
    return [*made, *SHORT_MORE[verb]] if verb else made


def bench(*arguments: str) -> tuple[str, ...]:
    return ("rocinante", "bench", *arguments, "-o", "json")


def module(name: str, *arguments: str) -> tuple[str, ...]:
    return ("python", "-m", f"tests.benchmarks.{name}", *arguments)


# --- what is taken from each document


def rate(document: Document) -> Verdict:
    best, ratio = document["scenarios"]["best"], document["ratios"]["best"]
    ours, redis, etcd = best["rocinante"]["per_second"], ratio["per_second_to_redis"], ratio["per_second_to_etcd"]
    batch = best["rocinante"]["setting"]["batch"]
    rounds = best["rocinante"]["per_second_rounds"]
    figure = f"{ours:,.0f}/s in batches of {batch:,} (rounds from {min(rounds):,} to {max(rounds):,})"
    figure += f"; {redis:.1f} × Redis, {etcd:.1f} × etcd"
    return Verdict(figure, ours >= 1_000_000 and redis >= 4 and etcd >= 30)


def one_writer(document: Document) -> Verdict:
    ours = document["scenarios"]["writer"]["rocinante"]["per_second"]
    ratio = document["ratios"]["writer"]["per_second_to_redis"]
    return Verdict(f"{ours:,.0f}/s, {ratio:.2f} × Redis", ratio >= 2)


def latency(document: Document) -> Verdict:
    (stage,) = document["stages"]
    p50, p99 = stage["latency"]["p50_ms"], stage["latency"]["p99_ms"]
    reached = stage["per_second"] >= 0.95 * stage["rate"]
    figure = f"p50 {p50:.1f} ms, p99 {p99:.1f} ms at {stage['rate']:,.0f}/s"
    figure += "" if reached else f" (only {stage['per_second']:,.0f}/s were reached)"
    return Verdict(figure, p50 <= 10 and p99 <= 50 and reached and not stage["errors"])


def single(document: Document) -> Verdict:
    found = document["scenarios"]["single"]
    ours, etcd = found["rocinante"]["p50_ms"], found["etcd"]["p50_ms"]
    return Verdict(f"p50 {ours:.2f} ms, etcd {etcd:.2f} ms", ours <= etcd)


def cost(document: Document) -> Verdict:
    if not all(stage["batches"] for stage in document["stages"]):
        return Verdict("a stage got no answer", False)
    costs = {
        stage["table"]: sum(node["per_million"]["cpu_s"] for node in stage["nodes"]) for stage in document["stages"]
    }
    spread = max(costs.values()) / min(costs.values()) - 1
    figure = ", ".join(f"{value:.2f}" for value in costs.values())
    return Verdict(f"{figure} processor seconds per million, all nodes: within {100 * spread:.0f} %", spread <= 0.2)


def memory(document: Document) -> Verdict:
    found = document["memory_bytes_per_flow"]
    return Verdict(f"{found:.0f} bytes with {document['flows']:,} flows", found <= 250)


def ready(document: Document) -> Verdict:
    median, longest = document["ready_median_s"], document["ready_max_s"]
    return Verdict(f"median {median:.1f} s, longest {longest:.1f} s", longest <= 15)


def stall(document: Document) -> Verdict:
    gap, before = 1000 * document["gap_max_s"], 1000 * document["gap_before_max_s"]
    return Verdict(f"{gap:.0f} ms (without a snapshot: {before:.0f} ms)", gap <= 50)


def expiry(document: Document) -> Verdict:
    found = document["expiry"]
    gone, p99 = found["gone_after_s"], found["p99_during_ms"]
    return Verdict(f"gone after {gone:.1f} s; p99 of updates {p99:.0f} ms", gone <= 10 and p99 <= 100)


def lookups(document: Document) -> Verdict:
    found = document["flows_per_second"]
    return Verdict(f"{found:,.0f}/s, p99 {document['latency']['p99_ms']:.1f} ms", found >= 1_000_000)


def watchers(document: Document) -> Verdict:
    behind = sum(seen["fell_behind"] + (not seen["to_the_end"]) for seen in document["watchers"])
    written = document["written_per_second"]
    lag = max(seen["lag"]["p99_ms"] for seen in document["watchers"])
    figure = f"{behind} fell behind at {written:,.0f}/s; p99 of the lag {lag:.0f} ms"
    return Verdict(figure, behind == 0 and written >= 0.95 * document["rate"])


def failover(document: Document) -> Verdict:
    median, longest = document["gap_median_s"], document["gap_max_s"]
    wrong = sum(document[name] for name in ("lost", "twice", "unseen", "puts_failed"))
    figure = f"median {median:.2f} s, longest {longest:.2f} s of {len(document['rounds'])}"
    figure += f"; lost {document['lost']}, twice {document['twice']}"
    figure += f"; not checked {document['unseen']}" if document["unseen"] else ""
    reached = document["per_second"] >= 0.9 * document["rate"]
    figure += "" if reached else f"; only {document['per_second']:,.0f}/s were reached"
    return Verdict(figure, median <= 1 and not wrong and reached)


def elections(document: Document) -> Verdict:
    (stage,) = document["stages"]
    found = sum(node["elections"] for node in stage["nodes"])
    figure = f"{found} in {stage['seconds'] / 60:.0f} minutes at {stage['per_second']:,.0f}/s"
    return Verdict(figure, found == 0 and stage["seconds"] >= float(FULL_ELECTIONS_S))


ROWS: Final = (
    Row(
        "rate", "flow updates/s, new keys, best batch size",
        "≥ 1,000,000, and ≥ 4 × Redis, ≥ 30 × etcd in the same run",
        module("compare", "--scenarios", "best", "--rounds", "5", "--json", "-"), rate,
    ),
    Row(
        "writer", "the same with one writer, batches of 1,000", "≥ 2 × Redis",
        module("compare", "--scenarios", "writer", "--systems", "rocinante", "redis", "--json", "-"), one_writer,
    ),
    Row(
        "latency", "latency of a batch of 1,000 at half of that rate", "p50 ≤ 10 ms, p99 ≤ 50 ms",
        bench("flows", "--batch", "1000", "--rate", HALF, "--seconds", "30", "--warm-up", "5"), latency,
    ),
    Row(
        "single", "latency of a single flow put, idle cluster", "p50 no worse than etcd's put",
        module("compare", "--scenarios", "single", "--systems", "rocinante", "etcd", "--json", "-"), single,
    ),
    Row(
        "cost", "cost per update with 10,000, 1,000,000 and 10,000,000 flows in the table", "within 20 % of each other",
        bench("flows", "--table", "10000,1000000,10000000", "--updates", "--seconds", "15"), cost,
    ),
    Row(
        "memory", "memory per fixed IPv4 flow, a node", "≤ 250 bytes",
        bench("restart", "--flows", "5000000", "--rounds", "1"), memory,
    ),
    Row(
        "stall", "longest stall of commits during a snapshot of 5,000,000 flows", "≤ 50 ms",
        bench("snapshot", "--flows", "5000000", "--rounds", "3"), stall,
    ),
    Row(
        "restart", "restart of a node with 5,000,000 flows until it is ready", "≤ 15 s",
        bench("restart", "--flows", "5000000", "--rounds", "3"), ready,
    ),
    Row(
        "expiry", "expiry of 1,000,000 flows due in the same second, under a load of 100,000 updates/s",
        "done ≤ 10 s later, p99 of updates ≤ 100 ms", module("flow_life", "--only", "expiry"), expiry,
    ),
    Row(
        "lookup", "look-ups on a follower, batches of 1,000, stale", "≥ 1,000,000/s",
        bench("lookup", "--batch", "1000", "--seconds", "15"), lookups,
    ),
    Row(
        "watch", "watch of everything by 4 watchers", "none falls behind at 300,000 updates/s",
        bench("watch", "--watchers", "4", "--rate", "300000", "--seconds", "30"), watchers,
    ),
    Row(
        "failover", "leader killed at 200,000 updates/s",
        "writes flow again ≤ 1 s (median of 20), nothing acknowledged lost, nothing applied twice",
        bench("failover", "--rounds", "20", "--rate", "200000", "--down", "1.5"), failover,
    ),
    Row(
        "elections", "false elections in 30 minutes at full load", "0",
        bench("flows", "--table", "1000000", "--updates", "--seconds", SHORT_ELECTIONS_S), elections,
    ),
)  # fmt: skip


def measure(row: Row, results: Results, full: bool, short: bool = False) -> Results:
    """Run its command; what it printed, and what the machine was like. Raises CannotRun."""
    words = row.command(results, full, short)
    load_before, pace_before, began_s = os.getloadavg()[0], pace.measure(), time.monotonic()
    bound_s = ROW_S + (int(FULL_ELECTIONS_S) if full and row.name == "elections" else 0)
    with subprocess.Popen(words, stdout=subprocess.PIPE, cwd=ROOT) as running:
        try:
            output, _ = running.communicate(timeout=bound_s)
        except subprocess.TimeoutExpired:
            running.send_signal(signal.SIGINT)  # so that it ends its nodes and removes their data
            try:
                running.communicate(timeout=END_S)
            except subprocess.TimeoutExpired:
                running.kill()
            raise CannotRun(f"did not end within {bound_s:.0f} s: {' '.join(row.words)}") from None
    if not output.strip():
        raise CannotRun(f"ended with {running.returncode} and no figures: {' '.join(row.words)}")
    seconds = time.monotonic() - began_s
    return {
        "document": json.loads(output),
        "status": running.returncode,
        "load_average": round(load_before, 2),
        "pace": [pace_before.median, pace.measure().median],
        "day": time.strftime("%Y-%m-%d"),
        "seconds": round(seconds, 1),
    }


def verdict_of(row: Row, results: Mapping[str, Any]) -> Verdict | None:
    """What came of it. A command that did not end well has reached nothing, whatever its figures say."""
    if row.name not in results:
        return None
    found = results[row.name]
    verdict = row.judge(found["document"])
    if found["status"]:
        return Verdict(f"{verdict.figure}; exit status {found['status']}", False)
    return verdict


def table(results: Mapping[str, Any]) -> str:
    """Markdown."""
    lines = ["| | measure | goal | measured | met | command |", "| --- | --- | --- | --- | --- | --- |"]
    for row in ROWS:
        verdict = verdict_of(row, results)
        figure, met = NOT_MEASURED, ""
        if verdict is not None:
            found = results[row.name]
            before, after = found["pace"]
            machine = f"{found['day']}, load before {found['load_average']:.1f}, pace {before:.1f} and {after:.1f}"
            figure = f"{verdict.figure} ({machine})"
            met = "yes" if verdict.met else "**no**"
        lines.append(f"| {row.name} | {row.measure} | {row.goal} | {figure} | {met} | `{' '.join(row.words)}` |")
    return "\n".join(lines)


def write(results: Mapping[str, Any]) -> None:
    """The table into the document."""
    head, _, rest = DOCUMENT.read_text().partition(BEGIN)
    _, _, tail = rest.partition(END)
    DOCUMENT.write_text(f"{head}{BEGIN}\n{table(results)}\n{END}{tail}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", help=f"of: {', '.join(row.name for row in ROWS)}")
    parser.add_argument("--results", type=Path, default=Path("goals.json"), help="kept here (default goals.json)")
    parser.add_argument("--write", action="store_true", help="the table into docs/benchmarks.md")
    parser.add_argument("--no-run", action="store_true", help="measure nothing: only what is kept")
    parser.add_argument("--full", action="store_true", help="elections: the whole 30 minutes, not 3")
    parser.add_argument("--short", action="store_true", help="small numbers, and nothing is kept: do the rows work?")
    options = parser.parse_args(arguments)
    if unknown := set(options.rows) - {row.name for row in ROWS}:
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    kept = options.results.exists() and not options.short
    results: Results = json.loads(options.results.read_text()) if kept else {}
    say, failed = Console(stderr=True, highlight=False), False
    for row in ROWS:
        if options.no_run or (options.rows and row.name not in options.rows):
            continue
        say.print(f"{row.name}: {row.measure} …")
        try:
            results[row.name] = measure(row, results, options.full, options.short)
        except CannotRun as error:
            failed = True
            say.print(f"  not measured: {error}")
            continue
        if not options.short:
            options.results.write_text(json.dumps(results, indent=1) + "\n")
        verdict = verdict_of(row, results)
        assert verdict is not None
        say.print(f"  pace before and after: {results[row.name]['pace']}")
        say.print(f"  seen: {verdict.figure}\n  goal: {row.goal}: {'reached' if verdict.met else 'NOT reached'}")
    if options.short:
        return 1 if failed else 0
    if options.write:
        write(results)
    print(table(results))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
