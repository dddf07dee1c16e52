"""The end of a run: some of the cluster is healed, or all, and must then be live, equal, and have told the truth.

*Liveness*: a random majority (of both halves, where the configuration is joint), with what learners there happen to be,
is healed; the rest stays as it is, cut off or not. It must have a leader, read and write within a bound. Then all is
healed: all members become equal, every one reads and writes every key, every watcher has every revision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rocinante.raft.membership import decode_config
from tests.linearizability.checker import Verdict, check
from tests.linearizability.models import REGISTER

from .clients import KeyClient

if TYPE_CHECKING:
    from .host import Host
    from .simulation import Simulation

FAULT_S: Final = 7.0
"""A fault lasts no longer."""
HEAL_S: Final = 60.0
"""Within which the healed cluster must be live and equal."""
FINAL_TRIES_MIN: Final = 3
AGAIN_S: Final = 0.5
"""Between more of them."""
CHECKER_STEPS_MAX: Final = 500_000


class Ending:
    """See the module."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._world = simulation.world
        self._oracle = simulation.oracle
        self._network = simulation.network

    def run(self) -> None:
        if self._world.random.random() < 0.4:
            self._live_majority()
        self._heal()
        self._converge()
        self._final_calls()
        self._check_history()

    # --- a majority

    def _live_majority(self) -> None:
        """Everything of the storm is over first, or a fault's end would change who is up."""
        simulation, world, random = self._simulation, self._world, self._world.random
        simulation.members.resting = True
        world.run_until(world.now + FAULT_S, lambda: not simulation.storm.under_way)
        hosts = self._some_majority()
        if not hosts:
            return
        apart = random.random() < 0.5
        names = ", ".join(host.name for host in hosts)
        world.note(f"a majority is healed: {names}; the others are {'cut off' if apart else 'left as they are'}")
        self._oracle.reached(f"majority healed, the rest {'cut off' if apart else 'left as it is'}")
        config = self._oracle.rules.config
        if config.joint:
            self._oracle.reached("majority healed in a joint configuration")
        if config.learners & {host.id for host in hosts}:
            self._oracle.reached("majority healed, with learners")
        self._network.heal_among({host.id for host in hosts}, apart=apart)
        simulation.storm.undo(hosts)
        for host in simulation.hosts:
            host.storage.full = False  # a leader whose disk is full refuses writes, wherever it is
        world.run_until(world.now + HEAL_S, lambda: self._led(hosts))
        if not self._led(hosts):
            self._oracle.fail(f"a healed majority is not live after {HEAL_S:g} s: {names}")
        client = simulation.key_clients[0]
        for host in self._still_members(hosts):
            self._final_call(client, host, b"key0", "put")
            self._final_call(client, host, b"key0", "get")

    def _some_majority(self) -> list[Host]:
        """None where it cannot be told who is needed: somebody has lost data, or a change is not known everywhere.

        A node that restarts may begin with an older configuration, from its snapshot, and a change that is in some log
        may yet be committed: what is chosen is a majority of all of these.
        """
        simulation, rules = self._simulation, self._oracle.rules
        members = [host for host in simulation.hosts if host.id in rules.config.members]
        if any(host.gone or host.storage.catching_up for host in members):
            return []
        configs = rules.since(min(host.storage.files.snapshot_index() for host in members))
        pending = self._simulation.pending_changes()
        configs += [config for entry in pending if (config := decode_config(entry.data)) is not None]
        self._world.random.shuffle(members)
        chosen: list[Host] = []
        for host in members:
            ids = {known.id for known in chosen}
            halves = [half for config in configs for half in (config.voters, config.voters_outgoing) if half]
            if all(2 * len(ids & half) > len(half) for half in halves):
                return chosen
            chosen.append(host)
        return []  # that would be everybody

    def _still_members(self, hosts: list[Host]) -> list[Host]:
        """A change that was under way may have removed some."""
        return [host for host in hosts if host.id in self._oracle.rules.config.members]

    def _led(self, hosts: list[Host]) -> bool:
        """By somebody who is up, and all of them know it."""
        hosts = self._still_members(hosts)
        leaders = {host.node.driver.core.leader if host.up else 0 for host in hosts}
        if len(leaders) > 1 or not all(leaders):
            return False
        leader = self._network.hosts[leaders.pop()]
        return leader.leads and not any(host.node.not_ready_reason() for host in hosts)

    # --- everything

    def _heal(self) -> None:
        self._world.note("everything is healed")
        self._simulation.members.hurried, self._simulation.members.resting = True, False
        self._network.heal()
        self._simulation.storm.undo(self._simulation.hosts)

    def _converged(self) -> bool:
        """One leader, whom all its members follow, with the same applied; nobody waits for anything."""
        simulation = self._simulation
        leaders = [host for host in simulation.hosts if host.leads]
        if not leaders or not all(client.idle for client in simulation.clients) or not simulation.members.done():
            return False
        leader = max(leaders, key=lambda host: host.node.driver.core.term)
        core = leader.node.driver.core
        if core.config.joint or core.log.commit != core.log.last_index:
            return False
        members = [self._network.hosts[identifier] for identifier in sorted(core.config.members)]
        return all(
            host.up
            and host.node.driver.core.leader == core.id
            and host.node.apply.applied == core.log.last_index
            and not host.node.recovery.active
            for host in members
        )

    def _converge(self) -> None:
        world = self._world
        world.run_until(world.now + HEAL_S, self._converged)
        if not self._converged():
            self._oracle.fail(f"not live, or not equal, {HEAL_S:g} s after everything was healed")
        self._oracle.states.compare_all([host for host in self._members() if host.up])

    def _members(self) -> list[Host]:
        leader = next(host for host in self._simulation.hosts if host.leads)
        return [self._network.hosts[identifier] for identifier in sorted(leader.node.driver.core.config.members)]

    def _final_calls(self) -> None:
        """Each member reads, and writes, every key: in time."""
        simulation = self._simulation
        client = simulation.key_clients[0]
        for host in self._members():
            for key in simulation.keys:
                for verb in ("get", "put"):
                    self._final_call(client, host, key, verb)
        for watcher in simulation.watchers:
            watcher.slow = 0.0
        until = self._world.now + HEAL_S
        self._world.run_until(until, lambda: all(watcher.has_all() for watcher in simulation.watchers))
        for watcher in simulation.watchers:
            if not watcher.has_all():
                there = self._oracle.states.revision
                self._oracle.fail(f"a watcher is told of nothing from {watcher.next_revision} on; there is {there}")

    def _final_call(self, client: KeyClient, host: Host, key: bytes, verb: str) -> None:
        """A few times: a session may be pushed out by others, where few are kept, and a write that a slow disk had
        begun may take longer than a client waits."""
        before = client.tally.done
        client.only = host
        until, tries = self._world.now + HEAL_S, 0
        while tries < FINAL_TRIES_MIN or self._world.now < until:
            tries += 1
            self._world.run_until(self._world.now + HEAL_S, lambda: client.idle)
            client.do(key, verb)
            self._world.run_until(self._world.now + HEAL_S, lambda: client.idle)
            if client.tally.done > before:
                client.only = None
                return
            if tries >= FINAL_TRIES_MIN:
                self._world.run_until(self._world.now + AGAIN_S)
        if host.id not in self._oracle.rules.config.members:
            client.only = None
            return  # a change that was under way has removed it meanwhile: it owes nobody an answer
        self._oracle.fail(f"after it was healed, {host.name} does not {verb} in time")

    def _check_history(self) -> None:
        for key, operations in self._simulation.history.operations.items():
            verdict = check(operations, REGISTER, steps_max=CHECKER_STEPS_MAX)
            if verdict is not Verdict.LINEARIZABLE:
                rows = "\n".join(map(str, sorted(operations, key=lambda operation: operation.called)))
                self._oracle.fail(f"the history of {key!r} is {verdict.value}:\n{rows}")
