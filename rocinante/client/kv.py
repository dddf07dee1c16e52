"""`client.kv`: keys and values with etcd's semantics (revisions, versions, transactions, compaction, watches).

Keys and values are bytes; text is taken as UTF-8. What comes back is bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

from rocinante.client.connection import Connection
from rocinante.client.kv_watch import KvWatch
from rocinante.client.ranges import FROM_KEY, key_range, prefix_end
from rocinante.client.stubs import kv
from rocinante.client.txn import Txn
from rocinante.client.types import CompactResult, DeleteResult, KeyValue, PutResult, RangeResult, key_values, to_bytes
from rocinante.errors import InvalidArgument
from rocinante.limits import CLIENT_RANGE_PAGE_KEYS
from rocinante.pb.etcd import rpc_pb2

__all__ = ["Kv", "SortTarget"]


class SortTarget(IntEnum):
    KEY = 0
    VERSION = 1
    CREATE = 2
    MOD = 3
    VALUE = 4


class Kv:
    """The keys of one cluster. Reads are linearizable unless `serializable` asks for what the asked node has.
    `timeout_s`: instead of the client's."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def put(
        self,
        key: bytes | str,
        value: bytes | str,
        *,
        previous: bool = False,
        keep_value: bool = False,
        timeout_s: float | None = None,
    ) -> PutResult:
        """Write a key. `previous`: give back what it was; `keep_value`: leave the value, count a new version (`value`
        must be empty).

        Raises InvalidArgument (too large, empty key), OutcomeUnknown, Unavailable, ResourceExhausted.
        """
        request = rpc_pb2.PutRequest(
            key=to_bytes(key, "key"), value=to_bytes(value, "value"), prev_kv=previous, ignore_value=keep_value
        )
        answer = self._connection.write(kv.PUT, request, timeout_s)
        before = KeyValue.from_pb(answer.prev_kv) if answer.HasField("prev_kv") else None
        return PutResult(answer.header.revision, before)

    def get(
        self,
        key: bytes | str,
        *,
        revision: int = 0,
        serializable: bool = False,
        timeout_s: float | None = None,
    ) -> KeyValue | None:
        """One key, as it is now or was at `revision`; None when it is not there. Raises OutOfRange for a compacted or
        future revision."""
        start, _ = key_range(key)
        request = rpc_pb2.RangeRequest(key=start, revision=revision, serializable=serializable)
        answer = self._connection.read(kv.RANGE, request, timeout_s)
        return KeyValue.from_pb(answer.kvs[0]) if answer.kvs else None

    def range(
        self,
        key: bytes | str,
        *,
        range_end: bytes | str | None = None,
        prefix: bool = False,
        limit: int = 0,
        revision: int = 0,
        sort: SortTarget | None = None,
        descending: bool = False,
        serializable: bool = False,
        keys_only: bool = False,
        count_only: bool = False,
        timeout_s: float | None = None,
    ) -> RangeResult:
        """All keys in [key, range_end), or all that begin with `key`. `limit` 0: no limit, but an answer that is too
        large is refused: use `prefix`.

        Raises OutOfRange for a compacted or future revision, ResourceExhausted for too large an answer.
        """
        start, end = key_range(key, prefix=prefix, range_end=range_end)
        if limit < 0:
            raise InvalidArgument("limit", f"is {limit}, must not be negative")
        request = rpc_pb2.RangeRequest(
            key=start,
            range_end=end,
            limit=limit,
            revision=revision,
            serializable=serializable,
            keys_only=keys_only,
            count_only=count_only,
        )
        if sort is not None or descending:
            request.sort_target = int(sort or SortTarget.KEY)  # type: ignore[assignment]
            request.sort_order = (
                rpc_pb2.RangeRequest.SortOrder.DESCEND if descending else rpc_pb2.RangeRequest.SortOrder.ASCEND
            )
        answer = self._connection.read(kv.RANGE, request, timeout_s)
        return RangeResult(key_values(answer.kvs), answer.more, answer.count, answer.header.revision)

    def prefix(
        self,
        prefix: bytes | str = b"",
        *,
        revision: int = 0,
        keys_only: bool = False,
        serializable: bool = False,
        page: int = CLIENT_RANGE_PAGE_KEYS,
        timeout_s: float | None = None,
    ) -> Iterator[KeyValue]:
        """All keys that begin with `prefix`, in order, however many there are; an empty prefix: all keys.

        They are asked for by pages, all at the revision of the first one, so that what is written meanwhile is not seen
        by halves. Raises OutOfRange when that revision is compacted before the last page. `timeout_s` bounds each page.
        """
        if page < 1:
            raise InvalidArgument("page", f"is {page}, must be at least 1")
        start = to_bytes(prefix, "prefix")
        end = prefix_end(start)
        at = start or FROM_KEY
        while True:
            request = rpc_pb2.RangeRequest(
                key=at, range_end=end, limit=page, revision=revision, keys_only=keys_only, serializable=serializable
            )
            answer = self._connection.read(kv.RANGE, request, timeout_s)
            revision = revision or answer.header.revision
            yield from key_values(answer.kvs)
            if not answer.more or not answer.kvs:
                return
            at = answer.kvs[-1].key + b"\0"

    def delete(
        self,
        key: bytes | str,
        *,
        prefix: bool = False,
        range_end: bytes | str | None = None,
        previous: bool = False,
        timeout_s: float | None = None,
    ) -> DeleteResult:
        """Delete a key, all in [key, range_end), or all that begin with it. A key that is not there is no error:
        `deleted` is 0."""
        start, end = key_range(key, prefix=prefix, range_end=range_end)
        request = rpc_pb2.DeleteRangeRequest(key=start, range_end=end, prev_kv=previous)
        answer = self._connection.write(kv.DELETE, request, timeout_s)
        return DeleteResult(answer.deleted, answer.header.revision, key_values(answer.prev_kvs))

    def txn(self) -> Txn:
        """A transaction to build: `kv.txn().when(...).then(...).otherwise(...).commit()` (client/txn.py)."""
        return Txn(self._connection)

    def compact(self, revision: int, *, timeout_s: float | None = None) -> CompactResult:
        """Forget what keys were before `revision`. Raises OutOfRange when it is compacted already or not there yet."""
        request = rpc_pb2.CompactionRequest(revision=revision)
        answer = self._connection.write(kv.COMPACT, request, timeout_s)
        return CompactResult(answer.header.revision)

    def watch(
        self,
        key: bytes | str = b"",
        *,
        prefix: bool = False,
        range_end: bytes | str | None = None,
        from_revision: int = 0,
        previous: bool = False,
        puts: bool = True,
        deletes: bool = True,
    ) -> KvWatch:
        """Changes of a key or range, from `from_revision` on (0: from now on), as an iterator that goes on over the
        death of nodes.

        An empty key with `prefix` watches all keys. Close it, or use it as a context manager, to end it
        (client/kv_watch.py).
        """
        start, end = key_range(key, prefix=prefix, range_end=range_end)
        return KvWatch(
            self._connection, start, end, from_revision=from_revision, previous=previous, puts=puts, deletes=deletes
        )
