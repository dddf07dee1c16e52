"""How flows and their changes look in tables and lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rocinante.cli.output import duration, shown
from rocinante.client.flow_json import entry_to_json
from rocinante.client.types import EventKind
from rocinante.flows import FlowError, format_endpoint, unpack_key
from rocinante.flows.key import PROTOCOL_NAMES
from rocinante.flows.timeouts import NO_DEADLINE

if TYPE_CHECKING:
    from rocinante.client import FlowChange, FlowEntry

__all__ = ["FLOW_COLUMNS", "FLOW_NUMBERS", "FLOW_SPARE", "change_json", "change_lines", "flow_row"]

FLOW_COLUMNS: Final = (
    "PROTO",
    "SOURCE",
    "DESTINATION",
    "STATE",
    "BACKEND",
    "PACKETS",
    "BYTES",
    "UPDATED",
    "EXPIRES",
    "ORIGIN",
)
FLOW_NUMBERS: Final = ("PACKETS", "BYTES")
FLOW_SPARE: Final = ("ORIGIN", "PACKETS", "UPDATED", "EXPIRES", "BACKEND")
"""What a narrow terminal does without."""


def flow_row(entry: FlowEntry, now_ms: int, *, ids: bool = False) -> list[Any]:
    record, original = entry.record, entry.record.original
    cells = [
        PROTOCOL_NAMES.get(original.protocol, str(original.protocol)),
        format_endpoint(original.source, original.source_port),
        format_endpoint(original.destination, original.destination_port),
        record.tcp_state.name,
        _backend(entry),
        f"{record.packets_original}/{record.packets_reply}",
        f"{record.bytes_original}/{record.bytes_reply}",
        _ago(record.updated_ms, now_ms),
        _in(record.deadline_ms, now_ms),
        shown(entry.origin),
    ]
    return [*cells, entry.id] if ids else cells


def _backend(entry: FlowEntry) -> str:
    record = entry.record
    address = "" if record.backend is None else format_endpoint(*record.backend)
    return " ".join(part for part in (shown(record.backend_name), address) if part) or "-"


def _ago(moment_ms: int, now_ms: int) -> str:
    return f"{duration(max(0, now_ms - moment_ms))} ago" if moment_ms else "-"


def _in(moment_ms: int, now_ms: int) -> str:
    if moment_ms in (0, NO_DEADLINE):
        return "never"
    return f"in {duration(moment_ms - now_ms)}" if moment_ms > now_ms else "now"


def change_json(change: FlowChange) -> dict[str, Any]:
    """One event of a watch: {"type": PUT, DELETE, EXPIRE, RESET or SYNCED, "index", …}; flows as in `flow list`, keys
    in hex."""
    value: dict[str, Any] = {"type": change.kind.name, "index": change.index}
    if change.kind is EventKind.PUT:
        value |= {"origin": change.origin, "flows": [entry_to_json(entry) for entry in change.flows]}
    elif change.kind in (EventKind.DELETE, EventKind.EXPIRE):
        value |= {"origin": change.origin, "ids": [key.hex() for key in change.keys]}
    return value


def change_lines(change: FlowChange) -> list[str]:
    head = f"{change.index}  {change.kind.name:<6}"
    if change.kind is EventKind.PUT:
        return [f"{head}  {_line(entry)}" for entry in change.flows]
    if change.kind in (EventKind.DELETE, EventKind.EXPIRE):
        return [f"{head}  {_key_text(key)}" for key in change.keys]
    return [f"{head}  {'the whole table follows' if change.kind is EventKind.RESET else 'changes follow'}"]


def _line(entry: FlowEntry) -> str:
    backend = _backend(entry)
    return f"{entry.record.original} {entry.record.tcp_state.name}" + (f" via {backend}" if backend != "-" else "")


def _key_text(key: bytes) -> str:
    try:
        return str(unpack_key(key)).replace(" > ", " - ")
    except FlowError:
        return key.hex()
