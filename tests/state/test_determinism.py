"""Equal entries, equal states: whatever else a node does in between (snapshots, restarts from them, reads, watches)."""

from __future__ import annotations

import random

import pytest

from rocinante import limits
from rocinante.errors import RocinanteError
from rocinante.pb.etcd import rpc_pb2
from rocinante.state.machine import StateMachine
from rocinante.state.outcome import encode_outcome
from rocinante.state.snapshot import FrozenState
from tests.state.harness import copy, digest
from tests.state.scenario import History

EVERYTHING = rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0")


@pytest.fixture(autouse=True)
def _small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """So small that every bound is met in a few hundred entries."""
    for name, value in (
        ("SESSIONS_MAX", 4),
        ("SESSION_WINDOW_MAX", 6),
        ("SESSION_RESULT_BYTES_MAX", 4000),
        ("SESSION_IDLE_MS_MAX", 60_000),
        ("KV_PIECE_KEYS", 3),
        ("KV_COMPACT_STEP_CHANGES", 5),
        ("FLOW_PIECE_RECORDS", 16),
    ):
        monkeypatch.setattr(limits, name, value)


def outcomes(machine: StateMachine, index: int, data: bytes) -> list[tuple[int, int, bytes]]:
    return [(session, seq, encode_outcome(result)) for session, seq, result in machine.apply(index, 1, data).outcomes]


def events(machine: StateMachine) -> object:
    compacted = machine.compacted_revision
    found, at = [], compacted
    while at <= machine.revision:
        page = machine.kv_events_since(at)
        found += page.changes
        at = page.next_revision
    return found


@pytest.mark.parametrize("seed", range(4))
def test_replicas_stay_equal_whatever_else_they_do(seed: int) -> None:
    some, history = random.Random(seed), History(seed)
    plain, restored, busy = StateMachine(), StateMachine(), StateMachine()
    held: list[tuple[FrozenState, bytes]] = []
    errors = 0
    for index, data in enumerate(history.entries(500), 1):
        expected = outcomes(plain, index, data)
        where = f"seed {seed}, entry {index}"
        assert outcomes(restored, index, data) == expected, where
        assert outcomes(busy, index, data) == expected, where
        errors += sum(outcome[2][0] >= 64 for outcome in expected)
        history.saw(plain.revision)
        if some.random() < 0.05:
            restored = copy(restored)
        if some.random() < 0.1 and len(held) < limits.STATE_FREEZES_MAX - 1:
            held.append((busy.freeze(), digest(plain)))
        if held and some.random() < 0.1:
            frozen, at_freeze = held.pop(some.randrange(len(held)))
            assert frozen.digest() == at_freeze, where
            frozen.close()
        if index % 50 == 0:
            assert digest(plain) == digest(restored) == digest(busy), where
            assert plain.kv_range(EVERYTHING) == restored.kv_range(EVERYTHING) == busy.kv_range(EVERYTHING), where
            assert events(plain) == events(restored) == events(busy), where
    assert errors > 50, "the history has much that is refused"
    assert plain.flows_count() > 50
    assert plain.revision > 80
    for frozen, at_freeze in held:
        assert frozen.digest() == at_freeze
        frozen.close()


@pytest.mark.parametrize("seed", range(3))
def test_what_is_refused_changes_nothing(seed: int) -> None:
    """Bare commands, one an entry: after an error the state is what it was, but for the position."""
    history = History(seed + 100)
    machine = StateMachine()
    refused = 0
    for index, data in enumerate(history.entries(400), 1):
        before = copy(machine)
        applied = machine.apply(index, 1, data)
        history.saw(machine.revision)
        results = [result for _, _, result in applied.outcomes]
        if results and all(isinstance(result, RocinanteError) for result in results):
            if any(session and before.has_session(session) for session, _, _ in applied.outcomes):
                continue  # A session keeps the error.
            before.apply(index, 1, b"")
            assert digest(machine) == digest(before), f"seed {seed}, entry {index}"
            assert applied.events is None
            refused += 1
    assert refused > 20
