"""`rocinante bench failover`, `restart` and `snapshot`: what stops nodes, so always on three nodes of its own."""

from __future__ import annotations

import statistics
from typing import Annotated, Any

import typer

from rocinante.bench import bounds
from rocinante.bench.failover import Failover, run
from rocinante.bench.flows import FlowPlan
from rocinante.bench.plan import within
from rocinante.bench.records import Encoding, Kind
from rocinante.bench.restart import restart as measure_restart
from rocinante.bench.restart import snapshot as measure_snapshot
from rocinante.cli.bench_common import EncodingOption, KindOption, document, own_cluster, rounded
from rocinante.cli.bench_flows import check_flows
from rocinante.cli.common import settings
from rocinante.cli.output import complain, say, say_json, say_table
from rocinante.errors import EXIT_FAILED

__all__ = ["failover", "restart", "snapshot"]


def failover(
    ctx: typer.Context,
    rounds: Annotated[int, typer.Option(help="How often the leader is killed.")] = 10,
    rate: Annotated[float, typer.Option(help="Updates a second, an open loop.")] = 100_000,
    batch: Annotated[int, typer.Option(help="Records of a put.")] = 1_000,
    table: Annotated[int, typer.Option(help="Different flows.")] = 100_000,
    down: Annotated[float, typer.Option(help="Seconds until the killed node is started again.")] = 2.0,
    kind: KindOption = Kind.IPV4,
) -> None:
    """Kill the leader (SIGKILL) under a load, again and again: how long no write is acknowledged, whether something
    that was acknowledged is gone, whether something is applied twice. Exit status 1 when it is so."""
    within("rounds", rounds, 1, bounds.BENCH_ROUNDS_MAX)
    within("down", down, 0.1, bounds.BENCH_READY_TIMEOUT_S)
    check_flows(table, batch)
    plan = FlowPlan(kind=kind, batch=batch, rate=rate, updates=True, table=table // batch * batch)
    with own_cluster(ctx, "failover") as (target, own):
        found = run(own, plan, rounds, down, target.running.progress)
        result = document("failover", target, **_failover(found))
    if settings(ctx).json:
        say_json(result)
    else:
        _print_failover(result)
    if not found.passed:
        complain(
            f"bench: lost {found.lost}, twice {found.twice}, stretches not seen {found.unseen}, "
            f"failed puts {len(found.errors)}: {'; '.join(found.errors[:3]) or '-'}"
        )
        raise typer.Exit(EXIT_FAILED)


def _failover(found: Failover) -> dict[str, Any]:
    gaps = [one.gap_s for one in found.rounds]
    return {
        "kind": found.plan.kind.value,
        "rate": found.plan.rate,
        "batch": found.plan.batch,
        "table": found.plan.table,
        "per_second": round(found.per_second, 1),
        "gap_median_s": round(statistics.median(gaps), 4),
        "gap_max_s": round(max(gaps), 4),
        "rejoin_gap_max_s": round(max(one.rejoin_gap_s for one in found.rounds), 4),
        "lost": found.lost,
        "twice": found.twice,
        "unseen": found.unseen,
        "puts_acknowledged": found.acknowledged,
        "puts_failed": len(found.errors),
        "changes_seen": found.changes,
        "watch_refusals": found.refused,
        "retries": found.retries,
        "latency": found.latency.document(),
        "rounds": [rounded(one) for one in found.rounds],
    }


def _print_failover(result: dict[str, Any]) -> None:
    columns = ("round", "killed", "gap s", "gap while it came back s", "back after s")
    rows = [
        (number, one["killed"], f"{one['gap_s']:.3f}", f"{one['rejoin_gap_s']:.3f}", f"{one['rejoin_s']:.1f}")
        for number, one in enumerate(result["rounds"], 1)
    ]
    say_table(columns, rows, right=("round", *columns[2:]))
    say(
        f"gap: median {result['gap_median_s']:.3f} s, longest {result['gap_max_s']:.3f} s; "
        f"{result['per_second']:,.0f} updates/s over all; lost {result['lost']}, twice {result['twice']}, "
        f"stretches not seen {result['unseen']}"
    )


def restart(
    ctx: typer.Context,
    flows: Annotated[int, typer.Option(help="Flows in the table.")] = 1_000_000,
    rounds: Annotated[int, typer.Option(help="How often a follower is started again.")] = 3,
    kill: Annotated[bool, typer.Option("--kill", help="SIGKILL instead of a graceful stop.")] = False,
    kind: KindOption = Kind.IPV4,
) -> None:
    """Fill the table, stop a follower and start it: seconds until it is ready and has caught up, and its memory for a
    flow."""
    within("flows", flows, 1, bounds.BENCH_TABLE_MAX)
    within("rounds", rounds, 1, bounds.BENCH_ROUNDS_MAX)
    with own_cluster(ctx, "restart") as (target, own):
        found = measure_restart(own, target.running, kind, flows, rounds, kill=kill)
        result = document(
            "restart", target, kind=kind.value, flows=flows, killed=kill,
            ready_median_s=round(statistics.median(one.ready_s for one in found), 3),
            ready_max_s=round(max(one.ready_s for one in found), 3),
            memory_bytes_per_flow=round(statistics.median(one.memory_bytes_per_flow for one in found), 1),
            rounds=[rounded(one) for one in found],
        )  # fmt: skip
    if settings(ctx).json:
        say_json(result)
        return
    columns = ("node", "flows", "stopped in s", "ready after s", "caught up after s", "memory MB", "bytes a flow")
    rows = [
        (
            one.node, f"{one.flows:,}", f"{one.stop_s:.2f}", f"{one.ready_s:.2f}", f"{one.caught_up_s:.2f}",
            f"{one.memory_bytes / 1e6:.0f}", f"{one.memory_bytes_per_flow:.0f}",
        )
        for one in found
    ]  # fmt: skip
    say_table(columns, rows, right=columns[1:])


def snapshot(
    ctx: typer.Context,
    flows: Annotated[int, typer.Option(help="Flows in the table.")] = 1_000_000,
    rounds: Annotated[int, typer.Option(help="How many snapshots.")] = 3,
    rate: Annotated[float, typer.Option(help="Updates a second meanwhile.")] = 20_000,
    batch: Annotated[int, typer.Option(help="Records of a batch: small, so that a stall is seen.")] = 100,
    kind: KindOption = Kind.IPV4,
    encoding: EncodingOption = Encoding.PACKED,
) -> None:
    """Have the leader take snapshots of a table under a small load: the longest time without an acknowledged write
    meanwhile, and in as long a time before."""
    within("flows", flows, 1, bounds.BENCH_TABLE_MAX)
    within("rounds", rounds, 1, bounds.BENCH_ROUNDS_MAX)
    check_flows(flows, batch)
    plan = FlowPlan(kind=kind, batch=batch, rate=rate, updates=True, table=flows, encoding=encoding)
    with own_cluster(ctx, "snapshot") as (target, own):
        found = measure_snapshot(own, target.running, plan, flows, rounds)
        rows_json = [
            {**rounded(one), "during": one.during.document(), "before": one.before.document()} for one in found
        ]
        result = document(
            "snapshot", target, kind=kind.value, flows=flows, rate=rate, batch=batch, encoding=encoding.value,
            gap_max_s=round(max(one.gap_s for one in found), 4),
            gap_before_max_s=round(max(one.gap_before_s for one in found), 4),
            rounds=rows_json,
        )  # fmt: skip
    if settings(ctx).json:
        say_json(result)
        return
    columns = ("node", "flows", "MB", "took s", "longest gap ms", "gap before ms", "p99 ms", "p99 before ms")
    rows = [
        (
            one.node, f"{one.flows:,}", f"{one.bytes / 1e6:.0f}", f"{one.snapshot_s:.2f}", f"{1000 * one.gap_s:.1f}",
            f"{1000 * one.gap_before_s:.1f}", f"{one.during['p99_ms']:.1f}", f"{one.before['p99_ms']:.1f}",
        )
        for one in found
    ]  # fmt: skip
    say_table(columns, rows, right=columns[1:])
