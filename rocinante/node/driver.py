"""The driver: it owns the Raft core, and runs on the event loop of the thread `driver`; nothing else touches it.

Each turn: take all that waits in the ingress, step the messages, tick the clock, place proposals and reads, and carry
out the Readys: messages that may go at once to the transport, what must be durable first to the disk thread, what is
committed to the apply thread. The driver itself never waits for a disk, a peer or the state machine.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from threading import Event, get_ident
from typing import Protocol

from rocinante import limits
from rocinante.errors import StorageError
from rocinante.node.apply import Apply, Committed
from rocinante.node.disk import Disk, die
from rocinante.node.membership import Membership
from rocinante.node.proposing import Proposer
from rocinante.node.reading import Reader
from rocinante.node.recovery import Recovery
from rocinante.node.requests import Ingress, Work
from rocinante.pb.v1 import peer_pb2 as pb
from rocinante.peers import Transport
from rocinante.raft.core import Raft
from rocinante.raft.status import Status
from rocinante.raft.types import NONE, Entry, EntryKind, Message, MessageType, Ready, Role, SnapshotMeta
from rocinante.storage.base import SnapshotFile, SnapshotStore

logger = logging.getLogger(__name__)


class Clock(Protocol):
    def __call__(self) -> float:
        """Seconds, monotonic."""


@dataclass(frozen=True, slots=True)
class Beat:
    """What the driver publishes of the core, at every change of role, term or leader, and at every tick."""

    status: Status
    at: float
    """time.monotonic()"""


class Driver:
    """See the module."""

    def __init__(
        self,
        core: Raft,
        *,
        ingress: Ingress,
        transport: Transport,
        disk: Disk,
        apply: Apply,
        proposer: Proposer,
        reader: Reader,
        membership: Membership,
        recovery: Recovery,
        snapshots: SnapshotStore,
        tick_s: float,
        on_beat: Callable[[Beat], None],
        on_work: Callable[[float], None],
        on_transfer: Callable[[int], None],
        clock: Clock = time.monotonic,
    ) -> None:
        self.core = core
        self._ingress = ingress
        self._transport = transport
        self._disk = disk
        self._apply = apply
        self._proposer = proposer
        self._reader = reader
        self._membership = membership
        self._recovery = recovery
        self._snapshots = snapshots
        self._tick_s = tick_s
        self._on_beat = on_beat
        self._on_work = on_work
        self._on_transfer = on_transfer
        self._clock = clock
        self._next_tick = clock() + tick_s
        self._next_sweep = 0.0
        self._place: tuple[Role, int, int] = (core.role, core.term, core.leader)
        self._running = False
        self._told_applied = apply.applied
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread_id = 0
        self._timer: asyncio.TimerHandle | None = None
        self._restores: dict[int, SnapshotMeta] = {}
        """Snapshots from the leader by the number of the Ready that makes them part of the log."""
        self.beat = Beat(core.status(), clock())
        self.tail: deque[Entry] = deque(maxlen=limits.LOG_TAIL_ENTRIES_MAX)
        self.turns = count()
        self.turn = 0
        self.leader_changes = 0
        self.elections = 0
        self.ticks_skipped = 0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to turn on this loop (which runs in another thread)."""
        self._loop = loop
        loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        self._thread_id = get_ident()
        self._running = True
        self._ingress.on_work = self._schedule
        self._next_tick = self._clock() + self._tick_s
        self._on_timer()

    def run_on_loop(self, act: Callable[[], None], timeout_s: float) -> None:
        """Run something on the driver's thread and wait for it, a bounded time. From another thread."""
        done = Event()

        def run() -> None:
            act()
            done.set()

        if self._loop is not None:
            self._loop.call_soon_threadsafe(run)
            done.wait(timeout_s)

    def stop(self) -> None:
        """No more turns. On the driver's thread."""
        self._running = False
        self._ingress.on_work = lambda: None
        if self._timer is not None:
            self._timer.cancel()

    def peer_gone(self, peer: int) -> None:
        """The peer's host refuses connections, so its process has ended. If it led, do not wait for the time-out.

        The others see it at about the same moment. They run one after the other, so that they do not split the votes:
        whoever comes first is elected before the next one runs, unless its log is behind.
        """
        core = self.core
        if core.role is not Role.FOLLOWER or core.leader != peer or self._recovery.active or self._loop is None:
            return
        logger.info("the leader, %s, has ended; electing another", self._membership.name_of(peer))
        core.forget_leader()
        self._campaign_later(sum(voter < core.id for voter in core.config.voters - {peer}), 1)

    def _campaign_later(self, place: int, campaign: int) -> None:
        """After those that come before."""
        delay_ms = random.uniform(limits.GONE_CAMPAIGN_MS_MIN, limits.GONE_CAMPAIGN_MS_MAX)
        delay_ms += place * limits.GONE_CAMPAIGN_STEP_MS
        if self._loop is not None:
            self._loop.call_later(delay_ms / 1000, self._campaign_if_leaderless, place, campaign, self.core.term)

    def later(self, delay_s: float, act: Callable[[], None]) -> None:
        """Run something on this thread after a while, unless the driver has stopped by then. (On this thread.)"""
        if self._loop is not None:
            self._loop.call_later(delay_s, lambda: self._or_die(act) if self._running else None)

    def _campaign_if_leaderless(self, place: int, campaign: int, term: int) -> None:
        """Run for election, unless one has begun meanwhile; and look again later whether that came to nothing: who was
        asked did not know yet that the leader has ended, or two ran at once after all."""
        core = self.core
        if not self._running or core.leader != NONE or core.role in (Role.LEADER, Role.NOT_READY):
            return
        if core.term == term:
            self._or_die(core.campaign)
            self._turn()
        if campaign < limits.GONE_CAMPAIGNS_MAX:
            self._campaign_later(place + len(core.config.voters), campaign + 1)

    def _schedule(self) -> None:
        """There is work: one turn, soon. Everything that comes until then is in it."""
        loop = self._loop
        if loop is None:
            return
        if get_ident() == self._thread_id:
            loop.call_soon(self._turn)
        else:
            self._call_soon(self._turn)

    def _call_soon(self, callback: Callable[..., None], *arguments: object) -> None:
        """On the driver's thread, from another one. After the loop has ended: not at all."""
        if self._loop is None:
            return
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:
            if self._running:
                raise

    def _on_timer(self) -> None:
        self._turn()  # first: it moves `_next_tick`, or the timer would run out once more at once
        if self._running and self._loop is not None:
            self._timer = self._loop.call_later(max(0.0, self._next_tick - self._clock()), self._on_timer)

    def _turn(self) -> None:
        if self._running:
            self._or_die(self._one_turn)

    @staticmethod
    def _or_die(act: Callable[..., None], *arguments: object) -> None:
        """Every callback of the loop goes through here: it would log what one raises, and go on with half a turn."""
        try:
            act(*arguments)
        except StorageError as error:
            die(error)
        except Exception as error:  # top of the thread: a node without its driver is no node
            logger.exception("the driver failed")
            die(error)

    def remember_tail(self, entries: list[Entry]) -> None:
        self.tail.extend(entries)

    def _one_turn(self) -> None:
        core = self.core
        self.turn = next(self.turns)
        work = self._ingress.take()
        if self._apply.applied > self._told_applied:
            self._told_applied = self._apply.applied
            core.applied_to(self._told_applied)
        self._take(work)
        now = self._clock()
        if now >= self._next_tick:
            self._tick(now)
        if core.role is not Role.NOT_READY:
            self._proposer.run()
            self._reader.run()
        self._carry_out()
        place = (core.role, core.term, core.leader)
        if place != self._place or now >= self._next_sweep:
            self._notice(place, now)

    def _take(self, work: Work) -> None:
        core = self.core
        for message in work.messages:
            if self._recovery.admits(message):
                core.step(message)
        for sender, frame in work.frames:
            self._take_frame(sender, frame)
        for act in work.acts:
            act()
        self._proposer.take(work.proposals)
        self._reader.take(work.reads)

    def _take_frame(self, sender: int, frame: pb.PeerMessage) -> None:
        kind = frame.WhichOneof("message")
        if kind == "info":
            self._transport.keep_info(sender, frame.info, self.core.log.commit)
            self._recovery.heard(sender, frame.info)
            if frame.info.recovering:
                self.core.peer_lost_its_log(sender, frame.info.last_index)
        elif self.core.role is Role.NOT_READY:
            return
        elif kind == "forward":
            self._proposer.take_forward(sender, frame.forward)
        elif kind == "dropped":
            self._proposer.take_dropped(frame.dropped)
        elif kind == "read":
            self._reader.take_request(sender, frame.read)
        elif kind == "read_response":
            self._reader.take_response(frame.read_response)
        elif kind == "transfer":
            self._on_transfer(frame.transfer.to)

    def _tick(self, now: float) -> None:
        """As many ticks as are due, but no flood of them after the process stood still (SIGSTOP, a suspended host)."""
        due = int((now - self._next_tick) / self._tick_s) + 1
        if due > limits.DRIVER_TICKS_MAX:
            self.ticks_skipped += due - limits.DRIVER_TICKS_MAX
            due = limits.DRIVER_TICKS_MAX
            self._next_tick = now + self._tick_s
        else:
            self._next_tick += due * self._tick_s
        if not self._recovery.active:
            for _ in range(due):
                self.core.tick()
        self._on_work(now)

    def _carry_out(self) -> None:
        core = self.core
        while core.has_ready() and not self._disk.full:
            self._ready(core.ready())

    def _ready(self, ready: Ready) -> None:
        for message in ready.messages or ():
            self._send(message)
        if ready.entries:
            self._remember(ready.entries)
        if ready.snapshot is not None:
            self._restores[ready.number] = ready.snapshot
            self.tail.clear()
        if ready.must_persist or ready.messages_after_persist:
            self._disk.put(ready)
        if ready.committed:
            self._hand_over(ready.committed)
        if ready.reads or ready.failed_reads:
            self._reader.answered(ready.reads, ready.failed_reads)

    def _send(self, message: Message) -> None:
        if message.type is MessageType.SNAPSHOT:
            self._send_snapshot(message)
        elif not self._transport.send(message):
            self.core.report_unreachable(message.to)

    def _send_snapshot(self, message: Message) -> None:
        """The newest one there is, which may be newer than the core asked for."""
        files = self._snapshots.list()
        if not files:
            self.core.report_snapshot(message.to, ok=False)
            return
        newest: SnapshotFile = files[-1]
        to = message.to

        def done(ok: bool) -> None:
            self._ingress.put_act(lambda: self.core.report_snapshot(to, ok=ok))

        content = self._snapshots.read(newest, limits.SNAPSHOT_CHUNK_BYTES)
        if not self._transport.send_snapshot(to, message.term, newest, content, done):
            self.core.report_snapshot(to, ok=False)

    def written(self, readys: list[Ready]) -> None:
        """The disk thread made these durable. (Called on the disk thread.)"""
        self._call_soon(self._written, readys)

    def _written(self, readys: list[Ready]) -> None:
        """Now what depends on them may be sent."""
        if self._running:
            self._or_die(self._tell_written, readys)
            self._turn()

    def _tell_written(self, readys: list[Ready]) -> None:
        for ready in readys:
            for message in ready.messages_after_persist or ():
                self._send(message)
        self._persisted(readys[-1].number)

    def _persisted(self, number: int) -> None:
        core = self.core
        durable = [self._restores.pop(at) for at in sorted(self._restores) if at <= number]
        if durable and core.log.pending_snapshot <= durable[-1].index:
            # Else a newer one has come meanwhile: the core has gone past this one already.
            core.apply_snapshot_config(durable[-1].config)
            self._apply.put(self._membership.restore(durable[-1]))
        core.persisted(number)

    def _remember(self, entries: tuple[Entry, ...]) -> None:
        """Keep the tail for `/v1/log`; what was overwritten goes."""
        tail = self.tail
        while tail and tail[-1].index >= entries[0].index:
            tail.pop()
        tail.extend(entries)

    def _hand_over(self, committed: tuple[Entry, ...]) -> None:
        item = Committed(committed, sum(len(entry.data) for entry in committed))
        for entry in committed:
            if entry.kind is EntryKind.CONFIG:
                config = self.core.apply_change(entry)
                item.configs[entry.index] = (config, self._membership.changed(entry, config))
        self._apply.submit(item)

    def _notice(self, place: tuple[Role, int, int], now: float) -> None:
        """Publish where the core is; say in the log when it changed."""
        core = self.core
        self.beat = beat = Beat(core.status(), now)
        if now >= self._next_sweep:
            self._next_sweep = now + limits.DRIVER_SWEEP_MS / 1000
            self._proposer.sweep(now)
            self._reader.sweep(now)
        if place != self._place:
            was, self._place = self._place, place
            self._tell_move(was, beat.status)
        self._on_beat(beat)

    def _tell_move(self, was: tuple[Role, int, int], status: Status) -> None:
        role, term, leader = was
        if status.role is not role and status.role is Role.CANDIDATE:
            self.elections += 1
        if status.leader not in (leader, NONE):
            self.leader_changes += 1
        if (role, term) == (Role.LEADER, status.term) and status.role is Role.FOLLOWER and not status.leader:
            reason = "heard from no majority of the voters for an election timeout"
            logger.warning("leads no more: %s", reason if status.id in status.config.voters else "no longer a voter")
        logger.info(
            "%s in term %d, leader %s (was %s in term %d)",
            status.role.value,
            status.term,
            self._membership.name_of(status.leader) if status.leader else "not known",
            role.value,
            term,
        )
