"""`rocinante dev`: run a whole cluster on this machine, in one terminal."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from rocinante.cli.common import examples
from rocinante.cli.output import complain, console
from rocinante.config import StorageEngine
from rocinante.dev import DevError, Launcher, Options
from rocinante.dev.view import HELP, LiveView, PlainView
from rocinante.limits import DEV_NODES_MAX

__all__ = ["app"]

app = typer.Typer()


@app.command(
    epilog=examples("rocinante dev", "rocinante dev --nodes 5 --storage memory --fresh", "echo 'k 1' | rocinante dev")
)
def dev(
    nodes: Annotated[int, typer.Option(min=1, max=DEV_NODES_MAX, help="How many nodes.")] = 3,
    directory: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="Data, logs and the cluster YAML; kept between runs.")
    ] = Path(".rocinante/dev"),
    base_port: Annotated[
        int | None,
        typer.Option(
            min=1024,
            max=65_000,
            help="First gRPC port; REST ports follow the gRPC ports. Default: gRPC from 35001, REST from 8001. "
            "What is taken is stepped over.",
        ),
    ] = None,
    storage: Annotated[StorageEngine, typer.Option(help="Keep the data on disk, or in memory only.")] = (
        StorageEngine.LEVELDB
    ),
    sniff: Annotated[
        bool, typer.Option("--sniff", help="Feed the cluster this machine's TCP and UDP connections (needs root).")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what earlier runs left in DIR.")] = False,
    headless: Annotated[
        bool, typer.Option("--headless", "--no-tui", help="Plain lines instead of a live table.")
    ] = False,
) -> None:
    """Run a whole cluster on this machine, one process a node.

    A live table shows how the nodes are. Commands are typed and ended with Enter: `k 2` kills node 2 (SIGKILL), `s 2`
    starts it again, `t 2` makes it the leader, `p 2` and `c 2` pause it and let it continue, `q` or Ctrl-C quits. No
    process is left behind.
    """
    output = console(sys.stdout)
    live = sys.stdout.isatty() and not headless and os.environ.get("TERM") != "dumb"
    interactive = live and sys.stdin.isatty()
    view = LiveView(output) if live else PlainView(output)
    try:
        launcher = Launcher(Options(directory, nodes, storage, base_port, sniff, fresh), view)
        if not live:
            view.say(f"commands on standard input: {HELP}")
        status = launcher.run(interactive=interactive)
    except DevError as error:
        complain(f"dev: {error}")
        raise typer.Exit(error.status) from None
    raise typer.Exit(status)
