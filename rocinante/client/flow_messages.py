"""Flows between what people use (`rocinante.flows`) and the messages of the wire (`rocinante.v1`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from rocinante.client.types import FlowEntry
from rocinante.errors import Internal, InvalidArgument
from rocinante.flows import Backend, FlowError, FlowFlag, FlowRecord, FlowTuple, TcpState, check_key, parse_protocol
from rocinante.flows.filter import FlowFilter
from rocinante.pb.v1 import flow_pb2

__all__ = ["FlowSelection", "entry_from_pb", "key_of", "selection_to_pb"]


@dataclass(frozen=True, slots=True)
class FlowSelection:
    """Which flows are meant. Each condition left out holds for every flow; of several choices any will do."""

    address: Sequence[str] = ()
    """Addresses or networks (CIDR) of either end."""
    port: Sequence[int] = ()
    """Of either end."""
    protocol: Sequence[int | str] = ()
    """Numbers or names: tcp, udp, icmp, …"""
    tcp_state: Sequence[int | str] = ()
    """conntrack's names or numbers."""
    backend: str = ""
    """An address, address:port, or a name."""
    zone: int | None = None
    origin: str = ""


def selection_to_pb(selection: FlowSelection | None) -> flow_pb2.FlowFilter | None:
    """The wire's filter, checked. Raises InvalidArgument naming the condition."""
    if selection is None:
        return None
    try:
        parsed = FlowFilter.parse(**{field.name: getattr(selection, field.name) for field in fields(selection)})
        protocols = [parse_protocol(protocol) for protocol in selection.protocol]
    except FlowError as error:
        raise InvalidArgument(error.field, error.problem) from None
    return flow_pb2.FlowFilter(
        address=list(selection.address),
        port=sorted(parsed.ports),
        protocol=protocols,
        tcp_state=sorted(parsed.states),
        backend=selection.backend,
        zone=parsed.zone,
        origin=selection.origin,
    )


def key_of(flow: FlowTuple | FlowRecord | bytes | str, field: str = "flow") -> bytes:
    """The packed key of a tuple (either direction), a record, a packed key, or a flow's id in hex. Raises
    InvalidArgument."""
    try:
        if isinstance(flow, str):
            flow = bytes.fromhex(flow)
        if isinstance(flow, bytes):
            check_key(flow)
            return flow
        original = flow.original if isinstance(flow, FlowRecord) else flow
        original.check()
    except FlowError as error:
        raise InvalidArgument(f"{field}.{error.field}", error.problem) from None
    except ValueError:
        raise InvalidArgument(field, f"{flow!r} is not a flow id (32 or 80 hex digits)") from None
    return original.key()


def entry_from_pb(message: flow_pb2.FlowRecord) -> FlowEntry:
    """A flow of an answer. Raises Internal when the answer makes no sense (a node of a newer version)."""
    try:
        original = _tuple(message.original)
        record = FlowRecord(
            original=original,
            tcp_state=TcpState(message.tcp_state),
            flags=FlowFlag(message.flags),
            deadline_ms=message.deadline_ms,
            updated_ms=message.updated_ms,
            mark=message.mark,
            backend=Backend(message.backend.address, message.backend.port) if message.HasField("backend") else None,
            backend_name=message.backend_name,
            reply=_tuple(message.reply) if message.HasField("reply") else None,
            packets_original=message.packets_original,
            bytes_original=message.bytes_original,
            packets_reply=message.packets_reply,
            bytes_reply=message.bytes_reply,
            application_data=message.application_data,
        )
        return FlowEntry(record, message.origin, message.id or original.key().hex())
    except ValueError as error:
        raise Internal(f"the answer has a flow that this client cannot read ({error}): is the client older?") from None


def _tuple(message: flow_pb2.Tuple) -> FlowTuple:
    return FlowTuple(
        message.zone,
        message.protocol,
        message.source.address,
        message.source.port,
        message.destination.address,
        message.destination.port,
    )
