"""A simulated network under the real `Transport`: two channels a peer, snapshots in chunks.

A link can be cut in one direction (messages are lost), clogged (they wait until it is free again), slow, lossy, and can
deliver twice or out of order. Frames that are not the core's keep TCP's promise, as their protocol relies on it: they
are never doubled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from rocinante.errors import StorageError
from rocinante.pb.v1 import peer_pb2 as pb
from rocinante.peers import Transport
from rocinante.peers.codec import Encoded, MalformedMessage
from rocinante.ports import Member
from rocinante.raft.types import Message
from rocinante.storage.base import SnapshotFile

from .world import World, current_host

if TYPE_CHECKING:
    from .host import Host


class Rates(NamedTuple):
    """Of all links: probabilities, and delays in seconds."""

    delay_min: float
    delay_max: float
    loss: float
    double: float
    in_order: bool
    """Within a channel, as TCP does."""


class Network:
    """All links."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.hosts: dict[int, Host] = {}
        """By node id."""
        random = world.random
        delay_min = random.choice((0.0001, 0.001, 0.005))
        self.rates = Rates(
            delay_min,
            delay_min * random.choice((1.5, 3, 20)),
            random.choice((0.0, 0.0, 0.01, 0.05, 0.2)),
            random.choice((0.0, 0.0, 0.02, 0.2)),
            random.random() < 0.5,
        )
        self.calm: set[int] | None = None
        """Between these nodes nothing is lost or doubled any more."""
        self.cut: set[tuple[int, int]] = set()
        self.clogged: dict[tuple[int, int], float] = {}
        """(from, to) → the time until which nothing arrives."""
        self._last: dict[tuple[int, int, str], float] = {}

    def heal(self) -> None:
        """All links."""
        self.cut.clear()
        self.clogged.clear()
        self.rates = self.rates._replace(loss=0.0, double=0.0)

    def heal_among(self, ids: set[int], *, apart: bool) -> None:
        """The links between these nodes. The others stay as they are, or (`apart`) are cut, and stay so."""
        inside = {(a, b) for a in ids for b in ids}
        self.cut -= inside
        if apart:
            self.cut |= {(a, b) for a in self.hosts for b in self.hosts} - inside
        for link in inside & self.clogged.keys():
            del self.clogged[link]
        self.calm = ids

    def delay(self, link: tuple[int, int]) -> float:
        rates = self.rates
        wait = rates.delay_min + (rates.delay_max - rates.delay_min) * self.world.chance()
        if link in self.clogged:
            wait += max(0.0, self.clogged[link] - self.world.now)
        return wait

    def send(self, source: Host, to: int, kind: str, frame: pb.PeerMessage) -> bool:
        """False: the sender knows that it does not go."""
        world, chance, rates = self.world, self.world.chance, self.rates
        target = self.hosts.get(to)
        if target is None or not target.up:
            return chance() < 0.2  # the connection's end is not always known yet
        link = (source.id, to)
        calm = self.calm is not None and source.id in self.calm and to in self.calm
        if link in self.cut or (rates.loss and not calm and chance() < rates.loss):
            world.count("messages lost")
            return True
        copies = 1
        if rates.double and not calm and frame.WhichOneof("message") == "raft" and chance() < rates.double:
            copies = 2
            world.count("messages doubled")
        for _ in range(copies):
            when = world.now + self.delay(link)
            if rates.in_order:
                last = self._last.get((*link, kind), 0.0)
                when = max(when, last)
                self._last[(*link, kind)] = when
            self._deliver(source, target, when - world.now, frame)
        return True

    def _deliver(self, source: Host, target: Host, delay: float, frame: pb.PeerMessage) -> None:
        link, sender, life = (source.id, target.id), source.id, source.life

        def arrive() -> None:
            if link in self.cut:
                return
            if not target.accepts(sender, life):
                self.world.count("peers refused")
                return
            try:
                target.node.receiver.receive(sender, [frame])
            except MalformedMessage as error:
                raise AssertionError(f"a node sent what no node understands: {error}") from error

        self.world.at(delay, target, "message", arrive)


class SimOutbox:
    def __init__(self, channel: SimChannel) -> None:
        self._channel = channel

    @property
    def is_open(self) -> bool:
        channel = self._channel
        peer = channel.network.hosts.get(channel.to)
        return channel.started and peer is not None and peer.up

    def put(self, message: Encoded) -> bool:
        channel = self._channel
        frame = pb.PeerMessage.FromString(b"".join(message.parts))
        return channel.started and channel.network.send(channel.source, channel.to, channel.kind, frame)


