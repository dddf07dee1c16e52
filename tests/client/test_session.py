"""The names of writes: seqs, and the ack that lets the cluster forget."""

from __future__ import annotations

import threading
import time

import pytest

from rocinante.client.deadline import Deadline
from rocinante.client.session import Sessions
from rocinante.errors import ResourceExhausted, Unavailable
from rocinante.limits import SESSION_WINDOW_MAX


class Opener:
    def __init__(self) -> None:
        self.opened = 0

    def __call__(self, _deadline: Deadline) -> int:
        self.opened += 1
        return self.opened * 16


def soon(seconds: float = 5.0) -> Deadline:
    return Deadline(seconds, time.monotonic)


def test_ack_is_the_lowest_seq_under_way() -> None:
    sessions = Sessions(Opener())
    first, second, third = (sessions.begin(soon()) for _ in range(3))
    assert [ticket.ref() for ticket in (first, second, third)] == [(16, 1, 1), (16, 2, 1), (16, 3, 1)]
    sessions.end(second)
    assert third.ref().ack == 1, "the first is still under way"
    sessions.end(first)
    assert third.ref().ack == 3
    sessions.end(third)
    assert sessions.begin(soon()).ref() == (16, 4, 4)


def test_metadata_is_what_the_protocol_says() -> None:
    ref = Sessions(Opener()).begin(soon()).ref()
    assert ref.metadata() == (
        ("rocinante-session", "0000000000000010"),
        ("rocinante-seq", "1"),
        ("rocinante-ack", "1"),
    )


def test_an_expired_session_is_replaced_once_however_many_find_out() -> None:
    opener = Opener()
    sessions = Sessions(opener)
    old = [sessions.begin(soon()) for _ in range(3)]
    for ticket in old:
        sessions.expired(ticket)
        assert sessions.begin(soon()).ref().session == 32
    assert opener.opened == 2


def test_concurrent_first_writes_open_one_session() -> None:
    opener = Opener()
    sessions = Sessions(opener)
    refs = []
    workers = [threading.Thread(target=lambda: refs.append(sessions.begin(soon()).ref())) for _ in range(16)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert opener.opened == 1
    assert sorted(ref.seq for ref in refs) == list(range(1, 17))


def test_when_opening_fails_the_next_one_tries_again() -> None:
    answers = iter([Unavailable("no leader"), 7])

    def open_session(_deadline: Deadline) -> int:
        answer = next(answers)
        if isinstance(answer, Unavailable):
            raise answer
        return answer

    sessions = Sessions(open_session)
    with pytest.raises(Unavailable):
        sessions.begin(soon())
    assert sessions.begin(soon()).ref().session == 7


def test_no_more_writes_under_way_than_the_cluster_can_remember() -> None:
    sessions = Sessions(Opener())
    tickets = [sessions.begin(soon()) for _ in range(SESSION_WINDOW_MAX)]
    with pytest.raises(ResourceExhausted, match="under way"):
        sessions.begin(soon(0.01))
    done = threading.Event()
    worker = threading.Thread(target=lambda: (sessions.begin(soon()), done.set()))
    worker.start()
    sessions.end(tickets[5])
    assert not done.is_set(), "the oldest is what counts"
    sessions.end(tickets[0])
    worker.join(30)
    assert done.is_set()


def test_a_write_that_was_given_up_is_passed_when_no_older_one_is_under_way() -> None:
    """Only then do all later writes tell the cluster to refuse it."""
    sessions = Sessions(lambda _deadline: 7)
    older, given_up = sessions.begin(soon()), sessions.begin(soon())
    sessions.end(given_up)
    assert not sessions.passed(given_up)
    later = sessions.begin(soon())
    assert later.ref().ack <= given_up.seq
    sessions.end(older)
    assert sessions.passed(given_up)
    assert later.ref().ack > given_up.seq
    sessions.expired(later)
    assert sessions.passed(later), "of a session that is used no more nothing is sent"
