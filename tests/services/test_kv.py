"""etcdserverpb.KV over a real socket, with the real state machine behind it."""

from __future__ import annotations

import threading

import pytest

from rocinante import limits
from rocinante.pb.etcd import rpc_pb2 as pb
from rocinante.pb.v1 import cluster_pb2
from tests.services.wire import Wire
from tests.support.local_node import TERM, LocalNode

RANGE, PUT, DELETE, TXN, COMPACT = (
    f"/etcdserverpb.KV/{name}" for name in ("Range", "Put", "DeleteRange", "Txn", "Compact")
)


def put(wire: Wire, key: bytes, value: bytes = b"v", **more: object) -> pb.PutResponse:
    return wire.call(PUT, pb.PutRequest(key=key, value=value, **more), pb.PutResponse)  # type: ignore[arg-type]


def get(wire: Wire, key: bytes, **more: object) -> pb.RangeResponse:
    return wire.call(RANGE, pb.RangeRequest(key=key, **more), pb.RangeResponse)  # type: ignore[arg-type]


def put_op(key: bytes, value: bytes = b"v") -> pb.RequestOp:
    return pb.RequestOp(request_put=pb.PutRequest(key=key, value=value))


def range_op(key: bytes, **more: object) -> pb.RequestOp:
    return pb.RequestOp(request_range=pb.RangeRequest(key=key, **more))  # type: ignore[arg-type]


def test_put_then_range_gives_the_value_and_a_full_header(wire: Wire, node: LocalNode) -> None:
    written = put(wire, b"k", b"one")
    assert written.header.revision == 2
    found = get(wire, b"k")
    for header in (written.header, found.header):
        assert (header.cluster_id, header.member_id, header.raft_term) == (node.cluster_id, node.member.id, TERM)
        assert header.revision == 2
    assert [(kv.key, kv.value, kv.create_revision, kv.mod_revision, kv.version) for kv in found.kvs] == [
        (b"k", b"one", 2, 2, 1)
    ]


def test_put_prev_kv_delete_and_count(wire: Wire) -> None:
    put(wire, b"k1", b"one")
    assert put(wire, b"k1", b"two", prev_kv=True).prev_kv.value == b"one"
    put(wire, b"k2", b"three")
    assert get(wire, b"k", range_end=b"l", count_only=True).count == 2
    deleted = wire.call(DELETE, pb.DeleteRangeRequest(key=b"k", range_end=b"l", prev_kv=True), pb.DeleteRangeResponse)
    assert deleted.deleted == 2
    assert [kv.value for kv in deleted.prev_kvs] == [b"two", b"three"]
    assert deleted.header.revision == 5
    assert not get(wire, b"k", range_end=b"l").kvs


def test_a_large_range_is_complete_and_in_order(wire: Wire) -> None:
    operations = [put_op(f"k{number:03}".encode(), bytes(1000)) for number in range(100)]
    wire.call(TXN, pb.TxnRequest(success=operations), pb.TxnResponse)
    found = get(wire, b"k", range_end=b"l")
    assert [kv.key for kv in found.kvs] == [f"k{number:03}".encode() for number in range(100)]
    page = get(wire, b"k", range_end=b"l", limit=10)
    assert len(page.kvs) == 10
    assert page.more
    assert page.count == 100


def test_a_transaction_writes_under_one_revision(wire: Wire) -> None:
    put(wire, b"a", b"1")
    compare = pb.Compare(key=b"a", target=pb.Compare.VALUE, result=pb.Compare.EQUAL, value=b"1")
    request = pb.TxnRequest(compare=[compare], success=[put_op(b"k1"), put_op(b"k2"), range_op(b"a")], failure=[])
    answer = wire.call(TXN, request, pb.TxnResponse)
    assert answer.succeeded
    assert answer.header.revision == 3
    assert answer.header.member_id
    assert answer.responses[2].response_range.kvs[0].value == b"1"
    assert {kv.mod_revision for kv in get(wire, b"k", range_end=b"l").kvs} == {3}


