"""Clients of the keys: get, put, compare-and-swap and delete; each writes down what it did and saw.

What every try said was not done counts as never having happened: should it be seen later, the history is not
linearizable.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from rocinante.pb.etcd import rpc_pb2
from rocinante.ports import Outcome, SessionRef
from rocinante.state.command import Kind
from tests.linearizability.checker import Operation
from tests.linearizability.models import Call

from .caller import TRY_TIMEOUT_S, Attempt, Caller, Tally, read_then
from .world import SimulationFailure, World

if TYPE_CHECKING:
    from .host import Host

Register = Operation[Call, Hashable]


class History(Tally):
    """All that the clients of the keys did, by key, and what they know of the order of revisions."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: dict[bytes, list[Register]] = {}
        self.revision = 0
        """The highest that somebody was told: what begins later must not see less."""
        self.index = 0
        """The highest of the log that somebody knows to be applied (flow clients)."""

    def add(self, key: bytes, operation: Register) -> None:
        self.operations.setdefault(key, []).append(operation)
        self.done += operation.known


class KeyClient(Caller):
    """See the module."""

    def __init__(
        self, world: World, number: int, hosts: Callable[[], list[Host]], history: History, keys: list[bytes]
    ) -> None:
        super().__init__(world, number, hosts, history)
        self.history = history
        self.known: dict[bytes, bytes | None] = {}
        """The last value that it saw of each key."""
        self._keys = keys
        self._written = 0

    def call(self) -> None:
        random = self.world.random
        self.do(random.choice(self._keys), random.choices(("get", "put", "cas", "delete"), (4, 3, 2, 0.3))[0])

    def do(self, key: bytes, verb: str) -> None:
        """Begin a call; `idle` says when it has ended."""
        self.busy()
        self._written += 1
        value = b"%d-%d" % (self.number, self._written) if verb in ("put", "cas") else None
        _KeyCall(self, key, Call(verb, value, self.known.get(key) if verb == "cas" else None)).begin()


class _KeyCall(Attempt):
    def __init__(self, client: KeyClient, key: bytes, call: Call) -> None:
        super().__init__(client, reads=call.verb == "get")
        self._client, self._history = client, client.history
        self._key, self._call = key, call
        self._revision = client.history.revision

    def request(self, host: Host, name: SessionRef | None) -> Future[Any]:
        if self._call.verb == "get":
            return read_then(host, lambda: host.node.state.kv_range(rpc_pb2.RangeRequest(key=self._key)))
        kind, body = request_of(self._key, self._call)
        return host.node.propose(kind, body, session=name, timeout_s=TRY_TIMEOUT_S)

    def given_up(self, *, unknown: bool) -> None:
        if unknown:
            self._history.add(self._key, Operation(self._client.number, self.called, math.inf, self._call, None))

    def ended(self, result: Any) -> None:
        response: Any = result.result if isinstance(result, Outcome) else result
        revision = response.header.revision
        wrote = True
        output: Hashable = None
        if isinstance(response, rpc_pb2.RangeResponse):
            wrote = False
            output = bytes(response.kvs[0].value) if response.kvs else None
        elif isinstance(response, rpc_pb2.TxnResponse):
            wrote = output = bool(response.succeeded)
        elif isinstance(response, rpc_pb2.DeleteRangeResponse):
            wrote = bool(response.deleted)
        if revision < self._revision or (wrote and revision == self._revision):
            raise SimulationFailure(
                f"client {self._client.number}: {self._call} on {self._key!r} has revision {revision}, but "
                f"{self._revision} was told to somebody before it began"
            )
        self._history.revision = max(self._history.revision, revision)
        self._learn(output)
        self._history.add(self._key, Operation(self._client.number, self.called, self.world.now, self._call, output))

    def _learn(self, output: Hashable) -> None:
        if self._call.verb == "get":
            self._client.known[self._key] = output  # type: ignore[assignment]  # of a get: bytes or None
        elif self._call.verb != "cas" or output:
            self._client.known[self._key] = self._call.value  # type: ignore[assignment]  # bytes or None


def request_of(key: bytes, call: Call) -> tuple[Kind, bytes]:
    """The command that carries a call out."""
    value = call.value if isinstance(call.value, bytes) else b""
    put = rpc_pb2.PutRequest(key=key, value=value)
    if call.verb == "put":
        return Kind.KV_PUT, put.SerializeToString()
    if call.verb == "delete":
        return Kind.KV_DELETE, rpc_pb2.DeleteRangeRequest(key=key).SerializeToString()
    compare = rpc_pb2.Compare(key=key, result=rpc_pb2.Compare.EQUAL)
    if isinstance(call.expected, bytes):
        compare.target, compare.value = rpc_pb2.Compare.VALUE, call.expected
    else:
        compare.target, compare.version = rpc_pb2.Compare.VERSION, 0
    txn = rpc_pb2.TxnRequest(compare=[compare], success=[rpc_pb2.RequestOp(request_put=put)])
    return Kind.KV_TXN, txn.SerializeToString()
