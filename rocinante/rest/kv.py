"""Keys and values: `/v1/kv/{key}` one key, its body the value; `/v1/kv` many.

The key is the rest of the path, percent-decoded to bytes: it may hold slashes and need not be UTF-8. JSON shows keys
and values as text where they are UTF-8, else in base64, and says which. `ETag` is the key's `mod_revision`;
`If-Match` and `If-None-Match: *` make a write conditional on it.
"""

from __future__ import annotations

from typing import Any, Final

from rocinante import limits
from rocinante.errors import FailedPrecondition, InvalidArgument, NotFound
from rocinante.pb.etcd import kv_pb2, rpc_pb2
from rocinante.rest.context import RestContext
from rocinante.rest.http import (
    BYTES_TYPE,
    Reply,
    Request,
    bytes_to_json,
    decode_cursor,
    encode_cursor,
    json_reply,
    parse_integer,
)
from rocinante.state.command import Kind
from rocinante.state.kv import check_delete, check_put, check_range, check_txn

PREFIX: Final = b"/v1/kv/"
REVISION_MAX: Final = 2**63 - 1


def get_key(context: RestContext, request: Request) -> Reply:
    """One key as JSON, or with `?raw` just its value."""
    query, key = request.query, _key(request)
    raw, serializable = query.flag("raw"), query.flag("serializable")
    revision = query.integer("revision", 0, most=REVISION_MAX)
    query.finish()
    wanted = rpc_pb2.RangeRequest(key=key, revision=revision, serializable=serializable)
    check_range(wanted)
    point = context.read(request, linearizable=not serializable)
    found = context.node.state.kv_range(wanted)
    if not found.kvs:
        raise NotFound(f"there is no key {_display(key)}")
    kv = found.kvs[0]
    headers = {"ETag": f'"{kv.mod_revision}"', "Rocinante-Revision": str(found.header.revision)}
    if raw:
        return Reply(kv.value, content_type=BYTES_TYPE, headers=headers, index=point.index)
    return json_reply(kv_to_json(kv) | {"revision": found.header.revision}, index=point.index, headers=headers)


def put_key(context: RestContext, request: Request) -> Reply:
    """Set a key to the body."""
    key = _key(request)
    request.query.finish()
    put = rpc_pb2.PutRequest(key=key, value=request.body())
    check_put(put)
    compare = _condition(request, key)
    if compare is None:
        outcome = context.propose(request, Kind.KV_PUT, put.SerializeToString())
        revision = _header_of(outcome.result, rpc_pb2.PutResponse).revision
    else:
        txn = rpc_pb2.TxnRequest(compare=[compare], success=[rpc_pb2.RequestOp(request_put=put)])
        outcome, revision = _transact(context, request, txn, key)
    answer = bytes_to_json("key", key) | {"revision": revision}
    return json_reply(answer, index=outcome.index, headers={"ETag": f'"{revision}"'})


def delete_key(context: RestContext, request: Request) -> Reply:
    """Delete a key. One that is not there is `"deleted": 0`, not an error, so that a retry is harmless."""
    key = _key(request)
    request.query.finish()
    delete = rpc_pb2.DeleteRangeRequest(key=key)
    check_delete(delete)
    compare = _condition(request, key)
    if compare is None:
        outcome = context.propose(request, Kind.KV_DELETE, delete.SerializeToString())
        result = outcome.result
        revision = _header_of(result, rpc_pb2.DeleteRangeResponse).revision
        deleted = result.deleted if isinstance(result, rpc_pb2.DeleteRangeResponse) else 0
    else:
        txn = rpc_pb2.TxnRequest(compare=[compare], success=[rpc_pb2.RequestOp(request_delete_range=delete)])
        outcome, revision = _transact(context, request, txn, key)
        deleted = 1
    return json_reply(bytes_to_json("key", key) | {"deleted": deleted, "revision": revision}, index=outcome.index)


