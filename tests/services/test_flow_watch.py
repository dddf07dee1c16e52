"""rocinante.v1.Flow/Watch over a real socket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rocinante import convert, limits
from rocinante.flows import FlowRecord, decode_batch, encode_batch, packed
from rocinante.pb.v1 import flow_pb2 as pb
from rocinante.services.server import GrpcServer
from rocinante.state.command import Kind
from rocinante.state.flows import Rows, encode_expire
from tests.services.test_flow import DELETE, PUT, put_batch, put_objects, record, record_v6
from tests.services.wire import WAIT_S, Wire
from tests.support.local_node import LocalNode

PATH = "/rocinante.v1.Flow/Watch"
Answer = pb.WatchFlowsResponse
FAR_MS = 1 << 50
EVENTS, SNAPSHOT, SNAPSHOT_DONE, FELL_BEHIND = 0, 1, 2, 3


class FlowWatch:
    def __init__(self, wire: Wire, node: LocalNode, **what: object) -> None:
        watchers = node.watchers
        self.answers: Any = wire.stream(PATH, pb.WatchFlowsRequest(**what), Answer, 30)  # type: ignore[arg-type]
        if not what.get("from_index") and not what.get("snapshot"):
            assert node.wait_until(lambda: node.watchers > watchers, WAIT_S)

    def next(self) -> pb.WatchFlowsResponse:
        answer: pb.WatchFlowsResponse = next(self.answers)
        return answer

    def flows(self, count: int) -> list[FlowRecord]:
        """The next flows that were put, from as many answers as it takes."""
        found: list[FlowRecord] = []
        while len(found) < count:
            for event in self.next().events:
                assert event.type == pb.FlowEvent.PUT
                found.extend(decode_batch(event.batch) if event.batch else [])
                found.extend(convert.record_from_message(flow) for flow in event.flows)
        return found


def delete(wire: Wire, *records: FlowRecord) -> pb.DeleteFlowsResponse:
    request = pb.DeleteFlowsRequest(keys=[one.key for one in records])
    return wire.call(DELETE, request, pb.DeleteFlowsResponse)


def test_from_now_on_as_objects(wire: Wire, node: LocalNode) -> None:
    put_batch(wire, record(1))
    watch = FlowWatch(wire, node)
    written = put_batch(wire, record(2), record(3))
    answer = watch.next()
    assert (answer.state, answer.index) == (EVENTS, written.index)
    (event,) = answer.events
    assert (event.type, event.index, event.origin) == (pb.FlowEvent.PUT, written.index, "dc1")
    assert [convert.record_from_message(flow) for flow in event.flows] == [record(2), record(3)]


def test_batches_are_passed_on_as_they_were_written(wire: Wire, node: LocalNode) -> None:
    watch = FlowWatch(wire, node, batches=True)
    put_batch(wire, record(2), record(3))
    (event,) = watch.next().events
    assert event.batch == encode_batch([record(2), record(3)])[0]
    assert not event.flows


def test_of_a_packed_batch_watchers_get_what_it_stands_for(wire: Wire, node: LocalNode) -> None:
    flows = [record(number, mark=number << 24, deadline_ms=FAR_MS + (number << 20)) for number in range(1, 99)]
    (batch,) = encode_batch(flows)
    written = bytes(packed(batch))
    assert written != batch
    whole = FlowWatch(wire, node, batches=True)
    some = FlowWatch(wire, node, filter=pb.FlowFilter(address=["192.0.2.7"]))
    assert wire.call(PUT, pb.PutFlowsRequest(batch=written), pb.PutFlowsResponse).records == 98
    (event,) = whole.next().events
    assert event.batch == batch
    assert some.flows(1) == [flows[6]]


def test_deletions_and_expiry_come_as_keys(wire: Wire, node: LocalNode) -> None:
    put_batch(wire, record(1), record(2, deadline_ms=50), record(3))
    watch = FlowWatch(wire, node)
    deleted = delete(wire, record(1), record(77))
    (event,) = watch.next().events
    assert (event.type, list(event.keys), event.index) == (pb.FlowEvent.DELETE, [record(1).key], deleted.index)
    node.propose(Kind.FLOW_EXPIRE, encode_expire(60, Rows("dc1", 16, 0, 3))).result(WAIT_S)
    (event,) = watch.next().events
    assert (event.type, list(event.keys)) == (pb.FlowEvent.EXPIRE, [record(2).key])


def test_from_an_index_everything_after_it(wire: Wire, node: LocalNode) -> None:
    first = put_batch(wire, record(1))
    put_batch(wire, record(2))
    watch = FlowWatch(wire, node, from_index=first.index)
    put_batch(wire, record(3))
    assert watch.flows(2) == [record(2), record(3)]


@pytest.mark.parametrize("batches", [True, False], ids=["batches", "objects"])
def test_the_table_first_and_then_the_changes(wire: Wire, node: LocalNode, batches: bool) -> None:
    table = [record(1), record_v6(1), record(2, backend_name="web", application_data=b"x")]
    index = put_objects(wire, *table).index
    watch = FlowWatch(wire, node, snapshot=True, batches=batches)
    seen: list[FlowRecord] = []
    while (answer := watch.next()).state == SNAPSHOT:
        assert answer.index == index
        for event in answer.events:
            assert bool(event.batch) == batches
            seen.extend(decode_batch(event.batch) if batches else map(convert.record_from_message, event.flows))
    assert (answer.state, answer.index) == (SNAPSHOT_DONE, index)
    assert sorted(seen, key=lambda flow: flow.key) == sorted(table, key=lambda flow: flow.key)
    put_batch(wire, record(9))
    assert watch.flows(1) == [record(9)]


FILTERS = [
    ({"address": ["192.0.2.2"]}, [2]),
    ({"port": [443], "address": ["192.0.2.0/30"]}, [1, 2, 3]),
    ({"backend": "web"}, [3]),
    ({"zone": 9}, []),
]


@pytest.mark.parametrize(("conditions", "numbers"), FILTERS, ids=str)
@pytest.mark.parametrize("batches", [True, False], ids=["batches asked for", "objects"])
def test_a_filter_lets_through_what_it_says(
    wire: Wire, node: LocalNode, conditions: dict[str, object], numbers: list[int], batches: bool
) -> None:
    flow_filter = pb.FlowFilter(**conditions)  # type: ignore[arg-type]
    watch = FlowWatch(wire, node, filter=flow_filter, batches=batches)
    records = [record(1), record(2), record(3, backend_name="web"), record(4)]
    put_objects(wire, *records)
    put_batch(wire, *(record(number, mark=1) for number in (1, 2, 3, 4)))
    last = delete(wire, *records)
    wanted = [records[number - 1] for number in numbers]
    if "backend" not in conditions:
        wanted += [record(number, mark=1) for number in numbers]
    assert watch.flows(len(wanted)) == wanted
    if "backend" not in conditions and numbers:
        # What the value was is not known any more when it is gone, so only the key can be filtered.
        (event,) = watch.next().events
        packed = [event.packed_keys[at : at + 16] for at in range(0, len(event.packed_keys), 16)]
        assert (event.index, event.key_bytes) == (last.index, 16 if batches else 0)
        assert sorted(packed if batches else event.keys) == sorted(record(number).key for number in numbers)


def test_an_origin_keeps_batches_whole(wire: Wire, node: LocalNode) -> None:
    watch = FlowWatch(wire, node, filter=pb.FlowFilter(origin="dc2"), batches=True)
    put_batch(wire, record(1), origin="dc1")
    put_batch(wire, record(2), origin="dc2")
    (event,) = watch.next().events
    assert (event.origin, decode_batch(event.batch)) == ("dc2", [record(2)])


def test_a_large_batch_comes_in_pieces_and_can_be_resumed_from_any(
    wire: Wire, node: LocalNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FLOW_WATCH_RECORDS_MAX", 10)
    monkeypatch.setattr(limits, "FLOW_WATCH_RESPONSE_BYTES_MAX", 1000)
    before = put_batch(wire, record(1)).index
    watch = FlowWatch(wire, node)
    written = put_batch(wire, *(record(number) for number in range(1, 36))).index
    answers = [watch.next() for _ in range(4)]
    assert [len(answer.events[0].flows) for answer in answers] == [10, 10, 10, 5]
    assert all(answer.index < written for answer in answers[:3])
    assert answers[3].index == written
    assert before < written


def test_an_index_that_is_not_kept_any_more(wire: Wire, node: LocalNode) -> None:
    put_batch(wire, record(1))
    node.forget_history()
    watch = FlowWatch(wire, node, from_index=1)
    assert watch.next().state == FELL_BEHIND
    with pytest.raises(StopIteration):
        watch.next()
    again = FlowWatch(wire, node, snapshot=True)
    assert [again.next().state for _ in range(2)] == [SNAPSHOT, SNAPSHOT_DONE]


def test_a_silent_watch_is_told_the_index_now_and_then(
    wire: Wire, node: LocalNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FLOW_WATCH_SILENT_ENTRIES_MAX", 3)
    first = put_batch(wire, record(1)).index
    watch = FlowWatch(wire, node, from_index=first, filter=pb.FlowFilter(zone=9))
    for _ in range(8):
        put_batch(wire, record(1))
    answer = watch.next()
    assert (answer.state, len(answer.events)) == (EVENTS, 0)
    assert answer.index > first + 3


def test_a_slow_watcher_is_told_that_it_fell_behind(node: LocalNode, serve: Callable[..., GrpcServer]) -> None:
    node.watch_events_max = 10
    server = serve(node)
    wire = Wire(f"127.0.0.1:{server.port}")
    watch = FlowWatch(wire, node, batches=True)
    records = [record(1, application_data=bytes(1000))] * 300
    batch = encode_batch(records)[0]
    for _ in range(40):
        wire.call("/rocinante.v1.Flow/Put", pb.PutFlowsRequest(batch=batch), pb.PutFlowsResponse)
    answers = list(watch.answers)
    assert answers[-1].state == FELL_BEHIND
    assert answers[-1].index == answers[-2].index
    assert sum(len(answer.events) for answer in answers) < 40
    assert node.watchers == 0
    wire.close()


def test_a_filter_that_is_none(wire: Wire) -> None:
    refused = wire.fail(PATH, pb.WatchFlowsRequest(filter=pb.FlowFilter(address=["x"])))
    assert refused.code == "INVALID_ARGUMENT"
    assert refused.text.startswith("filter.address[0]")
