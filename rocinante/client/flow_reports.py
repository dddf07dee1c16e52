"""What a writer tells: of each batch, of those who wait for their records, and its counters."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import asdict, dataclass

from rocinante.client.types import PutFlowsResult
from rocinante.errors import RocinanteError

__all__ = ["BatchReport", "Waiter", "WriterCounters"]


@dataclass(frozen=True, slots=True)
class BatchReport:
    """The end of one batch. `error` None: it is committed at `index`."""

    index: int
    records: int
    size_bytes: int
    latency_s: float
    """From the first try to the answer."""
    waited_s: float
    """How long the oldest record waited to be sent."""
    tries: int
    error: RocinanteError | None = None
    batch: bytes = b""
    """Where there is an error: the records, encoded; they may be put again."""


@dataclass(slots=True)
class WriterCounters:
    """Since the writer began. Records that were accepted are `records` = sent or waiting + `coalesced`."""

    records: int = 0
    coalesced: int = 0
    """Replaced by a later record of the same flow before they were sent."""
    batches: int = 0
    """Acknowledged."""
    acknowledged: int = 0
    """Records in them."""
    failed_batches: int = 0
    failed_records: int = 0
    retries: int = 0
    slowed: int = 0
    """Tries that the cluster refused because it was busy."""
    blocked_s: float = 0.0
    """Time that `put` waited for room, of all threads."""
    refused: int = 0
    """Puts that found no room in time."""

    def metrics(self) -> dict[str, float]:
        """By Prometheus name, without a prefix."""
        return {f"flow_writer_{name}_total": float(value) for name, value in asdict(self).items()}


class Waiter:
    """Somebody waits until certain flows are committed. `flows` are those that are in no batch yet; guarded by the
    writer's lock, as all of it."""

    __slots__ = ("error", "flows", "future", "index", "records", "under_way")

    def __init__(self, flows: set[bytes]) -> None:
        self.flows = flows
        self.records = len(flows)
        self.under_way = 0
        self.index = 0
        self.error: RocinanteError | None = None
        self.future: Future[PutFlowsResult] = Future()

    def sealed(self, keys: set[bytes]) -> bool:
        """Some of its flows go with a batch; whether any did."""
        if self.flows.isdisjoint(keys):  # goes through the smaller of the two
            return False
        self.flows = self.flows - keys
        self.under_way += 1
        return True

    def batch_done(self, index: int, error: RocinanteError | None) -> None:
        self.under_way -= 1
        self.index = max(self.index, index)
        self.error = self.error or error

    @property
    def done(self) -> bool:
        return not self.flows and not self.under_way

    def settle(self) -> None:
        """Tell who waits; without the lock, for a callback may be behind it."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(PutFlowsResult(self.records, self.index))


class Settled:
    """Waiters whose time has come, to be told when the lock is free."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiters: list[Waiter] = []

    def add(self, waiter: Waiter) -> None:
        with self._lock:
            self._waiters.append(waiter)

    def tell(self) -> None:
        with self._lock:
            waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.settle()
