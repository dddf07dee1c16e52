"""What comes from peers, on its way from the gRPC loop to the driver: who is welcome, what is a message, snapshots
into their file.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from threading import Lock

from rocinante.errors import StorageError
from rocinante.identity import format_id
from rocinante.node.directory import ContentCheck
from rocinante.node.disk import die
from rocinante.node.frames import check_changes, check_frame
from rocinante.node.guests import Guests
from rocinante.node.membership import Membership
from rocinante.node.requests import Ingress
from rocinante.pb.v1 import peer_pb2 as pb
from rocinante.peers import MalformedMessage, Transport, decode_message
from rocinante.raft.core import Raft
from rocinante.raft.types import Message, MessageType, SnapshotMeta
from rocinante.storage.base import SnapshotSink, SnapshotStore
from rocinante.version import PROTOCOL_VERSION, PROTOCOL_VERSION_NEWEST, PROTOCOL_VERSION_OLDEST, __version__

logger = logging.getLogger(__name__)


class Receiver:
    """Implements `rocinante.peers.PeerReceiver`."""

    def __init__(
        self,
        *,
        cluster_id: int,
        lineage: str,
        node_id: int,
        ingress: Ingress,
        transport: Transport,
        membership: Membership,
        snapshots: SnapshotStore,
        applied: Callable[[], int],
        durable: Callable[[], int],
    ) -> None:
        self._cluster_id = cluster_id
        self._lineage = lineage
        self._node_id = node_id
        self._ingress = ingress
        self._transport = transport
        self._membership = membership
        self._snapshots = snapshots
        self._applied = applied
        self._durable = durable
        """The commit index that a restart would know."""
        self._guests = Guests()
        self._lock = Lock()
        self._receiving = False

    def greet(self, hello: pb.Hello) -> str:
        if hello.cluster_id != self._cluster_id:
            return (
                f"cluster_id: {format_id(hello.cluster_id)} is another cluster, this is {format_id(self._cluster_id)}"
                f"{f', restored as {self._lineage!r}' if self._lineage else ''}; compare name, datacenter and lineage "
                "(rocinante status -o json). A node from before a restore is stopped, its data directory is moved "
                "away, and it starts again"
            )
        if hello.to != self._node_id:
            return f"to: {format_id(hello.to)} is not this node, which is {format_id(self._node_id)}"
        if not PROTOCOL_VERSION_OLDEST <= hello.protocol_version <= PROTOCOL_VERSION_NEWEST:
            return (
                f"protocol_version: {hello.protocol_version} is not spoken here, {PROTOCOL_VERSION_OLDEST} to "
                f"{PROTOCOL_VERSION_NEWEST} are: go from version to version, leaving out none"
            )
        if hello.sender == self._node_id:
            return "sender: is this node's own id"
        if not self._membership.is_known(hello.sender):
            self._guests.greet(hello)
        return ""

    def stranger_at(self, sender: int) -> int:
        if self._membership.is_known(sender) or not self._guests.is_stranger(sender, self._applied()):
            return 0
        if self._durable() < self._membership.changed_at:
            return 0  # a restart would forget the change: who was removed by it would stop, and be needed again
        self._membership.part(sender)
        return max(1, self._applied())  # 1, the index of the beginning, where nothing was applied yet

    def receive(self, sender: int, messages: Sequence[pb.PeerMessage]) -> None:
        self._transport.heard(sender)
        if not messages:
            return
        if not self._membership.is_known(sender):
            self._guests.heard(sender, messages)
            if guest := self._guests.ahead(sender, self._applied()):
                self._membership.meet(guest)
        core: list[Message] = []
        frames: list[tuple[int, pb.PeerMessage]] = []
        for frame in messages:
            if frame.WhichOneof("message") == "raft":
                message = decode_message(frame.raft)
                if message.sender != sender:
                    raise MalformedMessage(f"sender: {format_id(message.sender)} on the stream of {format_id(sender)}")
                check_changes(message)
                core.append(message)
            else:
                check_frame(frame)
                frames.append((sender, frame))
        self._ingress.put_messages(core, frames)

    def tell(self, core: Raft, *, recovering: bool) -> None:
        """Tell every peer this node's role and progress. (On the driver's thread.)"""
        info = pb.NodeInfo(
            role=core.role.public,
            term=core.term,
            commit=core.log.commit,
            applied=self._applied(),
            version=__version__,
            protocol_version=PROTOCOL_VERSION,
            last_index=core.log.last_index,
            recovering=recovering,
        )
        frame = pb.PeerMessage(info=info)
        for peer in self._transport.peers():
            self._transport.send_frame(peer, frame, urgent=True)

    def receive_snapshot(
        self, sender: int, term: int, meta: SnapshotMeta, total_bytes: int, digest: bytes
    ) -> IncomingSnapshot | None:
        message = Message(MessageType.SNAPSHOT, self._node_id, sender, term, snapshot=meta)
        if meta.index <= self._applied():
            # The leader does not know how far this node is; the core tells it. Silence would bring the same again.
            self._ingress.put_messages([message], [])
            return None
        with self._lock:
            if self._receiving:
                return None
            self._receiving = True
        logger.info(
            "receiving snapshot %d (%d bytes) from %s", meta.index, total_bytes, self._membership.name_of(sender)
        )
        return IncomingSnapshot(self, self._snapshots, meta, digest, message)

    def snapshot_ended(self, message: Message | None) -> None:
        with self._lock:
            self._receiving = False
        if message is not None:
            self._ingress.put_messages([message], [])


class IncomingSnapshot:
    """Implements `rocinante.peers.SnapshotReceiver`: the chunks go into a file; once it is durable, the core hears of
    it. A disk that cannot take it ends the node, like any other write that fails.
    """

    def __init__(
        self, receiver: Receiver, store: SnapshotStore, meta: SnapshotMeta, digest: bytes, message: Message
    ) -> None:
        self._receiver = receiver
        self._digest = digest
        self._message = message
        self._store = store
        self._meta = meta
        self._sink: SnapshotSink | None = None
        self._check = ContentCheck()

    def write(self, chunk: bytes) -> None:
        self._check.feed(chunk)
        try:
            if self._sink is None:
                self._sink = self._store.create(self._meta)
            self._sink.write(chunk)
        except StorageError as error:
            die(error)

    def finish(self) -> None:
        if self._sink is None:
            self._receiver.snapshot_ended(None)
            raise ValueError("data: a snapshot without content")
        try:
            self._check.end()
            self._sink.finish(self._digest)
        except ValueError:
            self._sink.abort()
            self._receiver.snapshot_ended(None)
            raise
        except StorageError as error:
            die(error)
        self._receiver.snapshot_ended(self._message)

    def abort(self) -> None:
        if self._sink is not None:
            self._sink.abort()
        self._receiver.snapshot_ended(None)