@pytest.mark.parametrize("serializable", [True, False])
def test_a_transaction_that_only_reads_never_enters_the_log(wire: Wire, node: LocalNode, serializable: bool) -> None:
    put(wire, b"a", b"1")
    proposals = node.proposals
    request = pb.TxnRequest(success=[range_op(b"a", serializable=serializable)])
    answer = wire.call(TXN, request, pb.TxnResponse)
    assert answer.responses[0].response_range.kvs[0].value == b"1"
    assert answer.header.revision == 2
    assert answer.header.raft_term == TERM
    assert node.proposals == proposals


def test_a_serializable_range_needs_no_leader(wire: Wire, node: LocalNode) -> None:
    put(wire, b"a", b"1")
    node.be_without_leader()
    assert get(wire, b"a", serializable=True).kvs[0].value == b"1"
    assert wire.fail(RANGE, pb.RangeRequest(key=b"a")).code == "UNAVAILABLE"


def test_an_older_revision_and_its_compaction(wire: Wire) -> None:
    put(wire, b"a", b"1")
    put(wire, b"a", b"2")
    assert get(wire, b"a", revision=2).kvs[0].value == b"1"
    compacted = wire.call(COMPACT, pb.CompactionRequest(revision=3, physical=True), pb.CompactionResponse)
    assert compacted.header.revision == 3
    refused = wire.fail(RANGE, pb.RangeRequest(key=b"a", revision=2))
    assert refused[:2] == ("OUT_OF_RANGE", "etcdserver: mvcc: required revision has been compacted")


LONG_KEY = bytes(limits.KEY_BYTES_MAX + 1)
COMPACTED = "etcdserver: mvcc: required revision has been compacted"
FUTURE = "etcdserver: mvcc: required revision is a future revision"
REFUSED = [
    (PUT, pb.PutRequest(), "INVALID_ARGUMENT", "etcdserver: key is not provided"),
    (PUT, pb.PutRequest(key=b"k", ignore_value=True), "INVALID_ARGUMENT", "etcdserver: key not found"),
    (PUT, pb.PutRequest(key=b"k", value=b"v", ignore_value=True), "INVALID_ARGUMENT", "etcdserver: value is provided"),
    (PUT, pb.PutRequest(key=b"k", lease=1, ignore_lease=True), "INVALID_ARGUMENT", "etcdserver: lease is provided"),
    (PUT, pb.PutRequest(key=b"k", lease=7), "NOT_FOUND", "etcdserver: requested lease not found"),
    (PUT, pb.PutRequest(key=LONG_KEY), "INVALID_ARGUMENT", "key: 1025 bytes; at most 1024"),
    (
        PUT,
        pb.PutRequest(key=b"k", value=bytes(limits.VALUE_BYTES_MAX + 1)),
        "INVALID_ARGUMENT",
        "value: 524289 bytes; at most 524288",
    ),
    (RANGE, pb.RangeRequest(), "INVALID_ARGUMENT", "etcdserver: key is not provided"),
    (RANGE, pb.RangeRequest(key=b"k", revision=99), "OUT_OF_RANGE", FUTURE),
    (RANGE, pb.RangeRequest(key=b"k", sort_order=9), "INVALID_ARGUMENT", "etcdserver: invalid sort option"),  # type: ignore[arg-type]
    (RANGE, pb.RangeRequest(key=b"k", range_end=LONG_KEY), "INVALID_ARGUMENT", "range_end: 1025 bytes; at most 1024"),
    (DELETE, pb.DeleteRangeRequest(), "INVALID_ARGUMENT", "etcdserver: key is not provided"),
    (
        TXN,
        pb.TxnRequest(success=[put_op(b"k"), put_op(b"k")]),
        "INVALID_ARGUMENT",
        "etcdserver: duplicate key given in txn request",
    ),
    (
        TXN,
        pb.TxnRequest(success=[put_op(bytes((1, number))) for number in range(limits.TXN_OPERATIONS_MAX + 1)]),
        "INVALID_ARGUMENT",
        "etcdserver: too many operations in txn request",
    ),
    (
        TXN,
        pb.TxnRequest(success=[put_op(bytes((number + 1,)), bytes(limits.VALUE_BYTES_MAX)) for number in range(3)]),
        "INVALID_ARGUMENT",
        "etcdserver: request is too large",
    ),
    (TXN, pb.TxnRequest(success=[pb.RequestOp()]), "INVALID_ARGUMENT", "etcdserver: key not found"),
    (COMPACT, pb.CompactionRequest(revision=99), "OUT_OF_RANGE", FUTURE),
]


