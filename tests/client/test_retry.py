"""The loop around every call, as tables: what its tries come to, and what the caller gets."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from rocinante.client.deadline import Backoff, Deadline, check_timeout
from rocinante.client.retry import Caller, Failed, Next, Rules, Try
from rocinante.client.router import Router
from rocinante.client.session import Sessions
from rocinante.errors import (
    InvalidArgument,
    NotFound,
    OutcomeUnknown,
    ResourceExhausted,
    RocinanteError,
    SessionExpired,
    Unauthenticated,
    Unavailable,
)
from rocinante.limits import CLIENT_BACKOFF_S, CLIENT_BACKOFF_S_MAX

DOWN = Failed(Unavailable("connection refused"), Next.ELSEWHERE, node_down=True)
NO_LEADER = Failed(Unavailable("no leader"), Next.ELSEWHERE)
LOST = Failed(Unavailable("the connection was closed"), Next.ELSEWHERE, unknown=True, node_down=True)
LATE = Failed(OutcomeUnknown("no answer in time"), Next.ELSEWHERE, unknown=True, node_down=True)
BUSY = Failed(ResourceExhausted("the ingress buffer is full"), Next.LATER)
EXPIRED = Failed(SessionExpired("the session is not known"), Next.REOPEN)
WRONG = Failed(InvalidArgument("key", "is empty"), Next.STOP)
STRANGER = Failed(Unauthenticated("no access token"), Next.ELSEWHERE_OR_STOP, node_down=True)
GONE = Failed(NotFound("no such flow"), Next.STOP)


@dataclass
class World:
    """A transport that plays a script (the last line for ever), and a clock that moves by a little with every try."""

    script: list[Failed | str]
    clock_s: float = 0.0
    tries: list[Try] = field(default_factory=list)
    opened: int = 0

    def __post_init__(self) -> None:
        rng = random.Random(1)
        self.router = Router(["a:1", "b:1", "c:1"], discover=False, clock=self.now, rng=rng)
        self.caller = Caller(self.router, timeout_s=10, try_timeout_s=2, clock=self.now, rng=rng)
        self.caller._closed.wait = self._pause  # type: ignore[method-assign,assignment]
        self.sessions = Sessions(self._open)

    def now(self) -> float:
        return self.clock_s

    def _pause(self, seconds: float | None = None) -> bool:
        self.clock_s += seconds or 0
        return False

    def _open(self, _deadline: Deadline) -> int:
        self.opened += 1
        return self.opened

    def send(self, attempt: Try) -> str:
        self.tries.append(attempt)
        step = self.script[min(len(self.tries), len(self.script)) - 1]
        self.clock_s += attempt.timeout_s if step is LATE else 0.001
        if isinstance(step, Failed):
            raise step
        return step

    def run(self, kind: str) -> str:
        rules: Rules[str] = {
            "write": Rules(sessions=self.sessions),
            "read": Rules(),
            "change": Rules(repeat_unknown=False),
            "one node": Rules(endpoint="b:1"),
            "act on one node": Rules(endpoint="b:1", repeat_unknown=False),
        }[kind]
        return self.caller.run(self.send, rules, self.caller.deadline())


@pytest.mark.parametrize(
    ("kind", "script", "outcome", "tries"),
    [
        # a node that is down, or cannot: another one is asked
        ("write", ["ok"], "ok", 1),
        ("write", [DOWN, "ok"], "ok", 2),
        ("write", [NO_LEADER, NO_LEADER, NO_LEADER, "ok"], "ok", 4),
        ("read", [DOWN, LOST, LATE, "ok"], "ok", 4),
        # a lost answer: a named write is sent again, a read is made again, a change is not
        ("write", [LOST, "ok"], "ok", 2),
        ("write", [LATE, LATE, "ok"], "ok", 3),
        ("change", [LOST], OutcomeUnknown, 1),
        ("change", [DOWN, NO_LEADER, "ok"], "ok", 3),
        # a final answer is final, whatever came before
        ("write", [WRONG], InvalidArgument, 1),
        ("write", [LOST, WRONG], InvalidArgument, 2),
        ("read", [DOWN, GONE], NotFound, 2),
        # a node that does not let us in is one that is configured wrongly, unless all say so
        ("write", [STRANGER, "ok"], "ok", 2),
        ("write", [DOWN, STRANGER, "ok"], "ok", 3),
        ("read", [STRANGER], Unauthenticated, 3),
        ("one node", [STRANGER], Unauthenticated, 1),
        ("write", [LOST, STRANGER], OutcomeUnknown, 3),
        ("read", [LOST, STRANGER], Unauthenticated, 3),
        # a full buffer: pause, then again
        ("write", [BUSY, BUSY, "ok"], "ok", 3),
        ("write", [BUSY], ResourceExhausted, None),
        # time is up: certainly not done, or nobody knows
        ("write", [DOWN], Unavailable, None),
        ("write", [LOST, DOWN], OutcomeUnknown, None),
        ("write", [LATE], OutcomeUnknown, None),
        ("read", [LATE], Unavailable, None),
        # the session is not known: a new one, unless an earlier try may have been carried out
        ("write", [EXPIRED, "ok"], "ok", 2),
        ("write", [DOWN, EXPIRED, "ok"], "ok", 3),
        ("write", [LOST, EXPIRED], OutcomeUnknown, 2),
        ("write", [EXPIRED, LOST, EXPIRED], OutcomeUnknown, 3),
        # one node only: that it does not answer is an answer
        ("one node", [DOWN], Unavailable, 1),
        ("one node", [LATE], Unavailable, 1),
        ("act on one node", [LATE], OutcomeUnknown, 1),
    ],
)
def test_outcomes(
    kind: str, script: list[Failed | str], outcome: str | type[RocinanteError], tries: int | None
) -> None:
    world = World(script)
    if isinstance(outcome, str):
        assert world.run(kind) == outcome
    else:
        with pytest.raises(RocinanteError) as raised:
            world.run(kind)
        assert type(raised.value) is outcome
    if tries is not None:
        assert len(world.tries) == tries
    else:
        assert 3 <= len(world.tries) < 60, "neither given up early nor in a hurry"
        assert world.clock_s <= 10.1


def test_a_write_keeps_its_name_over_all_tries_and_gets_a_new_one_under_a_new_session() -> None:
    world = World([LOST, DOWN, BUSY, "ok"])
    world.run("write")
    assert {attempt.ref for attempt in world.tries} == {(1, 1, 1)}
    world = World([EXPIRED, "ok"])
    world.run("write")
    assert [attempt.ref for attempt in world.tries] == [(1, 1, 1), (2, 1, 1)]


def test_every_node_is_asked_before_the_first_pause() -> None:
    world = World([DOWN, DOWN, DOWN, "ok"])
    world.run("read")
    assert sorted(attempt.endpoint for attempt in world.tries[:3]) == ["a:1", "b:1", "c:1"]


def test_each_try_without_an_answer_waits_longer_and_all_stay_within_the_deadline() -> None:
    world = World([LATE])
    with pytest.raises(Unavailable, match=r"no node could answer within 10 s .*no answer in time"):
        world.run("read")
    assert [round(attempt.timeout_s) for attempt in world.tries[:2]] == [2, 4]
    assert sum(attempt.timeout_s for attempt in world.tries) <= 10


def test_a_closed_client_says_so() -> None:
    world = World(["ok"])
    del world.caller._closed.wait
    world.caller.close()
    with pytest.raises(Unavailable, match="closed"):
        world.run("read")


def test_pauses_double_are_jittered_and_bounded() -> None:
    backoff = Backoff(random.Random(7))
    pauses = [backoff.pause_s() for _ in range(12)]
    assert CLIENT_BACKOFF_S / 2 <= pauses[0] <= CLIENT_BACKOFF_S
    assert max(pauses) <= CLIENT_BACKOFF_S_MAX
    assert min(pauses[-4:]) >= CLIENT_BACKOFF_S_MAX / 2
    assert len(set(pauses)) == len(pauses)


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), float("inf"), 1e9])
def test_what_is_no_time_to_wait(timeout_s: float) -> None:
    with pytest.raises(InvalidArgument, match="timeout_s"):
        check_timeout(timeout_s)
