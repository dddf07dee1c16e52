"""rocinante.v1.Cluster and .Admin over a real socket."""

from __future__ import annotations

import threading
from hashlib import blake2b

import pytest

from rocinante import limits
from rocinante.identity import server_id
from rocinante.pb.etcd import rpc_pb2
from rocinante.pb.v1 import admin_pb2, cluster_pb2
from rocinante.services.server import GrpcServer
from rocinante.state.machine import StateMachine
from tests.services.wire import WAIT_S, Wire
from tests.support.local_node import LocalNode

C, A = "/rocinante.v1.Cluster/", "/rocinante.v1.Admin/"
Members = cluster_pb2.MembersResponse


def members(wire: Wire) -> list[tuple[str, bool, bool]]:
    answer = wire.call(C + "Members", cluster_pb2.MembersRequest(), Members)
    return [(member.name, member.learner, member.leader) for member in answer.members]


def add(wire: Wire, **member: object) -> cluster_pb2.MembersResponse:
    request = cluster_pb2.AddMemberRequest(**member)  # type: ignore[arg-type]
    return wire.call(C + "AddMember", request, Members)


def put(wire: Wire, key: bytes = b"k") -> None:
    wire.call("/etcdserverpb.KV/Put", rpc_pb2.PutRequest(key=key, value=b"v"), rpc_pb2.PutResponse)


def test_a_member_is_added_as_a_learner_promoted_and_removed(wire: Wire) -> None:
    assert members(wire) == [("node1", False, True)]
    added = add(wire, name="node2", address="127.0.0.1", port=35002, rest=8002)
    identifier = server_id("127.0.0.1", 35002)
    assert [member.id for member in added.members][1] == identifier
    assert added.index > 0
    assert members(wire)[1] == ("node2", True, False)
    wire.call(C + "PromoteMember", cluster_pb2.PromoteMemberRequest(id=identifier), Members)
    assert members(wire)[1] == ("node2", False, False)
    wire.call(C + "RemoveMember", cluster_pb2.RemoveMemberRequest(id=identifier), Members)
    assert members(wire) == [("node1", False, True)]


def test_a_member_may_be_added_as_a_voter_and_is_named_by_its_address_where_it_has_no_name(wire: Wire) -> None:
    add(wire, address="2001:db8:0::1", port=35002, voter=True)
    assert members(wire)[1] == ("[2001:db8::1]:35002", False, False)


REFUSED = [
    (
        C + "AddMember",
        cluster_pb2.AddMemberRequest(address="host", port=1),
        "INVALID_ARGUMENT",
        "address: 'host'",
    ),
    (C + "AddMember", cluster_pb2.AddMemberRequest(address="::1"), "INVALID_ARGUMENT", "port: 0 is not a port"),
    (
        C + "AddMember",
        cluster_pb2.AddMemberRequest(address="::1", port=65536),
        "INVALID_ARGUMENT",
        "port: 65536 is not a port",
    ),
    (
        C + "AddMember",
        cluster_pb2.AddMemberRequest(address="::1", port=1, rest=70000),
        "INVALID_ARGUMENT",
        "rest: 70000 is not a port",
    ),
    (
        C + "AddMember",
        cluster_pb2.AddMemberRequest(address="::1", port=1, name="a\nb"),
        "INVALID_ARGUMENT",
        "name: expected at most 63 printable bytes",
    ),
    (
        C + "AddMember",
        cluster_pb2.AddMemberRequest(address="127.0.0.1", port=35001),
        "ALREADY_EXISTS",
        "a member with the address 127.0.0.1:35001",
    ),
    (C + "PromoteMember", cluster_pb2.PromoteMemberRequest(), "INVALID_ARGUMENT", "id: missing"),
    (C + "PromoteMember", cluster_pb2.PromoteMemberRequest(id=7), "NOT_FOUND", "id: 0000000000000007 is not a member"),
    (C + "RemoveMember", cluster_pb2.RemoveMemberRequest(), "INVALID_ARGUMENT", "id: missing"),
    (C + "TransferLeader", cluster_pb2.TransferLeaderRequest(), "FAILED_PRECONDITION", "to: there is no other voter"),
    (C + "TransferLeader", cluster_pb2.TransferLeaderRequest(to=7), "NOT_FOUND", "id: 0000000000000007"),
    (C + "CloseSession", cluster_pb2.CloseSessionRequest(), "INVALID_ARGUMENT", "session: missing"),
    (C + "AddMember", b"\xff", "INVALID_ARGUMENT", "rocinante.v1.AddMemberRequest: the bytes are not such a message"),
    (A + "Log", admin_pb2.LogRequest(last=1001), "INVALID_ARGUMENT", "last: 1001 is more than 1000"),
    (A + "Digest", admin_pb2.DigestRequest(at_index=99), "OUT_OF_RANGE", "at_index: 99 is not applied yet"),
]


