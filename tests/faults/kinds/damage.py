"""Data that is damaged or gone while a node is down: it must not vote from it, and says what to do."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

from rocinante.errors import EXIT_DATA, EXIT_STORAGE
from tests.faults.equipment import OPTIONS, alarms, disks_of, lead, own_disks, refuses_to_start
from tests.faults.kinds.processes import STARTED
from tests.faults.preload import Operation
from tests.faults.registry import Expect, Scene, fault

damage_fault = partial(fault, options=OPTIONS, rig=own_disks)
VOTES_AGAIN: Final = r"this node started without data; it votes from now on: caught up to entry \d+"
ADVICE: Final = r"a damaged node must not vote: remove it from the cluster, empty the directory, and let it join again"
REFUSALS: Final = "a damaged node must not vote|belongs to (node|cluster|datacenter)|data format"
"""A bit of identity.json may make the directory somebody else's: that is said then, with what to check."""
Harm = Callable[[Path, Random], None]


def _cut(path: Path, random: Random) -> None:
    os.truncate(path, random.randrange(path.stat().st_size))


def _flip(path: Path, random: Random) -> None:
    content = bytearray(path.read_bytes())
    content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    path.write_bytes(content)


def _zero(path: Path, random: Random) -> None:
    """A sector of nothing."""
    size = path.stat().st_size
    at = random.randrange(size) // 512 * 512
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes(min(512, size - at)))


def _remove(path: Path, random: Random) -> None:
    path.unlink()


HARMS: Final[dict[str, Harm]] = {"cut": _cut, "a bit flipped": _flip, "a sector zeroed": _zero, "gone": _remove}
FILES: Final = ("log/*.ldb", "log/*.log", "log/MANIFEST-*", "log/CURRENT", "snapshots/*.snap", "mark", "identity.json")


def _harm(scene: Scene, number: int) -> None:
    """Something happens to one of its files."""
    data = scene.cluster.nodes[number].data
    pattern = scene.random.choice(FILES)
    files = sorted(path for path in data.glob(pattern) if path.stat().st_size)
    while not files:
        pattern = scene.random.choice(FILES)
        files = sorted(path for path in data.glob(pattern) if path.stat().st_size)
    # The newest is the one that matters most.
    path = files[-1] if scene.random.random() < 0.7 else scene.random.choice(files)
    name = scene.random.choice(sorted(HARMS))
    HARMS[name](path, scene.random)
    scene.note(f"node{number}: {path.relative_to(data)} {name}")


def _start_or_rejoin(scene: Scene, number: int) -> None:
    """It starts, or it refuses with the reason and the advice, which is then followed."""
    node = scene.cluster.nodes[number]
    log_bytes = node.log.stat().st_size
    scene.cluster.start(number, wait=False)
    process = node.process
    assert process is not None
    node.expected_to_run = False
    scene.cluster.wait_until(
        lambda: process.poll() is not None or node.status() is not None, f"{node.name} starts, or not"
    )
    if process.poll() is None:
        node.expected_to_run = True
        scene.note("was harmless")
        return
    text = node.log.read_bytes()[log_bytes:].decode(errors="replace")
    said = [line for line in text.splitlines() if line.startswith("rocinante: ")]
    if process.returncode != EXIT_DATA or len(said) != 1 or not re.search(REFUSALS, said[0]):
        raise AssertionError(f"node{number} ended with {process.returncode} and said {said or text}")
    scene.note(f"refused: {said[0][:200]}")
    scene.cluster.wipe(number)
    scene.cluster.start(number, wait=False)


def _wait_votes(scene: Scene, number: int) -> None:
    """Until nothing holds it back any more."""
    node = scene.cluster.nodes[number]

    def caught_up() -> bool:
        status = node.status()
        return status is not None and not alarms(status) and not (node.data / "CATCHING-UP").exists()

    scene.cluster.wait_until(caught_up, f"node{number} has caught up and votes", 60.0)


