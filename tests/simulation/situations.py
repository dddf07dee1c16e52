"""Looks at the running product for situations that are worth reaching (`named.SITUATIONS`), and counts them.

Each probe wraps one function of the product, for as long as a simulation lives: it sees the arguments (before) or the
result (after), changes nothing, and says the name of the situation or "". Only what is seldom called is looked at, so
that the probes cost little. (Where the product finds a function in a table, a function below that is looked at.)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

import rocinante.raft.core
import rocinante.raft.follower
from rocinante.errors import ResourceExhausted, SessionExpired
from rocinante.node.membership import Membership
from rocinante.node.pending import Pending
from rocinante.node.proposing import Proposer
from rocinante.node.receiving import Receiver
from rocinante.node.recovery import Recovery
from rocinante.node.requests import Ingress, WaitingReads
from rocinante.node.switch import Switch
from rocinante.raft.core import Raft
from rocinante.raft.leader import Leader
from rocinante.raft.log import RaftLog
from rocinante.raft.progress import Progress, ProgressState
from rocinante.raft.reads import Reads
from rocinante.raft.replication import Replication
from rocinante.raft.rotation import Act, Rotation
from rocinante.raft.types import (
    NONE,
    InvalidChange,
    MessageType,
    ProposalDropped,
    RaftError,
    ReadNotPossible,
    Role,
    TransferRefused,
)
from rocinante.state.sessions import Sessions
from rocinante.storage.leveldb import LevelDbLog

from .named import REACHED
from .world import World

Look = Callable[..., str]
Probe = tuple[Any, Any, Look]
"""(object or table, attribute or key, what to say)."""
Change = tuple[Any, Any, Any]

# --- before: with the arguments


def _truncate(log: RaftLog, index: int) -> str:
    if any(at >= index for at in log.config_indexes):
        return "a change of the membership is overwritten by another leader"
    return "conflicting suffix truncated"


def _restore(log: RaftLog, snapshot: Any) -> str:
    return "snapshot replaced a conflicting log" if log.last_index >= snapshot.index else "snapshot jumped over a gap"


def _fast_forward(server: Any, message: Any) -> str:
    log, snapshot = server.log, message.snapshot
    if snapshot.index <= log.commit:
        return "old snapshot ignored"
    return "snapshot only moves the commit" if log.matches(snapshot.index, snapshot.term) else ""


def _abort_transfer(leader: Leader) -> str:
    return "transfer given up" if leader.transferee != NONE else ""


def _accepted(replication: Replication, peer: Progress, index: int) -> str:
    if peer.state is ProgressState.SNAPSHOT:
        return "appends go on before the end of the snapshot is known"
    return "late acknowledgement" if index < peer.match else ""


def _heartbeat_answer(replication: Replication, peer: Progress) -> str:
    if peer.held and peer.state is ProgressState.REPLICATE:
        return "full window opened by a heartbeat's answer"
    return "probe repeated by a heartbeat's answer" if peer.held and peer.state is ProgressState.PROBE else ""


def _rejected(replication: Replication, peer: Progress, message: Any) -> str:
    if peer.state is ProgressState.REPLICATE:
        return "append refused while replicating"
    return "back-off over several entries" if message.log_index - message.hint_index > 1 else "back-off by one entry"


def _start_over(progress: Progress, last_index: int) -> str:
    return "leader forgets what a wiped peer had acknowledged"


def _become_leader(raft: Raft) -> str:
    return "leader elected with the votes of a joint configuration" if raft.config.joint else ""


def _become_follower(raft: Raft, term: int, leader: int) -> str:
    if raft.role is Role.LEADER and term > raft.term:
        return "leader deposed by a higher term"
    if raft.role is Role.CANDIDATE and term == raft.term and leader != NONE:
        return "candidate yields to the leader of its term"
    return "candidate lost" if raft.role is Role.CANDIDATE and term == raft.term else ""


def _start_election(raft: Raft, *, force: bool = False) -> str:
    if not raft.promotable:
        return "no voter does not campaign"
    if raft.log.has_config_between(raft.log.applied, raft.log.commit):
        return "an unapplied change keeps from campaigning"
    if force:
        return "leadership handed over"
    return "split vote, another election" if raft.role is Role.CANDIDATE else ""


def _answer_lower(raft: Raft, message: Any) -> str:
    return "leader of an old term is told" if message.type in (MessageType.APPEND, MessageType.HEARTBEAT) else ""


def _inherit(leader: Leader) -> str:
    log = leader.server.log
    if any(index > log.commit for index in log.config_indexes):
        return "leader inherits an uncommitted change"
    return "leader inherits uncommitted entries" if log.last_index > log.commit else ""


# --- after: with the result, then the arguments


def _begin(kept: bytes | None, *_: Any) -> str:
    return "retry answered from the session's memory" if kept is not None else ""


def _admits(admitted: bool, *_: Any) -> str:
    return "" if admitted else "vote after a wipe withheld"


def _fail_all(failed: list[int], *_: Any) -> str:
    return "read refused for lost leadership" if failed else ""


def _check_quorum(held: bool, *_: Any) -> str:
    return "" if held else "leader steps down without a quorum"


def _rotated(act: Act, *_: Any) -> str:
    return {
        Act.DRAIN: "rotation drains",
        Act.HOLD: "rotation holds heartbeats",
        Act.RESUME: "rotation resumes, for nobody took over",
        Act.TRANSFER: "rotation by transfer",
    }.get(act, "")


def _waits(ready: list[Any], waiting: Any, index: int, reads: list[Any], applied: int) -> str:
    return "read waits for the state to be applied" if reads and not ready else ""


def _refused(answer: None, *_: Any) -> str:
    return "pre-candidate with a stale term is told"


def _applied_change(config: Any, raft: Raft, entry: Any) -> str:
    if raft.role is Role.FOLLOWER and raft.leader == NONE and raft.id not in config.voters:
        return "removed or demoted leader steps down"
    return ""


def _usable(meta: Any, log: Any, recorded: Any, first: int) -> str:
    return "older snapshot used, for the newest is damaged" if meta.index < recorded.index else ""


def _recovered(nothing: None, recovery: Recovery, why: str) -> str:
    return "wiped node votes again" if recovery._adopted_term else "new cluster believed by a majority"


def _snapshot_taken(answer: Any, receiver: Any, sender: int, term: int, meta: Any, *_: Any) -> str:
    if answer is not None:
        return ""
    return "snapshot refused while another comes in" if receiver._receiving else "snapshot refused, it is old"


# --- errors


def _dropped(error: BaseException) -> str:
    if not isinstance(error, ProposalDropped):
        return ""
    for words, name in (
        ("uncommitted", "proposal dropped: too much is uncommitted"),
        ("transfer", "proposal dropped: a transfer is under way"),
        ("rotating", "proposal dropped: rotating"),
        ("removed", "proposal dropped: a voter is being removed"),
    ):
        if words in error.reason:
            return name
    return ""


def _change_refused(error: BaseException) -> str:
    if isinstance(error, InvalidChange):
        if "pending" in str(error):
            return "change refused: another is pending"
        return "change refused: nothing is committed in this term" if "this term" in str(error) else "change refused"
    return _dropped(error)


def _read_refused(error: BaseException) -> str:
    if not isinstance(error, ReadNotPossible):
        return ""
    return {"rotating": "read refused: rotating"}.get(
        str(error),
        "read refused: nothing is committed in this term" if "term" in str(error) else "read refused: not the leader",
    )


def _full(error: BaseException) -> str:
    return "request refused: the buffer is full" if isinstance(error, ResourceExhausted) else ""


def _expired(error: BaseException) -> str:
    if not isinstance(error, SessionExpired):
        return ""
    return "command of an ended session refused" if "not known" in str(error) else "command below the floor refused"


def _transfer_refused(error: BaseException) -> str:
    return "transfer refused" if isinstance(error, TransferRefused) else ""


def _always(name: str) -> Look:
    return lambda *_, **__: name


BEFORE: Final[tuple[Probe, ...]] = (
    (RaftLog, "_truncate", _truncate),
    (RaftLog, "restore", _restore),
    (Leader, "_abort_transfer", _abort_transfer),
    (Replication, "on_accepted", _accepted),
    (Replication, "on_heartbeat_answer", _heartbeat_answer),
    (Replication, "on_rejected", _rejected),
    (Progress, "start_over", _start_over),
    (Raft, "become_leader", _become_leader),
    (Raft, "become_follower", _become_follower),
    (Raft, "start_election", _start_election),
    (Raft, "_answer_lower_term", _answer_lower),
    (Raft, "forget_leader", _always("leader's process is known to have ended")),
    (Leader, "start", _inherit),
    (Membership, "meet", _always("a stranger that is ahead is answered")),
    (Switch, "remove", _always("a node knows that it was removed")),
    (Pending, "reopen_gateway", _always("a node's own session has ended, and is opened again")),
    (Pending, "rename", _always("a command gets a new name")),
    (Proposer, "take_dropped", _always("forward refused by the leader")),
    (rocinante.raft.follower._HANDLERS, MessageType.SNAPSHOT, _fast_forward),
)
AFTER: Final[tuple[Probe, ...]] = (
    (Sessions, "begin", _begin),
    (Recovery, "admits", _admits),
    (Recovery, "_done", _recovered),
    (Reads, "fail_all", _fail_all),
    (Leader, "_check_quorum", _check_quorum),
    (Rotation, "tick", _rotated),
    (WaitingReads, "add", _waits),
    (rocinante.raft.core, "refuse_stale_pre_vote", _refused),
    (Raft, "apply_change", _applied_change),
    (LevelDbLog, "_usable_snapshot", _usable),
    (Receiver, "receive_snapshot", _snapshot_taken),
)
ERRORS: Final[tuple[Probe, ...]] = (
    (Leader, "_append", _dropped),
    (Leader, "propose_change", _change_refused),
    (Raft, "read_index", _read_refused),
    (Ingress, "put_proposal", _full),
    (Sessions, "begin", _expired),
    (Raft, "transfer", _transfer_refused),
)
_RAISED: Final = (RaftError, ResourceExhausted, SessionExpired)


def probes(world: World) -> list[Change]:
    """What `host.installed` puts in place: (owner, name, the wrapped function)."""
    wrapped: dict[tuple[int, Any], Change] = {}
    for kind, table in ((_before, BEFORE), (_after, AFTER), (_error, ERRORS)):
        for owner, name, look in table:
            known = wrapped.get((id(owner), name))
            original = owner[name] if isinstance(owner, dict) else getattr(owner, name)
            inner = original if known is None else known[2]
            wrapped[id(owner), name] = (owner, name, kind(world, inner, look))
    return list(wrapped.values())


def _before(world: World, inner: Callable[..., Any], look: Look) -> Callable[..., Any]:
    @wraps(inner)
    def probe(*arguments: Any, **more: Any) -> Any:
        if name := look(*arguments, **more):
            world.count(REACHED + name)
        return inner(*arguments, **more)

    return probe


def _after(world: World, inner: Callable[..., Any], look: Look) -> Callable[..., Any]:
    @wraps(inner)
    def probe(*arguments: Any, **more: Any) -> Any:
        result = inner(*arguments, **more)
        if name := look(result, *arguments):
            world.count(REACHED + name)
        return result

    return probe


def _error(world: World, inner: Callable[..., Any], look: Look) -> Callable[..., Any]:
    @wraps(inner)
    def probe(*arguments: Any, **more: Any) -> Any:
        try:
            return inner(*arguments, **more)
        except _RAISED as error:
            if name := look(error):
                world.count(REACHED + name)
            raise

    return probe
