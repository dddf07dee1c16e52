"""Flows in JSON, for servers, clients and the command alike: addresses as text, names for protocol, state and flags,
ids in hex.

    {"zone": 0, "protocol": "tcp",
     "source": {"address": "192.0.2.1", "port": 41234}, "destination": {"address": "198.51.100.7", "port": 443},
     "reply": {"source": {…}, "destination": {…}},                        only with NAT
     "tcp_state": "ESTABLISHED", "flags": ["SEEN_REPLY"], "mark": 0, "deadline_ms": 0, "updated_ms": 1767222000000,
     "backend": {"address": "10.0.0.5", "port": 8443}, "backend_name": "web-1",       only where there is one
     "packets_original": 10, "bytes_original": 5120, "packets_reply": 12, "bytes_reply": 9000,
     "application_data": "aGVsbG8="}                                      base64, only where there is some

What is read may leave out everything but `protocol`, `source` and `destination`; an endpoint may also be text
(`"192.0.2.1:41234"`). `id` and `origin` are given and, when read, ignored by `record_from_json`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

from rocinante import limits
from rocinante.errors import InvalidArgument
from rocinante.flows import (
    Backend,
    FlowError,
    FlowFlag,
    FlowRecord,
    FlowTuple,
    TcpState,
    format_address,
    parse_address,
    parse_endpoint,
    parse_protocol,
)
from rocinante.flows.key import PROTOCOL_NAMES
from rocinante.flows.record import LAYOUT_FLAGS

__all__ = ["COUNTERS", "FLAG_NAMES", "record_from_json", "record_to_json"]

COUNTERS: Final = ("packets_original", "bytes_original", "packets_reply", "bytes_reply")
NUMBERS: Final = ("mark", "deadline_ms", "updated_ms", *COUNTERS)
FLAG_NAMES: Final = tuple(str(flag.name) for flag in FlowFlag if not flag & LAYOUT_FLAGS)
_TEXTS: Final = ("backend_name", "application_data")
_FIELDS: Final = frozenset(
    {"id", "origin", "zone", "protocol", "source", "destination", "reply", "tcp_state", "flags", "backend"}
    | set(_TEXTS)
    | set(NUMBERS)
)


def record_to_json(record: FlowRecord, origin: str, identifier: str = "") -> dict[str, Any]:
    original = record.original
    value: dict[str, Any] = {
        "id": identifier or record.key.hex(),
        "origin": origin,
        "zone": original.zone,
        "protocol": PROTOCOL_NAMES.get(original.protocol, original.protocol),
        **_ends_to_json(original),
        "tcp_state": TcpState(record.tcp_state).name,
        "flags": [str(flag.name) for flag in FlowFlag if flag & record.flags and not flag & LAYOUT_FLAGS],
    }
    value |= {name: getattr(record, name) for name in NUMBERS}
    if record.reply is not None:
        value["reply"] = _ends_to_json(record.reply)
    if record.backend is not None:
        value["backend"] = _end_to_json(*record.backend)
    if record.backend_name:
        value["backend_name"] = record.backend_name
    if record.application_data:
        value["application_data"] = base64.b64encode(record.application_data).decode()
    return value


def record_from_json(item: Any, where: str, now_ms: int) -> FlowRecord:
    """The record that an object describes; `updated_ms` defaults to `now_ms`. Raises InvalidArgument that names `where`
    and the field."""
    if not isinstance(item, Mapping):
        raise InvalidArgument(where, "must be an object")
    unknown = [name for name in item if name not in _FIELDS]
    if unknown:
        raise InvalidArgument(f"{where}.{unknown[0]}", "is not a field of a flow")
    try:
        original = _tuple(item, _number(item, "zone", 0), item.get("protocol"), "")
        reply = item.get("reply")
        if reply is not None and not isinstance(reply, Mapping):
            raise FlowError("reply", "must be an object with source and destination")
        record = FlowRecord(
            original,
            tcp_state=_state(item.get("tcp_state", "NONE")),
            flags=_flags(item.get("flags", [])),
            backend=None if item.get("backend") is None else Backend(*_end(item["backend"], "backend")),
            backend_name=_text(item, "backend_name"),
            reply=None if reply is None else _tuple(reply, original.zone, original.protocol, "reply."),
            application_data=_data(_text(item, "application_data")),
            **{name: _number(item, name, now_ms if name == "updated_ms" else 0) for name in NUMBERS},
        )
        record.check()
        _check_sizes(record)
    except FlowError as error:
        # The model's `original` has no name of its own here.
        raise InvalidArgument(f"{where}.{error.field.removeprefix('original.')}", error.problem) from None
    return record


def _check_sizes(record: FlowRecord) -> None:
    if len(record.backend_name.encode()) > limits.FLOW_BACKEND_NAME_BYTES_MAX:
        raise FlowError("backend_name", f"is longer than {limits.FLOW_BACKEND_NAME_BYTES_MAX} bytes")
    if len(record.application_data) > limits.FLOW_APPLICATION_DATA_BYTES_MAX:
        raise FlowError("application_data", f"is longer than {limits.FLOW_APPLICATION_DATA_BYTES_MAX} bytes")


def _end_to_json(address: bytes, port: int) -> dict[str, Any]:
    return {"address": format_address(address), "port": port}


def _ends_to_json(ends: FlowTuple) -> dict[str, Any]:
    return {
        "source": _end_to_json(ends.source, ends.source_port),
        "destination": _end_to_json(ends.destination, ends.destination_port),
    }


def _tuple(item: Mapping[str, Any], zone: int, protocol: Any, prefix: str) -> FlowTuple:
    if isinstance(protocol, bool) or not isinstance(protocol, str | int):
        raise FlowError("protocol", "is missing" if protocol is None else "must be a name or a number")
    for name in ("source", "destination"):
        if name not in item:
            raise FlowError(f"{prefix}{name}", "is missing")
    source, destination = (_end(item[name], f"{prefix}{name}") for name in ("source", "destination"))
    return FlowTuple(zone, parse_protocol(protocol), *source, *destination)


def _end(value: Any, field: str) -> tuple[bytes, int]:
    if isinstance(value, str):
        return parse_endpoint(value, field)
    if not isinstance(value, Mapping) or not set(value) <= {"address", "port"}:
        raise FlowError(field, 'must be like {"address": "192.0.2.1", "port": 443} or "192.0.2.1:443"')
    address = value.get("address")
    if not isinstance(address, str):
        raise FlowError(f"{field}.address", "must be the text of an IP address")
    return parse_address(address, f"{field}.address"), _number(value, "port", 0, f"{field}.port")


def _number(item: Mapping[str, Any], name: str, default: int, field: str = "") -> int:
    value = item.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise FlowError(field or name, "must be a whole number")
    return value


def _text(item: Mapping[str, Any], field: str) -> str:
    value = item.get(field, "")
    if not isinstance(value, str):
        raise FlowError(field, "must be a string")
    return value


def _state(value: Any) -> TcpState:
    if isinstance(value, str) and value.upper() in TcpState.__members__:
        return TcpState[value.upper()]
    raise FlowError("tcp_state", f"must be one of {', '.join(TcpState.__members__)}")


def _flags(value: Any) -> FlowFlag:
    if not isinstance(value, list):
        raise FlowError("flags", "must be a list of names")
    flags = FlowFlag(0)
    for name in value:
        if not isinstance(name, str) or name.upper() not in FLAG_NAMES:
            raise FlowError("flags", f"has {str(name)[:40]!r}, which is not one of {', '.join(FLAG_NAMES)}")
        flags |= FlowFlag[name.upper()]
    return flags


def _data(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise FlowError("application_data", "is not base64") from None
