"""Configurations: random changes keep the rules (by case: `tables/membership.txt`); and a change's bytes."""

from __future__ import annotations

from random import Random

import pytest

from rocinante.raft import (
    Change,
    ChangeKind,
    Config,
    ConfigChange,
    Entry,
    EntryKind,
    FatalInconsistency,
    InvalidChange,
    Transition,
    check_config,
    decode_change,
    decode_config,
    encode_change,
    next_config,
)

from .harness import Cluster
from .script import show_config

_KINDS = {"v": ChangeKind.ADD_VOTER, "l": ChangeKind.ADD_LEARNER, "r": ChangeKind.REMOVE}
_TRANSITIONS = {
    "": Transition.AUTO,
    "implicit": Transition.JOINT_IMPLICIT,
    "explicit": Transition.JOINT_EXPLICIT,
    "leave": Transition.LEAVE,
}


def config(text: str) -> Config:
    """`1 2 | 3 4 | 5 | 3 | auto`: voters, outgoing voters, learners, staged learners, leaves by itself."""
    parts = [part.strip() for part in (text + "||||").split("|")]
    sets = [frozenset(int(word) for word in part.split()) for part in parts[:4]]
    return Config(sets[0], sets[1], sets[2], sets[3], parts[4] == "auto")


def change(text: str) -> ConfigChange:
    words = text.split()
    transition = Transition.AUTO
    if words and words[-1] in _TRANSITIONS:
        transition = _TRANSITIONS[words.pop()]
    return ConfigChange(tuple(Change(_KINDS[word[0]], int(word[1:])) for word in words), transition)


def test_random_changes_keep_the_rules() -> None:
    random = Random(4)
    now = config("1 2 3")
    accepted = 0
    for _ in range(3000):
        kinds = random.choices(list(ChangeKind), k=random.randint(0, 3))
        changes = tuple(Change(kind, random.randint(1, 7)) for kind in kinds)
        try:
            after = next_config(now, ConfigChange(changes, random.choice(list(Transition))))
        except InvalidChange:
            continue
        accepted += 1
        assert check_config(after).voters
        if not now.joint and not after.joint:
            assert len(now.voters ^ after.voters) <= 1
        if not now.joint and after.joint:
            assert after.voters_outgoing == now.voters
        if now.joint:
            assert after == Config(now.voters, learners=now.learners | now.learners_next)
        now = after
    assert accepted > 300


# --- bytes ------------------------------------------------------------------------------------------------------

SAMPLES = [
    ConfigChange(),
    ConfigChange(transition=Transition.LEAVE),
    ConfigChange((Change(ChangeKind.ADD_VOTER, 1),), context=b"node1 10.0.0.1:35001"),
    ConfigChange(
        (Change(ChangeKind.REMOVE, (1 << 64) - 1), Change(ChangeKind.ADD_LEARNER, 2)), Transition.JOINT_EXPLICIT
    ),
]


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("result", [None, Config(), config("1 2 3 | 3 4 | 9 | 4 | auto")])
def test_a_change_survives_its_encoding(sample: ConfigChange, result: Config | None) -> None:
    data = encode_change(sample, result)
    assert decode_change(data) == sample
    assert decode_config(data) == result


