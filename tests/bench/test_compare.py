"""`tests.benchmarks.compare` measures three real systems, and `tests.benchmarks.goals` knows what to run and how to
judge it."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rocinante.cli.main import run
from tests.benchmarks import compare, goals, pace
from tests.support.ports import free_port
from tests.support.tools import requires

ROWS = {row.name: row for row in goals.ROWS}


@requires("etcd", "redis-server")
def test_three_systems_take_the_same_records_and_have_them_all_afterwards(tmp_path: Path) -> None:
    """That every node has what was acknowledged is checked after each turn: else the status is not 0."""
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.compare",
        "--seconds",
        "0.3",
        "--warm-up",
        "0.1",
        "--rounds",
        "1",
    ]
    command += ["--scenarios", "writer", "single", "--json", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, cwd=goals.ROOT)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    for scenario in ("writer", "single"):
        assert list(document["scenarios"][scenario]) == list(compare.SYSTEMS)
        for found in document["scenarios"][scenario].values():
            assert found["per_second"] > 0
            assert 0 < found["p50_ms"] <= found["p99_ms"]
            assert found["cpu_s_per_million"] >= 0
    writer = document["scenarios"]["writer"]
    expected = writer["rocinante"]["per_second"] / writer["redis"]["per_second"]
    assert document["ratios"]["writer"]["per_second_to_redis"] == pytest.approx(expected, abs=0.01)
    assert ROWS["writer"].judge(document).figure
    assert ROWS["single"].judge(document).figure


def test_the_document_has_the_rows_that_are_run() -> None:
    text = goals.DOCUMENT.read_text()
    written = text.partition(goals.BEGIN)[2].partition(goals.END)[0].strip().splitlines()[2:]
    assert [line.split("|")[1:4] for line in written] == [
        [f" {row.name} ", f" {row.measure} ", f" {row.goal} "] for row in goals.ROWS
    ]
    assert [line.split("|")[6] for line in written] == [f" `{' '.join(row.words)}` " for row in goals.ROWS]


BENCH = [row for row in goals.ROWS if row.words[0] == "rocinante"]


@pytest.mark.parametrize("row", BENCH, ids=lambda row: row.name)
def test_the_options_of_a_row_exist(row: goals.Row, capfd: pytest.CaptureFixture[str]) -> None:
    """Against nobody: what its own nodes need is refused a cluster, the others find nobody there."""
    known = {"writer": {"document": {"scenarios": {"writer": {"rocinante": {"per_second": 1000.0}}}}}}
    words = row.command(known, False)[3:]
    status = run([*words, "--cluster", f"127.0.0.1:{free_port()}", "--timeout", "0.2"])
    error = capfd.readouterr().err
    starts_its_own = words[1] in {"restart", "snapshot", "failover"}
    assert status == (2 if starts_its_own else 3), error
    assert ("starts three of its own" if starts_its_own else "connection refused") in error


@pytest.mark.parametrize(
    "row", [row for row in goals.ROWS if row.words[2].endswith("compare")], ids=lambda row: row.name
)
def test_the_scenarios_of_a_row_exist(row: goals.Row) -> None:
    options = compare.parse(row.words[3:])
    assert set(options.scenarios) <= set(compare.SCENARIOS)


@pytest.mark.parametrize("row", goals.ROWS, ids=lambda row: row.name)
def test_every_row_has_a_short_form(row: goals.Row) -> None:
    known = {"writer": {"document": {"scenarios": {"writer": {"rocinante": {"per_second": 1000.0}}}}}}
    long, short = row.command(known, False), row.command(known, False, True)
    assert short != long
    assert not {"5000000", "10000000", "300000", "180"} & set(short)


def test_half_of_the_rate_is_that_of_the_row_before() -> None:
    with pytest.raises(goals.CannotRun, match="run the row `writer` first"):
        ROWS["latency"].command({}, False)
    known = {"writer": {"document": {"scenarios": {"writer": {"rocinante": {"per_second": 900_001.0}}}}}}
    words = ROWS["latency"].command(known, False)
    assert words[words.index("--rate") + 1] == "450000"
    assert "1800" in ROWS["elections"].command({}, True)


STAGE = {"rate": 100.0, "per_second": 99.0, "errors": {}, "latency": {"p50_ms": 10.0, "p99_ms": 50.0}}


@pytest.mark.parametrize(
    ("change", "met"),
    [
        ({}, True),
        ({"per_second": 90.0}, False),
        ({"errors": {"UNAVAILABLE": 1}}, False),
        ({"latency": {"p50_ms": 10.1, "p99_ms": 50.0}}, False),
        ({"latency": {"p50_ms": 1.0, "p99_ms": 51.0}}, False),
    ],
    ids=str,
)
def test_a_latency_counts_only_at_the_rate_that_was_asked_for(change: dict[str, Any], met: bool) -> None:
    document = {"stages": [{**STAGE, **change}]}
    assert ROWS["latency"].judge(document).met is met


FAILOVER = {
    "gap_median_s": 0.9, "gap_max_s": 3.0, "lost": 0, "twice": 0, "unseen": 0, "puts_failed": 0, "rounds": [{}],
    "per_second": 95.0, "rate": 100.0,
}  # fmt: skip


@pytest.mark.parametrize(
    "wrong", [None, "lost", "twice", "unseen", "puts_failed", "gap_median_s", "per_second"], ids=str
)
def test_a_failover_that_loses_anything_is_no_success(wrong: str | None) -> None:
    document = copy.deepcopy(FAILOVER)
    if wrong is not None:
        document[wrong] = 1.5
    assert ROWS["failover"].judge(document).met is (wrong is None)


@pytest.mark.parametrize(
    ("rate", "redis", "etcd", "met"),
    [(1_000_000, 4.0, 30.0, True), (999_999, 9, 99, False), (2_000_000, 3.9, 99, False), (2_000_000, 9, 29, False)],
)
def test_the_rate_must_be_reached_in_all_three_ways(rate: float, redis: float, etcd: float, met: bool) -> None:
    best = {"rocinante": {"per_second": rate, "per_second_rounds": [rate], "setting": {"batch": 4096}}}
    ratios = {"best": {"per_second_to_redis": redis, "per_second_to_etcd": etcd}}
    assert ROWS["rate"].judge({"scenarios": {"best": best}, "ratios": ratios}).met is met


def test_the_pace_of_a_machine_is_of_all_its_processors() -> None:
    found = pace.pace_of([pace.TURNS / 10e6] * 10 + [pace.TURNS / 20e6] * 5)
    assert (found.slow, found.median, found.fast) == (10.0, 10.0, 20.0)
    measured = pace.measure(0.5)
    assert 0 < measured.slow <= measured.median <= measured.fast


def test_the_same_cost_within_a_fifth() -> None:
    def document(*costs: float) -> dict[str, Any]:
        stages = [
            {"table": table, "batches": 1, "nodes": [{"per_million": {"cpu_s": cost}}]}
            for table, cost in enumerate(costs)
        ]
        return {"stages": stages}

    assert ROWS["cost"].judge(document(1.0, 1.1, 1.19)).met
    assert not ROWS["cost"].judge(document(1.0, 1.1, 1.21)).met
    document_without = document(1.0, 1.1)
    document_without["stages"][0]["batches"] = 0
    assert not ROWS["cost"].judge(document_without).met


def test_a_command_that_failed_has_reached_nothing() -> None:
    found = {"document": {"memory_bytes_per_flow": 100, "flows": 10}, "status": 0}
    verdict = goals.verdict_of(ROWS["memory"], {"memory": found})
    assert verdict is not None
    assert verdict.met
    verdict = goals.verdict_of(ROWS["memory"], {"memory": {**found, "status": 1}})
    assert verdict is not None
    assert (verdict.met, "exit status 1" in verdict.figure) == (False, True)
    assert goals.verdict_of(ROWS["memory"], {}) is None
