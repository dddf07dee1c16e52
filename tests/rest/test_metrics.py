"""`/metrics`, as Prometheus reads it."""

from __future__ import annotations

import subprocess

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from rocinante.identity import server_id
from rocinante.ports import Member
from rocinante.rest import RestServer
from rocinante.rest.metrics import parse_sample
from tests.rest.conftest import NO_TLS, Rest
from tests.support.local_node import LocalNode
from tests.support.tools import requires

SOURCE = {
    'grpc_calls_total{method="Put",code="OK"}': 5.0,
    'grpc_calls_total{method="Put",code="UNAVAILABLE"}': 1.0,
    'grpc_call_seconds_bucket{method="Put",le="0.1"}': 4.0,
    'grpc_call_seconds_bucket{method="Put",le="+Inf"}': 6.0,
    'grpc_call_seconds_sum{method="Put"}': 1.5,
    'grpc_call_seconds_count{method="Put"}': 6.0,
    "ingress_proposals": 3.0,
    'odd{name="a\\"b\\\\c\\n"}': 1.0,
    "raft_term": 99.0,  # the status knows better
}


@pytest.fixture
def text() -> str:
    with LocalNode() as node:
        node.add_member(Member(server_id("127.0.0.1", 35002), "node2", "127.0.0.1", 35002, 8002), voter=True).result(30)
        server = RestServer(node, host="127.0.0.1", port=0, threads=8, metrics_sources=[lambda: SOURCE])
        server.start()
        base = f"http://127.0.0.1:{server.port}"
        httpx.put(f"{base}/v1/kv/k", content=b"1", verify=NO_TLS)
        httpx.get(f"{base}/v1/nothing", verify=NO_TLS)
        httpx.get(f"{base}/v1/status", headers={"Host": "evil.example"}, verify=NO_TLS)
        answer = httpx.get(f"{base}/metrics", verify=NO_TLS)
        list(
            parse_openmetrics(
                httpx.get(
                    f"{base}/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}, verify=NO_TLS
                ).text
            )
        )
        server.stop()
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return answer.text


def test_it_parses_and_follows_the_conventions(text: str) -> None:
    families = list(text_string_to_metric_families(text))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    for family in families:
        assert family.documentation, family.name
        if family.type == "counter":
            assert all(sample.name.endswith(("_total", "_created")) for sample in family.samples)
    keys = [(sample.name, tuple(sorted(sample.labels.items()))) for family in families for sample in family.samples]
    assert len(keys) == len(set(keys))


EXPECTED = {
    ("rocinante_raft_term", ()): 2,
    ("rocinante_raft_role", (("role", "leader"),)): 1,
    ("rocinante_raft_role", (("role", "follower"),)): 0,
    ("rocinante_raft_has_leader", ()): 1,
    ("rocinante_kv_keys", ()): 1,
    ("rocinante_kv_revision", ()): 2,
    ("rocinante_peer_connected", (("peer", "node2"),)): 1,
    ("rocinante_grpc_calls_total", (("code", "OK"), ("method", "Put"))): 5,
    ("rocinante_grpc_call_seconds_bucket", (("le", "0.1"), ("method", "Put"))): 4,
    ("rocinante_grpc_call_seconds_count", (("method", "Put"),)): 6,
    ("rocinante_ingress_proposals", ()): 3,
    ("rocinante_odd", (("name", 'a"b\\c\n'),)): 1,
    ("rocinante_rest_requests_total", (("method", "PUT"), ("route", "/v1/kv/{key}"), ("status", "200"))): 1,
    ("rocinante_rest_requests_total", (("method", "GET"), ("route", "(none)"), ("status", "404"))): 1,
    ("rocinante_rest_request_duration_seconds_count", (("route", "/v1/kv/{key}"),)): 1,
    ("rocinante_rest_refused_total", (("reason", "host"),)): 1,
    ("rocinante_rest_event_streams", ()): 0,
}


def test_the_numbers_are_true(text: str) -> None:
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert {key: samples.get(key) for key in EXPECTED} == EXPECTED
    assert samples["process_open_fds", ()] > 0
    (info,) = (key for key in samples if key[0] == "rocinante_node_info")
    assert dict(info[1])["cluster"] == "test"


@requires("promtool")
def test_promtool_finds_nothing_to_criticise(text: str) -> None:
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, text=True, capture_output=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("key", ["", "1a", "a b", "a{", "é"])
def test_a_name_that_prometheus_would_not_take_is_an_error(key: str) -> None:
    with pytest.raises(ValueError, match="is not a metric's name"):
        parse_sample(key, 1.0)


def test_metrics_answer_while_the_node_is_not_ready(rest: Rest) -> None:
    rest.node.be_not_ready()
    assert 'rocinante_raft_role{role="not_ready"} 1.0' in rest.http.get("/metrics").text
