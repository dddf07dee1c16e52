"""`rocinante leader`: who leads, and handing leadership over."""

from __future__ import annotations

from typing import Annotated

import typer

from rocinante.cli.common import ClusterCommand, ClusterGroup, examples, settings
from rocinante.cli.members import find_member
from rocinante.cli.output import say, say_json, shown
from rocinante.cli.views import member_json
from rocinante.errors import Unavailable
from rocinante.identity import format_id

__all__ = ["app"]

app = typer.Typer(cls=ClusterGroup, help="Show the leader, or hand leadership over.")


@app.callback(invoke_without_command=True)
def leader(ctx: typer.Context) -> None:
    """Show the leader, or hand leadership over. Without a verb of its own: show."""
    if ctx.invoked_subcommand is None:
        show(ctx)


@app.command("show", cls=ClusterCommand, epilog=examples("rocinante leader", "rocinante leader show -o json"))
def show(ctx: typer.Context) -> None:
    """Show who leads. Exit status 3 when no leader is known."""
    with settings(ctx).client() as client:
        found = client.cluster.leader()
    if found is None:
        raise Unavailable("no leader is known: a majority of the nodes must run and reach each other")
    if settings(ctx).json:
        say_json(member_json(found))
    else:
        say(f"{shown(found.name)} ({found.endpoint})")


@app.command(
    "transfer",
    cls=ClusterCommand,
    epilog=examples("rocinante leader transfer", "rocinante leader transfer node2"),
)
def transfer(
    ctx: typer.Context,
    to: Annotated[
        str | None,
        typer.Argument(metavar="NODE", help="Name, HOST:PORT or id of the next leader (default: the best voter)."),
    ] = None,
) -> None:
    """Hand leadership to another node, without a gap; returns when it leads."""
    options = settings(ctx)
    with options.client() as client:
        wanted = find_member(client, to).id if to is not None else 0
        identifier = client.cluster.transfer(wanted, timeout_s=options.timeout_s)
        found = next((member for member in client.cluster.members().members if member.id == identifier), None)
    if options.json:
        say_json({"leader": format_id(identifier), "leader_endpoint": found.endpoint if found else None})
    else:
        say(f"{shown(found.name)} ({found.endpoint}) leads" if found else f"{format_id(identifier)} leads")
