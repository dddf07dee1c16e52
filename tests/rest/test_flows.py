"""Flows over HTTP."""

from __future__ import annotations

import time
from http.client import HTTPConnection
from typing import Any

import pytest

from rocinante import limits
from rocinante.flows import FlowRecord, FlowTuple, encode_batch
from tests.rest.conftest import Rest


def flow(source: str = "192.0.2.1", port: int = 1000, **more: Any) -> dict[str, Any]:
    destination = {"address": "2001:db8::1" if ":" in source else "198.51.100.7", "port": 443}
    return {"protocol": "tcp", "source": {"address": source, "port": port}, "destination": destination} | more


FULL = flow(
    zone=7,
    tcp_state="ESTABLISHED",
    flags=["SEEN_REPLY", "NAT_DST"],
    mark=5,
    updated_ms=1_700_000_000_000,
    deadline_ms=4_000_000_000_000,
    reply={"source": {"address": "10.0.0.5", "port": 8443}, "destination": {"address": "192.0.2.1", "port": 1000}},
    backend={"address": "10.0.0.5", "port": 8443},
    backend_name="blue <b>&",
    packets_original=1,
    bytes_original=2**63,
    packets_reply=3,
    bytes_reply=4,
    application_data="AAEC",
)


def test_what_is_written_is_read_back_and_can_be_written_again(rest: Rest) -> None:
    assert rest.json("POST", "/v1/flows", json=[FULL])["records"] == 1
    (found,) = rest.json("GET", "/v1/flows")["flows"]
    assert {name: found[name] for name in FULL} == FULL
    assert found["origin"] == "dc1"
    assert rest.json("GET", f"/v1/flows/{found['id']}") == found
    rest.json("POST", "/v1/flows", json=[found])
    assert rest.json("GET", "/v1/flows")["flows"] == [found]
    assert rest.json("DELETE", f"/v1/flows/{found['id']}")["deleted"] == 1
    assert rest.json("DELETE", f"/v1/flows/{found['id']}")["deleted"] == 0
    assert "NOT_FOUND" in rest.error("GET", f"/v1/flows/{found['id']}", 404)


def test_kinds_may_be_mixed_and_are_one_command(rest: Rest) -> None:
    before = rest.node.proposals
    flows = [flow(), flow("2001:db8::5"), flow(port=2000, backend_name="web"), flow(port=3000, protocol=47)]
    assert rest.json("POST", "/v1/flows", json=flows)["records"] == 4
    assert rest.node.proposals == before + 1
    found = rest.json("GET", "/v1/flows")["flows"]
    assert {(item["protocol"], item["source"]["address"], item.get("backend_name", "")) for item in found} == {
        ("tcp", "192.0.2.1", ""),
        ("tcp", "2001:db8::5", ""),
        ("tcp", "192.0.2.1", "web"),
        ("gre", "192.0.2.1", ""),
    }


def test_an_encoded_batch_is_taken_as_it_is(rest: Rest) -> None:
    record = FlowRecord(FlowTuple.from_text("udp", "10.0.0.1:53", "10.0.0.2:5353"))
    headers = {"Content-Type": "application/octet-stream"}
    (batch,) = encode_batch([record])
    assert rest.json("POST", "/v1/flows", content=batch, headers=headers)["records"] == 1
    assert rest.json("GET", "/v1/flows")["flows"][0]["protocol"] == "udp"
    assert "batch" in rest.error("POST", "/v1/flows", 400, content=batch[:-1], headers=headers)
    broken = batch[:12] + b"\0\0\x09" + batch[15:]
    assert "records[0].key" in rest.error("POST", "/v1/flows", 400, content=broken, headers=headers)


