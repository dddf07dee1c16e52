"""`client.flows.writer()`: a stream of updates of flows, written in batches.

    with client.flows.writer() as writer:
        writer.put(record)                          # returns at once
        writer.put(record, until="applied:node2")   # when node2 knows it
        writer.barrier("all")                       # everything so far, everywhere

Contract. Thread-safe. Records are collected, the last one of each flow counts, and sent by the thread `flow-writer`:
at once when nothing is on its way, else when a batch is full or `linger_s` after its first record. Several batches
are on their way at a time, never two with the same flow (client/flow_pending.py), so the updates of a flow are applied
in the order of `put`, over retries and changes of the leader too. A batch is applied once: it has a name in the
writer's own session. One that is given up without knowing what became of it holds up later updates of its flows until
the cluster is certain to refuse it (`ack`, state/sessions.py).

Memory is bounded: `put` waits for room, or raises ResourceExhausted. A cluster that is too busy slows the writer down;
only when a batch's time is up does it fail. What failed is told to `on_batch`, to whoever waits for the records, or to
the next `barrier`, `flush` or `close`.

Between two writers, or a writer and `Flows.put` or `.delete`, there is no order: call `flush` in between.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from types import TracebackType
from typing import Final

from rocinante.client.connection import Connection
from rocinante.client.deadline import Deadline
from rocinante.client.flow_barrier import check_until, wait_applied
from rocinante.client.flow_flight import Flight
from rocinante.client.flow_pending import Given, Pairs, Pending, pairs_of
from rocinante.client.flow_reports import BatchReport, Settled, Waiter, WriterCounters
from rocinante.client.flow_tries import Tries
from rocinante.client.types import PutFlowsResult
from rocinante.errors import InvalidArgument, OutcomeUnknown, ResourceExhausted, RocinanteError, Unavailable
from rocinante.limits import (
    FLOW_BATCH_BYTES_MAX,
    FLOW_BATCH_RECORDS_MAX,
    WRITER_BATCH_BYTES,
    WRITER_BATCH_RECORDS,
    WRITER_BYTES_MAX,
    WRITER_CLOSE_TIMEOUT_S,
    WRITER_IN_FLIGHT,
    WRITER_IN_FLIGHT_MAX,
    WRITER_LINGER_S,
    WRITER_RECORDS_MAX,
)

__all__ = ["FlowWriter"]

logger = logging.getLogger(__name__)
_BLOCK: Final = "block"


class FlowWriter:
    """See the module; made by `client.flows.writer`."""

    def __init__(
        self,
        connection: Connection,
        *,
        origin: str = "",
        batch_records: int = WRITER_BATCH_RECORDS,
        batch_bytes: int = WRITER_BATCH_BYTES,
        linger_s: float = WRITER_LINGER_S,
        in_flight: int = WRITER_IN_FLIGHT,
        records_max: int = WRITER_RECORDS_MAX,
        bytes_max: int = WRITER_BYTES_MAX,
        when_full: str = _BLOCK,
        timeout_s: float | None = None,
        on_batch: Callable[[BatchReport], None] | None = None,
    ) -> None:
        for name, value, most in (
            ("batch_records", batch_records, FLOW_BATCH_RECORDS_MAX),
            ("batch_bytes", batch_bytes, FLOW_BATCH_BYTES_MAX),
            ("in_flight", in_flight, WRITER_IN_FLIGHT_MAX),
        ):
            if not 1 <= value <= most:
                raise InvalidArgument(name, f"{value} is not in 1 to {most}")
        if when_full not in (_BLOCK, "raise"):
            raise InvalidArgument("when_full", f'{when_full!r} is neither "block" nor "raise"')
        if not 0 <= linger_s <= 60 or records_max < 1 or bytes_max < 1:
            raise InvalidArgument("linger_s", "must be from 0 to 60 s, records_max and bytes_max at least 1")
        self._connection = connection
        self._batch_records, self._batch_bytes, self._linger_s = batch_records, batch_bytes, linger_s
        self._records_max, self._bytes_max, self._when_full = records_max, bytes_max, when_full
        self._timeout_s = connection.caller.deadline(timeout_s).timeout_s
        self._on_batch = on_batch
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._pending = Pending()
        self._oldest_s = 0.0
        self._waiters: list[Waiter] = []
        """Those with flows that are in no batch yet."""
        self._settled = Settled()
        self._flights: list[Flight] = []
        self._doubtful: list[Flight] = []
        """Given up, and the cluster might still carry them out."""
        self._stuck = False
        """Every record that waits has to wait for one that is on its way."""
        self._hurry = 0
        """How many wait for all that there is."""
        self._closing = self._ended = False
        self._last_index = 0
        """Of what was acknowledged."""
        self._untold: RocinanteError | None = None
        self.counters = WriterCounters()
        self._tries = Tries(connection, origin, in_flight, self._wake, self._answered)
        self._thread = threading.Thread(target=self._run, name="flow-writer", daemon=True)
        self._thread.start()

    # --- putting

    def put(self, flows: Given, *, until: str | None = None, timeout_s: float | None = None) -> PutFlowsResult | None:
        """Take one record, several, columns, or an encoded batch (docs/flow-format.md).

        `until` None: returns when they are taken. Else waits: "committed", "applied:<name, id or endpoint of a member>"
        or "all" (client/flow_barrier.py). `timeout_s`: for room and for `until` together; else the writer's.

        Raises InvalidArgument that names record and field (nothing was taken), ResourceExhausted (no room in time; of
        what makes several batches the first ones may be taken), Unavailable (closed), with `until` what became of the
        batch, and NotApplied: written, but not known where it should be in time.
        """
        if until is not None:
            check_until(until)
        deadline = self._deadline(timeout_s)
        waiter = self._put(flows, deadline, waits=until is not None)
        if until is None or waiter is None:
            return None
        return self._reach(waiter, until, deadline)

    def submit(self, flows: Given, *, timeout_s: float | None = None) -> Future[PutFlowsResult]:
        """As `put`; the future is done when all these records are committed. Its callbacks run in the writer's thread
        and must be short."""
        waiter = self._put(flows, self._deadline(timeout_s), waits=True)
        assert waiter is not None
        return waiter.future

    def _deadline(self, timeout_s: float | None) -> Deadline:
        return self._connection.caller.deadline(self._timeout_s if timeout_s is None else timeout_s)

    def _put(self, flows: Given, deadline: Deadline, *, waits: bool) -> Waiter | None:
        parts = pairs_of(flows)
        waiter = Waiter({key for part in parts for key in part.records} if waits else set())
        waiter.records = sum(part.given for part in parts)
        with self._lock:
            for number, part in enumerate(parts):
                self._wait_for_room(part, deadline, sum(one.given for one in parts[:number]))
                before = len(self._pending)
                self.counters.coalesced += self._pending.add(part)
                self.counters.records += part.given
                self._stuck = False
                if not before:
                    self._oldest_s = time.monotonic()
                if waits and not number:
                    self._waiters.append(waiter)
                if not before or self._pending.most_of_a_kind() >= self._batch_records or self._tries.idle:
                    self._work.notify()
        if waits and not parts:
            waiter.settle()
        return waiter if waits else None

    def _wait_for_room(self, part: Pairs, deadline: Deadline, taken: int) -> None:
        """With the lock. Something always fits into an empty writer."""
        began_s = time.monotonic()
        try:
            while not self._fits(part):
                if self._closing:
                    break
                if self._when_full == _BLOCK and not deadline.passed():
                    self._room.wait(deadline.remaining_s())
                    continue
                self.counters.refused += 1
                raise ResourceExhausted(
                    f"the writer is full ({len(self._pending)} records wait, {self._pending.busy} are on their way);"
                    f" {taken} records of this put were taken"
                )
        finally:
            self.counters.blocked_s += time.monotonic() - began_s
        if self._closing:
            raise Unavailable("this writer is closed")

    def _fits(self, part: Pairs) -> bool:
        pending = self._pending
        held = len(pending) + pending.busy
        return not held or (
            held + len(part.records) <= self._records_max
            and pending.size_bytes + pending.busy_bytes + part.size_bytes <= self._bytes_max
        )

    # --- waiting

    def barrier(self, until: str = "committed", *, timeout_s: float | None = None) -> PutFlowsResult:
        """Wait until everything that was put before is committed, and known where `until` says.

        Raises the error of the first batch that failed, also of an earlier one that nobody was told of; NotApplied;
        OutcomeUnknown when the time is up first.
        """
        check_until(until)
        deadline = self._deadline(timeout_s)
        with self._lock:
            waiter = Waiter(self._pending.keys())
            waiter.index = self._last_index
            for flight in self._flights:
                flight.waiters.append(waiter)
                waiter.under_way += 1
                waiter.records += flight.records
            waiter.error, self._untold = self._untold, None
            if waiter.done:
                self._settled.add(waiter)
            elif waiter.flows:
                self._waiters.append(waiter)
            self._hurry += 1
            self._work.notify()
        self._settled.tell()
        try:
            return self._reach(waiter, until, deadline)
        finally:
            with self._lock:
                self._hurry -= 1

    def flush(self, *, timeout_s: float | None = None) -> PutFlowsResult:
        """`barrier("committed")`."""
        return self.barrier(timeout_s=timeout_s)

    def _reach(self, waiter: Waiter, until: str, deadline: Deadline) -> PutFlowsResult:
        try:
            result = waiter.future.result(deadline.remaining_s())
        except FutureTimeoutError:
            raise OutcomeUnknown(
                f"not committed within {round(deadline.timeout_s, 2):g} s: the writer goes on trying"
            ) from None
        wait_applied(self._connection, result.index, until, deadline)
        return result

    def close(self, *, timeout_s: float | None = None) -> None:
        """Write what waits, end the thread and the session. What is not written in time fails. May be repeated.

        Raises as `flush`."""
        try:
            if not self._closing:
                with self._lock:
                    self._closing = True
                    self._room.notify_all()
                self.flush(timeout_s=timeout_s)
        finally:
            with self._lock:
                self._closing = self._ended = True
                self._work.notify()
            self._thread.join(WRITER_CLOSE_TIMEOUT_S)
            self._tries.close()

    def __enter__(self) -> FlowWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        try:
            self.close()
        except RocinanteError as lost:
            logger.warning("what was put before the failure is not all written: %s", lost.message)

    @property
    def waiting(self) -> int:
        """Records that were taken and are not sent."""
        return len(self._pending)

    @property
    def under_way(self) -> int:
        """Records that are sent and whose outcome is not known."""
        return self._pending.busy

    def metrics(self) -> dict[str, float]:
        """By Prometheus name: the counters, and what waits now."""
        now = {"flow_writer_waiting_records": len(self._pending), "flow_writer_in_flight_batches": len(self._flights)}
        return self.counters.metrics() | {name: float(value) for name, value in now.items()}

    # --- the thread

    def _wake(self) -> None:
        """An answer came (on a thread of gRPC's)."""
        with self._lock:
            self._work.notify()

    def _run(self) -> None:
        """The thread `flow-writer`."""
        try:
            while self._turn():
                self._settled.tell()
        except Exception as error:  # the top of the thread: who waits must be told
            logger.exception("a flow writer failed")
            self._end_all(OutcomeUnknown(f"the writer failed ({type(error).__name__}: {error})"))
        else:
            self._end_all(Unavailable("the writer was closed before this was written"))
        self._settled.tell()

    def _turn(self) -> bool:
        with self._lock:
            wait_s = self._patience_s()
            if wait_s is None or wait_s > 0:
                self._work.wait(wait_s)
            if self._ended:
                return False
        self._tries.turn()
        while (flight := self._seal()) is not None:
            self._tries.start(flight)
        return True

    def _patience_s(self) -> float | None:
        """With the lock: until there is something to do; None: until somebody says so."""
        if self._ended:
            return 0.0
        waits = [wait_s for wait_s in (self._tries.patience_s(), self._seal_in_s()) if wait_s is not None]
        return max(0.0, min(waits)) if waits else None

    def _seal_in_s(self) -> float | None:
        """With the lock: when the next batch may go; None: not before something else happens."""
        if not len(self._pending) or self._stuck:
            return None
        room_s = self._tries.room_in_s()
        if room_s is None or not self._flights or self._hurry or self._closing:
            return room_s
        full = self._pending.most_of_a_kind() >= self._batch_records or self._pending.size_bytes >= self._batch_bytes
        return room_s if full else max(room_s, self._oldest_s + self._linger_s - time.monotonic())

    def _seal(self) -> Flight | None:
        with self._lock:
            wait_s = self._seal_in_s()
            if wait_s is None or wait_s > 0:
                return None
            taken = self._pending.take(self._batch_records, self._batch_bytes)
            if taken is None:
                self._stuck = True
                return None
            now_s = time.monotonic()
            keys = set(taken.keys) if self._waiters else set()
            waiters = [waiter for waiter in self._waiters if waiter.sealed(keys)]
            if waiters:
                self._waiters = [waiter for waiter in self._waiters if waiter.flows]
            caller = self._connection.caller
            flight = Flight(
                taken,
                waiters,
                caller.deadline(self._timeout_s),
                caller.backoff(),
                caller.try_timeout_s,
                now_s,
                now_s - self._oldest_s,
            )
            self._flights.append(flight)
            return flight

    def _answered(self, flight: Flight, index: int, error: RocinanteError | None) -> None:
        """(On the thread.) The end of a batch."""
        with self._lock:
            self._flights.remove(flight)
            self._doubtful.append(flight)  # for no longer than this moment, where its outcome is certain
            self._doubtful = [one for one in self._doubtful if not self._certain(one)]
            self._stuck = False
            self._count(flight, error)
            for waiter in flight.waiters:
                waiter.batch_done(index, error)
                if waiter.done:
                    self._settled.add(waiter)
            if error is not None and not flight.waiters and self._on_batch is None:
                self._untold = self._untold or error
            self._last_index = max(self._last_index, index)
            self._room.notify_all()
        self._report(flight, index, error)

    def _report(self, flight: Flight, index: int, error: RocinanteError | None) -> None:
        if self._on_batch is None:
            return
        size, latency_s = len(flight.taken.batch), time.monotonic() - flight.began_s
        batch = flight.taken.batch if error is not None else b""
        self._on_batch(BatchReport(index, flight.records, size, latency_s, flight.waited_s, flight.tries, error, batch))

    def _certain(self, flight: Flight) -> bool:
        """Whether later updates of its flows may go: if so, they are let go."""
        if flight.unknown and not self._tries.refused_from_now_on(flight):
            return False
        self._pending.release(flight.taken.keys, len(flight.taken.batch))
        return True

    def _count(self, flight: Flight, error: RocinanteError | None) -> None:
        counters = self.counters
        counters.retries += max(0, flight.tries - 1)
        counters.slowed = self._tries.slowed
        if error is None:
            counters.batches += 1
            counters.acknowledged += flight.records
        else:
            counters.failed_batches += 1
            counters.failed_records += flight.records

    def _end_all(self, error: RocinanteError) -> None:
        """What is not written will not be, or nobody knows."""
        with self._lock:
            self._closing = self._ended = True
            waiters = dict.fromkeys([*self._waiters, *(one for flight in self._flights for one in flight.waiters)])
            for waiter in waiters:
                waiter.error = waiter.error or error
                self._settled.add(waiter)
            flights, self._flights = self._flights, []
            for flight in flights:
                self._count(flight, error)
            self.counters.failed_records += len(self._pending)
            self._room.notify_all()
        for flight in flights:
            self._report(flight, 0, OutcomeUnknown(error.message))
