"""Leadership that moves under load: by request, and by rotation."""

from __future__ import annotations

from collections.abc import Iterator

from rocinante.errors import OutcomeUnknown, Unavailable
from tests.faults.registry import Expect, Scene, fault

TRANSFERS = 6
ROTATES_S = (8.0, 12.0)


@fault("transfer", lasts_s=(0.0, 0.0), expects=[Expect("faulted", "handing leadership over")])
def transfer(scene: Scene) -> Iterator[None]:
    "leadership is handed over under load, several times"
    moved = 0
    for _ in range(TRANSFERS):
        leader = scene.fault(scene.leader())
        target = scene.random.choice(scene.others(leader))
        try:
            scene.cluster.client.cluster.transfer(scene.cluster.identity(target))
        except (OutcomeUnknown, Unavailable) as error:  # the target was too far behind for too long: nothing changed
            scene.note(error.message)
            continue
        scene.cluster.wait_leader()  # not "another one": on a busy machine that may be the old one again
        moved += 1
    scene.hit(moved)
    yield


def _rotation(scene: Scene) -> Iterator[None]:
    before = scene.cluster.term()
    yield
    scene.cluster.wait_until(lambda: scene.cluster.term() > before, "leadership has moved")
    terms = scene.cluster.term() - before
    scene.note(f"{terms} terms")
    scene.hit(terms)


@fault(
    "rotation-by-silence",
    lasts_s=ROTATES_S,
    options={"rotation": {"mode": "delay_heartbeats", "minSeconds": 2, "maxSeconds": 4}},
    expects=[Expect("any", r"leader in term \d+")],
)
def rotation_by_silence(scene: Scene) -> Iterator[None]:
    "rotation on: the leader delays its heartbeats at random until another one is elected"
    yield from _rotation(scene)


@fault(
    "rotation-by-transfer",
    lasts_s=ROTATES_S,
    options={"rotation": {"mode": "transfer", "minSeconds": 2, "maxSeconds": 4}},
    expects=[Expect("any", r"leader in term \d+")],
    quick=False,
)
def rotation_by_transfer(scene: Scene) -> Iterator[None]:
    "rotation on: the leader hands over at random"
    yield from _rotation(scene)
