"""Watches of all keys: the real `services/watch.py`, driven without asyncio; every event once, in order.

A watcher goes on at another node, from the revision behind its last event, when its node is gone; where the history is
compacted it must be told so, and goes on behind it. Some watchers are slow to read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from rocinante.errors import RocinanteError
from rocinante.pb.etcd import rpc_pb2
from rocinante.services import watch as service

from .named import REACHED
from .oracle import Oracle
from .world import SimulationFailure, World, current_host

if TYPE_CHECKING:
    from .host import Host

LOOK_S: Final = 0.5
"""How often a watcher looks whether its node is still there."""
SLOW_S: Final = 1.0


class SimWake:
    """In place of `services.wake.Wake`: an event of the simulated host."""

    def __init__(self) -> None:
        self._host: Host = current_host()
        self._set = False
        self.resume: Callable[[], None] | None = None

    def __call__(self) -> None:
        if self._set:
            return
        self._set = True
        if self.resume is not None:
            resume, self.resume = self.resume, None
            self._host.world.at(0.0, self._host, "watch", resume)

    async def wait(self, timeout_s: float | None) -> None:
        if not self._set:
            await _Suspended(self)
        self._set = False


class _Suspended:
    """What a coroutine waits for: a wake-up, or (None) some time."""

    def __init__(self, wake: SimWake | None) -> None:
        self._wake = wake

    def __await__(self) -> Generator[SimWake | None, None, None]:
        yield self._wake


def virtual_asyncio(world: World) -> SimpleNamespace:
    """In place of asyncio, for what `services/watch.py` needs of it."""
    loop = SimpleNamespace(time=world.monotonic)
    return SimpleNamespace(Queue=asyncio.Queue, get_running_loop=lambda: loop)


class _Stream:
    """One stream, on the side of the node."""

    def __init__(self, watcher: KeyWatcher, host: Host, start_revision: int) -> None:
        self._watcher, self._host = watcher, host
        leader = SimpleNamespace(status=lambda: SimpleNamespace(cluster_id=0, id=host.id, term=0))
        calls: Any = SimpleNamespace(node=host.node, leader=leader)
        call: Any = SimpleNamespace(write=self._write)
        self._stream = service._Stream(calls, call)
        create = rpc_pb2.WatchCreateRequest(key=b"\0", range_end=b"\0", start_revision=start_revision)
        self._stream._requests.put_nowait(rpc_pb2.WatchRequest(create_request=create))
        self._coroutine = self._turns()
        self._told = host.world.now
        self._closed = False
        self.step()

    async def _turns(self) -> None:
        while await self._stream.turn():
            pass

    async def _write(self, response: rpc_pb2.WatchResponse) -> None:
        world, watcher = self._host.world, self._watcher
        self._told = max(self._told, world.now + 0.0001 + world.chance() * 0.002)  # in order, as TCP does
        world.at(self._told - world.now, None, "event", lambda: watcher.heard(self, response))
        if world.chance() < watcher.slow:
            await _Suspended(None)

    def step(self) -> None:
        """Until it waits."""
        if self._closed:
            return
        try:
            wake = self._coroutine.send(None)
        except RocinanteError:
            self.close()  # the node stops; the client sees that the stream has ended
            self._watcher.ended(self)
            return
        if wake is None:
            self._host.world.at(SLOW_S, self._host, "watch", self.step)
        else:
            wake.resume = self.step

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._coroutine.close()
            self._stream.close()


class KeyWatcher:
    """See the module."""

    def __init__(self, world: World, hosts: Callable[[], list[Host]], oracle: Oracle) -> None:
        self._world, self._hosts, self._oracle = world, hosts, oracle
        self.next_revision = world.random.choice((0, 2))
        """The first that it was not told of; 0: from now on."""
        self.slow = world.random.choice((0.0, 0.0, 0.3))
        self._stream: _Stream | None = None
        self._host: Host | None = None
        self._life = 0
        self._look()

    def _look(self) -> None:
        host = self._host
        if host is None or not host.up or host.life != self._life or self._world.chance() < 0.1:
            self._end()
            self._begin()
        self._world.at(LOOK_S, None, "watcher", self._look)

    def _end(self) -> None:
        stream, host = self._stream, self._host
        self._stream = self._host = None
        if stream is not None and host is not None and host.up and host.life == self._life:
            self._world.at(0.0, host, "watch ends", stream.close)

    def _begin(self) -> None:
        host = self._world.random.choice(self._hosts())
        if host.up:
            self._host, self._life = host, host.life
            self._world.at(0.001, host, "watch begins", lambda: self._open(host))

    def _open(self, host: Host) -> None:
        if self._host is host and self._stream is None:
            try:
                self._stream = _Stream(self, host, self.next_revision)
            except RocinanteError:
                self._host = None  # not ready

    def ended(self, stream: _Stream) -> None:
        if stream is self._stream:
            self._stream = self._host = None

    def heard(self, stream: _Stream, response: rpc_pb2.WatchResponse) -> None:
        if stream is not self._stream:
            return
        if response.canceled:
            self._canceled(response)
        elif response.created:
            self.next_revision = self.next_revision or response.header.revision + 1
        else:
            self._take(response)

    def _canceled(self, response: rpc_pb2.WatchResponse) -> None:
        compacted = response.compact_revision
        if compacted:
            if compacted < self.next_revision:
                raise SimulationFailure(f"a watch from {self.next_revision} is told that {compacted} is compacted")
            self._world.count(REACHED + "watch told that its revision is compacted")
            self.next_revision = compacted + 1
        else:
            self._world.count(REACHED + "watch canceled, for it was too slow")
        self._end()

    def _take(self, response: rpc_pb2.WatchResponse) -> None:
        events = list(response.events)
        while events:
            revision = events[0].kv.mod_revision
            known = self._oracle.states.events.get(revision, ())
            told = tuple((event.type, bytes(event.kv.key), bytes(event.kv.value)) for event in events[: len(known)])
            if revision != self.next_revision or told != known:
                raise SimulationFailure(
                    f"a watch that has {self.next_revision - 1} is told of {revision}: {told}; there is {known}"
                )
            self.next_revision += 1
            del events[: len(known)]
        self._world.count("revisions watched")

    def has_all(self) -> bool:
        return self.next_revision == self._oracle.states.revision + 1
