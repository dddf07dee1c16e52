"""Disks that are full, that fail, that are slow. What fails ends the node; what is slow must not."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from functools import partial
from typing import Final

from rocinante.errors import EXIT_STORAGE, EXIT_TEMPORARY
from tests.faults.equipment import (
    OPTIONS,
    RESERVE_BYTES,
    alarms,
    ask,
    disks_of,
    ends_with,
    own_disks,
    refuses_to_start,
)
from tests.faults.kinds.processes import STARTED
from tests.faults.preload import Operation
from tests.faults.registry import Expect, Scene, fault

disk_fault = partial(fault, options=OPTIONS, rig=own_disks)
FATAL: Final = r"FATAL: the data directory can no longer be written or trusted: "
NEARLY_FULL: Final = "the disk is nearly full"


def _leader_or_follower(scene: Scene) -> int:
    return scene.fault(scene.leader() if scene.random.random() < 0.5 else scene.follower())


@disk_fault(
    "disk-nearly-full",
    lasts_s=(1.0, 3.0),
    expects=[
        Expect("faulted", f"ALARM: {NEARLY_FULL}.* are kept in reserve\\); writes are refused"),
        Expect("faulted", "alarm over: there is room again"),
    ],
    tolerates=[f"ALARM: {NEARLY_FULL}"],
)
def disk_nearly_full(scene: Scene) -> Iterator[None]:
    "disks fill up to below the reserve: an alarm, writes are refused with a clear answer, reads go on, room ends it"
    everywhere = scene.random.random() < 0.5
    chosen = scene.numbers if everywhere else [scene.follower()]
    scene.fault(*chosen)
    disks = disks_of(scene)
    for number in chosen:
        disks[number].volume.fill(RESERVE_BYTES // 2)
    for number in chosen:
        _wait_alarm(scene, number)
        _refuses_writes_only(scene, number)
    yield
    if not everywhere and _put(scene, scene.leader())[0] != 200:
        raise AssertionError("a leader that has room refused a write")
    for number in chosen:
        _refuses_writes_only(scene, number)
        disks[number].volume.free()
    for number in chosen:
        _wait_alarm(scene, number, over=True)
        scene.hit(1)


def _wait_alarm(scene: Scene, number: int, *, over: bool = False) -> None:
    node = scene.cluster.nodes[number]

    def reached() -> bool:
        status = node.status()
        return status is not None and (NEARLY_FULL in alarms(status)) != over

    scene.cluster.wait_until(reached, f"the alarm of {node.name}{' is over' if over else ''}")


def _put(scene: Scene, number: int) -> tuple[int, object]:
    return _answer(scene, number, "PUT", "/v1/kv/faults-room", b"v")


def _answer(scene: Scene, number: int, method: str, path: str, body: bytes | None = None) -> tuple[int, object]:
    """Status and answer. That there is no leader at the moment (503) says nothing about the disk."""
    answers: list[tuple[int, object]] = []

    def answered() -> bool:
        answers.append(ask(scene.cluster.nodes[number], method, path, body))
        return answers[-1][0] not in (0, 503)

    scene.cluster.wait_until(answered, f"node{number} says yes or no to {method} {path}")
    return answers[-1]


def _refuses_writes_only(scene: Scene, number: int) -> None:
    """What its clients and its operator see."""
    node = scene.cluster.nodes[number]
    status, answer = _put(scene, number)
    if status != 429 or NEARLY_FULL not in str(answer):
        raise AssertionError(f"node{number} answered a write with {status} {answer}")
    status, answer = _answer(scene, number, "GET", "/v1/kv?prefix=faults/&limit=1")
    if status != 200:
        raise AssertionError(f"node{number} answered a read with {status} {answer}")
    status, answer = ask(node, "GET", "/metrics")
    if not re.search(r"^rocinante_storage_alarms [1-9]", str(answer), re.MULTILINE):
        raise AssertionError(f"node{number} counts no alarm in /metrics")


@disk_fault(
    "disk-full",
    expects=[
        Expect("faulted", FATAL + r".*No space left on device.* before there is room; nothing that it .* is lost"),
        Expect("faulted", r"^rocinante: cannot use .*: .*No space left on device.*; make room and start again"),
        Expect("faulted", STARTED),
    ],
    tolerates=[FATAL + ".*No space left on device", f"ALARM: {NEARLY_FULL}"],
)
def disk_full(scene: Scene) -> Iterator[None]:
    "a disk is full all at once, in the middle of writes: the node ends with status 74, the others go on"
    number = _leader_or_follower(scene)
    volume = disks_of(scene)[number].volume
    scene.cluster.may_die(number)
    volume.fill()
    ends_with(scene, number, EXIT_STORAGE, "its disk was full")
    scene.hit(1)
    yield
    volume.fill()
    status, said = refuses_to_start(scene, number)
    if status != EXIT_TEMPORARY:
        raise AssertionError(f"node{number} was started on a full disk and ended with {status}: {said}")
    volume.free()
    scene.cluster.start(number, wait=False)


FAILURES: Final = (
    (Operation.WRITE, errno.EIO, "log/0", False),
    (Operation.WRITE, errno.EIO, "log/0", True),
    (Operation.WRITE, errno.ENOSPC, "log/0", True),
    (Operation.SYNC, errno.EIO, "log/0", False),
    (Operation.SYNC, errno.EDQUOT, "log/0", False),
    (Operation.WRITE, errno.EIO, "mark", False),
)
"""What fails: the call, how, on which files, and whether half of it succeeds first."""


@disk_fault(
    "disk-write-fails",
    expects=[Expect("faulted", FATAL), Expect("faulted", STARTED)],
    tolerates=[FATAL],
)
def disk_write_fails(scene: Scene) -> Iterator[None]:
    "a write or a sync of the log fails: the node ends with status 74 and acknowledges nothing of it"
    number = _leader_or_follower(scene)
    calls = disks_of(scene)[number].calls
    operation, error, files, partly = scene.random.choice(FAILURES)
    scene.cluster.may_die(number)
    rule = calls.fail(operation, error, match=files, skip=scene.random.randrange(20), partial=partly)
    scene.note(f"{operation.name} on {files}: {os.strerror(error)}")
    ends_with(scene, number, EXIT_STORAGE, "a write failed")
    scene.hit(rule.hits)
    yield
    calls.clear()
    # After a failed sync the pages are marked clean: what was not on the disk before never will be.
    calls.power_cut(scene.random)
    scene.cluster.start(number, wait=False)


@disk_fault(
    "disk-fails-in-a-snapshot",
    quick=False,
    expects=[Expect("faulted", FATAL + ".*cannot write the snapshot"), Expect("faulted", STARTED)],
    tolerates=[FATAL],
)
def disk_fails_in_a_snapshot(scene: Scene) -> Iterator[None]:
    "a snapshot cannot be written, synced or renamed: the node ends with status 74"
    number = _leader_or_follower(scene)
    calls = disks_of(scene)[number].calls
    operation = scene.random.choice((Operation.WRITE, Operation.SYNC, Operation.RENAME, Operation.OPEN))
    error = scene.random.choice((errno.EIO, errno.ENOSPC))
    scene.cluster.may_die(number)
    rule = calls.fail(operation, error, match="snapshots")
    scene.note(f"{operation.name} of a snapshot: {os.strerror(error)}")
    ask(scene.cluster.nodes[number], "POST", "/v1/admin/snapshot", {})
    ends_with(scene, number, EXIT_STORAGE, "a snapshot failed")
    scene.hit(rule.hits)
    yield
    calls.clear()
    calls.power_cut(scene.random)
    scene.cluster.start(number, wait=False)


SLOW_S: Final = (0.05, 0.25)
SLOW_LASTS_S: Final = (3.0, 6.0)
HANG_S: Final = 6.0
HANGS_LASTS_S: Final = (8.0, 12.0)
"""In the short form too longer than any election time-out: whose heartbeats wait for the disk is voted out."""


def _slow(scene: Scene, number: int, delay_s: float) -> Iterator[None]:
    """Every sync of one node is late. Heartbeats are not the disk's: nobody may be voted out for it."""
    calls = disks_of(scene)[number].calls
    before = scene.cluster.term()
    rule = calls.slow(Operation.SYNC, delay_s)
    scene.note(f"each sync of node{number} takes {delay_s:.2f} s more")
    yield
    calls.clear()
    scene.hit(rule.hits)
    if (terms := scene.cluster.term() - before) > 0:
        raise AssertionError(f"{terms} elections because the disk of node{number} was slow")


@disk_fault("disk-slow-leader", quick=False, lasts_s=SLOW_LASTS_S, gap_s_max=5.0)
def disk_slow_leader(scene: Scene) -> Iterator[None]:
    "the leader's disk is slow: writes go on, and there is no election"
    yield from _slow(scene, scene.fault(scene.leader()), scene.random.uniform(*SLOW_S))


@disk_fault("disk-slow-follower", quick=False, lasts_s=SLOW_LASTS_S, gap_s_max=5.0)
def disk_slow_follower(scene: Scene) -> Iterator[None]:
    "a follower's disk is slow: writes go on, and there is no election"
    yield from _slow(scene, scene.fault(scene.follower()), scene.random.uniform(*SLOW_S))


@disk_fault("disk-hangs", lasts_s=HANGS_LASTS_S, gap_s_max=5.0)
def disk_hangs(scene: Scene) -> Iterator[None]:
    "a disk answers only after seconds: the majority of the others is enough for every write, and there is no election"
    number = _leader_or_follower(scene)
    yield from _slow(scene, number, HANG_S)
