"""Hands batches of flows to the client's writer, a few at a time, and says what was not written.

It never queues: while so many batches are under way, or the cluster is away, `idle` is false, the tracker keeps
collecting, and the latest state of each flow goes with the next batch. What could not be written is handed back by
`collect`. The order of a flow's updates is the client's writer's affair (client/flow_writer.py).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final, Protocol

from rocinante.agents.tracker import Key, Taken
from rocinante.client import PutFlowsResult
from rocinante.errors import InvalidArgument, RocinanteError
from rocinante.flows import FlowRecord
from rocinante.limits import SNIFF_BATCHES_MAX, SNIFF_RETRY_PAUSE_S, SNIFF_RETRY_PAUSE_S_MAX

log = logging.getLogger(__name__)

_CLOSE_S: Final = 1.0


class Cluster(Protocol):
    """Where flows go: the client's writer, as far as it is needed here."""

    def submit(self, flows: Iterable[FlowRecord], /) -> Future[PutFlowsResult]:
        """Write all; a retry applies once. Raises RocinanteError, and so does the future."""

    def close(self, *, timeout_s: float) -> None:
        """Wait so long for what is under way, and end. Raises RocinanteError."""


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
        self._changed = threading.Condition()
        self._under_way: list[Taken] = []
        self._returned: list[Key] = []
        self._pause_s = 0.0
        self._resume_at = 0.0
        self._away_since: float | None = None
        self.written = Written()

    @property
    def idle(self) -> bool:
        """A batch would be taken now."""
        with self._changed:
            return len(self._under_way) < SNIFF_BATCHES_MAX and not self._returned and self._clock() >= self._resume_at

    @property
    def away(self) -> bool:
        """The last batch was not taken."""
        return self._away_since is not None

    @property
    def outstanding(self) -> int:
        """Flows that were taken and are not known to be written."""
        with self._changed:
            return sum(len(taken.keys) for taken in self._under_way) + len(self._returned)

    def offer(self, taken: Taken) -> None:
        """Write this; only when `idle`."""
        began_s = self._clock()
        with self._changed:
            self._under_way.append(taken)
        try:
            future = self._cluster.submit(taken.records)
        except RocinanteError as error:
            self._done(taken, began_s, error)
        else:
            future.add_done_callback(lambda done: self._done(taken, began_s, done.exception()))

    def collect(self) -> list[Key]:
        """The keys of what was taken and not written, for `give_back`."""
        with self._changed:
            returned, self._returned = self._returned, []
            return returned

    def wait(self, timeout_s: float) -> None:
        """Until a batch under way is done, or something would be taken again."""
        with self._changed:
            if self._under_way:
                count = len(self._under_way)
                self._changed.wait_for(lambda: len(self._under_way) < count, timeout_s)
            elif (pause := self._resume_at - self._clock()) > 0:
                self._changed.wait(min(pause, timeout_s))

    def close(self) -> None:
        """End it; a batch under way is not waited for longer than a moment."""
        try:
            self._cluster.close(timeout_s=_CLOSE_S)
        except RocinanteError as error:
            log.debug("at the end: %s", error.message)

    def _done(self, taken: Taken, began_s: float, error: BaseException | None) -> None:
        """(On the thread of the client's writer.)"""
        with self._changed:
            self._under_way.remove(taken)
            if error is None:
                self.written.batches += 1
                self.written.records += len(taken.records)
                self.written.last_s = self._clock() - began_s
                self._came_back()
            elif isinstance(error, InvalidArgument):
                self.written.refused += len(taken.records)
                log.warning("the cluster refuses %d flows: %s", len(taken.records), error.message)
            else:
                self.written.failures += 1
                self._returned += taken.keys
                self._fell_back(error)
            self._changed.notify_all()

    def _fell_back(self, error: BaseException) -> None:
        """Said once an outage; the pause between the tries grows."""
        now = self._clock()
        self._pause_s = min(max(2 * self._pause_s, SNIFF_RETRY_PAUSE_S), SNIFF_RETRY_PAUSE_S_MAX)
        self._resume_at = now + self._pause_s
        if self._away_since is None:
            self._away_since = now
            log.warning("the cluster takes no flows now, the capture goes on: %s", error)

    def _came_back(self) -> None:
        self._pause_s = self._resume_at = 0.0
        if self._away_since is not None:
            log.warning("the cluster takes flows again after %.1f s", self._clock() - self._away_since)
            self._away_since = None
