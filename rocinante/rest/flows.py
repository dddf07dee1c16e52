"""Flows: written as a list (or as an encoded batch), read as pages or one by one, deleted one by one or by filter."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, Final

from rocinante import limits
from rocinante.errors import InvalidArgument, NotFound
from rocinante.flow_json import record_from_json, record_to_json
from rocinante.flows import FlowError, FlowFilter, FlowRecord
from rocinante.flows.batch import HEADER, MAGIC, VERSION, BatchKind, check_records, encode_batch, validate_batch
from rocinante.flows.key import check_key
from rocinante.flows.packing import columns_of
from rocinante.flows.value import pack_value, unpack_record
from rocinante.ports import ReadPoint
from rocinante.rest.context import RestContext
from rocinante.rest.flow_filter import parse_filter
from rocinante.rest.http import BYTES_TYPE, Reply, Request, decode_cursor, encode_cursor, json_reply
from rocinante.state.command import Kind
from rocinante.state.deletion import EVERY_ORIGIN, Deletion
from rocinante.state.machine import FlowEntry

CONSISTENCY: Final = ("linearizable", "stale")
PAGES_MAX: Final = 256
"""Short pages of the state machine that one answer puts together; a filter that matches little then answers with a
cursor.
"""
LIST_TIME_S_MAX: Final = 0.5


def list_flows(context: RestContext, request: Request) -> Reply:
    """A page of flows that match all filters. A page may be short, even empty, and have a cursor: go on with it."""
    query = request.query
    limit = query.integer("limit", limits.REST_FLOWS_PAGE_DEFAULT, least=1, most=limits.FLOW_LIST_RECORDS_MAX)
    cursor = decode_cursor(query.text("cursor"))
    flow_filter = parse_filter(query)
    is_linearizable = query.choice("consistency", CONSISTENCY, "linearizable") == "linearizable"
    query.finish()
    point = context.read(request, linearizable=is_linearizable)
    found, cursor = _collect(context, flow_filter, limit, cursor)
    answer = {
        "flows": [_entry_to_json(entry) for entry in found],
        "cursor": encode_cursor(cursor),
        "total": context.node.state.flows_count(),
    }
    return _read_reply(answer, point)


def _collect(context: RestContext, flow_filter: FlowFilter, limit: int, cursor: bytes) -> tuple[list[FlowEntry], bytes]:
    found: list[FlowEntry] = []
    now_ms, until_s = context.node.now_ms(), time.monotonic() + LIST_TIME_S_MAX
    for _ in range(PAGES_MAX):
        page = context.node.state.flows_list(flow_filter, limit - len(found), cursor, now_ms)
        found += page.flows
        cursor = page.cursor
        if not cursor or len(found) >= limit or time.monotonic() > until_s:
            break
    return found, cursor


def get_flow(context: RestContext, request: Request) -> Reply:
    """One flow by its id: the newest record of all origins, or that of `?origin=`."""
    key, origin = _key(request), request.query.text("origin")
    is_linearizable = request.query.choice("consistency", CONSISTENCY, "linearizable") == "linearizable"
    request.query.finish()
    point = context.read(request, linearizable=is_linearizable)
    (entry,) = context.node.state.flows_get([key], context.node.now_ms(), origin)
    if entry is None:
        raise NotFound(f"there is no flow {key.hex()}" + (f" of origin {origin}" if origin else ""))
    return _read_reply(_entry_to_json(entry), point)


def put_flows(context: RestContext, request: Request) -> Reply:
    """Write flows as one batch: all of them or none."""
    origin = _origin(context, request.query.text("origin"))
    request.query.finish()
    if request.content_type() == BYTES_TYPE:
        batch = request.body()
        _check_batch(batch)
    else:
        batch = _encode(_records(request.json(), context.node.now_ms()))
    outcome = context.propose(request, Kind.FLOW_PUT, b"".join((origin, context.node.prepare_flows(batch))))
    return json_reply({"records": outcome.result, "index": outcome.index}, index=outcome.index)


def _records(value: Any, now_ms: int) -> list[FlowRecord]:
    """The records of a request's JSON list. Raises InvalidArgument that names the element and the field."""
    if not isinstance(value, list):
        raise InvalidArgument("body", "must be a list of flows")
    if not value:
        raise InvalidArgument("body", "is an empty list")
    if len(value) > limits.FLOW_BATCH_RECORDS_MAX:
        raise InvalidArgument("body", f"has {len(value)} flows; at most {limits.FLOW_BATCH_RECORDS_MAX}")
    return [record_from_json(item, f"flows[{number}]", now_ms) for number, item in enumerate(value)]


