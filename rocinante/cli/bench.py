"""`rocinante bench kv`: how many puts and gets a second a running cluster answers, and how fast.

A closed loop: each client sends its next call when the last one is answered. The stages run one after the other, one
for each number of clients. Exit status: 0, 1 (a stage without a single answer), 2 (wrong use), 3 (the cluster cannot
be reached).
"""

from __future__ import annotations

import json
import os
from enum import StrEnum
from typing import Annotated, Any, Final, NoReturn

import grpc
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from rocinante import bench, limits
from rocinante.errors import EXIT_FAILED, EXIT_UNAVAILABLE, EXIT_USAGE, InvalidArgument, Unavailable
from rocinante.pb.v1 import cluster_pb2

STATUS: Final = "/rocinante.v1.Cluster/Status"
INTERRUPTED: Final = 130
TABLE_COLUMNS: Final = 100
"""Of a table that goes to a file or a pipe."""

app = typer.Typer(help="Measure a running cluster.", no_args_is_help=True)


class Output(StrEnum):
    TABLE = "table"
    JSON = "json"


@app.callback()
def _bench() -> None:
    """Measure a running cluster."""


@app.command(
    epilog="Examples:  rocinante bench kv  ·  rocinante bench kv --clients 1,100 --operation get --count 5000 -o json"
)
def kv(
    cluster: Annotated[
        str,
        typer.Option(
            "--cluster", "-c", envvar="ROCINANTE_CLUSTER", help="HOST:PORT[,HOST:PORT…] of the gRPC interface."
        ),
    ] = "127.0.0.1:35001",
    clients: Annotated[str, typer.Option(help="Clients at a time; one stage for each number.")] = "1,10,100",
    operation: Annotated[bench.Operation, typer.Option(help="put, get or mixed.")] = bench.Operation.PUT,
    seconds: Annotated[float | None, typer.Option(help="How long a stage lasts (10, unless --count is given).")] = None,
    count: Annotated[int | None, typer.Option(help="Calls of a stage, instead of a time.")] = None,
    key_size: Annotated[int, typer.Option(help="Bytes of a key.")] = 32,
    value_size: Annotated[int, typer.Option(help="Bytes of a value.")] = 100,
    keys: Annotated[int, typer.Option(help="How many different keys.")] = 1_000,
    get_percent: Annotated[int, typer.Option(help="Gets in a mixed load, in percent.")] = 50,
    serializable: Annotated[bool, typer.Option(help="Gets that may be stale: no round to the leader.")] = False,
    target_leader: Annotated[bool, typer.Option(help="All calls to the leader, and none to the others.")] = False,
    warm_up: Annotated[float, typer.Option(help="Seconds of load before a stage is measured.")] = 1.0,
    timeout: Annotated[float, typer.Option(help="Seconds that a call may take.")] = limits.REQUEST_TIMEOUT_S,
    processes: Annotated[int, typer.Option(help="Load processes that the clients are spread over.")] = 1,
    keep: Annotated[bool, typer.Option(help="Leave the keys there.")] = False,
    output: Annotated[Output, typer.Option("--output", "-o", help="table or json.")] = Output.TABLE,
) -> None:
    """Put and get keys in a closed loop: median, 99th percentile and maximum of the latency, calls per second,
    errors."""
    try:
        endpoints = _leader(cluster.split(","), timeout) if target_leader else tuple(cluster.split(","))
        shared: dict[str, Any] = {
            "endpoints": endpoints, "operation": operation, "count": count, "key_bytes": key_size,
            "value_bytes": value_size, "keys": keys, "get_percent": get_percent, "serializable": serializable,
            "warm_up": warm_up, "timeout": timeout, "prefix": f"bench/{os.urandom(4).hex()}/".encode(),
            "seconds": 10.0 if seconds is None and count is None else seconds,
        }  # fmt: skip
        plans = [bench.Plan(clients=n, processes=min(processes, n), **shared) for n in _numbers(clients)]
        results = _run(plans, keep=keep)
    except InvalidArgument as error:
        _fail(error.message, EXIT_USAGE)
    except Unavailable as error:
        _fail(f"{error.message}; is the cluster running? (--cluster)", EXIT_UNAVAILABLE)
    except grpc.RpcError as error:
        _fail(f"{cluster}: {_details(error)}", EXIT_UNAVAILABLE)
    except KeyboardInterrupt:
        _fail("interrupted", INTERRUPTED)
    if output is Output.JSON:
        print(json.dumps(_document(plans, results), indent=2))
    else:
        console = Console()
        if not console.is_terminal:
            console.width = TABLE_COLUMNS
        console.print(_table(results))
    if not all(result.calls for result in results):
        _fail("a stage got no answer", EXIT_FAILED)


def _run(plans: list[bench.Plan], *, keep: bool) -> list[bench.Result]:
    """All stages, and the keys removed afterwards whatever happens."""
    console = Console(stderr=True)
    if plans[0].operation is not bench.Operation.PUT:
        bench.fill(plans[0])
    try:
        with Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rate]}"), TimeElapsedColumn(),
            console=console, transient=True, disable=not console.is_terminal,
        ) as view:  # fmt: skip
            return [_stage(plan, view) for plan in plans]
    finally:
        if not keep:
            _clear(plans[0])


def _clear(plan: bench.Plan) -> None:
    """What was measured is worth more than a clean end: a failure is only told."""
    try:
        bench.clear(plan)
    except grpc.RpcError as error:
        typer.echo(f"rocinante bench: keys below {plan.prefix.decode()} may be left: {_details(error)}", err=True)


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


def _leader(endpoints: list[str], timeout_s: float) -> tuple[str]:
    """Ask one node after the other who leads. Raises Unavailable."""
    problem = "no endpoint given"
    for endpoint in endpoints:
        with grpc.insecure_channel(endpoint) as channel:
            stub = channel.unary_unary(
                STATUS,
                request_serializer=cluster_pb2.StatusRequest.SerializeToString,
                response_deserializer=cluster_pb2.StatusResponse.FromString,
            )
            try:
                leader = stub(cluster_pb2.StatusRequest(), timeout=timeout_s).leader_endpoint
            except grpc.RpcError as error:
                problem = f"{endpoint}: {_details(error)}"
                continue
        if leader:
            return (leader,)
        problem = f"{endpoint} knows no leader"
    raise Unavailable(problem)


def _details(error: grpc.RpcError) -> str:
    details = getattr(error, "details", None)
    return str(details() if callable(details) else error)


def _table(results: list[bench.Result]) -> Table:
    view = Table()
    view.add_column("operation")
    for title in ("clients", "calls", "errors", "per second", "median ms", "p99 ms", "max ms"):
        view.add_column(title, justify="right")
    for result in results:
        errors = ", ".join(f"{count} {name}" for name, count in result.errors.items()) or "0"
        times = (f"{value:.2f}" for value in (result.median_ms, result.p99_ms, result.max_ms))
        counts = (str(result.clients), f"{result.calls:,}", errors, f"{result.per_second:,.0f}")
        view.add_row(result.operation.value, *counts, *times)
    return view


def _document(plans: list[bench.Plan], results: list[bench.Result]) -> dict[str, object]:
    plan = plans[0]
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


def _fail(message: str, status: int) -> NoReturn:
    typer.echo(f"rocinante bench: {message}", err=True)
    raise typer.Exit(status)
