"""`rocinante bench kv` as people run it, against a real node."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rocinante.pb.etcd import kv_pb2, rpc_pb2
from tests.support.cluster import Cluster
from tests.support.ports import free_port

QUICK = ("--warm-up", "0.1")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("bench"), nodes=1) as cluster:
        cluster.start()
        cluster.wait_leader()
        yield cluster


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rocinante.cli.main", "bench", "kv", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, stdin=subprocess.DEVNULL)


def bench_json(node: Cluster, *arguments: str) -> dict[str, Any]:
    done = bench("--cluster", node.endpoint(1), "-o", "json", *QUICK, *arguments)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def bench_keys(node: Cluster) -> list[kv_pb2.KeyValue]:
    request = rpc_pb2.RangeRequest(key=b"bench/", range_end=b"bench0")
    return list(node.call(1, "/etcdserverpb.KV/Range", request, rpc_pb2.RangeResponse).kvs)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--operation", "put", "--count", "50"),
        ("--operation", "get", "--count", "50"),
        ("--operation", "get", "--count", "50", "--serializable"),
        ("--operation", "mixed", "--count", "50", "--processes", "2"),
        ("--operation", "put", "--count", "50", "--target-leader", "--value-size", "5000", "--key-size", "200"),
    ],
    ids=" ".join,
)
def test_each_call_is_answered_and_the_keys_are_gone_afterwards(node: Cluster, arguments: tuple[str, ...]) -> None:
    document = bench_json(node, "--clients", "1,7", *arguments)
    assert [stage["clients"] for stage in document["stages"]] == [1, 7]
    for stage in document["stages"]:
        assert (stage["calls"], stage["errors"]) == (50, {})
        assert 0 < stage["median_ms"] <= stage["p99_ms"] <= stage["max_ms"]
        assert stage["per_second"] == pytest.approx(50 / stage["seconds"], rel=0.05)
    assert not bench_keys(node)


def test_the_keys_are_what_was_asked_for(node: Cluster) -> None:
    arguments = (
        "--keys",
        "5",
        "--key-size",
        "40",
        "--value-size",
        "123",
        "--operation",
        "get",
        "--count",
        "20",
        "--keep",
    )
    bench_json(node, "--clients", "2", *arguments)
    found = bench_keys(node)
    assert len(found) == 5
    assert {(len(kv.key), len(kv.value), kv.version) for kv in found} == {(40, 123, 1)}


def test_a_stage_lasts_as_long_as_it_should(node: Cluster) -> None:
    (stage,) = bench_json(node, "--clients", "3", "--seconds", "0.5")["stages"]
    assert 0.4 < stage["seconds"] < 30  # as long as the machine lets it
    assert stage["calls"] > 3


def test_a_table_for_people(node: Cluster) -> None:
    done = bench("--cluster", node.endpoint(1), "--clients", "1", "--count", "10", *QUICK)
    assert done.returncode == 0, done.stderr
    head, row = done.stdout.splitlines()
    assert head.split("  ")[0] == "operation"
    assert row.split()[:4] == ["put", "1", "10", "0"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--clients", "0"), 2, "clients"),
        (("--clients", "many"), 2, "clients"),
        (("--operation", "delete"), 2, "operation"),
        (("--seconds", "1", "--count", "1"), 2, "seconds"),
        (("--value-size", "9999999"), 2, "value_bytes"),
    ],
)
def test_wrong_use(node: Cluster, arguments: tuple[str, ...], status: int, message: str) -> None:
    done = bench("--cluster", node.endpoint(1), *arguments)
    assert done.returncode == status
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_nobody_there() -> None:
    done = bench("--cluster", f"127.0.0.1:{free_port()}", "--timeout", "0.5", "--count", "1")
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1


def test_a_node_that_dies_is_counted_not_fatal(tmp_path: Path) -> None:
    """What was answered before counts; what failed is counted by its status."""
    with Cluster(tmp_path, nodes=1) as cluster:
        cluster.start()
        cluster.wait_leader()
        command = [sys.executable, "-m", "rocinante.cli.main", "bench", "kv", "--cluster", cluster.endpoint(1)]
        # No warm-up: the first call that is applied is one that counts.
        command += ["--clients", "4", "--seconds", "6", "--timeout", "1", "-o", "json", "--warm-up", "0"]
        running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        before = int(str(cluster.status(1)["applied"]))
        cluster.wait_until(lambda: int(str(cluster.status(1)["applied"])) > before + 20, "the load has begun")
        cluster.kill(1)
        output, errors = running.communicate(timeout=300)
    stage = json.loads(output)["stages"][0]
    assert stage["calls"] > 0
    assert set(stage["errors"]) <= {"UNAVAILABLE", "DEADLINE_EXCEEDED"}
    assert stage["errors"]
    assert "keys below bench/" in errors  # they could not be removed, and that is said
