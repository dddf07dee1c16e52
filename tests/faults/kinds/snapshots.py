"""Followers that need a snapshot: what they miss is no longer in the leader's log."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from functools import partial
from typing import Final

from rocinante.errors import EXIT_STORAGE
from tests.faults.equipment import OPTIONS, ask, cut_power, disks_of, ends_with, own_disks, restore_power
from tests.faults.kinds.disks import FATAL
from tests.faults.kinds.power import KILLED
from tests.faults.network import between
from tests.faults.preload import Act, Operation
from tests.faults.registry import Expect, Scene, fault

snapshot_fault = partial(fault, options=OPTIONS, rig=own_disks, lasts_s=(0.0, 0.5))
RECEIVING: Final = r"receiving snapshot \d+ \(\d+ bytes\) from node\d"
SENT: Final = r"sending snapshot \d+ \(\d+ bytes\) to node\d"
BALLAST_KEYS: Final = 6
BALLAST_BYTES: Final = 500_000
"""So that a snapshot has several chunks (of 1 MiB)."""
MARGIN_ENTRIES: Final = 40
KEPT_ENTRIES: Final = 60
"""A little more than keepEntries in the OPTIONS."""
IN_FLIGHT_ENTRIES: Final = 400
"""More than may be in the buffers of the connections to a node that is paused or cut off."""
BEHIND_S: Final = 60.0


def _ballast(scene: Scene) -> None:
    """Once a cluster."""
    client = scene.cluster.client
    if client.kv.get(f"ballast/{BALLAST_KEYS - 1}") is not None:
        return
    for number in range(BALLAST_KEYS):
        client.kv.put(f"ballast/{number}", scene.random.randbytes(BALLAST_BYTES))


def _index(scene: Scene, number: int, what: str) -> int:
    return int(str(scene.cluster.status_of(number)[what]))


def _wait_behind(scene: Scene, follower: int, last: int) -> None:
    """Until no log of the others reaches back to what it has."""

    def behind() -> bool:
        return all(_index(scene, other, "first_index") > last + 1 for other in scene.others(follower))

    scene.cluster.wait_until(behind, f"the logs of all others begin after entry {last}", BEHIND_S)


def _left_behind(scene: Scene) -> int:
    """A follower that is dead, and needs a snapshot when it is started."""
    _ballast(scene)
    follower = scene.fault(scene.follower())
    last = _index(scene, follower, "last_index")
    scene.cluster.kill(follower)
    # It may have got a little more before it died, and the others keep a little of their logs.
    missed = last + MARGIN_ENTRIES
    scene.cluster.wait_until(
        lambda: _index(scene, scene.leader(), "commit") > missed + KEPT_ENTRIES, f"entries to {missed} and what is kept"
    )
    for other in scene.others(follower):
        ask(scene.cluster.nodes[other], "POST", "/v1/admin/snapshot", {})
    _wait_behind(scene, follower, missed)
    return follower


def _forgotten(scene: Scene, follower: int, last: int) -> None:
    """Until a follower that is only away needs a snapshot: what was on its way in the connections is lost too."""
    _wait_behind(scene, follower, last + IN_FLIGHT_ENTRIES)
    given_up = re.compile(rf"append channel to node{follower} \(.*\): (?!connected)")

    def disconnected() -> bool:
        return all(given_up.search(scene.cluster.logged(other)) for other in scene.others(follower))

    scene.cluster.wait_until(disconnected, f"the others have given up their connections to node{follower}", BEHIND_S)


def _wait_receiving(scene: Scene, follower: int) -> None:
    logged = scene.cluster.logged
    scene.cluster.wait_until(lambda: "receiving snapshot" in logged(follower), "the snapshot is on its way")


def _wait_received(scene: Scene, follower: int) -> None:
    """Until the follower has what a snapshot of the leader's holds."""
    target = _index(scene, scene.leader(), "snapshot_index")
    scene.cluster.wait_until(
        lambda: _index(scene, follower, "applied") >= target, f"node{follower} has applied {target}"
    )


@snapshot_fault(
    "snapshot-after-partition",
    quick=False,
    expects=[Expect("faulted", RECEIVING), Expect("others", SENT)],
    gap_s_max=5.0,
)
def snapshot_after_partition(scene: Scene) -> Iterator[None]:
    "a follower is cut off until the log it misses is compacted: a snapshot brings it back"
    _ballast(scene)
    follower = scene.fault(scene.follower())
    last = _index(scene, follower, "last_index")
    scene.cluster.network.cut(between([follower], scene.others(follower)))
    _forgotten(scene, follower, last)
    yield
    scene.hit(scene.cluster.network.heal())
    _wait_received(scene, follower)


@snapshot_fault(
    "snapshot-after-pause", quick=False, expects=[Expect("faulted", RECEIVING), Expect("others", SENT)], gap_s_max=5.0
)
def snapshot_after_pause(scene: Scene) -> Iterator[None]:
    "a follower is stopped (SIGSTOP) until the log it misses is compacted: a snapshot brings it back"
    _ballast(scene)
    follower = scene.fault(scene.follower())
    last = _index(scene, follower, "last_index")
    scene.cluster.pause(follower)
    _forgotten(scene, follower, last)
    scene.hit(1)
    yield
    scene.cluster.resume(follower)
    _wait_received(scene, follower)


