"""One run: a cluster, its clients and its faults, from one integer; and the end, when everything is healed.

`run(seed)` returns a `Result` or raises `SimulationFailure` with the seed, the options and the last events. With the
same seed, the same happens: `Result.hash` says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from rocinante.config import ClusterConfig, Controller
from rocinante.errors import RocinanteError
from rocinante.raft.types import Config, Entry

from .caller import Caller
from .clients import History, KeyClient
from .draw import draw
from .ending import Ending
from .fault_disks import DiskFaults
from .fault_network import NetworkFaults
from .fault_processes import ProcessFaults
from .flow_clients import FlowClient
from .host import Host, installed
from .members import Members
from .network import Network
from .oracle import Oracle
from .storm import Storm
from .watching import KeyWatcher
from .world import SimulationFailure, World

LINES_SHOWN: Final = 60
FIRST_INDEX: Final = 2
"""Of the first entry behind the beginning that all have in common."""


@dataclass(slots=True)
class Result:
    seed: int
    hash: int
    events: int
    seconds: float
    """Virtual."""
    operations: int
    unknown: int
    refused: int
    retries: int
    entries: int
    """Committed."""
    counts: dict[str, int] = field(default_factory=dict)


class Simulation:
    """See the module."""

    def __init__(self, seed: int, *, verbose: bool = False) -> None:
        self.seed = seed
        self.world = world = World(seed, verbose=verbose)
        self.drawn = drawn = draw(world.random)
        self.config = drawn.config
        self.network = Network(world)
        voters = Config(voters=frozenset(controller.id for controller in self.config.controllers))
        self.oracle = Oracle(world, voters)
        self.hosts: list[Host] = []
        self.history = History()
        self.members = Members(self)
        self.storm = Storm(self, drawn.storm_s)
        self.keys = [b"key%d" % number for number in range(drawn.keys)]
        self.key_clients: list[KeyClient] = []
        self.clients: list[Caller] = []
        self.watchers: list[KeyWatcher] = []

    def describe(self) -> str:
        drawn = self.drawn
        return (
            f"{len(self.config.controllers)} nodes, {drawn.tiny}, {drawn.raft}, {self.config.storage}, "
            f"{self.config.limits}, {self.config.timers}, {drawn.weather}, {self.network.rates}, "
            f"faults for {drawn.storm_s:g} s: {', '.join(self.storm.kinds)}"
        )

    # --- machines

    def add_host(self, controller: Controller, *, join: bool = False) -> Host:
        config = self.config
        if join:
            known = (*(host.controller for host in self.hosts), controller)
            config = ClusterConfig(
                config.name, known, timers=config.timers, storage=config.storage, limits=config.limits
            )
        host = Host(self.world, self.network, self.oracle, config, controller, self.drawn.weather, join=join)
        self.hosts.append(host)
        return host

    def retire(self, host: Host) -> None:
        """It was removed from the cluster: the operator switches it off."""
        if not host.gone:
            host.gone = True
            self.world.note(f"{host.name} is out, and switched off")
            if host.up:
                host.crash()

    def may_lose(self, host: Host) -> bool:
        """So that those that have all they ever acknowledged stay a majority.

        And not before the cluster has begun everywhere: members that have nothing yet, and one that lost what it had,
        would believe each other to be new (ARCHITECTURE, caveats).
        """
        here = [other for other in self.hosts if not other.gone]
        lacking = [other for other in here if other is not host and other.storage.catching_up]
        voters = self.oracle.rules.config.voters
        return (
            self.members.settled()
            and host.id in voters
            and not self.oracle.rules.config.joint
            and not self.pending_changes()
            and len(lacking) + 1 <= (len(voters) - 1) // 2
            and all(other.storage.files.holds(FIRST_INDEX) for other in here if other.id in voters)
        )

    def pending_changes(self) -> list[Entry]:
        """Changes that are not committed, in some log, or in that of a leader who has not written them yet."""
        index = self.oracle.rules.index
        found = self.oracle.matching.pending(index)
        for host in self.hosts:
            if host.up:
                log = host.node.driver.core.log
                found += [entry for at in log.config_indexes if at > index and (entry := log.entry(at)) not in found]
        return found

    def reachable(self) -> list[Host]:
        return [host for host in self.hosts if not host.gone]

    # --- the run

    def run(self) -> Result:
        with installed(self.world, self.drawn.tiny, self.drawn.raft):
            try:
                return self._run()
            except (AssertionError, Exception) as error:
                raise SimulationFailure(self._report(error)) from error

    def _report(self, error: BaseException) -> str:
        lines = "\n".join(list(self.world.trace)[-LINES_SHOWN:])
        return f"seed {self.seed}: {error!r}\n{self.describe()}\n{lines}\n{self._state()}\nseed {self.seed}: {error}"

    def _state(self) -> str:
        rows = []
        for host in self.hosts:
            if not host.up:
                rows.append(f"{host.name}: {'gone' if host.gone else 'down'}")
                continue
            core = host.node.driver.core
            rows.append(
                f"{host.name}: {core.role}, term {core.term}, leader {core.leader:x}, applied "
                f"{host.node.apply.applied}, commit {core.log.commit}, log {core.log.first_index}.."
                f"{core.log.last_index}{', recovering' if host.node.recovery.active else ''}"
                f"{', paused' if host.paused else ''}, {len(host.node.pending)} pending, id {host.id:x}, "
                f"{host.node.membership._describe(core.config)}"
            )
        return "\n".join(rows)

    def _run(self) -> Result:
        world, drawn = self.world, self.drawn
        world.after_event = self.oracle.check
        for controller in self.config.controllers:
            self.add_host(controller)
        for host in self.hosts:
            world.at(world.random.uniform(0, 0.5), None, "start", host.start)
        self._begin_clients()
        world.run_until(drawn.calm_s)
        self.storm.begin(
            {
                **ProcessFaults(self.storm).acts(),
                **NetworkFaults(self.storm).acts(),
                **DiskFaults(self.storm).acts(),
                **self.members.acts(),
                "transfer": self._transfer,
                "snapshot": self._snapshot,
            }
        )
        world.note(f"faults for {drawn.storm_s:g} s: {', '.join(self.storm.kinds)}")
        world.run_until(world.now + drawn.storm_s)
        self.storm.stop()
        for client in self.clients:
            client.stop()
        Ending(self).run()
        return self._result()

    def _begin_clients(self) -> None:
        world, drawn = self.world, self.drawn
        self.key_clients = [
            KeyClient(world, number, self.reachable, self.history, self.keys) for number in range(drawn.key_clients)
        ]
        self.clients = [
            *self.key_clients,
            *(
                FlowClient(world, number + 1, self.reachable, self.history, self.oracle)
                for number in range(drawn.flow_clients)
            ),
        ]
        self.watchers = [KeyWatcher(world, self.reachable, self.oracle) for _ in range(drawn.watchers)]

    def _result(self) -> Result:
        for host in self.hosts:
            if host.up:
                host.look_back()
        flows = self.oracle.states.flows
        if flows.expired:
            self.world.count("flows expired", flows.expired)
        return Result(
            self.seed,
            self.world.hash,
            self.world.events,
            self.world.now,
            self.history.done,
            self.history.unknown,
            self.history.refused,
            self.history.retries,
            len(self.oracle.committed),
            self.world.counts,
        )

    # --- what operators do, besides the membership

    def _transfer(self) -> None:
        host = self.storm.host()
        if host is None:
            return
        to = self.world.random.choice([0, *self.storm.ids()])

        def act() -> None:
            try:
                host.node.transfer_leader(to)
            except RocinanteError:
                pass

        self.world.at(0.0, host, "transfer", act)

    def _snapshot(self) -> None:
        host = self.storm.host()
        if host is None:
            return

        def act() -> None:
            try:
                host.node.snapshot()
            except RocinanteError:
                pass

        self.world.at(0.0, host, "snapshot", act)


def run(seed: int, *, verbose: bool = False) -> Result:
    """See the module."""
    return Simulation(seed, verbose=verbose).run()
