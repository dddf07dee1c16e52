"""All links of this node: two channels and at most one snapshot transfer a peer.

`send` never blocks: it puts the message into the outbox of the right channel, or says that it was dropped. Appends,
forwarded requests and their answers go over the append channel; heartbeats, votes and what is small and urgent over
the heartbeat channel.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from rocinante import limits
from rocinante.pb.v1 import peer_pb2 as pb
from rocinante.peers.channel import Channel
from rocinante.peers.codec import Encoded, encode_frame, encode_message
from rocinante.peers.outbox import Outbox
from rocinante.peers.snapshot import SnapshotTransfer
from rocinante.ports import Member
from rocinante.raft.types import Message, MessageType
from rocinante.storage.base import SnapshotFile
from rocinante.tokens import Keyring
from rocinante.version import PROTOCOL_VERSION

_APPEND_CHANNEL: Final = frozenset({MessageType.APPEND, MessageType.APPEND_RESPONSE})


@dataclass(slots=True)
class _Link:
    member: Member
    append: Channel
    heartbeat: Channel
    heard_at: float = 0.0
    """time.monotonic() of the last batch from the peer; 0: never."""
    info: pb.NodeInfo | None = None
    lag: int = 0
    transfer: SnapshotTransfer | None = None
    channels: tuple[Channel, ...] = field(default=())


class Transport:
    """See the module. All that changes something runs on the driver's event loop; `on_change` is called there when a
    channel connects or breaks, `on_gone` with the id of a peer whose host refuses connections, `on_stranger` with the
    id of a peer and the index up to which it knows that this node is no member."""

    def __init__(
        self,
        *,
        cluster_id: int,
        own: Member,
        on_change: Callable[[], None],
        on_gone: Callable[[int], None],
        on_stranger: Callable[[int, int], None],
        keyring: Keyring | None = None,
    ) -> None:
        self._cluster_id = cluster_id
        self._own = own
        self._node_id = own.id
        self._on_change = on_change
        self._on_gone = on_gone
        self._on_stranger = on_stranger
        self._keyring = keyring or Keyring()
        self._lock = threading.Lock()
        self._links: dict[int, _Link] = {}
        self._paused = False
        self.unsent = 0

    def add(self, member: Member) -> None:
        """Start to talk to a peer; a known one whose address did not change is left alone."""
        with self._lock:
            known = self._links.get(member.id)
            if member.id == self._node_id or (known and known.member.endpoint == member.endpoint):
                return
            link = self._make_link(member)
            self._links[member.id] = link
            if not self._paused:
                link.append.start()
                link.heartbeat.start()

    def remove(self, identifier: int) -> None:
        with self._lock:
            link = self._links.pop(identifier, None)
        if link:
            self._stop_link(link)

    def _make_link(self, member: Member) -> _Link:
        def channel(kind: str, messages_max: int) -> Channel:
            outbox = Outbox(messages_max=messages_max, bytes_max=limits.PEER_QUEUE_BYTES_MAX)
            on_gone = self._on_gone if kind == "heartbeat" else None
            on_stranger = partial(self._on_stranger, member.id)
            hello = self._hello(member.id, kind)
            return Channel(kind, member, hello, outbox, self._on_change, on_gone, on_stranger, self._keyring)

        append = channel("append", limits.PEER_QUEUE_MESSAGES_MAX)
        heartbeat = channel("heartbeat", limits.PEER_HEARTBEAT_QUEUE_MESSAGES_MAX)
        return _Link(member, append, heartbeat, channels=(append, heartbeat))

    def _hello(self, to: int, channel: str) -> pb.Hello:
        return pb.Hello(
            cluster_id=self._cluster_id,
            sender=self._node_id,
            to=to,
            protocol_version=PROTOCOL_VERSION,
            channel=channel,
            address=self._own.address,
            port=self._own.port,
            name=self._own.name,
        )

    @staticmethod
    def _stop_link(link: _Link) -> None:
        for channel in link.channels:
            channel.stop()
        if link.transfer:
            link.transfer.stop()

    def send(self, message: Message) -> bool:
        """False: dropped (unknown or disconnected peer, or its queue is full)."""
        link = self._links.get(message.to)
        if link is None:
            self.unsent += 1
            return False
        channel = link.append if message.type in _APPEND_CHANNEL else link.heartbeat
        return self._put(channel, encode_message(message))

    def send_frame(self, to: int, frame: pb.PeerMessage, *, urgent: bool = False) -> bool:
        """A message that is not the core's: forwarded requests, read points, node information."""
        link = self._links.get(to)
        if link is None:
            self.unsent += 1
            return False
        return self._put(link.heartbeat if urgent else link.append, encode_frame(frame))

    def _put(self, channel: Channel, message: Encoded) -> bool:
        if channel.outbox.put(message):
            return True
        self.unsent += 1
        return False

    def send_snapshot(
        self, to: int, term: int, snapshot: SnapshotFile, content: Iterable[bytes], on_done: Callable[[bool], None]
    ) -> bool:
        """Start a transfer; False when one to that peer is under way or the peer is not known."""

        def done(ok: bool) -> None:
            with self._lock:
                if (link := self._links.get(to)) and link.transfer is transfer:
                    link.transfer = None
            on_done(ok)

        with self._lock:
            link = self._links.get(to)
            if link is None or link.transfer is not None:
                return False
            hello, token = self._hello(to, "snapshot"), self._keyring.tokens.presented
            transfer = SnapshotTransfer(link.member, hello, term, snapshot, content, done, token)
            link.transfer = transfer
        transfer.start()
        return True

    def heard(self, sender: int) -> None:
        if link := self._links.get(sender):
            link.heard_at = time.monotonic()

    def keep_info(self, sender: int, info: pb.NodeInfo, commit: int) -> None:
        """`commit` is this node's own now: what the peer says is up to a second old when somebody reads it."""
        if link := self._links.get(sender):
            link.info = info
            link.lag = max(0, commit - info.applied)

    def lag(self, identifier: int) -> int:
        """Entries that the peer was behind this node when it last said where it is."""
        link = self._links.get(identifier)
        return link.lag if link else 0

    def heard_ms(self, identifier: int) -> int:
        """Since the last batch from that peer; -1: never."""
        link = self._links.get(identifier)
        if link is None or not link.heard_at:
            return -1
        return int((time.monotonic() - link.heard_at) * 1000)

    def connected(self, identifier: int) -> bool:
        """It takes our messages and we heard it lately."""
        link = self._links.get(identifier)
        if link is None or not all(channel.outbox.is_open for channel in link.channels):
            return False
        return 0 <= self.heard_ms(identifier) <= limits.PEER_FRESH_MS

    def info(self, identifier: int) -> pb.NodeInfo | None:
        link = self._links.get(identifier)
        return link.info if link else None

    def peers(self) -> list[int]:
        return list(self._links)

    def links(self) -> list[tuple[Member, tuple[Channel, ...]]]:
        """For metrics."""
        return [(link.member, link.channels) for link in list(self._links.values())]

    def pause(self) -> None:
        """Close every channel (gRPC is switched off); `resume` opens them again."""
        with self._lock:
            if self._paused:
                return
            self._paused = True
            links = list(self._links.values())
        for link in links:
            self._stop_link(link)

    def resume(self) -> None:
        with self._lock:
            if not self._paused:
                return
            self._paused = False
            members = [link.member for link in self._links.values()]
            self._links.clear()
        for member in members:
            self.add(member)

    def stop(self) -> None:
        with self._lock:
            links = list(self._links.values())
            self._links.clear()
            self._paused = True
        for link in links:
            self._stop_link(link)
