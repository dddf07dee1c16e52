"""What a leader remembers of one peer: states, window, and answers that come late."""

from __future__ import annotations

import pytest

from rocinante.raft.progress import Inflights, Progress, ProgressState


def progress(state: ProgressState, *, match: int = 3, next_index: int = 4, max_appends: int = 3) -> Progress:
    it = Progress(2, next_index, Inflights(max_appends, 1000))
    it.match = match
    it.state = state
    it.next = next_index
    return it


def test_window_by_count_and_by_bytes() -> None:
    window = Inflights(3, 100)
    full = []
    for index in (5, 6, 7):
        window.add(index, 10)
        full.append(window.full)
    for index in (4, 6):
        window.free_to(index)
        full.append(window.full)
    assert full == [False, False, True, True, False]
    assert (len(window), window.bytes) == (1, 10)
    window.add(8, 95)
    assert (len(window), window.full) == (2, True), "bytes are a limit of their own"
    window.clear()
    assert (len(window), window.bytes, window.full) == (0, 0, False)


@pytest.mark.parametrize(
    ("state", "match", "next_index", "rejected", "hint", "taken", "new_next"),
    [
        # Replicating: only what is behind match is news; back to just after match.
        (ProgressState.REPLICATE, 5, 10, 5, 5, False, 10),
        (ProgressState.REPLICATE, 5, 10, 4, 4, False, 10),
        (ProgressState.REPLICATE, 5, 10, 9, 9, True, 6),
        # Probing: only the answer to the last probe counts; the hint is taken, but never below match.
        (ProgressState.PROBE, 0, 10, 8, 2, False, 10),
        (ProgressState.PROBE, 0, 10, 9, 9, True, 9),
        (ProgressState.PROBE, 0, 10, 9, 2, True, 3),
        (ProgressState.PROBE, 5, 10, 9, 2, True, 6),
        (ProgressState.PROBE, 0, 2, 1, 0, True, 1),
        (ProgressState.PROBE, 0, 2, 1, 7, True, 1),
    ],
)
def test_back_off(
    state: ProgressState, match: int, next_index: int, rejected: int, hint: int, taken: bool, new_next: int
) -> None:
    it = progress(state, match=match, next_index=next_index)
    it.sent_commit = 9
    assert it.back_off(rejected, hint) is taken
    assert it.next == new_next
    assert it.match < it.next
    if taken:
        assert it.sent_commit < it.next


@pytest.mark.parametrize(("index", "news"), [(2, False), (3, False), (4, True), (9, True)])
def test_update_never_goes_back(index: int, news: bool) -> None:
    it = progress(ProgressState.REPLICATE, match=3, next_index=6)
    it.held = True
    assert it.update(index) is news
    assert it.match == max(3, index)
    assert it.next == max(6, index + 1)
    assert it.held is not news


def test_replicating_runs_ahead_until_the_window_is_full() -> None:
    it = progress(ProgressState.REPLICATE)
    it.sent(5, 10)
    it.sent(6, 10)
    assert (it.next, it.paused) == (7, False)
    it.sent(9, 10)
    assert (it.next, it.paused) == (10, True)
    it.held = False  # an answer to a heartbeat
    it.sent(9, 0)
    assert (it.next, it.paused) == (10, True), "one empty append, then it waits again"


def test_probing_sends_one_append_with_entries_at_a_time() -> None:
    it = progress(ProgressState.PROBE)
    it.sent(3, 0)
    assert (it.next, it.paused) == (4, False)
    it.sent(7, 10)
    assert (it.next, it.paused) == (4, True), "next stays: where the logs agree is not known"


def test_a_snapshot_is_waited_for() -> None:
    it = progress(ProgressState.REPLICATE)
    it.become_snapshot(20)
    assert (it.next, it.paused, it.pending_snapshot) == (21, True, 20)
    it.become_probe()
    assert (it.state, it.next, it.paused) == (ProgressState.PROBE, 21, False), "it probably arrived: go on behind it"
    it.become_snapshot(20)
    it.pending_snapshot = 0  # it failed
    it.become_probe()
    assert it.next == 4


@pytest.mark.parametrize(
    ("sent_commit", "next_index", "commit", "use"),
    [(3, 9, 4, True), (4, 9, 4, False), (8, 9, 9, False), (0, 1, 5, False), (7, 9, 20, True)],
)
def test_can_bump_commit(sent_commit: int, next_index: int, commit: int, use: bool) -> None:
    it = progress(ProgressState.REPLICATE, match=0, next_index=next_index)
    it.sent_commit = sent_commit
    assert it.can_bump_commit(commit) is use


def test_a_refusal_narrows_the_window_and_answers_widen_it() -> None:
    """What was sent before a refusal is still on its way: a wide window would send all of it again at each answer."""
    it = progress(ProgressState.REPLICATE, match=3, next_index=4, max_appends=8)
    it.sent(4, 10)
    it.back_off(7, 4)
    it.become_replicate()
    taken = []
    for index in range(4, 20):
        it.sent(index, 10)
        if it.held:
            taken.append(len(it.inflights))
            it.update(index)
            it.inflights.free_to(index)
    assert taken == [4, 5, 6], "half of it, and one more with each answer"
    for _ in range(9):
        it.become_replicate()
        it.back_off(50, 4)
    it.sent(it.next, 10)
    assert it.held, "one append at a time, and never none"
