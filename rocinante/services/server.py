"""The gRPC server: one event loop in one thread named `grpc`, for clients and peers alike.

Measured on two cores: grpc.aio on uvloop answers 7,200 unary calls a second (1.4 ms with ten in flight), the
synchronous server with its pool of threads 3,200 (3.1 ms). So handlers are coroutines that never block; what takes
time happens on the node's threads, and its futures come back through `FutureBridge`.

The server starts *not serving*: everything but health and reflection is refused with UNAVAILABLE, streams that were
open are ended, until `set_serving(True)`. It begins with its own thread and ends with it: `stop` leaves no thread
and no port behind.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, Final

import grpc
import uvloop

from rocinante import limits
from rocinante.identity import endpoint
from rocinante.ports import NodePort
from rocinante.services import auth, health, reflection
from rocinante.services.admin import AdminService
from rocinante.services.auth import AuthService
from rocinante.services.bridge import FutureBridge
from rocinante.services.call import Calls, Handlers, parsed_here
from rocinante.services.cluster import ClusterService
from rocinante.services.flow import FlowService
from rocinante.services.flow_watch import FlowWatchService
from rocinante.services.gather import Gatherer
from rocinante.services.kv import KvService
from rocinante.services.leader import LeaderView
from rocinante.services.metrics import CallMetrics
from rocinante.services.watch import WatchService
from rocinante.tokens import REFUSAL, Keyring, Tokens, offered_in_metadata

logger = logging.getLogger(__name__)

SERVICES = (
    "etcdserverpb.KV",
    "etcdserverpb.Watch",
    auth.SERVICE,
    "rocinante.v1.Flow",
    "rocinante.v1.Cluster",
    "rocinante.v1.Admin",
)
"""For clients; `rocinante.v1.Peer` comes with `extra_handlers`."""

_FOR_EVERYBODY: Final = frozenset(
    (auth.AUTHENTICATE, *(f"/{health.SERVICE}/{method}" for method in ("Check", "Watch", "List")))
)
"""The first looks at a token itself; for health load balancers ask, and it tells next to nothing."""

ServerOptions = Sequence[tuple[str, int]]


class _Cancellations(logging.Filter):
    """Drops what gRPC logs, as an error with a stack, of a call that is cancelled before its handler has begun.

    Its client left, or this node stops, in that moment. Nothing was done, and nobody has to do anything.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        kind = record.exc_info[0] if record.exc_info else None
        return kind is None or not issubclass(kind, asyncio.CancelledError)


_CANCELLATIONS = _Cancellations()
GRPC_LOGGER = "grpc._cython.cygrpc"


def default_options() -> list[tuple[str, int]]:
    """gRPC's channel arguments: sizes both ways, keepalive, and no second process on the same port."""
    return [
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", limits.GRPC_MESSAGE_BYTES_MAX),
        ("grpc.max_send_message_length", limits.GRPC_MESSAGE_BYTES_MAX),
        ("grpc.max_metadata_size", limits.GRPC_METADATA_BYTES_MAX),
        ("grpc.max_concurrent_streams", limits.GRPC_CONCURRENT_RPCS_MAX),
        ("grpc.keepalive_time_ms", limits.GRPC_KEEPALIVE_TIME_MS),
        ("grpc.keepalive_timeout_ms", limits.GRPC_KEEPALIVE_TIMEOUT_MS),
        ("grpc.http2.ping_timeout_ms", limits.GRPC_KEEPALIVE_TIMEOUT_MS),  # else a minute, whatever the line above says
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", limits.GRPC_CLIENT_PING_INTERVAL_MS_MIN),
    ]


