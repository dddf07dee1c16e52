"""Valid things that mutation starts from."""

from __future__ import annotations

from functools import cache
from typing import Final

from rocinante.flows import Backend, FlowFilter, FlowFlag, FlowRecord, FlowTuple, TcpState, encode_batch, packed
from rocinante.identity import cluster_id, server_id
from rocinante.pb.etcd import rpc_pb2
from rocinante.pb.v1 import peer_pb2
from rocinante.raft.types import MessageType
from rocinante.state import command
from rocinante.state.command import Kind
from rocinante.state.flows import Rows, encode_delete, encode_delete_where, encode_expire, encode_put
from rocinante.state.machine import StateMachine
from rocinante.version import PROTOCOL_VERSION

SESSION: Final = 9
NODE, PEER, THIRD = (server_id("127.0.0.1", port) for port in (35001, 35002, 35003))
CLUSTER: Final = cluster_id("test", "dc1")


def flow(number: int, **more: object) -> FlowRecord:
    original = FlowTuple.from_text("tcp", f"10.0.{number >> 8}.{number & 255}:1000", "192.0.2.1:80")
    return FlowRecord(original, **{"updated_ms": 1, **more})  # type: ignore[arg-type]


@cache
def records() -> list[FlowRecord]:
    """One of every shape: narrow, wide, with a tail, translated, ICMP, turned round."""
    wide = FlowTuple.from_text("udp", "[2001:db8::1]:443", "[2001:db8::2]:50000", zone=7)
    full = FlowRecord(
        FlowTuple.from_text("tcp", "203.0.113.9:41234", "198.51.100.7:443"),
        tcp_state=TcpState.ESTABLISHED,
        flags=FlowFlag.SEEN_REPLY | FlowFlag.ASSURED | FlowFlag.NAT_DST,
        deadline_ms=2**40,
        updated_ms=2**40 - 1,
        mark=2**32 - 1,
        backend=Backend(b"\x0a\x00\x00\x05", 8443),
        reply=FlowTuple.from_text("tcp", "10.0.0.5:8443", "203.0.113.9:41234"),
        packets_original=10,
        bytes_original=2**64 - 1,
    )
    named = flow(5, backend_name="web-1", application_data=b"hello \x00\xff")
    v6_backend = FlowRecord(wide, backend=Backend(b"\x0a\x00\x00\x05", 1), updated_ms=3)
    ping = FlowRecord(FlowTuple.from_text("icmp", "10.0.0.1:77", "10.0.0.2:77"), deadline_ms=9)
    return [flow(1), full, FlowRecord(wide), v6_backend, named, ping]


@cache
def batches() -> list[bytes]:
    """Of the three kinds, and one record alone."""
    return [*encode_batch(records()), *encode_batch([flow(3)])]


@cache
def packed_batches() -> list[bytes]:
    """Of both kinds."""
    wide = [
        FlowRecord(FlowTuple.from_text("udp", f"[2001:db8::{at:x}]:53", "[::1]:99"), updated_ms=at) for at in range(8)
    ]
    made = [packed(batch) for some in ([flow(at) for at in range(8)], wide) for batch in encode_batch(some)]
    return [bytes(batch) for batch in made]


@cache
def commands() -> list[bytes]:
    """One of every kind, some under a session."""
    bodies: list[tuple[Kind, bytes]] = [
        (Kind.KV_PUT, rpc_pb2.PutRequest(key=b"a", value=b"new", prev_kv=True).SerializeToString()),
        (Kind.KV_DELETE, rpc_pb2.DeleteRangeRequest(key=b"a", range_end=b"z", prev_kv=True).SerializeToString()),
        (Kind.KV_TXN, transaction().SerializeToString()),
        (Kind.KV_COMPACT, rpc_pb2.CompactionRequest(revision=3).SerializeToString()),
        (Kind.FLOW_PUT, encode_put("dc1", batches()[0])),
        (Kind.FLOW_PUT, encode_put("dc2", batches()[-2])),
        (Kind.FLOW_PUT, encode_put("dc1", packed_batches()[0])),
        (Kind.FLOW_DELETE, encode_delete("dc1", [flow(1).key, flow(5).key])),
        (Kind.FLOW_DELETE, encode_delete("", [flow(1).key])),
        (Kind.FLOW_EXPIRE, encode_expire(1000, Rows("dc1", 16, 0, 9))),
        (
            Kind.FLOW_DELETE_WHERE,
            encode_delete_where(Rows("dc1", 16, 0, 9), FlowFilter.parse(address=["10.0.0.0/8"], backend="web")),
        ),
        (Kind.SESSION_OPEN, b""),
        (Kind.SESSION_CLOSE, b""),
        (Kind.CLOCK, (77).to_bytes(8)),
    ]
    return [command.encode(kind, SESSION * (at % 2), at % 2, 0, body) for at, (kind, body) in enumerate(bodies)]


