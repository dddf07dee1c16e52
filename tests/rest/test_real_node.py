"""REST of real nodes: what a LocalNode cannot show."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from rocinante.rest.metrics_help import HELP
from tests.rest.conftest import NO_TLS
from tests.rest.test_events import parse_events
from tests.rest.test_flows import flow
from tests.support.cluster import Cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("rest"), nodes=3) as cluster:
        cluster.start()
        cluster.wait_leader()
        yield cluster


def client(cluster: Cluster, number: int) -> httpx.Client:
    return httpx.Client(base_url=cluster.url(number), timeout=30, verify=NO_TLS)


def test_every_metric_of_a_node_says_what_it_means(cluster: Cluster) -> None:
    with client(cluster, cluster.wait_leader()) as http:
        http.put("/v1/kv/k", content=b"1")
        families = list(text_string_to_metric_families(http.get("/metrics").text))
    assert len(families) > 60
    mute = [
        family.name for family in families if family.documentation.lower().replace(" ", "_").strip(".") in family.name
    ]
    assert mute == []
    present = {family.name.removeprefix("rocinante_") for family in families}
    assert present >= set(HELP) - {"storage_free_bytes"}, f"gone: {sorted(set(HELP) - present)}"


def test_any_node_takes_writes_names_the_leader_and_streams_what_happens(cluster: Cluster) -> None:
    leader = cluster.wait_leader()
    follower = leader % 3 + 1
    with client(cluster, follower) as http, client(cluster, leader) as other:
        with http.stream("GET", "/v1/events?types=kv,flow") as answer:
            stream = parse_events(answer.iter_lines())
            put = http.put("/v1/kv/via/follower", content=b"1")
            assert put.headers["rocinante-leader"] == cluster.endpoint(leader)
            before = str(int(put.headers["rocinante-index"]) - 1)  # the cluster may write in between (its time)
            assert other.get("/v1/kv/via/follower?raw").content == b"1"
            event = next(stream)
            assert (event.name, event.data["key"], event.id) == ("kv", "via/follower", put.headers["rocinante-index"])
            written = http.post("/v1/flows", json=[flow(), flow("2001:db8::1")]).json()
            event = next(stream)
            assert (event.id, len(event.data["flows"])) == (str(written["index"]), 2)
        with http.stream("GET", "/v1/events?types=kv", headers={"Last-Event-ID": before}) as answer:
            assert next(parse_events(answer.iter_lines())).data["key"] == "via/follower"
        assert len(other.get("/v1/flows").json()["flows"]) == 2


def test_leadership_is_handed_over_and_grpc_switched(cluster: Cluster) -> None:
    leader = cluster.wait_leader()
    heir = leader % 3 + 1
    with client(cluster, heir) as http:
        done = http.post("/v1/admin/transfer", json={"to": f"node{heir}"})
        assert (done.status_code, done.json()["leader_name"]) == (200, f"node{heir}")
        assert cluster.wait_leader() == heir
        http.post("/v1/admin/grpc", json={"enabled": False})
        cluster.wait_until(lambda: http.get("/v1/role").json()["role"] == "not_ready", "not ready")
        assert http.get("/readyz").status_code == 503
        assert http.put("/v1/kv/k", content=b"2").status_code == 503
        assert http.get("/v1/log?last=5").json()["entries"]
        http.post("/v1/admin/grpc", json={"enabled": True})
        cluster.wait_until(lambda: http.get("/readyz").status_code == 200, "ready again")


def test_a_retried_write_applies_once_over_a_change_of_leader(cluster: Cluster) -> None:
    leader = cluster.wait_leader()
    with client(cluster, leader % 3 + 1) as http:
        session = http.post("/v1/sessions", json={}).json()["session"]
        headers = {"Rocinante-Session": session, "Rocinante-Seq": "1"}
        first = http.put("/v1/kv/once", content=b"1", headers=headers).json()
        cluster.kill(leader)
        cluster.wait_leader(other_than=leader)
        again = http.put("/v1/kv/once", content=b"1", headers=headers)
        assert (again.status_code, again.json()) == (200, first)
        assert http.get("/v1/kv/once").json()["version"] == 1
    cluster.restart(leader)


def test_a_node_that_stops_ends_its_streams_and_its_process(cluster: Cluster) -> None:
    number = cluster.wait_leader() % 3 + 1
    with client(cluster, number) as http:
        with http.stream("GET", "/v1/events?types=role") as answer:
            lines = answer.iter_lines()
            next(lines)
            assert httpx.post(f"{cluster.url(number)}/v1/admin/stop", json={}, verify=NO_TLS).status_code == 202
            for _ in lines:
                pass
        assert cluster.wait_exit(number) == 0
    cluster.restart(number)
