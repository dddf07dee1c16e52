"""One node: the threads put together, and what its interfaces see of it (`rocinante.ports.NodePort`).

Life: `Node(...)` builds everything from what `open_node` found; `start` brings up threads and servers and leaves *not
ready* once everything that was committed is applied; `drain` and `close` are the way out. Which state it is in is the
core's role, and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

from rocinante import limits
from rocinante.config import ClusterConfig, Controller
from rocinante.errors import NotFound, OutcomeUnknown, RocinanteError, Unavailable
from rocinante.flows.batch import Buffer
from rocinante.node.applied import point_at
from rocinante.node.apply import Apply
from rocinante.node.cluster_clock import ClusterClock
from rocinante.node.digest import digest_after
from rocinante.node.disk import Disk
from rocinante.node.driver import Beat, Driver
from rocinante.node.flow_timeouts import flow_timeouts
from rocinante.node.housekeeping import Housekeeping
from rocinante.node.logview import describe
from rocinante.node.membership import Membership
from rocinante.node.metrics import node_metrics
from rocinante.node.opening import Opened, core_options, make_core, own_member
from rocinante.node.pending import Pending
from rocinante.node.proposing import Proposer
from rocinante.node.reading import Reader
from rocinante.node.receiving import Receiver
from rocinante.node.recovery import Recovery
from rocinante.node.requests import Ingress, Proposal, Read, WaitingReads
from rocinante.node.room import Room
from rocinante.node.snapshotter import Snapshotter
from rocinante.node.status import node_status
from rocinante.node.switch import Switch
from rocinante.node.watch import WatchHub
from rocinante.peers import PeerService, Transport
from rocinante.ports import LogLine, Member, NodeStatus, Outcome, ReadPoint, SessionRef, SnapshotInfo, Watch
from rocinante.raft.core import Raft
from rocinante.raft.types import NONE, Role, SnapshotMeta
from rocinante.state.command import Kind
from rocinante.state.machine import StateMachine
from rocinante.tokens import Keyring

logger = logging.getLogger(__name__)


_ProposeChange = Callable[[], tuple[int, int]]


def _fail(future: Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


class Node:
    """See the module. Implements `NodePort`."""

    def __init__(
        self, config: ClusterConfig, controller: Controller, opened: Opened, *, keyring: Keyring | None = None
    ) -> None:
        self.config = config
        self.keyring = keyring or Keyring()
        self.controller = controller
        self.id = controller.id
        self.engine = opened.engine
        self.identity = opened.identity
        self.hub = WatchHub()
        self.started_at = time.monotonic()
        self.request_timeout_s = config.timers.request_timeout_ms / 1000
        self.keep_entries = config.storage.keep_entries
        self.keep_revisions = config.storage.keep_revisions
        self.room = Room(config, opened.engine, opened.state)
        self._state = opened.state
        self.clock = ClusterClock(
            monotonic_ms=lambda: int(time.monotonic() * 1000),
            wall_ms=lambda: time.time_ns() // 1_000_000,
            replicated_ms=opened.state.now_ms,
        )
        self._timeouts = flow_timeouts(config.flows)
        self._replay_to = opened.loaded.hard_state.commit
        self.stopping = threading.Event()
        self.stop_asked = threading.Event()
        """Set when a graceful stop is wanted (by RPC or REST); the daemon carries it out."""
        self.left_not_ready = threading.Event()
        self._transfers: list[tuple[Future[int], int, int, float]] = []
        self._build(opened)
        self.switch = Switch(self)

    def _build(self, opened: Opened) -> None:
        config = self.config
        self.ingress = Ingress(proposals_max=config.limits.ingress_proposals, bytes_max=config.limits.ingress_bytes)
        self.transport = Transport(
            cluster_id=self.identity.cluster_id,
            own=own_member(self.controller),
            on_change=lambda: self.ingress.put_act(self._tell_peers),
            on_gone=lambda peer: self.driver.peer_gone(peer),  # noqa: PLW0108  (there is no driver yet)
            on_stranger=lambda peer, index: self.membership.stranger_at(peer, index, self.driver.core.log.commit),
            keyring=self.keyring,
        )
        core = make_core(opened, self.id, core_options(config))
        snapshots = opened.engine.snapshots
        self.membership = Membership(
            self.id,
            core.config,
            opened.members,
            transport=self.transport,
            snapshots=snapshots,
            on_removed=lambda: self.switch.remove(),  # noqa: PLW0108  (there is no switch yet)
            on_member=lambda: self.switch.take_back(),  # noqa: PLW0108
        )
        self.pending = Pending(self.ingress, self._retry)
        self._waiting_reads = WaitingReads()
        self.apply = Apply(
            self._state,
            self.pending,
            self._waiting_reads,
            self.hub,
            config=core.config,
            members=opened.members,
            on_applied=self._on_applied,
        )
        self.hub.reset(self.apply.applied)
        self.disk = Disk(opened.engine.log)
        self.proposer = Proposer(core, self.pending, self.transport.send_frame, lambda: self.room.disk_refusal)
        self.reader = Reader(core, self._waiting_reads, self.transport.send_frame, lambda: self.apply.applied)
        self._build_driver(opened, core)

    def _build_driver(self, opened: Opened, core: Raft) -> None:
        config = self.config
        snapshots = opened.engine.snapshots
        self.recovery = Recovery(core, opened.marker, active=opened.recovering, on_done=lambda: None, base=opened.base)
        self.driver = Driver(
            core,
            ingress=self.ingress,
            transport=self.transport,
            disk=self.disk,
            apply=self.apply,
            proposer=self.proposer,
            reader=self.reader,
            membership=self.membership,
            recovery=self.recovery,
            snapshots=snapshots,
            tick_s=config.timers.tick_ms / 1000,
            on_beat=self._on_beat,
            on_work=self._on_tick,
            on_transfer=self._transfer_for_peer,
        )
        self.disk.on_written = self.driver.written
        self.driver.remember_tail(opened.loaded.entries[-limits.LOG_TAIL_ENTRIES_MAX :])
        self.snapshotter = Snapshotter(
            self.apply,
            snapshots,
            compact_entries=config.storage.compact_entries,
            compact_bytes=config.storage.compact_bytes,
            on_snapshot=self._on_snapshot,
        )
        self.housekeeping = Housekeeping(
            self._state,
            self.clock,
            propose=self._propose_own,
            leads=lambda: self.driver.beat.status.role is Role.LEADER,
            tell_peers=lambda: self.ingress.put_act(self._tell_peers),
            check_room=self.room.look,
            keep_revisions=lambda: self.keep_revisions,
        )
        self.receiver = Receiver(
            cluster_id=self.identity.cluster_id,
            lineage=self.identity.lineage,
            node_id=self.id,
            ingress=self.ingress,
            transport=self.transport,
            membership=self.membership,
            snapshots=snapshots,
            applied=lambda: self.apply.applied,
            durable=lambda: self.driver.core.durable.commit,
        )
        self.peer_service = PeerService(self.receiver)

    # --- life

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Bring up the threads; the driver turns on `loop`, which is gRPC's.

        The node is not ready until it has applied what was committed before.
        """
        self.disk.start()
        self.apply.start()
        self.snapshotter.start()
        self.driver.start(loop)
        self.housekeeping.start()

    def drain(self, timeout_s: float) -> None:
        """Take no new request, hand leadership over, and let what is in flight finish."""
        self.stopping.set()
        end = time.monotonic() + timeout_s
        self.switch.hand_over(timeout_s)
        while len(self.pending) and time.monotonic() < end:
            time.sleep(limits.DRAIN_POLL_S)
        for proposal in self.pending.outstanding():
            self.pending.give_up(proposal)

    def leave(self) -> None:
        """Leave the cluster's traffic and stop the driver, while its loop still runs. After `drain`."""
        self.stopping.set()
        self.housekeeping.stop(limits.THREAD_JOIN_TIMEOUT_S)

        def end() -> None:
            self.driver.core.set_not_ready()
            self.driver.stop()
            self.transport.stop()

        self.driver.run_on_loop(end, limits.THREAD_JOIN_TIMEOUT_S)
        self.hub.end()

    def close(self) -> None:
        """Stop the threads and close the storage. After `leave`."""
        self.snapshotter.stop(limits.THREAD_JOIN_TIMEOUT_S)
        self.apply.stop(limits.THREAD_JOIN_TIMEOUT_S)
        self.disk.stop(limits.THREAD_JOIN_TIMEOUT_S)
        self.peer_service.close()
        self.engine.close()

    # --- what the driver tells (on its thread)

    def _on_tick(self, now: float) -> None:
        if not self.left_not_ready.is_set() and self.apply.applied >= self._replay_to:
            self.left_not_ready.set()
            self.membership.connect()
            if self.switch.open:
                self.driver.core.set_ready()
                if self.driver.core.config.voters == {self.id} and not self.recovery.active:
                    self.driver.core.campaign()  # there is nobody to wait for
        self.recovery.check()
        self.pending.give_up_late(now)

    def _on_beat(self, beat: Beat) -> None:
        status = beat.status
        if status.leader != NONE and not self.pending.gateway.open and not self._opening:
            self._open_gateway()
        if self._transfers:
            self._check_transfers(status.leader, beat.at)

    _opening = False

    def _open_gateway(self) -> None:
        """The node's own session; everything without a client session goes under it."""
        gateway = self.pending.gateway
        self._opening = True

        def opened(future: Future[Outcome]) -> None:
            self._opening = False
            error = future.exception()
            if gateway is not self.pending.gateway:
                return
            if error is None:
                gateway.open = True
                self.ingress.put_act(self.proposer.gateway_opened)
            elif isinstance(error, OutcomeUnknown):
                self.pending.reopen_gateway()

        try:
            deadline = time.monotonic() + self.request_timeout_s
            self.pending.add(Kind.SESSION_OPEN, b"", None, deadline).future.add_done_callback(opened)
        except RocinanteError as error:
            self._opening = False
            logger.debug("the gateway session waits: %s", error)

    def _retry(self, proposal: Proposal) -> None:
        """(On the apply thread.) The gateway session has ended; this command was certainly not applied."""
        if proposal.session == self.pending.gateway.session:
            self.pending.reopen_gateway()
        self.pending.rename(proposal)

    def _on_applied(self, index: int, clock_term: int) -> None:
        """(On the apply thread.) The driver looks for itself; it is woken only while the node starts."""
        said = self.left_not_ready.is_set() and clock_term == self.driver.core.term
        self.clock.observe(self._state.now_ms, said=said)
        if not self.left_not_ready.is_set() and index >= self._replay_to:
            self.ingress.put_act(lambda: None)

    def _on_snapshot(self, meta: SnapshotMeta) -> None:
        """(On the snapshot thread.) The file is durable: drop the log behind it."""

        def compact() -> None:
            core = self.driver.core
            keep_from = max(1, meta.index + 1 - self.keep_entries)
            if meta.index <= core.log.last_index:
                keep_from = max(keep_from, core.log.first_within(meta.index, limits.COMPACT_KEEP_BYTES))
            # Not where the leader's newer one came meanwhile: then the log does not reach back to this one any more.
            if core.compact(min(keep_from - 1, meta.index), meta):
                self.disk.compact(meta, keep_from)

        self.ingress.put_act(compact)

    def _tell_peers(self) -> None:
        self.receiver.tell(self.driver.core, recovering=self.recovery.active)

    # --- NodePort

    @property
    def state(self) -> StateMachine:
        return self._state

    def _deadline(self, timeout_s: float | None) -> float:
        wait = self.request_timeout_s if timeout_s is None else min(timeout_s, limits.REQUEST_TIMEOUT_S_MAX)
        return time.monotonic() + wait

    def not_ready_reason(self) -> str:
        """Why the node takes no client request, or ""."""
        if self.stopping.is_set():
            return "the node is stopping"
        if self.switch.removed:
            return "the node was removed from the cluster"
        if not self.switch.enabled:
            return "gRPC is switched off"
        if not self.left_not_ready.is_set():
            return "starting: replaying the log"
        return ""

    def _check_ready(self) -> None:
        reason = self.not_ready_reason()
        if reason:
            raise Unavailable(f"not ready: {reason}", leader=self.driver.beat.status.leader)

    def propose(
        self, kind: Kind, body: bytes, *, session: SessionRef | None = None, timeout_s: float | None = None
    ) -> Future[Outcome]:
        self._check_ready()
        self.room.check(kind, body)
        return self.pending.add(kind, body, session, self._deadline(timeout_s)).future

    def now_ms(self) -> int:
        return self.clock.now_ms()

    def prepare_flows(self, batch: Buffer) -> Buffer:
        timeouts = self._timeouts
        if timeouts is None:
            return batch
        bounds = {"records_max": limits.FLOW_BATCH_RECORDS_MAX, "bytes_max": limits.FLOW_BATCH_BYTES_MAX}
        return timeouts.stamp_any(batch, self.clock.now_ms(), **bounds)

    def adopt_flows(self, config: ClusterConfig) -> None:
        """New bounds and time-outs (SIGHUP), for what comes from now on."""
        self.room.adopt(config)
        self._timeouts = flow_timeouts(config.flows)

    def _propose_own(self, kind: Kind, body: bytes) -> Future[Outcome]:
        self._check_ready()
        return self.pending.add(kind, body, None, self._deadline(None)).future

    def read(self, *, linearizable: bool = True, timeout_s: float | None = None) -> Future[ReadPoint]:
        self._check_ready()
        future: Future[ReadPoint] = Future()
        if linearizable:
            self.ingress.put_read(Read(self._deadline(timeout_s), future))
        else:
            future.set_result(ReadPoint(self.apply.applied, self._age_ms()))
        return future

    def wait_applied(self, index: int, *, timeout_s: float | None = None) -> Future[ReadPoint]:
        self._check_ready()
        return point_at(self._waiting_reads, lambda: self.apply.applied, index, self._deadline(timeout_s))

    def _age_ms(self) -> int:
        """Since this node last heard from a leader; 0 on the leader."""
        status = self.driver.beat.status
        if status.role is Role.LEADER:
            return 0
        if status.leader == NONE and not status.leader_silent_ticks:
            return -1
        return status.leader_silent_ticks * self.config.timers.tick_ms

    def watch(self, from_index: int = 0) -> Watch:
        self._check_ready()
        return self.hub.watch(from_index, self.apply.applied)

    def status(self) -> NodeStatus:
        return node_status(self)

    def members(self) -> tuple[tuple[Member, ...], bool]:
        return self.membership.published

    def add_member(self, member: Member, *, voter: bool) -> Future[int]:
        return self._change(lambda: self.membership.propose_add(self.driver.core, member, voter=voter))

    def promote_member(self, identifier: int) -> Future[int]:
        return self._change(lambda: self.membership.propose_promote(self.driver.core, identifier))

    def remove_member(self, identifier: int) -> Future[int]:
        return self._change(lambda: self.membership.propose_remove(self.driver.core, identifier))

    def _change(self, propose: _ProposeChange) -> Future[int]:
        """Run a membership change on the driver's thread; done when it is applied here."""
        self._check_ready()
        result: Future[int] = Future()

        def applied(future: Future[int]) -> None:
            if error := future.exception():
                _fail(result, error)
            elif not result.done():
                result.set_result(future.result())

        def run() -> None:
            try:
                index, term = propose()
            except RocinanteError as error:
                _fail(result, error)
                return
            self.pending.wait_index(index, term).add_done_callback(applied)

        self.ingress.put_act(run)
        return result

    def transfer_leader(self, to: int = NONE) -> Future[int]:
        result: Future[int] = Future()
        if to != NONE and to not in {member.id for member in self.membership.published[0]}:
            raise NotFound(f"to: {to:016x} is not a member")

        def run() -> None:
            leader = self.driver.core.leader
            if to != NONE and leader == to:
                result.set_result(to)
                return
            try:
                self.switch.transfer(to)
            except RocinanteError as error:
                _fail(result, error)
                return
            self._transfers.append((result, leader, to, time.monotonic() + limits.TRANSFER_TIMEOUT_S))

        self.ingress.put_act(run)
        return result

    def _transfer_for_peer(self, to: int) -> None:
        """(On the driver's thread.) A follower's client asked; what cannot be done is not, and they see that."""
        try:
            self.switch.transfer(to)
        except RocinanteError as error:
            logger.warning("a peer asked to move leadership: %s", error)

    def _check_transfers(self, leader: int, now: float) -> None:
        waiting = []
        for item in self._transfers:
            future, before, to, deadline = item
            if leader not in (NONE, before):
                if not future.done():
                    future.set_result(leader)
            elif now >= deadline:
                whom = self.membership.name_of(to) if to else "anybody"
                _fail(future, OutcomeUnknown(f"leadership did not move to {whom} in {limits.TRANSFER_TIMEOUT_S:g} s"))
            else:
                waiting.append(item)
        self._transfers = waiting

    def set_grpc(self, enabled: bool) -> None:
        self.switch.set(enabled)

    def stop(self) -> None:
        self.stop_asked.set()

    def snapshot(self) -> Future[SnapshotInfo]:
        return self.snapshotter.take()

    def save(self) -> tuple[SnapshotInfo, Iterator[bytes]]:
        file = self.snapshotter.take_file().result(limits.SNAPSHOT_TRANSFER_TIMEOUT_S)
        info = SnapshotInfo(file.meta.index, file.meta.term, file.size_bytes, file.digest)
        return info, self.engine.snapshots.read(file, limits.SNAPSHOT_CHUNK_BYTES)

    def log(self, last: int, *, committed: bool = False) -> Sequence[LogLine]:
        commit = self.driver.beat.status.commit
        while True:
            try:
                entries = list(self.driver.tail)
                break
            except RuntimeError:  # the driver appended meanwhile
                continue
        if committed:
            entries = [entry for entry in entries if entry.index <= commit]
        return [describe(entry, committed=entry.index <= commit) for entry in entries[-last:]] if last > 0 else []

    def digest(self, at_index: int = 0) -> Future[tuple[int, bytes, int]]:
        return digest_after(self._state, self.apply, self._waiting_reads, at_index, self._deadline(None))

    def metrics(self) -> dict[str, float]:
        return node_metrics(self)
