"""Followers that need a snapshot: what they miss is no longer in the leader's log."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

from tests.faults.equipment import OPTIONS, cut_power, disks_of, own_disks, restore_power
from tests.faults.network import between
from tests.faults.preload import Act, Operation
from tests.faults.registry import Expect, Scene, fault

snapshot_fault = partial(fault, options=OPTIONS, rig=own_disks, lasts_s=(0.0, 0.5))
RECEIVING: Final = r"receiving snapshot \d+ \(\d+ bytes\) from node\d"
SENT: Final = r"sending snapshot \d+ \(\d+ bytes\) to node\d"
BALLAST_KEYS: Final = 6
BALLAST_BYTES: Final = 500_000
"""So that a snapshot has several chunks (of 1 MiB)."""
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
    """A follower that was cut off until it needs a snapshot; the network is whole again for the others only."""
    _ballast(scene)
    follower = scene.fault(scene.follower())
    last = _index(scene, follower, "last_index")
    scene.cluster.network.cut(between([follower], scene.others(follower)))
    # What was on its way may still have come; a little more than that is behind it.
    _wait_behind(scene, follower, last + 100)
    return follower


def _wait_received(scene: Scene, follower: int) -> None:
    """Until the follower has what a snapshot of the leader's holds."""
    target = _index(scene, scene.leader(), "snapshot_index")
    scene.cluster.wait_until(
        lambda: _index(scene, follower, "applied") >= target, f"node{follower} has applied {target}"
    )


@snapshot_fault(
    "snapshot-after-partition", expects=[Expect("faulted", RECEIVING), Expect("others", SENT)], gap_s_max=5.0
)
def snapshot_after_partition(scene: Scene) -> Iterator[None]:
    "a follower is cut off until the log it misses is compacted: a snapshot brings it back"
    follower = _left_behind(scene)
    yield
    scene.hit(scene.cluster.network.heal())
    _wait_received(scene, follower)


@snapshot_fault("snapshot-after-pause", expects=[Expect("faulted", RECEIVING), Expect("others", SENT)], gap_s_max=5.0)
def snapshot_after_pause(scene: Scene) -> Iterator[None]:
    "a follower is stopped (SIGSTOP) until the log it misses is compacted: a snapshot brings it back"
    _ballast(scene)
    follower = scene.fault(scene.follower())
    last = _index(scene, follower, "last_index")
    scene.cluster.pause(follower)
    _wait_behind(scene, follower, last + 100)
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
    scene.cluster.may_die(follower)
    calls.die(act, operations, match="snapshots", skip=skip)
    yield
    scene.hit(scene.cluster.network.heal())
    scene.cluster.wait_exit(follower)
    calls.clear()
    if scene.random.random() < 0.5:
        restore_power(scene, follower, real=False)
    scene.cluster.start(follower, wait=False)
    _wait_received(scene, follower)


@snapshot_fault("snapshot-sender-dies", expects=[Expect("any", RECEIVING), Expect("any", SENT)])
def snapshot_sender_dies(scene: Scene) -> Iterator[None]:
    "the leader loses its power in the middle of sending a snapshot to a follower with a slow disk: the next does it"
    follower = _left_behind(scene)
    calls = disks_of(scene)[follower].calls
    calls.slow(Operation.WRITE | Operation.SYNC, 0.3, match="snapshots")
    yield
    scene.hit(scene.cluster.network.heal())
    scene.cluster.wait_until(
        lambda: "receiving snapshot" in scene.cluster.logged(follower), "the snapshot is on its way"
    )
    sender = scene.leader()
    real = cut_power(scene, sender)
    scene.cluster.wait_leader(other_than=sender)
    calls.clear()
    restore_power(scene, sender, real=real)
    scene.cluster.start(sender, wait=False)
    _wait_received(scene, follower)


@snapshot_fault("snapshot-to-a-slow-disk", expects=[Expect("faulted", RECEIVING)], gap_s_max=5.0)
def snapshot_to_a_slow_disk(scene: Scene) -> Iterator[None]:
    "a snapshot is received by a follower whose disk is so slow that the log is compacted again meanwhile"
    follower = _left_behind(scene)
    calls = disks_of(scene)[follower].calls
    rule = calls.slow(Operation.WRITE | Operation.SYNC, 0.5, match="snapshots")
    before = _index(scene, scene.leader(), "snapshot_index")
    yield
    scene.cluster.network.heal()
    scene.cluster.wait_until(
        lambda: _index(scene, scene.leader(), "snapshot_index") > before, "another snapshot is taken meanwhile"
    )
    calls.clear()
    scene.hit(rule.hits)
    _wait_received(scene, follower)
