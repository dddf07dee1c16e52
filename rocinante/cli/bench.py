"""`rocinante bench`: measures a cluster. The verbs about flows are in the modules `bench_…`; here is `kv`: how many
puts and gets a second a running cluster answers, and how fast.

A closed loop: each client sends its next call when the last one is answered. The stages run one after the other, one
for each number of clients. `--timeout` is of one call. Exit status: 0, 1 (a stage without a single answer), 2 (wrong
use), 3 (the cluster cannot be reached).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated, Any, Final

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from rocinante import bench, limits
from rocinante.cli.bench_failover import failover, restart, snapshot
from rocinante.cli.bench_flows import flows
from rocinante.cli.bench_lookup import lookup
from rocinante.cli.bench_watch import watch
from rocinante.cli.common import ClusterCommand, Settings, examples, settings
from rocinante.cli.output import complain, console, say_json, say_table
from rocinante.client import Client
from rocinante.errors import EXIT_FAILED, InvalidArgument, RocinanteError, Unavailable

SECONDS: Final = 10.0

app = typer.Typer(help="Measure a cluster.", no_args_is_help=True)

_EXAMPLES: Final[dict[Callable[..., None], tuple[str, ...]]] = {
    flows: (
        "rocinante bench flows",
        "rocinante bench flows --batch 1000,4096,16384 --in-flight 4,8 --plot flows.svg",
        "rocinante bench flows --cluster 10.0.0.1:35001 --batch 1000 --rate 50000,100000,200000 -o json",
        "rocinante bench flows --table 1000000 --updates --kind ipv6",
    ),
    watch: ("rocinante bench watch", "rocinante bench watch --watchers 8 --rate 300000 --seconds 30"),
    lookup: ("rocinante bench lookup", "rocinante bench lookup --linearizable --misses 10 --processes 2"),
    failover: ("rocinante bench failover", "rocinante bench failover --rounds 20 --rate 200000 -o json"),
    restart: ("rocinante bench restart", "rocinante bench restart --flows 5000000 --kill"),
    snapshot: ("rocinante bench snapshot", "rocinante bench snapshot --flows 5000000 --rounds 1"),
}


@app.callback()
def _bench() -> None:
    """Measure a cluster: the one that --cluster names, or three nodes that are started for it (flows, watch, lookup;
    failover, restart and snapshot always start their own)."""


for verb, lines in _EXAMPLES.items():
    app.command(cls=ClusterCommand, epilog=examples(*lines))(verb)


@app.command(
    cls=ClusterCommand,
    epilog=examples(
        "rocinante bench kv",
        "rocinante bench kv --clients 1,100 --operation get --count 5000 -o json",
        "rocinante bench kv --operation mixed --get-percent 90 --target-leader",
    ),
)
def kv(
    ctx: typer.Context,
    clients: Annotated[str, typer.Option(help="Clients at a time; one stage for each number.")] = "1,10,100",
    operation: Annotated[bench.Operation, typer.Option(help="put, get or mixed.")] = bench.Operation.PUT,
    seconds: Annotated[
        float | None, typer.Option(help=f"How long a stage lasts ({SECONDS:g}, unless --count is given).")
    ] = None,
    count: Annotated[int | None, typer.Option(help="Calls of a stage, instead of a time.")] = None,
    key_size: Annotated[int, typer.Option(help="Bytes of a key.")] = 32,
    value_size: Annotated[int, typer.Option(help="Bytes of a value.")] = 100,
    keys: Annotated[int, typer.Option(help="How many different keys.")] = 1_000,
    get_percent: Annotated[int, typer.Option(help="Gets in a mixed load, in percent.")] = 50,
    serializable: Annotated[
        bool, typer.Option("--serializable", help="Gets that may be stale: no round to the leader.")
    ] = False,
    target_leader: Annotated[
        bool, typer.Option("--target-leader", help="All calls to the leader, and none to the others.")
    ] = False,
    warm_up: Annotated[float, typer.Option(help="Seconds of load before a stage is measured.")] = 1.0,
    processes: Annotated[int, typer.Option(help="Load processes that the clients are spread over.")] = 1,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the keys there.")] = False,
) -> None:
    """Put and get keys in a closed loop: median, 99th percentile and maximum of the latency, calls per second,
    errors."""
    chosen = settings(ctx)
    with chosen.client() as client:
        shared: dict[str, Any] = {
            "endpoints": (_leader(client),) if target_leader else chosen.endpoints(),
            "operation": operation, "count": count, "key_bytes": key_size, "value_bytes": value_size, "keys": keys,
            "get_percent": get_percent, "serializable": serializable, "warm_up": warm_up,
            "timeout": chosen.timeout_s or limits.REQUEST_TIMEOUT_S,
            "prefix": f"bench/{os.urandom(4).hex()}/".encode(),
            "seconds": SECONDS if seconds is None and count is None else seconds,
        }  # fmt: skip
        plans = [bench.Plan(clients=n, processes=min(processes, n), **shared) for n in _numbers(clients)]
        results = _run(client, plans, keep=keep)
    _print(chosen, plans[0], results)
    if not all(result.calls for result in results):
        complain("bench: a stage got no answer")
        raise typer.Exit(EXIT_FAILED)


def _run(client: Client, plans: list[bench.Plan], *, keep: bool) -> list[bench.Result]:
    """All stages, and the keys removed afterwards whatever happens."""
    errors = console(sys.stderr)
    if plans[0].operation is not bench.Operation.PUT:
        bench.fill(client, plans[0])
    try:
        with Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rate]}"), TimeElapsedColumn(),
            console=errors, transient=True, disable=not errors.is_terminal,
        ) as view:  # fmt: skip
            return [_stage(plan, view) for plan in plans]
    except Unavailable:
        keep = True  # nobody there to ask
        raise
    finally:
        if not keep:
            _clear(client, plans[0])


def _clear(client: Client, plan: bench.Plan) -> None:
    """What was measured is worth more than a clean end: a failure is only told."""
    try:
        bench.clear(client, plan)
    except RocinanteError as error:
        complain(f"bench: keys below {plan.prefix.decode()} may be left: {error.message}")


def _stage(plan: bench.Plan, view: Progress) -> bench.Result:
    total = plan.count if plan.count is not None else plan.warm_up + (plan.seconds or 0)
    task = view.add_task(f"{plan.operation}, {plan.clients} client(s)", total=total, rate="")
    before = (0, 0.0)

    def progress(done: int, elapsed: float) -> None:
        nonlocal before
        rate = (done - before[0]) / max(elapsed - before[1], 1e-3)
        before = (done, elapsed)
        shown = f"{rate:,.0f}/s" if done else "warm-up"
        view.update(task, completed=done if plan.count is not None else elapsed, rate=shown)

    result = bench.run(plan, progress)
    view.remove_task(task)
    return result


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InvalidArgument("clients", f"expected numbers such as 1,10,100, got {text!r}") from None


def _leader(client: Client) -> str:
    leader = client.cluster.leader()
    if leader is None:
        raise Unavailable("the cluster has no leader")
    return leader.endpoint


def _print(chosen: Settings, plan: bench.Plan, results: list[bench.Result]) -> None:
    if chosen.json:
        say_json(_document(plan, results))
        return
    columns = ("operation", "clients", "calls", "errors", "per second", "median ms", "p99 ms", "max ms")
    rows = []
    for result in results:
        errors = ", ".join(f"{count} {name}" for name, count in result.errors.items()) or "0"
        times = (f"{value:.2f}" for value in (result.median_ms, result.p99_ms, result.max_ms))
        counts = (str(result.clients), f"{result.calls:,}", errors, f"{result.per_second:,.0f}")
        rows.append((result.operation.value, *counts, *times))
    say_table(columns, rows, right=columns[1:])


def _document(plan: bench.Plan, results: list[bench.Result]) -> dict[str, object]:
    return {
        "endpoints": list(plan.endpoints),
        "operation": plan.operation.value,
        "key_bytes": plan.key_bytes,
        "value_bytes": plan.value_bytes,
        "keys": plan.keys,
        "serializable": plan.serializable,
        "stages": [
            {
                "clients": result.clients,
                "calls": result.calls,
                "errors": result.errors,
                "seconds": round(result.elapsed, 3),
                "per_second": round(result.per_second, 1),
                "median_ms": round(result.median_ms, 3),
                "p99_ms": round(result.p99_ms, 3),
                "max_ms": round(result.max_ms, 3),
                "mean_ms": round(result.mean_ms, 3),
            }
            for result in results
        ],
    }
