"""Log entries as lines for people: `/v1/log`, `rocinante log`, the page."""

from __future__ import annotations

from typing import Final

from google.protobuf.message import DecodeError

from rocinante.identity import format_id
from rocinante.pb.etcd import rpc_pb2
from rocinante.ports import LogLine
from rocinante.raft.membership import decode_change
from rocinante.raft.types import Entry, EntryKind, InvalidChange
from rocinante.state import command
from rocinante.state.command import Command, Kind

_COMMANDS_SHOWN_MAX: Final = 8
_TEXT_MAX: Final = 80


def describe(entry: Entry, *, committed: bool) -> LogLine:
    """One entry; of a large one only the first commands."""
    lines: tuple[str, ...]
    if entry.kind is EntryKind.CONFIG:
        kind, lines = "config", (_change(entry.data),)
    elif not entry.data:
        kind, lines = "noop", ()
    else:
        kind, lines = "commands", _commands(entry.data)
    return LogLine(entry.index, entry.term, kind, len(entry.data), lines, committed)


def _change(data: bytes) -> str:
    try:
        change = decode_change(data)
    except InvalidChange as error:
        return f"unreadable: {error}"
    parts = [f"{item.kind.name.lower().replace('_', ' ')} {format_id(item.node)}" for item in change.changes]
    return ", ".join(parts) or "leave the joint configuration"


def _commands(data: bytes) -> tuple[str, ...]:
    lines: list[str] = []
    total = 0
    try:
        for item in command.unpack(data):
            total += 1
            if total <= _COMMANDS_SHOWN_MAX:
                lines.append(_command(item))
    except command.CommandError as error:
        lines.append(f"unreadable: {error}")
    if total > _COMMANDS_SHOWN_MAX:
        lines.append(f"… and {total - _COMMANDS_SHOWN_MAX} more")
    return tuple(lines)


def _command(item: Command) -> str:
    try:
        kind = Kind(item.kind)
    except ValueError:
        return f"unknown command {item.kind}"
    try:
        return _DESCRIBE.get(kind, _plain)(kind, bytes(item.body))
    except (DecodeError, ValueError, IndexError):
        return f"{_name(kind)} (unreadable)"


def _name(kind: Kind) -> str:
    return kind.name.lower().replace("_", " ")


def _plain(kind: Kind, _body: bytes) -> str:
    return _name(kind)


def _text(data: bytes) -> str:
    text = data[:_TEXT_MAX].decode("utf-8", "backslashreplace")
    printable = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
    return printable + ("…" if len(data) > _TEXT_MAX else "")


def _put(_kind: Kind, body: bytes) -> str:
    request = rpc_pb2.PutRequest.FromString(body)
    return f"put {_text(request.key)} ({len(request.value)} bytes)"


def _delete(_kind: Kind, body: bytes) -> str:
    request = rpc_pb2.DeleteRangeRequest.FromString(body)
    return f"delete {_text(request.key)}" + (f" to {_text(request.range_end)}" if request.range_end else "")


def _txn(_kind: Kind, body: bytes) -> str:
    request = rpc_pb2.TxnRequest.FromString(body)
    return f"txn: {len(request.compare)} compares, {len(request.success)} or {len(request.failure)} operations"


def _compact(_kind: Kind, body: bytes) -> str:
    return f"compact to revision {rpc_pb2.CompactionRequest.FromString(body).revision}"


def _flow_put(_kind: Kind, body: bytes) -> str:
    origin_end = 1 + body[0]
    return f"flow put: {len(body) - origin_end} bytes, origin {_text(body[1:origin_end])}"


def _flow_rows(kind: Kind, body: bytes) -> str:
    at = 8 if kind is Kind.FLOW_EXPIRE else 0
    first, stop = int.from_bytes(body[at + 1 : at + 5]), int.from_bytes(body[at + 5 : at + 9])
    origin = _text(body[at + 10 : at + 10 + body[at + 9]])
    what = "expire" if kind is Kind.FLOW_EXPIRE else "delete by filter"
    return f"flow {what}: rows {first} to {stop - 1}, origin {origin}"


def _clock(_kind: Kind, body: bytes) -> str:
    return f"clock: {int.from_bytes(body)} ms"


_DESCRIBE = {
    Kind.KV_PUT: _put,
    Kind.KV_DELETE: _delete,
    Kind.KV_TXN: _txn,
    Kind.KV_COMPACT: _compact,
    Kind.FLOW_PUT: _flow_put,
    Kind.FLOW_EXPIRE: _flow_rows,
    Kind.FLOW_DELETE_WHERE: _flow_rows,
    Kind.CLOCK: _clock,
}
