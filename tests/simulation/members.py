"""Membership changes, as an operator makes them: a new machine joins, is promoted, an old one is removed for good."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final

from rocinante.config import Controller
from rocinante.errors import RocinanteError
from rocinante.node.directory import encode_members
from rocinante.node.membership import member_from
from rocinante.ports import Member
from rocinante.raft.types import Change, ChangeKind, ConfigChange, RaftError

if TYPE_CHECKING:
    from .host import Host
    from .simulation import Simulation

HOSTS_MAX: Final = 7
VOTERS_MIN: Final = 2


class Members:
    """See the module."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._changed = False
        self._made = len(simulation.config.controllers)

    def _leader(self) -> Host | None:
        """Of the highest term: a change is the leader's to make."""
        leaders = [host for host in self._simulation.hosts if host.leads and not host.paused]
        return max(leaders, key=lambda host: host.node.driver.core.term, default=None)

    def change(self) -> None:
        """One that is possible, at random."""
        leader = self._leader()
        if leader is None or any(host.storage.catching_up for host in self._simulation.hosts if not host.gone):
            return  # one that does not vote yet is enough: two could cost the cluster its quorum
        self._changed = True
        random = self._simulation.world.random
        learners = bool(leader.node.driver.core.config.learners)
        act = random.choice(
            (self._promote, self._swap, self._remove) if learners else (self._add, self._add, self._remove)
        )
        act(leader)

    def settled(self) -> bool:
        """All machines that are not switched off know of the same members: then one of them may lose its data."""
        hosts = [host for host in self._simulation.hosts if not host.gone]
        if not self._changed:
            return True
        return all(host.up for host in hosts) and len({host.node.apply.config for host in hosts}) == 1

    def _at(self, host: Host, request: Callable[[], Future[int]], done: Callable[[], None]) -> None:
        def completed(future: Future[int]) -> None:
            if future.exception() is None:
                done()

        def act() -> None:
            try:
                request().add_done_callback(completed)
            except RocinanteError as error:
                self._simulation.world.note(f"the change is refused: {error}")

        self._simulation.world.at(0.0, host, "membership", act)

    def _new(self) -> tuple[Host, Member]:
        simulation = self._simulation
        self._made += 1
        controller = Controller(f"node{self._made}", "127.0.0.1", 35000 + self._made, 8000 + self._made)
        host = simulation.add_host(controller, join=True)
        simulation.world.count("members added")
        return host, member_from(controller.name, controller.address, controller.port, controller.rest)

    def _swap(self, leader: Host) -> None:
        """A learner takes a voter's place, in a joint configuration: what the node's own commands do not ask for."""
        core, random = leader.node.driver.core, self._simulation.world.random
        learners, voters = sorted(core.config.learners), sorted(core.config.voters - {leader.id})
        if not learners or not voters:
            return
        joining, leaving = random.choice(learners), random.choice(voters)
        changes = (Change(ChangeKind.ADD_VOTER, joining), Change(ChangeKind.REMOVE, leaving))

        def act() -> None:
            try:
                core.propose_change(ConfigChange(changes, context=encode_members([])))
            except RaftError as error:
                self._simulation.world.note(f"the change is refused: {error}")
            else:
                self._simulation.world.count("members swapped")

        self._simulation.world.at(0.0, leader, "membership", lambda: leader.node.ingress.put_act(act))

    def _add(self, leader: Host) -> None:
        simulation = self._simulation
        if self._made >= HOSTS_MAX:
            return
        host, member = self._new()
        # The second of two voters must be able to vote before the first may stop: it is promoted when it is.
        voter = len(leader.node.driver.core.config.voters) > 1 and simulation.world.random.random() < 0.3
        host.start()
        self._at(leader, lambda: leader.node.add_member(member, voter=voter), lambda: None)

    def _promote(self, leader: Host) -> None:
        learners = [member.id for member in leader.node.members()[0] if member.learner]
        if learners:
            to = self._simulation.world.random.choice(learners)
            self._at(leader, lambda: leader.node.promote_member(to), lambda: None)

    def _remove(self, leader: Host) -> None:
        """The operator stops the machine once it is out."""
        simulation = self._simulation
        members, under_way = leader.node.members()
        if under_way or sum(not member.learner for member in members) <= VOTERS_MIN:
            return
        target = simulation.network.hosts[simulation.world.random.choice(members).id]

        def removed() -> None:
            simulation.world.count("members removed")
            simulation.world.at(0.5, None, "retire", lambda: simulation.retire(target))

        self._at(leader, lambda: leader.node.remove_member(target.id), removed)
