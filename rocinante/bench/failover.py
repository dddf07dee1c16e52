"""`rocinante bench failover`: the leader is killed with SIGKILL, again and again, while a writer goes on at a rate.

Contract. The writer is `client.flows.writer()`, as applications have it: flows 0 to `table` in turns, and in each
record how many times its flow was written (its stamp). A watcher reads every change from before the first write to
after the last one. What is proved: **lost** counts flows of which a node, asked for itself at the end, has an older
stamp than the last one that was acknowledged; **twice** counts changes that came again, or after a later one of their
flow. Where the watcher could not follow, the stretches that it did not see are counted, and `twice` is worth that much
less.

A round's gap is the longest time without an acknowledgement from the kill until the killed node is started again; the
gap while it comes back is given apart.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rocinante.bench.bounds import BENCH_POLL_S, BENCH_READY_TIMEOUT_S, BENCH_WATCH_END_S, BENCH_WRITE_TIMEOUT_S
from rocinante.bench.crew import Control, Crew
from rocinante.bench.flows import FlowPlan
from rocinante.bench.measured import Latency, longest_gap_s
from rocinante.bench.own import OwnCluster
from rocinante.bench.records import Pattern
from rocinante.bench.running import Progress, fresh
from rocinante.bench.watch import close_at
from rocinante.client import Client, EventKind, FlowWatch, PutFlowsResult
from rocinante.errors import Internal, OutOfRange, RocinanteError

__all__ = ["Failover", "Round", "run"]

_READ_KEYS: Final = 8_192
_REFUSED_S: Final = 5.0
"""A place of the log that no watch is given for so long is lost to it."""
_SETTLE_S: Final = 1.0
"""Between the end of a round and the next kill."""


@dataclass(slots=True)
class Written:
    """What the writer knows at the end."""

    acknowledged: NDArray[np.int64]
    """By number of the flow: the highest stamp that was acknowledged, 0: none."""
    due_s: list[float]
    ended_s: list[float]
    """Of each put that was acknowledged."""
    errors: list[str]
    last_index: int
    records: int
    retries: int


@dataclass(frozen=True, slots=True)
class RateLoad:
    """A job: `client.flows.writer()` at a rate, an open loop."""

    endpoints: tuple[str, ...]
    plan: FlowPlan

    @property
    def name(self) -> str:
        return "the writer"

    def work(self, control: Control) -> Written:
        plan, supply = self.plan, self.plan.supply(request=False)
        turns = plan.batches_of_table
        supply.prepare(itertools.count())
        written = Written(np.zeros(plan.table, np.int64), [], [], [], 0, 0, 0)
        lock = threading.Lock()
        assert plan.rate is not None
        interval_s = plan.batch / plan.rate
        with Client(self.endpoints, timeout_s=BENCH_WRITE_TIMEOUT_S) as client:
            client.cluster.members()
            # It packs what it sends, whatever it is given.
            with client.flows.writer(timeout_s=BENCH_WRITE_TIMEOUT_S) as writer:
                control.ready()
                due_s, turn = time.monotonic(), 0
                while not control.stopping.is_set():
                    if (pause_s := due_s - time.monotonic()) > 0:
                        control.stopping.wait(pause_s)
                    first, stamp = turn % turns * plan.batch, turn // turns + 1
                    note = _Acknowledged(written, lock, slice(first, first + plan.batch), stamp, due_s)
                    writer.submit(supply.take(turn, stamp)).add_done_callback(note)
                    turn, due_s = turn + 1, due_s + interval_s
                    control.note(turn * plan.batch)
                try:
                    writer.flush()
                except RocinanteError as error:
                    written.errors.append(error.message)
                written.retries = writer.counters.retries
        written.records = turn * plan.batch
        return written


@dataclass(frozen=True, slots=True)
class _Acknowledged:
    """Told of the end of one put."""

    written: Written
    lock: threading.Lock
    flows: slice
    stamp: int
    due_s: float

    def __call__(self, future: Future[PutFlowsResult]) -> None:
        error, now_s = future.exception(), time.monotonic()
        with self.lock:
            if error is not None:
                self.written.errors.append(str(error))
                return
            known = self.written.acknowledged[self.flows]
            np.maximum(known, self.stamp, out=known)
            self.written.due_s.append(self.due_s)
            self.written.ended_s.append(now_s)
            self.written.last_index = max(self.written.last_index, future.result().index)


@dataclass(slots=True)
class Checked:
    """What the watcher saw."""

    changes: int
    twice: int
    unseen: int
    """Stretches of the log that it could not see."""
    reached: int
    refused: int = 0
    """How often a watch that went on at another node was refused, and taken a moment later: nothing was missed."""


@dataclass(frozen=True, slots=True)
class Checker:
    """A job: reads every change, and counts those that came twice. Its parent's last word is the index to come to."""

    endpoints: tuple[str, ...]
    plan: FlowPlan

    @property
    def name(self) -> str:
        return "the checker"

    def work(self, control: Control) -> Checked:
        seen = Checked(0, 0, 0, 0)
        last = np.zeros(self.plan.table, np.int64)
        refused_at, refused_s = -1, 0.0
        with Client(self.endpoints, timeout_s=BENCH_WRITE_TIMEOUT_S) as client:
            seen.reached = client.cluster.status().applied
            control.ready()
            while True:
                with client.flows.watch(from_index=seen.reached, batches=True) as changes:
                    close_at(control, changes)
                    try:
                        self._read(changes, last, seen)
                    except OutOfRange:
                        # A node that has not applied as much as was read elsewhere says this, too: ask again from the
                        # same place. Only what is refused for long is no longer kept.
                        if changes.index != refused_at:
                            refused_at, refused_s = changes.index, time.monotonic()
                        seen.reached = changes.index
                        if time.monotonic() - refused_s < _REFUSED_S:
                            seen.refused += 1
                            time.sleep(BENCH_POLL_S)
                            continue
                        seen.unseen += 1
                        seen.reached = max(seen.reached, client.cluster.status().applied)
                        continue
                    seen.reached = changes.index
                    return seen

    def _read(self, changes: FlowWatch, last: NDArray[np.int64], seen: Checked) -> None:
        pattern = self.plan.pattern()
        for change in changes:
            if change.kind is EventKind.PUT and change.batch:
                numbers, stamps = pattern.read(change.batch)
                seen.twice += int((stamps <= last[numbers]).sum())
                seen.changes += len(numbers)
                last[numbers] = stamps