@pytest.mark.parametrize(
    ("path", "request_", "code", "text"), REFUSED, ids=lambda value: " ".join(str(value).split())[:40]
)
def test_a_bad_request_gets_etcds_error_and_changes_nothing(
    wire: Wire, node: LocalNode, path: str, request_: pb.PutRequest, code: str, text: str
) -> None:
    refused = wire.fail(path, request_)
    assert (refused.code, refused.text) == (code, text)
    assert refused.trailing["rocinante-leader"] == node.member.endpoint
    assert node.state.revision == 1
    assert node.state.keys_count() == 0


@pytest.mark.parametrize(("path", "name"), [(PUT, "PutRequest"), (RANGE, "RangeRequest"), (TXN, "TxnRequest")])
def test_bytes_that_are_no_message_are_refused_by_name(wire: Wire, node: LocalNode, path: str, name: str) -> None:
    refused = wire.fail(path, b"\xff\xff\xff")
    assert refused[:2] == ("INVALID_ARGUMENT", f"etcdserverpb.{name}: the bytes are not such a message")
    assert node.state.revision == 1


def test_every_answer_names_the_leader(wire: Wire, node: LocalNode) -> None:
    _, trailing = wire.call_with_trailing(PUT, pb.PutRequest(key=b"k"), pb.PutResponse)
    assert trailing["rocinante-leader"] == "127.0.0.1:35001"
    _, trailing = wire.call_with_trailing(RANGE, pb.RangeRequest(key=b"k"), pb.RangeResponse)
    assert trailing["rocinante-leader"] == "127.0.0.1:35001"
    node.be_without_leader()
    assert "rocinante-leader" not in wire.fail(PUT, pb.PutRequest(key=b"k")).trailing


# --- sessions, deadlines, bounds


def session_of(node: LocalNode, wire: Wire) -> str:
    path = "/rocinante.v1.Cluster/OpenSession"
    opened = wire.call(path, cluster_pb2.OpenSessionRequest(), cluster_pb2.OpenSessionResponse)
    assert node.state.has_session(opened.session)
    assert opened.idle_ms_max == limits.SESSION_IDLE_MS_MAX
    return f"{opened.session:016x}"


def test_a_retry_under_a_session_is_applied_once(wire: Wire, node: LocalNode) -> None:
    session = session_of(node, wire)
    request = pb.PutRequest(key=b"k", value=b"v", prev_kv=True)

    def send(seq: int) -> pb.PutResponse:
        metadata = [("rocinante-session", session), ("rocinante-seq", str(seq)), ("rocinante-ack", "1")]
        return wire.call(PUT, request, pb.PutResponse, metadata=metadata)

    first, again, next_one = send(1), send(1), send(2)
    assert again == first
    assert next_one.prev_kv.version == 1
    assert get(wire, b"k").kvs[0].version == 2


