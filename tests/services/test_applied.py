"""WaitApplied: answered by what is applied, in time or refused in words; the same over REST in tests/rest."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from rocinante import limits
from rocinante.errors import ResourceExhausted, Unavailable
from rocinante.flows import FlowRecord, FlowTuple, encode_batch
from rocinante.node.applied import point_at
from rocinante.node.requests import WaitingReads
from rocinante.pb.v1 import flow_pb2 as pb
from tests.services.wire import Wire
from tests.support.local_node import LocalNode

WAIT, PUT, GET = (f"/rocinante.v1.Flow/{name}" for name in ("WaitApplied", "Put", "Get"))
FLOW = FlowRecord(FlowTuple.from_text("tcp", "192.0.2.1:1", "192.0.2.2:2"), updated_ms=1)


def put(wire: Wire) -> int:
    (batch,) = encode_batch([FLOW])
    return wire.call(PUT, pb.PutFlowsRequest(batch=batch), pb.PutFlowsResponse).index


def test_what_is_applied_is_answered_at_once(wire: Wire) -> None:
    index = put(wire)
    for asked in (0, 1, index):
        answer = wire.call(WAIT, pb.WaitAppliedRequest(index=asked), pb.WaitAppliedResponse)
        assert answer.index == index


def test_the_write_ends_the_wait_and_is_seen_by_a_stale_read(wire: Wire) -> None:
    index = put(wire) + 1
    waiting = wire.future(WAIT, pb.WaitAppliedRequest(index=index), pb.WaitAppliedResponse)
    with ThreadPoolExecutor(1) as other:
        written = other.submit(put, wire)
        assert waiting.result(30).index >= index
        found = wire.call(GET, pb.GetFlowsRequest(packed_keys=FLOW.key, consistency=pb.STALE), pb.GetFlowsResponse)
        assert found.packed.found == b"\1"
        assert written.result(30) == index


@pytest.mark.parametrize(("asked_ms", "call_s"), [(100, 60.0), (0, 0.5)])
def test_a_wait_that_is_not_met_ends_at_the_earlier_of_its_bounds(wire: Wire, asked_ms: int, call_s: float) -> None:
    began = time.monotonic()
    request = pb.WaitAppliedRequest(index=10**6, timeout_ms=asked_ms)
    failure = wire.fail(WAIT, request, timeout_s=call_s)
    assert time.monotonic() - began < 30
    assert failure.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
    if asked_ms:
        assert "did not come as far" in failure.text


def test_a_node_that_is_not_ready_says_so(wire: Wire, node: LocalNode) -> None:
    node.be_not_ready()
    assert wire.fail(WAIT, pb.WaitAppliedRequest(index=1)).code == "UNAVAILABLE"


def test_packed_keys_and_others_do_not_go_together(wire: Wire) -> None:
    failure = wire.fail(GET, pb.GetFlowsRequest(packed_keys=FLOW.key, keys=[FLOW.key]))
    assert (failure.code, "packed_keys: give either" in failure.text) == ("INVALID_ARGUMENT", True)


# --- the node's own part


class Node:
    """What is applied, and who waits for it."""

    def __init__(self) -> None:
        self.waiting = WaitingReads()
        self.applied = 0

    def wait(self, index: int, deadline: float = 1e12) -> Future[object]:
        return point_at(self.waiting, lambda: self.applied, index, deadline)  # type: ignore[return-value]

    def apply(self, index: int) -> None:
        self.applied = index
        for read in self.waiting.applied(index):
            read.future.set_result(None)  # type: ignore[arg-type]


def test_each_waits_for_its_own_index() -> None:
    node = Node()
    futures = [node.wait(index) for index in (3, 1, 2)]
    seen = []
    for index in range(4):
        node.apply(index)
        seen.append([future.done() for future in futures])
    assert seen == [[False] * 3, [False, True, False], [False, True, True], [True] * 3]
    assert len(node.waiting) == 0


def test_an_index_that_is_applied_while_the_wait_begins_is_not_missed() -> None:
    """Between the look and the add the apply thread goes past it, and does not look again."""
    node = Node()
    looks = iter((4, 5, 5))
    assert point_at(node.waiting, lambda: next(looks), 5, 1e12).done()


def test_the_late_are_told_and_leave_no_trace() -> None:
    node = Node()
    early, late = node.wait(9, deadline=10.0), node.wait(9, deadline=20.0)
    node.waiting.give_up_late(15.0)
    assert isinstance(early.exception(0), Unavailable)
    assert not late.done()
    node.waiting.give_up_late(20.0)
    assert isinstance(late.exception(0), Unavailable)
    assert len(node.waiting) == 0


def test_so_many_may_wait_and_no_more() -> None:
    node = Node()
    for _ in range(limits.APPLIED_WAITS_MAX):
        node.wait(1)
    with pytest.raises(ResourceExhausted, match="wait for an index already"):
        node.wait(1)
    node.apply(1)
    node.wait(2)
