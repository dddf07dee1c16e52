"""Runs workers: one process for each bug, at most two at a time."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
PROCESSES: Final = 2


@dataclass(frozen=True, slots=True)
class Job:
    bug: str
    """Its name, or "" for the product as it is."""
    scripts: Sequence[str] = ()
    seeds: Sequence[int] = ()
    see_all: bool = False
    """Not only the first that sees it."""


@dataclass(slots=True)
class Sight:
    """Who saw the bug, and what."""

    scripts: dict[str, str] = field(default_factory=dict)
    seed: int = 0
    what: str = ""
    """What the simulator said of that seed."""
    error: str = ""
    """The bug could not be put in, or the worker ended before its time."""

    @property
    def seen(self) -> bool:
        return bool(self.scripts or self.seed)


def run_job(job: Job) -> Sight:
    order = {"bug": job.bug, "scripts": list(job.scripts), "seeds": list(job.seeds), "all": job.see_all}
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutations.worker"],
        input=json.dumps(order),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    sight, ended = Sight(), False
    for line in done.stdout.splitlines():
        said: dict[str, Any] = json.loads(line)
        ended = ended or "end" in said
        sight.error = said.get("error", sight.error)
        if "script" in said:
            sight.scripts[said["script"]] = said["what"]
        elif "seed" in said:
            sight.seed, sight.what = said["seed"], said["what"]
    if not ended and not sight.error:
        sight.error = f"the worker ended with {done.returncode}: {done.stderr[-2000:]}"
    return sight


def run_jobs(jobs: Sequence[Job], on_done: Callable[[Job, Sight], None] = lambda _job, _sight: None) -> Iterator[Sight]:
    """The sights, in the order of the jobs; `on_done` is called as they come."""
    with ThreadPoolExecutor(PROCESSES) as pool:
        futures = {pool.submit(run_job, job): job for job in jobs}
        for future in as_completed(futures):
            on_done(futures[future], future.result())
        yield from (future.result() for future in futures)
