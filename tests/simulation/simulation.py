"""One run: a cluster, its clients and its faults, from one integer; and the end, when everything is healed.

`run(seed)` returns a `Result` or raises `SimulationFailure` with the seed, the options and the last events. With the
same seed, the same happens: `Result.hash` says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from rocinante.config import ClusterConfig, Controller, StorageOptions, Timers
from rocinante.raft.options import RotationMode
from rocinante.raft.types import Config
from tests.linearizability.checker import Verdict, check
from tests.linearizability.models import REGISTER

from .clients import Client, History
from .faults import Faults
from .host import Host, Weather, installed
from .members import Members
from .network import Network
from .oracle import Oracle
from .world import SimulationFailure, World

STORMS_S: Final = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 30.0)
"""How long faults go on (virtual seconds): mostly short and dense, since a seed finds more at its beginning."""
CALM_S_MAX: Final = 2.0
"""Before the first fault."""
FAULT_S: Final = 7.0
"""A fault lasts no longer."""
HEAL_S: Final = 60.0
"""Within which the healed cluster must be live and equal."""
FINAL_TRIES_MAX: Final = 3
LINES_SHOWN: Final = 60
CHECKER_STEPS_MAX: Final = 500_000


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
        random = world.random
        self.tiny = {
            "SNAPSHOT_CHUNK_BYTES": random.choice((256, 4096, 1 << 20)),
            "ENTRY_COMMANDS_MAX": random.choice((1, 2, 4096)),
            "DISK_QUEUE_READYS_MAX": random.choice((1, 3, 1024)),
            "GROUP_ENTRIES": random.choice((1, 2, 100)),
            "APPLY_INLINE_BYTES": random.choice((0, 100, 16 * 1024)),
            "SESSIONS_MAX": random.choice((5, 20, 10_000)),
            "SESSION_WINDOW_MAX": random.choice((2, 4096)),
            "SNAPSHOTS_KEPT": random.choice((1, 2)),
            "FORWARDS_REMEMBERED_MAX": random.choice((1, 1024)),
            "READ_ROUNDS_MAX": random.choice((1, 4096)),
            "CLOCK_INTERVAL_MS": random.choice((2_000, 60_000)),
        }
        rotation = random.choice((RotationMode.OFF, RotationMode.OFF, *RotationMode))
        self.raft: dict[str, Any] = {
            "max_inflight_appends": random.choice((1, 2, 256)),
            "max_append_bytes": random.choice((1, 200, 1 << 20)),
            "max_committed_bytes": random.choice((1, 200, 1 << 22)),
            "max_uncommitted_bytes": random.choice((2_000, 1 << 26)),
            "max_applying_bytes": random.choice((1, 1 << 26)),
            "lazy_commit": random.random() < 0.7,
            "frugal_reads": random.random() < 0.7,
            "rotation": rotation,
            "rotation_min_ticks": 60,
            "rotation_max_ticks": 200,
        }
        self.weather = Weather(
            disk_max=random.choice((0.001, 0.003, 0.03)),
            apply_max=random.choice((0.0005, 0.01)),
            apply_aside=random.choice((0.0, 0.2, 1.0)),
        )
        size = random.choice((1, 2, 3, 3, 3, 4, 5, 5))
        compact = random.choice((5, 20, 100, 20_000))
        self.config = ClusterConfig(
            name="simulated",
            controllers=tuple(
                Controller(f"node{number}", "127.0.0.1", 35000 + number, 8000 + number) for number in range(1, size + 1)
            ),
            timers=Timers(tick_ms=random.choice((25, 50)), heartbeat_ms=100, election_ms=500, request_timeout_ms=3000),
            storage=StorageOptions(
                compact_entries=compact,
                keep_entries=random.choice((0, 3, compact)),
                keep_revisions=random.choice((10, 100_000)),
            ),
        )
        self.network = Network(world)
        self.oracle = Oracle(world, Config(voters=frozenset(controller.id for controller in self.config.controllers)))
        self.hosts: list[Host] = []
        self.history = History()
        self.members = Members(self)
        self.faults: Faults
        self.clients: list[Client] = []

    def describe(self) -> str:
        network = self.network
        return (
            f"{len(self.config.controllers)} nodes, {self.tiny}, {self.raft}, {self.config.storage}, {self.weather}, "
            f"delay {network.delay_min}..{network.delay_max}, in order {network.in_order}"
        )

    # --- machines

    def add_host(self, controller: Controller, *, join: bool = False) -> Host:
        config = self.config
        if join:
            known = (*(host.controller for host in self.hosts), controller)
            config = ClusterConfig(config.name, known, timers=config.timers, storage=config.storage)
        host = Host(self.world, self.network, self.oracle, config, controller, self.weather, join=join)
        self.hosts.append(host)
        return host

    def retire(self, host: Host) -> None:
        """It was removed from the cluster: the operator switches it off."""
        if not host.gone:
            host.gone = True
            self.world.note(f"{host.name} is out, and switched off")
            if host.up:
                host.crash()

    def _reachable(self) -> list[Host]:
        return [host for host in self.hosts if not host.gone]

    # --- the run

    def run(self) -> Result:
        with installed(self.world, self.tiny, self.raft):
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
        world = self.world
        world.after_event = self.oracle.check
        for controller in self.config.controllers:
            self.add_host(controller)
        for host in self.hosts:
            world.at(world.random.uniform(0, 0.5), None, "start", host.start)
        keys = [b"key%d" % number for number in range(world.random.choice((1, 2, 4)))]
        self.clients = [
            Client(world, number, self._reachable, self.history, keys) for number in range(world.random.randint(1, 5))
        ]
        world.run_until(world.random.uniform(0.0, CALM_S_MAX))
        storm_s = world.random.choice(STORMS_S)
        self.faults = Faults(self, storm_s)
        world.note(f"faults for {storm_s:g} s: {', '.join(self.faults.kinds)}")
        world.run_until(world.now + storm_s)
        self.faults.stop()
        for client in self.clients:
            client.stop()
        if world.random.random() < 0.4:
            world.run_until(world.now + FAULT_S, lambda: not self.faults.under_way)
            self._live_majority()
        self._heal()
        self._converge()
        self._final_calls(keys)
        self._check_history()
        return Result(
            self.seed,
            world.hash,
            world.events,
            world.now,
            self.history.done,
            self.history.unknown,
            self.history.refused,
            self.history.retries,
            len(self.oracle.committed),
            world.counts,
        )

    def _heal(self) -> None:
        self.world.note("everything is healed")
        self.network.heal()
        self.faults.undo(self.hosts)

    def _live_majority(self) -> None:
        """Only just enough is healed; the rest stays as it is, cut off: the majority must be live all the same.

        Everything of the storm is over first, or a fault's end would change who is up.
        """
        members = max((host for host in self.hosts if host.up), key=lambda host: host.seen.commit, default=None)
        if members is None or any(host.storage.catching_up for host in self._reachable()) or not self.members.settled():
            return
        config = members.node.driver.core.config
        voters = sorted(config.voters)
        if config.joint or config.learners:
            return
        chosen = set(self.world.random.sample(voters, len(voters) // 2 + 1))
        hosts = [host for host in self.hosts if host.id in chosen]
        self.world.note(f"a majority is healed: {', '.join(host.name for host in hosts)}")
        self.world.count("majorities healed")
        self.network.heal(chosen)
        self.faults.undo(hosts)
        self.world.run_until(self.world.now + HEAL_S, lambda: self._led_by_one_of(hosts))
        if not self._led_by_one_of(hosts):
            self.oracle.fail(f"a healed majority is not live after {HEAL_S:g} s")
        client = self.clients[0]
        for host in hosts:
            client.only = host
            self._final_call(client, b"key0", "put")
        client.only = None

    @staticmethod
    def _led_by_one_of(hosts: list[Host]) -> bool:
        leaders = [host for host in hosts if host.leads]
        return bool(leaders) and all(
            host.up and host.node.driver.core.leader == leaders[0].id and not host.node.not_ready_reason()
            for host in hosts
        )

    def _converged(self) -> bool:
        """One leader, whom all its members follow, with the same applied; nobody waits for anything."""
        leaders = [host for host in self.hosts if host.leads]
        if not leaders or not all(client.idle for client in self.clients):
            return False
        leader = max(leaders, key=lambda host: host.node.driver.core.term)
        core = leader.node.driver.core
        if core.config.joint or core.log.commit != core.log.last_index:
            return False
        members = [self.network.hosts[identifier] for identifier in sorted(core.config.members)]
        return all(
            host.up
            and host.node.driver.core.leader == core.id
            and host.node.apply.applied == core.log.last_index
            and not host.node.recovery.active
            for host in members
        )

    def _converge(self) -> None:
        world = self.world
        world.run_until(world.now + HEAL_S, self._converged)
        if not self._converged():
            self.oracle.fail(f"not live, or not equal, {HEAL_S:g} s after everything was healed")
        leader = next(host for host in self.hosts if host.leads)
        members = [self.network.hosts[identifier] for identifier in leader.node.driver.core.config.members]
        self.oracle.states.compare_all([host for host in members if host.up])

    def _final_calls(self, keys: list[bytes]) -> None:
        """Each member reads, and writes, every key: in time."""
        leader = next(host for host in self.hosts if host.leads)
        identifiers = sorted(leader.node.driver.core.config.members)
        client = self.clients[0]
        for identifier in identifiers:
            client.only = self.network.hosts[identifier]
            for key in keys:
                for verb in ("get", "put"):
                    self._final_call(client, key, verb)

    def _final_call(self, client: Client, key: bytes, verb: str) -> None:
        """A few times: a session may be pushed out by others, where few are kept."""
        before = self.history.done
        for _ in range(FINAL_TRIES_MAX):
            self.world.run_until(self.world.now + HEAL_S, lambda: client.idle)
            client.do(key, verb)
            self.world.run_until(self.world.now + HEAL_S, lambda: client.idle)
            if self.history.done > before:
                return
        assert client.only is not None
        self.oracle.fail(f"after everything was healed, {client.only.name} does not {verb} in time")

    def _check_history(self) -> None:
        for key, operations in self.history.operations.items():
            verdict = check(operations, REGISTER, steps_max=CHECKER_STEPS_MAX)
            if verdict is not Verdict.LINEARIZABLE:
                rows = "\n".join(map(str, sorted(operations, key=lambda operation: operation.called)))
                self.oracle.fail(f"the history of {key!r} is {verdict.value}:\n{rows}")


def run(seed: int, *, verbose: bool = False) -> Result:
    """See the module."""
    return Simulation(seed, verbose=verbose).run()
