"""The alert rules and the dashboard, against metrics that were really scraped: promtool's checks, a unit test of each
alert, and a Prometheus that reads a cluster of three and answers every question that the dashboard asks."""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from rocinante.client import Client
from rocinante.flows import FlowRecord, FlowTuple
from tests.support.cluster import Cluster
from tests.support.ports import free_ports
from tests.support.tools import ROOT, requires

RULES: Final = ROOT / "packaging" / "prometheus" / "rocinante.rules.yml"
SCRAPE: Final = ROOT / "packaging" / "prometheus" / "scrape.example.yml"
DASHBOARD: Final = ROOT / "packaging" / "grafana" / "rocinante.json"
OPERATIONS: Final = ROOT / "docs" / "operations.md"
METRIC: Final = re.compile(r"\b(?:rocinante|process)_[a-z0-9_]+\b")
PROMETHEUS_S: Final = 60.0
VARIABLES: Final = {
    "$job": "rocinante",
    "$cluster": "test",
    "$datacenter": "dc1",
    "$__rate_interval": "10s",
    "$__interval": "2s",
}


def alerts() -> dict[str, dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def panels() -> list[dict[str, Any]]:
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def promtool(*arguments: str, text: str | None = None) -> tuple[int, str]:
    done = subprocess.run(
        ["promtool", *arguments], input=text, text=True, capture_output=True, timeout=300, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("monitored")) as running:
        running.start()
        running.wait_leader()
        write(running)
        yield running


def write(cluster: Cluster) -> None:
    """Some of everything that is counted."""
    with Client(cluster.endpoints()) as client:
        for number in range(5):
            client.kv.put(f"key-{number}", "value")
            client.kv.get(f"key-{number}")
        flow = FlowTuple.from_text("tcp", "192.0.2.1:1", "192.0.2.2:2")
        client.flows.put([FlowRecord(flow, updated_ms=time.time_ns() // 1_000_000)])
        list(client.flows.list())


@pytest.fixture(scope="module")
def scraped(cluster: Cluster) -> dict[int, str]:
    """By node."""
    found = {}
    for number in (1, 2, 3):
        with urllib.request.urlopen(f"{cluster.url(number)}/metrics", timeout=30) as answer:
            found[number] = answer.read().decode()
    return found


@requires("promtool")
def test_promtool_has_nothing_against_what_a_cluster_says(scraped: dict[int, str]) -> None:
    for text in scraped.values():
        assert promtool("check", "metrics", text=text) == (0, "")


def test_what_rules_and_dashboard_name_is_really_there(scraped: dict[int, str]) -> None:
    for text in scraped.values():
        there = set(METRIC.findall("\n".join(line for line in text.splitlines() if not line.startswith("#"))))
        for file in (RULES, DASHBOARD):
            named = set(METRIC.findall(file.read_text())) - {"rocinante_node"}
            assert named > {"rocinante_node_info"}
            assert not named - there, file.name


@requires("promtool")
def test_the_rules_are_right_and_each_alert_is_complete() -> None:
    status, said = promtool("check", "rules", str(RULES))
    assert (status, f"SUCCESS: {len(alerts())} rules found" in said) == (0, True), said
    headings = re.findall(r"^#+ (.+)$", OPERATIONS.read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for name, rule in alerts().items():
        assert rule["labels"]["severity"] in {"info", "warning", "critical"}, name
        assert re.fullmatch(r"\d+[mh]", rule["for"]), name
        assert set(rule["annotations"]) == {"summary", "runbook_url"}, name
        page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert (page, anchor in anchors) == ("docs/operations.md", True), f"{name}: {anchor} is no section"


INFO: Final = (
    'rocinante_node_info{job="rocinante",instance="%s",name="%s",cluster="test",datacenter="dc1",'
    'cluster_id="%s",version="%s"}'
)


def node(instance: str, name: str, cluster_id: str = "1", version: str = "1") -> tuple[str, str]:
    return INFO % (instance, name, cluster_id, version), "1x90"


def of(metric: str, values: str, instance: str = "a", **labels: str) -> tuple[str, str]:
    more = "".join(f',{name}="{value}"' for name, value in labels.items())
    return f'{metric}{{job="rocinante",instance="{instance}"{more}}}', values


BOTH: Final = (node("a", "node1"), node("b", "node2"))
ALERTS: Final[dict[str, tuple[list[tuple[str, str]], list[tuple[str, str]]]]] = {
    # alert: series under which it fires, and similar ones under which it does not (a sample a minute)
    "RocinanteNoLeader": (
        [of("rocinante_raft_has_leader", "0x90"), of("rocinante_raft_has_leader", "0x90", "b")],
        [of("rocinante_raft_has_leader", "0x90"), of("rocinante_raft_has_leader", "1x90", "b")],
    ),
    "RocinanteOneLossFromStandstill": (
        [
            of("rocinante_cluster_voters_connected", "2x90"),
            of("rocinante_cluster_voters", "3x90"),
            of("rocinante_raft_is_leader", "1x90"),
        ],
        [
            of("rocinante_cluster_voters_connected", "3x90"),
            of("rocinante_cluster_voters", "3x90"),
            of("rocinante_raft_is_leader", "1x90"),
        ],
    ),
    "RocinanteNodeDown": ([of("up", "0x90")], [of("up", "1x90")]),
    "RocinanteNodeWithoutLeader": (
        [of("rocinante_raft_has_leader", "0x90")],
        [of("rocinante_raft_has_leader", "1x90")],
    ),
    "RocinanteNotReady": (
        [of("rocinante_raft_role", "1x90", role="not_ready")],
        [of("rocinante_raft_role", "1x90", role="follower"), of("rocinante_raft_role", "0x90", role="not_ready")],
    ),
    "RocinanteTwoClusters": ([node("c", "node3", cluster_id="2")], [node("c", "node3")]),
    "RocinanteLeaderChangesOften": (
        [of("rocinante_raft_leader_changes_total", "0+1x90")],
        [of("rocinante_raft_leader_changes_total", "0x45 1x45")],
    ),
    "RocinanteDriverLate": (
        [of("rocinante_raft_ticks_skipped_total", "0+120x90")],
        [of("rocinante_raft_ticks_skipped_total", "0+12x90")],
    ),
    "RocinanteFollowerBehind": (
        [of("rocinante_peer_lag_entries", "20000x90", peer="node2"), of("rocinante_raft_is_leader", "1x90")],
        [of("rocinante_peer_lag_entries", "20000x90", peer="node2"), of("rocinante_raft_is_leader", "0x90")],
    ),
    "RocinanteApplyBehind": (
        [of("rocinante_raft_commit_index", "90000x90"), of("rocinante_raft_applied_index", "80000x90")],
        [of("rocinante_raft_commit_index", "90000x90"), of("rocinante_raft_applied_index", "89000x90")],
    ),
    "RocinanteDiskSlow": (
        [
            of("rocinante_storage_sync_seconds_bucket", "0+10x90", le="0.1"),
            of("rocinante_storage_sync_seconds_bucket", "0+20x90", le="1"),
            of("rocinante_storage_sync_seconds_bucket", "0+20x90", le="+Inf"),
        ],
        [
            of("rocinante_storage_sync_seconds_bucket", "0+20x90", le="0.1"),
            of("rocinante_storage_sync_seconds_bucket", "0+20x90", le="1"),
            of("rocinante_storage_sync_seconds_bucket", "0+20x90", le="+Inf"),
        ],
    ),
    "RocinanteDiskFilling": (
        [of("rocinante_storage_free_bytes", "900x90"), of("rocinante_storage_reserve_bytes", "500x90")],
        [of("rocinante_storage_free_bytes", "1100x90"), of("rocinante_storage_reserve_bytes", "500x90")],
    ),
    "RocinanteDiskFull": (
        [of("rocinante_storage_free_bytes", "400x90"), of("rocinante_storage_reserve_bytes", "500x90")],
        [of("rocinante_storage_free_bytes", "600x90"), of("rocinante_storage_reserve_bytes", "500x90")],
    ),
    "RocinanteKeysNearlyFull": (
        [of("rocinante_state_kv_bytes", "95x90"), of("rocinante_kv_bytes_max", "100x90")],
        [of("rocinante_state_kv_bytes", "85x90"), of("rocinante_kv_bytes_max", "100x90")],
    ),
    "RocinanteFlowsNearlyFull": (
        [of("rocinante_state_flow_bytes", "95x90"), of("rocinante_flow_bytes_max", "100x90")],
        [of("rocinante_flow_records", "85x90"), of("rocinante_flow_records_max", "100x90")],
    ),
    "RocinanteWritesRefused": (
        [of("rocinante_room_refused_total", "0+1x90")],
        [of("rocinante_room_refused_total", "7x90")],
    ),
    "RocinanteAlarm": ([of("rocinante_storage_alarms", "1x90")], [of("rocinante_storage_alarms", "0x90")]),
    "RocinanteOverloaded": (
        [of("rocinante_ingress_refused_total", "0+1x90")],
        [of("rocinante_ingress_refused_total", "7x90")],
    ),
    "RocinanteOutcomesUnknown": (
        [of("rocinante_proposals_unknown_total", "0+1x90")],
        [of("rocinante_proposals_unknown_total", "7x90")],
    ),
    "RocinanteWritesSlow": (
        [
            of("rocinante_grpc_request_duration_seconds_bucket", "0+10x90", method="etcdserverpb.KV/Put", le="0.5"),
            of("rocinante_grpc_request_duration_seconds_bucket", "0+20x90", method="etcdserverpb.KV/Put", le="+Inf"),
            of("rocinante_grpc_request_duration_seconds_bucket", "0+20x90", method="etcdserverpb.KV/Put", le="1"),
        ],
        [
            of(
                "rocinante_grpc_request_duration_seconds_bucket",
                "0+10x90",
                method="etcdserverpb.Watch/Watch",
                le="0.5",
            ),
            of("rocinante_grpc_request_duration_seconds_bucket", "0+20x90", method="etcdserverpb.Watch/Watch", le="1"),
            of(
                "rocinante_grpc_request_duration_seconds_bucket",
                "0+20x90",
                method="etcdserverpb.Watch/Watch",
                le="+Inf",
            ),
        ],
    ),
    "RocinanteWatchersTooSlow": (
        [of("rocinante_watch_fell_behind_total", "0+1x90")],
        [of("rocinante_watch_fell_behind_total", "7x90")],
    ),
    "RocinanteClockOff": (
        [of("rocinante_cluster_clock_offset_seconds", "-90x90")],
        [of("rocinante_cluster_clock_offset_seconds", "2x90")],
    ),
    "RocinantePeerRefused": (
        [of("rocinante_peer_refused_total", "0+1x90")],
        [of("rocinante_peer_refused_total", "7x90")],
    ),
    "RocinanteVersionsDiffer": ([node("c", "node3", version="2")], [node("c", "node3")]),
    "RocinanteFewFileDescriptors": (
        [of("process_open_fds", "90x90"), of("process_max_fds", "100x90")],
        [of("process_open_fds", "70x90"), of("process_max_fds", "100x90")],
    ),
}


def count_firing(alert: str) -> str:
    return f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)'


def unit_test(alert: str, series: list[tuple[str, str]], firing: int) -> dict[str, Any]:
    """Nothing fires before its time (`for:`), and later what should."""
    late = "75m" if alerts()[alert]["for"] == "1h" else "30m"
    expected = (("0m", 0), (late, firing))
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in (*BOTH, *series)],
        "promql_expr_test": [
            {"expr": count_firing(alert), "eval_time": at, "exp_samples": [{"labels": "{}", "value": value}]}
            for at, value in expected
        ],
    }


@requires("promtool")
def test_each_alert_fires_when_it_should_and_not_otherwise(tmp_path: Path) -> None:
    assert set(ALERTS) == set(alerts()), "every alert has its test"
    files = []
    for alert, (fires, quiet) in ALERTS.items():
        rules = tmp_path / f"{alert}.rules.yml"  # of its own, for promtool evaluates all there are, for each test
        rules.write_text(yaml.safe_dump({"groups": [{"name": "one", "rules": [alerts()[alert]]}]}))
        tests = [unit_test(alert, fires, 1), unit_test(alert, quiet, 0)]
        file = tmp_path / f"{alert}.test.yml"
        file.write_text(yaml.safe_dump({"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": tests}))
        files.append(str(file))
    status, said = promtool("test", "rules", *files)
    assert status == 0, said
    assert said.count("SUCCESS") == len(ALERTS)


class Prometheus:
    """A real one, that scrapes a cluster with our rules."""

    def __init__(self, directory: Path, cluster: Cluster) -> None:
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        config = yaml.safe_load(SCRAPE.read_text())
        config["global"] = {"evaluation_interval": "1s"}
        config["rule_files"] = [str(RULES)]
        (job,) = config["scrape_configs"]
        job["scrape_interval"] = job["scrape_timeout"] = "1s"
        job["static_configs"] = [{"targets": [f"127.0.0.1:{item.rest}" for item in cluster.nodes.values()]}]
        file = directory / "prometheus.yml"
        file.write_text(yaml.safe_dump(config))
        self.log = (directory / "prometheus.log").open("wb")
        self.process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={file}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )

    def ask(self, path: str, **parameters: str) -> Any:
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=30) as answer:
            return json.loads(answer.read())["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return found

    def close(self) -> None:
        self.process.kill()
        self.process.wait(30)
        self.log.close()


@pytest.fixture(scope="module")
def prometheus(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    running = Prometheus(tmp_path_factory.mktemp("prometheus"), cluster)
    try:
        deadline = time.monotonic() + PROMETHEUS_S
        while True:
            write(cluster)
            try:
                if len(running.query("rate(rocinante_raft_turns_total[10s])")) == 3:
                    break
            except OSError:
                pass
            assert time.monotonic() < deadline, "Prometheus has not scraped the cluster"
            time.sleep(0.5)
        yield running
    finally:
        running.close()


def substituted(expression: str) -> str:
    for name, value in sorted(VARIABLES.items(), key=lambda pair: -len(pair[0])):
        expression = expression.replace(name, value)
    assert "$" not in expression, expression
    return expression


@requires("promtool")
def test_every_panel_of_the_dashboard_gets_an_answer(cluster: Cluster, prometheus: Prometheus) -> None:
    def empty() -> list[str]:
        write(cluster)
        return [
            f"{panel['title']}: {target['expr']}"
            for panel in panels()
            for target in panel["targets"]
            if not prometheus.query(substituted(target["expr"]))
        ]

    deadline = time.monotonic() + PROMETHEUS_S
    while missing := empty():
        assert time.monotonic() < deadline, missing
        time.sleep(1)


@requires("promtool")
def test_the_panels_show_what_is_the_case(cluster: Cluster, prometheus: Prometheus) -> None:
    titles = {panel["title"]: panel for panel in panels()}

    def shown(title: str) -> dict[str, str]:
        (target, *_) = titles[title]["targets"]
        return {
            item["metric"].get("name", ""): item["value"][1] for item in prometheus.query(substituted(target["expr"]))
        }

    cluster.wait_until(lambda: list(shown("Leader")) == [f"node{cluster.leader()}"], "the panel shows who leads")
    cluster.wait_until(
        lambda: shown("Role") == {f"node{n}": "3" if n == cluster.leader() else "1" for n in (1, 2, 3)},
        "… and the roles",
    )
    for title, value in (("Keys", "5"), ("Flows", "1"), ("Voters connected", "3")):
        cluster.wait_until(lambda title=title, value=value: shown(title) == {"": value}, f"{title}: {value}")


@requires("promtool")
def test_the_rules_are_evaluated_without_an_error(prometheus: Prometheus) -> None:
    (group,) = prometheus.ask("rules")["groups"]
    assert {rule["name"]: rule["health"] for rule in group["rules"] if rule["health"] == "err"} == {}
    assert len(group["rules"]) == len(alerts())


def test_the_dashboard_is_laid_out_without_gaps_and_each_panel_has_a_unit() -> None:
    document = json.loads(DASHBOARD.read_text())
    identifiers = [panel["id"] for panel in document["panels"]]
    assert len(identifiers) == len(set(identifiers))
    places: set[tuple[int, int]] = set()
    for panel in document["panels"]:
        box = panel["gridPos"]
        cells = {(x, y) for x in range(box["x"], box["x"] + box["w"]) for y in range(box["y"], box["y"] + box["h"])}
        assert not cells & places, f"{panel['title']} lies on another panel"
        assert box["x"] + box["w"] <= 24, panel["title"]
        places |= cells
    for panel in panels():
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert all(target["legendFormat"] or panel["type"] == "stat" for target in panel["targets"]), panel["title"]
