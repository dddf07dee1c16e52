"""As many seeds as fit into a minute on two cores; and that a seed is a run, and a failure is found and told."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count
from multiprocessing import resource_tracker
from pathlib import Path

import pytest

from tests.simulation.campaign import campaign
from tests.simulation.mutations import MUTATIONS
from tests.simulation.simulation import run

SECONDS = 42
SEEDS_MIN = 40
"""Even on a machine that is shared: a minute that tries nothing proves nothing."""
ROOT = Path(__file__).parents[2]


@pytest.fixture
def _no_tracker_left() -> Iterator[None]:
    """multiprocessing keeps a process for as long as this one lives; nothing needs it after the pool is gone."""
    yield
    resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]  # there is no public way


@pytest.mark.usefixtures("_no_tracker_left")
def test_seeds() -> None:
    total = campaign(
        count(1), processes=2, twice=lambda seed: seed % 10 == 0, until=time.monotonic() + SECONDS, failures_max=3
    )
    print(f"{total.seeds} seeds, {total.virtual_seconds / 3600:.1f} h, {total.speed:.0f} x real time, {total.counts}")
    assert not total.failures, "\n\n".join(total.failures.values())
    assert total.seeds >= SEEDS_MIN
    assert total.operations > 50 * total.seeds, "clients get nothing done: nothing is tested"
    faults = {kind for kind in total.counts if kind.startswith("fault: ")}
    assert len(faults) == 20, f"not every kind of fault was tried: {faults}"


def test_a_seed_is_a_run_in_every_process() -> None:
    """Also where Python hashes strings differently."""
    program = "from tests.simulation.simulation import run; print([run(seed).hash for seed in (3, 5)])"
    outputs = set()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        outputs.add(done.stdout)
    assert len(outputs) == 1
    assert run(3).hash != run(5).hash


@pytest.mark.parametrize(
    "name",
    [
        "a log that is behind gets votes (paper, 5.4.1)",
        "the leader counts itself before its disk has written (etcd #14370)",
        "a heartbeat commits all that the follower has",
        "half is a majority",
    ],
)
def test_finds_a_bug(name: str) -> None:
    """A few that take a few seeds; `python -m tests.simulation.mutations` tries all."""
    mutation = next(mutation for mutation in MUTATIONS if mutation.name == name)
    seeds, found_by = mutation.seeds_needed(30)
    assert seeds, "the simulator does not find it"
    assert f"seed {seeds}: " in found_by
    run(seeds)  # the bug is out again