@damage_fault("data-damaged", quick=False, lasts_s=(0.0, 0.5), expects=[Expect("faulted", STARTED)])
def data_damaged(scene: Scene) -> Iterator[None]:
    "a file of a node that is down is damaged: refused and wiped, or harmless; then it is made the leader"
    number = scene.fault(scene.leader() if scene.random.random() < 0.5 else scene.follower())
    if scene.random.random() < 0.5:
        scene.cluster.kill(number)
    else:
        scene.cluster.stop(number)
    _harm(scene, number)
    scene.hit(1)
    yield
    _start_or_rejoin(scene, number)
    _wait_votes(scene, number)
    lead(scene, number)


@damage_fault(
    "data-damaged-for-sure",
    lasts_s=(0.0, 0.5),
    expects=[Expect("faulted", f"^rocinante: damaged .*; {ADVICE}"), Expect("faulted", VOTES_AGAIN)],
)
def data_damaged_for_sure(scene: Scene) -> Iterator[None]:
    "the log or the newest snapshot of a node that is down is emptied: it refuses to start, is wiped and joins again"
    number = scene.fault(scene.follower())
    scene.cluster.stop(number)
    data = scene.cluster.nodes[number].data
    for path in data.glob(scene.random.choice(("log/*", "mark", "snapshots/*"))):
        if path.is_file():
            os.truncate(path, path.stat().st_size // 2)
    yield
    status, said = refuses_to_start(scene, number)
    if status != EXIT_DATA:
        raise AssertionError(f"node{number} ended with {status}: {said}")
    scene.hit(1)
    scene.cluster.wipe(number)
    scene.cluster.start(number, wait=False)
    _wait_votes(scene, number)


@damage_fault(
    "disk-read-fails",
    quick=False,
    lasts_s=(0.0, 0.5),
    expects=[Expect("faulted", r"^rocinante: the disk of .* fails: .*Input/output error.*; replace it")],
)
def disk_read_fails(scene: Scene) -> Iterator[None]:
    "a sector cannot be read when a node starts: status 74, and the file is named; with a new disk it joins again"
    number = scene.fault(scene.follower())
    scene.cluster.kill(number)
    calls = disks_of(scene)[number].calls
    rule = calls.fail(Operation.READ, errno.EIO, match=scene.random.choice(("log/", "mark", "identity.json")))
    yield
    status, said = refuses_to_start(scene, number)
    calls.clear()
    if status != EXIT_STORAGE:
        raise AssertionError(f"node{number} ended with {status}: {said}")
    scene.hit(rule.hits)
    scene.cluster.wipe(number)
    scene.cluster.start(number, wait=False)
    _wait_votes(scene, number)


@damage_fault("data-gone", lasts_s=(0.0, 1.0), expects=[Expect("faulted", VOTES_AGAIN)], gap_s_max=5.0)
def data_gone(scene: Scene) -> Iterator[None]:
    "a node's data is gone: it joins again under its address, and votes once it knows all that it ever acknowledged"
    number = scene.fault(scene.follower())
    scene.cluster.kill(number)
    scene.cluster.wipe(number)
    scene.hit(1)
    yield
    scene.cluster.start(number, wait=False)
    _wait_votes(scene, number)


@damage_fault("data-gone-and-leader-killed", quick=False, lasts_s=(2.0, 4.0), expects=[Expect("faulted", VOTES_AGAIN)])
def data_gone_and_leader_killed(scene: Scene) -> Iterator[None]:
    "a wiped node starts, and the leader dies: the one that forgot must not help to elect one that does not know"
    leader = scene.leader()
    number = scene.fault(scene.follower())
    # The others fall behind what the leader and the node to be wiped acknowledged together.
    behind = scene.others(leader, number)[: (len(scene.numbers) - 1) // 2]
    for other in behind:
        scene.cluster.pause(other)
    scene.wait(scene.random.uniform(0.1, 0.5))
    scene.cluster.kill_at_once([leader, number])
    scene.cluster.wipe(number)
    scene.hit(1)
    for other in behind:
        scene.cluster.resume(other)
    scene.cluster.start(number, wait=False)
    yield
    scene.cluster.start(leader, wait=False)
    _wait_votes(scene, number)
