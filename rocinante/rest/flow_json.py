"""Flows in JSON: addresses as text, protocol, state and flags by name, ids in hex, application data in base64.

    {"zone": 0, "protocol": "tcp",
     "source": {"address": "192.0.2.1", "port": 41234}, "destination": {"address": "198.51.100.7", "port": 443},
     "reply": {"source": {…}, "destination": {…}},             only with NAT
     "tcp_state": "ESTABLISHED", "flags": ["SEEN_REPLY"], "mark": 0,
     "deadline_ms": 1767225600000, "updated_ms": 1767222000000,
     "backend": {"address": "10.0.0.5", "port": 8443}, "backend_name": "",
     "packets_original": 10, "bytes_original": 5120, "packets_reply": 12, "bytes_reply": 9000, "application_data": ""}

Answers add `id` (the key in hex) and `origin`. Of what is written only `protocol`, `source` and `destination` are
required; `protocol` may be a number, `updated_ms` defaults to now. `id` and `origin` are taken and ignored in what
is written, so that an answer can be sent back.
"""

from __future__ import annotations

import base64
import binascii
import time
from typing import Any, Final

from rocinante import limits
from rocinante.errors import InvalidArgument
from rocinante.flows.errors import FlowError
from rocinante.flows.key import PROTOCOL_NAMES, FlowTuple, format_address, parse_address, parse_protocol
from rocinante.flows.record import LAYOUT_FLAGS, Backend, FlowFlag, FlowRecord, TcpState

COUNTERS: Final = ("packets_original", "bytes_original", "packets_reply", "bytes_reply")
NUMBERS: Final = ("mark", "deadline_ms", "updated_ms", *COUNTERS)
FIELDS: Final = frozenset(
    {"id", "origin", "zone", "protocol", "source", "destination", "reply", "tcp_state", "flags", "backend"}
    | {"backend_name", "application_data"}
    | set(NUMBERS)
)
FLAG_NAMES: Final = tuple(str(flag.name) for flag in FlowFlag if not flag & LAYOUT_FLAGS)


def record_to_json(record: FlowRecord, origin: str) -> dict[str, Any]:
    original = record.original
    value: dict[str, Any] = {
        "id": record.key.hex(),
        "origin": origin,
        "zone": original.zone,
        "protocol": PROTOCOL_NAMES.get(original.protocol, original.protocol),
        "source": _endpoint_to_json(original.source, original.source_port),
        "destination": _endpoint_to_json(original.destination, original.destination_port),
        "tcp_state": record.tcp_state.name,
        "flags": [str(flag.name) for flag in FlowFlag if flag & record.flags and not flag & LAYOUT_FLAGS],
    }
    value |= {name: getattr(record, name) for name in NUMBERS}
    if record.reply is not None:
        value["reply"] = {
            "source": _endpoint_to_json(record.reply.source, record.reply.source_port),
            "destination": _endpoint_to_json(record.reply.destination, record.reply.destination_port),
        }
    if record.backend is not None:
        value["backend"] = _endpoint_to_json(*record.backend)
    if record.backend_name:
        value["backend_name"] = record.backend_name
    if record.application_data:
        value["application_data"] = base64.b64encode(record.application_data).decode()
    return value


def records_from_json(value: Any) -> list[FlowRecord]:
    """The records of a request's JSON list. Raises InvalidArgument that names the element and the field."""
    if not isinstance(value, list):
        raise InvalidArgument("body", "must be a list of flows")
    if not value:
        raise InvalidArgument("body", "is an empty list")
    if len(value) > limits.FLOW_BATCH_RECORDS_MAX:
        raise InvalidArgument("body", f"has {len(value)} flows; at most {limits.FLOW_BATCH_RECORDS_MAX}")
    now_ms = int(time.time() * 1000)
    return [_record(item, f"flows[{number}]", now_ms) for number, item in enumerate(value)]


