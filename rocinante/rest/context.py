"""What all requests of one REST server share: the node, and who may wait for it.

Waiting for consensus takes a thread each. So that health and status answer while nothing commits, only some of the
threads may wait (`consensus_slots`); a request that finds none free in a short time, or at once where no leader is
known anyway, is told to come again. What is urgent is served first by the others (`server.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from rocinante import limits
from rocinante.errors import OutcomeUnknown, ResourceExhausted, Unavailable
from rocinante.ports import NodePort, Outcome, ReadPoint
from rocinante.rest.http import Request
from rocinante.rest.statistics import RestStatistics
from rocinante.state.command import Kind
from rocinante.tokens import Keyring

T = TypeVar("T")
WAIT_MARGIN_S: Final = 1.0
"""The node ends a wait itself at the time given to it; only when it does not, this is how much later it ends here."""
MetricsSource = Callable[[], Mapping[str, float]]


class RestContext:
    def __init__(
        self,
        node: NodePort,
        *,
        consensus_slots: int,
        allowed_hosts: frozenset[str] = frozenset({"localhost"}),
        wwwroot: Path | None = None,
        metrics_sources: tuple[MetricsSource, ...] = (),
        keyring: Keyring | None = None,
    ) -> None:
        self.node = node
        self.keyring = keyring or Keyring()
        self.allowed_hosts = allowed_hosts
        self.wwwroot = wwwroot
        self.metrics_sources = metrics_sources
        self.statistics = RestStatistics()
        self.closing = threading.Event()
        self.streams_ended = 0
        """How often all event streams were ended because fewer tokens are accepted."""
        self.queue_depth: Callable[[], int] = lambda: 0
        self._slots = threading.BoundedSemaphore(consensus_slots)
        self._wake_ups: dict[int, Callable[[], None]] = {}
        self._wake_ups_lock = threading.Lock()
        self._streams = threading.BoundedSemaphore(limits.REST_EVENT_STREAMS_MAX)

    @contextmanager
    def consensus_slot(self) -> Iterator[None]:
        """Hold one of the threads that may wait. Raises ResourceExhausted."""
        if not self._slots.acquire(blocking=False) and not (
            self.node.status().leader and self._slots.acquire(timeout=limits.REST_SLOT_WAIT_S)
        ):
            self.statistics.refused.labels("busy").inc()
            raise ResourceExhausted("too many requests wait for consensus on this node; try again later")
        try:
            yield
        finally:
            self._slots.release()

    def close(self) -> None:
        """End the event streams, those that wait too."""
        self.closing.set()
        with self._wake_ups_lock:
            for wake_up in self._wake_ups.values():
                wake_up()

    def end_streams(self) -> None:
        """End the event streams that are open; they may begin again at once."""
        self.streams_ended += 1
        with self._wake_ups_lock:
            for wake_up in self._wake_ups.values():
                wake_up()

    def take_stream(self, wake_up: Callable[[], None]) -> Callable[[], None]:
        """Take the place of one event stream; the result gives it back, once. Raises ResourceExhausted.

        `wake_up` is called when the server stops.
        """
        if not self._streams.acquire(blocking=False):
            self.statistics.refused.labels("streams").inc()
            raise ResourceExhausted(
                f"{limits.REST_EVENT_STREAMS_MAX} event streams are open on this node; use another node"
            )
        self.statistics.streams.inc()
        key = id(given := threading.Lock())
        with self._wake_ups_lock:
            self._wake_ups[key] = wake_up

        def give_back() -> None:
            if given.acquire(blocking=False):
                with self._wake_ups_lock:
                    del self._wake_ups[key]
                self.statistics.streams.dec()
                self._streams.release()

        return give_back

    def propose(self, request: Request, kind: Kind, body: bytes) -> Outcome:
        """Have a command committed and applied. Raises what the node refuses it with, or OutcomeUnknown."""
        timeout_s, session = request.timeout_s(), request.session()
        with self.consensus_slot():
            return wait(self.node.propose(kind, body, session=session, timeout_s=timeout_s), timeout_s)

    def propose_again(self, request: Request, kind: Kind, body: bytes) -> Outcome:
        """The same for what does no harm when it is carried out twice: not under the client's session, which may name
        one command only. The caller holds a slot."""
        timeout_s = request.timeout_s()
        return wait(self.node.propose(kind, body, timeout_s=timeout_s), timeout_s)

    def read(self, request: Request, *, linearizable: bool) -> ReadPoint:
        """When the state may be read. A stale read waits for nothing."""
        timeout_s = request.timeout_s()
        if not linearizable:
            return wait(self.node.read(linearizable=False, timeout_s=timeout_s), timeout_s, changes=False)
        with self.consensus_slot():
            return wait(self.node.read(linearizable=True, timeout_s=timeout_s), timeout_s, changes=False)


def wait(future: Future[T], timeout_s: float, *, changes: bool = True) -> T:
    """The future's result. A wait that ends too late is OutcomeUnknown for what `changes` something, else
    Unavailable.
    """
    try:
        return future.result(timeout_s + WAIT_MARGIN_S)
    except FutureTimeoutError:
        if not changes:
            raise Unavailable(f"no answer within {timeout_s:g} s") from None
        raise OutcomeUnknown(f"no answer within {timeout_s:g} s: it may or may not be carried out") from None
