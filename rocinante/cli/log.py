"""`rocinante log`: the last entries of a node's log."""

from __future__ import annotations

from typing import Annotated

import typer

from rocinante.cli.common import ClusterCommand, examples, first_answer, settings
from rocinante.cli.output import say_json, say_table, shown
from rocinante.cli.views import log_json

__all__ = ["app"]

app = typer.Typer()


@app.command(
    cls=ClusterCommand,
    epilog=examples("rocinante log", "rocinante log -n 50 --committed", "rocinante log -c 127.0.0.1:35002 -o json"),
)
def log(
    ctx: typer.Context,
    last: Annotated[int, typer.Option("--last", "-n", min=1, metavar="N", help="How many.")] = 20,
    committed: Annotated[bool, typer.Option("--committed", help="Only what is committed.")] = False,
) -> None:
    """Show the last entries of a node's log, oldest first: of the first that --cluster names and that answers."""
    options = settings(ctx)
    with options.client() as client:
        node, _ = first_answer(client, options.endpoints())
        entries = client.admin.log(last, committed=committed, endpoint=node)
    if settings(ctx).json:
        say_json([log_json(entry) for entry in entries])
        return
    say_table(
        ["INDEX", "TERM", "KIND", "BYTES", "STATE", "COMMANDS"],
        [
            [
                entry.index,
                entry.term,
                entry.kind,
                entry.size_bytes,
                "committed" if entry.committed else "appended",
                shown("; ".join(entry.commands)),
            ]
            for entry in entries
        ],
        right=["INDEX", "TERM", "BYTES"],
    )
