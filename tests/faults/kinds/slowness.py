"""Networks that lose or delay packets."""

from __future__ import annotations

from collections.abc import Iterator

from tests.faults.network import among, between
from tests.faults.registry import Scene, fault

LASTS_S = (3.0, 6.0)


@fault("delay", lasts_s=LASTS_S)
def delay(scene: Scene) -> Iterator[None]:
    "every packet between the nodes is late, by 30 to 150 ms one way, each link by another time"
    scene.fault(*scene.numbers)
    scene.cluster.network.delay(scene.numbers, 30, 150, str(scene.random.random()))
    yield
    scene.hit(scene.cluster.network.heal())


@fault("loss", lasts_s=LASTS_S)
def loss(scene: Scene) -> Iterator[None]:
    "packets between the nodes are lost at random: 5 to 30 in a hundred"
    percent = scene.random.randint(5, 30)
    scene.note(f"{percent} % lost")
    scene.fault(*scene.numbers)
    scene.cluster.network.lose(among(scene.numbers), percent)
    yield
    scene.hit(scene.cluster.network.heal())


@fault("loss-leader", lasts_s=LASTS_S, quick=False)
def loss_leader(scene: Scene) -> Iterator[None]:
    "half of all packets from and to the leader are lost"
    leader = scene.fault(scene.leader())
    scene.cluster.network.lose(between([leader], scene.others(leader)), 50)
    yield
    scene.hit(scene.cluster.network.heal())


@fault("delay-and-loss", lasts_s=LASTS_S, quick=False)
def delay_and_loss(scene: Scene) -> Iterator[None]:
    "a bad long-distance line: 30 to 80 ms one way, and 1 to 5 packets in a hundred are lost"
    percent = scene.random.randint(1, 5)
    scene.note(f"{percent} % lost")
    scene.fault(*scene.numbers)
    scene.cluster.network.lose(among(scene.numbers), percent)
    scene.cluster.network.delay(scene.numbers, 30, 80, str(scene.random.random()))
    yield
    scene.hit(scene.cluster.network.heal())
