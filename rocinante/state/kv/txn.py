"""etcd's transactions: choose the branches, check what they would do, then do it (etcdserver/apply.go).

All comparisons, those of nested transactions too, look at the state before the transaction; the operations of the
chosen branches see what those before them did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from rocinante.pb.etcd import rpc_pb2
from rocinante.state.kv import errors
from rocinante.state.kv.versions import Version
from rocinante.state.kv.view import View, read_range

_ABSENT = Version(0, 0, 0, 0, b"", 0)


class Chosen(NamedTuple):
    """A transaction with its branch chosen: operations, and nested transactions with theirs."""

    succeeded: bool
    operations: list[rpc_pb2.RequestOp | Chosen]


def choose(view: View, request: rpc_pb2.TxnRequest) -> Chosen:
    """Evaluate the comparisons, those of the nested transactions in the chosen branch too."""
    succeeded = all(_holds(view, compare) for compare in request.compare)
    operations: list[rpc_pb2.RequestOp | Chosen] = []
    for operation in request.success if succeeded else request.failure:
        if operation.HasField("request_txn"):
            operations.append(choose(view, operation.request_txn))
        else:
            operations.append(operation)
    return Chosen(succeeded, operations)


def check_chosen(view: View, chosen: Chosen) -> None:
    """Refuse, before anything is changed, what the state does not allow: first all puts, then all ranges."""
    for operation in _flat(chosen):
        if operation.HasField("request_put"):
            check_put_state(view, operation.request_put)
    for operation in _flat(chosen):
        if operation.HasField("request_range") and operation.request_range.revision:
            revision = operation.request_range.revision
            if revision > view.revision:
                raise errors.future_revision()
            if revision < view.compacted:
                raise errors.compacted()


def check_put_state(view: View, request: rpc_pb2.PutRequest) -> None:
    """A put that keeps the key's value or lease needs the key; there are no leases (yet), so that none is found."""
    if (request.ignore_value or request.ignore_lease) and not view.pairs(request.key, b"", view.revision, 1):
        raise errors.key_not_found()
    if request.lease:
        raise errors.lease_not_found()


def _flat(chosen: Chosen) -> Iterator[rpc_pb2.RequestOp]:
    for operation in chosen.operations:
        if isinstance(operation, Chosen):
            yield from _flat(operation)
        else:
            yield operation


Put = Callable[[rpc_pb2.PutRequest], rpc_pb2.PutResponse]
Delete = Callable[[rpc_pb2.DeleteRangeRequest], rpc_pb2.DeleteRangeResponse]


def run(view: View, chosen: Chosen, put: Put | None, delete: Delete | None) -> rpc_pb2.TxnResponse:
    """Carry out the chosen operations in order. `put` and `delete` may be None where the transaction only reads."""
    response = rpc_pb2.TxnResponse(header=rpc_pb2.ResponseHeader(), succeeded=chosen.succeeded)
    for operation in chosen.operations:
        answer = response.responses.add()
        if isinstance(operation, Chosen):
            answer.response_txn.CopyFrom(run(view, operation, put, delete))
        elif operation.HasField("request_range"):
            answer.response_range.CopyFrom(read_range(view, operation.request_range))
        elif operation.HasField("request_put") and put is not None:
            answer.response_put.CopyFrom(put(operation.request_put))
        elif operation.HasField("request_delete_range") and delete is not None:
            answer.response_delete_range.CopyFrom(delete(operation.request_delete_range))
        else:
            raise errors.key_not_found()
    return response


def _holds(view: View, compare: rpc_pb2.Compare) -> bool:
    """A comparison of a range holds for each of its keys; that of a value never holds for a key that is not there."""
    found = False
    for piece in view.pieces(compare.key, compare.range_end, view.revision):
        found = found or bool(piece)
        if not all(_compare(compare, version) for _, version in piece):
            return False
    if found:
        return True
    return compare.target != rpc_pb2.Compare.VALUE and _compare(compare, _ABSENT)


def _compare(compare: rpc_pb2.Compare, version: Version) -> bool:
    """An operand left out counts as zero; unknown targets are equal, unknown results hold (etcd's compareKV)."""
    match compare.target:
        case rpc_pb2.Compare.VALUE:
            value = version.value or b""
            difference = (value > compare.value) - (value < compare.value)
        case rpc_pb2.Compare.CREATE:
            difference = version.create - compare.create_revision
        case rpc_pb2.Compare.MOD:
            difference = version.main - compare.mod_revision
        case rpc_pb2.Compare.VERSION:
            difference = version.version - compare.version
        case rpc_pb2.Compare.LEASE:
            difference = version.lease - compare.lease
        case _:
            difference = 0
    match compare.result:
        case rpc_pb2.Compare.EQUAL:
            return difference == 0
        case rpc_pb2.Compare.NOT_EQUAL:
            return difference != 0
        case rpc_pb2.Compare.GREATER:
            return difference > 0
        case rpc_pb2.Compare.LESS:
            return difference < 0
        case _:
            return True
