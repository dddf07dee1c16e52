"""What can be said of a request without knowing the state: services check before they propose, `apply` checks again.

The rules and texts are etcd's (etcdserver/api/v3rpc/key.go), with our bounds on sizes beside them. All functions raise
InvalidArgument.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from rocinante import limits
from rocinante.errors import InvalidArgument
from rocinante.pb.etcd import rpc_pb2
from rocinante.state.kv import errors

_SORT_ORDERS: Final = frozenset(rpc_pb2.RangeRequest.SortOrder.values())
_SORT_TARGETS: Final = frozenset(rpc_pb2.RangeRequest.SortTarget.values())


def check_key(key: bytes, range_end: bytes = b"") -> None:
    if not key:
        raise errors.empty_key()
    if len(key) > limits.KEY_BYTES_MAX:
        raise InvalidArgument("key", f"{len(key)} bytes; at most {limits.KEY_BYTES_MAX}")
    if len(range_end) > limits.KEY_BYTES_MAX:
        raise InvalidArgument("range_end", f"{len(range_end)} bytes; at most {limits.KEY_BYTES_MAX}")


def check_range(request: rpc_pb2.RangeRequest) -> None:
    check_key(request.key, request.range_end)
    if request.sort_order not in _SORT_ORDERS or request.sort_target not in _SORT_TARGETS:
        raise errors.invalid_sort_option()


def check_put(request: rpc_pb2.PutRequest) -> None:
    check_key(request.key)
    value = request.value
    if len(value) > limits.VALUE_BYTES_MAX:
        raise InvalidArgument("value", f"{len(value)} bytes; at most {limits.VALUE_BYTES_MAX}")
    if value and request.ignore_value:
        raise errors.value_provided()
    if request.ignore_lease and request.lease:
        raise errors.lease_provided()


def check_delete(request: rpc_pb2.DeleteRangeRequest) -> None:
    check_key(request.key, request.range_end)


def check_compact(request: rpc_pb2.CompactionRequest) -> None:
    """Nothing can be wrong with one alone; here so that every request has its check."""


def check_txn(request: rpc_pb2.TxnRequest) -> None:
    """Keys, sizes, the number of operations, their nesting, and no key written twice."""
    _check_operations(request, limits.TXN_OPERATIONS_MAX, limits.TXN_DEPTH_MAX)
    _check_writes(request.success)
    _check_writes(request.failure)


def txn_is_readonly(request: rpc_pb2.TxnRequest) -> bool:
    """Whether neither branch, at any depth, can write."""
    return all(_is_readonly(operation) for operation in (*request.success, *request.failure))


def _is_readonly(operation: rpc_pb2.RequestOp) -> bool:
    which = operation.WhichOneof("request")
    return which == "request_range" or (which == "request_txn" and txn_is_readonly(operation.request_txn))


def _check_operations(request: rpc_pb2.TxnRequest, operations_max: int, depth_max: int) -> None:
    """etcd's checkTxnRequest: each level takes what it has from the budget of those within it."""
    operations = max(len(request.compare), len(request.success), len(request.failure))
    if operations > operations_max:
        raise errors.too_many_operations()
    for compare in request.compare:
        check_key(compare.key, compare.range_end)
    for operation in (*request.success, *request.failure):
        match operation.WhichOneof("request"):
            case "request_range":
                check_range(operation.request_range)
            case "request_put":
                check_put(operation.request_put)
            case "request_delete_range":
                check_delete(operation.request_delete_range)
            case "request_txn":
                if depth_max <= 1:
                    raise InvalidArgument("request_txn", f"nested more than {limits.TXN_DEPTH_MAX} deep")
                _check_operations(operation.request_txn, operations_max - operations, depth_max - 1)
            case _:
                raise errors.key_not_found()


class _Intervals:
    """A set of half-open key intervals.

    An end that is not behind its start makes an empty one, and so does a NUL byte: etcd's interval tree takes it
    literally. So etcd lets a transaction delete "from this key on" and put such a key.
    """

    def __init__(self) -> None:
        self._intervals: list[tuple[bytes, bytes]] = []
        self._starts: list[bytes] = []
        self._ends: list[bytes] = []
        """The greatest end of the intervals up to each; sorted, as the starts are."""

    def add(self, key: bytes, range_end: bytes) -> None:
        end = range_end or key + b"\0"
        if end > key:
            self._intervals.append((key, end))
            self._starts = []

    def update(self, other: _Intervals) -> None:
        self._intervals += other._intervals
        self._starts = []

    def __contains__(self, key: bytes) -> bool:
        if not self._intervals:
            return False
        if not self._starts:
            self._intervals.sort()
            self._starts = [start for start, _ in self._intervals]
            self._ends = []
            most = b""
            for _, end in self._intervals:
                most = max(most, end)
                self._ends.append(most)
        at = bisect_right(self._starts, key)
        return at > 0 and self._ends[at - 1] > key


def _check_writes(operations: Sequence[rpc_pb2.RequestOp]) -> tuple[set[bytes], _Intervals]:
    """etcd's checkIntervals: what these operations put and delete; raises where a key is put twice, or put and
    deleted."""
    puts: set[bytes] = set()
    deletes = _Intervals()
    for operation in operations:
        if operation.HasField("request_delete_range"):
            delete = operation.request_delete_range
            deletes.add(delete.key, delete.range_end)
    for operation in operations:
        if not operation.HasField("request_txn"):
            continue
        puts_then, deletes_then = _check_writes(operation.request_txn.success)
        puts_else, deletes_else = _check_writes(operation.request_txn.failure)
        # Only one of the branches is carried out, so that the same key may be put in both.
        inner = puts_then | puts_else
        if not puts.isdisjoint(inner) or any(key in deletes for key in inner):
            raise errors.duplicate_key()
        puts |= inner
        deletes.update(deletes_then)
        deletes.update(deletes_else)
    for operation in operations:
        if operation.HasField("request_put"):
            key = operation.request_put.key
            if key in puts or key in deletes:
                raise errors.duplicate_key()
            puts.add(key)
    return puts, deletes