def _record(item: Any, where: str, now_ms: int) -> FlowRecord:
    if not isinstance(item, dict):
        raise InvalidArgument(where, "must be an object")
    for name in item:
        if name not in FIELDS:
            raise InvalidArgument(f"{where}.{name}", "is not a field of a flow")
    try:
        original = _tuple(item, item.get("zone", 0), item.get("protocol"), "")
        reply = item.get("reply")
        if reply is not None and not isinstance(reply, dict):
            raise FlowError("reply", "must be an object with source and destination")
        record = FlowRecord(
            original,
            tcp_state=_tcp_state(item.get("tcp_state", "NONE")),
            flags=_flags(item.get("flags", [])),
            backend=None if item.get("backend") is None else Backend(*_endpoint(item["backend"], "backend")),
            backend_name=_string(item, "backend_name"),
            reply=None if reply is None else _tuple(reply, original.zone, original.protocol, "reply."),
            application_data=_application_data(_string(item, "application_data")),
            **{name: _number(item.get(name, now_ms if name == "updated_ms" else 0), name) for name in NUMBERS},
        )
        record.check()
        if len(record.backend_name.encode()) > limits.FLOW_BACKEND_NAME_BYTES_MAX:
            raise FlowError("backend_name", f"is longer than {limits.FLOW_BACKEND_NAME_BYTES_MAX} bytes")
        if len(record.application_data) > limits.FLOW_APPLICATION_DATA_BYTES_MAX:
            raise FlowError("application_data", f"is longer than {limits.FLOW_APPLICATION_DATA_BYTES_MAX} bytes")
    except FlowError as error:
        raise InvalidArgument(f"{where}.{error.field}", error.problem) from None
    return record


def _tuple(item: dict[str, Any], zone: Any, protocol: Any, prefix: str) -> FlowTuple:
    if protocol is None:
        raise FlowError("protocol", "is missing")
    if isinstance(protocol, bool) or not isinstance(protocol, str | int):
        raise FlowError("protocol", "must be a name or a number")
    for name in ("source", "destination"):
        if name not in item:
            raise FlowError(f"{prefix}{name}", "is missing")
    source, destination = (_endpoint(item[name], f"{prefix}{name}") for name in ("source", "destination"))
    return FlowTuple(_number(zone, "zone"), parse_protocol(protocol), *source, *destination)


def _endpoint(value: Any, field: str) -> tuple[bytes, int]:
    if not isinstance(value, dict) or not set(value) <= {"address", "port"}:
        raise FlowError(field, 'must be an object like {"address": "192.0.2.1", "port": 443}')
    address = value.get("address")
    if not isinstance(address, str):
        raise FlowError(f"{field}.address", "must be the text of an IP address")
    return parse_address(address, f"{field}.address"), _number(value.get("port", 0), f"{field}.port")


def _endpoint_to_json(address: bytes, port: int) -> dict[str, Any]:
    return {"address": format_address(address), "port": port}


def _number(value: Any, field: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise FlowError(field, "must be a whole number")
    return value


def _string(item: dict[str, Any], field: str) -> str:
    value = item.get(field, "")
    if not isinstance(value, str):
        raise FlowError(field, "must be a string")
    return value


def _tcp_state(value: Any) -> TcpState:
    try:
        return parse_tcp_state(value)
    except InvalidArgument as error:
        raise FlowError("tcp_state", error.message.partition(": ")[2]) from None


def parse_tcp_state(value: Any, field: str = "tcp_state") -> TcpState:
    """A conntrack name, in any case. Raises InvalidArgument."""
    if isinstance(value, str) and value.upper() in TcpState.__members__:
        return TcpState[value.upper()]
    raise InvalidArgument(field, f"must be one of {', '.join(TcpState.__members__)}")


def _flags(value: Any) -> FlowFlag:
    if not isinstance(value, list):
        raise FlowError("flags", "must be a list of names")
    flags = FlowFlag(0)
    for name in value:
        if name not in FLAG_NAMES:
            raise FlowError("flags", f"has {str(name)[:40]!r}, which is not one of {', '.join(FLAG_NAMES)}")
        flags |= FlowFlag[name]
    return flags


def _application_data(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise FlowError("application_data", "is not base64") from None
