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
from tests.storage.writer import data
from tests.support.tools import requires

pytestmark = requires("gcc", "/usr/include/dlfcn.h")

ALL = Operation.WRITE | Operation.SYNC | Operation.RENAME | Operation.OPEN | Operation.UNLINK
ACTS = (Act.KILL_BEFORE, Act.KILL_PARTIAL, Act.KILL_AFTER)
FIRST_START_CALLS = 45
"""Of the first start and its first write."""
LATER_CALLS = 900
FIRST_STARTS = 8
LATER_STARTS = 10


Log = dict[int, int]
"""Term by index."""


class Crashes:
    """One data directory, a writer that dies on it again and again, and the logs that may be found in it."""

    def __init__(self, place: Path, seed: int) -> None:
        self.data = place / "data"
        self.choose = random.Random(seed)
        self._disk = FaultyDisk(self.data, place / "control")
        self._seed = seed
        self._term = 0
        self._logs: list[Log] = [{}]
        """The first one was acknowledged. Each other is the one before it and the write that was under way when its
        writer died: it was found, so the next writer goes on from the last of them; but nobody has synced it yet, so
        it may still go with the power."""

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
        spans = [(int(first), int(last)) for first, last in lines]
        self._logs = self._acknowledged(spans, where) if spans else self._nothing_acknowledged(where, power=power)
        if power:  # what is there now is on the disk
            del self._logs[:-1]

    def _acknowledged(self, spans: list[tuple[int, int]], where: str) -> list[Log]:
        """The writer loaded the last log and synced what it wrote; the logs from now on."""
        log = dict(self._logs[-1])
        check_acknowledged(log, spans, self._term, self._load(), where)
        return [{index: term for index, term in log.items() if index <= spans[-1][1]}, log]

    def _nothing_acknowledged(self, where: str, *, power: bool) -> list[Log]:
        """The same, where nothing new was acknowledged: perhaps the first write was under way."""
        found = self._load()
        assert all(entry.data == data(entry.index, entry.term) for entry in found.entries), where
        there = {entry.index: entry.term for entry in found.entries}
        written = {index: term for index, term in there.items() if term == self._term}
        assert len(written) <= 20, f"{where}: more than the write that was under way"
        cut_from = min(written, default=2**63)

        def is_there(log: Log) -> bool:
            before = {index: term for index, term in log.items() if found.snapshot.index < index < cut_from}
            return there == before | written

        # What others left may be lost only until a writer that has loaded it writes.
        possible = self._logs if power and not written else self._logs[-1:]
        number = max((number for number, log in enumerate(possible) if is_there(log)), default=None)
        assert number is not None, f"{where}: {there} behind {found.snapshot.index}, and not one of {possible}"
        if written:
            return [possible[-1], {i: t for i, t in possible[-1].items() if i < cut_from} | written]
        return possible[: number + 1] if power else self._logs

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