@dataclass(frozen=True, slots=True)
class Round:
    """One kill. Times in seconds."""

    killed: str
    gap_s: float
    """The longest time without an acknowledgement while the killed node was down."""
    rejoin_gap_s: float
    """The same while it came back."""
    rejoin_s: float
    """From its start until it had caught up with what was committed then."""


@dataclass(frozen=True, slots=True)
class Failover:
    """What it all came to."""

    plan: FlowPlan
    rounds: list[Round]
    lost: int
    twice: int
    unseen: int
    acknowledged: int
    """Puts."""
    errors: list[str]
    per_second: float
    latency: Latency
    retries: int
    changes: int
    refused: int

    @property
    def passed(self) -> bool:
        return not (self.lost or self.twice or self.unseen or self.errors) and self.acknowledged > 0


def run(own: OwnCluster, plan: FlowPlan, rounds: int, down_s: float, progress: Progress) -> Failover:
    """Raises Unavailable, and Internal when the nodes differ at the end."""
    plan = fresh(plan)
    with Crew([Checker(own.endpoints, plan)]) as checker, Crew([RateLoad(own.endpoints, plan)]) as load:
        checker.go()
        load.go()
        began_s = time.monotonic()
        _until_written(load, 2 * plan.batch)
        kills = [_kill(own, load, down_s, number, rounds, progress) for number in range(rounds)]
        load.stop()
        ended_s = time.monotonic()
        (written,) = load.results(timeout_s=BENCH_WRITE_TIMEOUT_S + BENCH_READY_TIMEOUT_S)
        checker.stop(written.last_index)
        progress("reading what was written", rounds, rounds, "")
        (checked,) = checker.results(timeout_s=2 * BENCH_WATCH_END_S)
    unseen = checked.unseen + (checked.reached < written.last_index)
    return Failover(
        plan=plan,
        rounds=[_round(kill, written.ended_s) for kill in kills],
        lost=_lost(own, plan.pattern(), written),
        twice=checked.twice,
        unseen=unseen,
        acknowledged=len(written.ended_s),
        errors=written.errors,
        per_second=len(written.ended_s) * plan.batch / (ended_s - began_s),
        latency=Latency.of(np.array(written.ended_s) - np.array(written.due_s)),
        retries=written.retries,
        changes=checked.changes,
        refused=checked.refused,
    )


