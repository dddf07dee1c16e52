"""The HTTP server: waitress with names for its threads, JSON for its own errors, and bounds that its settings do not
have.

What waitress lacks and is added here: a limit on the body that depends on the path and is checked before the body is
read, and an answer that reaches the client then; a limit on the time that a request takes to arrive and on the time
that a reader takes nothing (waitress counts any byte as life); a stop that lets what is in flight finish.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, ThreadedTaskDispatcher
from waitress.utilities import RequestEntityTooLarge

from rocinante import limits
from rocinante.identity import endpoint
from rocinante.ports import NodePort
from rocinante.rest.app import RestApp
from rocinante.rest.context import RestContext
from rocinante.rest.security import error_body, fixed_headers
from rocinante.rest.static import find_wwwroot
from rocinante.tokens import Keyring

logger = logging.getLogger(__name__)
CLEANUP_INTERVAL_S: Final = 5
LOOP_INTERVAL_S: Final = 1.0
DRAIN_INTERVAL_S: Final = 0.02
URGENT_PATHS: Final = frozenset({"/livez", "/readyz", "/metrics", "/v1/status", "/v1/leader", "/v1/role", "/v1/peers"})


def body_limit_bytes(method: str, path: str) -> int:
    """How large the body of a request may be."""
    if method == "POST" and path == "/v1/flows":
        return limits.REST_BODY_BYTES_MAX
    if path.startswith("/v1/kv/"):
        return limits.VALUE_BYTES_MAX
    return limits.REST_JSON_BYTES_MAX


class _Parser(HTTPRequestParser):  # type: ignore[misc]
    """Refuses a body by its announced or received length, so that nobody can make the node read what it will not
    take.
    """

    error: Any

    def received(self, data: bytes) -> int:
        consumed: int = super().received(data)
        if self.headers_finished and not self.empty and (self.error is None or self.error.code == 413):
            most = body_limit_bytes(self.command, self.path)
            if max(self.content_length, self.body_bytes_received) > most:
                self.error = RequestEntityTooLarge(f"body: is larger than {most} bytes")
                self.expect_continue = False
                self.completed = True
        return consumed


class _ErrorTask(ErrorTask):  # type: ignore[misc]
    """What waitress refuses by itself (malformed, too large), in the form of every other error."""

    def execute(self) -> None:
        error = self.request.error
        if error.code == 413:
            self.status, body = "413 Content Too Large", error_body("INVALID_ARGUMENT", error.body)
        elif error.code == 500:
            self.status, body = (
                "500 Internal Server Error",
                error_body("INTERNAL", "unexpected error, see the node's log"),
            )
        else:
            self.status, body = (
                "400 Bad Request",
                error_body("INVALID_ARGUMENT", f"request: {error.reason}: {error.body}"),
            )
        self.response_headers.extend([("Content-Type", "application/json"), *fixed_headers().items()])
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Channel(HTTPChannel):  # type: ignore[misc]
    parser_class = _Parser
    error_task_class = _ErrorTask
    partial_since: float | None = None
    """When the first byte of a request came whose last byte has not."""
    lingers_until: float | None = None
    """Set: the refusal is sent, and what the client still sends is read and dropped. To close at once would reset the
    connection under a client that is still sending, and it would never see the refusal (RFC 9112, 9.6)."""
    close_when_flushed: bool
    _is_refused = False

    def handle_write(self) -> None:
        lingers = self._is_refused and self.close_when_flushed
        if lingers:
            self.close_when_flushed = False
        super().handle_write()
        if lingers and not self.will_close:
            if self.total_outbufs_len:
                self.close_when_flushed = True
            else:
                self._linger()

    def is_overdue(self, now: float) -> bool:
        """Whether what it sends, or was to send no more, takes too long."""
        is_slow = self.partial_since is not None and now - self.partial_since > limits.REST_REQUEST_TIMEOUT_S
        return is_slow or (self.lingers_until is not None and now > self.lingers_until)

    def _linger(self) -> None:
        self.lingers_until = time.time() + limits.REST_LINGER_S
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.handle_close()

    def received(self, data: bytes) -> bool:
        if self.lingers_until is not None:
            return False
        result: bool = super().received(data)
        self._is_refused = self._is_refused or any(request.error for request in self.requests)
        if self.request is None:
            self.partial_since = None
        elif self.partial_since is None:
            self.partial_since = time.time()
        return result


class _Server(TcpWSGIServer):  # type: ignore[misc]
    channel_class = _Channel

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._trigger_lock = threading.Lock()
        self._is_trigger_open = True
        super().__init__(*arguments, **options)

    def pull_trigger(self) -> None:
        """Wake the loop. After `close_trigger` it does nothing: the file descriptor may be somebody else's by then."""
        with self._trigger_lock:
            if self._is_trigger_open:
                super().pull_trigger()

    def close_trigger(self) -> None:
        with self._trigger_lock:
            self._is_trigger_open = False
            self.trigger.close()

    def maintenance(self, now: float) -> None:
        super().maintenance(now)
        for channel in list(self.active_channels.values()):
            if channel.is_overdue(now):
                channel.will_close = True
            elif channel.total_outbufs_len and now - channel.last_activity > limits.REST_STALL_TIMEOUT_S:
                channel.handle_close()  # wakes the thread that waits to write; it gets ClientDisconnected

    def is_quiet(self) -> bool:
        return not any(channel.requests or channel.total_outbufs_len for channel in self.active_channels.values())


