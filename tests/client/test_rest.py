"""`RestClient` against a real REST server."""

from __future__ import annotations

import pytest

from rocinante.client import Client, FlowSelection, KeyValue, RestClient
from rocinante.client.rest_transport import classify_answer
from rocinante.client.retry import Next
from rocinante.errors import InvalidArgument, OutcomeUnknown, OutOfRange, ResourceExhausted, Unavailable
from rocinante.flows import encode_batch
from tests.client.serving import HOST, WHILE_S, Cluster
from tests.client.test_flows import FULL, same, tcp
from tests.client.test_kv import HARD_KEYS
from tests.support.ports import free_port


@pytest.mark.parametrize("key", [*HARD_KEYS, b".", b"..", b"a/../b", b"?x=1&y", b"#", b"%41"])
def test_keys_and_values_are_bytes(rest: RestClient, rest_cluster: Cluster, key: bytes) -> None:
    content = bytes(range(256))
    revision = rest.kv.put(key, content).revision
    assert rest.kv.get(key) == KeyValue(key, content, revision, revision, 1)
    with Client(rest_cluster.endpoints[0]) as grpc:
        assert grpc.kv.get(key) == rest.kv.get(key), "both see the same"
    assert rest.kv.delete(key).deleted == 1
    assert rest.kv.get(key) is None


def test_prefix_by_pages_at_one_revision(rest: RestClient) -> None:
    for number in range(7):
        rest.kv.put(f"p/{number}", str(number))
    items = rest.kv.prefix("p/", page=2)
    first = next(items)
    rest.kv.put("p/3", "changed meanwhile")
    assert [first.value, *(item.value for item in items)] == [b"%d" % number for number in range(7)]
    assert len(list(rest.kv.prefix(keys_only=True))) == 7


def test_flows(rest: RestClient) -> None:
    records = [*(tcp(number) for number in range(25)), FULL]
    assert rest.flows.put(records).records == 26
    (batch,) = encode_batch([tcp(99)])
    assert rest.flows.put(batch).records == 1
    assert same(rest.flows.get([FULL])[0].record, FULL)
    assert rest.flows.get([tcp(1), tcp(77)], stale=True)[1] is None
    assert len(list(rest.flows.list(page=10))) == 27
    for selection, count in [
        (FlowSelection(port=[40003, 40004]), 2),
        (FlowSelection(address=["2001:db8::/32"], protocol=["udp"]), 1),
        (FlowSelection(tcp_state=["ESTABLISHED"], zone=0, origin="dc1"), 26),
        (FlowSelection(backend="web-1"), 1),
    ]:
        assert len(list(rest.flows.list(selection))) == count, selection
    assert rest.flows.delete([tcp(1), tcp(77)]).deleted == 1


def test_status_and_members(rest: RestClient, rest_cluster: Cluster) -> None:
    assert rest.status()["cluster"] == "test"
    members = rest.members()
    assert [member.rest for member in members.members] == rest_cluster.rest_ports
    assert sorted(rest.endpoints) == sorted(rest_cluster.urls)
    rest_cluster.lead(1)
    rest.kv.put("a", "1")
    rest.kv.put("a", "2")
    assert rest.leader == rest_cluster.urls[1]


def test_another_node_is_asked_when_one_is_gone(rest: RestClient, rest_cluster: Cluster) -> None:
    rest.kv.put("a", "1")
    rest_cluster.rest.pop(0).stop()
    assert rest.kv.put("a", "2").revision == 3
    assert rest.kv.get("a").version == 2


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda rest: rest.kv.put("", "v"), InvalidArgument, "key"),
        (lambda rest: rest.kv.put("k" * 2000, "v"), InvalidArgument, "key"),
        (lambda rest: rest.kv.put("k", b"v" * 600_000), InvalidArgument, "body: is larger"),
        (lambda rest: rest.kv.get("k", revision=99), OutOfRange, "future"),
        (lambda rest: rest.flows.get(["zz"]), InvalidArgument, "flow id"),
        (lambda rest: RestClient("127.0.0.1:8001"), InvalidArgument, "base_urls"),
        (lambda rest: RestClient(""), InvalidArgument, "base_urls"),
    ],
)
def test_wrong_use(rest: RestClient, call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(rest)


def test_a_cluster_that_cannot(rest: RestClient, rest_cluster: Cluster) -> None:
    rest.kv.put("a", "1")
    rest_cluster.node.be_without_leader()
    with pytest.raises(Unavailable, match="no leader"):
        rest.kv.put("a", "2", timeout_s=WHILE_S)
    rest_cluster.node.be_normal()
    rest_cluster.node.be_refusing(ResourceExhausted("the ingress buffer is full"))
    with pytest.raises(ResourceExhausted, match="buffer"):
        rest.kv.put("a", "2", timeout_s=WHILE_S)
    rest_cluster.node.be_normal()
    rest_cluster.node.be_slow()
    with pytest.raises(OutcomeUnknown, match="may or may not"):
        rest.kv.put("b", "1", timeout_s=WHILE_S)
    rest_cluster.node.be_normal()
    assert rest.kv.get("a").version == 1


def test_nobody_there() -> None:
    with RestClient(f"http://{HOST}:{free_port()}", timeout_s=1.5) as client:
        with pytest.raises(Unavailable, match="connection refused"):
            client.kv.put("a", "1")
        with pytest.raises(Unavailable, match="connection refused"):
            client.status()


def test_closing_ends_the_session_on_the_cluster(rest_cluster: Cluster) -> None:
    before = rest_cluster.node.state_machine.sessions_count()
    with RestClient(rest_cluster.urls) as client:
        client.kv.put("a", "1")
        assert rest_cluster.node.state_machine.sessions_count() == before + 1
    assert rest_cluster.node.state_machine.sessions_count() == before
    with pytest.raises(Unavailable, match="closed"):
        client.kv.put("a", "1")


@pytest.mark.parametrize(
    ("status", "body", "error", "then", "unknown"),
    [
        (400, b'{"error":{"code":"INVALID_ARGUMENT","message":"m"}}', "InvalidArgument", Next.STOP, False),
        (400, b'{"error":{"code":"OUT_OF_RANGE","message":"m"}}', "OutOfRange", Next.STOP, False),
        (409, b'{"error":{"code":"ABORTED","message":"m"}}', "SessionExpired", Next.REOPEN, False),
        (429, b'{"error":{"code":"RESOURCE_EXHAUSTED","message":"m"}}', "ResourceExhausted", Next.LATER, False),
        (503, b'{"error":{"code":"UNAVAILABLE","message":"m"}}', "Unavailable", Next.ELSEWHERE, False),
        (503, b'{"error":{"code":"DEADLINE_EXCEEDED","message":"m"}}', "OutcomeUnknown", Next.ELSEWHERE, True),
        (500, b'{"error":{"code":"INTERNAL","message":"m"}}', "Internal", Next.STOP, True),
        (503, b"<h1>Service Unavailable</h1>", "Unavailable", Next.ELSEWHERE, True),
        (404, b"<h1>nginx</h1>", "FailedPrecondition", Next.STOP, False),
        (500, b'{"error":"?"}', "Unavailable", Next.ELSEWHERE, True),
    ],
)
def test_what_an_answer_means(status: int, body: bytes, error: str, then: Next, unknown: bool) -> None:
    failed = classify_answer(status, body)
    assert (type(failed.error).__name__, failed.then, failed.unknown) == (error, then, unknown)
