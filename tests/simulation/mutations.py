"""Bugs that others shipped, put into the running product (never into its files): the simulator must find each.

`python -m tests.simulation.mutations` runs seeds against each until one fails, and prints how many it took. A mutation
that nobody finds is a hole in the simulator.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final
from unittest.mock import patch

from rich.console import Console
from rich.table import Table

import rocinante.raft.core
import rocinante.raft.follower
import rocinante.raft.quorum
import rocinante.raft.replication
import rocinante.raft.server
import rocinante.storage.leveldb
from rocinante.errors import Unavailable
from rocinante.node.disk import Disk
from rocinante.node.pending import Pending
from rocinante.node.proposing import Proposer
from rocinante.node.recovery import Recovery
from rocinante.node.requests import WaitingReads
from rocinante.node.snapshotter import Snapshotter
from rocinante.raft.core import Raft
from rocinante.raft.leader import Leader
from rocinante.raft.log import RaftLog
from rocinante.raft.reads import Reads
from rocinante.raft.replication import Replication
from rocinante.raft.server import Server
from rocinante.raft.types import Message, MessageType
from rocinante.state.sessions import Sessions

from .disk import SimDisk
from .simulation import run
from .world import SimulationFailure

SEEDS_MAX: Final = 1000

Change = tuple[Any, str, Any]
"""(object, attribute, what it is instead)."""


@dataclass(frozen=True, slots=True)
class Mutation:
    name: str
    changes: tuple[Change, ...]

    def seeds_needed(self, seeds_max: int = SEEDS_MAX) -> tuple[int, str]:
        """How many seeds until it is found (0: never), and by what."""
        with ExitStack() as stack:
            for target, name, value in self.changes:
                if isinstance(target, dict):
                    stack.enter_context(patch.dict(target, {name: value}))
                else:
                    stack.enter_context(patch.object(target, name, value))
            for seed in range(1, seeds_max + 1):
                try:
                    run(seed)
                except SimulationFailure as failure:
                    return seed, str(failure).splitlines()[0]
        return 0, "not found"


def _before(target: Any, name: str, act: Callable[..., None]) -> Change:
    """`act` runs first, with the same arguments."""
    original = getattr(target, name)

    def mutated(*arguments: Any, **more: Any) -> Any:
        act(*arguments, **more)
        return original(*arguments, **more)

    return target, name, mutated


def _after(target: Any, name: str, act: Callable[..., Any]) -> Change:
    """`act` gets the result and the arguments, and gives the result."""
    original = getattr(target, name)

    def mutated(*arguments: Any, **more: Any) -> Any:
        return act(original(*arguments, **more), *arguments, **more)

    return target, name, mutated


def _nothing(*_: Any, **__: Any) -> None:
    return


# --- the core


def _forget_vote(server: Raft, term: int, leader: int) -> None:
    server.vote = 0


def _commit_any_term(replication: Replication) -> None:
    replication.term_start = 1


def _count_unwritten(replication: Replication) -> None:
    replication.matches[replication.server.id] = replication.server.log.last_index


def _acknowledge_at_once(server: Server, leader: int, index: int) -> None:
    server.outbox.append(Message(MessageType.APPEND_RESPONSE, leader, server.id, server.term, log_index=index))


def _erase(log: RaftLog, entries: Any) -> None:
    if entries[0].index <= log.last_index:
        log._truncate(max(entries[0].index, log.commit + 1))


def _commit_to_last(server: Server, message: Message) -> None:
    rocinante.raft.follower.on_append(server, message)
    server.log.commit_to(min(message.commit, server.log.last_index))


def _commit_all(server: Server, message: Message) -> None:
    message.commit = max(message.commit, server.log.last_index)
    rocinante.raft.follower.on_heartbeat(server, message)


def _read_at_once(leader: Leader, context: int) -> None:
    leader.reads.add(context)


def _confirmed(reads: Reads, config: Any) -> Any:
    for peer in config.members:
        reads._acks[peer] = reads._last
    return _TAKE_CONFIRMED(reads, config)


def _half(voters: Any, matches: Any) -> int:
    held = sorted(matches.get(voter, 0) for voter in voters)
    return held[len(held) // 2] if held else (1 << 64) - 1


def _new_half_only(config: Any, matches: Any) -> int:
    return rocinante.raft.quorum.majority_commit(config.voters, matches)


def _restore_always(server: Server, message: Message) -> None:
    rocinante.raft.follower._follow(server, message)
    if message.snapshot is not None and message.snapshot.index > server.log.applied:
        server.log.commit = server.log.applied
        server.log.restore(message.snapshot)
        server.apply_snapshot_config(message.snapshot.config)


# --- the node


def _acknowledge_before_sync(disk: Disk, ready: Any) -> None:
    disk.on_written([ready])


def _commits_are_facts(recovery: Recovery) -> None:
    recovery.active = False


def _forget_target(recovery: Recovery) -> None:
    if recovery._infos:
        recovery._target = 1


def _certain(pending: Pending, proposal: Any, why: str = "") -> None:
    proposal.tries = 0


def _no_wait(waiting: WaitingReads, index: int, reads: Any, applied: int) -> Any:
    return reads


def _tries_one(pending: Pending, proposal: Any) -> None:
    proposal.tries = 1


def _never_again(proposer: Proposer) -> None:
    for proposal in proposer._pending.outstanding():
        if proposal.tries:
            proposal.future.set_exception(Unavailable("the leader changed"))
            proposer._pending._forget(proposal)


def _stale_freeze(snapshotter: Snapshotter) -> None:
    snapshotter._apply.applied -= 1


def _always_new(sessions: Sessions, session: int, seq: int, *_: Any) -> None:
    kept = sessions._outcomes.pop((session, seq), None)
    if kept is not None:
        known = sessions._sessions[session]
        known.seqs.remove(seq)
        sessions._bytes -= len(kept) + 128


_TAKE_CONFIRMED = Reads.take_confirmed
_AFTER_PERSIST = rocinante.raft.server.AFTER_PERSIST

MUTATIONS: Final = (
    Mutation("a vote is told before it is durable", (
        (rocinante.raft.server, "AFTER_PERSIST", _AFTER_PERSIST - {MessageType.VOTE_RESPONSE}),)),
    Mutation("term and vote are not written (PySyncObj #202)", (
        (Disk, "_must_sync", lambda _disk, ready: bool(ready.entries) or ready.snapshot is not None),)),
    Mutation("the vote is forgotten on stepping down in the same term (akka-raft #56)", (
        _before(Raft, "become_follower", _forget_vote),)),
    Mutation("a log that is behind gets votes (paper, 5.4.1)", (
        (RaftLog, "is_up_to_date", lambda *_: True),)),
    Mutation("an older term's entry is committed by counting (figure 8, PySyncObj #169)", (
        _before(Replication, "maybe_commit", _commit_any_term),)),
    Mutation("the leader counts itself before its disk has written (etcd #14370)", (
        _before(Replication, "maybe_commit", _count_unwritten),)),
    Mutation("an append is acknowledged before it is durable", (
        (rocinante.raft.follower, "_acknowledge", _acknowledge_at_once),)),
    Mutation("a late append erases good entries (WRaft #118)", (
        _before(RaftLog, "accept", _erase),)),
    Mutation("the commit index passes what the append confirmed", (
        (rocinante.raft.follower._HANDLERS, MessageType.APPEND, _commit_to_last),)),  # type: ignore[arg-type]
    Mutation("a heartbeat commits all that the follower has", (
        (rocinante.raft.follower._HANDLERS, MessageType.HEARTBEAT, _commit_all),)),  # type: ignore[arg-type]
    Mutation("half is a majority", (
        (rocinante.raft.quorum, "majority_commit", _half),)),
    Mutation("a joint configuration commits by its new half alone", (
        (rocinante.raft.replication, "joint_commit", _new_half_only),)),
    Mutation("a restored snapshot erases a newer log (etcd #1763)", (
        (rocinante.raft.follower._HANDLERS, MessageType.SNAPSHOT, _restore_always),)),  # type: ignore[arg-type]
    Mutation("a new leader reads before its first commit (etcd #7331)", (
        (Leader, "read_index", _read_at_once),)),
    Mutation("a leader reads without asking anybody (etcd #20418)", (
        (Reads, "take_confirmed", _confirmed),)),
    Mutation("a stale pre-candidate is not told the term (etcd #8501)", (
        (rocinante.raft.core, "refuse_stale_pre_vote", _nothing),)),
    Mutation("a snapshot's end is not noticed", (
        (Leader, "report_snapshot", _nothing),)),
    Mutation("a transfer that failed blocks the leader for ever", (
        (Leader, "_abort_transfer", _nothing),)),
    Mutation("the disk tells of a write before it is synced", (
        _before(SimDisk, "put", _acknowledge_before_sync),)),
    Mutation("a conflicting suffix stays in the stored log", (
        (rocinante.storage.leveldb, "_delete", _nothing),)),
    Mutation("a wiped node votes under its old id at once", (
        _before(Recovery, "check", _commits_are_facts),)),
    Mutation("a wiped node votes before it has what it may have acknowledged", (
        _before(Recovery, "_check", _forget_target),)),
    Mutation("what was tried is called certainly not done", (
        _before(Pending, "give_up", _certain),)),
    Mutation("a change of leader is called a refusal", (
        (Proposer, "_propose_again", _never_again),)),
    Mutation("a command of an ended session gets a new name whatever it was", (
        _before(Pending, "_retry_or_fail", _tries_one),)),
    Mutation("a follower reads before it has applied the read point", (
        (WaitingReads, "add", _no_wait),)),
    Mutation("a retried request is applied twice", (
        _before(Sessions, "begin", _always_new),)),
    Mutation("a snapshot says that it is one entry older than it is", (
        _before(Snapshotter, "_freeze", _stale_freeze), )),
    Mutation("snapshots forget what sessions had done", (
        _after(Sessions, "keep", lambda kept, _sessions: (kept[0], [])),)),
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutations", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS_MAX, metavar="N", help="for each, at most")
    parser.add_argument("--only", default="", metavar="TEXT", help="those whose name contains it")
    chosen = parser.parse_args()
    console = Console()
    table = Table("bug", "seeds", "found by")
    missed = 0
    for mutation in MUTATIONS:
        if chosen.only in mutation.name:
            seeds, what = mutation.seeds_needed(chosen.seeds)
            missed += not seeds
            console.print(f"{seeds or 'NOT FOUND':>9}  {mutation.name}: {what[:160]}", markup=False, highlight=False)
            table.add_row(mutation.name, str(seeds or "-"), what[:80])
    console.print(table)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
