"""What surrounds every call: parsing, the client's deadline and session, the leader in the trailing metadata,
errors, counting.

A handler gets a `Call` and the parsed request, returns a message (or its bytes) and raises `RocinanteError`;
everything else happens here, once. Requests come in and answers go out as bytes: the server's own (de)serialisation
is switched off, because a request's bytes are also the body of its command, and because a malformed one must get
INVALID_ARGUMENT where gRPC would answer INTERNAL.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from time import perf_counter
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from rocinante import limits
from rocinante.errors import Code, InvalidArgument, OutcomeUnknown, RocinanteError, Unavailable
from rocinante.ports import NodePort, Outcome, ReadPoint, SessionRef
from rocinante.services.bridge import FutureBridge
from rocinante.services.gather import Gatherer
from rocinante.services.leader import LeaderView
from rocinante.services.metrics import CallMetrics
from rocinante.services.status import INTERNAL_TEXT, grpc_status
from rocinante.services.streams import Streams
from rocinante.state.command import Kind
from rocinante.tokens import Keyring, offered_in_metadata

logger = logging.getLogger(__name__)

T = TypeVar("T")
Request = TypeVar("Request", bound=Message)
Unary = Callable[["Call", Request], Awaitable[Message | bytes]]
Stream = Callable[["Call", Request], Awaitable[None]]
Duplex = Callable[["Call", AsyncIterator[Request]], Awaitable[None]]
Skip = Callable[[bytes], int]
Behavior = Callable[[Any, Any], Awaitable[Any]]
Handlers = dict[str, Any]

U64_MAX: Final = 2**64 - 1
_SESSION_KEYS: Final = ("rocinante-session", "rocinante-seq", "rocinante-ack")


def _nothing(_raw: bytes) -> int:
    return 0


class Call:
    """One call under way: its context, the request's bytes, and the way to the node."""

    __slots__ = ("_calls", "context", "raw")

    def __init__(self, calls: Calls, context: Any, raw: bytes) -> None:
        self._calls = calls
        self.context = context
        self.raw = raw

    def timeout_s(self) -> float:
        """The client's deadline, bounded; `limits.REQUEST_TIMEOUT_S` where it set none."""
        remaining_s: float | None = self.context.time_remaining()
        if remaining_s is None:
            return limits.REQUEST_TIMEOUT_S
        return min(remaining_s, limits.REQUEST_TIMEOUT_S_MAX)

    async def propose(self, kind: Kind, body: bytes, session: SessionRef | None = None) -> Outcome:
        """Have a command carried out, under the client's session where its metadata names one."""
        calls = self._calls
        if session is None:
            session = session_of(self.context.invocation_metadata())
        timeout_s = self.timeout_s()
        return await calls.gatherer.ask(lambda: calls.node.propose(kind, body, session=session, timeout_s=timeout_s))

    async def propose_again(self, kind: Kind, body: bytes) -> Outcome:
        """Have a command carried out that does no harm when it is carried out twice: not under the client's session,
        which may name one command only."""
        calls = self._calls
        timeout_s = self.timeout_s()
        return await calls.gatherer.ask(lambda: calls.node.propose(kind, body, timeout_s=timeout_s))

    async def read(self, *, linearizable: bool) -> ReadPoint:
        """Wait until the state may be read."""
        calls = self._calls
        timeout_s = self.timeout_s()
        if not linearizable:
            return await calls.bridge.wait(calls.node.read(linearizable=False, timeout_s=timeout_s))
        return await calls.gatherer.ask(lambda: calls.node.read(linearizable=True, timeout_s=timeout_s))

    async def wait(self, future: Future[T]) -> T:
        """For what the node does without a time limit of its own: gives up at the client's deadline (bounded)."""
        try:
            return await asyncio.wait_for(self._calls.bridge.wait(future), self.timeout_s())
        except TimeoutError:
            raise OutcomeUnknown("the time is up; it may still happen") from None

    async def write(self, message: Message) -> None:
        """Send one message of a stream; waits while the client's flow-control window is full."""
        await self.context.write(message.SerializeToString())

    async def write_bytes(self, message: bytes) -> None:
        """The same with a message that is encoded already."""
        await self.context.write(message)


