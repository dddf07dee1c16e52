"""Writes batches of flows to the cluster in a thread of its own (`writer`), one at a time.

The writer never queues: while a batch is under way or the cluster is away, `offer` declines, the tracker keeps
collecting, and the latest state of each flow goes with the next batch. What could not be written is handed back by
`collect`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from rocinante.agents.tracker import Key, Taken
from rocinante.errors import InvalidArgument, RocinanteError
from rocinante.flows import FlowRecord
from rocinante.limits import SNIFF_RETRY_PAUSE_S, SNIFF_RETRY_PAUSE_S_MAX

log = logging.getLogger(__name__)

_JOIN_S: Final = 1.0


class Cluster(Protocol):
    """Where flows go: the client, behind what the writer needs of it."""

    def put(self, records: Sequence[FlowRecord]) -> None:
        """Write all; a retry applies once. Raises RocinanteError."""


@dataclass(slots=True)
class Written:
    batches: int = 0
    records: int = 0
    failures: int = 0
    refused: int = 0
    """Records that the cluster will never take."""
    last_s: float = 0.0
    """How long the last batch took."""


class FlowWriter:
    """`offer`, `collect` and `idle` are for one thread. `clock`: seconds, monotonic."""

    def __init__(self, cluster: Cluster, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._clock = clock
        self._lock = threading.Condition()
        self._batch: Taken | None = None
        self._returned: list[Key] = []
        self._closed = False
        self._pause_s = 0.0
        self._resume_at = 0.0
        self._away_since: float | None = None
        self.written = Written()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    @property
    def idle(self) -> bool:
        """A batch would be taken now."""
        with self._lock:
            return self._batch is None and not self._returned and self._clock() >= self._resume_at

    @property
    def away(self) -> bool:
        """The last batch was not taken."""
        return self._away_since is not None

    @property
    def outstanding(self) -> int:
        """Flows that were taken and are not known to be written."""
        with self._lock:
            return (len(self._batch.keys) if self._batch else 0) + len(self._returned)

    def offer(self, taken: Taken) -> None:
        """Write this; only when `idle`."""
        with self._lock:
            self._batch = taken
            self._lock.notify_all()

    def collect(self) -> list[Key]:
        """The keys of what was taken and not written, for `give_back`."""
        with self._lock:
            returned, self._returned = self._returned, []
            return returned

    def wait(self, timeout_s: float) -> None:
        """Until the batch under way is done, or something would be taken again."""
        with self._lock:
            if self._batch is not None:
                self._lock.wait_for(lambda: self._batch is None, timeout_s)
            elif (pause := self._resume_at - self._clock()) > 0:
                self._lock.wait(min(pause, timeout_s))

    def close(self) -> None:
        """End the thread; a batch under way is not waited for longer than a moment."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()
        self._thread.join(_JOIN_S)

    def _run(self) -> None:
        """The thread `writer`."""
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._batch is not None or self._closed)
                batch = self._batch
                if batch is None:
                    return
            began = self._clock()
            try:
                self._cluster.put(batch.records)
            except InvalidArgument as error:
                self.written.refused += len(batch.records)
                log.warning("the cluster refuses %d flows: %s", len(batch.records), error.message)
                self._done([])
            except RocinanteError as error:
                self.written.failures += 1
                self._fell_back(error)
                self._done(batch.keys)
            else:
                self.written.batches += 1
                self.written.records += len(batch.records)
                self.written.last_s = self._clock() - began
                self._came_back()
                self._done([])

    def _done(self, returned: list[Key]) -> None:
        with self._lock:
            self._batch = None
            self._returned = returned
            self._lock.notify_all()

    def _fell_back(self, error: RocinanteError) -> None:
        """Said once an outage; the pause between the tries grows."""
        now = self._clock()
        self._pause_s = min(max(2 * self._pause_s, SNIFF_RETRY_PAUSE_S), SNIFF_RETRY_PAUSE_S_MAX)
        self._resume_at = now + self._pause_s
        if self._away_since is None:
            self._away_since = now
            log.warning("the cluster takes no flows now, the capture goes on: %s", error.message)

    def _came_back(self) -> None:
        self._pause_s = self._resume_at = 0.0
        if self._away_since is not None:
            log.warning("the cluster takes flows again after %.1f s", self._clock() - self._away_since)
            self._away_since = None
