"""As many seeds as fit into a minute on two cores; and that a seed is a run, and a failure is found and told."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

from tests.simulation.campaign import campaign
from tests.simulation.simulation import run

SECONDS = 55
SEEDS_MIN = 40
"""Even on a machine that is shared: a minute that tries nothing proves nothing."""
ROOT = Path(__file__).parents[2]


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
