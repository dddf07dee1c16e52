"""The tries of a writer's batches: the session, the window of batches on their way, when to slow down.

Contract: everything but `_done` (which gRPC calls) is called by the writer's thread, `patience_s`, `room_in_s`, `idle`
and `refused_from_now_on` with the writer's lock held. Calls go over the channels of the client, which all its writers
share.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import grpc

from rocinante.client.connection import Connection
from rocinante.client.deadline import Backoff, Deadline
from rocinante.client.flow_flight import Flight
from rocinante.client.retry import Failed, Next, settled
from rocinante.client.session import Sessions
from rocinante.client.stubs import cluster, flow
from rocinante.errors import RocinanteError, Unavailable
from rocinante.pb.v1 import cluster_pb2, flow_pb2

__all__ = ["Tries"]

Answered = Callable[[Flight, int, RocinanteError | None], None]


class Tries:
    """See the module. `wake` is called when an answer has come, `answered` at the end of a batch."""

    def __init__(
        self, connection: Connection, origin: str, window: int, wake: Callable[[], None], answered: Answered
    ) -> None:
        self._connection = connection
        self._origin = origin
        self._wake = wake
        self._answered = answered
        self._sessions = Sessions(self._open_session)
        self._last_session = 0
        self._window_max = window
        self._window = float(window)
        """Batches that may be on their way: halved when the cluster is busy, one more for each full window."""
        self._under_way = 0
        self._pausing: list[Flight] = []
        self._answers: deque[tuple[Flight, str, Any]] = deque()
        self._members: Any = None
        """The call that asks for the members, while it is under way."""
        self._slow_until_s = 0.0
        self._slow: Backoff | None = None
        self.slowed = 0

    # --- asked by the writer, with its lock

    @property
    def idle(self) -> bool:
        return not self._under_way

    def patience_s(self) -> float | None:
        if self._answers or (self._members is not None and self._members.done()):
            return 0.0
        if not self._pausing:
            return None
        return min(flight.resume_s for flight in self._pausing) - time.monotonic()

    def room_in_s(self) -> float | None:
        """When one more batch may go; None: not before an answer."""
        if self._under_way >= int(self._window):
            return None
        return max(0.0, self._slow_until_s - time.monotonic())

    def refused_from_now_on(self, flight: Flight) -> bool:
        """Whether the cluster would refuse the batch, should it still arrive behind any that goes from now on."""
        return flight.ticket is None or self._sessions.passed(flight.ticket)

    # --- the thread

    def start(self, flight: Flight) -> None:
        self._under_way += 1
        self._try(flight)

    def turn(self) -> None:
        """What has been answered, and what is to be tried again."""
        while self._answers:
            self._take(*self._answers.popleft())
        now_s = time.monotonic()
        due = [flight for flight in self._pausing if flight.resume_s <= now_s]
        if due:
            self._pausing = [flight for flight in self._pausing if flight.resume_s > now_s]
            for flight in due:
                self._try(flight)
        self._discover()

    def _try(self, flight: Flight) -> None:
        now_s = time.monotonic()
        if (error := flight.over()) is not None:
            self._end(flight, 0, error)
            return
        endpoint = flight.endpoint(self._connection.router, now_s)
        if endpoint is None:
            self._pausing.append(flight)
            return
        try:
            if flight.ticket is None:
                flight.ticket = self._sessions.begin(flight.deadline)
        except RocinanteError as error:
            self._end(flight, 0, error)
            return
        flight.tries += 1
        request = flow_pb2.PutFlowsRequest(batch=flight.encoded(), origin=self._origin)
        metadata = flight.ticket.ref().metadata()
        try:
            method = self._connection.transport.callable(endpoint, flow.PUT)
            call = method.future(request, timeout=flight.timeout_s(), metadata=metadata)
        except Failed as failed:
            self._failed(flight, endpoint, failed)
            return
        except ValueError as error:  # grpcio, of a channel that was closed meanwhile
            self._failed(flight, endpoint, Failed(Unavailable(f"this client is closed ({error})"), Next.STOP))
            return
        call.add_done_callback(lambda done: self._done(flight, endpoint, done))

    def _done(self, flight: Flight, endpoint: str, call: Any) -> None:
        """(On a thread of gRPC's.)"""
        self._answers.append((flight, endpoint, call))
        self._wake()

    def _take(self, flight: Flight, endpoint: str, call: Any) -> None:
        try:
            answer = call.result()
        except grpc.RpcError as error:
            self._failed(flight, endpoint, self._connection.transport.failed(error, flow.PUT.name))
            return
        except grpc.FutureCancelledError:
            closed = Unavailable("this client was closed during a write")
            self._failed(flight, endpoint, Failed(closed, Next.STOP, unknown=True))
            return
        self._connection.transport.note_leader(call)
        self._connection.router.worked(endpoint)
        self._slow = None
        self._window = min(self._window_max, self._window + 1 / self._window)
        flight.unknown = False
        self._end(flight, answer.index, None)

    def _failed(self, flight: Flight, endpoint: str, failed: Failed) -> None:
        router = self._connection.router
        failed = settled(failed, router, {*flight.tried, endpoint})
        if failed.node_down:
            router.failed(endpoint)
        else:
            router.worked(endpoint)
        now_s = time.monotonic()
        if failed.then is Next.LATER:
            self.slowed += 1
            if now_s >= self._slow_until_s:  # all that were refused together count once
                self._window = max(1.0, self._window / 2)
                self._slow = self._slow or self._connection.caller.backoff()
                self._slow_until_s = now_s + self._slow.pause_s()
        error = flight.failed(endpoint, failed, self._sessions, now_s)
        if error is not None:
            self._end(flight, 0, error)
        elif flight.resume_s > now_s:
            self._pausing.append(flight)
        else:
            self._try(flight)

    def _end(self, flight: Flight, index: int, error: RocinanteError | None) -> None:
        self._under_way -= 1
        if flight.ticket is not None:
            self._sessions.end(flight.ticket)
        self._answered(flight, index, error)

    # --- the session

    def _open_session(self, deadline: Deadline) -> int:
        """A session of the writer's own. The one before is closed first, and that is waited for: after it the cluster
        refuses whatever of it may still be on its way, behind which new batches would not be safe."""
        if self._last_session:
            self._connection.end_session(self._last_session, deadline)
            self._last_session = 0
        self._last_session = self._connection.open_session(deadline)
        return self._last_session

    def close(self) -> None:
        """The thread has ended: end the session on the cluster, as far as that goes at once."""
        session = self._sessions.take()
        if session:
            self._connection.forget_session(session)

    # --- who the members are

    def _discover(self) -> None:
        """Without waiting for it: batches are on their way meanwhile."""
        if self._members is not None and self._members.done():
            self._take_members()
        if self._members is not None or not self._under_way or not self._connection.router.discovery_due():
            return
        endpoint = self._connection.router.pick() or self._connection.router.seeds[0]
        try:
            method = self._connection.transport.callable(endpoint, cluster.MEMBERS)
            self._members = method.future(cluster_pb2.MembersRequest(), timeout=self._connection.caller.try_timeout_s)
        except (Failed, ValueError):
            return  # the client is closed
        self._members.add_done_callback(lambda _call: self._wake())

    def _take_members(self) -> None:
        call, self._members = self._members, None
        try:
            answer = call.result()
        except (grpc.RpcError, grpc.FutureCancelledError):
            return
        self._connection.take_members(answer)
