"""etcdserverpb.KV: etcd v3's keys and values, with its revisions, error codes and texts.

A request is checked before it is proposed (what needs no state), and its bytes, as they came, are the body of the
command; the state machine checks the rest when it applies it, equally on every node. Reads go through a read point
(linearizable) or are answered at once (serializable); a transaction that only reads is a read, and never enters the
log.
"""

from __future__ import annotations

from rocinante import limits
from rocinante.errors import InvalidArgument
from rocinante.pb.etcd import rpc_pb2
from rocinante.services import header
from rocinante.services.call import Call, Calls, Handlers
from rocinante.state.command import Kind
from rocinante.state.kv.check import (
    check_compact,
    check_delete,
    check_put,
    check_range,
    check_txn,
    txn_is_readonly,
)

SERVICE = "etcdserverpb.KV"
TOO_LARGE = "etcdserver: request is too large"
"""etcd's text and nothing else: its clients know their errors by it (api/v3rpc/rpctypes)."""


class KvService:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._state = calls.node.state
        self._leader = calls.leader

    def handlers(self) -> Handlers:
        unary = self._calls.unary
        return {
            f"/{SERVICE}/Range": unary(f"/{SERVICE}/Range", rpc_pb2.RangeRequest, self.range),
            f"/{SERVICE}/Put": unary(f"/{SERVICE}/Put", rpc_pb2.PutRequest, self.put),
            f"/{SERVICE}/DeleteRange": unary(f"/{SERVICE}/DeleteRange", rpc_pb2.DeleteRangeRequest, self.delete_range),
            f"/{SERVICE}/Txn": unary(f"/{SERVICE}/Txn", rpc_pb2.TxnRequest, self.txn),
            f"/{SERVICE}/Compact": unary(f"/{SERVICE}/Compact", rpc_pb2.CompactionRequest, self.compact),
        }

    async def range(self, call: Call, request: rpc_pb2.RangeRequest) -> bytes:
        check_range(request)
        if request.serializable:
            # Needs no round, but a node that is not ready refuses it all the same.
            await call.read(linearizable=False)
        else:
            await call.read(linearizable=True)
        if not request.range_end or 0 < request.limit <= limits.RANGE_INLINE_KEYS_MAX:
            return self._range(request)
        return await self._calls.offload(self._range, request)

    def _range(self, request: rpc_pb2.RangeRequest) -> bytes:
        response = self._state.kv_range(request)
        header.fill(response.header, self._leader)
        return response.SerializeToString()

    async def put(self, call: Call, request: rpc_pb2.PutRequest) -> rpc_pb2.PutResponse:
        check_size(call.raw)
        check_put(request)
        outcome = await call.propose(Kind.KV_PUT, call.raw)
        # The result may be kept for a retry of the same request: it is copied, never changed.
        response = rpc_pb2.PutResponse()
        response.CopyFrom(outcome.result)  # type: ignore[arg-type]
        header.fill(response.header, self._leader, outcome.term)
        return response

    async def delete_range(self, call: Call, request: rpc_pb2.DeleteRangeRequest) -> rpc_pb2.DeleteRangeResponse:
        check_size(call.raw)
        check_delete(request)
        outcome = await call.propose(Kind.KV_DELETE, call.raw)
        response = rpc_pb2.DeleteRangeResponse()
        response.CopyFrom(outcome.result)  # type: ignore[arg-type]
        header.fill(response.header, self._leader, outcome.term)
        return response

    async def txn(self, call: Call, request: rpc_pb2.TxnRequest) -> rpc_pb2.TxnResponse | bytes:
        check_size(call.raw)
        check_txn(request)
        if txn_is_readonly(request):
            await call.read(linearizable=not is_serializable(request))
            return await self._calls.offload(self._txn_read, request)
        outcome = await call.propose(Kind.KV_TXN, call.raw)
        response = rpc_pb2.TxnResponse()
        response.CopyFrom(outcome.result)  # type: ignore[arg-type]
        header.fill(response.header, self._leader, outcome.term)
        return response

    def _txn_read(self, request: rpc_pb2.TxnRequest) -> bytes:
        response = self._state.kv_txn_read(request)
        header.fill(response.header, self._leader)
        return response.SerializeToString()

    async def compact(self, call: Call, request: rpc_pb2.CompactionRequest) -> rpc_pb2.CompactionResponse:
        check_compact(request)
        outcome = await call.propose(Kind.KV_COMPACT, call.raw)
        response = rpc_pb2.CompactionResponse()
        response.CopyFrom(outcome.result)  # type: ignore[arg-type]
        header.fill(response.header, self._leader, outcome.term)
        return response


def is_serializable(request: rpc_pb2.TxnRequest) -> bool:
    """Whether every operation of a transaction that only reads is a serializable range (etcd's IsTxnSerializable)."""
    return all(
        is_serializable(operation.request_txn)
        if operation.HasField("request_txn")
        else operation.request_range.serializable
        for operation in (*request.success, *request.failure)
    )


def check_size(raw: bytes) -> None:
    """Raises InvalidArgument with etcd's text when a request is larger than the log takes."""
    if len(raw) > limits.REQUEST_BYTES_MAX:
        raise InvalidArgument("", TOO_LARGE)