def delete_flows(context: RestContext, request: Request) -> Reply:
    """Delete what the filters mean, in several commands; what does not fit the time is left to the next request, with
    the cursor of this one's answer."""
    query = request.query
    asked = parse_filter(query, with_origin=False)
    name, everything, cursor = query.text("origin"), query.flag("all"), decode_cursor(query.text("cursor"))
    query.finish()
    if asked.is_empty and not (everything or name):
        raise InvalidArgument("all", "without any filter this would delete all flows: say so with all=true")
    origin = "" if name == EVERY_ORIGIN else (name or context.node.status().datacenter)
    _origin(context, origin)
    context.read(request, linearizable=True)
    deletion = Deletion(context.node.state, replace(asked, origin=origin), cursor)
    until_s = time.monotonic() + min(limits.FLOW_DELETE_CALL_S, request.timeout_s() / 2)
    with context.consensus_slot():
        while not deletion.complete:
            body = deletion.step()
            if body is not None:
                outcome = context.propose_again(request, Kind.FLOW_DELETE_WHERE, body)
                deletion.took(outcome.index, outcome.result)
            if time.monotonic() > until_s:
                break
    answer = {
        "deleted": deletion.deleted,
        "index": deletion.index,
        "cursor": encode_cursor(deletion.cursor),
        "looked_at": deletion.looked_at,
        "places": context.node.state.flows_rows(origin),
    }
    return json_reply(answer, index=deletion.index)


def delete_flow(context: RestContext, request: Request) -> Reply:
    """Delete one flow of this datacenter (or of `?origin=`). One that is not there is `"deleted": 0`."""
    key = _key(request)
    origin = _origin(context, request.query.text("origin"))
    request.query.finish()
    body = origin + (1).to_bytes(4, "big") + bytes([len(key)]) + key
    outcome = context.propose(request, Kind.FLOW_DELETE, body)
    return json_reply({"deleted": outcome.result, "index": outcome.index}, index=outcome.index)


def _origin(context: RestContext, text: str) -> bytes:
    """`u8 length | origin` as commands begin."""
    origin = (text or context.node.status().datacenter).encode()
    if len(origin) > limits.FLOW_ORIGIN_BYTES_MAX:
        raise InvalidArgument("origin", f"is longer than {limits.FLOW_ORIGIN_BYTES_MAX} bytes")
    return bytes([len(origin)]) + origin


def _check_batch(batch: bytes) -> None:
    try:
        bounds = {"records_max": limits.FLOW_BATCH_RECORDS_MAX, "bytes_max": limits.FLOW_BATCH_BYTES_MAX}
        columns = columns_of(batch, **bounds)
        if columns is not None and not columns.has_suspects():
            return
        fixed = batch if columns is None else columns.batch()
        check_records(
            fixed,
            validate_batch(fixed, **bounds),
            backend_name_bytes_max=limits.FLOW_BACKEND_NAME_BYTES_MAX,
            application_data_bytes_max=limits.FLOW_APPLICATION_DATA_BYTES_MAX,
        )
    except FlowError as error:
        where = f"records[{error.index}].{error.field}" if error.index >= 0 else error.field
        raise InvalidArgument(where, error.problem) from None


def _encode(records: list[FlowRecord]) -> bytes:
    """One batch, so that a request is one command; where the records are of several kinds, all in the variable one."""
    most = limits.FLOW_BATCH_BYTES_MAX
    batches = encode_batch(records, records_max=limits.FLOW_BATCH_RECORDS_MAX, bytes_max=most)
    if len(batches) == 1:
        return batches[0]
    parts = [HEADER.pack(MAGIC, VERSION, BatchKind.VARIABLE, 0, len(records))]
    for record in records:
        key = record.key
        value = pack_value(record, narrow=False, tail=bool(record.backend_name or record.application_data))
        parts += (bytes([len(key)]), len(value).to_bytes(2, "big"), key, value)
    batch = b"".join(parts)
    if len(batch) > most:
        raise InvalidArgument("body", f"its flows take {len(batch)} bytes as a batch; at most {most}")
    return batch


def _key(request: Request) -> bytes:
    text = request.arguments["id"]
    try:
        key = bytes.fromhex(text)
        check_key(key)
    except FlowError as error:
        raise InvalidArgument("id", f"is not a flow's key: {error.problem}") from None
    except ValueError:
        raise InvalidArgument("id", "must be hex digits") from None
    return key


def _entry_to_json(entry: FlowEntry) -> dict[str, Any]:
    return record_to_json(unpack_record(entry.key, entry.value), entry.origin)


def _read_reply(answer: dict[str, Any], point: ReadPoint) -> Reply:
    headers = {"Rocinante-Age-Ms": str(point.age_ms)}
    return json_reply(answer, index=point.index, headers=headers)
