"""`rocinante bench flows`, `watch`, `lookup`, `failover`, `restart` and `snapshot` as people run them, with small
numbers, against real nodes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from rocinante.bench.bounds import BENCH_ZONE
from rocinante.client import Client, FlowSelection
from tests.bench.schemas import SCHEMAS
from tests.benchmarks.goals import ROWS
from tests.support.cluster import Cluster
from tests.support.ports import free_port

QUICK = ("--seconds", "0.5", "--warm-up", "0.2")


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("bench"), nodes=3) as cluster:
        cluster.start()
        cluster.wait_leader()
        yield cluster


def bench(*arguments: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rocinante.cli.main", "bench", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=timeout_s, stdin=subprocess.DEVNULL
    )


def measured(verb: str, *arguments: str) -> dict[str, Any]:
    """What it prints with `-o json`, checked against its schema."""
    done = bench(verb, *arguments, "-o", "json")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    jsonschema.validate(document, SCHEMAS[verb])
    return document


def judged(document: dict[str, Any], *rows: str) -> None:
    """These rows of the goals find what they want in it."""
    for row in ROWS:
        if row.name in rows:
            assert row.judge(document).figure


def flows_left(nodes: Cluster) -> int:
    with Client(nodes.endpoints()) as client:
        return len(client.flows.page(FlowSelection(zone=BENCH_ZONE)).flows)


def test_every_combination_is_a_stage_and_what_was_written_is_gone_afterwards(nodes: Cluster, tmp_path: Path) -> None:
    picture = tmp_path / "flows.svg"
    document = measured(
        "flows", "--cluster", ",".join(nodes.endpoints()), "--batch", "50,500", "--in-flight", "2,4", "--kind", "ipv6",
        "--plot", str(picture), *QUICK,
    )  # fmt: skip
    assert document["own_cluster"] is False
    assert [(stage["batch"], stage["in_flight"]) for stage in document["stages"]] == [
        (50, 2),
        (50, 4),
        (500, 2),
        (500, 4),
    ]
    for stage in document["stages"]:
        assert (stage["errors"], stage["kind"], stage["rate"]) == ({}, "ipv6", None)
        assert stage["records"] == stage["batches"] * stage["batch"] > 0
        assert stage["per_second"] == pytest.approx(stage["records"] / stage["seconds"], rel=0.05)
        assert 0 < stage["latency"]["p50_ms"] <= stage["latency"]["p99_ms"] <= stage["latency"]["max_ms"]
        assert stage["leader"] in {node["name"] for node in stage["nodes"]}
        assert len(stage["nodes"]) == 3
        assert stage["client"]["sent_bytes_per_million"] == pytest.approx(150e6, rel=0.05)
    assert "<svg" in picture.read_text()
    judged(document, "cost")
    assert flows_left(nodes) == 0


def test_updates_at_a_rate_are_written_as_often_as_was_asked_for(nodes: Cluster) -> None:
    document = measured(
        "flows", "--cluster", nodes.endpoint(1), "--updates", "--table", "2000", "--batch", "100", "--rate", "4000",
        "--kind", "variable", "--spread", "--writers", "3", "--keep", "--seconds", "1", "--warm-up", "0.5",
    )  # fmt: skip
    (stage,) = document["stages"]
    judged(document, "latency", "elections")
    assert (stage["rate"], stage["in_flight"], stage["errors"]) == (4000, None, {})
    assert stage["per_second"] < 8000, "a rate is kept"
    assert {node["flows"] for node in stage["nodes"]} == {2000}, "the same flows were written again"
    with Client(nodes.endpoint(1)) as client:
        flows = list(client.flows.list(FlowSelection(zone=BENCH_ZONE)))
        assert len(flows) == 2000
        assert all(flow.record.backend_name.startswith("pool-") for flow in flows)
        assert client.flows.delete_where(FlowSelection(zone=BENCH_ZONE)).deleted == 2000


def test_watchers_see_everything(nodes: Cluster) -> None:
    document = measured(
        "watch", "--cluster", nodes.endpoint(1), "--watchers", "2", "--rate", "5000", "--batch", "100",
        "--table", "1000", "--seconds", "1", "--warm-up", "0.5",
    )  # fmt: skip
    assert [(seen["fell_behind"], seen["to_the_end"]) for seen in document["watchers"]] == [(0, True)] * 2
    assert document["written_per_second"] > 0
    judged(document, "watch")
    for seen in document["watchers"]:
        assert seen["per_second"] > 0
        assert seen["lag"]["p50_ms"] > 0
    assert len({seen["endpoint"] for seen in document["watchers"]}) == 2


@pytest.mark.parametrize("consistency", [(), ("--linearizable", "--ask", "all", "--processes", "2")], ids=" ".join)
def test_look_ups_find_what_is_there(nodes: Cluster, consistency: tuple[str, ...]) -> None:
    arguments = ("--table", "3000", "--batch", "200", "--misses", "20", *QUICK, *consistency)
    document = measured("lookup", "--cluster", nodes.endpoint(1), *arguments)
    assert document["lookups"] > 0
    judged(document, "lookup")
    assert document["errors"] == {}, "an answer with another number of flows would be one"
    assert document["consistency"] == ("linearizable" if consistency else "stale")


def test_a_table_for_people(nodes: Cluster) -> None:
    done = bench("flows", "--cluster", nodes.endpoint(1), "--batch", "10", *QUICK)
    assert done.returncode == 0, done.stderr
    head, row = done.stdout.splitlines()
    assert head.split()[:4] == ["kind", "table", "batch", "load"]
    assert row.split()[:4] == ["ipv4", "0", "10", "1×8"]


def test_without_a_cluster_three_nodes_are_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("ROCINANTE_CLUSTER", raising=False)
    document = measured("flows", "--batch", "100", *QUICK)
    assert (document["own_cluster"], len(document["endpoints"])) == (True, 3)
    assert document["stages"][0]["records"] > 0
    assert not list(tmp_path.iterdir()), "its data is gone"


def test_the_leader_is_killed_and_nothing_is_lost_or_applied_twice() -> None:
    document = measured(
        "failover", "--rounds", "1", "--rate", "5000", "--batch", "100", "--table", "1000", "--down", "1.5"
    )
    (one,) = document["rounds"]
    assert 0 < one["gap_s"] == document["gap_median_s"] == document["gap_max_s"]
    assert [document[name] for name in ("lost", "twice", "unseen", "puts_failed")] == [0, 0, 0, 0]
    assert document["changes_seen"] >= 1000
    judged(document, "failover")
    assert document["puts_acknowledged"] >= document["changes_seen"] / 100


def test_a_follower_is_started_again_with_all_its_flows() -> None:
    document = measured("restart", "--flows", "20000", "--rounds", "1", "--kill")
    (one,) = document["rounds"]
    assert (one["flows"] >= 20_000, one["stop_s"]) == (True, 0)
    assert 0 < one["ready_s"] <= one["caught_up_s"]
    judged(document, "restart", "memory")


def test_a_snapshot_under_load() -> None:
    document = measured("snapshot", "--flows", "20000", "--rounds", "1", "--rate", "1000", "--batch", "20")
    (one,) = document["rounds"]
    assert one["bytes"] > 20_000 * 90, "the whole table is in it"
    assert 0 < one["gap_s"] == document["gap_max_s"]
    judged(document, "stall")


WRONG = [
    (("flows", "--batch", "0"), 2, "batch"),
    (("flows", "--batch", "10.5"), 2, "batch"),
    (("flows", "--batch", "65536", "--kind", "ipv6"), 2, "batch"),
    (("flows", "--rate", "fast"), 2, "rate"),
    (("flows", "--rate", "0"), 2, "rate"),
    (("flows", "--in-flight", "5000"), 2, "in-flight"),
    (("flows", "--writers", "0"), 2, "writers"),
    (("flows", "--updates"), 2, "table"),
    (("flows", "--kind", "ipv5"), 2, "--kind"),
    (("flows", "--encoding", "zip"), 2, "--encoding"),
    (("flows", "--seconds", "0"), 2, "seconds"),
    (("flows", "--plot", "picture.gif"), 2, "--plot"),
    (("flows", "--plot", "nowhere/x.svg"), 2, "--plot"),
    (("flows", "--own-cluster", "--cluster", "127.0.0.1:1"), 2, "--own-cluster"),
    (("watch", "--watchers", "0"), 2, "watchers"),
    (("watch", "--table", "10"), 2, "table"),
    (("lookup", "--misses", "101"), 2, "misses"),
    (("lookup", "--batch", "40000"), 2, "batch"),
    (("failover", "--cluster", "127.0.0.1:1"), 2, "--cluster"),
    (("restart", "--cluster", "127.0.0.1:1"), 2, "--cluster"),
    (("snapshot", "--config", "x.yaml"), 2, "--config"),
    (("failover", "--rounds", "0"), 2, "rounds"),
    (("failover", "--table", "10"), 2, "flows"),
    (("restart", "--flows", "0"), 2, "flows"),
    (("snapshot", "--rate", "0"), 2, "rate"),
]


@pytest.mark.parametrize(("arguments", "status", "message"), WRONG, ids=[" ".join(wrong[0]) for wrong in WRONG])
def test_wrong_use_is_named_before_anything_is_started(
    arguments: tuple[str, ...], status: int, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    from rocinante.cli.main import run

    assert run(["bench", *arguments]) == status
    out, err = capfd.readouterr()
    assert out == ""
    assert message in err
    assert len(err.splitlines()) == 1


def test_nobody_there() -> None:
    done = bench("flows", "--cluster", f"127.0.0.1:{free_port()}", "--timeout", "0.5", *QUICK)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (3, "", 1)


def test_a_plot_without_matplotlib_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from rocinante.bench.plot import check
    from rocinante.errors import FailedPrecondition

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "matplotlib.figure", raising=False)
    with pytest.raises(FailedPrecondition, match=r"rocinante\[bench\]"):
        check(tmp_path / "x.svg")


def test_a_rate_that_is_too_high_is_seen_in_the_latency(nodes: Cluster) -> None:
    """Most batches are due long before they can be sent, and count with what they waited."""
    (stage,) = measured(
        "flows", "--cluster", nodes.endpoint(1), "--batch", "100", "--rate", "1e6", "--updates", "--table", "1000",
        "--seconds", "0.5", "--warm-up", "0.2",
    )["stages"]  # fmt: skip
    assert stage["given_up"] > 0
    assert stage["sent_late"] > 0
    assert stage["per_second"] < stage["rate"]
    assert stage["latency"]["max_ms"] > 100
