"""The writing requests of etcd's KV service, each applied as a whole or refused with nothing changed.

Every method returns the response, of whose header only `revision` is set, and what changed (None: nothing).
"""

from __future__ import annotations

from rocinante.pb.etcd import rpc_pb2
from rocinante.state.events import KvChanges
from rocinante.state.kv import check, errors
from rocinante.state.kv.store import KvStore
from rocinante.state.kv.txn import check_chosen, choose, run
from rocinante.state.kv.versions import fill
from rocinante.state.kv.view import View


class KvWriter:
    def __init__(self, store: KvStore) -> None:
        self._store = store

    def put(self, request: rpc_pb2.PutRequest) -> tuple[rpc_pb2.PutResponse, KvChanges | None]:
        """Raises InvalidArgument, NotFound (the lease)."""
        check.check_put(request)
        if request.lease:
            raise errors.lease_not_found()
        response = self._put(request)
        return response, self._store.commit()

    def delete(self, request: rpc_pb2.DeleteRangeRequest) -> tuple[rpc_pb2.DeleteRangeResponse, KvChanges | None]:
        """Raises InvalidArgument, ResourceExhausted (the previous values are too much for an answer)."""
        check.check_delete(request)
        response = self._delete(View(self._store), request)
        return response, self._store.commit()

    def txn(self, request: rpc_pb2.TxnRequest) -> tuple[rpc_pb2.TxnResponse, KvChanges | None]:
        """Raises InvalidArgument, NotFound (a lease), OutOfRange, ResourceExhausted."""
        check.check_txn(request)
        view = View(self._store)
        chosen = choose(view, request)
        check_chosen(view, chosen)
        done = False
        try:
            response = run(view, chosen, self._put, lambda inner: self._delete(view, inner))
            done = True
        finally:
            if not done:
                self._store.rollback()
        changes = self._store.commit()
        response.header.revision = self._store.revision
        return response, changes

    def compact(self, request: rpc_pb2.CompactionRequest) -> rpc_pb2.CompactionResponse:
        """Raises OutOfRange: already compacted, or a future revision."""
        check.check_compact(request)
        self._store.compact(request.revision)
        return rpc_pb2.CompactionResponse(header=rpc_pb2.ResponseHeader(revision=self._store.revision))

    def _put(self, request: rpc_pb2.PutRequest) -> rpc_pb2.PutResponse:
        store, key = self._store, request.key
        value, lease = request.value, request.lease
        response = rpc_pb2.PutResponse()
        response.header.revision = store.revision + 1
        if request.prev_kv or request.ignore_value or request.ignore_lease:
            previous = store.index.newest(key)
            if previous is None:
                if request.ignore_value or request.ignore_lease:
                    raise errors.key_not_found()
            else:
                if request.ignore_value:
                    value = previous.value or b""
                if request.ignore_lease:
                    lease = previous.lease
                if request.prev_kv:
                    fill(response.prev_kv, key, previous)
        store.put(key, value, lease)
        return response

    def _delete(self, view: View, request: rpc_pb2.DeleteRangeRequest) -> rpc_pb2.DeleteRangeResponse:
        response = rpc_pb2.DeleteRangeResponse()
        if request.prev_kv:
            pairs = view.pairs(request.key, request.range_end, view.revision, 0)
            view.spend(pairs)
            for key, version in pairs:
                fill(response.prev_kvs.add(), key, version)
        response.deleted = self._store.delete(request.key, request.range_end)
        response.header.revision = self._store.read_revision
        return response
