"""Clients: each does one call after the other, through any node, and writes down what it did and saw.

A client with a session tries again elsewhere, under the same name, when it does not know the outcome; one without does
not. What every try said was not done (`Unavailable`, a full buffer) counts as never having happened: should it be seen
later, the history is not linearizable.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

from rocinante.errors import ResourceExhausted, RocinanteError, SessionExpired, Unavailable
from rocinante.pb.etcd import rpc_pb2
from rocinante.ports import Outcome, ReadPoint, SessionRef
from rocinante.state.command import Kind
from tests.linearizability.checker import Operation
from tests.linearizability.models import Call

from .world import SimulationFailure, World

if TYPE_CHECKING:
    from .host import Host

TRIES_MAX: Final = 12
TRY_TIMEOUT_S: Final = 1.5
"""Until a client gives a try up, and its node should too."""
Register = Operation[Call, Hashable]


class History:
    """All that all clients did, by key, and what they know of the order of revisions."""

    def __init__(self) -> None:
        self.operations: dict[bytes, list[Register]] = {}
        self.revision = 0
        """The highest that somebody was told: what begins later must not see less."""
        self.done = self.unknown = self.refused = self.retries = 0

    def add(self, key: bytes, operation: Register) -> None:
        self.operations.setdefault(key, []).append(operation)
        if operation.known:
            self.done += 1
        else:
            self.unknown += 1


class Client:
    """See the module."""

    def __init__(
        self, world: World, number: int, hosts: Callable[[], list[Host]], history: History, keys: list[bytes]
    ) -> None:
        self._world = world
        self._hosts = hosts
        self._history = history
        self._keys = keys
        self.number = number
        random = world.random
        self._with_session = random.random() < 0.6
        self._pause = random.choice((0.02, 0.2, 0.5))
        self._session = 0
        self._seq = 0
        self._written = 0
        self._known: dict[bytes, bytes | None] = {}
        """The last value that it saw of each key."""
        self.stopped = False
        self.idle = True
        self.only: Host | None = None
        """Ask this node alone."""
        self._try = 0
        self._wake()

    def _wake(self) -> None:
        self._world.at(self._world.random.expovariate(1 / self._pause), None, "client", self._next)

    def _next(self) -> None:
        self.idle = True
        if self.stopped:
            return
        if self._with_session and not self._session:
            self._open()
            return
        random = self._world.random
        key = random.choice(self._keys)
        verb = random.choices(("get", "put", "cas", "delete"), (4, 3, 2, 0.3))[0]
        self.do(key, verb)

    def _open(self) -> None:
        session = self._world.random.getrandbits(63) | 1

        def opened(result: object) -> None:
            if isinstance(result, Outcome):
                self._session, self._seq = session, 0
            self._wake()

        self.idle = False
        self._ask(lambda host: host.node.propose(Kind.SESSION_OPEN, b"", session=SessionRef(session, 0)), opened)

    def stop(self) -> None:
        """No more calls of its own; those that it is told to do, it does without a pause."""
        self.stopped = True
        self._pause = 0.001

    # --- one call

    def do(self, key: bytes, verb: str) -> None:
        """Begin a call; `idle` says when it has ended."""
        self.idle = False
        self._written += 1
        value = b"%d-%d" % (self.number, self._written) if verb in ("put", "cas") else None
        call = Call(verb, value, self._known.get(key) if verb == "cas" else None)
        _OneCall(self, key, call, self._history.revision).begin()

    def name(self) -> SessionRef | None:
        if not self._session:
            return None
        self._seq += 1
        return SessionRef(self._session, self._seq, self._seq)

    def lose_session(self) -> None:
        self._session = 0

    def ended(self, key: bytes, operation: Register | None) -> None:
        """None: it certainly never happened."""
        if operation is None:
            self._history.refused += 1
        else:
            call = operation.input
            if operation.known:
                if call.verb == "get":
                    self._known[key] = operation.output  # type: ignore[assignment]  # of a get: bytes or None
                elif call.verb != "cas" or operation.output:
                    self._known[key] = call.value  # type: ignore[assignment]  # bytes or None
            if operation.known or call.verb != "get":
                self._history.add(key, operation)
        self._wake()

    def _ask(self, request: Callable[[Host], Future[Any]], then: Callable[[object], None]) -> None:
        """Put a request to some node; `then` is called once: with the result, an error, or None for silence."""
        world = self._world
        self._try += 1
        this = self._try
        hosts = self._hosts()
        host = self.only or world.random.choice(hosts)

        def answer(result: object) -> None:
            if self._try == this:
                self._try += 1
                then(result)

        def later(result: object) -> None:
            world.at(world.random.uniform(0.0001, 0.002), None, "answer", lambda: answer(result))

        def done(future: Future[Any]) -> None:
            later(future.exception() or future.result())

        def arrive() -> None:
            try:
                request(host).add_done_callback(done)
            except RocinanteError as error:
                later(error)

        if not host.up:
            world.at(0.05, None, "refused", lambda: answer(Unavailable("connection refused")))
            return
        world.at(world.random.uniform(0.0001, 0.002), host, "request", arrive)
        world.at(TRY_TIMEOUT_S * 1.2, None, "silence", lambda: answer(None))


class _OneCall:
    """A call with all its tries."""

    def __init__(self, client: Client, key: bytes, call: Call, revision: int) -> None:
        self._client, self._key, self._call = client, key, call
        self._world, self._history = client._world, client._history
        self._revision = revision
        self._called = self._world.now
        self._tries = 0
        self._unknown = False
        self._name = client.name() if call.verb != "get" else None

    def begin(self) -> None:
        self._tries += 1
        if self._tries > 1:
            self._history.retries += 1
        if self._call.verb == "get":
            self._client._ask(self._read, self._answered)
        else:
            self._client._ask(self._propose, self._answered)

    def _read(self, host: Host) -> Future[Any]:
        """The point, and then the state, as `services/` does it: what is read may be newer than the point."""
        result: Future[Any] = Future()

        def reached(point: Future[ReadPoint]) -> None:
            if error := point.exception():
                result.set_exception(error)
            else:
                host.world.at(host.apply_delay(), host, "range", look)

        def look() -> None:
            result.set_result(host.node.state.kv_range(rpc_pb2.RangeRequest(key=self._key)))

        host.node.read(timeout_s=TRY_TIMEOUT_S).add_done_callback(reached)
        return result

    def _propose(self, host: Host) -> Future[Any]:
        kind, body = request_of(self._key, self._call)
        return host.node.propose(kind, body, session=self._name, timeout_s=TRY_TIMEOUT_S)

    def _answered(self, result: object) -> None:
        if isinstance(result, Outcome):
            self._end(result.result)
        elif isinstance(result, rpc_pb2.RangeResponse):
            self._end(result)
        elif isinstance(result, Unavailable | ResourceExhausted):
            self._again()
        elif isinstance(result, SessionExpired):
            self._client.lose_session()
            self._unknown = True
            self._give_up()
        elif result is None or isinstance(result, RocinanteError):
            self._unknown = True
            self._again()
        else:
            raise SimulationFailure(f"an answer that nobody expected: {result!r}")

    def _again(self) -> None:
        repeatable = self._name is not None or self._call.verb == "get"
        if self._tries >= TRIES_MAX or not (repeatable or not self._unknown):
            self._give_up()
            return
        self._world.at(self._world.random.uniform(0.01, 0.2), None, "client", self.begin)

    def _give_up(self) -> None:
        if not self._unknown:
            self._client.ended(self._key, None)
            return
        self._client.ended(self._key, Operation(self._client.number, self._called, math.inf, self._call, None))

    def _end(self, response: Any) -> None:
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
        self._client.ended(self._key, Operation(self._client.number, self._called, self._world.now, self._call, output))


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
