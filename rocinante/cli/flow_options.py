"""The options of `rocinante flow` that name a flow, describe one, or say which are meant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from rocinante.errors import InvalidArgument

if TYPE_CHECKING:
    from rocinante.client import FlowSelection
    from rocinante.flows import FlowTuple

__all__ = [
    "AddressOption",
    "BackendOption",
    "DestinationOption",
    "FlowArguments",
    "OriginOption",
    "PortOption",
    "ProtocolOption",
    "ProtocolsOption",
    "SourceOption",
    "StatesOption",
    "UntilOption",
    "ZoneOption",
    "named_flows",
    "selection",
]

FlowArguments = Annotated[
    list[str] | None, typer.Argument(metavar="ID", show_default=False, help="Ids of flows, in hex.")
]
ProtocolOption = Annotated[
    str | None, typer.Option("--protocol", metavar="NAME|NUMBER", help="tcp, udp, icmp, sctp, … or a number.")
]
SourceOption = Annotated[
    str | None, typer.Option("--source", metavar="IP:PORT", help="Where the flow comes from ([IPv6]:PORT).")
]
DestinationOption = Annotated[
    str | None, typer.Option("--destination", metavar="IP:PORT", help="Where the flow goes, before any translation.")
]
ZoneOption = Annotated[
    int | None, typer.Option("--zone", metavar="N", min=0, max=65535, help="VRF or tenant (default 0).")
]
OriginOption = Annotated[
    str, typer.Option("--origin", metavar="DC", help="The datacenter that owns it (default: the cluster's own).")
]
UntilOption = Annotated[
    str,
    typer.Option(
        "--until",
        metavar="WHERE",
        help="Wait until it is committed, applied:NODE (name, id or address of one), or applied by all.",
    ),
]
AddressOption = Annotated[
    list[str] | None, typer.Option("--address", metavar="IP|NETWORK", help="Of either end; may be repeated.")
]
PortOption = Annotated[
    list[int] | None, typer.Option("--port", metavar="N", min=0, max=65535, help="Of either end; may be repeated.")
]
ProtocolsOption = Annotated[
    list[str] | None, typer.Option("--protocol", metavar="NAME|NUMBER", help="tcp, udp, …; may be repeated.")
]
StatesOption = Annotated[
    list[str] | None, typer.Option("--state", metavar="NAME", help="ESTABLISHED, SYN_SENT, …; may be repeated.")
]
BackendOption = Annotated[str, typer.Option("--backend", metavar="IP[:PORT]|NAME", help="Sent to this backend.")]


def named_flows(
    ids: list[str] | None, protocol: str | None, source: str | None, destination: str | None, zone: int | None
) -> list[str | FlowTuple]:
    """The flows that a command line names: by ids, by one tuple, or both. Raises BadParameter when it names none."""
    from rocinante.flows import FlowError, FlowTuple

    found: list[str | FlowTuple] = list(ids or ())
    ends = (protocol, source, destination)
    if all(end is not None for end in ends):
        try:
            found.append(FlowTuple.from_text(protocol or "", source or "", destination or "", zone or 0))
        except FlowError as error:
            raise InvalidArgument(f"--{error.field.partition('.')[0]}", error.problem) from None
    elif any(end is not None for end in ends):
        raise typer.BadParameter("a tuple needs all of --protocol, --source and --destination")
    if not found:
        raise typer.BadParameter("name a flow: its ID, or --protocol, --source and --destination")
    return found


def selection(**conditions: Any) -> FlowSelection:
    """The conditions that were given."""
    from rocinante.client import FlowSelection

    return FlowSelection(**{name: value for name, value in conditions.items() if value not in (None, [], "")})
