"""What the verbs of `rocinante bench` for flows share: which cluster is measured, the progress, lists of numbers.

The cluster is the one that --cluster, --config or the environment names; without any of them, or with --own-cluster,
three nodes are started here, on free ports, with the configuration's defaults and their data in a temporary directory
(TMPDIR says where), and are gone at the end.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from rocinante import limits
from rocinante.bench import bounds
from rocinante.bench.own import OwnCluster
from rocinante.bench.records import Encoding, Kind
from rocinante.bench.running import Progress, Running
from rocinante.cli.common import CLUSTER_VARIABLE, Settings, settings
from rocinante.cli.output import complain, console
from rocinante.client import Client
from rocinante.errors import InvalidArgument, RocinanteError, Unavailable
from rocinante.version import __version__

__all__ = [
    "EncodingOption",
    "KindOption",
    "OwnOption",
    "Target",
    "cluster_or_own",
    "document",
    "floats",
    "integers",
    "own_cluster",
    "progress_bar",
    "rounded",
]

OwnOption = Annotated[
    bool,
    typer.Option("--own-cluster", help="Start three nodes here, and measure them (the default without --cluster)."),
]
KindOption = Annotated[Kind, typer.Option(help="Of the flows: ipv4, ipv6, or variable (with a backend's name).")]
EncodingOption = Annotated[
    Encoding, typer.Option(help="Of the batches: packed, as the client's writer sends them, or plain.")
]


@dataclass(slots=True)
class Target:
    """What is measured."""

    client: Client
    endpoints: tuple[str, ...]
    own: OwnCluster | None
    running: Running


@contextmanager
def cluster_or_own(ctx: typer.Context, *, own: bool) -> Iterator[Target]:
    """The cluster that was named, or one of our own."""
    chosen = settings(ctx)
    given = chosen.cluster is not None or chosen.config is not None
    if own and given:
        raise InvalidArgument("--own-cluster", "is given together with a cluster: one of them is measured")
    with ExitStack() as stack:
        started = None
        if own or not (given or os.environ.get(CLUSTER_VARIABLE)):
            started = stack.enter_context(_started())
        endpoints = started.endpoints if started is not None else chosen.endpoints()
        yield stack.enter_context(_target(endpoints, started, chosen))


@contextmanager
def own_cluster(ctx: typer.Context, verb: str) -> Iterator[tuple[Target, OwnCluster]]:
    """For what stops nodes: never a cluster that somebody has."""
    chosen = settings(ctx)
    if chosen.cluster is not None or chosen.config is not None:
        raise InvalidArgument(
            "--cluster" if chosen.cluster is not None else "--config",
            f"is not taken: bench {verb} stops nodes, so it starts three of its own",
        )
    with _started() as own, _target(own.endpoints, own, chosen) as target:
        yield target, own


@contextmanager
def _started() -> Iterator[OwnCluster]:
    with tempfile.TemporaryDirectory(prefix="rocinante-bench-") as directory, OwnCluster(Path(directory)) as own:
        own.wait_leader()
        yield own


@contextmanager
def _target(endpoints: tuple[str, ...], own: OwnCluster | None, chosen: Settings) -> Iterator[Target]:
    with (
        Client(endpoints, timeout_s=chosen.timeout_s or limits.REQUEST_TIMEOUT_S_MAX) as client,
        progress_bar() as progress,
    ):
        running = Running(client, progress)
        try:
            yield Target(client, endpoints, own, running)
        finally:
            running.close()


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """On a terminal (standard error); else nothing is shown."""
    errors = console(sys.stderr)
    with Bar(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rate]}"), TimeElapsedColumn(),
        console=errors, transient=True, disable=not errors.is_terminal,
    ) as view:  # fmt: skip
        task = view.add_task("starting", total=None, rate="")
        shown = ["starting"]

        def progress(what: str, done: float, total: float, rate: str) -> None:
            if what != shown[0]:
                shown[0] = what
                view.reset(task)
            view.update(task, description=what, completed=done, total=total, rate=rate)

        yield progress


@contextmanager
def clearing(target: Target, *, keep: bool) -> Iterator[None]:
    """What was written is removed at the end; what was measured is worth more than a clean end: a failure is told."""
    try:
        yield
    except Unavailable:
        keep = True  # nobody there to ask
        raise
    finally:
        if not keep and target.own is None:
            try:
                target.running.clear()
            except RocinanteError as error:
                complain(f"bench: flows of zone {bounds.BENCH_ZONE} may be left for an hour: {error.message}")


def integers(option: str, text: str) -> list[int]:
    """Whole numbers separated by commas."""
    found = floats(option, text)
    if not all(value.is_integer() for value in found):
        raise InvalidArgument(option, f"expected whole numbers, got {text!r}")
    return [int(value) for value in found]


def floats(option: str, text: str) -> list[float]:
    """Numbers separated by commas; 1_000 and 1e6 are fine."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = [-1.0]
    if not all(0 <= value < 1e12 for value in found):
        raise InvalidArgument(option, f"expected numbers such as 1000,4096, got {text!r}")
    return found


def document(what: str, target: Target, **members: Any) -> dict[str, Any]:
    """The JSON of one run; its first members are the same for all verbs."""
    return {
        "benchmark": what,
        "version": __version__,
        "own_cluster": target.own is not None,
        "endpoints": list(target.endpoints),
        "processors": os.cpu_count(),
        "load_average": round(psutil.getloadavg()[0], 2),
        **members,
    }


def rounded(value: Any) -> Any:
    """A dataclass of figures for JSON."""
    return {name: round(each, 4) if isinstance(each, float) else each for name, each in asdict(value).items()}