def session_of(metadata: Any) -> SessionRef | None:
    """The client session named in a call's metadata (proto/rocinante/v1/flow.proto), None where there is none.

    Raises InvalidArgument, naming the key, for anything but 16 hex digits, a decimal > 0, and a decimal.
    """
    found: dict[str, str] | None = None
    for key, value in metadata:
        if key.startswith("rocinante-") and key in _SESSION_KEYS:
            found = {} if found is None else found
            found[key] = value
    if found is None:
        return None
    session = _number(found, "rocinante-session", 16)
    seq = _number(found, "rocinante-seq", 10)
    ack = _number(found, "rocinante-ack", 10) if "rocinante-ack" in found else 0
    if not session:
        raise InvalidArgument("rocinante-session", "0 is nobody's session")
    if not seq:
        raise InvalidArgument("rocinante-seq", "expected a decimal number > 0")
    if ack > seq:
        raise InvalidArgument("rocinante-ack", f"{ack} is beyond rocinante-seq ({seq})")
    return SessionRef(session, seq, ack)


def _number(found: dict[str, str], key: str, base: int) -> int:
    text = found.get(key)
    if text is None:
        raise InvalidArgument(key, "missing; a session needs rocinante-session and rocinante-seq")
    digits = "0123456789abcdefABCDEF"[: 22 if base == 16 else 10]
    if not 1 <= len(text) <= (16 if base == 16 else 20) or any(char not in digits for char in text):
        raise InvalidArgument(key, "expected 16 hex digits" if base == 16 else "expected a decimal number")
    number = int(text, base)
    if number > U64_MAX:
        raise InvalidArgument(key, "does not fit 64 bits")
    return number


class Calls:
    """Makes gRPC's method handlers out of ours. One per server, used on its event loop."""

    def __init__(
        self,
        node: NodePort,
        bridge: FutureBridge,
        gatherer: Gatherer,
        leader: LeaderView,
        metrics: CallMetrics,
        keyring: Keyring,
    ) -> None:
        self.keyring = keyring
        self.node = node
        self.bridge = bridge
        self.gatherer = gatherer
        self.leader = leader
        self.metrics = metrics
        self._workers = ThreadPoolExecutor(max_workers=limits.GRPC_WORKERS_MAX, thread_name_prefix="grpc-worker")
        self.streams = Streams()

    def close(self) -> None:
        """End the worker threads, without waiting for what they do."""
        self._workers.shutdown(wait=False, cancel_futures=True)

    async def offload(self, work: Callable[..., T], *arguments: Any) -> T:
        """Do what takes more than about a millisecond (a large answer, a large batch) on a worker, so that the
        loop goes on.

        The loop also carries the peers' heartbeats. What waits is bounded by the number of calls that may be under
        way.
        """
        return await asyncio.get_running_loop().run_in_executor(self._workers, partial(work, *arguments))

    def unary(self, path: str, request_type: type[Request], handler: Unary[Request], skip: Skip = _nothing) -> Any:
        """A method with one request and one answer. `skip`: where the part of the request begins that is to be parsed;
        the handler finds what is before it in the call's bytes."""
        stats, parse, leader = self.metrics.method(path), request_type.FromString, self.leader

        async def behavior(raw: bytes, context: Any) -> bytes:
            started_s = perf_counter()
            stats.started += 1
            try:
                context.set_trailing_metadata(leader.metadata())
                answer = await handler(Call(self, context, raw), _parse(parse, raw[skip(raw) :], request_type))
                if not isinstance(answer, bytes):
                    answer = answer.SerializeToString()
                stats.finish("OK", perf_counter() - started_s)
                return answer
            except RocinanteError as error:
                stats.finish(error.code.value, perf_counter() - started_s)
                await self._abort(context, error)
            except asyncio.CancelledError:
                stats.finish("CANCELLED", perf_counter() - started_s)
                raise
            except Exception:  # noqa: BLE001  (the top of a request)
                stats.finish(Code.INTERNAL.value, perf_counter() - started_s)
                await _abort_unexpected(context, path)
            raise AssertionError("abort does not return")

        return grpc.unary_unary_rpc_method_handler(behavior)

    def stream(self, path: str, request_type: type[Request], handler: Stream[Request]) -> Any:
        """A method with one request and a stream of answers."""
        parse = request_type.FromString

        async def run(raw: bytes, context: Any) -> None:
            await handler(Call(self, context, raw), _parse(parse, raw, request_type))

        return grpc.unary_stream_rpc_method_handler(self._streaming(path, run))

    def duplex(self, path: str, request_type: type[Request], handler: Duplex[Request]) -> Any:
        """A method with streams both ways."""
        parse = request_type.FromString

        async def parsed(raws: AsyncIterator[bytes]) -> AsyncIterator[Request]:
            async for raw in raws:
                yield _parse(parse, raw, request_type)

        async def run(raws: AsyncIterator[bytes], context: Any) -> None:
            await handler(Call(self, context, b""), parsed(raws))

        return grpc.stream_stream_rpc_method_handler(self._streaming(path, run))

    def guard(self, handler: Any) -> Any:
        """Somebody else's streaming method, so that it ends with ours. Others are given back as they are."""
        names = ("stream_unary", "unary_stream", "stream_stream")
        name = next((name for name in names if getattr(handler, name) is not None), None)
        if name is None or not asyncio.iscoroutinefunction(getattr(handler, name)):
            return handler
        inner = getattr(handler, name)

        async def behavior(request: Any, context: Any) -> Any:
            try:
                if handler.response_streaming:
                    await context.send_initial_metadata(())
                return await self.streams.run(inner(request, context), partial(self._is_let_in, context))
            except Unavailable as error:
                await self._abort(context, error)

        make = getattr(grpc, f"{name}_rpc_method_handler")
        return make(behavior, handler.request_deserializer, handler.response_serializer)

    def _streaming(self, path: str, run: Callable[[Any, Any], Coroutine[Any, Any, None]]) -> Behavior:
        stats = self.metrics.method(path)

        async def behavior(request: Any, context: Any) -> None:
            started_s = perf_counter()
            stats.started += 1
            try:
                context.set_trailing_metadata(self.leader.metadata())
                await context.send_initial_metadata(())
                await self.streams.run(run(request, context), partial(self._is_let_in, context))
                stats.finish("OK", perf_counter() - started_s)
            except RocinanteError as error:
                stats.finish(error.code.value, perf_counter() - started_s)
                await self._abort(context, error)
            except (asyncio.CancelledError, grpc.aio.InternalError):
                # The client went away, maybe while something was being written to it: the second is gRPC's own, and
                # raised again it would be a stack in the log for every client that leaves.
                stats.finish("CANCELLED", perf_counter() - started_s)
                raise asyncio.CancelledError from None
            except Exception:  # noqa: BLE001  (the top of a request)
                stats.finish(Code.INTERNAL.value, perf_counter() - started_s)
                await _abort_unexpected(context, path)

        return behavior

    def _is_let_in(self, context: Any) -> bool:
        return self.keyring.tokens.allows(offered_in_metadata(context.invocation_metadata() or ()))

    async def _abort(self, context: Any, error: RocinanteError) -> None:
        status, text = grpc_status(error)
        context.set_trailing_metadata(self.leader.fresh_metadata())
        try:
            await context.abort(status, text)
        except grpc.aio.InternalError:
            # The client went away meanwhile; raised again it would be a stack in the log (see _streaming).
            raise asyncio.CancelledError from None