def test_the_encoding_is_fixed() -> None:
    """A log that was written yesterday is read tomorrow."""
    sample = ConfigChange((Change(ChangeKind.ADD_LEARNER, 0x1122),), Transition.JOINT_IMPLICIT, b"ab")
    assert encode_change(sample, config("5 6 || 7")).hex() == (
        "01" "01" "01" "00000002" "01" "0000000000001122" "6162"  # format, transition, count, context; change; context
        "00" "02000100" "0000000000000005" "0000000000000006" "0000000000000007"  # auto-leave, counts; members
    )  # fmt: skip


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "too short"),
        (b"\x02\x00\x00\x00\x00\x00\x00", "format 2 is not known"),
        (b"\x01\x00\x41\x00\x00\x00\x00", "at most 64"),
        (b"\x01\x00\x00\xff\x00\x00\x00", "context: at most"),
        (b"\x01\x00\x00\x00\x00\x00\x01", "expected at least 8 bytes"),
        (b"\x01\x09\x00\x00\x00\x00\x00", "9 is not a valid Transition"),
        (b"\x01\x00\x01\x00\x00\x00\x00" + b"\x07" + bytes(7) + b"\x01", "7 is not a valid ChangeKind"),
        (b"\x01\x00\x01\x00\x00\x00\x00" + bytes(9), "expected an id"),
        (b"\x01\x00\x00\x00\x00\x00\x00" + b"\x00", "config: 1 bytes are too short"),
        (b"\x01\x00\x00\x00\x00\x00\x00" + b"\x00\x01\x00\x00\x00", "config: expected 13 bytes"),
        (b"\x01\x00\x00\x00\x00\x00\x00" + b"\x02\x00\x00\x00\x00", "auto_leave: expected 0 or 1"),
        (b"\x01\x00\x00\x00\x00\x00\x00" + b"\x00\x02\x00\x00\x00" + (bytes(7) + b"\x01") * 2, "named twice"),
        (
            b"\x01\x00\x00\x00\x00\x00\x00" + b"\x00\x00\x00\x01\x00" + bytes(7) + b"\x01",
            "voters: expected at least one",
        ),
    ],
)
def test_wrong_bytes_are_refused_by_name(data: bytes, why: str) -> None:
    with pytest.raises(InvalidChange, match=why):
        decode_change(data)


def test_any_bytes_are_a_change_or_refused() -> None:
    random = Random(5)
    good = encode_change(SAMPLES[3], config("1 2 3 | 3 4 | 9 | 4 | auto"))
    for _ in range(3000):
        data = bytearray(good)
        for _flip in range(random.randint(1, 3)):
            data[random.randrange(len(data))] = random.randrange(256)
        try:
            change_read = decode_change(bytes(data[: random.randint(0, len(data))]))
        except InvalidChange:
            continue
        assert isinstance(change_read, ConfigChange)


def test_what_is_too_large_is_not_encoded() -> None:
    with pytest.raises(InvalidChange, match="at most 64"):
        encode_change(ConfigChange(tuple(Change(ChangeKind.ADD_LEARNER, node) for node in range(1, 66))))
    with pytest.raises(InvalidChange, match="context"):
        encode_change(ConfigChange(context=bytes(64 * 1024 + 1)))
    with pytest.raises(InvalidChange, match="node"):
        encode_change(ConfigChange((Change(ChangeKind.REMOVE, 0),)))
    with pytest.raises(InvalidChange, match="members"):
        encode_change(ConfigChange(), Config(frozenset(range(1, 300))))


# --- in the core ------------------------------------------------------------------------------------------------


def test_a_change_that_nobody_checked_is_an_empty_entry() -> None:
    """Without a result, and against the rules: a nested change changes nothing, on all nodes alike."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    for what in ("r1 r2 r3", "v3", "leave"):
        leader.raft.log.append(leader.raft.term, EntryKind.CONFIG, encode_change(change(what)))
    cluster.tick()
    assert leader.raft.log.applied == 4
    assert {show_config(node.raft.config) for node in cluster.nodes.values()} == {"(1 2 3)"}


def test_a_change_that_cannot_be_read_is_fatal() -> None:
    cluster = Cluster([1])
    leader = cluster.elect(1)
    leader.raft.log.append(leader.raft.term, EntryKind.CONFIG, b"nonsense")
    with pytest.raises(FatalInconsistency, match="cannot be read"):
        cluster.tick()


def test_changes_are_applied_once_and_in_order() -> None:
    cluster = Cluster([1])
    node = cluster.elect(1)
    node.raft.propose_change(change("l2"))
    node.process()
    node.persist()
    ready = node.raft.ready()
    [entry] = ready.committed
    with pytest.raises(FatalInconsistency, match="was not applied"):
        node.raft.applied_to(entry.index)
    with pytest.raises(FatalInconsistency, match="not the next change"):
        node.raft.apply_change(Entry(99, 1, EntryKind.CONFIG, entry.data))
    assert show_config(node.raft.apply_change(entry)) == "(1) learners=(2)"
    with pytest.raises(FatalInconsistency, match="not the next change"):
        node.raft.apply_change(entry)
    node.raft.applied_to(entry.index)
