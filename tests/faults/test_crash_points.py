"""A process that dies at any one of its calls to the disk, and whose power may go then: nothing acknowledged is lost.

tests/storage/test_faults.py kills at random moments; here the moment is a call of the system, before, in the middle of
or after it, so that every place in a record, in a rename and between a sync and its acknowledgement has its turn.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rocinante.storage import Loaded
from tests.faults.preload import Act, FaultyDisk, Operation
from tests.storage.test_faults import check_acknowledged
from tests.storage.tools import reloaded
from tests.support.tools import requires

pytestmark = requires("gcc")

ALL = Operation.WRITE | Operation.SYNC | Operation.RENAME | Operation.OPEN | Operation.UNLINK
ACTS = (Act.KILL_BEFORE, Act.KILL_PARTIAL, Act.KILL_AFTER)
FIRST_START_CALLS = 45
"""Of the first start and its first write."""
LATER_CALLS = 900
FIRST_STARTS = 8
LATER_STARTS = 10


class Crashes:
    """One data directory, a writer that dies on it again and again, and all that it acknowledged."""

    def __init__(self, place: Path, seed: int) -> None:
        self.data = place / "data"
        self.choose = random.Random(seed)
        self._disk = FaultyDisk(self.data, place / "control")
        self._seed = seed
        self._term = 0
        self._acknowledged: dict[int, int] = {}

    def crash(self, skip: int, act: Act, *, power: bool) -> None:
        """The writer dies at that call, perhaps its power goes; what it had acknowledged must be there."""
        self._term += 1
        where = f"seed {self._seed}, run {self._term}: {act.name} call {skip}{', power cut' if power else ''}"
        self._disk.die(act, ALL, skip=skip)
        command = [sys.executable, "-m", "tests.storage.writer", str(self.data), str(self._term)]
        done = subprocess.run(
            [*command, str(self.choose.randrange(2**32))],
            env={**os.environ, **self._disk.environment()},
            stdout=subprocess.PIPE,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL, where
        self._disk.clear()
        if power and self.data.exists():
            where += f": {'; '.join(self._disk.power_cut(self.choose))}"
        lines = [line.split() for line in done.stdout.splitlines(keepends=True) if line.endswith(b"\n")]
        found = self._load()
        if lines:
            spans = [(int(first), int(last)) for first, last in lines]
            check_acknowledged(self._acknowledged, spans, self._term, found, where)
            return
        # Nothing new was acknowledged: what was before is there, and at most one write that was under way.
        there = {entry.index: entry.term for entry in found.entries}
        cut_from = min((index for index, term in there.items() if term == self._term), default=2**63)
        for index, term in self._acknowledged.items():
            if found.snapshot.index < index < cut_from:
                assert there[index] == term, f"{where}: entry {index}"
        kept = {i: t for i, t in self._acknowledged.items() if i < cut_from}
        self._acknowledged = kept | {index: term for index, term in there.items() if index >= cut_from}

    def _load(self) -> Loaded:
        """From a copy: what the next writer finds, and whether that was ever synced, is not touched by it."""
        copy = self.data.with_name("copy")
        if self.data.exists():
            shutil.copytree(self.data, copy)
        try:
            return reloaded(copy)
        finally:
            shutil.rmtree(copy)

    def close(self) -> None:
        self._disk.close()


@pytest.mark.parametrize("power", [False, True], ids=["killed", "without power"])
def test_death_at_a_call_of_the_first_start(tmp_path: Path, power: bool) -> None:
    seed = random.randrange(2**32)
    for number, skip in enumerate(random.Random(seed).sample(range(FIRST_START_CALLS), FIRST_STARTS // 2)):
        place = tmp_path / str(number)
        place.mkdir()
        crashes = Crashes(place, seed)
        crashes.crash(skip, crashes.choose.choice(ACTS), power=power)
        crashes.crash(crashes.choose.randrange(LATER_CALLS), Act.KILL_AFTER, power=power)
        crashes.close()


def test_death_at_any_call_again_and_again(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    crashes = Crashes(tmp_path, seed)
    for _ in range(LATER_STARTS):
        skip = int(LATER_CALLS ** crashes.choose.random())  # early calls, those of the start, more often
        crashes.crash(skip, crashes.choose.choice(ACTS), power=crashes.choose.random() < 0.5)
    crashes.close()
