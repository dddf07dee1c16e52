"""What the core costs, in microseconds a call, on this machine: `python -m tests.raft.benchmark_core`.

One leader of three, alone: the followers' answers are made up, so that nothing but the core is measured.
"""

from __future__ import annotations

from random import Random
from time import perf_counter

from rocinante.raft import Config, Entry, EntryKind, HardState, Message, MessageType, Raft, RaftOptions, SnapshotMeta

ROUNDS = 30_000
BATCH = 32
DATA = b"x" * 100
CONFIG = Config(frozenset({1, 2, 3}))


def node(node_id: int) -> Raft:
    return Raft(
        node_id,
        RaftOptions(pre_vote=False, check_quorum=False),
        hard_state=HardState(),
        snapshot=SnapshotMeta(0, 0, CONFIG),
        entries=(),
        applied=0,
        random=Random(node_id),
        ready=True,
    )


def turn(raft: Raft) -> None:
    while raft.has_ready():
        ready = raft.ready()
        raft.persisted(ready.number)
        if ready.committed:
            raft.applied_to(ready.committed[-1].index)


def leader() -> Raft:
    raft = node(1)
    raft.campaign()
    turn(raft)
    raft.step(Message(MessageType.VOTE_RESPONSE, 1, 2, raft.term))
    turn(raft)
    answer(raft)
    turn(raft)
    return raft


def answer(raft: Raft) -> None:
    for peer in (2, 3):
        raft.step(Message(MessageType.APPEND_RESPONSE, 1, peer, raft.term, log_index=raft.log.last_index))


def compact(raft: Raft) -> None:
    raft.compact(raft.log.applied, SnapshotMeta(raft.log.applied, raft.term, CONFIG))


def write(batch: int) -> dict[str, float]:
    """Seconds in each call, for ROUNDS proposals in batches."""
    raft = leader()
    spent = dict.fromkeys(
        ("propose", "ready (appends)", "step(APPEND_RESPONSE)", "persisted", "ready (committed)"), 0.0
    )
    for _ in range(ROUNDS // batch):
        begin = perf_counter()
        for _proposal in range(batch):
            raft.propose(DATA)
        proposed = perf_counter()
        ready = raft.ready()
        sent = perf_counter()
        answer(raft)
        answered = perf_counter()
        raft.persisted(ready.number)
        persisted = perf_counter()
        raft.applied_to(raft.ready().committed[-1].index)
        applied = perf_counter()
        for name, seconds in zip(
            spent,
            (proposed - begin, sent - proposed, (answered - sent) / 2, persisted - answered, applied - persisted),
            strict=True,
        ):
            spent[name] += seconds
        if raft.log.last_index % 4096 < batch:
            compact(raft)
    return spent


def follow() -> float:
    """Seconds for ROUNDS appends of one entry: step, ready, persisted, applied."""
    raft = node(2)
    spent = 0.0
    for index in range(1, ROUNDS + 1):
        entry = Entry(index, 1, EntryKind.NORMAL, DATA)
        previous = 1 if index > 1 else 0
        message = Message(MessageType.APPEND, 2, 1, 1, index - 1, previous, (entry,), index - 1)
        begin = perf_counter()
        raft.step(message)
        turn(raft)
        spent += perf_counter() - begin
    return spent


def main() -> None:
    for batch in (1, BATCH):
        print(f"leader, {batch} proposals a Ready, per proposal:")
        for name, seconds in write(batch).items():
            print(f"  {name:<24} {seconds / ROUNDS * 1e6:6.2f} us")
    print(f"follower, one entry an append: {follow() / ROUNDS * 1e6:6.2f} us")


if __name__ == "__main__":
    main()
