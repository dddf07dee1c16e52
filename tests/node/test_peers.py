"""What the peers' interface makes of strangers, mistakes and garbage: a clear refusal, a count, an unharmed node."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import grpc
import pytest

from rocinante import limits
from rocinante.identity import cluster_id
from rocinante.pb.v1 import peer_pb2 as pb
from rocinante.raft.types import MessageType
from rocinante.state.sections import frame
from rocinante.version import PROTOCOL_VERSION
from tests.node.tools import metrics, others, settle
from tests.support.cluster import Cluster


@dataclass(slots=True)
class Peer:
    """One who pretends to be `sender` at the node `to`."""

    endpoint: str
    to: int
    sender: int

    def hello(self, **changed: int) -> pb.Hello:
        fields: dict[str, Any] = {
            "cluster_id": cluster_id("test", "dc1"),
            "sender": self.sender,
            "to": self.to,
            "protocol_version": PROTOCOL_VERSION,
        }
        return pb.Hello(**{**fields, **changed}, channel="append")

    def send(self, method: str, batches: Iterable[bytes]) -> tuple[str, str]:
        """How the stream ends: code and text."""
        options = [("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel(self.endpoint, options=options) as channel:
            call = channel.stream_unary(f"/rocinante.v1.Peer/{method}")
            try:
                call(iter(batches), timeout=60.0, wait_for_ready=True)
            except grpc.RpcError as error:
                return error.code().name, error.details()
        return "OK", ""


def exchange(*batches: pb.PeerBatch | bytes) -> list[bytes]:
    return [batch if isinstance(batch, bytes) else batch.SerializeToString() for batch in batches]


def raft(peer: Peer, **changed: int) -> pb.PeerMessage:
    fields: dict[str, int] = {
        "type": int(MessageType.HEARTBEAT_RESPONSE), "to": peer.to, "sender": peer.sender, "term": 1
    }  # fmt: skip
    return pb.PeerMessage(raft=pb.RaftMessage(**{**fields, **changed}))  # type: ignore[arg-type]


def greeting(peer: Peer, **changed: int) -> list[bytes]:
    return exchange(pb.PeerBatch(hello=peer.hello(**changed)))


def with_message(peer: Peer, message: pb.PeerMessage) -> list[bytes]:
    return exchange(pb.PeerBatch(hello=peer.hello(), messages=[message]))


def entries(peer: Peer, index: int, term: int) -> pb.PeerMessage:
    message = raft(peer, type=int(MessageType.APPEND), log_index=1, log_term=1)
    message.raft.entries.append(pb.LogEntryFrame(index=index, term=term, data=b"x"))
    return message


STRANGER = 0x0123456789ABCDEF
GARBAGE = b"\xff\xfe\xfd garbage"
TOO_LARGE = bytes(limits.GRPC_MESSAGE_BYTES_MAX + 1)
SNAPSHOT_TYPE = int(MessageType.SNAPSHOT)
NO_HELLO = pb.SnapshotChunk(index=1).SerializeToString()
FIVE = b"12345"
CONTENT = b"\0\0\0\2[]" + b"".join(frame([(1, b"payload")]))
"""What can be told from a snapshot before it is read, is right in it."""
REFUSED, INVALID = "FAILED_PRECONDITION", "INVALID_ARGUMENT"
Case = tuple[str, str, str, Callable[[Peer], list[bytes]]]

EXCHANGE: list[Case] = [
    ("of another cluster", REFUSED, "cluster_id: ", lambda p: greeting(p, cluster_id=1)),
    ("for another node", REFUSED, "to: ", lambda p: greeting(p, to=1)),
    ("no member", REFUSED, "is not a member", lambda p: greeting(p, sender=STRANGER)),
    ("the node itself", REFUSED, "own id", lambda p: greeting(p, sender=p.to)),
    ("of a protocol two ahead", REFUSED, "protocol_version: 3", lambda p: greeting(p, protocol_version=3)),
    ("of no protocol", REFUSED, "protocol_version: 0", lambda p: greeting(p, protocol_version=0)),
    ("without a hello", INVALID, "hello: missing", lambda p: exchange(pb.PeerBatch(messages=[raft(p)]))),
    ("garbage at once", INVALID, "PeerBatch: ", lambda p: exchange(GARBAGE)),
    ("garbage later", INVALID, "PeerBatch: ", lambda p: exchange(pb.PeerBatch(hello=p.hello()), GARBAGE)),
    ("in another's name", INVALID, "on the stream of", lambda p: with_message(p, raft(p, sender=STRANGER))),
    ("from nobody", INVALID, "must not be 0", lambda p: with_message(p, raft(p, sender=0))),
    ("of no known type", INVALID, "type: 77", lambda p: with_message(p, raft(p, type=77))),
    ("a snapshot as a message", INVALID, "InstallSnapshot", lambda p: with_message(p, raft(p, type=SNAPSHOT_TYPE))),
    ("entries with a gap", INVALID, "entries: index 7", lambda p: with_message(p, entries(p, 7, 1))),
    ("entries of a future term", INVALID, "entries: term 9", lambda p: with_message(p, entries(p, 2, 9))),
    ("too large", "RESOURCE_EXHAUSTED", "larger than max", lambda p: [*greeting(p), TOO_LARGE]),
]  # fmt: skip


def chunk(peer: Peer, **fields: object) -> bytes:
    config = pb.ConfigFrame(voters=[peer.sender, peer.to])
    known: dict[str, object] = {"hello": peer.hello(), "term": 1, "index": 10**9, "index_term": 1, "config": config}
    return pb.SnapshotChunk(**{**known, **fields}).SerializeToString()  # type: ignore[arg-type]


def whole(peer: Peer, content: bytes, **fields: object) -> bytes:
    """All of it in one chunk, with a length and a digest that are right."""
    digest = blake2b(content, digest_size=32).digest()
    return chunk(peer, **{"total_bytes": len(content), "data": content, "digest": digest, **fields})


SNAPSHOT: list[Case] = [
    ("of another cluster", REFUSED, "cluster_id: ", lambda p: [chunk(p, hello=p.hello(cluster_id=1))]),
    ("no member", REFUSED, "is not a member", lambda p: [chunk(p, hello=p.hello(sender=STRANGER))]),
    ("garbage", INVALID, "SnapshotChunk: ", lambda p: [GARBAGE]),
    ("nothing at all", INVALID, "empty", lambda p: []),
    ("without a hello", INVALID, "hello: missing", lambda p: [NO_HELLO]),
    ("without an index", INVALID, "must not be empty", lambda p: [chunk(p, index=0)]),
    ("more than announced", INVALID, "more than the 3 bytes", lambda p: [chunk(p, total_bytes=3, data=FIVE)]),
    ("less than announced", INVALID, "9 announced, 3 came", lambda p: [chunk(p, total_bytes=9, data=bytes(3))]),
    ("out of order", INVALID, "offset: 4", lambda p: [chunk(p, total_bytes=9), chunk(p, offset=4, data=b"x")]),
    ("of another digest", INVALID, "digest", lambda p: [whole(p, CONTENT, digest=bytes(32))]),
    ("without a list of members", INVALID, "list of members has", lambda p: [whole(p, FIVE)]),
    ("with members that are none", INVALID, "list of members cannot", lambda p: [whole(p, b"\0\0\0\2{}")]),
    ("of another version", INVALID, "version 9", lambda p: [whole(p, b"\0\0\0\2[]RSTATE\0\x09")]),
    ("with a damaged section", INVALID, "checksum is wrong", lambda p: [whole(p, CONTENT[:-1] + b"\0")]),
    ("cut short", INVALID, "ends within", lambda p: [whole(p, CONTENT[:-1])]),
]  # fmt: skip


@pytest.fixture
def peer(cluster: Cluster) -> Peer:
    """As a follower, to the leader: it has the most to lose."""
    leader = cluster.wait_leader()
    identities = {number: int(str(cluster.status(number)["id"]), 16) for number in cluster.nodes}
    return Peer(cluster.endpoint(leader), identities[leader], identities[others(cluster, leader)[0]])


def ids(case: object) -> str | None:
    return case[0] if isinstance(case, tuple) else None


@pytest.mark.parametrize("case", EXCHANGE, ids=ids)
def test_a_stream_that_is_wrong_is_refused_counted_and_does_no_harm(cluster: Cluster, peer: Peer, case: Case) -> None:
    _refused_without_harm(cluster, peer, "Exchange", case)


@pytest.mark.parametrize("case", SNAPSHOT, ids=ids)
def test_a_snapshot_that_is_wrong_is_refused_counted_and_does_no_harm(cluster: Cluster, peer: Peer, case: Case) -> None:
    _refused_without_harm(cluster, peer, "InstallSnapshot", case)


def _refused_without_harm(cluster: Cluster, peer: Peer, method: str, case: Case) -> None:
    _, code, text, make = case
    leader = cluster.wait_leader()
    before, term = metrics(cluster, leader), cluster.status(leader)["term"]
    seen = peer.send(method, make(peer))
    assert seen[0] == code, seen
    assert text in seen[1], seen
    if code != "RESOURCE_EXHAUSTED":  # that one is gRPC's own
        after = metrics(cluster, leader)
        counted = [name for name in ("peer_refused_total", "peer_malformed_total") if after[name] > before[name]]
        assert counted == ["peer_refused_total" if code == REFUSED else "peer_malformed_total"]
    assert (cluster.leader(), cluster.status(leader)["term"]) == (leader, term)
    snapshots = cluster.nodes[leader].data / "snapshots"
    cluster.wait_until(
        lambda: not [path for path in snapshots.iterdir() if path.name.startswith(".")], "nothing half-written stays"
    )


def test_messages_of_the_wrong_role_or_for_another_are_ignored(cluster: Cluster, peer: Peer) -> None:
    leader = cluster.wait_leader()
    term = int(str(cluster.status(leader)["term"]))
    before = metrics(cluster, leader)["raft_messages_ignored_total"]
    messages = [raft(peer, to=STRANGER, term=term), raft(peer, type=int(MessageType.VOTE_RESPONSE), term=term)]
    messages += [pb.PeerMessage(), pb.PeerMessage(read_response=pb.ReadResponse(context=1, index=10**12))]
    messages += [pb.PeerMessage(dropped=pb.ForwardDropped(number=1, reason="no"))]
    assert peer.send("Exchange", exchange(pb.PeerBatch(hello=peer.hello(), messages=messages)))[0] == "OK"
    cluster.wait_until(
        lambda: metrics(cluster, leader)["raft_messages_ignored_total"] >= before + 2, "they are counted"
    )
    assert cluster.leader() == leader


def test_a_forward_that_is_no_command_changes_nothing_anywhere(cluster: Cluster, peer: Peer) -> None:
    """What cannot be a command is refused; what can, and is none, gets into the log and does nothing."""
    leader = cluster.wait_leader()
    revision = cluster.put(leader, "peers/before", "v")
    for commands, code in (([b"", GARBAGE], INVALID), ([bytes(40)], "OK")):
        forward = pb.PeerMessage(forward=pb.Forward(commands=commands, number=7))
        assert peer.send("Exchange", with_message(peer, forward))[0] == code
    assert cluster.put(leader, "peers/after", "v") == revision + 1
    settle(cluster)
    cluster.wait_equal_digests()