class SimChannel:
    """In place of `peers.channel.Channel`."""

    def __init__(self, source: Host, to: int, kind: str) -> None:
        self.source, self.to, self.kind = source, to, kind
        self.network = source.network
        self.outbox = SimOutbox(self)
        self.started = False

    def start(self) -> None:
        self.started = True

    def stop(self) -> None:
        self.started = False


class SimTransport(Transport):
    """The real one, but for what is below its channels."""

    def __init__(self, **wiring: Any) -> None:
        super().__init__(**wiring)
        self.host: Host = current_host()
        self.changed: Callable[[], None] = wiring["on_change"]
        self.gone: Callable[[int], None] = wiring["on_gone"]
        self.stranger: Callable[[int, int], None] = wiring["on_stranger"]
        self._transfers: set[int] = set()

    def _make_link(self, member: Member) -> Any:
        link = super()._make_link(member)
        append: Any = SimChannel(self.host, member.id, "append")
        heartbeat: Any = SimChannel(self.host, member.id, "heartbeat")
        link.append, link.heartbeat, link.channels = append, heartbeat, (append, heartbeat)
        return link

    def send(self, message: Message) -> bool:
        self.host.oracle.sent(self.host, message)
        return super().send(message)

    def send_snapshot(
        self, to: int, term: int, snapshot: SnapshotFile, content: Iterable[bytes], on_done: Callable[[bool], None]
    ) -> bool:
        if to not in self._links or to in self._transfers or self._paused:
            return False
        self._transfers.add(to)

        def done(ok: bool) -> None:
            self._transfers.discard(to)
            on_done(ok)

        Transfer(self.host, to, term, snapshot, content, done).begin()
        return True


class Transfer:
    """A snapshot on its way, chunk by chunk: what `peers/snapshot.py` and `peers/server.py` do with streams."""

    def __init__(
        self,
        source: Host,
        to: int,
        term: int,
        snapshot: SnapshotFile,
        content: Iterable[bytes],
        done: Callable[[bool], None],
    ) -> None:
        self._source, self._to, self._term, self._snapshot = source, to, term, snapshot
        self._content = iter(content)
        self._done = done
        self._life = source.life
        self._target_life = 0
        self._receiver: Any = None
        self._network = source.network
        self._world = source.world

    def begin(self) -> None:
        self._world.count("snapshots sent")
        self._world.at(self._network.delay((self._source.id, self._to)), None, "snapshot", self._next)

    def _broken(self) -> bool:
        target = self._network.hosts.get(self._to)
        links = {(self._source.id, self._to), (self._to, self._source.id)}
        return (
            target is None
            or not target.up
            or (self._target_life not in (0, target.life))
            or not self._source.up
            or self._source.life != self._life
            or bool(links & self._network.cut)
            or self._world.random.random() < self._network.rates.loss / 4
        )

    def _next(self) -> None:
        """One chunk, or the end."""
        if self._broken():
            self._end(ok=False)
            return
        target = self._network.hosts[self._to]
        if target.paused or self._source.paused:
            self._world.at(0.1, None, "snapshot", self._next)
            return
        ended = False
        if self._receiver is None:
            self._target_life = target.life
            self._world.run_now(target, "snapshot", lambda: self._greet(target))
            if self._receiver is None:
                self._end(ok=False)
                return
        else:
            try:
                chunk = next(self._content, None)
            except StorageError:  # a newer one took its place meanwhile
                self._end(ok=False)
                return
            ended = chunk is None
            receiver = self._receiver
            if chunk is None:
                self._receiver = None
                self._world.run_now(target, "snapshot", receiver.finish)
            else:
                piece = chunk
                self._world.run_now(target, "snapshot", lambda: receiver.write(piece))
        if ended:
            self._end(ok=True)
        else:
            self._world.at(self._network.delay((self._source.id, self._to)), None, "snapshot", self._next)

    def _greet(self, target: Host) -> None:
        if target.accepts(self._source.id, self._life):
            snapshot = self._snapshot
            self._receiver = target.node.receiver.receive_snapshot(
                self._source.id, self._term, snapshot.meta, snapshot.size_bytes, snapshot.digest
            )

    def _end(self, *, ok: bool) -> None:
        target = self._network.hosts.get(self._to)
        if self._receiver is not None and target is not None and target.life == self._target_life:
            receiver, self._receiver = self._receiver, None
            self._world.at(0.0, target, "snapshot", receiver.abort)
        if self._source.life == self._life:
            self._world.at(
                self._network.delay((self._to, self._source.id)), self._source, "snapshot", lambda: self._done(ok)
            )
