"""Processes that die, are paused, or are restarted."""

from __future__ import annotations

from collections.abc import Iterator

from tests.faults.registry import Expect, Scene, fault

STARTED = r"leveldb: .* loaded in [\d.]+ s"
"""What a node says of the data it found when it starts again."""
ELECTED = r"leader in term \d+"
DEPOSED = Expect("faulted", r": candidate in term")
"""It got past the pre-vote: somebody who hears the leader would have given it a vote."""


@fault("leader-kill", expects=[Expect("faulted", STARTED), Expect("others", ELECTED)])
def leader_kill(scene: Scene) -> Iterator[None]:
    "kill -9 on the leader; it is started again"
    leader = scene.fault(scene.leader())
    scene.cluster.kill(leader)
    yield
    scene.wait_logged(ELECTED, *scene.others(leader))
    scene.cluster.start(leader, wait=False)


@fault("follower-kill", expects=[Expect("faulted", STARTED)], gap_s_max=5.0, quick=False)
def follower_kill(scene: Scene) -> Iterator[None]:
    "kill -9 on a follower; writes go on"
    follower = scene.fault(scene.follower())
    scene.cluster.kill(follower)
    yield
    scene.cluster.start(follower, wait=False)


@fault("minority-kill", sizes=[5], expects=[Expect("faulted", STARTED), Expect("others", ELECTED)], quick=False)
def minority_kill(scene: Scene) -> Iterator[None]:
    "kill -9 on the leader and as many others as may fail, at once"
    chosen = scene.minority(with_leader=True)
    scene.fault(*chosen)
    for number in chosen:
        scene.cluster.kill(number)
    yield
    scene.wait_logged(ELECTED, *scene.others(*chosen))
    scene.cluster.start(*chosen, wait=False)


@fault("all-kill", lasts_s=(0.0, 1.0), expects=[Expect("faulted", STARTED), Expect("any", ELECTED)])
def all_kill(scene: Scene) -> Iterator[None]:
    "kill -9 on all nodes at once"
    scene.fault(*scene.numbers)
    # First the signals, then the waits: a node must not have the time to notice what happens to the others.
    scene.cluster.kill_at_once(scene.numbers)
    yield
    scene.cluster.start(*scene.numbers, wait=False)


@fault(
    "leader-pause",
    lasts_s=(2.5, 5.0),
    expects=[Expect("faulted", "leads no more|was leader"), Expect("others", ELECTED)],
)
def leader_pause(scene: Scene) -> Iterator[None]:
    "SIGSTOP on the leader for longer than an election takes, then SIGCONT: it must not answer as the leader it was"
    leader = scene.fault(scene.leader())
    scene.cluster.pause(leader)
    yield
    scene.wait_logged(ELECTED, *scene.others(leader))
    scene.cluster.resume(leader)


@fault("follower-pause", lasts_s=(2.5, 5.0), forbids=[DEPOSED], gap_s_max=5.0, quick=False)
def follower_pause(scene: Scene) -> Iterator[None]:
    "SIGSTOP on a follower for longer than the election time-out, then SIGCONT: no election beyond what is needed"
    follower = scene.fault(scene.follower())
    scene.cluster.pause(follower)
    yield
    scene.cluster.resume(follower)


@fault(
    "rolling-restart",
    lasts_s=(0.0, 0.0),
    expects=[Expect("faulted", "stopping"), Expect("faulted", "stopped"), Expect("faulted", STARTED)],
)
def rolling_restart(scene: Scene) -> Iterator[None]:
    "SIGTERM and a new start, one node after the other, the leader last"
    leader = scene.leader()
    order = scene.others(leader)
    scene.random.shuffle(order)
    scene.fault(*scene.numbers)
    for number in [*order, leader]:
        status = scene.cluster.stop(number)
        if status != 0:
            raise AssertionError(f"node{number} ended with {status} on SIGTERM")
        scene.cluster.start(number)
        scene.cluster.wait_applied()
    yield