SESSION = "00000000000000ab"
BAD_SESSIONS = [
    ({"rocinante-session": SESSION}, "rocinante-seq: missing; a session needs rocinante-session and rocinante-seq"),
    ({"rocinante-seq": "1"}, "rocinante-session: missing; a session needs rocinante-session and rocinante-seq"),
    ({"rocinante-session": "xyz", "rocinante-seq": "1"}, "rocinante-session: expected 16 hex digits"),
    ({"rocinante-session": "0", "rocinante-seq": "1"}, "rocinante-session: 0 is nobody's session"),
    ({"rocinante-session": "1" * 17, "rocinante-seq": "1"}, "rocinante-session: expected 16 hex digits"),
    ({"rocinante-session": SESSION, "rocinante-seq": "0"}, "rocinante-seq: expected a decimal number > 0"),
    ({"rocinante-session": SESSION, "rocinante-seq": "+1"}, "rocinante-seq: expected a decimal number"),
    ({"rocinante-session": SESSION, "rocinante-seq": "9" * 20}, "rocinante-seq: does not fit 64 bits"),
    (
        {"rocinante-session": SESSION, "rocinante-seq": "1", "rocinante-ack": "2"},
        "rocinante-ack: 2 is beyond rocinante-seq (1)",
    ),
]


@pytest.mark.parametrize(("metadata", "text"), BAD_SESSIONS, ids=lambda value: str(value)[:50])
def test_a_malformed_session_is_refused_by_its_key(wire: Wire, metadata: dict[str, str], text: str) -> None:
    refused = wire.fail(PUT, pb.PutRequest(key=b"k"), metadata=list(metadata.items()))
    assert refused[:2] == ("INVALID_ARGUMENT", text)
    assert not get(wire, b"k").kvs


def test_a_session_that_nobody_opened_is_refused(wire: Wire) -> None:
    refused = wire.fail(PUT, pb.PutRequest(key=b"k"), metadata=[("rocinante-session", SESSION), ("rocinante-seq", "1")])
    assert refused.code == "ABORTED"
    assert not get(wire, b"k").kvs


def test_the_clients_deadline_ends_the_wait(wire: Wire, node: LocalNode) -> None:
    node.be_slow()
    refused = wire.fail(PUT, pb.PutRequest(key=b"k"), timeout_s=0.2)
    assert refused.code == "DEADLINE_EXCEEDED"
    refused = wire.fail(RANGE, pb.RangeRequest(key=b"k"), timeout_s=0.2)
    assert refused.code == "DEADLINE_EXCEEDED"


def test_without_a_deadline_the_default_bound_holds(
    wire: Wire, node: LocalNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REQUEST_TIMEOUT_S", 0.2)
    node.be_slow()
    refused = wire.fail(PUT, pb.PutRequest(key=b"k"), timeout_s=None)  # type: ignore[arg-type]
    assert refused[:2] == ("DEADLINE_EXCEEDED", "the time is up; it may still happen")


def test_a_deadline_beyond_the_bound_is_cut(wire: Wire, node: LocalNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REQUEST_TIMEOUT_S_MAX", 0.2)
    node.be_slow()
    assert wire.fail(PUT, pb.PutRequest(key=b"k"), timeout_s=9.0).text == "the time is up; it may still happen"


def test_a_full_ingress_buffer_is_an_answer(wire: Wire, node: LocalNode) -> None:
    node.ingress_max = 4
    node.be_slow()
    waiting = [wire.future(PUT, pb.PutRequest(key=bytes((number + 1,))), pb.PutResponse) for number in range(6)]
    finished = threading.Semaphore(0)
    for future in waiting:
        future.add_done_callback(lambda _: finished.release())
    # Two of the six do not fit; the four are carried out when the node goes on.
    assert finished.acquire(timeout=30)
    assert finished.acquire(timeout=30)
    full = [future for future in waiting if future.done()]
    assert [future.code().name for future in full] == ["RESOURCE_EXHAUSTED"] * 2
    assert len(full) == 2
    assert full[0].details() == "the ingress buffer is full (4 proposals)"
    node.be_normal()
    assert sum(future.exception() is None for future in waiting) == 4
    assert node.state.keys_count() == 4
