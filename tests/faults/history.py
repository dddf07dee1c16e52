"""What the clients asked and were told, one line of JSON a call, and what must hold of it.

Contract: times are seconds of the machine's monotonic clock, the same in all processes. `how` is what the caller knows:

    ok       it was answered
    refused  certainly not carried out, now or later
    unknown  it may have been carried out, or may yet be
    error    an answer that no fault explains (INTERNAL, INVALID_ARGUMENT): a violation by itself

Keys: get, put, delete, cas (`expected` → `value`; `output`: whether it was done). Flows: each flow client has its own
records and writes them in batches with a counter that grows; `output` of a read is the counter of every record, 0
where there is none, and -1 where a record does not agree with itself.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal

from tests.linearizability.checker import Operation, Verdict, check
from tests.linearizability.models import REGISTER, Call

How = Literal["ok", "refused", "unknown", "error"]
WRITES: Final = ("put", "delete", "cas")
FLOW_WRITE: Final = "flow-put"
FLOW_READ: Final = "flow-get"
SHOWN_MAX: Final = 3
"""Violations of one kind that are told; the history has the rest."""


@dataclass(slots=True)
class Asked:
    """One call. `revision` is that of the answer's header, 0 where there is none."""

    client: str
    key: str
    verb: str
    called: float
    returned: float = 0.0
    how: How = "unknown"
    value: str | None = None
    expected: str | None = None
    output: Any = None
    revision: int = 0
    why: str = ""


def write_history(path: Path, asked: Iterable[Asked]) -> None:
    with path.open("w") as file:
        file.writelines(json.dumps(asdict(one), separators=(",", ":")) + "\n" for one in asked)


def read_history(path: Path) -> list[Asked]:
    return [Asked(**json.loads(line)) for line in path.read_text().splitlines()]


def is_write(one: Asked) -> bool:
    return one.verb in WRITES or one.verb == FLOW_WRITE


def operations(history: Iterable[Asked]) -> dict[str, list[Operation[Call, Hashable]]]:
    """By key, as the checker takes them: what was refused did not happen, a read without an answer says nothing."""
    numbers: dict[str, int] = {}
    found: dict[str, list[Operation[Call, Hashable]]] = defaultdict(list)
    for one in history:
        if one.verb not in (*WRITES, "get") or one.how == "refused" or (one.verb == "get" and one.how != "ok"):
            continue
        client = numbers.setdefault(one.client, len(numbers))
        returned = one.returned if one.how == "ok" else math.inf
        call = Call(one.verb, one.value, one.expected)
        found[one.key].append(Operation(client, one.called, returned, call, one.output))
    return dict(found)


def not_linearizable(history: Sequence[Asked]) -> list[str]:
    """The keys whose history no single copy could have answered, or of which that could not be found out."""
    verdicts = {key: check(calls, REGISTER) for key, calls in operations(history).items()}
    return [
        f"key {key}: {verdict.value}"
        for key, verdict in sorted(verdicts.items())
        if verdict is not Verdict.LINEARIZABLE
    ]


def revisions_that_go_back(history: Iterable[Asked]) -> list[str]:
    """The store's revision is one sequence: a call that begins after another one was answered sees at least its
    revision, and a write that changed something a higher one, which no other write has."""
    answered = [one for one in history if one.how == "ok" and one.revision]
    moments = sorted(
        [(one.called, 1, one) for one in answered] + [(one.returned, 0, one) for one in answered],
        key=lambda moment: moment[:2],
    )
    highest: Asked | None = None
    floors: dict[int, Asked] = {}
    writers: dict[int, Asked] = {}
    problems = []
    for _, is_call, one in moments:
        if is_call:
            if highest is not None:
                floors[id(one)] = highest
            continue
        if highest is None or one.revision > highest.revision:
            highest = one
        changed = one.verb == "put" or (one.verb == "cas" and one.output is True)
        floor = floors.get(id(one))
        if floor is not None and one.revision < floor.revision + changed:
            problems.append(f"revision {one.revision} for {_short(one)} after {floor.revision} for {_short(floor)}")
        if changed and (other := writers.setdefault(one.revision, one)) is not one:
            problems.append(f"revision {one.revision} twice: {_short(one)} and {_short(other)}")
    return problems[:SHOWN_MAX]


def flows_that_are_wrong(history: Iterable[Asked]) -> list[str]:
    """A batch is applied as a whole; what was acknowledged is there; a write that its client gave up on (it went on to
    the next) never comes later. So a read sees one counter in all records: at least that of the last write that was
    acknowledged before it, at most that of the last one that was tried."""
    acknowledged: dict[str, int] = {}
    tried: dict[str, int] = {}
    seen: dict[str, int] = {}
    problems = []
    # Each key has one client, which asks one thing after the other.
    for one in sorted((one for one in history if one.verb in (FLOW_WRITE, FLOW_READ)), key=lambda one: one.called):
        if one.verb == FLOW_WRITE:
            tried[one.key] = int(str(one.value))
            if one.how == "ok":
                acknowledged[one.key] = int(str(one.value))
            continue
        if one.how != "ok":
            continue
        low = max(acknowledged.get(one.key, 0), seen.get(one.key, 0))
        counters = set(one.output)
        if len(counters) != 1 or not low <= min(counters) <= tried.get(one.key, 0):
            problems.append(
                f"flows {one.key}: {sorted(counters)} was read, from {low} to {tried.get(one.key, 0)} can be"
            )
        seen[one.key] = max(counters)
    return problems[:SHOWN_MAX]


def unexplained(history: Iterable[Asked]) -> list[str]:
    """Answers that no fault explains."""
    return [f"{_short(one)}: {one.why}" for one in history if one.how == "error"][:SHOWN_MAX]


def longest_gap(history: Iterable[Asked], begin: float, end: float) -> tuple[float, float]:
    """(seconds, when it began) of the longest time without any acknowledged write that overlaps [begin, end]."""
    moments = sorted(one.returned for one in history if one.how == "ok" and is_write(one))
    before = [moment for moment in moments if moment <= begin]
    inside = [moment for moment in moments if begin < moment <= end]
    line = [before[-1] if before else begin, *inside, end]
    return max((after - earlier, earlier) for earlier, after in pairwise(line))


def _short(one: Asked) -> str:
    return f"{one.verb} {one.key} of {one.client} at {one.called:.3f}"
