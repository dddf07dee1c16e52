"""The thread `housekeeping`: what happens about once a second and is nobody's hot path.

Tells the peers this node's role and progress, watches the room that is left on the disk and in the tables, gives the
memory of emptied tables back, and, on the leader, says the cluster's time and finds flows past their deadline. What it
finds goes through the log like any other command, so that all replicas drop the same.
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
from rocinante.node.cluster_clock import ClusterClock
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
        clock: ClusterClock,
        *,
        propose: _Propose,
        leads: Callable[[], bool],
        tell_peers: Callable[[], None],
        check_room: Callable[[], None],
        keep_revisions: Callable[[], int],
    ) -> None:
        self._state = state
        self._clock = clock
        self._propose = propose
        self._leads = leads
        self._tell_peers = tell_peers
        self._check_room = check_room
        self._keep_revisions = keep_revisions
        self._stopped = threading.Event()
        self._wake = threading.Event()
        """There is something to do before the next round."""
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)
        self._cursor = b""
        self._passing = False
        """A pass through the tables is not complete: more may be due."""
        self._led = False
        self._next_clock = 0.0
        self._expiring: list[Future[Outcome]] = []
        self._expiry_s = 0.0
        """What the last command to expire took."""
        self.expired_batches = 0
        self.released_bytes = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        self._stopped.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        interval_s = limits.EXPIRE_INTERVAL_MS / 1000
        next_round = time.monotonic() + interval_s
        while not self._stopped.is_set():
            self._wake.wait(max(0.0, next_round - time.monotonic()))
            self._wake.clear()
            try:
                if time.monotonic() >= next_round:
                    next_round = time.monotonic() + interval_s
                    self.round()
                elif self._passing and self._leads():
                    self._expire()
            except RocinanteError as error:
                logger.debug("housekeeping: %s", error)  # no leader, or the ingress is full: next time
            except Exception:  # top of the thread: the next round may do better
                logger.exception("housekeeping failed")

    def round(self) -> None:
        """What the thread does once in EXPIRE_INTERVAL_MS. Raises RocinanteError where it cannot be done now."""
        self._tell_peers()
        self._check_room()
        self._release_memory()
        if self._leads():
            self._lead()
        else:
            self._led = False
            self._clock.follow()

    def _release_memory(self) -> None:
        for released in self._state.release_memory():
            self.released_bytes += released
            if self._pause(limits.FLOW_RELEASE_PAUSE_S):
                return

    def _pause(self, wait_s: float) -> bool:
        """Lets others have the processor. Whether the node stops meanwhile."""
        return self._stopped.wait(wait_s)

    def _lead(self) -> None:
        now_ms = self._clock.lead()
        now = time.monotonic()
        if (now >= self._next_clock or not self._led) and self._state.sessions_count():
            self._propose(Kind.CLOCK, _U64.pack(now_ms))
            self._led, self._next_clock = True, now + limits.CLOCK_INTERVAL_MS / 1000
        self._expire()
        self._compact_keys()

    def _compact_keys(self) -> None:
        """Forget old revisions of the keys, so that steady writes do not fill the memory."""
        keep, revision = self._keep_revisions(), self._state.revision
        if keep and revision - self._state.compacted_revision > keep * (1 + limits.KEEP_REVISIONS_SLACK):
            request = rpc_pb2.CompactionRequest(revision=revision - keep)
            self._propose(Kind.KV_COMPACT, request.SerializeToString())

    def _expire(self) -> None:
        """Look at a bounded part of the tables; a bounded number of commands is under way at a time, and each that is
        done makes room for the next, after a rest: a mass expiry neither floods the log nor takes a second for each
        few, and it leaves the writers their share."""
        if self._passing and self._pause(min(self._expiry_s, limits.EXPIRE_REST_MAX_S)):
            return
        self._expiring = [future for future in self._expiring if not future.done()]
        now_ms = self._clock.now_ms()
        looked_at = 0
        while looked_at < limits.EXPIRE_SCAN_ROWS and not self._stopped.is_set():
            if len(self._expiring) >= limits.EXPIRE_COMMANDS_MAX:
                self._passing = True
                return
            page = self._state.flows_due(now_ms, self._cursor, rows_max=limits.EXPIRE_ROWS)
            self._cursor = page.cursor
            if page.rows is None:
                break
            looked_at += page.rows.stop - page.rows.first
            if page.due:
                future = self._propose(Kind.FLOW_EXPIRE, encode_expire(now_ms, page.rows))
                self._expiring.append(future)
                self.expired_batches += 1
                future.add_done_callback(self._expired_since(time.monotonic()))
            if not page.cursor:
                break
        self._passing = False

    def _expired_since(self, began: float) -> Callable[[Future[Outcome]], None]:
        def done(_: Future[Outcome]) -> None:
            self._expiry_s = time.monotonic() - began
            self._wake.set()

        return done