@dataclass(frozen=True, slots=True)
class _Kill:
    name: str
    at_s: float
    started_s: float
    back_s: float


def _kill(own: OwnCluster, load: Crew, down_s: float, number: int, rounds: int, progress: Progress) -> _Kill:
    """Kill the leader, start it again after a while, and wait until it has caught up."""

    def told(what: str) -> None:
        load.notes()
        progress(f"round {number + 1} of {rounds}: {what}", number, rounds, "")

    name = own.wait_leader()
    told(f"{name} is killed")
    at_s = time.monotonic()
    own.kill(name)
    while time.monotonic() < at_s + down_s:
        told(f"{name} is down")
    leader = own.wait_leader()
    started_s = time.monotonic()
    own.start(name)
    own.wait_ready(name)
    own.wait_applied(name, own.applied(leader))
    told(f"{name} is back")
    back_s = time.monotonic()
    while time.monotonic() < back_s + _SETTLE_S:
        told("all are there")
    return _Kill(name, at_s, started_s, back_s)


def _round(kill: _Kill, ended_s: Sequence[float]) -> Round:
    return Round(
        kill.name,
        longest_gap_s(ended_s, kill.at_s, kill.started_s),
        longest_gap_s(ended_s, kill.started_s, kill.back_s),
        kill.back_s - kill.started_s,
    )


def _until_written(load: Crew, records: int) -> None:
    """The load has begun."""
    deadline_s = time.monotonic() + BENCH_READY_TIMEOUT_S
    while (load.notes()[0] or 0) < records and time.monotonic() < deadline_s:
        time.sleep(BENCH_POLL_S)


def _lost(own: OwnCluster, pattern: Pattern, written: Written) -> int:
    """Flows of which a node has less than was acknowledged; all nodes must have the same state."""
    lost = np.zeros(len(written.acknowledged), bool)
    index = max(own.applied(name) for name in own.nodes)
    with Client(own.endpoints, timeout_s=BENCH_WRITE_TIMEOUT_S) as client:
        for name, node in own.nodes.items():
            own.wait_applied(name, index)
            for first in range(0, len(lost), _READ_KEYS):
                numbers = np.arange(first, min(first + _READ_KEYS, len(lost)))
                answer = client.flows.get_many(pattern.keys(numbers), stale=True, endpoint=node.endpoint)
                stamps = np.zeros(len(numbers), np.int64)
                for batch in (answer.packed.batch, answer.packed.variable):
                    if batch:
                        found, theirs = pattern.read(batch)
                        stamps[found - first] = theirs
                lost[numbers] |= stamps < written.acknowledged[numbers]
        _same_state(own, client)
    return int(lost.sum())


def _same_state(own: OwnCluster, client: Client) -> None:
    """All nodes have the same state at one index. The cluster itself writes now and then: then they are asked again."""
    seen: dict[int, bytes] = {}
    deadline_s = time.monotonic() + BENCH_READY_TIMEOUT_S
    indexes: set[int] = set()
    while len(indexes) != 1:
        if time.monotonic() > deadline_s:
            raise Internal("the nodes could not be asked for their state at one index")
        index = max(own.applied(name) for name in own.nodes)
        found = [
            client.admin.digest(index, endpoint=node.endpoint, timeout_s=BENCH_WRITE_TIMEOUT_S)
            for node in own.nodes.values()
        ]
        indexes = {one.index for one in found}
        for one in found:
            if seen.setdefault(one.index, one.digest) != one.digest:
                raise Internal(f"the nodes differ after entry {one.index}")
