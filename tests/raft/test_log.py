"""The log by itself: cursors, sizes, conflicts, compaction, and what is found on disk."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest

from rocinante.raft import Config, Entry, EntryKind, FatalInconsistency, SnapshotMeta
from rocinante.raft.log import ENTRY_OVERHEAD_BYTES, RaftLog

EVERYTHING = 1 << 40


def entries(terms: Sequence[int], first: int = 1) -> tuple[Entry, ...]:
    return tuple(Entry(index, term, EntryKind.NORMAL, b"x" * index) for index, term in enumerate(terms, first))


def log(terms: Sequence[int], *, first: int = 1, snapshot: tuple[int, int] = (0, 0), commit: int = 0) -> RaftLog:
    meta = SnapshotMeta(*snapshot, Config(frozenset({1})))
    return RaftLog(meta, entries(terms, first), commit=commit, applied=meta.index)


def terms_of(it: RaftLog) -> list[int]:
    return [entry.term for entry in it.slice(it.first_index, it.last_index, EVERYTHING)]


@pytest.mark.parametrize(
    ("index", "term", "here"),
    [(0, 0, True), (0, 1, False), (1, 1, True), (3, 2, True), (3, 1, False), (4, 2, False), (9, 1, False)],
)
def test_matches(index: int, term: int, here: bool) -> None:
    assert log([1, 1, 2]).matches(index, term) is here


@pytest.mark.parametrize(
    ("index", "term", "up_to_date"),
    [(3, 2, True), (2, 2, False), (4, 2, True), (1, 3, True), (9, 1, False), (0, 0, False)],
)
def test_is_up_to_date(index: int, term: int, up_to_date: bool) -> None:
    assert log([1, 1, 2]).is_up_to_date(index, term) is up_to_date


@pytest.mark.parametrize(
    ("index", "term", "found"),
    [
        (6, 9, (6, 5)),
        (9, 9, (6, 5)),  # behind the end
        (6, 4, (5, 3)),
        (6, 3, (5, 3)),
        (6, 2, (3, 1)),
        (4, 2, (3, 1)),
        (2, 1, (2, 1)),
        (6, 0, (0, 0)),
        (0, 5, (0, 0)),
    ],
)
def test_find_conflict_by_term(index: int, term: int, found: tuple[int, int]) -> None:
    assert log([1, 1, 1, 3, 3, 5]).find_conflict_by_term(index, term) == found


@pytest.mark.parametrize(
    ("index", "term", "found"),
    [(12, 9, (12, 4)), (12, 3, (11, 3)), (12, 2, (10, 2)), (12, 1, (9, 0)), (10, 2, (10, 2)), (7, 9, (7, 0))],
)
def test_find_conflict_by_term_after_compaction(index: int, term: int, found: tuple[int, int]) -> None:
    assert log([3, 4], first=11, snapshot=(10, 2)).find_conflict_by_term(index, term) == found


@pytest.mark.parametrize(
    ("have", "first", "new", "result"),
    [
        ([], 1, [1, 1], [1, 1]),
        ([1], 2, [1, 2], [1, 1, 2]),
        ([1, 1], 1, [1], [1, 1]),  # known: erases nothing
        ([1, 1, 1], 1, [1, 1], [1, 1, 1]),
        ([1, 1, 1], 2, [2], [1, 2]),  # conflict: replaces the suffix
        ([1, 1, 1], 2, [1, 2, 2], [1, 1, 2, 2]),
        ([1, 2, 2], 1, [1, 3], [1, 3]),
        ([1, 1], 2, [1, 1, 1], [1, 1, 1, 1]),  # half known
    ],
)
def test_accept(have: list[int], first: int, new: list[int], result: list[int]) -> None:
    it = log(have)
    it.accept(entries(new, first))
    assert terms_of(it) == result
    assert (it.last_index, it.last_term) == (len(result), result[-1])
    assert it.size(0, it.last_index) == sum(range(len(result) + 1)) + ENTRY_OVERHEAD_BYTES * len(result)


def test_a_committed_entry_is_never_replaced() -> None:
    it = log([1, 1, 1], commit=2)
    with pytest.raises(FatalInconsistency, match="conflicts with a committed one"):
        it.accept(entries([2], 2))
    assert terms_of(it) == [1, 1, 1]


@pytest.mark.parametrize(("first", "terms"), [(4, [1]), (3, [1])], ids=["a gap", "a term that falls"])
def test_what_does_not_follow_is_fatal(first: int, terms: list[int]) -> None:
    with pytest.raises(FatalInconsistency, match="cannot follow"):
        log([1, 2]).accept(entries(terms, first))


def test_commit_moves_forward_only_and_not_past_the_end() -> None:
    it = log([1, 1, 1])
    assert it.commit_to(2)
    assert not it.commit_to(1)
    assert not it.commit_to(2)
    assert it.commit == 2
    with pytest.raises(FatalInconsistency, match="lost entries"):
        it.commit_to(4)


def test_applied_stays_behind_what_was_handed_out() -> None:
    it = log([1, 1, 1], commit=2)
    assert [entry.index for entry in it.take_committed(EVERYTHING, EVERYTHING)] == [1, 2]
    assert it.take_committed(EVERYTHING, EVERYTHING) == ()
    with pytest.raises(FatalInconsistency, match="handed out"):
        it.applied_to(3)
    it.applied_to(1)
    assert (it.applied, it.applying) == (1, 2)


def test_slice_is_cut_by_bytes_and_holds_at_least_one() -> None:
    it = log([1] * 6)
    one = ENTRY_OVERHEAD_BYTES
    for low in range(1, 7):
        for limit in range(0, 7 * one, 7):
            taken = it.slice(low, 6, limit)
            size = sum(len(entry.data) + one for entry in taken)
            assert taken
            assert size <= limit or len(taken) == 1
            following = low + len(taken)
            assert following == 7 or size + len(it.entry(following).data) + one > limit
    assert it.slice(4, 3, 100) == ()
    with pytest.raises(FatalInconsistency, match="slice"):
        it.slice(5, 7, 100)


def test_compaction_keeps_the_tail_and_the_sizes() -> None:
    it = log([1, 1, 2, 2, 3], commit=4)
    it.take_committed(EVERYTHING, EVERYTHING)
    it.applied_to(4)
    assert it.compact(2, SnapshotMeta(4, 2))
    assert (it.first_index, it.last_index, it.low, it.snapshot.index) == (3, 5, 2, 4)
    assert [it.term(index) for index in range(7)] == [0, 0, 1, 2, 2, 3, 0]
    assert it.size(2, 5) == 3 + 4 + 5 + 3 * ENTRY_OVERHEAD_BYTES
    assert it.uncommitted_bytes == 5 + ENTRY_OVERHEAD_BYTES
    with pytest.raises(IndexError):
        it.entry(2)
    assert not it.compact(1, SnapshotMeta(3, 2)), "an older snapshot changes nothing"
    with pytest.raises(ValueError, match="applied"):
        it.compact(5, SnapshotMeta(5, 3))
    with pytest.raises(ValueError, match="must not be after the snapshot"):
        it.compact(5, SnapshotMeta(4, 2))
    with pytest.raises(FatalInconsistency, match="has term"):
        it.compact(3, SnapshotMeta(4, 1))


@pytest.mark.parametrize(
    ("first", "terms", "snapshot", "commit", "why"),
    [
        (2, [1], (0, 0), 0, "entries are missing"),
        (1, [2, 1], (0, 0), 0, "follows"),
        (1, [0], (0, 0), 0, "follows"),
        (1, [1, 1, 1], (2, 2), 0, "the snapshot 2"),
        (4, [1], (3, 2), 0, "follows a snapshot"),
        (1, [1, 1], (0, 0), 3, "stored entries were lost"),
        (1, [], (0, 0), 1, "stored entries were lost"),
    ],
)
def test_a_stored_log_that_cannot_be(
    first: int, terms: list[int], snapshot: tuple[int, int], commit: int, why: str
) -> None:
    with pytest.raises(FatalInconsistency, match=why):
        log(terms, first=first, snapshot=snapshot, commit=commit)


def test_a_stored_log_with_a_hole_inside() -> None:
    with pytest.raises(FatalInconsistency, match="follows 1"):
        RaftLog(SnapshotMeta(), (*entries([1]), *entries([1], 3)), commit=0, applied=0)


def test_stored_entries_may_reach_back_behind_the_snapshot() -> None:
    it = log([1, 1, 2, 2], first=5, snapshot=(7, 2))
    assert (it.first_index, it.low, it.commit, it.applied, it.last_index) == (5, 5, 7, 7, 8)
    assert not it.matches(4, 0), "the term before the first entry is not known"
    assert it.matches(5, 1)
    it = log([1, 1], first=3, snapshot=(9, 2))
    assert (it.first_index, it.last_index, it.last_term) == (10, 9, 2), (
        "entries that end before the snapshot are nothing"
    )


def test_a_truncation_clips_the_writes_in_flight() -> None:
    it = log([])
    it.accept(entries([1, 1, 1]))
    it.take_unhanded(1)
    it.accept(entries([2], 2))
    assert [entry.term for entry in it.take_unhanded(2)[1]] == [2]
    it.written(1)
    assert it.persisted == 1
    it.written(2)
    assert it.persisted == 2


def test_what_is_persisted_and_then_replaced_is_not_persisted() -> None:
    it = log([1, 1, 1])
    assert it.persisted == 3
    it.accept(entries([2, 2], 2))
    assert it.persisted == 1
    it.commit_to(3)
    assert [entry.index for entry in it.take_committed(EVERYTHING, EVERYTHING)] == [1]


def test_restore_forgets_the_log_and_the_writes_in_flight() -> None:
    it = log([1])
    it.accept(entries([1] * 9, 2))
    it.take_unhanded(1)
    it.restore(SnapshotMeta(5, 3))
    assert (it.first_index, it.last_index, it.last_term, it.commit, it.persisted) == (6, 5, 3, 5, 0)
    it.written(1)
    assert (it.persisted, it.pending_snapshot) == (0, 5), "the old write says nothing about the new log"
    assert it.take_unhanded(2) == (SnapshotMeta(5, 3), ())
    assert not it.has_committed
    it.written(2)
    assert (it.persisted, it.applied, it.pending_snapshot) == (5, 5, 0)
    with pytest.raises(FatalInconsistency, match="behind commit"):
        it.restore(SnapshotMeta(5, 3))


def test_two_restores_and_the_first_is_written() -> None:
    it = log([])
    it.restore(SnapshotMeta(5, 1))
    it.take_unhanded(1)
    it.restore(SnapshotMeta(8, 1))
    it.take_unhanded(2)
    it.written(1)
    assert (it.pending_snapshot, it.applied) == (8, 0)
    it.written(2)
    assert (it.pending_snapshot, it.applied, it.persisted) == (0, 8, 8)


def test_a_random_log_agrees_with_a_plain_list() -> None:
    """Appends, conflicts, commits, writes and compactions, against a model that is only a list."""
    for seed in range(60):
        random = Random(seed)
        it, model, number, term, dropped = log([]), list[Entry](), 0, 1, 0
        for _ in range(120):
            act = random.randrange(5)
            if act == 0:
                it.append(term, EntryKind.NORMAL, b"a" * random.randrange(9))
                model.append(it.entry(it.last_index))
            elif act == 1 and it.last_index > it.commit:
                term += 1
                first = random.randint(it.commit + 1, it.last_index)
                new = entries([term] * random.randint(1, 3), first)
                it.accept(new)
                model[first - 1 :] = list(new)
            elif act == 2 and it.last_index:
                it.commit_to(random.randint(0, it.last_index))
                it.take_committed(random.choice((1, 50, EVERYTHING)), EVERYTHING)
                it.applied_to(it.applying)
            elif act == 3:
                number += 1
                it.take_unhanded(number)
                it.written(random.randint(number - 1, number))
            elif act == 4 and it.applied > dropped:
                dropped = random.randint(dropped, it.applied)
                it.compact(dropped, SnapshotMeta(it.applied, it.term(it.applied)))
            assert list(it.slice(it.first_index, it.last_index, EVERYTHING)) == model[dropped:]
            assert it.applied <= it.applying <= min(it.commit, it.persisted)
            low = random.randint(dropped, len(model))
            expected = sum(len(entry.data) + ENTRY_OVERHEAD_BYTES for entry in model[low:])
            assert it.size(low, len(model)) == expected


@pytest.mark.parametrize(
    ("index", "size_bytes", "first"),
    [
        (5, EVERYTHING, 1),
        (5, 0, 6),
        (5, 5 + ENTRY_OVERHEAD_BYTES, 5),
        (5, 8 + 2 * ENTRY_OVERHEAD_BYTES, 5),
        (5, 9 + 2 * ENTRY_OVERHEAD_BYTES, 4),
        (3, 3 + ENTRY_OVERHEAD_BYTES, 3),
        (5, 15 + 5 * ENTRY_OVERHEAD_BYTES, 1),
    ],
)
def test_first_within(index: int, size_bytes: int, first: int) -> None:
    """Entry n has n bytes of data here."""
    it = log([1, 1, 1, 2, 2], commit=5)
    assert it.first_within(index, size_bytes) == first
    it.applying = it.applied = 5
    it.compact(2, SnapshotMeta(2, 1, Config(frozenset({1}))))
    assert it.first_within(index, size_bytes) == max(first, 3)
