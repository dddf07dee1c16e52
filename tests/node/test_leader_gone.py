"""What a follower does when its leader's process has ended: who runs for election when, and how often."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from rocinante import limits
from rocinante.node.driver import Driver
from rocinante.raft.types import NONE, Role

STEP_S = limits.GONE_CAMPAIGN_STEP_MS / 1000
SOONEST_S, LATEST_S = limits.GONE_CAMPAIGN_MS_MIN / 1000, limits.GONE_CAMPAIGN_MS_MAX / 1000


class Loop:
    """Its time passes when it is told to."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._waiting: list[tuple[float, Callable[..., None], tuple[Any, ...]]] = []

    def call_later(self, delay_s: float, callback: Callable[..., None], *arguments: Any) -> None:
        self._waiting.append((self.now_s + delay_s, callback, arguments))

    def run(self, until_s: float) -> None:
        while due := sorted((one for one in self._waiting if one[0] <= until_s), key=lambda one: one[0]):
            self._waiting.remove(due[0])
            self.now_s = due[0][0]
            due[0][1](*due[0][2])
        self.now_s = until_s


class Core:
    """As much of a core as is asked."""

    def __init__(self, node_id: int, leader: int, voters: set[int], loop: Loop) -> None:
        self.id, self.leader, self.term, self.role = node_id, leader, 3, Role.FOLLOWER
        self.config = SimpleNamespace(voters=voters)
        self.campaigns: list[float] = []
        self._loop = loop

    def forget_leader(self) -> None:
        self.leader = NONE

    def campaign(self) -> None:
        self.role = Role.PRE_CANDIDATE
        self.campaigns.append(self._loop.now_s)


def follower(node_id: int, leader: int, voters: int = 3) -> tuple[Any, Core, Loop]:
    loop = Loop()
    core = Core(node_id, leader, set(range(1, voters + 1)), loop)
    driver: Any = Driver.__new__(Driver)
    driver.core, driver._loop, driver._running, driver._turn = core, loop, True, lambda: None
    driver._recovery = SimpleNamespace(active=False)
    driver._membership = SimpleNamespace(name_of=lambda number: f"node{number}")
    return driver, core, loop


@pytest.mark.parametrize(
    ("node", "leader", "voters", "place"),
    [(2, 1, 3, 0), (3, 1, 3, 1), (1, 2, 3, 0), (3, 2, 3, 1), (1, 3, 3, 0), (2, 3, 3, 1), (5, 3, 5, 3)],
)
def test_followers_run_one_after_the_other(node: int, leader: int, voters: int, place: int) -> None:
    driver, core, loop = follower(node, leader, voters)
    driver.peer_gone(leader)
    assert core.leader == NONE
    loop.run((place + 1) * STEP_S)
    assert len(core.campaigns) == 1
    assert SOONEST_S <= core.campaigns[0] - place * STEP_S <= LATEST_S


def test_while_nobody_is_elected_it_is_tried_again_and_then_left_to_the_time_out() -> None:
    driver, core, loop = follower(2, 1)
    driver.peer_gone(1)
    loop.run(60)
    assert len(core.campaigns) == limits.GONE_CAMPAIGNS_MAX
    pauses = [later - earlier for earlier, later in zip(core.campaigns, core.campaigns[1:], strict=False)]
    assert min(pauses) > 3 * STEP_S, "the others have their turns in between"


def test_an_election_that_has_begun_is_not_disturbed() -> None:
    driver, core, loop = follower(3, 1)
    driver.peer_gone(1)
    core.term += 1  # it gave somebody its vote
    loop.run(STEP_S + LATEST_S)
    assert core.campaigns == []
    loop.run(60)
    assert core.campaigns, "but it came to nothing"


@pytest.mark.parametrize("role", [Role.FOLLOWER, Role.LEADER, Role.NOT_READY])
def test_who_has_a_leader_leads_or_stops_does_not_run(role: Role) -> None:
    driver, core, loop = follower(2, 1)
    driver.peer_gone(1)
    core.role = role
    core.leader = 3 if role is Role.FOLLOWER else NONE
    loop.run(60)
    assert core.campaigns == []


def test_the_end_of_another_follower_changes_nothing() -> None:
    driver, core, loop = follower(2, 1)
    driver.peer_gone(3)
    loop.run(60)
    assert (core.leader, core.campaigns) == (1, [])