def transaction() -> rpc_pb2.TxnRequest:
    return rpc_pb2.TxnRequest(
        compare=[rpc_pb2.Compare(key=b"a", target=rpc_pb2.Compare.VALUE, value=b"1")],
        success=[rpc_pb2.RequestOp(request_put={"key": b"a"}), rpc_pb2.RequestOp(request_range={"key": b"a"})],
        failure=[rpc_pb2.RequestOp(request_txn={"success": [{"request_delete_range": {"key": b"b"}}]})],
    )


def sample_machine() -> StateMachine:
    """Keys with versions and a deletion, a session with an outcome, flows of two origins, one deleted (a ghost)."""
    machine = StateMachine()
    put = [command.encode(Kind.KV_PUT, 0, 0, 0, rpc_pb2.PutRequest(key=key, value=b"1").SerializeToString())
           for key in (b"a", b"b", b"a", b"c")]  # fmt: skip
    opening = command.encode(Kind.SESSION_OPEN, SESSION, 0, 0, b"")
    flows = encode_put("dc1", encode_batch([flow(number, deadline_ms=500) for number in range(10)])[0])
    entries = [
        command.pack(put),
        command.pack([opening, command.encode(Kind.KV_DELETE, SESSION, 1, 0, b"\x0a\x01b")]),
        command.pack([command.encode(Kind.FLOW_PUT, 0, 0, 0, flows)]),
        command.pack([command.encode(Kind.FLOW_PUT, 0, 0, 0, encode_put("dc2", batches()[-2]))]),
        command.pack([command.encode(Kind.FLOW_DELETE, 0, 0, 0, encode_delete("dc1", [flow(4).key]))]),
        command.pack([command.encode(Kind.CLOCK, 0, 0, 0, (400).to_bytes(8))]),
    ]
    for index, data in enumerate(entries, 1):
        machine.apply(index, 1, data)
    return machine


def hello(**changed: int) -> peer_pb2.Hello:
    fields = {"cluster_id": CLUSTER, "sender": PEER, "to": NODE, "protocol_version": PROTOCOL_VERSION, **changed}
    return peer_pb2.Hello(channel="append", **fields)  # type: ignore[arg-type]


def raft_message(kind: MessageType, **fields: object) -> peer_pb2.PeerMessage:
    known: dict[str, object] = {"to": NODE, "sender": PEER, "term": 2}
    return peer_pb2.PeerMessage(raft=peer_pb2.RaftMessage(type=int(kind), **{**known, **fields}))  # type: ignore[arg-type]


def peer_messages() -> list[peer_pb2.PeerMessage]:
    """One of every kind that goes between nodes."""
    entries = [
        peer_pb2.LogEntryFrame(index=2, term=2, data=b""),
        peer_pb2.LogEntryFrame(index=3, term=2, data=command.pack(commands()[:2])),
    ]
    return [
        raft_message(MessageType.VOTE, log_index=1, log_term=1, force=True),
        raft_message(MessageType.VOTE, log_index=9, log_term=2),
        raft_message(MessageType.PRE_VOTE, term=3, log_index=1, log_term=1),
        raft_message(MessageType.PRE_VOTE_RESPONSE, term=3),
        raft_message(MessageType.VOTE_RESPONSE, reject=True),
        raft_message(MessageType.VOTE_RESPONSE),
        raft_message(MessageType.APPEND, log_index=1, log_term=1, entries=entries, commit=2),
        raft_message(MessageType.APPEND, log_index=3, log_term=2, commit=3),
        raft_message(MessageType.APPEND_RESPONSE, log_index=2),
        raft_message(MessageType.APPEND_RESPONSE, log_index=2, reject=True, hint_index=1, hint_term=1),
        raft_message(MessageType.HEARTBEAT, commit=1, context=7),
        raft_message(MessageType.HEARTBEAT_RESPONSE, context=7),
        raft_message(MessageType.TIMEOUT_NOW),
        peer_pb2.PeerMessage(forward=peer_pb2.Forward(commands=commands()[:3], number=4)),
        peer_pb2.PeerMessage(dropped=peer_pb2.ForwardDropped(number=4, reason="no room", exhausted=True)),
        peer_pb2.PeerMessage(read=peer_pb2.ReadRequest(context=5)),
        peer_pb2.PeerMessage(read_response=peer_pb2.ReadResponse(context=5, index=3)),
        peer_pb2.PeerMessage(read_response=peer_pb2.ReadResponse(context=5, refused="not the leader")),
        peer_pb2.PeerMessage(
            info=peer_pb2.NodeInfo(role="follower", term=2, commit=1, applied=1, version="1", protocol_version=1)
        ),
        peer_pb2.PeerMessage(info=peer_pb2.NodeInfo(role="follower", last_index=0, recovering=True)),
        peer_pb2.PeerMessage(transfer=peer_pb2.TransferRequest(to=PEER)),
    ]