def test_an_origin_of_its_own(rest: Rest) -> None:
    rest.json("POST", "/v1/flows?origin=dc2", json=[flow(mark=2, updated_ms=2)])
    rest.json("POST", "/v1/flows", json=[flow(mark=1, updated_ms=1)])
    (newest,) = {item["id"] for item in rest.json("GET", "/v1/flows")["flows"]}
    assert rest.json("GET", f"/v1/flows/{newest}")["mark"] == 2
    assert rest.json("GET", f"/v1/flows/{newest}?origin=dc1")["mark"] == 1
    assert rest.json("DELETE", f"/v1/flows/{newest}?origin=dc2")["deleted"] == 1
    assert rest.json("GET", f"/v1/flows/{newest}")["mark"] == 1


TABLE = [
    flow("10.0.0.1", 1, tcp_state="ESTABLISHED", backend={"address": "10.9.0.1", "port": 80}),
    flow("10.0.0.2", 2, tcp_state="SYN_SENT", zone=3),
    flow("10.0.1.3", 3, protocol="udp"),
    flow("2001:db8::4", 4, tcp_state="ESTABLISHED", backend_name="blue"),
]
FILTERS = [
    ("", {1, 2, 3, 4}),
    ("address=10.0.0.0/24", {1, 2}),
    ("address=10.0.0.1,2001:db8::/32", {1, 4}),
    ("address=10.0.0.1&address=10.0.1.3", {1, 3}),
    ("port=2", {2}),
    ("port=443&protocol=udp", {3}),
    ("protocol=17", {3}),
    ("state=established", {1, 4}),
    ("state=SYN_SENT,established&zone=3", {2}),
    ("backend=10.9.0.1", {1}),
    ("backend=10.9.0.1:81", set()),
    ("backend=blue", {4}),
    ("origin=dc2", set()),
    ("consistency=stale&port=1", {1}),
]


@pytest.mark.parametrize(("query", "ports"), FILTERS, ids=[f[0] or "all" for f in FILTERS])
def test_filters(rest: Rest, query: str, ports: set[int]) -> None:
    rest.json("POST", "/v1/flows", json=TABLE)
    answer = rest.json("GET", f"/v1/flows?{query}")
    assert {item["source"]["port"] for item in answer["flows"]} == ports
    assert (answer["total"], answer["cursor"]) == (4, "")


def test_a_long_list_is_paged(rest: Rest) -> None:
    rest.json("POST", "/v1/flows", json=[flow(port=port) for port in range(1, 251)])
    seen, cursor = [], ""
    while True:
        page = rest.json("GET", "/v1/flows", params={"limit": 100, "cursor": cursor})
        assert len(page["flows"]) <= 100
        seen += [item["source"]["port"] for item in page["flows"]]
        cursor = page["cursor"]
        if not cursor:
            break
    assert sorted(seen) == list(range(1, 251))


def test_what_is_past_its_deadline_is_hidden(rest: Rest) -> None:
    now_ms = int(time.time() * 1000)
    rest.json(
        "POST", "/v1/flows", json=[flow(port=1, deadline_ms=now_ms - 1), flow(port=2, deadline_ms=now_ms + 60_000)]
    )
    assert [item["source"]["port"] for item in rest.json("GET", "/v1/flows")["flows"]] == [2]


def test_a_batch_in_a_session_is_counted_once(rest: Rest) -> None:
    session = rest.json("POST", "/v1/sessions", 201, json={})["session"]
    headers = {"Rocinante-Session": session, "Rocinante-Seq": "1"}
    first = rest.json("POST", "/v1/flows", json=[flow()], headers=headers)
    assert rest.json("POST", "/v1/flows", json=[flow()], headers=headers)["records"] == first["records"] == 1


