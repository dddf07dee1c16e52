"""Is a history of concurrent calls linearizable? Wing and Gong's search with Lowe's memo.

Contract: `check(operations, model)` says whether there is an order of the calls, each somewhere between its call and
its return, in which a single copy of the object would have answered as it did. A call without a return (`math.inf`)
may have happened at any time after its call, or never. The search is exact; after `steps_max` steps it gives up with
`UNKNOWN`, which a test must count as a failure.

Partition by key first (`check_partitioned`): linearizability is local (Herlihy and Wing 1990, theorem 1), and the cost
grows with what is concurrent. Sources: Wing and Gong 1993; Lowe 2017, "Testing for linearizability", section 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Generic, NamedTuple, TypeVar

STEPS_MAX: Final = 2_000_000
"""About ten seconds of search."""

K_ = TypeVar("K_")
I_ = TypeVar("I_")
O_ = TypeVar("O_")


class Verdict(Enum):
    LINEARIZABLE = "linearizable"
    NOT_LINEARIZABLE = "not linearizable"
    UNKNOWN = "unknown: the search was given up"


class Operation(NamedTuple, Generic[I_, O_]):
    """`returned` is `math.inf` for a call whose outcome nobody knows; `output` is not looked at then."""

    client: int
    called: float
    returned: float
    input: I_
    output: O_ | None

    @property
    def known(self) -> bool:
        return self.returned != math.inf


class Model(NamedTuple, Generic[I_, O_]):
    initial: Hashable
    step: Callable[[Hashable, I_, O_ | None, bool], tuple[bool, Hashable]]
    """(state, input, output, whether the output is known) → (could that be, the state after it)."""


@dataclass(slots=True, eq=False)
class _Event:
    """A call or a return, in a doubly linked list in the order of time."""

    number: int
    matching: _Event | None
    """Of a call: its return, None where there is none. Of a return: itself."""
    is_call: bool
    before: _Event | None = None
    after: _Event | None = None

    def lift(self) -> None:
        """Takes a call and its return out of the list."""
        _unlink(self)
        if self.matching is not None:
            _unlink(self.matching)

    def unlift(self) -> None:
        if self.matching is not None:
            _relink(self.matching)
        _relink(self)


def _unlink(event: _Event) -> None:
    assert event.before is not None
    event.before.after = event.after
    if event.after is not None:
        event.after.before = event.before


def _relink(event: _Event) -> None:
    assert event.before is not None
    event.before.after = event
    if event.after is not None:
        event.after.before = event


def _events(operations: Sequence[Operation[I_, O_]]) -> _Event:
    """The head of the list. At one and the same time calls stand before returns: then they are concurrent."""
    rows: list[tuple[float, int, _Event]] = []
    for number, operation in enumerate(operations):
        if operation.returned < operation.called:
            raise ValueError(f"operation {number} returns before it is called")
        back: _Event | None = None
        if operation.known:
            back = _Event(number, None, is_call=False)
            rows.append((operation.returned, 1, back))
        rows.append((operation.called, 0, _Event(number, back, is_call=True)))
    rows.sort(key=lambda row: (row[0], row[1], row[2].number))
    head = last = _Event(-1, None, is_call=False)
    for _, _, event in rows:
        last.after, event.before = event, last
        last = event
    return head


def check(operations: Sequence[Operation[I_, O_]], model: Model[I_, O_], *, steps_max: int = STEPS_MAX) -> Verdict:
    """See the module. Raises ValueError for an operation that returns before it is called."""
    head = _events(operations)
    left = sum(operation.known for operation in operations)
    state: Hashable = model.initial
    done = 0
    seen: set[tuple[int, Hashable]] = set()
    stack: list[tuple[_Event, Hashable]] = []
    event = head.after
    for _ in range(steps_max):
        if not left:
            return Verdict.LINEARIZABLE
        assert event is not None, "returns are left, so the list has not come to its end"
        if event.is_call:
            operation = operations[event.number]
            possible, following = model.step(state, operation.input, operation.output, operation.known)
            if possible:
                key = (done | 1 << event.number, following)
                if key not in seen:
                    seen.add(key)
                    stack.append((event, state))
                    state, done = following, key[0]
                    left -= operation.known
                    event.lift()
                    event = head.after
                    continue
            event = event.after
        else:
            if not stack:
                return Verdict.NOT_LINEARIZABLE
            event, state = stack.pop()
            done ^= 1 << event.number
            left += operations[event.number].known
            event.unlift()
            event = event.after
    return Verdict.UNKNOWN


def check_partitioned(
    histories: Mapping[K_, Sequence[Operation[I_, O_]]], model: Model[I_, O_], *, steps_max: int = STEPS_MAX
) -> dict[K_, Verdict]:
    """The verdict for each key."""
    return {key: check(history, model, steps_max=steps_max) for key, history in histories.items()}


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Of all keys: what is certainly wrong before what is not known."""
    found = set(verdicts)
    for verdict in (Verdict.NOT_LINEARIZABLE, Verdict.UNKNOWN):
        if verdict in found:
            return verdict
    return Verdict.LINEARIZABLE
