"""A NodePort without Raft: the real state machine behind a queue and a thread of its own.

Why not the real node: services, REST, client and command line are about the way in and out. What they must get right
is independent of how a command was agreed, and with this they are tested over real sockets in milliseconds, without
processes, elections and disks. Nothing of the state machine is imitated; the states a cluster can be in (busy, slow,
not ready, without a leader) are switched on by the `be_*` methods. Scenarios about consensus belong to the tests of
the node.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from hashlib import blake2b
from typing import NamedTuple

from rocinante import identity, limits
from rocinante.errors import (
    AlreadyExists,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    OutcomeUnknown,
    OutOfRange,
    ResourceExhausted,
    RocinanteError,
    Unavailable,
)
from rocinante.flows.batch import Buffer
from rocinante.node.applied import point_at
from rocinante.node.requests import WaitingReads
from rocinante.ports import (
    LogLine,
    Member,
    NodeStatus,
    Outcome,
    PeerView,
    ReadPoint,
    SessionRef,
    SnapshotInfo,
)
from rocinante.state import command
from rocinante.state.command import Kind
from rocinante.state.events import AppliedEvents
from rocinante.state.machine import Result, StateMachine
from tests.support.local_watch import LocalWatch

TERM = 2
LOG_LINES_MAX = 1000


class _Proposal(NamedTuple):
    data: bytes
    kind: Kind
    future: Future[Outcome]
    deadline_s: float


class _Read(NamedTuple):
    future: Future[ReadPoint]
    deadline_s: float


class LocalNode:
    """The node of a cluster that has agreed on everything already. Use it as a context manager, or call `close`."""

    def __init__(
        self,
        *,
        name: str = "node1",
        address: str = "127.0.0.1",
        port: int = 35001,
        rest: int = 8001,
        cluster: str = "test",
        datacenter: str = "dc1",
        ingress_max: int = limits.INGRESS_PROPOSALS_MAX,
        watch_events_max: int = limits.WATCH_QUEUE_EVENTS_MAX,
    ) -> None:
        self.member = Member(identity.server_id(address, port), name, address, port, rest)
        self.cluster, self.datacenter = cluster, datacenter
        self.cluster_id = identity.cluster_id(cluster, datacenter)
        self.state_machine = StateMachine()
        self.ingress_max = ingress_max
        self.watch_events_max = watch_events_max
        self.term = TERM
        self.leader = self.member.id
        self.stopped = threading.Event()
        """Set by `stop()`, so that a test sees that it was asked for."""
        self.on_grpc: Callable[[bool], None] | None = None
        """Called by `set_grpc`, as the real node switches its server."""
        self.proposals = 0
        """How many were accepted into the queue."""
        self._members: dict[int, Member] = {self.member.id: self.member}
        self._grpc_enabled = True
        self._not_ready_reason = ""
        self._refusal: RocinanteError | None = None
        self._held = False
        self._closing = False
        self._index = 0
        self._started_s = time.monotonic()
        self._condition = threading.Condition()
        self._proposals: deque[_Proposal] = deque()
        self._reads: deque[_Read] = deque()
        self._lines: deque[LogLine] = deque(maxlen=LOG_LINES_MAX)
        self._history: deque[AppliedEvents] = deque(maxlen=limits.WATCH_HISTORY_ENTRIES_MAX)
        self._history_from = 0
        self._applied_waits = WaitingReads()
        self._applied_deadlines: list[float] = []
        self._watches: list[LocalWatch] = []
        self._gateway = SessionRef(self.member.id, 0)
        self._gateway_acked = 1
        self._snapshot_index = 0
        self._apply_entry(b"", [])
        opening = command.encode(Kind.SESSION_OPEN, self._gateway.session, 0, 0, b"")
        self._apply_entry(command.pack([opening]), [Kind.SESSION_OPEN])
        self._thread = threading.Thread(target=self._run, name="apply", daemon=True)
        self._thread.start()

    def __enter__(self) -> LocalNode:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the thread; what is waiting fails with Unavailable."""
        with self._condition:
            self._closing = True
            self._condition.notify_all()
        self._thread.join()

    # --- the states a cluster can be in

    def be_refusing(self, error: RocinanteError) -> None:
        """Everything that needs the cluster is refused with `error`."""
        self._refusal = error

    def be_not_ready(self, reason: str = "replaying the log") -> None:
        self._not_ready_reason = reason
        self._refusal = Unavailable(f"not ready: {reason}")

    def be_without_leader(self) -> None:
        self.leader = 0
        self._refusal = Unavailable("no leader within the time")

    def be_slow(self) -> None:
        """Accept, but carry nothing out until `be_normal`: the queue fills, and deadlines pass."""
        with self._condition:
            self._held = True
            self._condition.notify_all()

    def be_normal(self) -> None:
        with self._condition:
            self._refusal = None
            self._not_ready_reason = ""
            self._held = False
            self.leader = self.leader or self.member.id
            self._condition.notify_all()

    # --- NodePort

    @property
    def state(self) -> StateMachine:
        return self.state_machine

    def propose(
        self, kind: Kind, body: bytes, *, session: SessionRef | None = None, timeout_s: float | None = None
    ) -> Future[Outcome]:
        future: Future[Outcome] = Future()
        deadline_s = time.monotonic() + (limits.REQUEST_TIMEOUT_S if timeout_s is None else timeout_s)
        with self._condition:
            self._check()
            if len(self._proposals) >= self.ingress_max:
                raise ResourceExhausted(f"the ingress buffer is full ({self.ingress_max} proposals)")
            if session is None and kind in (Kind.CLOCK, Kind.FLOW_EXPIRE):
                session = SessionRef(0, 0)
            elif session is None:
                self._gateway = SessionRef(self._gateway.session, self._gateway.seq + 1, self._gateway_acked)
                session = self._gateway
            data = command.encode(kind, session.session, session.seq, session.ack, body)
            self._proposals.append(_Proposal(data, kind, future, deadline_s))
            self.proposals += 1
            self._condition.notify_all()
        return future

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def prepare_flows(self, batch: Buffer) -> Buffer:
        """As with `flows.timeouts: off`: what is tested with this node finds the records that it wrote."""
        return batch

    def read(self, *, linearizable: bool = True, timeout_s: float | None = None) -> Future[ReadPoint]:
        future: Future[ReadPoint] = Future()
        if not linearizable:
            future.set_result(ReadPoint(self._index, 0))
            return future
        deadline_s = time.monotonic() + (limits.REQUEST_TIMEOUT_S if timeout_s is None else timeout_s)
        with self._condition:
            self._check()
            if len(self._reads) >= limits.INGRESS_READS_MAX:
                raise ResourceExhausted("the read buffer is full")
            self._reads.append(_Read(future, deadline_s))
            self._condition.notify_all()
        return future

    def wait_applied(self, index: int, *, timeout_s: float | None = None) -> Future[ReadPoint]:
        deadline_s = time.monotonic() + (limits.REQUEST_TIMEOUT_S if timeout_s is None else timeout_s)
        with self._condition:
            self._check()
            self._applied_deadlines.append(deadline_s)
            self._condition.notify_all()
            return point_at(self._applied_waits, lambda: self._index, index, deadline_s)

    def watch(self, from_index: int = 0) -> LocalWatch:
        if self._not_ready_reason:
            raise Unavailable(f"not ready: {self._not_ready_reason}")
        with self._condition:
            if len(self._watches) >= limits.WATCHERS_MAX:
                raise ResourceExhausted(f"there are {limits.WATCHERS_MAX} watchers already")
            if from_index > self._index:
                raise OutOfRange(f"from_index: {from_index} is not applied yet (the last is {self._index})")
            history = [events for events in self._history if from_index and events.index > from_index]
            if from_index and from_index < self._history_from:
                raise OutOfRange(f"from_index: what follows {from_index} is not kept any more")
            watch = LocalWatch(self.forget_watch, history, self.watch_events_max)
            self._watches.append(watch)
            self._condition.notify_all()
            return watch

    def forget_watch(self, watch: LocalWatch) -> None:
        with self._condition:
            if watch in self._watches:
                self._watches.remove(watch)
                self._condition.notify_all()

    def forget_history(self) -> None:
        """Keep no events of what is applied: a watch can only begin here, as after many more entries."""
        with self._condition:
            self._history.clear()
            self._history_from = self._index

    def wait_until(self, holds: Callable[[], bool], timeout_s: float) -> bool:
        """Wait for something that changes with a proposal or a watch."""
        with self._condition:
            return self._condition.wait_for(holds, timeout_s)

    @property
    def watchers(self) -> int:
        return len(self._watches)

    def status(self) -> NodeStatus:
        role = "not_ready" if self._not_ready_reason or not self._grpc_enabled else "follower"
        if role == "follower" and self.leader == self.member.id:
            role = "leader"
        reason = self._not_ready_reason or ("" if self._grpc_enabled else "gRPC is switched off")
        peers = tuple(
            PeerView(member, connected=True, heard_ms=3, state="replicate", match=self._index, role="follower")
            for member in self._members.values()
            if member.id != self.member.id
        )
        return NodeStatus(
            id=self.member.id,
            name=self.member.name,
            address=self.member.address,
            port=self.member.port,
            rest=self.member.rest,
            role=role,
            term=self.term,
            leader=self.leader,
            commit=self._index,
            applied=self._index,
            last_index=self._index,
            first_index=self._snapshot_index + 1,
            revision=self.state_machine.revision,
            keys=self.state_machine.keys_count(),
            flows=self.state_machine.flows_count(),
            storage="memory",
            cluster=self.cluster,
            datacenter=self.datacenter,
            cluster_id=self.cluster_id,
            uptime_ms=int((time.monotonic() - self._started_s) * 1000),
            grpc_enabled=self._grpc_enabled,
            not_ready_reason=reason,
            peers=peers,
            snapshot_index=self._snapshot_index,
        )

    def members(self) -> tuple[tuple[Member, ...], bool]:
        return tuple(self._members.values()), False

    def add_member(self, member: Member, *, voter: bool) -> Future[int]:
        with self._condition:
            self._check()
            if member.id in self._members:
                raise AlreadyExists(f"a member with the address {member.endpoint} is there already")
            self._members[member.id] = replace(member, learner=not voter)
            return self._config_change()

    def promote_member(self, identifier: int) -> Future[int]:
        with self._condition:
            self._check()
            member = self._member(identifier)
            if not member.learner:
                raise FailedPrecondition(f"id: {member.name} is a voter already")
            self._members[identifier] = replace(member, learner=False)
            return self._config_change()

    def remove_member(self, identifier: int) -> Future[int]:
        with self._condition:
            self._check()
            self._member(identifier)
            if len(self._members) == 1:
                raise FailedPrecondition("id: the last member cannot be removed")
            del self._members[identifier]
            return self._config_change()

    def transfer_leader(self, to: int = 0) -> Future[int]:
        with self._condition:
            self._check()
            target = self._member(to) if to else next((m for m in self._members.values() if m.id != self.leader), None)
            if target is None or target.learner:
                raise FailedPrecondition("to: there is no other voter")
            self.leader = target.id
            self.term += 1
        future: Future[int] = Future()
        future.set_result(target.id)
        return future

    def set_grpc(self, enabled: bool) -> None:
        self._grpc_enabled = enabled
        if self.on_grpc is not None:
            self.on_grpc(enabled)

    def stop(self) -> None:
        self.stopped.set()

    def snapshot(self) -> Future[SnapshotInfo]:
        info, _ = self.save()
        self._snapshot_index = info.index
        future: Future[SnapshotInfo] = Future()
        future.set_result(info)
        return future

    def save(self) -> tuple[SnapshotInfo, Iterator[bytes]]:
        with self.state_machine.freeze() as frozen:
            chunks = list(frozen.chunks(limits.SNAPSHOT_CHUNK_BYTES))
        digest = blake2b(b"".join(chunks), digest_size=32).digest()
        return SnapshotInfo(frozen.index, frozen.term, sum(map(len, chunks)), digest), iter(chunks)

    def log(self, last: int, *, committed: bool = False) -> Sequence[LogLine]:
        return list(self._lines)[-last:] if last else []

    def digest(self, at_index: int = 0) -> Future[tuple[int, bytes, int]]:
        future: Future[tuple[int, bytes, int]] = Future()
        with self._condition:
            if at_index > self._index:
                future.set_exception(OutOfRange(f"at_index: {at_index} is not applied yet (the last is {self._index})"))
            else:
                with self.state_machine.freeze() as frozen:
                    future.set_result((frozen.index, frozen.digest(), frozen.revision))
        return future

    def metrics(self) -> dict[str, float]:
        return {"raft_term": float(self.term), "raft_applied_index": float(self._index)}

    # --- inside

    def _check(self) -> None:
        if self._closing:
            raise Unavailable("the node is stopping")
        if self._refusal is not None:
            raise self._refusal

    def _member(self, identifier: int) -> Member:
        if not identifier:
            raise InvalidArgument("id", "is 0; expected the id of a member")
        try:
            return self._members[identifier]
        except KeyError:
            raise NotFound(f"id: {identity.format_id(identifier)} is not a member") from None

    def _config_change(self) -> Future[int]:
        self._index += 1
        self._lines.append(LogLine(self._index, self.term, "config", 32, (), True))
        future: Future[int] = Future()
        future.set_result(self._index)
        return future

    def _run(self) -> None:
        while True:
            with self._condition:
                if not self._has_work():
                    self._condition.wait(timeout=self._patience_s())
                if self._closing:
                    self._fail_all(Unavailable("the node is stopping"))
                    return
                self._fail_overdue()
                if self._held:
                    continue
                if not self._proposals and not self._reads:
                    continue
                batch = [self._proposals.popleft() for _ in range(min(len(self._proposals), limits.ENTRY_COMMANDS_MAX))]
                reads = list(self._reads)
                self._reads.clear()
                done = self._apply_batch(batch) if batch else []
                point = ReadPoint(self._index, 0)
            for future, value in done:
                _complete(future, value)
            for read in reads:
                _complete(read.future, point)

    def _has_work(self) -> bool:
        return self._closing or (not self._held and bool(self._proposals or self._reads))

    def _patience_s(self) -> float | None:
        waiting = [item.deadline_s for item in self._waiting()] if self._held else []
        waiting += self._applied_deadlines
        return max(0.0, min(waiting) - time.monotonic()) if waiting else None

    def _fail_overdue(self) -> None:
        now_s = time.monotonic()
        self._applied_waits.give_up_late(now_s)
        self._applied_deadlines = [deadline_s for deadline_s in self._applied_deadlines if deadline_s > now_s]
        for item in self._waiting():
            if item.deadline_s <= now_s:
                _complete(item.future, OutcomeUnknown("the time is up; it may still happen"))
        self._proposals = deque(item for item in self._proposals if item.deadline_s > now_s)
        self._reads = deque(item for item in self._reads if item.deadline_s > now_s)

    def _waiting(self) -> list[_Proposal | _Read]:
        return [*self._proposals, *self._reads]

    def _fail_all(self, error: RocinanteError) -> None:
        for item in self._waiting():
            _complete(item.future, error)
        for watch in self._watches:
            watch.fail(error)

    def _apply_batch(self, batch: list[_Proposal]) -> list[tuple[Future[Outcome], Outcome | RocinanteError]]:
        results = self._apply_entry(command.pack(item.data for item in batch), [item.kind for item in batch])
        self._gateway_acked = self._gateway.seq + 1 if not self._proposals else self._gateway_acked
        if len(results) != len(batch):
            raise AssertionError(f"{len(batch)} commands had {len(results)} outcomes")
        return [
            (item.future, result if isinstance(result, RocinanteError) else Outcome(self._index, self.term, result))
            for item, result in zip(batch, results, strict=True)
        ]

    def _apply_entry(self, data: bytes, kinds: list[Kind]) -> list[Result | RocinanteError]:
        self._index += 1
        applied = self.state_machine.apply(self._index, self.term, data)
        kind = "commands" if data else "noop"
        for read in self._applied_waits.applied(self._index):
            _complete(read.future, ReadPoint(self._index, 0))
        names = tuple(kind.name.lower() for kind in kinds)
        self._lines.append(LogLine(self._index, self.term, kind, len(data), names, True))
        if applied.events is not None:
            if len(self._history) == self._history.maxlen:
                self._history_from = self._history[0].index
            self._history.append(applied.events)
            for watch in list(self._watches):
                watch.offer(applied.events)
        return [outcome.result for outcome in applied.outcomes]


def _complete(future: Future[Outcome] | Future[ReadPoint], value: object) -> None:
    if not future.set_running_or_notify_cancel():
        return
    if isinstance(value, BaseException):
        future.set_exception(value)
    elif isinstance(value, Outcome | ReadPoint):
        future.set_result(value)  # type: ignore[arg-type]
    else:
        future.set_exception(Internal(f"unexpected outcome {value!r}"))
