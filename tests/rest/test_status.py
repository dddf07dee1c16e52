"""What answers in every state of the node, health, administration, and the rules that hold for all requests."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from rocinante import limits
from rocinante.errors import ResourceExhausted
from rocinante.identity import format_id, server_id
from rocinante.ports import Member
from rocinante.rest import RestServer
from rocinante.rest.server import consensus_slots
from tests.rest.conftest import NO_TLS, Rest
from tests.support.local_node import LocalNode

NO_CONSENSUS = [
    "/v1/status",
    "/v1/leader",
    "/v1/role",
    "/v1/peers",
    "/v1/members",
    "/v1/size",
    "/v1/log",
    "/v1/committed",
]
STATES: dict[str, Callable[[LocalNode], None]] = {
    "normal": LocalNode.be_normal,
    "not_ready": LocalNode.be_not_ready,
    "without_leader": LocalNode.be_without_leader,
    "grpc_off": lambda node: node.set_grpc(False),
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("path", [*NO_CONSENSUS, "/livez", "/metrics", "/openapi.json"])
def test_what_needs_no_consensus_answers_in_every_state(rest: Rest, path: str, state: str) -> None:
    STATES[state](rest.node)
    assert rest.http.get(path).status_code == 200


@pytest.mark.parametrize(
    ("state", "status", "line"),
    [
        ("normal", 200, "[+]leader ok: node1 at 127.0.0.1:35001"),
        ("not_ready", 503, "[-]node failed: replaying the log"),
        ("without_leader", 503, "[-]leader failed: no leader is known"),
        ("grpc_off", 503, "[-]grpc failed: switched off"),
    ],
)
def test_readiness_in_lines(rest: Rest, state: str, status: int, line: str) -> None:
    STATES[state](rest.node)
    answer = rest.http.get("/readyz?verbose")
    assert answer.status_code == status
    assert line in answer.text.splitlines()
    assert answer.text.endswith("not ready\n" if status == 503 else "ready\n")


def test_without_a_leader_503_says_so_and_what_is_stale_is_still_read(rest: Rest) -> None:
    rest.json("PUT", "/v1/kv/k", content=b"1")
    rest.node.be_without_leader()
    assert "UNAVAILABLE no leader" in rest.error("PUT", "/v1/kv/k", 503, content=b"2")
    assert "UNAVAILABLE no leader" in rest.error("GET", "/v1/kv/k", 503)
    assert rest.json("GET", "/v1/kv/k?serializable")["value"] == "1"
    assert "rocinante-leader" not in rest.http.get("/v1/status").headers
    assert rest.json("GET", "/v1/leader")["leader"] is None


def test_503_names_the_leader_where_it_is_known(rest: Rest) -> None:
    rest.node.be_not_ready()
    answer = rest.http.get("/v1/kv/k")
    assert answer.status_code == 503
    assert answer.json()["error"]["leader"] == "127.0.0.1:35001"
    assert answer.headers["retry-after"] == "1"


def test_a_wait_that_is_too_long_ends_with_an_unknown_outcome(rest: Rest) -> None:
    rest.node.be_slow()
    headers = {"Rocinante-Timeout-Ms": "50"}
    assert "DEADLINE_EXCEEDED" in rest.error("PUT", "/v1/kv/k", 503, content=b"", headers=headers)


def test_a_full_buffer_is_429(rest: Rest) -> None:
    rest.node.be_refusing(ResourceExhausted("the ingress buffer is full"))
    assert "RESOURCE_EXHAUSTED the ingress" in rest.error("PUT", "/v1/kv/k", 429, content=b"")


def test_health_answers_while_all_others_wait_and_those_beyond_the_slots_get_429(rest: Rest) -> None:
    rest.node.be_slow()
    slots = consensus_slots(8)
    beyond = 12

    def put(_: int) -> int:
        headers = {"Rocinante-Timeout-Ms": "60000"}
        return httpx.put(
            f"{rest.http.base_url}/v1/kv/k", content=b"", headers=headers, timeout=90, verify=NO_TLS
        ).status_code

    with ThreadPoolExecutor(slots + beyond) as pool:
        writers = [pool.submit(put, number) for number in range(slots + beyond)]
        statuses = [rest.http.get("/livez", timeout=20).status_code for _ in range(10)]
        assert statuses == [200] * 10
        while sum(writer.done() for writer in writers) < beyond:  # those that found no slot
            assert rest.http.get("/v1/status", timeout=20).status_code == 200
        rest.node.be_normal()
        assert sorted(writer.result() for writer in writers) == [200] * slots + [429] * beyond


def test_status_and_its_parts(rest: Rest) -> None:
    rest.json("PUT", "/v1/kv/k", content=b"1")
    status = rest.json("GET", "/v1/status")
    own = format_id(server_id("127.0.0.1", 35001))
    assert (status["id"], status["role"], status["leader"], status["leader_endpoint"]) == (
        own,
        "leader",
        own,
        "127.0.0.1:35001",
    )
    assert (status["keys"], status["revision"], status["cluster"], status["datacenter"]) == (1, 2, "test", "dc1")
    assert rest.json("GET", "/v1/role") == {"role": "leader", "term": 2, "not_ready_reason": ""}
    assert rest.json("GET", "/v1/size")["quorum"] == 1
    log = rest.json("GET", "/v1/committed?last=1")
    assert [entry["commands"] for entry in log["entries"]] == [["kv_put"]]
    assert "last: must be between 1 and 1000" in rest.error("GET", "/v1/log?last=0", 400)


def test_transfer_to_a_member_by_name_endpoint_or_id(rest: Rest) -> None:
    second = Member(server_id("127.0.0.1", 35002), "node2", "127.0.0.1", 35002, 8002)
    rest.node.add_member(second, voter=True).result(30)
    for target in ("node2", "127.0.0.1:35001", format_id(second.id)):
        done = rest.json("POST", "/v1/admin/transfer", json={"to": target})
        assert target in {done["leader"], done["leader_name"], done["leader_endpoint"]}
    assert "to: 'node9' is not a member; there is node1, node2" in rest.error(
        "POST", "/v1/admin/transfer", 400, json={"to": "node9"}
    )


def test_switching_grpc_snapshot_and_stop(rest: Rest) -> None:
    assert rest.json("POST", "/v1/admin/grpc", 202, json={"enabled": False}) == {"enabled": False}
    assert rest.json("GET", "/v1/role")["role"] == "not_ready"
    rest.json("POST", "/v1/admin/grpc", 202, json={"enabled": True})
    assert rest.json("POST", "/v1/admin/snapshot", json={})["index"] == rest.node.state.position.index
    rest.json("POST", "/v1/admin/stop", 202, json={})
    assert rest.node.stopped.is_set()


@pytest.mark.parametrize(
    ("path", "more", "says"),
    [
        ("grpc", {"json": {}}, "enabled: is missing"),
        ("grpc", {"json": {"enabled": "no"}}, "enabled: must be true or false"),
        ("grpc", {"json": {"enabled": 1}}, "enabled: must be true or false"),
        ("grpc", {"json": []}, "body: must be a JSON object"),
        ("stop", {"json": {"now": True}}, "now: is not a field"),
        ("stop", {"content": b"{}"}, "content-type: must be application/json"),
        ("stop", {"data": {"a": "b"}}, "content-type: must be application/json"),
        ("transfer", {"json": {"to": 5}}, "to: must be a string"),
    ],
)
def test_an_administrative_request_that_is_wrong_does_nothing(rest: Rest, path: str, more: dict, says: str) -> None:
    assert says in rest.error("POST", f"/v1/admin/{path}", 400, **more)
    assert not rest.node.stopped.is_set()
    assert rest.node.status().grpc_enabled


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost", True),
        ("LOCALHOST:8001", True),
        ("127.0.0.1:8001", True),
        ("[::1]:8001", True),
        ("10.1.2.3", True),  # an address cannot be rebound
        ("rocinante.example", True),
        ("rocinante.example.:80", True),
        ("evil.example", False),
        ("evil.example:8001", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("", True),
    ],
)
def test_the_host_header_must_be_an_address_or_a_known_name(rest: Rest, host: str, allowed: bool) -> None:
    answer = rest.http.get("/v1/status", headers={"Host": host})
    assert answer.status_code == (200 if allowed else 400)
    if not allowed:
        assert answer.json()["error"]["message"].startswith("host: ")


@pytest.mark.parametrize("path", ["/", "/livez", "/v1/status", "/v1/nothing", "/nothing", "/v1/kv", "/js/main.js"])
def test_every_answer_has_the_protective_headers_and_no_cookie(rest: Rest, path: str) -> None:
    headers = rest.http.get(path).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["rocinante-leader"] == "127.0.0.1:35001"
    assert "set-cookie" not in headers
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    "path", ["/v1/nothing", "/nothing", "/v1", "/../etc/passwd", "/%2e%2e/pyproject.toml", "/js", "/.git"]
)
def test_an_unknown_path_is_404_in_json(rest: Rest, path: str) -> None:
    assert "NOT_FOUND there is nothing at" in rest.error("GET", path, 404)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/v1/status", "GET, HEAD"),
        ("PATCH", "/v1/kv/a", "DELETE, GET, HEAD, PUT"),
        ("GET", "/v1/admin/stop", "POST"),
        ("DELETE", "/js/main.js", "GET, HEAD"),
        ("OPTIONS", "/v1/flows", "DELETE, GET, HEAD, POST"),
    ],
)
def test_a_wrong_method_is_405_and_names_the_right_ones(rest: Rest, method: str, path: str, allow: str) -> None:
    answer = rest.http.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allow)
    assert answer.json()["error"]["code"] == "UNIMPLEMENTED"


@pytest.mark.parametrize("path", ["/", "/livez", "/v1/status", "/v1/kv", "/v1/events", "/metrics", "/js/main.js"])
def test_head_is_get_without_the_body(rest: Rest, path: str) -> None:
    answer = rest.http.head(path)
    assert (answer.status_code, answer.content) == (200, b"")


MALFORMED = [
    (b"NONSENSE\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nbad header\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nX: " + b"x" * limits.REST_HEADER_BYTES_MAX + b"\r\n\r\n", 400),
    (b"POST /v1/flows HTTP/1.1\r\nContent-Length: -5\r\n\r\n", 400),
    (b"POST /v1/flows HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
    (b"POST /v1/flows HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    (b"POST /v1/flows HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (limits.REST_BODY_BYTES_MAX + 1), 413),
    (b"POST /v1/admin/stop HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
]


@pytest.mark.parametrize(("data", "status"), MALFORMED)
def test_what_is_not_http_gets_an_error_in_json_and_harms_nobody(rest: Rest, data: bytes, status: int) -> None:
    with socket.create_connection(("127.0.0.1", rest.server.port), timeout=30) as connection:
        connection.sendall(data)
        answer = b""
        while more := connection.recv(65536):
            answer += more
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.%c %d" % (head[7], status))
    assert body.startswith(b'{"error": {"code": "INVALID_ARGUMENT"')
    assert rest.http.get("/livez").text == "ok\n"


def test_a_taken_port_is_one_line(rest: Rest) -> None:
    with pytest.raises(
        OSError, match=rf"REST cannot listen on 127\.0\.0\.1:{rest.server.port}: Address already in use"
    ):
        RestServer(rest.node, host="127.0.0.1", port=rest.server.port).start()


def test_threads_have_their_names_and_stop_leaves_none() -> None:
    def names() -> set[str]:
        return {thread.name for thread in threading.enumerate() if thread.name.startswith(("rest", "waitress"))}

    before = names()
    with LocalNode() as node:
        server = RestServer(node, host="127.0.0.1", port=0, threads=5)
        server.start()
        ours = names() - before
        assert ours == {"rest"} | {f"rest-{number}" for number in range(5 + limits.REST_EVENT_STREAMS_MAX)} - before
        assert httpx.get(f"http://127.0.0.1:{server.port}/livez", verify=NO_TLS).status_code == 200
        server.stop()
        server.stop()
        assert names() - before == set()
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{server.port}/livez", verify=NO_TLS)


def test_stop_lets_a_request_finish(rest: Rest) -> None:
    rest.node.be_slow()
    with ThreadPoolExecutor(2) as pool:
        accepted = rest.node.proposals
        put = pool.submit(rest.http.put, "/v1/kv/k", content=b"1")
        while rest.node.proposals == accepted:
            pass
        stopping = pool.submit(rest.server.stop)
        rest.node.be_normal()
        assert put.result().status_code == 200
        stopping.result()


def test_a_wwwroot_that_does_not_exist_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    own = tmp_path / "www"
    own.mkdir()
    (tmp_path / "secret").write_text("no")
    (own / "link").symlink_to(tmp_path / "secret")
    (own / ".hidden").write_text("no")
    with LocalNode() as node:
        for wwwroot, expected in ((own, b"<!doctype"), (tmp_path / "none", b"<!doctype")):
            server = RestServer(node, host="127.0.0.1", port=0, wwwroot=wwwroot)
            server.start()
            assert httpx.get(f"http://127.0.0.1:{server.port}/", verify=NO_TLS).content.startswith(expected)
            server.stop()
        assert len([record for record in caplog.records if "has no index.html" in record.message]) == 2
        (own / "index.html").write_text("mine")
        server = RestServer(node, host="127.0.0.1", port=0, wwwroot=own)
        server.start()
        base = f"http://127.0.0.1:{server.port}"
        assert httpx.get(base, verify=NO_TLS).text == "mine"
        assert [
            httpx.get(f"{base}/{name}", verify=NO_TLS).status_code
            for name in ("link", ".hidden", "..%2fsecret", "nul%00")
        ] == [404] * 4
        etag = httpx.get(base, verify=NO_TLS).headers["etag"]
        assert httpx.get(base, headers={"If-None-Match": etag}, verify=NO_TLS).status_code == 304
        server.stop()
