"""The thread `housekeeping`: what happens about once a second and is nobody's hot path.

Tells the peers this node's role and progress, watches the room that is left on the disk and in the tables, and, on
the leader, finds flows past their deadline and moves the state's clock. What it finds goes through the log like any
other command, so that all replicas drop the same.
"""

from __future__ import annotations

import logging
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, Protocol

from rocinante import limits
from rocinante.errors import RocinanteError
from rocinante.pb.etcd import rpc_pb2
from rocinante.ports import Outcome
from rocinante.state.command import Kind
from rocinante.state.flows import encode_expire
from rocinante.state.machine import StateMachine

logger = logging.getLogger(__name__)

_U64: Final = struct.Struct(">Q")


class _Propose(Protocol):
    def __call__(self, kind: Kind, body: bytes) -> Future[Outcome]: ...


class Housekeeping:
    """See the module."""

    def __init__(
        self,
        state: StateMachine,
        *,
        propose: _Propose,
        leads: Callable[[], bool],
        tell_peers: Callable[[], None],
        check_room: Callable[[], None],
        keep_revisions: Callable[[], int],
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._state = state
        self._propose = propose
        self._leads = leads
        self._tell_peers = tell_peers
        self._check_room = check_room
        self._keep_revisions = keep_revisions
        self._wall_ms = wall_ms
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)
        self._cursor = b""
        self._next_clock = 0.0
        self._expiring: list[Future[Outcome]] = []
        self.expired_batches = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stopped.wait(limits.EXPIRE_INTERVAL_MS / 1000):
            try:
                self.round()
            except RocinanteError as error:
                logger.debug("housekeeping: %s", error)  # no leader, or the ingress is full: next time
            except Exception:  # top of the thread: the next round may do better
                logger.exception("housekeeping failed")

    def round(self) -> None:
        """What the thread does once in EXPIRE_INTERVAL_MS. Raises RocinanteError where it cannot be done now."""
        self._tell_peers()
        self._check_room()
        if self._leads():
            self._lead()

    def _lead(self) -> None:
        now = time.monotonic()
        if now >= self._next_clock and self._state.sessions_count():
            self._next_clock = now + limits.CLOCK_INTERVAL_MS / 1000
            self._propose(Kind.CLOCK, _U64.pack(self._wall_ms()))
        self._expire()
        self._compact_keys()

    def _compact_keys(self) -> None:
        """Forget old revisions of the keys, so that steady writes do not fill the memory."""
        keep, revision = self._keep_revisions(), self._state.revision
        if keep and revision - self._state.compacted_revision > keep * (1 + limits.KEEP_REVISIONS_SLACK):
            request = rpc_pb2.CompactionRequest(revision=revision - keep)
            self._propose(Kind.KV_COMPACT, request.SerializeToString())

    def _expire(self) -> None:
        """Look at a bounded part of the tables; a bounded number of proposals at a time, so that a mass expiry cannot
        flood the log."""
        self._expiring = [future for future in self._expiring if not future.done()]
        now_ms = self._wall_ms()
        looked_at = 0
        while (
            len(self._expiring) < limits.EXPIRE_COMMANDS_MAX
            and looked_at < limits.EXPIRE_SCAN_ROWS
            and not self._stopped.is_set()
        ):
            page = self._state.flows_due(now_ms, self._cursor)
            self._cursor = page.cursor
            if page.rows is None:
                return
            looked_at += page.rows.stop - page.rows.first
            if page.due:
                self._expiring.append(self._propose(Kind.FLOW_EXPIRE, encode_expire(now_ms, page.rows)))
                self.expired_batches += 1
            if not page.cursor:
                return