@pytest.mark.parametrize(("path", "request_", "code", "text"), REFUSED, ids=[case[3] for case in REFUSED])
def test_bad_input_is_refused_by_field(
    wire: Wire, path: str, request_: cluster_pb2.AddMemberRequest, code: str, text: str
) -> None:
    refused = wire.fail(path, request_)
    assert refused.code == code
    assert refused.text.startswith(text)
    assert members(wire) == [("node1", False, True)]


def test_leadership_moves_and_the_answers_say_so(wire: Wire, node: LocalNode) -> None:
    add(wire, name="node2", address="127.0.0.1", port=35002, voter=True)
    answer = wire.call(C + "TransferLeader", cluster_pb2.TransferLeaderRequest(), cluster_pb2.TransferLeaderResponse)
    assert answer.leader == server_id("127.0.0.1", 35002)
    status = wire.call(C + "Status", cluster_pb2.StatusRequest(), cluster_pb2.StatusResponse)
    assert (status.role, status.leader_endpoint, status.peers[0].name) == ("follower", "127.0.0.1:35002", "node2")
    assert members(wire)[1] == ("node2", False, True)
    assert wire.fail("/etcdserverpb.KV/Put", b"\xff").trailing["rocinante-leader"] == "127.0.0.1:35002"


def test_sessions_open_and_close(wire: Wire, node: LocalNode) -> None:
    path = C + "OpenSession"
    opened = [wire.call(path, cluster_pb2.OpenSessionRequest(), cluster_pb2.OpenSessionResponse) for _ in range(2)]
    assert opened[0].session != opened[1].session
    assert all(node.state.has_session(one.session) for one in opened)
    wire.call(
        C + "CloseSession", cluster_pb2.CloseSessionRequest(session=opened[0].session), cluster_pb2.CloseSessionResponse
    )
    assert [node.state.has_session(one.session) for one in opened] == [False, True]


def test_a_change_of_members_waits_no_longer_than_its_client(wire: Wire, node: LocalNode) -> None:
    node.be_without_leader()
    assert wire.fail(C + "AddMember", cluster_pb2.AddMemberRequest(address="::1", port=1)).code == "UNAVAILABLE"


def test_the_log_shows_its_last_lines(wire: Wire) -> None:
    for _ in range(30):
        put(wire)
    answer = wire.call(A + "Log", admin_pb2.LogRequest(), admin_pb2.LogResponse)
    assert len(answer.entries) == limits.LOG_LINES_DEFAULT
    answer = wire.call(A + "Log", admin_pb2.LogRequest(last=2, committed=True), admin_pb2.LogResponse)
    assert [list(entry.commands) for entry in answer.entries] == [["kv_put"], ["kv_put"]]
    assert [entry.index for entry in answer.entries] == [31, 32]
    assert answer.entries[0].bytes > 0
    assert answer.entries[0].committed


def test_the_digest_is_of_the_state_after_an_entry(wire: Wire) -> None:
    def digest() -> admin_pb2.DigestResponse:
        return wire.call(A + "Digest", admin_pb2.DigestRequest(), admin_pb2.DigestResponse)

    put(wire)
    first = digest()
    assert (len(first.digest), first.revision) == (32, 2)
    assert digest() == first
    put(wire)
    assert digest().digest != first.digest


def test_a_backup_can_be_restored(wire: Wire) -> None:
    for number in range(20):
        put(wire, b"k%d" % number)
    taken = wire.call(A + "Snapshot", admin_pb2.SnapshotRequest(), admin_pb2.SnapshotResponse)
    chunks = [answer.chunk for answer in wire.stream(A + "Save", admin_pb2.SaveRequest(), admin_pb2.SaveResponse)]
    assert blake2b(b"".join(chunks), digest_size=32).digest() == taken.digest
    assert sum(map(len, chunks)) == taken.bytes
    restored = StateMachine()
    assert restored.restore(iter(chunks)).index == taken.index
    assert restored.keys_count() == 20


def test_stop_and_the_grpc_switch_reach_the_node(wire: Wire, node: LocalNode, server: GrpcServer) -> None:
    switched = threading.Event()

    def switch(enabled: bool) -> None:
        server.set_serving(enabled, "gRPC is switched off")
        switched.set()

    node.on_grpc = switch
    answer = wire.call(A + "SetGrpc", admin_pb2.SetGrpcRequest(enabled=False), admin_pb2.SetGrpcResponse)
    assert not answer.enabled
    assert switched.wait(WAIT_S)
    assert node.status().role == "not_ready"
    assert wire.fail(A + "SetGrpc", admin_pb2.SetGrpcRequest(enabled=True)).code == "UNAVAILABLE"
    node.set_grpc(True)
    wire.call(A + "Stop", admin_pb2.StopRequest(), admin_pb2.StopResponse)
    assert node.stopped.wait(WAIT_S)
