"""`rocinante node`: run one node until it is told to stop."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from rocinante.cli.common import examples

__all__ = ["app"]

app = typer.Typer()


@app.command(
    epilog=examples(
        "rocinante node --config /etc/rocinante/cluster.yaml",
        "rocinante node --config cluster.yaml --name node2 --data-dir /var/lib/rocinante/node2",
        "rocinante node --config cluster.yaml --name node4 --join",
    )
)
def node(
    config: Annotated[Path, typer.Option("--config", metavar="FILE", help="The cluster YAML.")],
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="NAME",
            help="Which controller of the file this is. Default: the first whose address is on this host and whose"
            " ports are free.",
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir", metavar="DIR", help="Where the node keeps its log and snapshots, instead of the file's."
        ),
    ] = None,
    join: Annotated[
        bool,
        typer.Option(
            "--join",
            help="The cluster exists already and this node was (or will be) added with `rocinante members add`: start"
            " empty and wait for its leader. Only the first start needs it.",
        ),
    ] = False,
) -> None:
    """Run one node of a cluster.

    It leaves the state "not ready" when its log is replayed, and stops gracefully on SIGTERM or Ctrl-C: leadership is
    handed over, requests in flight are finished. Exit status 2: the file is wrong; 1: a port is taken; 75: the data
    directory cannot be used now (another process has it, no room); 74: the disk failed; 65: the data is damaged or
    another node's.
    """
    # gRPC's core writes to stderr in a form of its own; the node says itself what an operator needs to know. It reads
    # this when it is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from rocinante.node.daemon import run

    raise SystemExit(run(config, name, data_dir, join=join))
