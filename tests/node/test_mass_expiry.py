"""What ends together is dropped by one command after another, with a rest between them, until all of it is gone."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from itertools import count
from typing import Any

from rocinante import limits
from rocinante.flows import FlowRecord, FlowTuple, encode_batch
from rocinante.node.cluster_clock import ClusterClock
from rocinante.node.housekeeping import Housekeeping
from rocinante.ports import Outcome
from rocinante.state import StateMachine, command
from rocinante.state.command import Kind
from rocinante.state.flows import encode_put

COMMANDS = 3
FLOWS = COMMANDS * limits.EXPIRE_ROWS
TOOK_S = 0.03
TIMEOUT_S = 60.0


def test_one_command_at_a_time_and_a_rest_as_long_as_it_took() -> None:
    now_ms = time.time_ns() // 1_000_000
    state, index = StateMachine(), count(1)
    records = [
        FlowRecord(FlowTuple(0, 6, at.to_bytes(4), 1024, b"\xc0\0\2\1", 443), updated_ms=1, deadline_ms=2)
        for at in range(FLOWS)
    ]
    for batch in encode_batch(records):
        state.apply(next(index), 1, command.pack([command.encode(Kind.FLOW_PUT, 0, 0, 0, encode_put("dc1", batch))]))
    begun: list[float] = []
    done: list[float] = []
    gone = threading.Event()

    def propose(kind: Kind, body: bytes) -> Future[Outcome]:
        assert kind is Kind.FLOW_EXPIRE
        assert len(begun) == len(done), "another one is under way"
        begun.append(time.monotonic())
        future: Future[Any] = Future()  # nobody looks at what it brings

        def commit() -> None:
            state.apply(next(index), 1, command.pack([command.encode(kind, 0, 0, 0, body)]))
            done.append(time.monotonic())
            future.set_result(None)
            if len(done) == COMMANDS:
                gone.set()

        threading.Timer(TOOK_S, commit).start()
        return future

    clock = ClusterClock(
        monotonic_ms=lambda: time.monotonic_ns() // 1_000_000,
        wall_ms=lambda: time.time_ns() // 1_000_000,
        replicated_ms=now_ms,
    )
    housekeeping = Housekeeping(
        state, clock, propose=propose, leads=lambda: True, tell_peers=lambda: None, check_room=lambda: None,
        keep_revisions=lambda: 0,
    )  # fmt: skip
    housekeeping.start()
    try:
        assert gone.wait(TIMEOUT_S)
    finally:
        housekeeping.stop(TIMEOUT_S)
    assert state.flows_count() == 0
    rests = [after - before for before, after in zip(done, begun[1:], strict=False)]
    assert len(rests) == COMMANDS - 1
    assert min(rests) >= 0.9 * TOOK_S
