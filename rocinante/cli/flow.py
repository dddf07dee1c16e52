"""`rocinante flow`: the flow table."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from rocinante.cli.common import ClusterCommand, ClusterGroup, examples, settings
from rocinante.cli.flow_input import finish, json_lines
from rocinante.cli.flow_options import (
    AddressOption,
    BackendOption,
    DestinationOption,
    FlowArguments,
    OriginOption,
    PortOption,
    ProtocolOption,
    ProtocolsOption,
    SourceOption,
    StatesOption,
    UntilOption,
    ZoneOption,
    named_flows,
    selection,
)
from rocinante.cli.flow_views import FLOW_COLUMNS, FLOW_NUMBERS, FLOW_SPARE, change_json, change_lines, flow_row
from rocinante.cli.output import say, say_json, say_table
from rocinante.errors import NotFound
from rocinante.limits import CLI_TOP_ROWS_MAX

if TYPE_CHECKING:
    from rocinante.client import DeleteProgress, FlowEntry
    from rocinante.flows import FlowRecord

__all__ = ["app"]

app = typer.Typer(cls=ClusterGroup, help="Put, get, list, watch, rank and delete flows.", no_args_is_help=True)

_TOP_ROWS: Final = 20
"""Off a terminal, where --count does not say."""


class Sort(StrEnum):
    """What makes a flow a busy one."""

    BYTES = "bytes"
    PACKETS = "packets"


StaleOption = Annotated[bool, typer.Option("--stale", help="As the asked node has it, without asking the others.")]


@app.command(
    cls=ClusterCommand,
    epilog=examples(
        "rocinante flow put --protocol tcp --source 192.0.2.1:41234 --destination 198.51.100.7:443 --state ESTABLISHED",
        "rocinante flow put --backend 10.0.0.5:8443 --ttl 3600 - < flows.jsonl",
        "rocinante flow put --until applied:node2 flows.jsonl",
        "rocinante -c 127.0.0.1:35001 flow list -o json --lines | rocinante -c 127.0.0.1:36001 flow put -",
    ),
)
def put(
    ctx: typer.Context,
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="JSON lines, one flow each; - is standard input.")
    ] = None,
    protocol: ProtocolOption = None,
    source: SourceOption = None,
    destination: DestinationOption = None,
    zone: ZoneOption = None,
    state: Annotated[str | None, typer.Option("--state", metavar="NAME", help="TCP state, conntrack's name.")] = None,
    flag: Annotated[list[str] | None, typer.Option("--flag", metavar="NAME", help="SEEN_REPLY, ASSURED, …")] = None,
    backend: Annotated[str | None, typer.Option("--backend", metavar="IP:PORT", help="Where it was sent.")] = None,
    backend_name: Annotated[str | None, typer.Option("--backend-name", metavar="NAME", help="… by name.")] = None,
    reply_source: Annotated[
        str | None, typer.Option("--reply-source", metavar="IP:PORT", help="NAT: where answers come from.")
    ] = None,
    reply_destination: Annotated[
        str | None, typer.Option("--reply-destination", metavar="IP:PORT", help="NAT: where answers go.")
    ] = None,
    mark: Annotated[int | None, typer.Option("--mark", metavar="N", min=0, help="The packet mark.")] = None,
    ttl: Annotated[
        float | None,
        typer.Option("--ttl", metavar="SECONDS", min=0, help="Expires after this (default: the cluster's time-outs)."),
    ] = None,
    forever: Annotated[bool, typer.Option("--forever", help="Stays until it is deleted.")] = False,
    origin: OriginOption = "",
    until: UntilOption = "committed",
) -> None:
    """Write flows: the one that the options describe, or those of FILE, for which the options are defaults.

    The JSON is that of `flow list -o json --lines` and of the REST API; protocol, source and destination are needed, an
    endpoint may be text. Lines are written as they come, in batches; of a flow that comes more than once the last line
    counts. A line that is wrong ends the command; those before it are written.
    """
    from rocinante.flows.timeouts import NO_DEADLINE

    now_ms = int(time.time() * 1000)
    fields: dict[str, Any] = {
        "protocol": protocol,
        "source": source,
        "destination": destination,
        "zone": zone,
        "tcp_state": state,
        "flags": flag or None,
        "backend": backend,
        "backend_name": backend_name,
        "mark": mark,
        "deadline_ms": NO_DEADLINE if forever else None if ttl is None else now_ms + int(ttl * 1000),
    }
    if forever and ttl is not None:
        raise typer.BadParameter("--ttl and --forever exclude each other")
    if (reply_source is None) != (reply_destination is None):
        raise typer.BadParameter("--reply-source and --reply-destination go together")
    if reply_source is not None:
        fields["reply"] = {"source": reply_source, "destination": reply_destination}
    given = {name: value for name, value in fields.items() if value is not None}
    _put(ctx, _records(file, given, now_ms), origin, until)


def _records(file: str | None, given: dict[str, Any], now_ms: int) -> Iterator[FlowRecord]:
    from rocinante.flow_json import record_from_json

    if file is None:
        if "source" not in given:
            raise typer.BadParameter("describe a flow by --protocol, --source and --destination, or give FILE (or -)")
        return iter([record_from_json(given, "flow", now_ms)])
    return (
        record_from_json(given | line, where, now_ms) for where, line in json_lines(None if file == "-" else Path(file))
    )


def _put(ctx: typer.Context, records: Iterator[FlowRecord], origin: str, until: str) -> None:
    from rocinante.client.flow_barrier import check_until

    check_until(until)
    written = 0
    with settings(ctx).client() as client, client.flows.writer(origin=origin) as writer:
        for record in records:
            writer.put(record)
            written += 1
        index = finish(writer, until).index
    if settings(ctx).json:
        say_json({"records": written, "index": index})
    else:
        say(f"wrote {written} at log index {index}")


@app.command(
    cls=ClusterCommand,
    epilog=examples(
        "rocinante flow get --protocol tcp --source 192.0.2.1:41234 --destination 198.51.100.7:443",
        "rocinante flow get 00000406c0000201c6336407a11201bb -o json",
    ),
)
def get(
    ctx: typer.Context,
    ids: FlowArguments = None,
    protocol: ProtocolOption = None,
    source: SourceOption = None,
    destination: DestinationOption = None,
    zone: ZoneOption = None,
    stale: StaleOption = False,
) -> None:
    """Read flows, named by id or by tuple (either direction). Exit status 1 when one is not there."""
    named = named_flows(ids, protocol, source, destination, zone)
    with settings(ctx).client() as client:
        found = client.flows.get(named, stale=stale)
    there = [entry for entry in found if entry is not None]
    if there:
        _show(ctx, iter(there))
    missing = [str(name) for name, entry in zip(named, found, strict=True) if entry is None]
    if missing:
        raise NotFound(f"there is no flow {', '.join(missing)}")


@app.command(
    "list",
    cls=ClusterCommand,
    epilog=examples(
        "rocinante flow list --state ESTABLISHED --port 443",
        "rocinante flow list --address 192.0.2.0/24 --ids -n 20",
        "rocinante flow list -o json --lines > flows.jsonl",
    ),
)
def list_(
    ctx: typer.Context,
    address: AddressOption = None,
    port: PortOption = None,
    protocol: ProtocolsOption = None,
    state: StatesOption = None,
    backend: BackendOption = "",
    zone: ZoneOption = None,
    origin: Annotated[str, typer.Option("--origin", metavar="DC", help="Owned by this datacenter.")] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, metavar="N", help="At most so many (0: all).")] = 0,
    ids: Annotated[bool, typer.Option("--ids", help="Show the ids in the table.")] = False,
    lines: Annotated[
        bool, typer.Option("--lines", help="JSON lines, one flow each, as `flow put` reads them.")
    ] = False,
    stale: StaleOption = False,
) -> None:
    """List flows. Of several conditions all must hold, of several values of one any."""
    wanted = selection(
        address=address, port=port, protocol=protocol, tcp_state=state, backend=backend, zone=zone, origin=origin
    )
    with settings(ctx).client() as client:
        flows = client.flows.list(wanted, stale=stale)
        _show(ctx, islice(flows, limit) if limit else flows, ids=ids, lines=lines)


@app.command(
    cls=ClusterCommand,
    epilog=examples(
        "rocinante flow watch --port 443",
        "rocinante flow watch --snapshot -o json",
        "rocinante flow watch --from-index 1200 -n 10",
    ),
)
def watch(
    ctx: typer.Context,
    address: AddressOption = None,
    port: PortOption = None,
    protocol: ProtocolsOption = None,
    state: StatesOption = None,
    backend: BackendOption = "",
    zone: ZoneOption = None,
    origin: Annotated[str, typer.Option("--origin", metavar="DC", help="Owned by this datacenter.")] = "",
    from_index: Annotated[int, typer.Option("--from-index", min=0, metavar="N", help="After this log index.")] = 0,
    snapshot: Annotated[bool, typer.Option("--snapshot", help="First the table as it is.")] = False,
    count: Annotated[int, typer.Option("--count", "-n", min=0, metavar="N", help="End after so many events.")] = 0,
) -> None:
    """Show changes as they happen, until Ctrl-C. Goes on over the death of nodes; JSON is one event a line."""
    wanted = selection(
        address=address, port=port, protocol=protocol, tcp_state=state, backend=backend, zone=zone, origin=origin
    )
    with (
        settings(ctx).client() as client,
        client.flows.watch(wanted, from_index=from_index, snapshot=snapshot) as changes,
    ):
        try:
            for change in islice(changes, count or None):
                if settings(ctx).json:
                    say_json(change_json(change), line=True)
                    continue
                for line in change_lines(change):
                    say(line)
        except KeyboardInterrupt:
            return


@app.command(
    cls=ClusterCommand,
    epilog=examples(
        "rocinante flow top",
        "rocinante flow top --sort packets --port 443",
        "rocinante flow top -o json -n 5 --interval 10",
    ),
)
def top(
    ctx: typer.Context,
    address: AddressOption = None,
    port: PortOption = None,
    protocol: ProtocolsOption = None,
    state: StatesOption = None,
    backend: BackendOption = "",
    zone: ZoneOption = None,
    origin: Annotated[str, typer.Option("--origin", metavar="DC", help="Owned by this datacenter.")] = "",
    sort: Annotated[Sort, typer.Option("--sort", help="By bytes or by packets a second.")] = Sort.BYTES,
    count: Annotated[
        int | None,
        typer.Option("--count", "-n", min=1, max=CLI_TOP_ROWS_MAX, metavar="N", help="How many (default: what fits)."),
    ] = None,
    interval: Annotated[
        float, typer.Option("--interval", min=0.1, max=3600, metavar="SECONDS", help="How often it is shown anew.")
    ] = 2.0,
) -> None:
    """The busiest flows, live, until Ctrl-C: bytes and packets a second, both directions together.

    The rates come from the differences of counters as flows are updated, so a flow shows up with its second update.
    With -o json, or where the output is no terminal, the flows are watched for one interval and shown once.
    """
    from rocinante.cli.flow_top import Top, show_live, show_once

    wanted = selection(
        address=address, port=port, protocol=protocol, tcp_state=state, backend=backend, zone=zone, origin=origin
    )
    with settings(ctx).client() as client:
        rates = Top(client, wanted, by_packets=sort is Sort.PACKETS)
        if settings(ctx).json or not sys.stdout.isatty():
            show_once(rates, count or _TOP_ROWS, interval, json=settings(ctx).json)
        else:
            show_live(rates, count, interval)


@app.command(
    "del",
    cls=ClusterCommand,
    epilog=examples(
        "rocinante flow del --protocol tcp --source 192.0.2.1:41234 --destination 198.51.100.7:443",
        "rocinante flow del 00000406c0000201c6336407a11201bb",
        "rocinante flow del --address 192.0.2.0/24 --state TIME_WAIT",
        "rocinante flow del --backend 10.0.0.5 --origin '*'",
        "rocinante flow del --all",
    ),
)
def delete(
    ctx: typer.Context,
    ids: FlowArguments = None,
    protocol: ProtocolOption = None,
    source: SourceOption = None,
    destination: DestinationOption = None,
    zone: ZoneOption = None,
    address: AddressOption = None,
    port: PortOption = None,
    state: StatesOption = None,
    backend: BackendOption = "",
    everything: Annotated[bool, typer.Option("--all", help="All flows of the origin.")] = False,
    origin: Annotated[
        str,
        typer.Option("--origin", metavar="DC", help="The datacenter that owns them (default: the cluster's; *: all)."),
    ] = "",
) -> None:
    """Delete flows: those named by id or by tuple, or all that meet the conditions (--address, --port, --protocol,
    --state, --backend, --zone, --origin, --all). One that is not there is no error: the answer says how many.

    With conditions it goes through the table in steps; what is written meanwhile may or may not be deleted.
    """
    named = bool(ids) or source is not None or destination is not None
    conditions = {"address": address, "port": port, "tcp_state": state, "backend": backend}
    if named and (everything or any(conditions.values())):
        raise typer.BadParameter("name flows (ID, or --source and --destination), or give conditions, not both")
    if not named and not (everything or any(conditions.values()) or protocol or zone is not None or origin):
        raise typer.BadParameter("name flows, give a condition, or --all")
    with settings(ctx).client() as client:
        if named:
            done = client.flows.delete(named_flows(ids, protocol, source, destination, zone), origin=origin)
        else:
            protocols = [protocol] if protocol else None
            wanted = selection(**conditions, protocol=protocols, zone=zone)
            show = None if settings(ctx).json else _progress
            done = client.flows.delete_where(wanted, origin=origin, everything=everything, on_progress=show)
    if settings(ctx).json:
        say_json({"deleted": done.deleted, "index": done.index})
    else:
        say(f"deleted {done.deleted}")


app.command(
    "delete",
    cls=ClusterCommand,
    hidden=True,
    help="Delete flows: the same as `rocinante flow del`.",
    epilog=examples("rocinante flow delete 00000406c0000201c6336407a11201bb"),
)(delete)


def _progress(done: DeleteProgress) -> None:
    """On a terminal only, and only where it takes more than one step."""
    if sys.stderr.isatty() and done.looked_at < done.places:
        print(f"deleted {done.deleted}, {done.looked_at * 100 // done.places} % of the table", file=sys.stderr)


def _show(ctx: typer.Context, flows: Iterator[FlowEntry], *, ids: bool = False, lines: bool = False) -> None:
    from rocinante.client.flow_json import entry_to_json

    if lines:
        for entry in flows:
            say_json(entry_to_json(entry), line=True)
    elif settings(ctx).json:
        say_json([entry_to_json(entry) for entry in flows])
    else:
        now_ms = int(time.time() * 1000)
        columns = [*FLOW_COLUMNS, *(["ID"] if ids else [])]
        rows = [flow_row(entry, now_ms, ids=ids) for entry in flows]
        say_table(columns, rows, right=FLOW_NUMBERS, spare=FLOW_SPARE)
