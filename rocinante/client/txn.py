"""Transactions: conditions on keys, and what to do when all of them hold or not, in one step and one revision.

done = client.kv.txn().when(version("lock") == 0).then(put("lock", "me")).otherwise(get("lock")).commit()
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rocinante.client.connection import Connection
from rocinante.client.ranges import key_range
from rocinante.client.stubs import kv
from rocinante.client.types import DeleteResult, KeyValue, PutResult, RangeResult, TxnResult, key_values, to_bytes
from rocinante.errors import InvalidArgument
from rocinante.pb.etcd import rpc_pb2

__all__ = [
    "Condition",
    "Operation",
    "Txn",
    "create_revision",
    "delete",
    "get",
    "mod_revision",
    "nested",
    "put",
    "value",
    "version",
]

Operation = rpc_pb2.RequestOp
Condition = rpc_pb2.Compare

_TARGET: Final = rpc_pb2.Compare.CompareTarget
_RESULT: Final = rpc_pb2.Compare.CompareResult


@dataclass(frozen=True, slots=True, eq=False)
class _Term:
    """One side of a condition: compare it with ==, !=, < or >."""

    target: rpc_pb2.Compare.CompareTarget
    field: str
    key: bytes
    range_end: bytes

    def __eq__(self, other: object) -> Condition:  # type: ignore[override]
        return self._compare(_RESULT.EQUAL, other)

    def __ne__(self, other: object) -> Condition:  # type: ignore[override]
        return self._compare(_RESULT.NOT_EQUAL, other)

    def __lt__(self, other: object) -> Condition:
        return self._compare(_RESULT.LESS, other)

    def __gt__(self, other: object) -> Condition:
        return self._compare(_RESULT.GREATER, other)

    __hash__ = None  # type: ignore[assignment]

    def _compare(self, result: rpc_pb2.Compare.CompareResult, other: object) -> Condition:
        condition = Condition(result=result, target=self.target, key=self.key, range_end=self.range_end)
        if self.field == "value":
            if not isinstance(other, bytes | str):
                raise InvalidArgument("compare", f"a value is compared with bytes or str, not {type(other).__name__}")
            condition.value = to_bytes(other, "compare")
            return condition
        if not isinstance(other, int) or isinstance(other, bool):
            raise InvalidArgument("compare", f"{self.field} is compared with a whole number, not {other!r}")
        setattr(condition, self.field, other)
        return condition


def _term(
    target: rpc_pb2.Compare.CompareTarget, field: str, key: bytes | str, prefix: bool, range_end: bytes | str | None
) -> _Term:
    return _Term(target, field, *key_range(key, prefix=prefix, range_end=range_end))


def version(key: bytes | str, *, prefix: bool = False, range_end: bytes | str | None = None) -> _Term:
    """How often the key was changed since its creation; 0: it is not there. Of a range: of every key in it."""
    return _term(_TARGET.VERSION, "version", key, prefix, range_end)


def create_revision(key: bytes | str, *, prefix: bool = False, range_end: bytes | str | None = None) -> _Term:
    return _term(_TARGET.CREATE, "create_revision", key, prefix, range_end)


def mod_revision(key: bytes | str, *, prefix: bool = False, range_end: bytes | str | None = None) -> _Term:
    return _term(_TARGET.MOD, "mod_revision", key, prefix, range_end)


def value(key: bytes | str, *, prefix: bool = False, range_end: bytes | str | None = None) -> _Term:
    return _term(_TARGET.VALUE, "value", key, prefix, range_end)


def put(key: bytes | str, value: bytes | str, *, previous: bool = False) -> Operation:
    request = rpc_pb2.PutRequest(key=to_bytes(key, "key"), value=to_bytes(value, "value"), prev_kv=previous)
    return Operation(request_put=request)


def get(key: bytes | str, *, prefix: bool = False, range_end: bytes | str | None = None, limit: int = 0) -> Operation:
    start, end = key_range(key, prefix=prefix, range_end=range_end)
    return Operation(request_range=rpc_pb2.RangeRequest(key=start, range_end=end, limit=limit))


def delete(
    key: bytes | str, *, prefix: bool = False, range_end: bytes | str | None = None, previous: bool = False
) -> Operation:
    start, end = key_range(key, prefix=prefix, range_end=range_end)
    return Operation(request_delete_range=rpc_pb2.DeleteRangeRequest(key=start, range_end=end, prev_kv=previous))


def nested(txn: Txn) -> Operation:
    """A transaction as an operation of another one."""
    return Operation(request_txn=txn.request())


class Txn:
    """A transaction being built. Each method adds to what is there and returns the transaction."""

    def __init__(self, connection: Connection | None = None) -> None:
        self._connection = connection
        self._request = rpc_pb2.TxnRequest()

    def when(self, *conditions: Condition) -> Txn:
        for condition in conditions:
            if not isinstance(condition, Condition):
                raise InvalidArgument("when", f"expected a condition such as version(key) == 0, got {condition!r}")
            self._request.compare.append(condition)
        return self

    def then(self, *operations: Operation) -> Txn:
        self._request.success.extend(operations)
        return self

    def otherwise(self, *operations: Operation) -> Txn:
        self._request.failure.extend(operations)
        return self

    def request(self) -> rpc_pb2.TxnRequest:
        """A copy of what was built."""
        copy = rpc_pb2.TxnRequest()
        copy.CopyFrom(self._request)
        return copy

    def commit(self, *, timeout_s: float | None = None) -> TxnResult:
        """Carry it out, once. Without a write in it, it is a read. Raises InvalidArgument (too many operations, a key
        written twice), …"""
        if self._connection is None:
            raise InvalidArgument("txn", "belongs to no client: begin with client.kv.txn()")
        if _writes(self._request):
            return _result(self._connection.write(kv.TXN, self._request, timeout_s))
        return _result(self._connection.read(kv.TXN, self._request, timeout_s))


def _writes(request: rpc_pb2.TxnRequest) -> bool:
    return _any_writes(request.success) or _any_writes(request.failure)


def _any_writes(operations: Sequence[Operation]) -> bool:
    for operation in operations:
        kind = operation.WhichOneof("request")
        if kind in ("request_put", "request_delete_range"):
            return True
        if kind == "request_txn" and _writes(operation.request_txn):
            return True
    return False


def _result(answer: rpc_pb2.TxnResponse) -> TxnResult:
    return TxnResult(answer.succeeded, tuple(map(_response, answer.responses)), answer.header.revision)


def _response(response: rpc_pb2.ResponseOp) -> RangeResult | PutResult | DeleteResult | TxnResult:
    kind = response.WhichOneof("response")
    if kind == "response_range":
        found = response.response_range
        return RangeResult(key_values(found.kvs), found.more, found.count, found.header.revision)
    if kind == "response_put":
        written = response.response_put
        before = KeyValue.from_pb(written.prev_kv) if written.HasField("prev_kv") else None
        return PutResult(written.header.revision, before)
    if kind == "response_delete_range":
        gone = response.response_delete_range
        return DeleteResult(gone.deleted, gone.header.revision, key_values(gone.prev_kvs))
    return _result(response.response_txn)