@snapshot_fault("snapshot-receiver-dies", expects=[Expect("faulted", RECEIVING), Expect("others", SENT)])
def snapshot_receiver_dies(scene: Scene) -> Iterator[None]:
    "a follower is killed, or loses its power, in the middle of receiving a snapshot"
    follower = _left_behind(scene)
    calls = disks_of(scene)[follower].calls
    skip = scene.random.randrange(6)
    act = scene.random.choice((Act.KILL_BEFORE, Act.KILL_PARTIAL, Act.KILL_AFTER))
    operations = Operation.WRITE | Operation.SYNC | Operation.RENAME | Operation.OPEN
    scene.note(f"{act.name} call {skip}")
    calls.die(act, operations, match="snapshots", skip=skip)
    yield
    scene.cluster.start(follower, wait=False)
    ends_with(scene, follower, KILLED, "it was to be killed while it receives a snapshot")
    scene.hit(1)
    calls.clear()
    if scene.random.random() < 0.5:
        restore_power(scene, follower, real=False)
    scene.cluster.start(follower, wait=False)
    _wait_received(scene, follower)


@snapshot_fault(
    "snapshot-sender-dies",
    quick=False,
    expects=[Expect("any", RECEIVING), Expect("any", SENT)],
    tolerates=[FATAL + ".*Input/output error", r"snapshot \d+ cannot be read for node\d: .*Input/output error"],
)
def snapshot_sender_dies(scene: Scene) -> Iterator[None]:
    "the leader loses its power in the middle of sending a snapshot to a follower with a slow disk: the next does it"
    follower = _left_behind(scene)
    calls = disks_of(scene)[follower].calls
    calls.slow(Operation.WRITE | Operation.SYNC, 0.3, match="snapshots")
    yield
    scene.cluster.start(follower, wait=False)
    _wait_receiving(scene, follower)
    sender = scene.leader()
    real = cut_power(scene, sender)
    scene.hit(1)
    scene.cluster.wait_leader(other_than=sender)
    calls.clear()
    restore_power(scene, sender, real=real)
    scene.cluster.start(sender, wait=False)
    _wait_received(scene, follower)


@snapshot_fault("snapshot-to-a-slow-disk", quick=False, expects=[Expect("faulted", RECEIVING)], gap_s_max=5.0)
def snapshot_to_a_slow_disk(scene: Scene) -> Iterator[None]:
    "a snapshot is received by a follower whose disk is so slow that the log is compacted again meanwhile"
    follower = _left_behind(scene)
    calls = disks_of(scene)[follower].calls
    rule = calls.slow(Operation.WRITE | Operation.SYNC, 0.5, match="snapshots")
    yield
    scene.cluster.start(follower, wait=False)
    _wait_receiving(scene, follower)
    scene.cluster.wait_until(lambda: rule.hits > 0, f"node{follower} writes what it receives")
    before = _index(scene, scene.leader(), "snapshot_index")
    scene.cluster.wait_until(
        lambda: _index(scene, scene.leader(), "snapshot_index") > before, "another snapshot is taken meanwhile"
    )
    calls.clear()
    scene.hit(rule.hits)
    _wait_received(scene, follower)


@snapshot_fault(
    "snapshot-cannot-be-stored",
    quick=False,
    expects=[Expect("faulted", RECEIVING), Expect("faulted", FATAL + "cannot write the snapshot")],
    tolerates=[FATAL],
)
def snapshot_cannot_be_stored(scene: Scene) -> Iterator[None]:
    "the disk of a follower fails in the middle of receiving a snapshot: status 74; it gets it again on a sound disk"
    follower = _left_behind(scene)
    calls = disks_of(scene)[follower].calls
    operation = scene.random.choice((Operation.WRITE, Operation.SYNC, Operation.RENAME))
    error = scene.random.choice((errno.EIO, errno.ENOSPC))
    calls.slow(Operation.WRITE | Operation.SYNC | Operation.RENAME, 0.3, match="snapshots")
    yield
    scene.cluster.start(follower, wait=False)
    _wait_receiving(scene, follower)
    scene.cluster.may_die(follower)
    rule = calls.fail(operation, error, match="snapshots")
    scene.note(f"{operation.name}: {os.strerror(error)}")
    ends_with(scene, follower, EXIT_STORAGE, "it could not store a snapshot")
    scene.hit(rule.hits)
    calls.clear()
    scene.cluster.start(follower, wait=False)
    _wait_received(scene, follower)


@snapshot_fault(
    "snapshot-cannot-be-read-back",
    expects=[Expect("faulted", RECEIVING), Expect("faulted", FATAL + ".*snapshot")],
    tolerates=[FATAL],
)
def snapshot_cannot_be_read_back(scene: Scene) -> Iterator[None]:
    "a follower cannot read the snapshot that it just received: it ends with status 74"
    follower = _left_behind(scene)
    calls = disks_of(scene)[follower].calls
    calls.slow(Operation.WRITE | Operation.SYNC, 0.4, match="snapshots")
    yield
    scene.cluster.start(follower, wait=False)
    _wait_receiving(scene, follower)
    scene.cluster.may_die(follower)
    rule = calls.fail(Operation.READ, errno.EIO, match=".snap", skip=scene.random.randrange(3))
    ends_with(scene, follower, EXIT_STORAGE, "it could not read a snapshot")
    scene.hit(rule.hits)
    calls.clear()
    scene.cluster.start(follower, wait=False)
    _wait_received(scene, follower)
