"""Membership changes, as operators make them: machines join, are promoted, demoted, removed for good, replaced.

The node's own commands change one member at a time; joint configurations, which they do not ask for, are asked of the
core. An operator makes one change after the other, does not touch the membership while somebody is without data, and
sees to it that what was begun is ended: a machine that is lost is removed and another one takes its place, a joint
configuration that must be left by hand is left, who was removed is switched off.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final

from rocinante.config import Controller
from rocinante.errors import RocinanteError
from rocinante.node.directory import encode_members
from rocinante.node.membership import member_from
from rocinante.ports import Member
from rocinante.raft.types import Change, ChangeKind, Config, ConfigChange, RaftError, Transition

if TYPE_CHECKING:
    from .host import Host
    from .simulation import Simulation
    from .storm import Acts

HOSTS_MAX: Final = 11
"""Machines of a run, with those that were removed."""
LEARNERS_MAX: Final = 2
ROUND_S: Final = 0.3
"""How often the operator looks what there is to be done."""


class Members:
    """See the module."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._world = simulation.world
        self._changed = False
        self._made = len(simulation.config.controllers)
        self._lost: list[Host] = []
        """Without their disk, and still members."""
        self._missing = 0
        """Machines that are to be added for those that were lost."""
        self._retiring: set[int] = set()
        self._linger_s = self._world.random.choice((0.7, 0.7, 5.0))
        self._attention = self._world.random.choice((0.05, 0.3, 0.6))
        """How likely each round ends something that was begun."""
        self._to_promote: set[int] = set()
        self.resting = False
        """Nothing is changed: it must be known whose votes are needed."""
        self.hurried = False
        """The storm is over: what is begun is ended now."""
        self._round()

    def acts(self) -> Acts:
        return {
            "membership": self._change,
            "joint change": lambda: self._change(joint=True),
            "replaced machine": self._replace,
        }

    def _leader(self) -> Host | None:
        """Of the highest term: a change is the leader's to make."""
        leaders = [host for host in self._simulation.hosts if host.leads and not host.paused]
        return max(leaders, key=lambda host: host.node.driver.core.term, default=None)

    def settled(self) -> bool:
        """All machines that are not switched off know of the same members: then one of them may lose its data."""
        hosts = [host for host in self._simulation.hosts if not host.gone]
        if not self._changed:
            return True
        return (
            not self._lost
            and all(host.up for host in hosts)
            and len({host.node.apply.config for host in hosts}) == 1
            and hosts[0].node.apply.config == self._simulation.oracle.rules.config
        )

    def done(self) -> bool:
        """Nothing is left to be ended."""
        config = self._simulation.oracle.rules.config
        return not self._lost and not (config.joint and not config.auto_leave)

    # --- what is begun

    def _change(self, *, joint: bool = False) -> None:
        """One that is possible, at random."""
        leader = self._leader()
        if leader is None or self._lost or any(host.storage.catching_up for host in self._here()):
            return  # one that does not vote yet is enough: two could cost the cluster its quorum
        config = leader.node.driver.core.config
        if joint:
            self._several(leader)
            return
        acts = [self._remove]
        if len(config.learners) < LEARNERS_MAX and self._made < HOSTS_MAX:
            acts += [self._add, self._add]
        if config.learners:
            acts += [self._promote, self._promote]
        if len(config.voters) > 1:
            acts += [self._demote]
        self._changed = True
        self._world.random.choice(acts)(leader)

    def _here(self) -> list[Host]:
        return [host for host in self._simulation.hosts if not host.gone]

    def _ready(self, config: Config) -> list[int]:
        """Learners that could vote."""
        hosts = self._simulation.network.hosts
        return [identifier for identifier in sorted(config.learners) if hosts[identifier].up]

    def _add(self, leader: Host) -> None:
        host, member = self._new()
        # The second of two voters must be able to vote before the first may stop: it is promoted when it is.
        voter = len(leader.node.driver.core.config.voters) > 1 and self._world.random.random() < 0.3
        host.start()
        if not voter and self._world.random.random() < 0.7:
            self._to_promote.add(host.id)
        self._ask(leader, lambda: leader.node.add_member(member, voter=voter))

    def _new(self) -> tuple[Host, Member]:
        simulation = self._simulation
        self._made += 1
        controller = Controller(f"node{self._made}", "127.0.0.1", 35000 + self._made, 8000 + self._made)
        host = simulation.add_host(controller, join=True)
        return host, member_from(controller.name, controller.address, controller.port, controller.rest)

    def _promote(self, leader: Host) -> None:
        to = self._world.random.choice(sorted(leader.node.driver.core.config.learners))
        self._ask(leader, lambda: leader.node.promote_member(to))

    def _remove(self, leader: Host) -> None:
        config = leader.node.driver.core.config
        members = sorted(config.members) if len(config.voters) > 1 else sorted(config.learners)
        if members and not config.joint:
            target = leader.id if self._world.random.random() < 0.3 else self._world.random.choice(members)
            if target in members:
                self._ask(leader, lambda: leader.node.remove_member(target))

    def _demote(self, leader: Host) -> None:
        target = self._world.random.choice(sorted(leader.node.driver.core.config.voters))
        self._propose(leader, ConfigChange((Change(ChangeKind.ADD_LEARNER, target),)))

    def _several(self, leader: Host) -> None:
        """From the voters that are to those that shall be, in one step, through a joint configuration."""
        config, random = leader.node.driver.core.config, self._world.random
        if len(config.voters) + len(config.learners) < 2:
            return
        candidates = sorted(config.voters) + self._ready(config)
        voters = set(random.sample(candidates, min(len(candidates), random.choice((1, 2, 3, 3, 5)))))
        changes = [Change(ChangeKind.ADD_VOTER, node) for node in sorted(voters - config.voters)]
        leaving = (ChangeKind.REMOVE, ChangeKind.ADD_LEARNER)
        changes += [Change(random.choice(leaving), node) for node in sorted(config.voters - voters)]
        if changes:
            transition = random.choice((Transition.AUTO, Transition.JOINT_IMPLICIT, Transition.JOINT_EXPLICIT))
            self._propose(leader, ConfigChange(tuple(changes), transition))

    def _replace(self) -> None:
        """A machine and its disk are lost. It is removed, and a new one, with a new id, is added."""
        host = self._simulation.storm.host()
        config = self._simulation.oracle.rules.config
        if host is None or host.id not in config.voters or len(config.voters) < 3 or self._made >= HOSTS_MAX:
            return
        if self._simulation.may_lose(host):
            self._world.note(f"{host.name} is lost for good")
            host.crash()
            host.wipe()
            host.gone = True
            self._changed = True
            self._lost.append(host)
            self._missing += 1

    # --- and ended

    def _round(self) -> None:
        leader = self._leader()
        if leader is not None and not self.resting and (self.hurried or self._world.random.random() < self._attention):
            self._tend(leader)
        self._retire()
        self._world.at(ROUND_S, None, "operator", self._round)

    def _tend(self, leader: Host) -> None:
        config = leader.node.driver.core.config
        if config.joint:
            if not config.auto_leave:
                self._propose(leader, ConfigChange(transition=Transition.LEAVE))
            return
        for host in self._lost:
            if host.id in config.members:
                self._ask(leader, lambda identifier=host.id: leader.node.remove_member(identifier))  # type: ignore[misc]
                return
        for identifier in sorted(self._to_promote & config.learners):
            self._to_promote.discard(identifier)
            self._ask(leader, lambda to=identifier: leader.node.promote_member(to))  # type: ignore[misc]
            if self._world.random.random() < 0.8:
                self._to_promote.add(identifier)  # it may not be ready yet: once more
        committed = self._simulation.oracle.rules.config.members
        removed = [host for host in self._lost if host.id not in committed]
        self._lost = [host for host in self._lost if host not in removed]
        if removed:
            self._simulation.oracle.reached("lost machine removed")
        if self._missing and not self._lost and not self.hurried:
            self._missing -= 1
            self._simulation.oracle.reached("lost machine replaced under a new id")
            self._add(leader)

    def _retire(self) -> None:
        """Who was removed is switched off, some time later."""
        oracle = self._simulation.oracle
        for host in self._here():
            if host.id in oracle.rules.ever and host.id not in self._retiring and self._is_out(host):
                self._retiring.add(host.id)
                linger_s = 0.7 if self.hurried else self._linger_s
                self._world.at(linger_s, None, "retire", self._retirement(host))

    def _is_out(self, host: Host) -> bool:
        """And a majority of the others will know it after a restart too: the last voters could else wait for it."""
        rules, hosts = self._simulation.oracle.rules, self._simulation.network.hosts
        if host.id in rules.config.members:
            return False
        knowing = [voter for voter in rules.config.voters if hosts[voter].storage.files.knows(rules.index)]
        return 2 * len(knowing) > len(rules.config.voters)

    def _retirement(self, host: Host) -> Callable[[], None]:
        return lambda: self._simulation.retire(host)

    # --- how

    def _may(self) -> Callable[[], bool]:
        """Whether what is asked for now may still be done when it comes to the leader: not if data was lost since."""
        lost = self._world.counts.get("disks wiped", 0)
        return lambda: not self.resting and self._world.counts.get("disks wiped", 0) == lost

    def _ask(self, host: Host, request: Callable[[], Future[int]]) -> None:
        may = self._may()

        def act() -> None:
            if not may():
                return
            try:
                request().add_done_callback(lambda _: None)
            except RocinanteError as error:
                self._world.note(f"the change is refused: {error}")

        self._world.at(0.0, host, "membership", act)

    def _propose(self, host: Host, change: ConfigChange) -> None:
        core = host.node.driver.core
        described = ConfigChange(change.changes, change.transition, encode_members([]))
        may = self._may()

        def act() -> None:
            if not may():
                return
            try:
                core.propose_change(described)
            except RaftError as error:
                self._world.note(f"the change is refused: {error}")

        self._world.at(0.0, host, "membership", lambda: host.node.ingress.put_act(act))
