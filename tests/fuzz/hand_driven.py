"""A real node whose threads are not started: the test is its event loop, its disk thread and its clock.

Everything that a peer's bytes meet is the product's own (the gRPC handlers' bodies, `Receiver`, `Ingress`, `Driver`,
the core, `Disk`, `Apply`, the state), but nothing runs by itself, so that thousands of lives fit into a second and
an exception comes out where it is raised instead of ending the process. Storage is the memory engine; what the
LevelDB engine would write is encoded, and read again, by `check_durable`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from google.protobuf.message import DecodeError

from rocinante.config import ClusterConfig, Controller, StorageEngine, StorageOptions
from rocinante.node.node import Node
from rocinante.node.opening import Opened, core_options, make_core, open_node
from rocinante.node.recovery import Marker
from rocinante.pb.v1 import peer_pb2 as pb
from rocinante.peers import MalformedMessage
from rocinante.peers.server import _RefusedError
from rocinante.raft.core import Raft
from rocinante.raft.types import MessageType, Role
from rocinante.storage import records
from rocinante.storage.base import Loaded
from tests.fuzz.samples import NODE, PEER, THIRD, hello, raft_message

CONTROLLERS: Final = tuple(Controller(f"node{n}", "127.0.0.1", 35000 + n, 8000 + n) for n in (1, 2, 3))
CONFIG: Final = ClusterConfig("test", CONTROLLERS, storage=StorageOptions(engine=StorageEngine.MEMORY))
ELECTION_TICKS: Final = core_options(CONFIG).election_ticks
TURNS_MAX: Final = 10_000
"""Until a node that is left alone has nothing more to do."""


class Refused(Exception):
    """A stream ended with a status, as it should for what cannot be taken."""


class HandDriven:
    """`with HandDriven.leader() as node: node.receive(batch)`; `node.settle()` after what was done to it."""

    def __init__(self) -> None:
        opened = open_node(CONFIG, CONTROLLERS[0], Path(), join=False, progress=lambda *_: None)
        self.node = Node(CONFIG, CONTROLLERS[0], opened)
        self.now = 1000.0
        driver = self.node.driver
        driver._clock = lambda: self.now
        driver._next_tick = self.now
        driver._running = True
        driver._turn = driver._one_turn  # type: ignore[method-assign]  # whose failure would end this process
        self.node.disk.on_written = driver._written
        # Channels need a running loop; without them every message is "not sent". Nor is any network dialled.
        self.node.transport.pause()
        self.node.transport.send_snapshot = lambda *_: False  # type: ignore[method-assign]
        self.tick()
        for peer in (PEER, THIRD):  # all three are new: a new cluster, so this node votes
            self.receive(pb.PeerBatch(hello=hello(sender=peer), messages=[_fresh()]).SerializeToString())
        assert not self.node.recovery.active
        assert self.core.role is Role.FOLLOWER

    @property
    def core(self) -> Raft:
        return self.node.driver.core

    @classmethod
    def follower(cls) -> Self:
        """Of PEER in term 2, with two entries, the first committed."""
        made = cls()
        entries = [pb.LogEntryFrame(index=2, term=2), pb.LogEntryFrame(index=3, term=2)]
        made.feed(raft_message(MessageType.APPEND, log_index=1, log_term=1, entries=entries, commit=2))
        assert (made.core.role, made.core.leader, made.core.log.commit) == (Role.FOLLOWER, PEER, 2)
        return made

    @classmethod
    def leader(cls) -> Self:
        """Of term 2, with its first entry committed."""
        made = cls()
        made.core.campaign()
        made.settle()
        made.feed(raft_message(MessageType.PRE_VOTE_RESPONSE, term=2))
        made.feed(raft_message(MessageType.VOTE_RESPONSE, term=2))
        assert made.core.role is Role.LEADER
        made.feed(raft_message(MessageType.APPEND_RESPONSE, term=2, log_index=2))
        assert made.core.log.commit >= 2
        return made

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.node.peer_service.close()
        self.node.engine.close()

    def feed(self, *messages: pb.PeerMessage) -> None:
        """Well-formed messages of PEER."""
        self.receive(pb.PeerBatch(hello=hello(), messages=messages).SerializeToString())

    def receive(self, *batches: bytes) -> None:
        """One stream of Exchange. Raises Refused where its handler answers with a status; what else comes out would
        end a driver."""
        refusal: Refused | None = None
        try:
            _run(self.node.peer_service._read_batches(_stream(batches)))
        except (_RefusedError, DecodeError, MalformedMessage) as error:
            refusal = Refused(str(error))
        self.settle()
        if refusal:
            raise refusal

    def receive_snapshot(self, *chunks: bytes) -> pb.SnapshotInstalled:
        """One stream of InstallSnapshot. Raises as `receive` does."""
        answer, refusal = pb.SnapshotInstalled(), None
        with asyncio.Runner() as runner:  # its writes go to a worker thread
            try:
                answer = runner.run(self.node.peer_service._read_snapshot(_stream(chunks)))
            except (_RefusedError, DecodeError, ValueError) as error:
                refusal = Refused(str(error))
        self.settle()
        if refusal:
            raise refusal
        return answer

    def tick(self, count: int = 1) -> None:
        for _ in range(count):
            self.now += CONFIG.timers.tick_ms / 1000
            self.settle()

    def settle(self) -> None:
        """What the threads would do until none has anything left to do."""
        node = self.node
        for _ in range(TURNS_MAX):
            node.driver._one_turn()
            if not node.disk._queue.empty():
                node.disk._turn()
            elif not node.apply._queue.empty():
                item = node.apply._queue.get()
                assert item is not None
                node.apply._handle(item)
                with node.apply._lock:
                    node.apply._waiting -= 1
            elif not (node.driver.core.has_ready() or node.driver._told_applied < node.apply.applied):
                return
        raise AssertionError(f"the node has not come to rest within {TURNS_MAX} turns")

    def check_durable(self) -> None:
        """What was persisted fits the records on a disk, and a node can start from it again."""
        loaded = self.node.engine.log.load()
        assert records.decode_hard(records.encode_hard(loaded.hard_state)) == loaded.hard_state
        for entry in loaded.entries:
            assert records.decode_entry(records.encode_entry(entry)) == entry
        meta = records.decode_meta(records.encode_meta(loaded.snapshot))
        assert meta == loaded.snapshot
        make_core(_reopened(self.node, loaded), NODE, core_options(CONFIG))

    def check_serves(self) -> None:
        """Its interfaces answer, and it follows the next leader that comes along."""
        node = self.node
        status = node.status()
        assert status.applied <= status.commit <= status.last_index
        node.metrics()
        node.log(100)
        self.tick(3 * ELECTION_TICKS)  # elections, time-outs: it goes through all roles that it can
        core = self.core
        sender = PEER if PEER in core.config.members else min(core.config.members - {NODE}, default=0)
        if not sender or not node.membership.is_known(sender):
            return
        term, commit = core.term + 1, core.log.commit
        call = raft_message(MessageType.HEARTBEAT, sender=sender, term=term, commit=0)
        self.receive(pb.PeerBatch(hello=hello(sender=sender), messages=[call]).SerializeToString())
        assert (core.role, core.leader, core.term) == (Role.FOLLOWER, sender, term)
        assert core.log.commit == commit


def _fresh() -> pb.PeerMessage:
    return pb.PeerMessage(info=pb.NodeInfo(role="follower", term=1, commit=1, applied=1, last_index=1, recovering=True))


def _reopened(node: Node, loaded: Loaded) -> Opened:
    members = node.membership.described
    return Opened(node.engine, node.identity, loaded, node.state, members, Marker(None), recovering=False)


async def _stream(batches: Iterable[bytes]) -> AsyncIterator[bytes]:
    for batch in batches:
        yield batch


def _run(coroutine: object) -> None:
    """To its end, without an event loop: nothing in it waits."""
    send: Callable[[None], object] = coroutine.send  # type: ignore[attr-defined]
    try:
        send(None)
    except StopIteration:
        return
    raise AssertionError("the handler waits for something")
