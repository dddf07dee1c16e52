"""The sniffer: capture → tracker → writer, in one loop.

One thread reads packets, keeps the flows and decides when to flush; the client's writer has a thread of its own, which
waits for the cluster. So a slow cluster never stops the capture, and nothing needs a lock but the hand-over of a batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rocinante.agents.capture import Endpoint, Source
from rocinante.agents.own import resolve
from rocinante.agents.report import Figures, Report
from rocinante.agents.tracker import FlowTracker
from rocinante.agents.writer import FlowWriter
from rocinante.errors import EXIT_OK, EXIT_UNAVAILABLE
from rocinante.limits import (
    SNIFF_BATCH_RECORDS_MAX,
    SNIFF_FINAL_FLUSH_S,
    SNIFF_MEMBERS_INTERVAL_S,
    SNIFF_RETRY_PAUSE_S,
)

_EXPIRE_INTERVAL_S = 0.5


@dataclass(frozen=True, slots=True)
class Options:
    flush_ms: int
    live: bool
    """Packets come as they happen: their clock is this machine's. Otherwise it is the file's."""
    idle_s: float = 0.0
    """End when no packet came for so long; 0: never."""


class Sniffer:
    """`endpoints()` gives the cluster's endpoints as they are known now, whose traffic is left out; None: it is
    recorded."""

    def __init__(
        self,
        source: Source,
        tracker: FlowTracker,
        writer: FlowWriter,
        report: Report,
        options: Options,
        endpoints: Callable[[], Sequence[str]] | None = None,
    ) -> None:
        self._source = source
        self._tracker = tracker
        self._writer = writer
        self._report = report
        self._options = options
        self._endpoints = endpoints
        self._known: tuple[str, ...] = ()
        self._stopping = self._draining = self._abandoned = False
        self._behind_since: float | None = None

    def stop(self) -> None:
        """End the capture, write what is waiting, return from `run`; while it is writing that: give it up. For signal
        handlers."""
        self._abandoned = self._draining
        self._stopping = True

    def run(self) -> int:
        """Until the capture ends or `stop`. The exit status: EXIT_UNAVAILABLE when a file's flows could not all be
        written.

        Raises AgentError when the capture fails; what was captured before is written all the same."""
        try:
            self._capture()
        finally:
            written = self._drain()
        return EXIT_OK if written or self._options.live else EXIT_UNAVAILABLE

    def figures(self) -> Figures:
        counters, written = self._tracker.counters, self._writer.written
        now = time.monotonic()
        return Figures(
            packets=counters.packets,
            flows=len(self._tracker),
            waiting=self._tracker.waiting + self._writer.outstanding,
            records=written.records,
            batches=written.batches,
            dropped=self._source.dropped(),
            malformed=self._source.malformed,
            evicted=counters.evicted,
            lag_s=0.0 if self._behind_since is None else now - self._behind_since,
            write_s=written.last_s,
        )

    def _capture(self) -> None:
        flush_s = self._options.flush_ms / 1_000
        now = last_packet = time.monotonic()
        flush_at, expire_at, members_at = now + flush_s, now + _EXPIRE_INTERVAL_S, now
        while not self._stopping and not self._source.ended:
            if now >= members_at:
                self._leave_out_own()
                # Until the first write the client knows only what it was given: look again soon.
                members_at = now + (SNIFF_MEMBERS_INTERVAL_S if self._writer.written.batches else flush_s)
            if self._source.read(self._tracker.add, min(flush_s, max(flush_at - now, 0.0))):
                last_packet = time.monotonic()
            now = time.monotonic()
            if now >= flush_at:
                flush_at = now + flush_s
                self._flush()
            if now >= expire_at:
                expire_at = now + _EXPIRE_INTERVAL_S
                self._expire()
            if self._report.due(now):
                self._report.show(self.figures(), now)
            if 0 < self._options.idle_s <= now - last_packet:
                return

    def _expire(self) -> None:
        if self._options.live:
            self._tracker.expire(int(time.time() * 1_000))
        elif not self._tracker.waiting and not self._writer.outstanding:
            # A file is read faster than it was made: each of its flows is written before it is forgotten.
            self._tracker.expire(self._tracker.now_ms)

    def _flush(self, *, everything: bool = False) -> None:
        """Give the writer a batch if it would take one. What it has got is news until it is known to be written."""
        now = time.monotonic()
        self._tracker.give_back(self._writer.collect())
        if not self._writer.idle:
            return
        if not self._writer.away:
            self._behind_since = None
        as_of_ms = None if self._options.live else int(time.time() * 1_000)
        taken = self._tracker.take(SNIFF_BATCH_RECORDS_MAX, as_of_ms=as_of_ms, everything=everything)
        if taken.keys:
            self._writer.offer(taken)
            if self._behind_since is None:
                self._behind_since = now

    def _drain(self) -> bool:
        """Write all that is waiting; whether it was all. A live capture that is told to stop has a bounded time for
        it in all, a file has it anew with each batch that is written."""
        self._draining = True
        deadline = time.monotonic() + SNIFF_FINAL_FLUSH_S
        batches = self._writer.written.batches
        while (left_s := deadline - time.monotonic()) > 0 and not self._abandoned:
            self._flush(everything=True)
            if batches != self._writer.written.batches and not self._stopping:
                batches = self._writer.written.batches
                deadline = time.monotonic() + SNIFF_FINAL_FLUSH_S
            if not self._writer.outstanding and not self._tracker.waiting:
                return True
            self._writer.wait(min(left_s, SNIFF_RETRY_PAUSE_S))
        return False

    def _leave_out_own(self) -> None:
        if self._endpoints is None:
            return
        known = tuple(sorted(self._endpoints()))
        if known != self._known:
            self._known = known
            own: frozenset[Endpoint] = resolve(known)
            self._tracker.ignore = own
            self._source.leave_out(own)
