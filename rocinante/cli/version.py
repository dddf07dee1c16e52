"""`rocinante version`."""

from __future__ import annotations

import platform

import typer

from rocinante.cli.common import OutputCommand, examples, settings
from rocinante.cli.output import say, say_json
from rocinante.version import DATA_FORMAT, PROTOCOL_VERSION, __version__

__all__ = ["app"]

app = typer.Typer()


@app.command(cls=OutputCommand, epilog=examples("rocinante version", "rocinante version -o json"))
def version(ctx: typer.Context) -> None:
    """Show the version of this command, of the protocol between nodes and of the data format."""
    if settings(ctx).json:
        say_json(
            {
                "version": __version__,
                "protocol_version": PROTOCOL_VERSION,
                "data_format": DATA_FORMAT,
                "python": platform.python_version(),
            }
        )
        return
    say(
        f"rocinante {__version__} (protocol {PROTOCOL_VERSION}, data format {DATA_FORMAT},"
        f" Python {platform.python_version()})"
    )