class _Router(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """Finds a call's handler: one dictionary look-up, and the gate that is closed while the node is not ready."""

    def __init__(
        self, own: Handlers, open_always: Handlers, extra: Sequence[Any], calls: Calls, keyring: Keyring
    ) -> None:
        self._own = own
        self._keyring = keyring
        self._open_always = open_always
        self._extra = extra
        self._guarded: dict[Any, Any] = {}
        self._calls = calls
        self.serving = False
        self.reason = "starting"
        self._refusal = grpc.stream_stream_rpc_method_handler(self._refuse)
        self._stranger = grpc.stream_stream_rpc_method_handler(self._refuse_stranger)

    def service(self, handler_call_details: Any) -> Any:
        method = handler_call_details.method
        tokens = self._keyring.tokens  # once: they may be replaced at any moment
        if not tokens.anonymous and not _is_allowed(tokens, handler_call_details):
            return self._stranger
        if self.serving:
            handler = self._own.get(method)
            return handler or self._open_always.get(method) or self._find_extra(handler_call_details)
        return self._open_always.get(method) or self._refusal

    def _find_extra(self, details: Any) -> Any:
        for extra in self._extra:
            handler = extra.service(details)
            if handler is not None:
                guarded = self._guarded.get(details.method)
                if guarded is None:
                    guarded = self._guarded[details.method] = self._calls.guard(handler)
                return guarded
        return None

    async def _refuse_stranger(self, _requests: Any, context: Any) -> None:
        self._keyring.refused += 1
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, REFUSAL)

    async def _refuse(self, _requests: Any, context: Any) -> None:
        """On the wire a refusal looks the same whatever the arity of the method, so one handler does for all."""
        self._calls.metrics.refused_not_ready += 1
        metadata = self._calls.leader.fresh_metadata()
        await context.abort(grpc.StatusCode.UNAVAILABLE, f"not ready: {self.reason}", metadata)


def _is_allowed(tokens: Tokens, details: Any) -> bool:
    if details.method in _FOR_EVERYBODY:
        return True
    return tokens.allows(offered_in_metadata(details.invocation_metadata or ()))


