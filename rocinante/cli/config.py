"""`rocinante config check`: is a cluster YAML right, and what does it say?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rocinante.cli.common import OutputCommand, examples, settings
from rocinante.cli.output import complain, say, say_json, shown
from rocinante.errors import EXIT_USAGE, ConfigError
from rocinante.identity import endpoint, format_id, server_id

__all__ = ["app"]

app = typer.Typer(help="Check a cluster YAML.", no_args_is_help=True)


@app.callback()
def config() -> None:
    """Check a cluster YAML."""


@app.command(
    cls=OutputCommand,
    epilog=examples(
        "rocinante config check /etc/rocinante/cluster.yaml", "rocinante config check cluster.yaml -o json"
    ),
)
def check(ctx: typer.Context, file: Annotated[Path, typer.Argument(metavar="FILE", help="The cluster YAML.")]) -> None:
    """Say everything that is wrong with a file, one line a mistake, with line and key. Exit status 2 then."""
    from rocinante.config import load_config

    try:
        found, warnings = load_config(file)
    except ConfigError as error:
        if settings(ctx).json:
            say_json({"valid": False, "problems": error.problems, "warnings": []})
            raise typer.Exit(EXIT_USAGE) from None
        raise
    controllers = [
        {
            "id": format_id(server_id(controller.address, controller.port)),
            "name": controller.name,
            "endpoint": endpoint(controller.address, controller.port),
            "rest": controller.rest,
        }
        for controller in found.controllers
    ]
    if settings(ctx).json:
        value = {"valid": True, "problems": [], "warnings": warnings}
        say_json(value | {"cluster": found.name, "datacenter": found.datacenter, "controllers": controllers})
        return
    for warning in warnings:
        complain(f"warning: {warning}")
    say(f"{file}: valid; cluster {shown(found.name)} in {shown(found.datacenter)}, {len(controllers)} controllers")
