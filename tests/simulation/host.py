"""A machine: its disk, its clock, and the real `Node` that runs on it, with every thread turned into events.

`installed(world)` puts virtual time, chance and disks in place of the real ones, in the modules that ask for them; the
nodes are otherwise as they are in a process. One world at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import Empty
from typing import Any, Final, NoReturn

import rocinante.node.apply
import rocinante.node.disk
import rocinante.node.driver
import rocinante.node.housekeeping
import rocinante.node.node
import rocinante.node.opening
import rocinante.node.pending
import rocinante.node.proposing
import rocinante.node.reading
import rocinante.node.snapshotter
import rocinante.peers.transport
import rocinante.services.watch
import rocinante.storage.leveldb
from rocinante import limits
from rocinante.config import ClusterConfig, Controller
from rocinante.errors import DataDirectoryError, RocinanteError, StorageError
from rocinante.node.apply import Act, Apply, Committed, Restore
from rocinante.node.housekeeping import Housekeeping
from rocinante.node.node import Node
from rocinante.node.opening import core_options, open_node
from rocinante.node.snapshotter import Snapshotter
from rocinante.raft.options import RaftOptions
from rocinante.raft.types import Config, Role
from rocinante.state.command import Command
from rocinante.state.machine import Applied, Position, StateMachine
from rocinante.storage.base import Identity

from .disk import SimDisk, SimMarker, SimTrimmer, Storage
from .draw import Weather
from .network import Network, SimTransport
from .oracle import Oracle
from .promises import LastLife
from .situations import probes
from .states import Carried
from .watching import SimWake, virtual_asyncio
from .world import EPOCH_NS, SimulationFailure, VirtualLoop, VirtualRandom, VirtualTime, World, current_host, enter

GONE_DELAY_S: Final = 0.05


@dataclass(slots=True)
class Seen:
    """What the oracle saw of this life of the node."""

    term: int = 0
    commit: int = 0
    applied: int = 0
    position: int = 0
    """Of the state machine."""
    config: Config = field(default_factory=Config)


class CheckedStateMachine(StateMachine):
    """Tells the oracle of every entry, and which of its commands were carried out (and not answered from memory)."""

    def __init__(self) -> None:
        super().__init__()
        self._carried: Carried = []
        self._name = (0, 0)
        self._listen()

    def _listen(self) -> None:
        applier: Any = self._applier
        carry_out = applier._command

        def command(command: Command) -> object:
            self._name = (command.session, command.seq)
            return carry_out(command)

        applier._command = command
        for kind, handler in list(applier._handlers.items()):
            applier._handlers[kind] = self._noted(int(kind), handler)

    def _noted(self, kind: int, handler: Callable[[memoryview], Any]) -> Callable[[memoryview], Any]:
        def noted(body: memoryview) -> Any:
            result = handler(body)
            self._carried.append((*self._name, kind, bytes(body), result))
            return result

        return noted

    def apply(self, index: int, term: int, data: bytes) -> Applied:
        applied = super().apply(index, term, data)
        carried, self._carried = self._carried, []
        host: Host = current_host()
        host.oracle.states.applied(host, index, term, data, applied, carried)
        return applied

    def restore(self, chunks: Iterable[bytes]) -> Position:
        position = super().restore(chunks)
        self._listen()
        host: Host = current_host()
        host.oracle.states.restored(host, position)
        return position


class SimApply(Apply):
    """The thread `apply`: one item an event, some time after it was put."""

    def start(self) -> None:
        return

    def put(self, item: Committed | Restore | Act) -> None:
        super().put(item)
        host: Host = current_host()
        host.world.at(host.apply_delay(), host, "apply", self._next)

    def submit(self, item: Committed) -> None:
        host: Host = current_host()
        if host.world.chance() < host.weather.apply_aside:
            self.put(item)
        else:
            super().submit(item)

    def _next(self) -> None:
        item = self._queue.get_nowait()
        assert item is not None
        with self._busy:
            self._handle(item)
        with self._lock:
            self._waiting -= 1


class SimSnapshotter(Snapshotter):
    """The thread `snapshot`: what is frozen is written some time later."""

    def start(self) -> None:
        return

    def _freeze(self) -> None:
        super()._freeze()
        host: Host = current_host()
        host.world.at(host.apply_delay() * 10, host, "snapshot", self._job)

    def _job(self) -> None:
        try:
            job = self._jobs.get_nowait()
        except Empty:
            return  # nothing could be frozen
        assert job is not None
        frozen, meta, head = job
        with frozen:
            self._write(frozen, meta, head)
        host: Host = current_host()
        host.world.count("snapshots taken")


class SimHousekeeping(Housekeeping):
    """The thread `housekeeping`: its round is an event, and takes no time."""

    def _pause(self, wait_s: float) -> bool:
        return False

    def start(self) -> None:
        host: Host = current_host()
        host.world.at(limits.EXPIRE_INTERVAL_MS / 1000 / host.rate, host, "housekeeping", self._again)

    def _again(self) -> None:
        try:
            self.round()
        except RocinanteError:
            pass  # as the thread does
        self.start()


class Host:
    """See the module. Implements `world.Place`."""

    def __init__(
        self,
        world: World,
        network: Network,
        oracle: Oracle,
        config: ClusterConfig,
        controller: Controller,
        weather: Weather,
        *,
        join: bool = False,
    ) -> None:
        self.world, self.network, self.oracle, self.weather = world, network, oracle, weather
        self.config, self.controller = config, controller
        self.id = controller.id
        self.name = controller.name
        self.join = join
        self.life = 0
        self.paused = False
        self.rate = world.random.choice((1.0, 1.0, 1.0, 0.97, 1.03))
        self.offset = world.random.uniform(0, 1000)
        self.wall_ns = int(world.random.uniform(-0.1, 0.1) * 1e9)
        self.stash: list[tuple[str, Callable[[], object]]] = []
        self.storage = Storage(world)
        self.up = False
        self.slow = 1.0
        """How many times slower the disk is than usual."""
        self.crash_in_write = False
        """Power goes while the next write is on its way."""
        self.node: Node
        self.seen = Seen()
        self.last_life: LastLife | None = None
        self.gone = False
        """Removed from the cluster for good."""
        network.hosts[self.id] = oracle.hosts[self.id] = self

    def disk_delay(self) -> float:
        weather = self.weather
        return (weather.disk_min + (weather.disk_max - weather.disk_min) * self.world.chance()) * self.slow

    def apply_delay(self) -> float:
        return self.weather.apply_max * self.world.chance()

    @property
    def leads(self) -> bool:
        return self.up and self.node.driver.core.role is Role.LEADER

    def wall_ms(self) -> int:
        """Its wall clock (unix ms)."""
        return (EPOCH_NS + int(self.world.now * self.rate * 1e9) + self.wall_ns) // 1_000_000

    def accepts(self, sender: int, life: int) -> bool:
        """Whether a peer's stream is welcome: what `greet` says when it begins."""
        peer = self.network.hosts[sender]
        if self.greeted.get(sender) == life:
            return self._is_welcome(peer)
        if self.refused.get(sender, 0.0) > self.world.now:
            return False  # it dials again in a while
        transport = peer.node.transport if peer.up else None
        if transport is None or peer.life != life:
            return False
        if self.node.receiver.greet(transport._hello(self.id, "append")):
            return False
        self.greeted[sender] = life
        return self._is_welcome(peer)

    def _is_welcome(self, peer: Host) -> bool:
        """As the server looks at each batch: one who is no member is told so, and its stream ends."""
        known = self.node.receiver.stranger_at(peer.id)
        if not known:
            return True
        del self.greeted[peer.id]
        self.refused[peer.id] = self.world.now + limits.PEER_REFUSED_REDIAL_S * self.world.random.uniform(0.5, 1.0)
        transport = peer.node.transport
        assert isinstance(transport, SimTransport)
        self.world.at(
            self.network.delay((self.id, peer.id)), peer, "stranger", lambda: transport.stranger(self.id, known)
        )
        return False

    # --- life

    def start(self) -> None:
        self.world.run_now(self, "start", self._start)

    def _start(self) -> None:
        assert not self.up
        self.seen = Seen()
        self.greeted: dict[int, int] = {}
        self.refused: dict[int, float] = {}
        """Peer → when it dials again."""
        try:
            opened = open_node(
                self.config, self.controller, Path("/simulated"), join=self.join, progress=lambda *_: None
            )
        except (DataDirectoryError, StorageError) as error:
            if not (self.storage.files.unreadable or self.storage.files.no_space):
                raise
            self.world.note(f"does not start: {error}")
            self.oracle.reached("a disk that does not work at a start")
            return
        self.node = node = Node(self.config, self.controller, opened)
        self.seen.position = node.apply.applied
        self.seen.applied = node.apply.applied
        self.seen.config = node.driver.core.config
        self.up = True
        self.oracle.promises.opened(self)
        core = node.driver.core
        if core.log.last_index >= core.log.first_index:
            self.oracle.matching.stored(self, opened.loaded.entries)
        self.world.note(
            f"starts: term {core.term}, log {core.log.first_index}..{core.log.last_index}, applied "
            f"{node.apply.applied}{', recovering' if node.recovery.active else ''}"
        )
        node.start(VirtualLoop(self.world, self))  # type: ignore[arg-type]  # what the driver needs of one
        for host in self.network.hosts.values():
            if host.up:  # connections come up, and both ends tell each other how far they are
                self.world.at(self.world.random.uniform(0.0, 0.2), host, "connected", self._connected(host))

    @staticmethod
    def _connected(host: Host) -> Callable[[], None]:
        def act() -> None:
            transport = host.node.transport
            assert isinstance(transport, SimTransport)
            transport.changed()

        return act

    def crash(self, *, refuses: bool = False) -> None:
        """Power is gone, or (`refuses`) the process was killed and its host says so to who connects."""
        assert self.up
        self.world.note("crashes")
        self.oracle.promises.ended(self)
        self.node.disk.crash()  # type: ignore[attr-defined]  # SimDisk
        self._end()
        if refuses:
            for peer in self.network.hosts.values():
                if peer is not self and peer.up and (self.id, peer.id) not in self.network.cut:
                    self.world.at(self.world.random.uniform(0, GONE_DELAY_S), peer, "gone", self._tell_gone(peer))

    def power_fails(self) -> None:
        """In the middle of a write; it comes back."""
        self.crash()
        self.world.at(self.world.random.uniform(0.05, 3.0), None, "start", self.restart)

    def restart(self) -> None:
        """Unless it was started, or removed for good, meanwhile."""
        if not self.up and not self.gone:
            self.start()

    def _tell_gone(self, peer: Host) -> Callable[[], None]:
        def act() -> None:
            transport = peer.node.transport
            assert isinstance(transport, SimTransport)
            if not self.up and self.id in transport.peers():
                transport.gone(self.id)

        return act

    def look_back(self) -> None:
        """At what this life of the node had."""
        if self.node.driver.ticks_skipped:
            self.oracle.reached("ticks skipped after standing still")

    def _end(self) -> None:
        self.look_back()
        self.storage.files.crash()
        self.up = self.crash_in_write = False
        self.life += 1
        self.paused = False
        self.stash.clear()

    def disk_failed(self, error: Exception) -> None:
        """A write failed: the process ends at once, without another word."""
        self.world.note(f"ends: {error}")
        self.oracle.promises.ended(self, failed=True)
        self._end()

    def wipe(self) -> None:
        """Everything on its disk is lost."""
        assert not self.up
        self.world.note("is wiped")
        self.world.count("disks wiped")
        self.storage = Storage(self.world)
        self.last_life = None
        self.oracle.wiped = True
        if len(self.config.controllers) == 1:
            # Its YAML is of the time when it was alone: with that it would begin a cluster of its own (ARCHITECTURE,
            # caveats). The operator starts it as one that joins.
            self.join = True