class GrpcServer:
    """`start`, `set_serving`, `stop` and `metrics` may be called from any thread (but the server's own)."""

    def __init__(
        self,
        node: NodePort,
        *,
        host: str,
        port: int,
        extra_handlers: Sequence[Any] = (),
        keyring: Keyring | None = None,
        options: ServerOptions = (),
        concurrent_rpcs_max: int = limits.GRPC_CONCURRENT_RPCS_MAX,
        thread_name: str = "grpc",
    ) -> None:
        """`port` 0 takes a free one. `extra_handlers` are gRPC generic handlers of coroutines; `options` are
        channel arguments that win over the default."""
        self.host = host
        self.port = port
        self._node = node
        self._extra = tuple(extra_handlers)
        self._keyring = keyring or Keyring()
        self._options = list({**dict(default_options()), **dict(options)}.items())
        self._concurrent_rpcs_max = concurrent_rpcs_max
        self._thread_name = thread_name
        self._metrics = CallMetrics()
        logging.getLogger(GRPC_LOGGER).addFilter(_CANCELLATIONS)  # one and the same: gRPC's logger is the process's
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._router: _Router | None = None
        self._calls: Calls | None = None
        self._health: health.HealthService | None = None
        self._stop_asked: asyncio.Future[float] | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of the `grpc` thread. Raises RuntimeError unless started."""
        if self._loop is None:
            raise RuntimeError("the gRPC server is not running")
        return self._loop

    def start(self) -> None:
        """Bind and serve, in a thread of its own. Raises OSError, with one clear line, when the address cannot
        be had."""
        _check_bindable(self.host, self.port)
        started: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(started,), name=self._thread_name, daemon=True)
        self._thread.start()
        try:
            started.result(limits.GRPC_START_TIMEOUT_S)
        except BaseException:
            self._thread.join(limits.GRPC_START_TIMEOUT_S)
            self._thread = None
            raise

    def set_serving(self, serving: bool, reason: str = "") -> None:
        """Open or close the gate. Closed: calls get UNAVAILABLE `not ready: <reason>`, and so do the streams
        that are open."""
        router, loop = self._router, self._loop
        if router is None or loop is None:
            raise RuntimeError("the gRPC server is not running")
        router.reason = reason or "the node is not ready"
        router.serving = serving
        loop.call_soon_threadsafe(self._serving_changed, serving)

    def end_streams(self, reason: str) -> None:
        """End those that are open; they may begin again at once."""
        if self._loop is not None and self._calls is not None:
            self._loop.call_soon_threadsafe(self._calls.streams.end, reason)

    def stop(self, grace_s: float) -> None:
        """Refuse what is new, end the streams, give calls in flight up to `grace_s` seconds, close. Again: no
        effect."""
        thread, loop, asked = self._thread, self._loop, self._stop_asked
        if thread is None or loop is None or asked is None:
            return
        self.set_serving(False, "the node is stopping")
        loop.call_soon_threadsafe(asked.set_result, grace_s)
        thread.join()
        self._thread = None

    def metrics(self) -> dict[str, float]:
        """Calls started, handled by code and in flight, and their latency, by Prometheus name without prefix."""
        return self._metrics.values()

    # --- the `grpc` thread

    def _run(self, started: Future[None]) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve(started))

    async def _serve(self, started: Future[None]) -> None:
        loop = asyncio.get_running_loop()
        try:
            server = self._build(loop)
            self.port = _bind(server, self.host, self.port)
            await server.start()
        except BaseException as error:  # noqa: BLE001  (handed to whoever called `start`)
            started.set_exception(error)
            return
        self._stop_asked = loop.create_future()
        self._loop = loop
        started.set_result(None)
        grace_s = await self._stop_asked
        await server.stop(grace_s)
        if self._calls is not None:
            self._calls.close()
        self._loop = None

    def _build(self, loop: asyncio.AbstractEventLoop) -> Any:
        leader = LeaderView(self._node, loop.time)
        bridge = FutureBridge(loop)
        calls = Calls(self._node, bridge, Gatherer(loop, bridge), leader, self._metrics, self._keyring)
        own: Handlers = {}
        for service in (
            KvService,
            WatchService,
            AuthService,
            FlowService,
            FlowWatchService,
            ClusterService,
            AdminService,
        ):
            own.update(service(calls).handlers())
        names = (*SERVICES, health.SERVICE, reflection.SERVICE)
        self._health = health.HealthService(SERVICES)
        foreign = {**self._health.handlers(), **reflection.reflection_handlers(names)}
        open_always = {path: parsed_here(handler) for path, handler in foreign.items()}
        self._calls = calls
        self._router = _Router(own, open_always, self._extra, calls, self._keyring)
        return grpc.aio.server(
            handlers=[self._router], options=self._options, maximum_concurrent_rpcs=self._concurrent_rpcs_max
        )

    def _serving_changed(self, serving: bool) -> None:
        if self._health is None or self._calls is None or self._router is None or self._loop is None:
            return
        if serving:
            self._calls.streams.open()
        else:
            self._calls.streams.cut(f"not ready: {self._router.reason}")
        self._health_task = self._loop.create_task(self._health.set_serving(serving))


def _check_bindable(host: str, port: int) -> None:
    """gRPC reports a taken port as a paragraph about its internals; a plain socket knows the reason in one word."""
    if port == 0:
        return
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OSError(error.errno, f"cannot listen on {_address(host, port)}: {error.strerror}") from None


def _address(host: str, port: int) -> str:
    try:
        return endpoint(host, port)
    except ValueError:
        return f"{host}:{port}"


def _bind(server: Any, host: str, port: int) -> int:
    try:
        bound: int = server.add_insecure_port(_address(host, port))
    except RuntimeError:
        bound = 0
    if not bound:
        raise OSError(f"cannot listen on {_address(host, port)}: the address is taken or not of this host")
    return bound
