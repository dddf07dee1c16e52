"""Power cuts and deaths at the worst moment: nothing that was acknowledged may be missing."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

from tests.faults.equipment import OPTIONS, cut_power, disks_of, ends_with, own_disks, restore_power
from tests.faults.kinds.disks import FATAL
from tests.faults.kinds.processes import ELECTED, STARTED
from tests.faults.preload import Act, Operation
from tests.faults.registry import Expect, Scene, fault

power_fault = partial(fault, options=OPTIONS, rig=own_disks, tolerates=[FATAL + ".*Input/output error"])
KILLED: Final = -9


@power_fault("power-cut", quick=False, expects=[Expect("faulted", STARTED)])
def power_cut(scene: Scene) -> Iterator[None]:
    "the power of one node goes: what it had not synced is gone from its disk"
    number = scene.fault(scene.leader() if scene.random.random() < 0.5 else scene.follower())
    real = cut_power(scene, number)
    yield
    restore_power(scene, number, real=real)
    scene.cluster.start(number, wait=False)


@power_fault("power-cut-all", lasts_s=(0.0, 1.0), expects=[Expect("faulted", STARTED), Expect("any", ELECTED)])
def power_cut_all(scene: Scene) -> Iterator[None]:
    "the power of all nodes goes at once"
    scene.fault(*scene.numbers)
    real = cut_power(scene, *scene.numbers)
    yield
    restore_power(scene, *scene.numbers, real=real)
    scene.cluster.start(*scene.numbers, wait=False)


@power_fault("power-cut-twice", quick=False, lasts_s=(0.2, 1.0), expects=[Expect("any", ELECTED)])
def power_cut_twice(scene: Scene) -> Iterator[None]:
    "the power of all nodes goes, and again while they start: what was found after the first is still there"
    scene.fault(*scene.numbers)
    real = cut_power(scene, *scene.numbers)
    restore_power(scene, *scene.numbers, real=real)
    scene.cluster.start(*scene.numbers, wait=False)
    scene.wait(scene.random.uniform(0.3, 2.0))
    real = cut_power(scene, *scene.numbers)
    yield
    restore_power(scene, *scene.numbers, real=real)
    scene.cluster.start(*scene.numbers, wait=False)


MOMENTS: Final = (
    ("the log", Operation.WRITE | Operation.SYNC, "log/", 40),
    ("the mark", Operation.WRITE, "mark", 20),
    (
        "a snapshot",
        Operation.WRITE | Operation.SYNC | Operation.RENAME | Operation.OPEN | Operation.UNLINK,
        "snapshots",
        6,
    ),
)
"""Where a process is killed: the calls, the files, and the most calls that pass before."""
ACTS: Final = (Act.KILL_BEFORE, Act.KILL_PARTIAL, Act.KILL_AFTER)


def _arm(scene: Scene, number: int) -> None:
    what, operations, files, most = scene.random.choice(MOMENTS)
    act, skip = scene.random.choice(ACTS), scene.random.randrange(most)
    scene.note(f"node{number}: {act.name} call {skip} on {what}")
    scene.cluster.may_die(number)
    disks_of(scene)[number].calls.die(act, operations, match=files, skip=skip)


@power_fault("death-in-a-write", expects=[Expect("faulted", STARTED)])
def death_in_a_write(scene: Scene) -> Iterator[None]:
    "a node is killed before, amid or after a call that writes its log, its mark or a snapshot; its power may go too"
    number = scene.fault(scene.leader() if scene.random.random() < 0.5 else scene.follower())
    _arm(scene, number)
    ends_with(scene, number, KILLED, "it was to be killed in a write")
    scene.hit(1)
    yield
    disks_of(scene)[number].calls.clear()
    if scene.random.random() < 0.5:
        restore_power(scene, number, real=False)
    scene.cluster.start(number, wait=False)


@power_fault(
    "death-of-all-in-writes",
    quick=False,
    lasts_s=(0.0, 1.0),
    expects=[Expect("faulted", STARTED), Expect("any", ELECTED)],
)
def death_of_all_in_writes(scene: Scene) -> Iterator[None]:
    "as many nodes as may fail die in writes of their own, then the rest; all of them lose what was not synced"
    scene.fault(*scene.numbers)
    for number in scene.minority(with_leader=scene.random.random() < 0.5):
        _arm(scene, number)
        ends_with(scene, number, KILLED, "it was to be killed in a write")
        scene.hit(1)
    scene.cluster.kill_at_once([number for number in scene.numbers if scene.cluster.nodes[number].running])
    yield
    for number in scene.numbers:
        disks_of(scene)[number].calls.clear()
        restore_power(scene, number, real=False)
    scene.cluster.start(*scene.numbers, wait=False)
