"""Runs a stage of `rocinante bench kv` in load processes of its own (crew.py)."""

from __future__ import annotations

import time
from collections.abc import Callable

from rocinante.bench.crew import Crew
from rocinante.bench.kv import KvLoad
from rocinante.bench.plan import Plan, Result

__all__ = ["run", "share"]

Progress = Callable[[int, float], None]
"""(calls that ended so far, seconds since the start of the load: of the warm-up at first)."""


def run(plan: Plan, progress: Progress) -> Result:
    """One stage. Raises Unavailable when the cluster cannot be reached or a load process dies."""
    parts = plan.processes
    jobs = [
        KvLoad(plan, share(plan.clients, n, parts), None if plan.count is None else share(plan.count, n, parts), n)
        for n in range(parts)
    ]
    with Crew(jobs) as crew:
        began = time.perf_counter()
        crew.go()
        samples = crew.results(lambda notes: progress(sum(note or 0 for note in notes), time.perf_counter() - began))
    return Result.of(plan, samples)


def share(total: int, number: int, parts: int) -> int:
    """How many of `total` the part of that number gets."""
    return total // parts + (number < total % parts)
