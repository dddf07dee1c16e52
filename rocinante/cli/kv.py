"""`rocinante kv`: keys and values. Both are bytes: arguments are taken as the shell gives them, `--raw` and `--file`
change nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rocinante.cli.common import ClusterCommand, ClusterGroup, examples, settings
from rocinante.cli.output import bytes_json, say, say_json, say_table, shown, write
from rocinante.cli.views import event_json, key_json, key_row, value_cell
from rocinante.errors import InvalidArgument, NotFound
from rocinante.limits import VALUE_BYTES_MAX

if TYPE_CHECKING:
    from rocinante.client import KeyValue, KvEvent

__all__ = ["app"]

app = typer.Typer(cls=ClusterGroup, help="Put, get, delete, list and watch keys.", no_args_is_help=True)

KeyArgument = Annotated[str, typer.Argument(metavar="KEY", show_default=False, help="The key.")]
PrefixOption = Annotated[bool, typer.Option("--prefix", "-p", help="All keys that begin with KEY.")]
RevisionOption = Annotated[int, typer.Option("--revision", min=0, metavar="N", help="As they were at this revision.")]
LimitOption = Annotated[int, typer.Option("--limit", "-n", min=0, metavar="N", help="At most so many (0: all).")]
StaleOption = Annotated[
    bool, typer.Option("--serializable", help="As the asked node has it, without asking the others.")
]


@app.command(
    cls=ClusterCommand,
    epilog=examples(
        "rocinante kv put greeting hello",
        "rocinante kv put config/app --file app.yaml",
        "date | rocinante kv put now -",
    ),
)
def put(
    ctx: typer.Context,
    key: KeyArgument,
    value: Annotated[
        str | None, typer.Argument(metavar="VALUE", help="The value; - reads it from standard input.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", metavar="FILE", help="Take the value from a file.")
    ] = None,
    previous: Annotated[bool, typer.Option("--previous", help="Show what it was before.")] = False,
) -> None:
    """Write a key. It is written once, however often it had to be sent."""
    content = _value(value, file)
    with settings(ctx).client() as client:
        done = client.kv.put(os.fsencode(key), content, previous=previous)
    if settings(ctx).json:
        answer = {**bytes_json("key", os.fsencode(key)), "revision": done.revision}
        if previous:
            answer["previous"] = key_json(done.previous) if done.previous is not None else None
        say_json(answer)
        return
    say(f"revision {done.revision}")
    if previous:
        say(f"was {value_cell(done.previous.value)}" if done.previous is not None else "was not there")


@app.command(
    cls=ClusterCommand,
    epilog=examples(
        "rocinante kv get greeting",
        "rocinante kv get --prefix config/ -o json",
        "rocinante kv get --raw logo.png > logo.png",
    ),
)
def get(
    ctx: typer.Context,
    key: KeyArgument,
    prefix: PrefixOption = False,
    raw: Annotated[bool, typer.Option("--raw", help="Nothing but the value, byte for byte.")] = False,
    revision: RevisionOption = 0,
    serializable: StaleOption = False,
) -> None:
    """Read a key, or with --prefix all that begin with it. Exit status 1 when a key is not there."""
    name = os.fsencode(key)
    with settings(ctx).client() as client:
        if prefix:
            _show(ctx, client.kv.prefix(name, revision=revision, serializable=serializable), raw=raw)
            return
        item = client.kv.get(name, revision=revision, serializable=serializable)
    if item is None:
        raise NotFound(f"there is no key {shown(name)!r}" + (f" at revision {revision}" if revision else ""))
    if settings(ctx).json and not raw:
        say_json(key_json(item))
    else:
        _show(ctx, iter([item]), raw=raw)


@app.command(
    "del",
    cls=ClusterCommand,
    epilog=examples("rocinante kv del greeting", "rocinante kv del --prefix config/ -o json"),
)
def delete(ctx: typer.Context, key: KeyArgument, prefix: PrefixOption = False) -> None:
    """Delete a key, or with --prefix all that begin with it. None there is no error: the answer says how many."""
    with settings(ctx).client() as client:
        done = client.kv.delete(os.fsencode(key), prefix=prefix)
    if settings(ctx).json:
        say_json({**bytes_json("key", os.fsencode(key)), "deleted": done.deleted, "revision": done.revision})
    else:
        say(f"deleted {done.deleted}")


@app.command(
    "list",
    cls=ClusterCommand,
    epilog=examples("rocinante kv list", "rocinante kv list config/ --values", "rocinante kv list -n 10 -o json"),
)
def list_(
    ctx: typer.Context,
    prefix: Annotated[str, typer.Argument(metavar="PREFIX", help="Only keys that begin with it.")] = "",
    values: Annotated[bool, typer.Option("--values", help="Show the values too.")] = False,
    limit: LimitOption = 0,
    revision: RevisionOption = 0,
    serializable: StaleOption = False,
) -> None:
    """List keys in order, all as they were at one moment."""
    with settings(ctx).client() as client:
        items = client.kv.prefix(
            os.fsencode(prefix), revision=revision, keys_only=not values, serializable=serializable
        )
        _show(ctx, islice(items, limit) if limit else items, with_value=values)


@app.command(
    cls=ClusterCommand,
    epilog=examples(
        "rocinante kv watch --prefix config/",
        "rocinante kv watch greeting --revision 42 -o json",
    ),
)
def watch(
    ctx: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The key; none with --prefix: all keys.")] = "",
    prefix: PrefixOption = False,
    revision: Annotated[int, typer.Option("--revision", min=0, metavar="N", help="Begin with this revision.")] = 0,
    previous: Annotated[bool, typer.Option("--previous", help="Show what it was before, too.")] = False,
    count: Annotated[int, typer.Option("--count", "-n", min=0, metavar="N", help="End after so many events.")] = 0,
) -> None:
    """Show changes as they happen, until Ctrl-C. Goes on over the death of nodes; JSON is one event a line."""
    with (
        settings(ctx).client() as client,
        client.kv.watch(os.fsencode(key), prefix=prefix, from_revision=revision, previous=previous) as events,
    ):
        try:
            for event in islice(events, count or None):
                _show_event(ctx, event)
        except KeyboardInterrupt:
            return


def _value(value: str | None, file: Path | None) -> bytes:
    if (value is None) == (file is None):
        raise typer.BadParameter("give either VALUE (or - for standard input) or --file", param_hint="'VALUE'")
    if file is not None:
        with file.open("rb") as source:
            content = source.read(VALUE_BYTES_MAX + 1)
    elif value == "-":
        content = sys.stdin.buffer.read(VALUE_BYTES_MAX + 1)
    else:
        content = os.fsencode(value or "")
    if len(content) > VALUE_BYTES_MAX:
        raise InvalidArgument("value", f"has more than {VALUE_BYTES_MAX} bytes")
    return content


def _show(ctx: typer.Context, items: Iterator[KeyValue], *, raw: bool = False, with_value: bool = True) -> None:
    if raw:
        for item in items:
            write(item.value)
    elif settings(ctx).json:
        say_json([key_json(item, with_value=with_value) for item in items])
    else:
        columns = ["KEY", *(["VALUE"] if with_value else []), "VERSION", "REVISION"]
        rows = [key_row(item, with_value=with_value) for item in items]
        say_table(columns, rows, right=["VERSION", "REVISION"])


def _show_event(ctx: typer.Context, event: KvEvent) -> None:
    if settings(ctx).json:
        say_json(event_json(event), line=True)
        return
    before = "" if event.previous is None else f"  (was {value_cell(event.previous.value)})"
    value = f" = {value_cell(event.item.value)}" if event.kind.name == "PUT" else ""
    say(f"{event.item.mod_revision}  {event.kind.name:<6}  {shown(event.item.key)}{value}{before}")
