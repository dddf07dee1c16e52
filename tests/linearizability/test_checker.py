"""The checker against histories with known verdicts, and against a search that tries every order."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Sequence
from itertools import permutations
from pathlib import Path
from random import Random

import pytest

from tests.linearizability.checker import Operation, Verdict, check, check_partitioned, worst
from tests.linearizability.histories import Register, read_register, read_strings
from tests.linearizability.models import REGISTER, STRING, Call

HISTORIES = Path(__file__).parents[2] / ".." / "shared" / "data" / "histories"
YES, NO = Verdict.LINEARIZABLE, Verdict.NOT_LINEARIZABLE


def op(called: float, returned: float | None, verb: str, *arguments: Hashable, output: Hashable = None) -> Register:
    """`returned` None: nobody knows."""
    return Operation(0, called, math.inf if returned is None else returned, Call(verb, *arguments), output)


CASES: list[tuple[str, Verdict, list[Register]]] = [
    ("nothing happened", YES, []),
    ("a read of nothing", YES, [op(0, 1, "get")]),
    ("a read of what nobody wrote", NO, [op(0, 1, "get", output="a")]),
    ("a write is read", YES, [op(0, 1, "put", "a"), op(2, 3, "get", output="a")]),
    ("a stale read", NO, [op(0, 1, "put", "a"), op(2, 3, "put", "b"), op(4, 5, "get", output="a")]),
    ("a lost write", NO, [op(0, 1, "put", "a"), op(2, 3, "get")]),
    ("a read that overlaps a write sees the old", YES, [op(0, 5, "put", "a"), op(1, 2, "get")]),
    ("a read that overlaps a write sees the new", YES, [op(0, 5, "put", "a"), op(1, 2, "get", output="a")]),
    (
        "two reads during a write go back in time",
        NO,
        [op(0, 9, "put", "a"), op(1, 2, "get", output="a"), op(3, 4, "get")],
    ),
    (
        "calls that meet at one moment are concurrent",
        YES,
        [op(0, 1, "put", "a"), op(1, 2, "get")],
    ),
    ("an unknown write may never happen", YES, [op(0, None, "put", "a"), op(1, 2, "get"), op(3, 4, "get")]),
    (
        "an unknown write may happen late",
        YES,
        [op(0, None, "put", "a"), op(1, 2, "get"), op(3, 4, "get", output="a")],
    ),
    (
        "an unknown write happens once",
        NO,
        [
            op(0, None, "put", "a"),
            op(1, 2, "get", output="a"),
            op(3, 4, "put", "b"),
            op(5, 6, "get", output="a"),
        ],
    ),
    (
        "an unknown write does not happen before its call",
        NO,
        [op(1, 2, "get", output="a"), op(3, None, "put", "a")],
    ),
    (
        "one of two swaps is done",
        YES,
        [
            op(0, 1, "put", "a"),
            op(2, 5, "cas", "b", "a", output=True),
            op(3, 6, "cas", "c", "a", output=False),
            op(7, 8, "get", output="b"),
        ],
    ),
    (
        "both swaps are done",
        NO,
        [
            op(0, 1, "put", "a"),
            op(2, 5, "cas", "b", "a", output=True),
            op(3, 6, "cas", "c", "a", output=True),
        ],
    ),
    (
        "a swap is refused for no reason",
        NO,
        [op(0, 1, "put", "a"), op(2, 3, "cas", "b", "a", output=False)],
    ),
    ("a delete", YES, [op(0, 1, "put", "a"), op(2, 3, "delete"), op(4, 5, "get")]),
    ("a delete that did not last", NO, [op(0, 1, "put", "a"), op(2, 3, "delete"), op(4, 5, "get", output="a")]),
]


@pytest.mark.parametrize(("verdict", "history"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_case(verdict: Verdict, history: list[Register]) -> None:
    assert check(history, REGISTER) is verdict


def by_trying_every_order(history: Sequence[Register]) -> Verdict:
    """No cleverness: every order of every choice of the calls without a return."""
    known = [item for item in history if item.known]
    unknown = [item for item in history if not item.known]
    for chosen in range(1 << len(unknown)):
        for order in permutations(known + [item for at, item in enumerate(unknown) if chosen >> at & 1]):
            if any(order[b].returned < order[a].called for a in range(len(order)) for b in range(a + 1, len(order))):
                continue
            state: Hashable = REGISTER.initial
            for item in order:
                possible, state = REGISTER.step(state, item.input, item.output, item.known)
                if not possible:
                    break
            else:
                return YES
    return NO


def random_history(random: Random) -> list[Register]:
    history: list[Register] = []
    for _ in range(random.randint(1, 5)):
        called = random.randint(0, 8)
        returned = None if random.random() < 0.2 else called + random.randint(1, 5)
        verb = random.choice(("get", "get", "put", "cas"))
        value, expected = random.choice("ab"), random.choice("ab")
        if verb == "get":
            history.append(op(called, returned, "get", output=random.choice((None, "a", "b"))))
        elif verb == "put":
            history.append(op(called, returned, "put", value))
        else:
            history.append(op(called, returned, "cas", value, expected, output=random.random() < 0.5))
    return history


def test_agrees_with_a_search_that_tries_every_order() -> None:
    verdicts = []
    for seed in range(1500):
        history = random_history(Random(seed))
        verdict = check(history, REGISTER)
        assert verdict is by_trying_every_order(history), f"seed {seed}"
        verdicts.append(verdict)
    assert 200 < verdicts.count(YES) < 1300, "the cases are one-sided"


def test_gives_up_after_the_bound() -> None:
    history = [op(0, 100, "put", number) for number in range(12)] + [op(101, 102, "get", output="none of them")]
    assert check(history, REGISTER, steps_max=1000) is Verdict.UNKNOWN
    assert check(history, REGISTER) is NO


def test_a_return_before_its_call_is_refused() -> None:
    with pytest.raises(ValueError, match="operation 0 returns before it is called"):
        check([op(2, 1, "get")], REGISTER)


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [([], YES), ([YES], YES), ([YES, Verdict.UNKNOWN], Verdict.UNKNOWN), ([Verdict.UNKNOWN, NO, YES], NO)],
)
def test_worst(verdicts: list[Verdict], expected: Verdict) -> None:
    assert worst(verdicts) is expected


def test_known_histories() -> None:
    if not (HISTORIES / "verdicts.json").exists():
        pytest.skip("the histories with known verdicts (porcupine's test data) are not beside this repository")
    expected: dict[str, bool] = json.loads((HISTORIES / "verdicts.json").read_text())
    assert expected
    for name, linearizable in expected.items():
        path = HISTORIES / name
        if path.suffix == ".log":
            verdict = check(read_register(path), REGISTER)
        else:
            verdict = worst(check_partitioned(read_strings(path), STRING).values())
        assert verdict is (YES if linearizable else NO), name
