"""Streams that survive the node they come from: opened again elsewhere, from where the reader is.

Contract: read by one thread, closed by any. A stream that cannot be opened again within the client's time ends with
Unavailable; one that the cluster refuses for good ends with its error. Whether a message is lost or doubled on the way
is up to `open_call`, which asks for what follows the last message that was read.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, Generic, TypeVar

import grpc

from rocinante.client.connection import Connection
from rocinante.client.deadline import Backoff, Deadline
from rocinante.client.retry import Failed, Next, settled
from rocinante.errors import RocinanteError, Unavailable

__all__ = ["Resumable"]

R = TypeVar("R")

_HEALTHY_S: Final = 1.0
"""A stream that lived for so long was a good one: what comes after it is a new failure."""


class Resumable(Generic[R]):
    """The messages of a streaming call. `open_call(endpoint)` starts it on a node and returns grpcio's call."""

    def __init__(
        self,
        connection: Connection,
        method: str,
        open_call: Callable[[str], Any],
        *,
        endpoint: str | None = None,
        timeout_s: float | None = None,
    ) -> None:
        self._connection = connection
        self._method = method
        self._open_call = open_call
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._call: Any = None
        self._closed = False
        self._refused: set[str] = set()
        """Who did not let us in since the last message."""

    def close(self) -> None:
        """End the stream; a reader that waits gets no further message. May be repeated."""
        with self._lock:
            self._closed = True
            call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def restart(self) -> None:
        """End the current call; the reader opens another one."""
        with self._lock:
            call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def closed(self) -> bool:
        return self._closed

    def messages(self) -> Iterator[R]:
        """The messages as they come. Raises a RocinanteError as the module says."""
        backoff: Backoff | None = None
        deadline: Deadline | None = None
        while not self.closed():
            endpoint = self._endpoint or self._pick(deadline)
            began_s = time.monotonic()
            try:
                for message in self._start(endpoint):
                    backoff = deadline = None
                    self._refused.clear()
                    yield message
                failed = Failed(Unavailable("the node ended the stream"), Next.ELSEWHERE)
            except grpc.RpcError as error:
                failed = self._connection.transport.failed(error, self._method)
            except Failed as error:
                failed = error
            if self.closed():
                return
            if time.monotonic() - began_s > _HEALTHY_S:
                backoff = deadline = None
            backoff = backoff or self._connection.caller.backoff()
            deadline = deadline or self._connection.caller.deadline(self._timeout_s)
            self._after(endpoint, failed, backoff, deadline)

    def _pick(self, deadline: Deadline | None) -> str:
        """The node to read from. The others must be known by now: they are whom to ask when it dies."""
        self._connection.discover(deadline or self._connection.caller.deadline(self._timeout_s))
        return self._connection.router.pick(self._refused) or self._connection.router.seeds[0]

    def _start(self, endpoint: str) -> Iterator[R]:
        call = self._open_call(endpoint)
        with self._lock:
            if self._closed:
                call.cancel()
                return iter(())
            self._call = call
        messages: Iterator[R] = call
        return messages

    def _after(self, endpoint: str, failed: Failed, backoff: Backoff, deadline: Deadline) -> None:
        """Pause before the stream is opened again, or raise."""
        if failed.then is Next.ELSEWHERE_OR_STOP:
            self._refused.add(endpoint)
        router = self._connection.router
        failed = settled(failed, router, router.endpoints if self._endpoint else self._refused)
        if failed.then is Next.STOP:
            raise failed.error
        if failed.node_down:
            router.failed(endpoint)
        pause_s = backoff.pause_s()
        if pause_s >= deadline.remaining_s():
            raise _lasting(failed.error, deadline)
        self._connection.caller.pause(pause_s)


def _lasting(error: RocinanteError, deadline: Deadline) -> RocinanteError:
    within = f"within {round(deadline.timeout_s, 2):g} s"
    return Unavailable(f"the stream could not be opened again {within} ({error.message})")
