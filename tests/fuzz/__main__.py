"""Fuzzing that follows coverage: `python -m tests.fuzz --seconds 60` runs every target so long, two at a time.

`python -m tests.fuzz TARGET… ` only these; `python -m tests.fuzz --repeat TARGET FILE` one input again, without
atheris. What the runs learned stays in .fuzz/corpus and is where the next run begins; what failed is in .fuzz/crashes,
and the command that repeats it is printed. Exit status 1: something failed; 3: atheris cannot be used here.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.fuzz.targets import kept
from tests.fuzz.targets.all import TARGETS
from tests.support.tools import ROOT

WORK: Final = ROOT / ".fuzz"
JOBS: Final = 2
ONE_SECONDS_MAX: Final = 60
"""An input that takes longer is a finding: something hangs, or is allocated without end."""
RSS_MIB_MAX: Final = 2048
START_SECONDS_MAX: Final = 600
_RUNS: Final = re.compile(r"^stat::number_of_executed_units: (\d+)|^Done (\d+) runs", re.M)
_COVERAGE: Final = re.compile(r"\bcov: (\d+) ft: (\d+) corp: (\d+)")


@dataclass(frozen=True, slots=True)
class Result:
    name: str
    executions: int
    coverage: int
    corpus: int
    seconds: float
    crashes: list[Path]
    problem: str
    """The end of what it printed, where it ended in another way than by its time."""


def run(name: str, seconds: int) -> Result:
    target = TARGETS[name]
    corpus, seeds, crashes = WORK / "corpus" / name, WORK / "seeds" / name, WORK / "crashes"
    for directory in (corpus, seeds, crashes):
        directory.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(target.seeds()):
        (seeds / f"{number:03}").write_bytes(data)
    for path in kept(target):
        (seeds / path.name).write_bytes(path.read_bytes())
    command = [
        sys.executable, "-m", "tests.fuzz.coverage_run", target.one.__module__, name, f"-max_total_time={seconds}",
        f"-max_len={target.bytes_max}", f"-timeout={ONE_SECONDS_MAX}", f"-rss_limit_mb={RSS_MIB_MAX}",
        f"-artifact_prefix={crashes}/{name}-", "-print_final_stats=1", "-verbosity=1", str(corpus), str(seeds),
    ]  # fmt: skip
    before = set(crashes.glob(f"{name}-*"))
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False,
        timeout=seconds + ONE_SECONDS_MAX + START_SECONDS_MAX,
    )  # fmt: skip
    output = done.stderr + done.stdout
    runs = [int(first or second) for first, second in _RUNS.findall(output)]
    seen = _COVERAGE.findall(output)
    return Result(
        name,
        max(runs, default=0),
        max((int(coverage) for coverage, _, _ in seen), default=0),
        max((int(size) for _, _, size in seen), default=0),
        time.monotonic() - began,
        sorted(set(crashes.glob(f"{name}-*")) - before),
        "\n".join(line for line in output.splitlines() if not line.startswith("INFO: "))[-3000:]
        if done.returncode
        else "",
    )


def show(result: Result) -> None:
    rate = result.executions / max(result.seconds, 1)
    print(
        f"{result.name:15} {result.executions:>9} executions {rate:>7.0f}/s  coverage {result.coverage:>5}  "
        f"corpus {result.corpus:>5}  {'FAILED' if result.problem else 'ok'}",
        flush=True,
    )
    if result.problem:
        print("\n".join(f"    {line}" for line in result.problem.splitlines()))
    for path in result.crashes:
        print(f"    repeat: {sys.executable} -m tests.fuzz --repeat {result.name} {path.relative_to(ROOT)}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", help=f"default: all of {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=int, default=60, help="of each target (60)")
    parser.add_argument("--repeat", nargs=2, metavar=("TARGET", "FILE"), help="one input, once")
    options = parser.parse_args()
    if options.repeat:
        name, file = options.repeat
        TARGETS[name].one(Path(file).read_bytes())
        print(f"{name}: as it should be")
        return 0
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"no target is called {', '.join(sorted(unknown))}")
    if importlib.util.find_spec("atheris") is None:
        print(
            "atheris is not installed (there are packages for CPython 3.11 to 3.13 on Linux, x86_64): nothing was\n"
            "fuzzed with coverage. Hypothesis does without it: make fuzz runs its tests in any case.",
            file=sys.stderr,
        )
        return 3
    names = options.targets or list(TARGETS)
    with ThreadPoolExecutor(JOBS) as pool:
        results = []
        for result in pool.map(lambda name: run(name, options.seconds), names):
            show(result)
            results.append(result)
    failed = [result.name for result in results if result.problem]
    print(f"{sum(result.executions for result in results)} executions of {len(results)} targets; failed: "
          f"{', '.join(failed) or 'none'}")  # fmt: skip
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
