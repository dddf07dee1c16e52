"""One try over gRPC: the channels, and what each failure means.

Contract: thread-safe. A try returns the answer or raises `Failed`; the leader that an answer names goes to the router.

Who sent an error decides what is known. A node puts `rocinante-leader` into the trailing metadata of every answer, so
an error that has it is the node's word: UNAVAILABLE then means "certainly not carried out" (rocinante/errors.py). So
does one that says in words why no leader can be named. The same status without it was made by the transport: the
connection broke, and nobody knows how far the request came, unless gRPC says that it never got a connection at all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import grpc

from rocinante.client.retry import Failed, Next, Try
from rocinante.client.router import Router
from rocinante.client.stubs import Method, multicallable
from rocinante.errors import (
    AlreadyExists,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    OutcomeUnknown,
    OutOfRange,
    ResourceExhausted,
    RocinanteError,
    SessionExpired,
    Unauthenticated,
    Unavailable,
)
from rocinante.limits import GRPC_MESSAGE_BYTES_MAX
from rocinante.tokens import bearer_metadata

__all__ = ["LEADER_METADATA", "Transport", "classify"]

Q = TypeVar("Q")
R = TypeVar("R")

LEADER_METADATA: Final = "rocinante-leader"
_NEVER_CONNECTED: Final = (
    "failed to connect to all addresses",
    "connections to all backends failing",
    "DNS resolution failed",
)
"""What gRPC core says when no connection was there to send the request on (pick_first.cc, the resolvers)."""
_CERTAINLY_NOT: Final = ("not ready", "no leader")
"""How a node's own refusal begins that can name no leader, because there is none; the transport never says so."""
_TOO_LARGE: Final = ("larger than max", "page through")
"""Of what is too large, and is so the next time too: gRPC core (message_size), and the state machine of a range."""
CHANNEL_OPTIONS: Final = (
    ("grpc.max_send_message_length", GRPC_MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", GRPC_MESSAGE_BYTES_MAX),
    ("grpc.enable_retries", 0),  # we retry, by name
    ("grpc.enable_http_proxy", 0),  # a cluster is not behind the proxy that is meant for the web
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 10_000),  # a node that vanished without a word ends its streams
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),  # else a minute, whatever the line above says
    ("grpc.http2.max_pings_without_data", 0),
)
_FINAL: Final[dict[grpc.StatusCode, Callable[[str], RocinanteError]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: lambda text: InvalidArgument("", text),
    grpc.StatusCode.OUT_OF_RANGE: OutOfRange,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.DATA_LOSS: Internal,
    grpc.StatusCode.PERMISSION_DENIED: FailedPrecondition,
}


def trailing(error: Any, name: str) -> str | None:
    """A value of the trailing metadata of a call; None without it."""
    for key, value in error.trailing_metadata() or ():
        if key == name:
            return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
    return None


def classify(error: Any, method: str) -> Failed:
    """What an error of gRPC (an RpcError that is a Call) means for a try."""
    code, text = error.code(), error.details() or ""
    answered = trailing(error, LEADER_METADATA) is not None or text.startswith(_CERTAINLY_NOT)
    if code in _FINAL:
        return Failed(_FINAL[code](text), Next.STOP)
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return Failed(Unauthenticated(text), Next.ELSEWHERE_OR_STOP, node_down=True)
    if code is grpc.StatusCode.ABORTED:
        return Failed(SessionExpired(text), Next.REOPEN)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        final = any(part in text for part in _TOO_LARGE)
        return Failed(ResourceExhausted(text), Next.STOP if final else Next.LATER)
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return Failed(
            FailedPrecondition(f"it does not serve {method}: is it a Rocinante node of this version?"), Next.STOP
        )
    if answered:
        return _node_said(code, text)
    return _transport_said(code, text)


def _node_said(code: grpc.StatusCode, text: str) -> Failed:
    if code is grpc.StatusCode.UNAVAILABLE:
        return Failed(Unavailable(text), Next.ELSEWHERE)
    if code in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
        return Failed(OutcomeUnknown(text), Next.ELSEWHERE, unknown=True)
    return Failed(Internal(text or "the node reports an internal error: see its log"), Next.STOP, unknown=True)


def _transport_said(code: grpc.StatusCode, text: str) -> Failed:
    if code is grpc.StatusCode.UNAVAILABLE and any(part in text for part in _NEVER_CONNECTED):
        return Failed(Unavailable(_plain(text)), Next.ELSEWHERE, node_down=True)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Failed(OutcomeUnknown("no answer in time"), Next.ELSEWHERE, unknown=True, node_down=True)
    return Failed(Unavailable(_plain(text) or code.name), Next.ELSEWHERE, unknown=True, node_down=True)


def _plain(text: str) -> str:
    """gRPC's account of a broken connection in a few words."""
    if "http1.x server" in text.lower():
        return "it speaks HTTP, not gRPC: give the gRPC port (35001), not the REST port"
    for part, words in (
        ("onnection refused", "connection refused: is the node running?"),
        ("onnection reset", "the connection was reset"),
        ("Socket closed", "the connection was closed"),
        ("DNS resolution failed", "the name cannot be resolved"),
        ("No route to host", "no route to the host"),
        ("imed out", "cannot connect in time"),
    ):
        if part in text:
            return words
    return text.splitlines()[0][:200] if text else ""


def _target(endpoint: str) -> str:
    """gRPC's name for an endpoint; addresses need no resolver."""
    host = endpoint.rpartition(":")[0]
    if host.startswith("["):
        return f"ipv6:{endpoint}"
    return f"ipv4:{endpoint}" if host.replace(".", "").isdigit() else f"dns:///{endpoint}"


class _Bearing:
    """grpcio's callable, with the client's token in each call."""

    def __init__(self, callable_: Any, own: tuple[tuple[str, str], ...]) -> None:
        self._callable, self._own = callable_, own

    def __call__(self, request: Any, *, metadata: Any = None, **options: Any) -> Any:
        return self._callable(request, metadata=(*(metadata or ()), *self._own), **options)

    def with_call(self, request: Any, *, metadata: Any = None, **options: Any) -> Any:
        return self._callable.with_call(request, metadata=(*(metadata or ()), *self._own), **options)

    def future(self, request: Any, *, metadata: Any = None, **options: Any) -> Any:
        return self._callable.future(request, metadata=(*(metadata or ()), *self._own), **options)


class Transport:
    """The channels of one client: one for each node that was asked, opened when first needed."""

    def __init__(self, router: Router, token: str = "") -> None:
        self._router = router
        self._metadata = bearer_metadata(token)
        self._lock = threading.Lock()
        self._channels: dict[str, grpc.Channel] = {}
        self._callables: dict[tuple[str, str], Any] = {}
        self._closed = False

    def call(self, method: Method[Q, R], request: Q, attempt: Try) -> R:
        """One try of a unary call. Raises Failed."""
        callable_ = self.callable(attempt.endpoint, method)
        metadata = attempt.ref.metadata() if attempt.ref is not None else None
        try:
            answer, call = callable_.with_call(request, timeout=attempt.timeout_s, metadata=metadata)
        except grpc.RpcError as error:
            raise self.failed(error, method.name) from None
        except ValueError as error:  # grpcio, of a channel that was closed meanwhile
            raise Failed(Unavailable(f"this client is closed ({error})"), Next.STOP) from None
        self.note_leader(call)
        result: R = answer
        return result

    def failed(self, error: Any, method: str) -> Failed:
        """`classify`, and the leader it names is remembered."""
        self.note_leader(error)
        return classify(error, method)

    def note_leader(self, call: Any) -> None:
        leader = trailing(call, LEADER_METADATA)
        if leader:
            self._router.saw_leader(leader)

    def callable(self, endpoint: str, method: Method[Any, Any]) -> Any:
        """grpcio's callable of `method` on the channel to `endpoint`. Raises Failed when the client is closed."""
        found = self._callables.get((endpoint, method.path))
        if found is not None:
            return found
        with self._lock:
            if self._closed:
                raise Failed(Unavailable("this client is closed"), Next.STOP)
            channel = self._channels.get(endpoint)
            if channel is None:
                channel = self._channels[endpoint] = grpc.insecure_channel(_target(endpoint), options=CHANNEL_OPTIONS)
            found = multicallable(channel, method)
            if self._metadata:
                found = _Bearing(found, self._metadata)
            self._callables[endpoint, method.path] = found
            return found

    def keep_only(self, endpoints: Sequence[str]) -> None:
        """Close the channels to nodes that are members no more."""
        with self._lock:
            gone = [endpoint for endpoint in self._channels if endpoint not in endpoints]
            channels = [self._channels.pop(endpoint) for endpoint in gone]
            self._callables = {key: value for key, value in self._callables.items() if key[0] not in gone}
        for channel in channels:
            channel.close()

    def close(self) -> None:
        """Close all channels; calls under way are cancelled."""
        with self._lock:
            self._closed = True
            channels, self._channels, self._callables = list(self._channels.values()), {}, {}
        for channel in channels:
            channel.close()