JSON_HEADERS = {"Content-Type": "application/json"}
BAD = [
    ({"json": {}}, "body: must be a list of flows"),
    ({"json": []}, "body: is an empty list"),
    ({"json": [1]}, "flows[0]: must be an object"),
    ({"content": b"[", "headers": JSON_HEADERS}, "body: is not JSON"),
    ({"content": b"[" * 100_000, "headers": JSON_HEADERS}, "body: is not JSON"),
    ({"content": b"[NaN]", "headers": JSON_HEADERS}, "body: is not JSON: NaN"),
    ({"content": b"[]", "headers": {"Content-Type": "text/plain"}}, "content-type: must be application/json"),
    ({"content": b"[]"}, "content-type: must be application/json, not 'absent'"),
    ({"json": [flow(), flow(port=70_000)]}, "flows[1].source.port: 70000 is not in 0 to 65535"),
    ({"json": [flow(port=True)]}, "flows[0].source.port: must be a whole number"),
    ({"json": [flow("192.0.2.300")]}, "flows[0].source.address"),
    ({"json": [flow(protocol="tpc")]}, "flows[0].protocol"),
    ({"json": [flow(protocol=None)]}, "flows[0].protocol: is missing"),
    ({"json": [flow(tcp_state="OPEN")]}, "flows[0].tcp_state: must be one of NONE"),
    ({"json": [flow(flags=["HAS_REPLY"])]}, "flows[0].flags: has 'HAS_REPLY'"),
    ({"json": [flow(mark=2**32)]}, "flows[0].mark"),
    ({"json": [flow(bytes_reply=-1)]}, "flows[0].bytes_reply"),
    ({"json": [flow(colour="red")]}, "flows[0].colour: is not a field of a flow"),
    ({"json": [flow(destination={"address": "::1"})]}, "flows[0].destination.address"),
    ({"json": [flow(application_data="!")]}, "flows[0].application_data: is not base64"),
    ({"json": [flow(application_data="A" * 1400)]}, "flows[0].application_data: is longer than 1024 bytes"),
    ({"json": [flow(backend_name="x" * 256)]}, "flows[0].backend_name"),
    ({"json": [flow(reply=5)]}, "flows[0].reply: must be an object"),
    ({"json": [flow(reply={"source": {"address": "10.0.0.5"}})]}, "flows[0].reply.destination: is missing"),
]


@pytest.mark.parametrize(("request_", "says"), BAD, ids=[b[1][:50] for b in BAD])
def test_a_bad_flow_is_named_and_nothing_is_written(rest: Rest, request_: dict[str, Any], says: str) -> None:
    assert says in rest.error("POST", "/v1/flows", 400, **request_)
    assert rest.node.state.flows_count() == 0


BAD_QUERIES = [
    ("/v1/flows?limit=0", "limit: must be between 1"),
    ("/v1/flows?cursor=x", "cursor"),
    ("/v1/flows?address=10.0.0.300", "address"),
    ("/v1/flows?port=66000", "port"),
    ("/v1/flows?state=open", "state"),
    ("/v1/flows?zone=x", "zone"),
    ("/v1/flows?colour=red", "colour: is not a parameter"),
    ("/v1/flows?consistency=maybe", "consistency: is one of linearizable, stale"),
    ("/v1/flows/xyz", "id: must be hex digits"),
    ("/v1/flows/00", "id: is not a flow's key"),
]


@pytest.mark.parametrize(("path", "says"), BAD_QUERIES)
def test_a_bad_query_is_named(rest: Rest, path: str, says: str) -> None:
    assert says in rest.error("GET", path, 400)


def test_a_body_that_is_too_large_is_refused(rest: Rest) -> None:
    body = b" " * (limits.REST_BODY_BYTES_MAX + 1)
    assert "body: is larger than" in rest.error("POST", "/v1/flows", 413, headers=JSON_HEADERS, content=body)


def test_one_who_sends_all_before_reading_sees_the_refusal_too(rest: Rest) -> None:
    connection = HTTPConnection("127.0.0.1", rest.server.port, timeout=30)
    connection.request("POST", "/v1/flows", body=b" " * (limits.REST_BODY_BYTES_MAX * 4), headers=JSON_HEADERS)
    answer = connection.getresponse()
    assert (answer.status, b"body: is larger than" in answer.read()) == (413, True)
    connection.close()