class _Dispatcher(ThreadedTaskDispatcher):  # type: ignore[misc]
    def add_task(self, task: Any) -> None:
        """Health and status go to the head of the queue: they are asked for most when all others are slow."""
        with self.lock:
            if task.requests and getattr(task.requests[0], "path", "") in URGENT_PATHS:
                self.queue.appendleft(task)
            else:
                self.queue.append(task)
            self.queue_cv.notify()

    def start_new_thread(self, target: Callable[[int], None], thread_no: int) -> None:
        threading.Thread(target=target, name=f"rest-{thread_no}", args=(thread_no,), daemon=True).start()


def consensus_slots(threads: int) -> int:
    """How many of the threads may wait for consensus: a quarter of them may not, at most REST_THREADS_RESERVED."""
    return threads - min(limits.REST_THREADS_RESERVED, threads // 4)


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen(limits.REST_BACKLOG)
    except OSError as error:
        sock.close()
        number = error.errno or errno.EIO
        raise OSError(number, f"REST cannot listen on {endpoint(host, port)}: {os.strerror(number)}") from None
    return sock


def host_names(allowed: Iterable[str]) -> frozenset[str]:
    """The names that a request may use."""
    return frozenset(name.lower() for name in allowed) | {"localhost"}


class RestServer:
    """REST and the web page of one node.

    `host` is an IP address, `port` 0 takes any free port (see `port`). `wwwroot` is tried first for the files of the
    page. `threads` requests are at work at a time (event streams come on top). `allowed_hosts` are names (not
    addresses) that the node may be called by in `Host`. `metrics_sources` give more numbers for `/metrics`, in the
    form of `NodePort.metrics`. `keyring`: who may ask; None: everybody.
    """

    def __init__(
        self,
        node: NodePort,
        *,
        host: str,
        port: int,
        wwwroot: Path | str | None = None,
        threads: int = limits.REST_THREADS,
        allowed_hosts: Iterable[str] = (),
        metrics_sources: Sequence[Callable[[], Mapping[str, float]]] = (),
        keyring: Keyring | None = None,
    ) -> None:
        if threads < 1:
            raise ValueError("threads: must be at least 1")
        self._host, self._port, self._threads = host, port, threads
        self._context = RestContext(
            node,
            consensus_slots=consensus_slots(threads),
            allowed_hosts=host_names(allowed_hosts),
            wwwroot=find_wwwroot(Path(wwwroot) if wwwroot else None),
            metrics_sources=tuple(metrics_sources),
            keyring=keyring,
        )
        self._draining = threading.Event()
        self._server: Any = None
        self._loop_thread: threading.Thread | None = None

    def allow_hosts(self, names: Iterable[str]) -> None:
        """Other names, from the next request on."""
        self._context.allowed_hosts = host_names(names)

    def end_streams(self) -> None:
        """End the event streams that are open; they may begin again at once."""
        self._context.end_streams()

    @property
    def port(self) -> int:
        """The port that is listened on, once started."""
        return self._port

    def start(self) -> None:
        """Listen and answer. Raises OSError, in one line for a person, where the port cannot be had."""
        sock = _bind(self._host, self._port)
        self._port = sock.getsockname()[1]
        dispatcher = _Dispatcher()
        dispatcher.set_thread_count(self._threads + limits.REST_EVENT_STREAMS_MAX)
        self._context.queue_depth = lambda: len(dispatcher.queue)
        sockets: dict[int, Any] = {}
        self._server = _Server(
            RestApp(self._context).wsgi,
            sockets,
            True,
            sock,
            dispatcher=dispatcher,
            adj=_adjustments(sock, self._threads),
            bind_socket=False,
            sockinfo=(sock.family, sock.type, sock.proto, sock.getsockname()),
        )
        self._loop_thread = threading.Thread(target=self._loop, args=(sockets,), name="rest", daemon=True)
        self._loop_thread.start()

    def stop(self, grace_s: float = limits.REST_STOP_TIMEOUT_S) -> None:
        """Take no new connection, end the event streams, let requests finish for so long, then close. May be called
        twice.
        """
        thread = self._loop_thread
        if thread is None:
            return
        self._stop_deadline = time.monotonic() + grace_s
        self._context.close()
        self._draining.set()
        self._server.pull_trigger()
        thread.join()
        self._loop_thread = None

    def _loop(self, sockets: dict[int, Any]) -> None:
        server, listening = self._server, True
        try:
            while True:
                draining = self._draining.is_set()
                wasyncore.loop(
                    timeout=DRAIN_INTERVAL_S if draining else LOOP_INTERVAL_S, use_poll=True, map=sockets, count=1
                )
                if draining and listening:
                    listening = False
                    server.del_channel(sockets)
                    server.socket.close()
                if draining and (server.is_quiet() or time.monotonic() > self._stop_deadline):
                    return
        except Exception:
            logger.critical("the REST server's loop failed; REST is off", exc_info=True)
        finally:
            server.task_dispatcher.shutdown(timeout=1)
            server.close_trigger()
            wasyncore.close_all(sockets, ignore_all=True)


def _adjustments(sock: socket.socket, threads: int) -> Any:
    return Adjustments(
        sockets=[sock],
        threads=threads,
        ident="rocinante",
        backlog=limits.REST_BACKLOG,
        recv_bytes=limits.REST_RECEIVE_BYTES,
        inbuf_overflow=limits.REST_BODY_MEMORY_BYTES_MAX,
        outbuf_overflow=limits.REST_SEND_BUFFER_BYTES_MAX,
        outbuf_high_watermark=limits.REST_SEND_BUFFER_BYTES_MAX,
        connection_limit=limits.REST_CONNECTIONS_MAX,
        cleanup_interval=CLEANUP_INTERVAL_S,
        channel_timeout=limits.REST_IDLE_TIMEOUT_S,
        channel_request_lookahead=1,  # an event stream then notices at once that its reader has gone
        max_request_header_size=limits.REST_HEADER_BYTES_MAX,
        max_request_body_size=limits.REST_BODY_BYTES_MAX + 1,  # waitress refuses at this size, not beyond it
        expose_tracebacks=False,
        asyncore_use_poll=True,  # select() cannot take file descriptors above 1023
        clear_untrusted_proxy_headers=True,
        log_socket_errors=False,
    )
