"""`rocinante bench lookup`: how many flows a second can be looked up, in batches, and how fast."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from rocinante import limits
from rocinante.bench import bounds
from rocinante.bench.crew import Crew
from rocinante.bench.lookup import LookupLoad, LookupPlan, LookupSample
from rocinante.bench.measured import Latency, joined, together
from rocinante.bench.plan import within
from rocinante.bench.records import Kind
from rocinante.cli.bench_common import KindOption, OwnOption, Target, clearing, cluster_or_own, document
from rocinante.cli.common import settings
from rocinante.cli.output import complain, say_json, say_table
from rocinante.client import Client
from rocinante.errors import EXIT_FAILED, Unavailable

__all__ = ["lookup"]


class Whom(StrEnum):
    """Who is asked."""

    FOLLOWER = "follower"
    LEADER = "leader"
    ALL = "all"


def lookup(
    ctx: typer.Context,
    batch: Annotated[int, typer.Option(help="Keys of a look-up.")] = 1_000,
    clients: Annotated[int, typer.Option(help="Look-ups on their way, of each load process.")] = 4,
    processes: Annotated[int, typer.Option(help="Load processes.")] = 1,
    kind: KindOption = Kind.IPV4,
    table: Annotated[int, typer.Option(help="Flows that are put before.")] = 1_000_000,
    misses: Annotated[int, typer.Option(help="Of 100 keys, those that are not there.")] = 0,
    linearizable: Annotated[
        bool, typer.Option("--linearizable", help="Not from the node's own table as it is, but as of now.")
    ] = False,
    whom: Annotated[Whom, typer.Option("--ask", help="A follower, the leader, or all nodes in turns.")] = Whom.FOLLOWER,
    seconds: Annotated[float, typer.Option(help="How long it is measured.")] = 10.0,
    warm_up: Annotated[float, typer.Option(help="Seconds of load before.")] = 1.0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the flows in the given cluster (for an hour).")] = False,
    own_cluster: OwnOption = False,
) -> None:
    """Look flows up in batches, in a closed loop: flows per second, latency of a look-up. Every answer is checked."""
    within("seconds", seconds, 0.1, bounds.BENCH_SECONDS_MAX)
    within("warm-up", warm_up, 0, bounds.BENCH_SECONDS_MAX)
    chosen = settings(ctx)
    shared: dict[str, Any] = {
        "kind": kind, "table": table, "batch": batch, "clients": clients, "processes": processes, "misses": misses,
        "stale": not linearizable, "timeout": chosen.timeout_s or limits.REQUEST_TIMEOUT_S,
    }  # fmt: skip
    LookupPlan((), **shared)  # the options are looked at before anything is started
    with cluster_or_own(ctx, own=own_cluster) as target, clearing(target, keep=keep):
        target.running.fill(kind, table)
        plan = LookupPlan(_endpoints(target.client, whom), **shared)
        result = document("lookup", target, **_measure(target, plan, seconds, warm_up), asked=whom.value)
    if chosen.json:
        say_json(result)
    else:
        _print(result)
    if not result["lookups"] or "WRONG_ANSWER" in result["errors"]:
        complain("bench: look-ups found other flows than there are" if result["errors"] else "bench: no answer")
        raise typer.Exit(EXIT_FAILED)


def _endpoints(client: Client, whom: Whom) -> tuple[str, ...]:
    members = client.cluster.members().members
    found = [member.endpoint for member in members if whom is Whom.ALL or member.leader == (whom is Whom.LEADER)]
    if not found:
        raise Unavailable(f"the cluster has no {whom.value}")
    return tuple(found if whom is Whom.ALL else found[:1])


def _measure(target: Target, plan: LookupPlan, seconds: float, warm_up: float) -> dict[str, Any]:
    running = target.running
    with Crew([LookupLoad(plan, number) for number in range(plan.processes)]) as crew:
        crew.go()
        stretch = running.measure(crew, f"looking up {plan.batch:,} at a time", seconds, warm_up)
        crew.stop()
        samples: list[LookupSample] = crew.results(timeout_s=plan.timeout + bounds.BENCH_START_TIMEOUT_S)
    began, ended = joined(sample.began_s for sample in samples), joined(sample.ended_s for sample in samples)
    inside = stretch.has(ended)
    cpu_s = sum(sample.cpu_s for sample in samples)
    return {
        "kind": plan.kind.value,
        "batch": plan.batch,
        "clients": plan.clients,
        "processes": plan.processes,
        "table": plan.table,
        "misses_percent": plan.misses,
        "consistency": "stale" if plan.stale else "linearizable",
        "seconds": round(stretch.seconds, 3),
        "lookups": int(inside.sum()),
        "flows_per_second": round(int(inside.sum()) * plan.batch / stretch.seconds, 1),
        "latency": Latency.of((ended - began)[inside]).document(),
        "errors": dict(together(sample.errors for sample in samples)),
        "client_cpu_s_per_million": round(1e6 * cpu_s / (len(ended) * plan.batch), 4) if len(ended) else 0.0,
        "nodes": stretch.shares(),
    }


def _print(result: dict[str, Any]) -> None:
    columns = ("asked", "consistency", "batch", "flows/s", "p50 ms", "p99 ms", "max ms", "errors")
    latency = (f"{result['latency'][name]:.2f}" for name in ("p50_ms", "p99_ms", "max_ms"))
    errors = ", ".join(f"{count} {name}" for name, count in result["errors"].items()) or "0"
    row = (
        result["asked"], result["consistency"], f"{result['batch']:,}", f"{result['flows_per_second']:,.0f}",
        *latency, errors,
    )  # fmt: skip
    say_table(columns, [row], right=columns[2:])
