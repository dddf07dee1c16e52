"""`rocinante bench watch`: watchers of all flows, how far behind they are at a rate of updates, who falls behind."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import numpy as np
import typer

from rocinante import limits
from rocinante.bench import bounds
from rocinante.bench.crew import Crew
from rocinante.bench.flows import FlowPlan, FlowSample
from rocinante.bench.measured import Latency, Stretch, joined, together
from rocinante.bench.plan import within
from rocinante.bench.records import Encoding, Kind
from rocinante.bench.running import leader_of, loads, prepared
from rocinante.bench.watch import Watched, Watcher
from rocinante.cli.bench_common import EncodingOption, KindOption, OwnOption, Target, clearing, cluster_or_own, document
from rocinante.cli.common import settings
from rocinante.cli.output import complain, say, say_json, say_table
from rocinante.errors import EXIT_FAILED

__all__ = ["watch"]


def watch(
    ctx: typer.Context,
    watchers: Annotated[int, typer.Option(help="Watchers of everything, each a process, spread over the nodes.")] = 4,
    rate: Annotated[float, typer.Option(help="Updates a second.")] = 100_000,
    batch: Annotated[int, typer.Option(help="Records of a batch.")] = 4_096,
    kind: KindOption = Kind.IPV4,
    encoding: EncodingOption = Encoding.PACKED,
    table: Annotated[int, typer.Option(help="Flows that are there, and are updated.")] = 100_000,
    seconds: Annotated[float, typer.Option(help="How long it is measured.")] = 10.0,
    warm_up: Annotated[float, typer.Option(help="Seconds of load before.")] = 2.0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the flows in the given cluster (for an hour).")] = False,
    own_cluster: OwnOption = False,
) -> None:
    """Watch all flows while they are updated. A watcher's lag is from when a batch was due to be written until it was
    read, the commit included. Exit status 1 when a watcher fell behind or did not get to the end."""
    within("watchers", watchers, 1, bounds.BENCH_PROCESSES_MAX)
    within("seconds", seconds, 0.1, bounds.BENCH_SECONDS_MAX)
    within("warm-up", warm_up, 0, bounds.BENCH_SECONDS_MAX)
    timeout = settings(ctx).timeout_s or limits.REQUEST_TIMEOUT_S_MAX
    plan = FlowPlan(kind=kind, batch=batch, rate=rate, updates=True, table=table, encoding=encoding, timeout=timeout)
    with cluster_or_own(ctx, own=own_cluster) as target, clearing(target, keep=keep):
        found = _measure(target, plan, watchers, seconds, warm_up)
        result = document("watch", target, **found)
    if settings(ctx).json:
        say_json(result)
    else:
        _print(result)
    behind = [seen for seen in result["watchers"] if seen["fell_behind"] or not seen["to_the_end"]]
    if behind:
        complain(f"bench: {len(behind)} of {watchers} watchers fell behind")
        raise typer.Exit(EXIT_FAILED)


def _measure(target: Target, plan: FlowPlan, watchers: int, seconds: float, warm_up: float) -> dict[str, Any]:
    running = target.running
    running.fill(plan.kind, plan.table)
    plan = prepared(replace(plan, endpoints=(leader_of(target.client),)), warm_up + seconds)
    members = [member.endpoint for member in target.client.cluster.members().members]
    jobs = [Watcher(number, members[number % len(members)], plan.zone) for number in range(watchers)]
    with Crew(jobs) as crew, Crew(loads(plan)) as load:
        crew.go()
        load.go()
        stretch = running.measure(load, f"{watchers} watchers at {plan.rate:,.0f}/s", seconds, warm_up)
        load.stop()
        samples: list[FlowSample] = load.results(timeout_s=plan.timeout + bounds.BENCH_START_TIMEOUT_S)
        last_index = max(sample.last_index for sample in samples)
        crew.stop(last_index)
        seen: list[Watched] = crew.results(timeout_s=2 * bounds.BENCH_WATCH_END_S)
    written = int(stretch.has(joined(sample.ended_s for sample in samples)).sum()) * plan.batch
    return {
        "kind": plan.kind.value,
        "rate": plan.rate,
        "batch": plan.batch,
        "table": plan.table,
        "encoding": plan.encoding.value,
        "seconds": round(stretch.seconds, 3),
        "written_per_second": round(written / stretch.seconds, 1),
        "errors": dict(together(sample.errors for sample in samples)),
        "nodes": stretch.shares(),
        "watchers": [_watched(one, stretch, last_index) for one in seen],
    }


def _watched(seen: Watched, stretch: Stretch, last_index: int) -> dict[str, Any]:
    inside = stretch.has(np.frombuffer(seen.read_s, np.float64))
    lag = Latency.of(np.frombuffer(seen.lag_s, np.float64)[inside])
    records = int(np.frombuffer(seen.records, np.int64)[inside].sum())
    return {
        "endpoint": seen.endpoint,
        "per_second": round(records / stretch.seconds, 1),
        "lag": lag.document(),
        "fell_behind": seen.fell_behind,
        "to_the_end": seen.reached >= last_index,
        "cpu_s": round(seen.cpu_s, 3),
    }


def _print(result: dict[str, Any]) -> None:
    say(f"{result['written_per_second']:,.0f} updates/s were written ({result['rate']:,.0f} asked for)")
    columns = ("watcher of", "records/s", "lag p50 ms", "p99 ms", "max ms", "fell behind", "to the end")
    rows = [
        (
            seen["endpoint"], f"{seen['per_second']:,.0f}",
            *(f"{seen['lag'][name]:.1f}" for name in ("p50_ms", "p99_ms", "max_ms")),
            seen["fell_behind"], "yes" if seen["to_the_end"] else "no",
        )
        for seen in result["watchers"]
    ]  # fmt: skip
    say_table(columns, rows, right=columns[1:])
