"""What comes from peers: batches into a node that follows, leads or waits, and snapshots on their way in.

A member that *lies* (claims to lead in a term that has another leader, or that something is committed which this node
never acknowledged, or that what is committed is different) ends a node, and must: Raft takes no liars, and going on
would be to choose one of two truths. `LIES` are these claims, as the core words them. Everything else that a peer may
send is refused or ignored, and the node goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from google.protobuf.message import DecodeError

from rocinante.node.directory import snapshot_head
from rocinante.pb.v1 import peer_pb2 as pb
from rocinante.peers import MalformedMessage
from rocinante.peers.codec import decode_message, encode_config, encode_message, join_batch
from rocinante.raft.types import Config, FatalInconsistency
from rocinante.state.sections import SnapshotError
from tests.fuzz.hand_driven import HandDriven, Refused
from tests.fuzz.samples import NODE, PEER, THIRD, hello, peer_messages, sample_machine
from tests.fuzz.targets import Target

LIES: Final = ("two leaders in term ", "told that ", "conflicts with a committed one")
LIVES: Final[list[Callable[[], HandDriven]]] = [HandDriven.follower, HandDriven.leader, HandDriven]


def one_exchange(data: bytes) -> None:
    """The first byte: whom it meets, and whether the bytes are a whole stream's batch or follow a right greeting."""
    if not data:
        return
    with LIVES[data[0] % len(LIVES)]() as node:
        batches = [data[1:]]
        if not data[0] & 0x80:
            batches.insert(0, pb.PeerBatch(hello=hello()).SerializeToString())
        try:
            node.receive(*batches)
        except Refused:
            pass
        except FatalInconsistency as error:
            assert any(lie in str(error) for lie in LIES), error
            node.check_durable()
            return
        node.check_durable()
        node.check_serves()


def exchange_seeds() -> list[bytes]:
    messages = peer_messages()
    seeds = [
        bytes((life,)) + pb.PeerBatch(messages=[message]).SerializeToString()
        for life in range(len(LIVES))
        for message in messages
    ]
    return [*seeds, b"\x83" + pb.PeerBatch(hello=hello(), messages=messages[-3:]).SerializeToString()]


def one_message(data: bytes) -> None:
    """The codec alone: what it takes can be sent again, and is the same."""
    try:
        frame = pb.RaftMessage.FromString(data)
        message = decode_message(frame)
    except (DecodeError, MalformedMessage):
        return
    again = join_batch([encode_message(message)])
    (sent,) = pb.PeerBatch.FromString(again).messages
    assert decode_message(sent.raft) == message


def message_seeds() -> list[bytes]:
    return [message.raft.SerializeToString() for message in peer_messages() if message.HasField("raft")]


def _snapshot_content() -> bytes:
    node = HandDriven()
    with node, sample_machine().freeze() as frozen:
        return snapshot_head(node.node.membership.described, node.core.config) + b"".join(frozen.chunks(1 << 20))


def snapshot_chunk(content: bytes, **changed: object) -> pb.SnapshotChunk:
    """The whole of a snapshot in one chunk, from PEER in term 2."""
    from hashlib import blake2b

    fields: dict[str, object] = {
        "hello": hello(),
        "term": 2,
        "index": 6,
        "index_term": 1,
        "config": encode_config(Config(voters=frozenset({NODE, PEER, THIRD}))),
        "total_bytes": len(content),
        "digest": blake2b(content, digest_size=32).digest(),
        "data": content,
    }
    return pb.SnapshotChunk(**{**fields, **changed})  # type: ignore[arg-type]


def one_install(data: bytes) -> None:
    """A chunk; with an odd first byte its length and digest are made right, so that a wrong content gets through."""
    if not data:
        return
    try:
        chunk = pb.SnapshotChunk.FromString(data[1:])
    except DecodeError:
        return
    raw = data[1:]
    if data[0] & 1:
        right = snapshot_chunk(chunk.data)
        chunk.total_bytes, chunk.digest = right.total_bytes, right.digest
        raw = chunk.SerializeToString()
    with LIVES[data[0] // 2 % len(LIVES)]() as node:
        try:
            node.receive_snapshot(raw)
        except Refused:
            pass
        except SnapshotError:
            return  # right checksums around what is no state: a lie, too
        except FatalInconsistency as error:
            assert any(lie in str(error) for lie in LIES), error
            return
        assert not node.node.receiver._receiving
        node.check_durable()
        node.check_serves()


def install_seeds() -> list[bytes]:
    content = _snapshot_content()
    return [
        bytes((life,)) + chunk.SerializeToString()
        for life in range(2 * len(LIVES))
        for chunk in (
            snapshot_chunk(content),
            snapshot_chunk(content, config=encode_config(Config(frozenset({PEER}), frozenset({NODE})))),
        )
    ]


TARGETS: Final = [
    Target("peer_exchange", one_exchange, exchange_seeds, 1024, 250),
    Target("peer_message", one_message, message_seeds, 512),
    Target("peer_snapshot", one_install, install_seeds, 4096, 100),
]
