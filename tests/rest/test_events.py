"""Server-sent events."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx
import pytest

from rocinante import limits
from rocinante.rest import RestServer
from rocinante.rest.context import RestContext
from rocinante.rest.events import EventStream, Wanted
from rocinante.tokens import bearer
from tests.rest.conftest import NO_TLS, Rest
from tests.rest.test_flows import flow
from tests.support.keyrings import OLD, ChangesInBetween
from tests.support.local_node import LocalNode


class Event(NamedTuple):
    name: str
    data: dict[str, Any]
    id: str


@contextmanager
def events(rest: Rest, query: str = "", headers: dict[str, str] | None = None) -> Iterator[Iterator[Event]]:
    with rest.http.stream("GET", f"/v1/events?{query}", headers=headers or {}) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream"
        yield parse_events(answer.iter_lines())


def parse_events(lines: Iterator[str]) -> Iterator[Event]:
    fields: dict[str, str] = {}
    for line in lines:
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            assert name not in fields, "a field stands twice in one event"
            fields[name] = value
        elif not line:
            if "event" in fields:
                yield Event(fields["event"], json.loads(fields["data"]), fields.get("id", ""))
            fields = {}


def test_role_first_then_changes_with_their_index(rest: Rest) -> None:
    with events(rest) as stream:
        assert next(stream)[:2] == ("role", {"role": "leader", "term": 2, **leader_of(rest)})
        put = rest.http.put("/v1/kv/a%0Ab", content=b"1\n2")
        event = next(stream)
        assert (event.name, event.id) == ("kv", put.headers["rocinante-index"])
        assert (event.data["type"], event.data["key"], event.data["value"]) == ("put", "a\nb", "1\n2")
        rest.http.delete("/v1/kv/a%0Ab")
        assert next(stream).data["type"] == "delete"
        written = rest.json("POST", "/v1/flows", json=[flow(), flow(port=2)])
        event = next(stream)
        assert (event.name, event.id, event.data["records"]) == ("flow", str(written["index"]), 2)
        assert {item["source"]["port"] for item in event.data["flows"]} == {1000, 2}
        rest.http.delete(f"/v1/flows/{event.data['flows'][0]['id']}")
        assert next(stream).data["ids"] == [event.data["flows"][0]["id"]]
        rest.node.be_without_leader()
        assert next(stream)[:2] == ("role", {"role": "follower", "term": 2} | dict.fromkeys(leader_of(rest)))


def leader_of(rest: Rest) -> dict[str, Any]:
    status = rest.json("GET", "/v1/status")
    return {name: status[name] for name in ("leader", "leader_name", "leader_endpoint", "leader_rest")}


def test_a_stream_is_resumed_behind_the_last_id(rest: Rest) -> None:
    indexes = [rest.http.put(f"/v1/kv/{name}", content=b"").headers["rocinante-index"] for name in "abcd"]
    for query, headers in (("types=kv", {"Last-Event-ID": indexes[1]}), (f"types=kv&from_index={indexes[1]}", {})):
        with events(rest, query, headers) as stream:
            assert [next(stream).data["key"] for _ in range(2)] == ["c", "d"]


def test_a_large_batch_comes_in_parts_and_only_the_last_has_the_id(rest: Rest) -> None:
    count = limits.REST_EVENT_FLOWS_MAX + 10
    with events(rest, "types=flow") as stream:
        rest.json("POST", "/v1/flows", json=[flow(port=port) for port in range(1, count + 1)])
        first, second = next(stream), next(stream)
    assert [len(part.data["flows"]) for part in (first, second)] == [limits.REST_EVENT_FLOWS_MAX, 10]
    assert first.id == ""
    assert second.id


def test_prefix_summary_and_status(rest: Rest) -> None:
    with events(rest, "types=kv,flow,status&prefix=a/&flows=summary") as stream:
        rest.http.put("/v1/kv/b", content=b"")
        rest.json("POST", "/v1/flows", json=[flow(), flow(port=2)])
        rest.http.put("/v1/kv/a/1", content=b"")
        seen: list[Event] = []
        while not seen or seen[-1].name != "kv":
            seen.append(next(stream))
        assert [event.data["key"] for event in seen if event.name == "kv"] == ["a/1"]
        (written,) = (event.data for event in seen if event.name == "flow")
        assert written == {"type": "put", "origin": "dc1", "records": 2, "index": written["index"]}
        status = next(stream)
        while status.name != "status" or not status.data["counts"]["flow_updates"]:
            status = next(stream)
        assert status.data["counts"] == {"entries": 3, "kv_events": 2, "flow_updates": 2}
        assert status.data["status"]["keys"] == 2


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("types=kv,foo", "types: has 'foo'"),
        ("flows=some", "flows: is one of full, summary"),
        ("from_index=x", "from_index: must be"),
        ("from=1", "from: is not a parameter"),
    ],
)
def test_a_bad_request_is_named(rest: Rest, query: str, says: str) -> None:
    assert says in rest.error("GET", f"/v1/events?{query}", 400)


def test_what_is_no_longer_kept_is_said_with_the_index_to_go_on_from(rest: Rest) -> None:
    with events(rest, "types=kv", {"Last-Event-ID": "999999"}) as stream:
        (event,) = stream
    assert event.name == "fell-behind"
    assert event.id == str(event.data["index"]) == str(rest.node.status().applied)


def test_a_reader_that_is_too_slow_is_told_so() -> None:
    with LocalNode(watch_events_max=4) as node:
        server = RestServer(node, host="127.0.0.1", port=0, threads=8)
        server.start()
        with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=30, verify=NO_TLS) as http:
            rest = Rest(node, server, http)
            stream = EventStream(RestContext(node, consensus_slots=1), Wanted(frozenset({"kv"})), lambda: True)
            next(stream)
            for number in range(6):
                rest.http.put("/v1/kv/k", content=str(number).encode())
            (answer,) = list(stream)
            stream.close()
        server.stop()
    assert b"event: fell-behind" in answer
    assert b"the watcher fell behind" in answer


def test_a_stream_whose_token_is_taken_away_while_it_begins_is_refused() -> None:
    keyring = ChangesInBetween()
    with LocalNode() as node:
        server = RestServer(node, host="127.0.0.1", port=0, threads=8, keyring=keyring)
        server.start()
        answer = httpx.get(f"http://127.0.0.1:{server.port}/v1/events", headers=bearer(OLD), timeout=30)
        server.stop()
        assert answer.status_code == 401
        assert keyring.asked == 2
        assert node.watchers == 0


def test_streams_are_bounded_given_back_and_leave_the_requests_their_threads(rest: Rest) -> None:
    with httpx.Client(
        base_url=rest.http.base_url, timeout=30, verify=NO_TLS, limits=httpx.Limits(max_connections=100)
    ) as http:
        streams = [http.stream("GET", "/v1/events?types=role") for _ in range(limits.REST_EVENT_STREAMS_MAX)]
        for stream in streams:
            assert stream.__enter__().status_code == 200
        assert "RESOURCE_EXHAUSTED" in rest.error("GET", "/v1/events", 429)
        assert rest.http.get("/livez").status_code == 200
        rest.json("PUT", "/v1/kv/k", content=b"1")
        assert f"rocinante_rest_event_streams {limits.REST_EVENT_STREAMS_MAX}.0" in rest.http.get("/metrics").text
        for stream in streams:
            stream.__exit__(None, None, None)
    _until(lambda: rest.node.watchers == 0)
    with events(rest) as again:
        next(again)


def test_stop_ends_the_streams(rest: Rest) -> None:
    with events(rest) as stream:
        next(stream)
        rest.server.stop()
        assert list(stream) == []
    assert rest.node.watchers == 0


def _until(condition: Callable[[], bool]) -> None:
    """The condition comes true soon (the test's own timeout is the limit)."""
    while not condition():
        pass


def test_a_node_that_is_not_ready_streams_its_role_and_status_and_counts_once_it_is(rest: Rest) -> None:
    rest.node.be_not_ready("replaying the log")
    assert "not ready: replaying the log" in rest.error("GET", "/v1/events?types=kv,status", 503)
    with events(rest, "types=role,status") as stream:
        assert next(stream).data["role"] == "not_ready"
        assert next(stream).data["status"]["not_ready_reason"] == "replaying the log"
        rest.node.be_normal()
        assert next(event for event in stream if event.name == "role").data["role"] == "leader"
        next(stream)  # by then changes are watched again
        rest.http.put("/v1/kv/a", content=b"1")
        assert next(event for event in stream if event.name == "status" and event.data["counts"]["kv_events"])


def test_flows_are_filtered_as_in_a_list(rest: Rest) -> None:
    query = "types=flow&address=192.0.2.0/30&state=ESTABLISHED&origin=dc1"
    with events(rest, query) as stream:
        there = flow("192.0.2.1", tcp_state="ESTABLISHED")
        others = [flow("192.0.2.9", tcp_state="ESTABLISHED"), flow("192.0.2.2"), flow("2001:db8::1")]
        rest.json("POST", "/v1/flows", json=others)
        rest.json("POST", "/v1/flows?origin=dc2", json=[there])
        rest.json("POST", "/v1/flows", json=[*others, there])
        event = next(stream)
        assert [(item["source"]["address"], item["origin"]) for item in event.data["flows"]] == [("192.0.2.1", "dc1")]
        rest.json("DELETE", "/v1/flows?all")
        gone = next(stream)
        assert (gone.data["type"], gone.data["records"]) == ("delete", 2), "the state of what went is not known"
    assert "address" in rest.error("GET", "/v1/events?address=x", 400)
