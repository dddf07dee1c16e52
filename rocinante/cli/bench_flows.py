"""`rocinante bench flows`: how many flow records a second a cluster takes, how fast, and what a million of them cost.

One stage for each combination of --table, --batch, --writers, --in-flight and --rate. Exit status: 0, 1 (a stage
without a single answer), 2 (wrong use), 3 (the cluster cannot be reached).
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import typer

from rocinante import limits
from rocinante.bench import bounds
from rocinante.bench.flows import FlowPlan
from rocinante.bench.plan import within
from rocinante.bench.records import Encoding, Kind
from rocinante.bench.running import Running, Stage, leader_of
from rocinante.cli.bench_common import (
    EncodingOption,
    KindOption,
    OwnOption,
    clearing,
    cluster_or_own,
    document,
    floats,
    integers,
)
from rocinante.cli.common import settings
from rocinante.cli.output import complain, say_json, say_table
from rocinante.errors import EXIT_FAILED, InvalidArgument

__all__ = ["flows"]

Plans = list[tuple[int, FlowPlan]]
"""(flows that are there before, the stage)."""


def flows(
    ctx: typer.Context,
    batch: Annotated[str, typer.Option(help="Records of a batch; one stage for each number.")] = "4096",
    writers: Annotated[str, typer.Option(help="Writers, each with a connection of its own.")] = "1",
    in_flight: Annotated[str, typer.Option(help="Batches of a writer on their way (closed loop).")] = "8",
    rate: Annotated[
        str | None,
        typer.Option(
            help="Records a second of all writers: an open loop; latency is counted from when a batch was due."
        ),
    ] = None,
    kind: KindOption = Kind.IPV4,
    encoding: EncodingOption = Encoding.PACKED,
    table: Annotated[str, typer.Option(help="Flows that are put before the measurement.")] = "0",
    updates: Annotated[bool, typer.Option("--updates", help="Write those again, instead of new flows.")] = False,
    seconds: Annotated[float, typer.Option(help="How long a stage is measured.")] = 10.0,
    warm_up: Annotated[float, typer.Option(help="Seconds of load before.")] = 2.0,
    processes: Annotated[int, typer.Option(help="Load processes that the writers are spread over.")] = 1,
    spread: Annotated[bool, typer.Option("--spread", help="Writers to all nodes in turns, not to the leader.")] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw throughput against latency into this file, .svg or .png.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the flows in the given cluster (for an hour).")] = False,
    own_cluster: OwnOption = False,
) -> None:
    """Put batches of flows: records per second, latency of a batch, and what a million records cost each node:
    processor seconds, bytes written to disk and sent to the other nodes."""
    within("seconds", seconds, 0.1, bounds.BENCH_SECONDS_MAX)
    within("warm-up", warm_up, 0, bounds.BENCH_SECONDS_MAX)
    if plot is not None:
        from rocinante.bench.plot import check

        check(plot)
    chosen = settings(ctx)
    rates: list[float | None] = [None] if rate is None else [*floats("rate", rate)]
    combinations = list(
        product(
            sorted(integers("table", table)), integers("batch", batch), integers("writers", writers),
            integers("in-flight", in_flight), rates,
        )
    )  # fmt: skip
    within("stages", len(combinations), 1, bounds.BENCH_STAGES_MAX)
    plans: Plans = [
        (
            there,
            FlowPlan(
                (), kind, size, count, depth, speed, updates, there, processes=min(processes, count),
                encoding=encoding, timeout=chosen.timeout_s or limits.REQUEST_TIMEOUT_S_MAX,
            ),
        )
        for there, size, count, depth, speed in combinations
    ]  # fmt: skip
    with cluster_or_own(ctx, own=own_cluster) as target, clearing(target, keep=keep):
        stages = _run(target.running, plans, seconds, warm_up, target.endpoints if spread else ())
        result = document("flows", target, stages=[stage.document() for stage in stages])
    if plot is not None:
        from rocinante.bench.plot import plot as draw

        draw(plot, stages)
    if chosen.json:
        say_json(result)
    else:
        _print(stages)
    if not all(stage.batches for stage in stages):
        complain("bench: a stage got no answer")
        raise typer.Exit(EXIT_FAILED)


def _run(running: Running, plans: Plans, seconds: float, warm_up: float, endpoints: tuple[str, ...]) -> list[Stage]:
    stages = []
    for there, plan in plans:
        running.fill(plan.kind, there)
        now = replace(plan, endpoints=endpoints or (leader_of(running.client),))
        stages.append(running.stage(now, seconds=seconds, warm_up=warm_up))
    return stages


def _print(stages: list[Stage]) -> None:
    columns = ("kind", "table", "batch", "load", "flows/s", "p50 ms", "p99 ms", "max ms", "errors",
               "B/record", "CPU s/M", "disk MB/M", "wire MB/M", "MB", "elections")  # fmt: skip
    rows = [_row(stage) for stage in stages]
    say_table(columns, rows, right=columns[1:], spare=("kind", "MB", "elections", "wire MB/M", "B/record"))


def _row(stage: Stage) -> tuple[Any, ...]:
    plan, found = stage.plan, stage.document()
    load = f"{plan.writers}×{plan.in_flight}" if plan.rate is None else f"{plan.rate:,.0f}/s"
    errors = ", ".join(f"{count} {name}" for name, count in stage.errors.items()) or "0"
    latency = (f"{stage.latency[name]:.1f}" if stage.latency.count else "-" for name in ("p50_ms", "p99_ms", "max_ms"))
    what = f"{plan.table:,}" + (" updated" if plan.updates else "")
    nodes: list[dict[str, Any]] = sorted(found["nodes"], key=lambda node: node["name"] != stage.leader)
    costs = (_costs(nodes, name, unit) for name, unit in (("cpu_s", 1), ("disk_bytes", 1e6), ("sent_bytes", 1e6)))
    memory = " ".join(f"{node.get('memory_bytes', 0) / 1e6:.0f}" for node in nodes)
    elections = str(sum(node["elections"] for node in nodes))
    head = (plan.kind.value, what, f"{plan.batch:,}", load, f"{stage.per_second:,.0f}")
    return (*head, *latency, errors, f"{stage.sent_bytes / stage.sent_records:.1f}", *costs, memory, elections)


def _costs(nodes: list[dict[str, Any]], name: str, unit: float) -> str:
    """The leader's first."""
    values = [node["per_million"].get(name) for node in nodes]
    return " ".join("-" if value is None else f"{value / unit:.2f}" if unit == 1 else f"{value / unit:.0f}"
                    for value in values)  # fmt: skip


def check_flows(flows: int, batch: int) -> None:
    """For the verbs that update a table."""
    if flows < batch:
        raise InvalidArgument("flows", f"{flows} are fewer than a batch of {batch}")