def list_keys(context: RestContext, request: Request) -> Reply:
    """A page of keys in order, with their values unless `keys_only`."""
    query = request.query
    prefix = query.text("prefix").encode()
    limit = query.integer("limit", limits.REST_KEYS_PAGE_DEFAULT, least=1, most=limits.REST_KEYS_PAGE_MAX)
    start = decode_cursor(query.text("cursor")) or prefix
    keys_only, serializable = query.flag("keys_only"), query.flag("serializable")
    revision = query.integer("revision", 0, most=REVISION_MAX)
    query.finish()
    if not start.startswith(prefix):
        raise InvalidArgument("cursor", "is of a list with another prefix")
    wanted = rpc_pb2.RangeRequest(
        key=start or b"\0",
        range_end=_end_of(prefix),
        limit=limit,
        revision=revision,
        keys_only=keys_only,
        serializable=serializable,
    )
    check_range(wanted)
    point = context.read(request, linearizable=not serializable)
    found = context.node.state.kv_range(wanted)
    answer = {
        "keys": [kv_to_json(kv, with_value=not keys_only) for kv in found.kvs],
        "remaining": found.count - len(found.kvs),
        "cursor": encode_cursor(found.kvs[-1].key + b"\0") if found.more else "",
        "revision": found.header.revision,
    }
    return json_reply(answer, index=point.index)


def kv_to_json(kv: kv_pb2.KeyValue, *, with_value: bool = True) -> dict[str, Any]:
    value: dict[str, Any] = dict(bytes_to_json("key", kv.key))
    if with_value:
        value |= bytes_to_json("value", kv.value)
    return value | {
        "create_revision": kv.create_revision,
        "mod_revision": kv.mod_revision,
        "version": kv.version,
        "lease": kv.lease,
    }


def _key(request: Request) -> bytes:
    key = request.raw_path[len(PREFIX) :]
    if not key:
        raise InvalidArgument("key", "is missing in the path")
    return key


def _end_of(prefix: bytes) -> bytes:
    """The first key behind all that begin with `prefix`; etcd's "\\0" means the end of all keys."""
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes([trimmed[-1] + 1]) if trimmed else b"\0"


def _condition(request: Request, key: bytes) -> rpc_pb2.Compare | None:
    match, none_match = request.instruction("if-match"), request.instruction("if-none-match")
    if not match and not none_match:
        return None
    if match and none_match:
        raise InvalidArgument("if-none-match", "cannot stand beside If-Match")
    if none_match and none_match != "*":
        raise InvalidArgument("if-none-match", "must be *: the key must not exist")
    compare = rpc_pb2.Compare(key=key, target=rpc_pb2.Compare.MOD, result=rpc_pb2.Compare.EQUAL)
    if match == "*":
        compare.result = rpc_pb2.Compare.NOT_EQUAL
    compare.mod_revision = (
        parse_integer("if-match", match.strip('"'), least=1, most=REVISION_MAX) if match not in {"", "*"} else 0
    )
    return compare


def _transact(context: RestContext, request: Request, txn: rpc_pb2.TxnRequest, key: bytes) -> tuple[Any, int]:
    check_txn(txn)
    outcome = context.propose(request, Kind.KV_TXN, txn.SerializeToString())
    revision = _header_of(outcome.result, rpc_pb2.TxnResponse).revision
    if isinstance(outcome.result, rpc_pb2.TxnResponse) and not outcome.result.succeeded:
        raise FailedPrecondition(
            f"{_display(key)} has changed (or was made, or deleted) meanwhile: the condition does not hold"
        )
    return outcome, revision


def _header_of(result: object, kind: type[Any]) -> rpc_pb2.ResponseHeader:
    if not isinstance(result, kind):
        raise TypeError(f"the state machine answered {type(result).__name__} where {kind.__name__} was due")
    header: rpc_pb2.ResponseHeader = result.header
    return header


def _display(key: bytes) -> str:
    text = key.decode(errors="backslashreplace")
    return repr(text if len(text) <= 100 else text[:100] + "…")
