"""Reading a range at one revision, in pieces, so that nobody holds the machine's lock for long.

`apply` reads through a view without a lock (it holds it already); the reading methods of the machine through one that
takes the lock for each piece and pins the store's versions until it is closed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Final

from rocinante import limits
from rocinante.pb.etcd import rpc_pb2
from rocinante.state.kv import errors
from rocinante.state.kv.store import KvStore
from rocinante.state.kv.versions import Version, fill, version_at

Pair = tuple[bytes, Version]

_KEY_VALUE_OVERHEAD_BYTES: Final = 32
_NO_LOCK: Final = nullcontext()


class View:
    """The store as it is (within a write: with what that write has done). Errors are those of etcd's mvcc."""

    def __init__(self, store: KvStore, lock: AbstractContextManager[object] = _NO_LOCK) -> None:
        self._store = store
        self._lock = lock
        self._budget_bytes = limits.RANGE_RESPONSE_BYTES_MAX

    @property
    def revision(self) -> int:
        """The current revision, as this view has it."""
        return self._store.read_revision

    @property
    def compacted(self) -> int:
        return self._store.compacted

    def at(self, revision: int) -> int:
        """The revision that a request means (<= 0: the current one). Raises OutOfRange."""
        if revision > self.revision:
            raise errors.future_revision()
        if revision <= 0:
            revision = self.revision
        if revision < self.compacted:
            raise errors.compacted()
        return revision

    def pieces(self, key: bytes, range_end: bytes, revision: int) -> Iterator[list[Pair]]:
        """The keys of a range with the versions that held at `revision`, in key order."""
        index = self._store.index
        if not range_end:
            with self._lock:
                version = index.at(key, revision)
            yield [] if version is None else [(key, version)]
            return
        start, first = key, True
        while True:
            with self._lock:
                walk = index.walk_live if revision == self._store.read_revision else index.walk_all
                names = list(islice(walk(start, range_end, inclusive=first), limits.KV_PIECE_KEYS))
                versions = index.versions
                found = [(name, version_at(versions[name], revision)) for name in names]
            yield [(name, version) for name, version in found if version is not None]
            if len(names) < limits.KV_PIECE_KEYS:
                return
            start, first = names[-1], False

    def pairs(self, key: bytes, range_end: bytes, revision: int, limit: int) -> list[Pair]:
        """The first `limit` of a range; 0: all."""
        pairs: list[Pair] = []
        for piece in self.pieces(key, range_end, revision):
            pairs += piece
            if 0 < limit <= len(pairs):
                return pairs[:limit]
        return pairs

    def count(self, key: bytes, range_end: bytes, revision: int) -> int:
        """How many keys a range has at `revision`: by bisection for the current one, else by a walk."""
        with self._lock:
            if revision == self._store.read_revision:
                return self._store.index.count(key, range_end)
        return sum(map(len, self.pieces(key, range_end, revision)))

    def spend(self, pairs: list[Pair], *, keys_only: bool = False) -> None:
        """Count what is about to be answered. Raises ResourceExhausted beyond RANGE_RESPONSE_BYTES_MAX for one
        request."""
        size = sum(len(key) + _KEY_VALUE_OVERHEAD_BYTES for key, _ in pairs)
        if not keys_only:
            size += sum(len(version.value or b"") for _, version in pairs)
        self._budget_bytes -= size
        if self._budget_bytes < 0:
            raise errors.response_too_large()


class PinnedView(View):
    """The store at the revision at which this was made, from any thread. To be closed."""

    def __init__(self, store: KvStore, lock: AbstractContextManager[object]) -> None:
        super().__init__(store, lock)
        with lock:
            self._revision = store.read_revision
            self._compacted = store.compacted
            store.pins += 1

    @property
    def revision(self) -> int:
        return self._revision

    @property
    def compacted(self) -> int:
        return self._compacted

    def close(self) -> None:
        with self._lock:
            self._store.pins -= 1


def read_range(view: View, request: rpc_pb2.RangeRequest) -> rpc_pb2.RangeResponse:
    """etcd's Range (etcdserver/apply.go): filters and sorts come before the limit, `count` is that of the whole
    range."""
    revision = view.at(request.revision)
    key, range_end = request.key, request.range_end
    response = rpc_pb2.RangeResponse()
    response.header.revision = view.revision
    if request.count_only:
        response.count = view.count(key, range_end, revision)
        return response
    fetch = request.limit + 1 if request.limit > 0 and not _needs_all(request) else 0
    pairs = view.pairs(key, range_end, revision, fetch)
    # Fewer than were asked for is all that there is.
    response.count = view.count(key, range_end, revision) if 0 < fetch <= len(pairs) else len(pairs)
    pairs = _sorted(_filtered(pairs, request), request)
    if 0 < request.limit < len(pairs):
        del pairs[request.limit :]
        response.more = True
    view.spend(pairs, keys_only=request.keys_only)
    add, keys_only = response.kvs.add, request.keys_only
    for name, version in pairs:
        fill(add(), name, version, keys_only=keys_only)
    return response


def _needs_all(request: rpc_pb2.RangeRequest) -> bool:
    return bool(
        request.sort_order
        or request.min_mod_revision
        or request.max_mod_revision
        or request.min_create_revision
        or request.max_create_revision
    )


def _filtered(pairs: list[Pair], request: rpc_pb2.RangeRequest) -> list[Pair]:
    if most := request.max_mod_revision:
        pairs = [pair for pair in pairs if pair[1].main <= most]
    if least := request.min_mod_revision:
        pairs = [pair for pair in pairs if pair[1].main >= least]
    if most := request.max_create_revision:
        pairs = [pair for pair in pairs if pair[1].create <= most]
    if least := request.min_create_revision:
        pairs = [pair for pair in pairs if pair[1].create >= least]
    return pairs


def _sorted(pairs: list[Pair], request: rpc_pb2.RangeRequest) -> list[Pair]:
    """By etcd's rule a target other than KEY without an order means ascending; what is equal stays in key order."""
    order, target = request.sort_order, request.sort_target
    if order == rpc_pb2.RangeRequest.NONE and target != rpc_pb2.RangeRequest.KEY:
        order = rpc_pb2.RangeRequest.ASCEND
    down = order == rpc_pb2.RangeRequest.DESCEND
    if order == rpc_pb2.RangeRequest.NONE or (target == rpc_pb2.RangeRequest.KEY and not down):
        return pairs
    match target:
        case rpc_pb2.RangeRequest.VERSION:
            return sorted(pairs, key=lambda pair: pair[1].version, reverse=down)
        case rpc_pb2.RangeRequest.CREATE:
            return sorted(pairs, key=lambda pair: pair[1].create, reverse=down)
        case rpc_pb2.RangeRequest.MOD:
            return sorted(pairs, key=lambda pair: pair[1].main, reverse=down)
        case rpc_pb2.RangeRequest.VALUE:
            return sorted(pairs, key=lambda pair: pair[1].value or b"", reverse=down)
        case _:
            return sorted(pairs, key=lambda pair: pair[0], reverse=down)
