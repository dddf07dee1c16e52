"""Keys and values over HTTP."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest

from rocinante import limits
from tests.rest.conftest import Rest

KEYS = [
    b"a",
    b"services/web/1",
    b"/leading//double/",
    b"with space+plus?query#hash%percent",
    b"line\nend\n",
    "ñandú/日本".encode(),
    b"\xff\xfe\x00 not text",
    b"..",
    b"v1/kv/livez",
    b"x" * limits.KEY_BYTES_MAX,
]


def path_of(key: bytes) -> str:
    return "/v1/kv/" + quote(key, safe="").replace(".", "%2E")


@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_any_key_can_be_put_read_and_deleted(rest: Rest, key: bytes) -> None:
    path = path_of(key)
    if key == b"..":
        path = "/v1/kv/%2E%2E"
    put = rest.json("PUT", path, content=b"one")
    found = rest.json("GET", path)
    shown = base64.b64decode(found["key"]) if found["key_encoding"] == "base64" else found["key"].encode()
    assert shown == key
    assert (found["value"], found["mod_revision"], found["version"]) == ("one", put["revision"], 1)
    assert rest.json("DELETE", path)["deleted"] == 1
    assert rest.json("DELETE", path)["deleted"] == 0
    assert "NOT_FOUND there is no key" in rest.error("GET", path, 404)


@pytest.mark.parametrize("value", [b"", b"text", "ñ".encode(), bytes(range(256)), b"v" * limits.VALUE_BYTES_MAX])
def test_a_value_comes_back_as_it_was(rest: Rest, value: bytes) -> None:
    rest.json("PUT", "/v1/kv/k", content=value)
    assert rest.http.get("/v1/kv/k?raw").content == value
    found = rest.json("GET", "/v1/kv/k")
    shown = base64.b64decode(found["value"]) if found["value_encoding"] == "base64" else found["value"].encode()
    assert shown == value


def test_a_chunked_body_is_a_value_too(rest: Rest) -> None:
    rest.json("PUT", "/v1/kv/k", content=iter([b"one ", b"two"]))
    assert rest.http.get("/v1/kv/k?raw").content == b"one two"


def test_older_revisions_can_be_read_until_they_are_compacted(rest: Rest) -> None:
    first = rest.json("PUT", "/v1/kv/k", content=b"1")["revision"]
    rest.json("PUT", "/v1/kv/k", content=b"2")
    assert rest.json("GET", f"/v1/kv/k?revision={first}")["value"] == "1"
    assert rest.json("GET", "/v1/kv/k?serializable")["value"] == "2"
    assert "OUT_OF_RANGE" in rest.error("GET", "/v1/kv/k?revision=99", 400)


def test_conditional_writes_find_what_changed_meanwhile(rest: Rest) -> None:
    absent, anything = {"If-None-Match": "*"}, {"If-Match": "*"}
    assert "FAILED_PRECONDITION" in rest.error("PUT", "/v1/kv/k", 409, content=b"0", headers=anything)
    put = rest.http.put("/v1/kv/k", content=b"1", headers=absent)
    assert "FAILED_PRECONDITION" in rest.error("PUT", "/v1/kv/k", 409, content=b"x", headers=absent)
    etag = rest.http.get("/v1/kv/k").headers["etag"]
    assert etag == put.headers["etag"]
    rest.json("PUT", "/v1/kv/k", content=b"2", headers={"If-Match": etag})
    assert "FAILED_PRECONDITION" in rest.error("PUT", "/v1/kv/k", 409, content=b"3", headers={"If-Match": etag})
    assert "FAILED_PRECONDITION" in rest.error("DELETE", "/v1/kv/k", 409, headers={"If-Match": etag})
    assert rest.json("GET", "/v1/kv/k")["value"] == "2"
    assert rest.json("DELETE", "/v1/kv/k", headers=anything)["deleted"] == 1


def test_a_list_is_paged_in_order_and_keeps_to_its_prefix(rest: Rest) -> None:
    names = [f"p/{number:02}" for number in range(25)]
    for name in [*names, "o", "p", "q", "p0"]:
        rest.json("PUT", f"/v1/kv/{name}", content=name.encode())
    seen, cursor, pages = [], "", 0
    while True:
        page = rest.json("GET", "/v1/kv", params={"prefix": "p/", "limit": 10, "cursor": cursor})
        seen += [key["key"] for key in page["keys"]]
        cursor, pages = page["cursor"], pages + 1
        assert page["remaining"] == 25 - len(seen)
        if not cursor:
            break
    assert (seen, pages) == (names, 3)
    everything = rest.json("GET", "/v1/kv?keys_only")
    assert len(everything["keys"]) == 29
    assert "value" not in everything["keys"][0]


def test_a_write_in_a_session_applies_once(rest: Rest) -> None:
    session = rest.json("POST", "/v1/sessions", 201, json={})["session"]
    headers = {"Rocinante-Session": session, "Rocinante-Seq": "1"}
    first = rest.json("PUT", "/v1/kv/k", content=b"1", headers=headers)
    rest.json("PUT", "/v1/kv/k", content=b"2")
    assert rest.json("PUT", "/v1/kv/k", content=b"1", headers=headers) == first
    found = rest.json("GET", "/v1/kv/k")
    assert (found["value"], found["version"]) == ("2", 2)
    rest.json("DELETE", f"/v1/sessions/{session}")
    answer = rest.error("PUT", "/v1/kv/k", 409, content=b"3", headers=headers | {"Rocinante-Seq": "2"})
    assert "ABORTED" in answer


BAD = [
    # method, path, more, status, what the message names
    ("GET", "/v1/kv/", {}, 400, "key: is missing"),
    ("PUT", "/v1/kv/" + "x" * 1025, {"content": b""}, 400, "key"),
    ("GET", "/v1/kv?limit=0", {}, 400, "limit: must be between 1 and 10000, not 0"),
    ("GET", "/v1/kv?limit=ten", {}, 400, "limit: must be a whole number"),
    ("GET", "/v1/kv?limit=1&limit=2", {}, 400, "limit: is given more than once"),
    ("GET", "/v1/kv?limt=1", {}, 400, "limt: is not a parameter"),
    ("GET", "/v1/kv?cursor=%21", {}, 400, "cursor: is not one"),
    ("GET", "/v1/kv?prefix=b&cursor=YQ", {}, 400, "cursor: is of a list with another prefix"),
    ("GET", "/v1/kv?prefix=%ff", {}, 400, "query: is not UTF-8"),
    ("GET", "/v1/kv/k?raw=perhaps", {}, 400, "raw: is true or false"),
    ("GET", "/v1/kv/k?revision=-1", {}, 400, "revision: must be a whole number"),
    ("PUT", "/v1/kv/k", {"content": b"v" * (limits.VALUE_BYTES_MAX + 1)}, 413, "body: is larger than 524288 bytes"),
    ("PUT", "/v1/kv/k", {"content": iter([b"v" * limits.VALUE_BYTES_MAX, b"v" * 99])}, 413, "body: is larger than"),
    ("PUT", "/v1/kv/k", {"headers": {"If-Match": "x"}}, 400, "if-match: must be a whole number"),
    ("PUT", "/v1/kv/k", {"headers": {"If-None-Match": "5"}}, 400, "if-none-match: must be *"),
    ("PUT", "/v1/kv/k", {"headers": {"If-Match": ""}}, 400, "if-match: is given and empty"),
    ("DELETE", "/v1/kv/k", {"headers": {"If-None-Match": ""}}, 400, "if-none-match: is given and empty"),
    ("PUT", "/v1/kv/k", {"headers": {"Rocinante-Session": ""}}, 400, "rocinante-session: is given and empty"),
    ("GET", "/v1/kv/k", {"headers": {"Rocinante-Timeout-Ms": ""}}, 400, "rocinante-timeout-ms: is given and empty"),
    ("PUT", "/v1/kv/k", {"headers": {"Rocinante-Seq": "1"}}, 400, "Rocinante-Session: is missing"),
    ("PUT", "/v1/kv/k", {"headers": {"Rocinante-Session": "5"}}, 400, "Rocinante-Seq: is missing"),
    ("PUT", "/v1/kv/k", {"headers": {"Rocinante-Session": "0x5", "Rocinante-Seq": "1"}}, 400, "Rocinante-Session"),
    ("PUT", "/v1/kv/k", {"headers": {"Rocinante-Session": "5", "Rocinante-Seq": "0"}}, 400, "Rocinante-Seq"),
    (
        "PUT",
        "/v1/kv/k",
        {"headers": {"Rocinante-Session": "5", "Rocinante-Seq": "1", "Rocinante-Ack": "2"}},
        400,
        "Rocinante-Ack",
    ),
    ("GET", "/v1/kv/k", {"headers": {"Rocinante-Timeout-Ms": "0"}}, 400, "Rocinante-Timeout-Ms: must be between"),
    ("POST", "/v1/kv/k", {}, 405, "POST is not a method of /v1/kv/k"),
    ("DELETE", "/v1/kv", {}, 405, "DELETE is not a method"),
]


@pytest.mark.parametrize(
    ("method", "path", "more", "status", "says"), BAD, ids=[f"{b[0]} {b[1][:40]} {b[4]}" for b in BAD]
)
def test_bad_input_is_named_and_changes_nothing(
    rest: Rest, method: str, path: str, more: dict, status: int, says: str
) -> None:
    before = rest.node.state.revision, rest.node.state.position
    assert says in rest.error(method, path, status, **more)
    assert (rest.node.state.revision, rest.node.state.position) == before
    assert rest.http.get("/livez").text == "ok\n"
