"""Members that come and go under load."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from rocinante.client import Client
from rocinante.errors import AlreadyExists, FailedPrecondition, NotFound, OutcomeUnknown, Unavailable
from tests.faults.equipment import OPTIONS, ask, forget, lead, own_disks
from tests.faults.registry import Expect, Scene, fault
from tests.support.cluster import ClusterFailure

member_fault = partial(fault, options=OPTIONS, rig=own_disks, lasts_s=(0.5, 1.0))
CHANGE_S: Final = 60.0
REMOVED: Final = "was removed from the cluster"


def members(scene: Scene, number: int) -> dict[str, str]:
    """As the node itself says: name → voter or learner."""
    status, answer = ask(scene.cluster.nodes[number], "GET", "/v1/members")
    if status != 200:
        return {}
    return {row["name"]: "learner" if row["learner"] else "voter" for row in answer["members"]}


def change(scene: Scene, act: Callable[[Client], object], name: str, becomes: str, asked: list[int]) -> None:
    """Ask for a change until all of these nodes know that `name` is what it should become ("" is no member)."""

    def done() -> bool:
        try:
            act(client)
        except (Unavailable, OutcomeUnknown, AlreadyExists, NotFound, FailedPrecondition):
            pass  # done already, or not yet: the members tell
        return all(members(scene, number).get(name, "") == becomes for number in asked)

    with Client([scene.cluster.endpoint(number) for number in asked], timeout_s=15.0) as client:
        scene.cluster.wait_until(done, f"{name} is {becomes or 'no member'}", CHANGE_S)


def add(scene: Scene, number: int, asked: list[int]) -> None:
    """A node without data joins as a learner, and is promoted when it has caught up."""
    node = scene.cluster.nodes[number]
    node.config = scene.cluster.directory / f"{node.name}.yaml"
    scene.cluster.write_config(node.config)
    node.arguments = ["--join"]
    scene.cluster.start(number, wait=False)
    address, port, rest = node.address, node.grpc, node.rest
    change(scene, lambda c: c.cluster.add(address, port, name=node.name, rest=rest), node.name, "learner", asked)
    identity = scene.cluster.identity(number)
    change(scene, lambda c: c.cluster.promote(identity), node.name, "voter", asked)
    node.arguments = []


def remove(scene: Scene, number: int, left: list[int]) -> None:
    """It is no member any more, knows it, and ends as an operator ends it."""
    node = scene.cluster.nodes[number]
    identity = scene.cluster.identity(number)
    change(scene, lambda c: c.cluster.remove(identity), node.name, "", left)

    def knows() -> bool:
        status = node.status()
        return status is not None and REMOVED in str(status["not_ready_reason"])

    scene.cluster.wait_until(knows, f"{node.name} knows that it was removed", CHANGE_S)
    if (status := scene.cluster.stop(number)) != 0:
        raise AssertionError(f"{node.name} ended with {status} after its removal")


def replace(scene: Scene, number: int) -> Iterator[None]:
    left = scene.others(number)
    remove(scene, number, left)
    scene.cluster.wait_leader()
    yield
    scene.cluster.wipe(number)
    add(scene, number, left)


@member_fault(
    "member-replaced",
    quick=False,
    expects=[Expect("faulted", f"membership|{REMOVED}"), Expect("others", "membership: ")],
)
def member_replaced(scene: Scene) -> Iterator[None]:
    "a follower is removed, and comes back empty: learner, then voter"
    yield from replace(scene, scene.fault(scene.follower()))


@member_fault("leader-replaced", expects=[Expect("others", r"leader in term \d+"), Expect("others", "membership: ")])
def leader_replaced(scene: Scene) -> Iterator[None]:
    "the leader is removed, and comes back empty: learner, then voter"
    yield from replace(scene, scene.fault(scene.leader()))


@member_fault("grow-and-shrink", sizes=[3], expects=[Expect("others", r"membership: (\w+, ){4}\w+$")])
def grow_and_shrink(scene: Scene) -> Iterator[None]:
    "from three nodes to five and back: the ones that are removed again may lead by then"
    before = scene.numbers
    for _ in range(2):
        added = scene.cluster.add()
        scene.fault(added.number)
        add(scene, added.number, scene.others(added.number))
    yield
    fresh = scene.others(*before)
    if scene.random.random() < 0.5:
        lead(scene, scene.random.choice(fresh))
    for number in fresh:
        remove(scene, number, scene.others(number))
        forget(scene, number)


@member_fault("shrink-and-grow", quick=False, sizes=[5], expects=[Expect("others", r"membership: (\w+, ){2}\w+$")])
def shrink_and_grow(scene: Scene) -> Iterator[None]:
    "from five nodes to three and back; the leader may be one of those that go"
    gone = scene.random.sample(scene.numbers, 2)
    scene.fault(*gone)
    for number in gone:
        remove(scene, number, [left for left in scene.numbers if scene.cluster.nodes[left].running and left != number])
    yield
    for number in gone:
        scene.cluster.wipe(number)
        add(scene, number, [other for other in scene.numbers if scene.cluster.nodes[other].running])


@member_fault("member-added-leader-killed", quick=False, sizes=[3], expects=[Expect("others", r"leader in term \d+")])
def member_added_leader_killed(scene: Scene) -> Iterator[None]:
    "the leader is killed while a node is being added, promoted and removed: the change happens, once, or not at all"
    added = scene.cluster.add()
    asked = scene.others(added.number)
    add(scene, added.number, asked)
    leader = scene.fault(scene.leader())
    scene.cluster.kill(leader)
    left = scene.others(leader, added.number)
    identity = scene.cluster.identity(added.number)
    if leader == added.number:
        raise ClusterFailure("a node that was just added leads already")
    change(scene, lambda c: c.cluster.remove(identity), added.name, "", left)
    yield
    scene.cluster.start(leader, wait=False)
    remove(scene, added.number, asked)
    forget(scene, added.number)