def parsed_here(handler: Any) -> Any:
    """Somebody else's method, so that bytes that are no message get INVALID_ARGUMENT: gRPC would answer UNKNOWN, and
    put a stack into the log."""
    parse = handler.request_deserializer

    def request_of(raw: bytes) -> Any:
        try:
            return parse(raw)
        except DecodeError:
            raise InvalidArgument("", "the bytes are not such a message") from None

    async def requests_of(raws: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for raw in raws:
            yield request_of(raw)

    name = next(name for name in ("unary_unary", "unary_stream", "stream_stream") if getattr(handler, name) is not None)
    inner, take = getattr(handler, name), requests_of if handler.request_streaming else request_of

    async def answer(raw: Any, context: Any) -> Any:
        try:
            return await inner(take(raw), context)
        except InvalidArgument as error:
            await context.abort(*grpc_status(error))

    async def answers(raw: Any, context: Any) -> AsyncIterator[Any]:
        try:
            async for item in inner(take(raw), context):
                yield item
        except InvalidArgument as error:
            await context.abort(*grpc_status(error))

    # gRPC's own servicers either write to the context or are generators.
    behavior = answers if inspect.isasyncgenfunction(inner) else answer
    return getattr(grpc, f"{name}_rpc_method_handler")(behavior, None, handler.response_serializer)


def _parse(parse: Callable[[bytes], Request], raw: bytes, request_type: type[Request]) -> Request:
    try:
        return parse(raw)
    except DecodeError:
        raise InvalidArgument(request_type.DESCRIPTOR.full_name, "the bytes are not such a message") from None


async def _abort_unexpected(context: Any, path: str) -> None:
    """Log what nobody foresaw, and tell the client no more than that it happened."""
    logger.exception("a call of %s failed unexpectedly", path)
    await context.abort(grpc.StatusCode.INTERNAL, INTERNAL_TEXT)
