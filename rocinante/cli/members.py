"""`rocinante members`: the membership of the cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rocinante.cli.common import ClusterCommand, ClusterGroup, examples, settings
from rocinante.cli.output import say, say_json, say_table, shown
from rocinante.cli.views import member_json
from rocinante.errors import InvalidArgument, NotFound
from rocinante.identity import format_id

if TYPE_CHECKING:
    from rocinante.client import Client, Member, Members

__all__ = ["app", "find_member"]

app = typer.Typer(cls=ClusterGroup, help="List, add, promote and remove nodes.")

NodeArgument = Annotated[
    str, typer.Argument(metavar="NODE", help="Its name, its HOST:PORT, or its id (16 hex digits).")
]


def find_member(client: Client, node: str) -> Member:
    """The member that is meant by a name, an endpoint or an id. Raises NotFound."""
    members = client.cluster.members().members
    for member in members:
        if node in (member.name, member.endpoint, format_id(member.id)):
            return member
    known = ", ".join(f"{member.name} ({member.endpoint})" for member in members)
    raise NotFound(f"no member is called {node!r}; there are {known}")


def _show(ctx: typer.Context, members: Members) -> None:
    if settings(ctx).json:
        value = {
            "members": [member_json(member) for member in members.members],
            "changing": members.joint,
            "index": members.index,
        }
        say_json(value)
        return
    say_table(
        ["NODE", "ENDPOINT", "REST", "KIND", "LEADER", "ID"],
        [
            [
                shown(member.name),
                member.endpoint,
                member.rest or "-",
                "learner" if member.learner else "voter",
                "yes" if member.leader else "",
                format_id(member.id),
            ]
            for member in members.members
        ],
        right=["REST"],
    )
    if members.joint:
        say("A membership change is under way.")


@app.callback(invoke_without_command=True)
def members(ctx: typer.Context) -> None:
    """List, add, promote and remove nodes. Without a verb of its own: list."""
    if ctx.invoked_subcommand is None:
        list_(ctx)


@app.command("list", cls=ClusterCommand, epilog=examples("rocinante members list", "rocinante members -o json"))
def list_(ctx: typer.Context) -> None:
    """List the members, as the node that is asked has them."""
    with settings(ctx).client() as client:
        _show(ctx, client.cluster.members())


@app.command(
    "add",
    cls=ClusterCommand,
    epilog=examples(
        "rocinante members add 127.0.0.1:35004 --name node4 --rest 8004",
        "rocinante members promote node4",
    ),
)
def add(
    ctx: typer.Context,
    endpoint: Annotated[str, typer.Argument(metavar="IP:PORT", help="Where the new node listens for gRPC.")],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Its name (default: its address).")] = "",
    rest: Annotated[int, typer.Option("--rest", metavar="PORT", min=0, max=65535, help="Its REST port.")] = 0,
    voter: Annotated[
        bool,
        typer.Option(
            "--voter",
            help="Make it a voter at once, not a learner first. Should the leader be lost before it has caught up, a"
            " small cluster may not be able to elect another.",
        ),
    ] = False,
) -> None:
    """Add a node, as a learner: it gets everything, and counts for nothing until it is promoted."""
    host, port = _split(endpoint)
    with settings(ctx).client() as client:
        _show(ctx, client.cluster.add(host, port, name=name, rest=rest, voter=voter))


@app.command("promote", cls=ClusterCommand, epilog=examples("rocinante members promote node4"))
def promote(ctx: typer.Context, node: NodeArgument) -> None:
    """Make a learner that has caught up a voter."""
    with settings(ctx).client() as client:
        _show(ctx, client.cluster.promote(find_member(client, node).id))


@app.command(
    "remove",
    cls=ClusterCommand,
    epilog=examples("rocinante members remove node4", "rocinante members remove 127.0.0.1:35004"),
)
def remove(ctx: typer.Context, node: NodeArgument) -> None:
    """Remove a node. Its data directory must not be used for this cluster again."""
    with settings(ctx).client() as client:
        _show(ctx, client.cluster.remove(find_member(client, node).id))


def _split(endpoint: str) -> tuple[str, int]:
    from rocinante.client.router import parse_endpoint

    try:
        host, _, port = parse_endpoint(endpoint).rpartition(":")
    except InvalidArgument as error:
        raise typer.BadParameter(error.message.removeprefix("cluster: "), param_hint="'IP:PORT'") from None
    return host.strip("[]"), int(port)