def _die(error: BaseException) -> NoReturn:
    """In place of the end of the process."""
    if isinstance(error, SimulationFailure):
        raise error
    raise SimulationFailure(f"{current_host().name} ends itself: {error!r}") from error


def _open_storage(directory: Path, identity: Identity, *, cleanup_on_failure: bool) -> Storage:
    storage: Storage = current_host().storage
    return storage.open(identity)


@contextmanager
def installed(world: World, tiny: dict[str, int], raft: dict[str, Any]) -> Iterator[None]:
    """Within it, nodes live in `world`, with these `limits` and Raft options changed."""

    def options(config: ClusterConfig) -> RaftOptions:
        return replace(core_options(config), **raft)

    node = rocinante.node
    time, random = VirtualTime(world), VirtualRandom(world)
    changes: list[tuple[Any, Any, Any]] = [
        (node.node, "Transport", SimTransport),
        (node.node, "Apply", SimApply),
        (node.node, "Disk", SimDisk),
        (node.node, "Snapshotter", SimSnapshotter),
        (node.node, "Housekeeping", SimHousekeeping),
        (node.node, "core_options", options),
        (node.opening, "open_leveldb", _open_storage),
        (node.opening, "Marker", lambda _path: SimMarker(current_host().storage)),
        (node.opening, "StateMachine", CheckedStateMachine),
        (rocinante.storage.leveldb, "Trimmer", SimTrimmer),
        (node.driver.Driver.__init__, "__kwdefaults__", {"clock": world.monotonic}),
        *((module, "die", _die) for module in (node.driver, node.apply, node.snapshotter, node.disk)),
        *(
            (module, "time", time)
            for module in (
                node.node,
                node.proposing,
                node.reading,
                node.pending,
                node.housekeeping,
                node.snapshotter,
                node.disk,
                node.opening,
                node.driver,
                rocinante.peers.transport,
            )
        ),
        *(
            (module, "random", random)
            for module in (node.driver, node.opening, node.pending, node.proposing, node.reading)
        ),
        (rocinante.services.watch, "asyncio", virtual_asyncio(world)),
        (rocinante.services.watch, "Wake", SimWake),
        *((limits, name, value) for name, value in tiny.items()),
        *probes(world),
    ]
    before = [(target, name, _get(target, name)) for target, name, _ in changes]
    disabled = logging.root.manager.disable
    try:
        for target, name, value in changes:
            _set(target, name, value)
        if not world.verbose:
            logging.disable(logging.CRITICAL)
        enter(world)
        yield
    finally:
        enter(None)
        logging.disable(disabled)
        for target, name, value in before:
            _set(target, name, value)


def _get(target: Any, name: Any) -> Any:
    return target[name] if isinstance(target, dict) else getattr(target, name)


def _set(target: Any, name: Any, value: Any) -> None:
    if isinstance(target, dict):
        target[name] = value
    else:
        setattr(target, name, value)
