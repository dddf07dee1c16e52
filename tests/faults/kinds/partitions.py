"""Networks that are cut: the packets of some links vanish (Jepsen's and others' shapes)."""

from __future__ import annotations

from collections.abc import Iterator

from tests.faults.network import among, between, from_to
from tests.faults.registry import Expect, Scene, fault

ELECTED = r"leader in term \d+"
STEPPED_DOWN = r"leads no more: heard from no majority"
REPLACED = rf"{STEPPED_DOWN}|follower in term \d+, leader .* \(was leader in term"
"""One that hears the others may hear of the next leader first."""
LASTS_S = (2.5, 6.0)
DEPOSED = Expect("faulted", r": candidate in term")
"""It got past the pre-vote: somebody who hears the leader would have given it a vote."""


ASKS = r": pre_candidate in term"


def _wait_deposed(scene: Scene, leader: int, said: str = STEPPED_DOWN) -> None:
    """The leader knows that it leads no more, and the others have another."""
    scene.wait_logged(said, leader)
    scene.wait_logged(ELECTED, *scene.others(leader))


@fault("leader-alone", lasts_s=LASTS_S, expects=[Expect("faulted", STEPPED_DOWN), Expect("others", ELECTED)])
def leader_alone(scene: Scene) -> Iterator[None]:
    "the leader is cut off from all others, clients still reach it: it must neither acknowledge nor answer reads"
    leader = scene.fault(scene.leader())
    scene.cluster.network.cut(between([leader], scene.others(leader)))
    yield
    _wait_deposed(scene, leader)
    scene.hit(scene.cluster.network.heal())


@fault("follower-alone", lasts_s=LASTS_S, forbids=[DEPOSED], gap_s_max=5.0)
def follower_alone(scene: Scene) -> Iterator[None]:
    "a follower is cut off; its return must not depose the leader (pre-vote)"
    follower = scene.fault(scene.follower())
    scene.cluster.network.cut(between([follower], scene.others(follower)))
    yield
    scene.wait_logged(ASKS, follower)
    scene.hit(scene.cluster.network.heal())


@fault("minority-cut", sizes=[5], lasts_s=LASTS_S, expects=[Expect("others", ELECTED)])
def minority_cut(scene: Scene) -> Iterator[None]:
    "the leader and a follower on one side, the majority on the other"
    chosen = scene.minority(with_leader=True)
    scene.fault(*chosen)
    scene.cluster.network.cut(between(chosen, scene.others(*chosen)))
    yield
    scene.wait_logged(ELECTED, *scene.others(*chosen))
    scene.hit(scene.cluster.network.heal())


@fault("majority-ring", sizes=[5], lasts_s=LASTS_S)
def majority_ring(scene: Scene) -> Iterator[None]:
    "each node sees a majority, its two neighbours on a ring, but no two nodes see the same one"
    ring = scene.numbers
    scene.random.shuffle(ring)
    scene.fault(*ring)
    kept = {link for at, number in enumerate(ring) for link in between([number], [ring[at - 1]])}
    scene.cluster.network.cut(among(ring) - kept)
    yield
    scene.hit(scene.cluster.network.heal())


@fault("bridge", lasts_s=LASTS_S)
def bridge(scene: Scene) -> Iterator[None]:
    "two halves that see each other through one node only"
    order = scene.numbers
    scene.random.shuffle(order)
    middle, rest = order[0], order[1:]
    half = len(rest) // 2
    scene.fault(middle)
    scene.cluster.network.cut(between(rest[:half], rest[half:]))
    yield
    scene.hit(scene.cluster.network.heal())


@fault("leader-sends-nothing", lasts_s=LASTS_S, expects=[Expect("faulted", REPLACED), Expect("others", ELECTED)])
def leader_sends_nothing(scene: Scene) -> Iterator[None]:
    "one way: what the leader sends is lost, what the others send arrives"
    leader = scene.fault(scene.leader())
    scene.cluster.network.cut(from_to([leader], scene.others(leader)))
    yield
    _wait_deposed(scene, leader, REPLACED)
    scene.hit(scene.cluster.network.heal())


@fault(
    "leader-hears-nothing",
    lasts_s=LASTS_S,
    expects=[Expect("faulted", STEPPED_DOWN), Expect("others", ELECTED)],
    quick=False,
)
def leader_hears_nothing(scene: Scene) -> Iterator[None]:
    "one way: what the others send to the leader is lost, what it sends arrives"
    leader = scene.fault(scene.leader())
    scene.cluster.network.cut(from_to(scene.others(leader), [leader]))
    yield
    _wait_deposed(scene, leader)
    scene.hit(scene.cluster.network.heal())


@fault("follower-hears-nothing", lasts_s=LASTS_S, forbids=[DEPOSED], gap_s_max=5.0, quick=False)
def follower_hears_nothing(scene: Scene) -> Iterator[None]:
    "one way: a follower hears nobody, but all hear it: its votes requests must not depose the leader"
    follower = scene.fault(scene.follower())
    scene.cluster.network.cut(from_to(scene.others(follower), [follower]))
    yield
    scene.wait_logged(ASKS, follower)
    scene.hit(scene.cluster.network.heal())


@fault("no-majority", lasts_s=(2.0, 4.0), expects=[Expect("any", ELECTED)], quick=False)
def no_majority(scene: Scene) -> Iterator[None]:
    "everybody is alone: nothing is acknowledged, and all goes on once the network is back"
    scene.fault(*scene.numbers)
    scene.cluster.network.cut(among(scene.numbers))
    yield
    scene.hit(scene.cluster.network.heal())


@fault("flapping", lasts_s=(0.0, 0.0), quick=False)
def flapping(scene: Scene) -> Iterator[None]:
    "random links are cut and come back, several times a second, for a while"
    links = sorted(among(scene.numbers))
    scene.fault(*scene.numbers)
    for _ in range(scene.random.randint(6, 12)):
        scene.cluster.network.cut(set(scene.random.sample(links, scene.random.randint(1, len(links) // 2))))
        scene.wait(scene.random.uniform(0.2, 0.8))
        scene.hit(scene.cluster.network.heal())
        scene.wait(scene.random.uniform(0.05, 0.3))
    yield
