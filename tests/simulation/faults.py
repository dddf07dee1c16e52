"""What goes wrong: each fault begins at a random moment, lasts a random time, and is undone.

A run has a choice of the kinds, drawn from its seed. What a Raft cluster cannot survive by design (the data of a
majority lost) is not done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from rocinante.errors import DataDirectoryError, RocinanteError
from rocinante.node.driver import Driver

from .world import World

LONG_STORM_S: Final = 12.0

if TYPE_CHECKING:
    from .host import Host
    from .simulation import Simulation


class Faults:
    """See the module. `stop` undoes everything."""

    def __init__(self, simulation: Simulation, storm_s: float) -> None:
        self._simulation = simulation
        self._world: World = simulation.world
        random = self._world.random
        kinds: dict[str, Callable[[], None]] = {
            "crash": self._crash,
            "kill": self._kill,
            "crash in a write": self._crash_in_write,
            "crash all": self._crash_all,
            "pause": self._pause,
            "isolate": self._isolate,
            "split": self._split,
            "one way": self._one_way,
            "bridge": self._bridge,
            "clog": self._clog,
            "slow disk": self._slow_disk,
            "full disk": self._full_disk,
            "failed sync": self._failed_sync,
            "bit rot": self._bit_rot,
            "wipe": self._wipe,
            "transfer": self._transfer,
            "not ready": self._not_ready,
            "graceful restart": self._graceful_restart,
            "snapshot": self._snapshot,
            "membership": self._membership,
        }
        chosen = random.sample(sorted(kinds), random.randint(1, len(kinds)))
        self.kinds = sorted(chosen)
        self._acts = [(kind, kinds[kind]) for kind in self.kinds]
        self._weights = [random.choice((1, 1, 1, 5)) for _ in self.kinds]
        short = storm_s < LONG_STORM_S
        self._pause_s = random.choice((0.1, 0.3, 1.0) if short else (1.0, 2.0, 4.0))
        self._lasts = random.choice((0.1, 0.3, 1.0) if short else (0.3, 1.0))
        """What a fault's time is multiplied by."""
        self.under_way = 0
        """Faults whose end is still to come."""
        self._stopped = False
        self._schedule()

    def stop(self) -> None:
        """No more faults begin."""
        self._stopped = True

    def undo(self, hosts: list[Host]) -> None:
        """What is down, paused, full or slow is not any more."""
        for host in hosts:
            host.slow, host.crash_in_write = 1.0, False
            host.storage.full = host.storage.files.no_space = host.storage.files.unreadable = False
            host.storage.files.fail_next = ""
            if host.paused:
                self._world.resume(host)
            self._world.at(self._world.random.uniform(0.0, 0.5), None, "start", host.restart)

    def _schedule(self) -> None:
        self._world.at(self._world.random.expovariate(1 / self._pause_s), None, "fault", self._next)

    def _next(self) -> None:
        if self._stopped:
            return
        kind, act = self._world.random.choices(self._acts, self._weights)[0]
        self._world.note(f"fault: {kind}")
        self._world.count(f"fault: {kind}")
        act()
        self._schedule()

    def _host(self, *, up: bool = True) -> Host | None:
        hosts = [host for host in self._simulation.hosts if host.up is up and not host.gone]
        if not hosts:
            return None
        leaders = [host for host in hosts if host.leads]
        if leaders and self._world.random.random() < 0.4:
            return self._world.random.choice(leaders)
        return self._world.random.choice(hosts)

    def _after(self, low: float, high: float, act: Callable[[], None]) -> None:
        """The fault's end."""
        self.under_way += 1

        def end() -> None:
            self.under_way -= 1
            act()

        self._world.at(self._world.random.uniform(low, high) * self._lasts, None, "fault ends", end)

    # --- processes

    def _crash(self, *, refuses: bool = False) -> None:
        host = self._host()
        if host is not None:
            self._world.run_now(None, "crash", lambda: host.crash(refuses=refuses))
            self._after(0.05, 4.0, host.restart)

    def _kill(self) -> None:
        self._crash(refuses=True)

    def _crash_in_write(self) -> None:
        """At the moment that matters: something was promised, or is about to be, and is not on the disk."""
        host = self._host()
        if host is not None:
            host.crash_in_write = True

    def _crash_all(self) -> None:
        for host in self._simulation.hosts:
            if host.up and not host.gone:
                host.crash()
                self._after(0.05, 2.0, host.restart)

    def _pause(self) -> None:
        host = self._host()
        if host is None or host.paused:
            return
        host.paused = True
        life = host.life

        def resume() -> None:
            if host.life == life and host.paused:
                self._world.resume(host)

        self._after(0.05, 5.0, resume)

    def _graceful_restart(self) -> None:
        """What the daemon does on SIGTERM: hand over, fall silent, finish what waits for the disk."""
        host = self._host()
        if host is None or host.paused or host.node.stopping.is_set():
            return
        life = host.life
        host.node.stopping.set()

        def hand_over() -> None:
            if host.leads:
                try:
                    host.node.transfer_leader()
                except RocinanteError:
                    pass

        def leave() -> None:
            driver: Driver = host.node.driver
            driver.core.set_not_ready()
            driver.stop()
            host.node.transport.stop()

        def end() -> None:
            if host.life == life and host.up:
                host.crash(refuses=True)
                self._after(0.05, 1.0, host.restart)

        self._world.at(0.0, host, "hand over", hand_over)
        self._world.at(0.7, host, "leave", leave)
        self._after(1.0, 1.5, end)

    def _not_ready(self) -> None:
        """The gRPC switch, off and on again."""
        host = self._host()
        if host is None or not host.node.switch.enabled:
            return
        node = host.node

        def off() -> None:
            node.switch.enabled = False
            node.ingress.put_act(node.driver.core.set_not_ready)
            node.ingress.put_act(node.transport.pause)

        def on() -> None:
            node.switch.enabled = True
            node.ingress.put_act(node.transport.resume)
            if node.left_not_ready.is_set():
                node.ingress.put_act(node.driver.core.set_ready)

        self._world.at(0.0, host, "switch off", off)
        self._world.at(self._world.random.uniform(0.1, 4.0), host, "switch on", on)

    # --- the network

    def _cut(self, links: set[tuple[int, int]]) -> None:
        network = self._simulation.network
        network.cut |= links
        self._after(0.1, 6.0, lambda: network.cut.difference_update(links))

    def _ids(self) -> list[int]:
        return [host.id for host in self._simulation.hosts if not host.gone]

    def _isolate(self) -> None:
        host = self._host()
        if host is not None:
            others = self._ids()
            self._cut({(host.id, other) for other in others} | {(other, host.id) for other in others})

    def _split(self) -> None:
        ids = self._ids()
        group = set(self._world.random.sample(ids, self._world.random.randint(0, len(ids))))
        self._cut({(a, b) for a in ids for b in ids if (a in group) != (b in group)})

    def _one_way(self) -> None:
        ids = self._ids()
        self._cut({(self._world.random.choice(ids), self._world.random.choice(ids)) for _ in range(2)})

    def _bridge(self) -> None:
        """Two halves that only one node sees both of (openraft #2080)."""
        ids = self._ids()
        self._world.random.shuffle(ids)
        bridge, rest = ids[0], ids[1:]
        left = set(rest[: len(rest) // 2])
        self._cut({(a, b) for a in rest for b in rest if (a in left) != (b in left) and bridge not in (a, b)})

    def _clog(self) -> None:
        ids, random, network = self._ids(), self._world.random, self._simulation.network
        until = self._world.now + random.uniform(0.1, 4.0) * self._lasts
        for _ in range(random.randint(1, 3)):
            network.clogged[random.choice(ids), random.choice(ids)] = until

    # --- disks

    def _slow_disk(self) -> None:
        host = self._host()
        if host is not None:
            host.slow = self._world.random.choice((10.0, 100.0, 1000.0))
            self._after(0.1, 5.0, lambda: setattr(host, "slow", 1.0))

    def _full_disk(self) -> None:
        host = self._host()
        if host is not None:
            storage = host.storage
            storage.full = True
            self._after(0.5, 5.0, lambda: setattr(storage, "full", False))

    def _failed_sync(self) -> None:
        host = self._host()
        if host is None:
            return
        host.storage.files.fail_next = "sync"

        def repaired() -> None:
            host.storage.files.fail_next = ""
            host.restart()

        self._after(1.0, 4.0, repaired)

    def _may_lose(self, host: Host) -> bool:
        """So that those that have all they ever acknowledged stay a majority."""
        voters = [other for other in self._simulation.hosts if not other.gone]
        lacking = [other for other in voters if other is not host and other.storage.catching_up]
        joining = any(other.join for other in voters)
        return self._simulation.members.settled() and not joining and len(lacking) + 1 <= (len(voters) - 1) // 2

    def _wipe(self) -> None:
        host = self._host()
        if host is None or not self._may_lose(host):
            return
        host.crash()
        host.wipe()
        host.storage.catching_up = True  # for `_may_lose`, until it starts and marks it itself
        self._after(0.05, 3.0, host.restart)

    def _bit_rot(self) -> None:
        """A start finds it, always; the operator wipes the disk."""
        host = self._host()
        if host is None or not self._may_lose(host):
            return
        host.crash()
        where = host.storage.flip_a_bit(of_snapshot=False)
        try:
            host.start()
        except DataDirectoryError as error:
            self._world.note(f"{where} was found: {error}")
        else:
            self._simulation.oracle.fail(f"{host.name} starts with {where} flipped")
        host.wipe()
        host.storage.catching_up = True
        self._after(0.05, 3.0, host.restart)

    # --- what an operator does

    def _transfer(self) -> None:
        host = self._host()
        if host is None:
            return
        to = self._world.random.choice([0, *self._ids()])

        def act() -> None:
            try:
                host.node.transfer_leader(to)
            except RocinanteError:
                pass

        self._world.at(0.0, host, "transfer", act)

    def _snapshot(self) -> None:
        host = self._host()
        if host is not None:
            self._world.at(0.0, host, "snapshot", lambda: _quietly(host.node.snapshot))

    def _membership(self) -> None:
        self._simulation.members.change()


def _quietly(act: Callable[[], object]) -> None:
    try:
        act()
    except RocinanteError:
        pass
