"""rocinante.v1.Flow without Watch, over a real socket."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from rocinante import convert, limits
from rocinante.flows import FlowRecord, FlowTuple, TcpState, encode_batch, packed
from rocinante.pb.v1 import cluster_pb2
from rocinante.pb.v1 import flow_pb2 as pb
from rocinante.services.call import Calls
from rocinante.services.flow import INLINE_RECORDS_MAX
from tests.services.wire import Wire
from tests.support.local_node import LocalNode

PUT, GET, LIST, DELETE = (f"/rocinante.v1.Flow/{name}" for name in ("Put", "Get", "List", "Delete"))
HOUR_MS = 3_600_000


def record(number: int, **more: object) -> FlowRecord:
    original = FlowTuple.from_text("tcp", f"192.0.2.{number}:1234", "198.51.100.7:443")
    return FlowRecord(original, TcpState.ESTABLISHED, updated_ms=1000 + number, **more)  # type: ignore[arg-type]


def record_v6(number: int) -> FlowRecord:
    return FlowRecord(FlowTuple.from_text("udp", f"[2001:db8::{number:x}]:53", "[2001:db8::1:1]:53"), updated_ms=5)


def put_batch(wire: Wire, *records: FlowRecord, origin: str = "") -> pb.PutFlowsResponse:
    (batch,) = encode_batch(records)
    return wire.call(PUT, pb.PutFlowsRequest(batch=batch, origin=origin), pb.PutFlowsResponse)


def put_objects(wire: Wire, *records: FlowRecord) -> pb.PutFlowsResponse:
    request = pb.PutFlowsRequest(flows=[convert.record_to_message(one) for one in records])
    return wire.call(PUT, request, pb.PutFlowsResponse)


def get(wire: Wire, *tuples: FlowTuple, **more: object) -> pb.GetFlowsResponse:
    messages = [convert.tuple_to_message(one) for one in tuples]
    return wire.call(GET, pb.GetFlowsRequest(tuples=messages, **more), pb.GetFlowsResponse)  # type: ignore[arg-type]


def list_all(wire: Wire, page: int = 2, **conditions: object) -> list[pb.FlowRecord]:
    found: list[pb.FlowRecord] = []
    cursor = b""
    while True:
        request = pb.ListFlowsRequest(filter=pb.FlowFilter(**conditions), limit=page, cursor=cursor)  # type: ignore[arg-type]
        answer = wire.call(LIST, request, pb.ListFlowsResponse)
        assert len(answer.flows) <= page
        found.extend(answer.flows)
        cursor = answer.cursor
        if not cursor:
            return found


def test_a_batch_is_found_by_either_direction_and_by_key(wire: Wire, node: LocalNode) -> None:
    written = put_batch(wire, record(1), record(2))
    assert (written.records, written.leader) == (2, node.member.id)
    original = record(1).original
    found = get(wire, original, original.turned(), record(9).original, keys=[record(2).key])
    assert [one.found for one in found.results] == [True, True, False, True]
    flow = found.results[0].flow
    assert convert.record_from_message(flow) == record(1)
    assert (flow.origin, flow.id) == ("dc1", record(1).key.hex())
    assert found.index >= written.index
    assert found.leader == node.member.id


def test_objects_of_all_kinds_come_back_as_they_were(wire: Wire, node: LocalNode) -> None:
    records = [record(1), record_v6(1), record(2, backend_name="web-1", application_data=b"\0\xff"), record(3, mark=7)]
    proposals = node.proposals
    assert put_objects(wire, *records).records == 4
    assert node.proposals == proposals + 1  # one command, however many kinds
    found = get(wire, *(one.original for one in records))
    assert [convert.record_from_message(one.flow) for one in found.results] == records


def test_a_request_whose_fields_stand_in_another_order(wire: Wire) -> None:
    """What a node reads without parsing is the batch at the beginning; nobody has to write it there."""
    (first,), (second,) = encode_batch([record(1)]), encode_batch([record(2), record(3)])
    batch, other = (pb.PutFlowsRequest(batch=one).SerializeToString() for one in (first, second))
    origin = pb.PutFlowsRequest(origin="dc2").SerializeToString()
    for raw, records, owner in ((origin + batch, 1, "dc2"), (batch + origin, 1, "dc2"), (batch + other, 2, "dc1")):
        assert wire.call(PUT, raw, pb.PutFlowsResponse).records == records
        assert owner in {flow.origin for flow in list_all(wire, origin=owner)}
    assert wire.fail(PUT, batch[:-1]).code == "INVALID_ARGUMENT"


def test_an_object_without_an_update_time_gets_the_nodes(wire: Wire) -> None:
    before_ms = int(time.time() * 1000)
    flow = record(1)
    flow.updated_ms = 0
    put_objects(wire, flow)
    updated_ms = get(wire, flow.original).results[0].flow.updated_ms
    assert before_ms <= updated_ms <= int(time.time() * 1000)


def test_a_large_batch_of_objects_and_of_bytes(wire: Wire, node: LocalNode) -> None:
    records = _many(2000)
    assert put_objects(wire, *records).records == 2000
    assert put_batch(wire, *records).records == 2000
    assert node.state.flows_count() == 2000
    assert len(get(wire, *(one.original for one in records)).results) == 2000


def _many(count: int, **more: object) -> list[FlowRecord]:
    tuples = (FlowTuple.from_text("tcp", f"10.0.{n // 250}.{n % 250}:1", "10.9.9.9:2") for n in range(count))
    return [FlowRecord(one, updated_ms=1, **more) for one in tuples]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("count", "more", "pack", "on_the_loop"),
    [
        (INLINE_RECORDS_MAX, {}, False, True),
        (INLINE_RECORDS_MAX, {}, True, True),
        (INLINE_RECORDS_MAX + 1, {}, False, False),
        (INLINE_RECORDS_MAX, {"application_data": b"variable"}, False, False),
        (100, {"application_data": b"variable"}, False, True),
    ],
    ids=["fixed", "packed", "one more", "many variable", "few variable"],
)
def test_what_is_checked_quickly_is_checked_on_the_loop(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, count: int, more: dict[str, object], pack: bool, on_the_loop: bool
) -> None:
    handed_over: list[object] = []
    offload = Calls.offload

    async def noticed(self: Calls, work: Callable[..., Any], *arguments: Any) -> Any:
        handed_over.append(work)
        return await offload(self, work, *arguments)

    monkeypatch.setattr(Calls, "offload", noticed)
    (batch,) = encode_batch(_many(count, **more))
    request = pb.PutFlowsRequest(batch=bytes(packed(batch)) if pack else batch)
    assert wire.call(PUT, request, pb.PutFlowsResponse).records == count
    assert (not handed_over) is on_the_loop


def test_flows_past_their_deadline_are_hidden(wire: Wire, node: LocalNode) -> None:
    now_ms = int(time.time() * 1000)
    put_batch(wire, record(1, deadline_ms=now_ms - 1), record(2, deadline_ms=now_ms + HOUR_MS))
    found = get(wire, record(1).original, record(2).original)
    assert [one.found for one in found.results] == [False, True]
    assert [flow.id for flow in list_all(wire)] == [record(2).key.hex()]
    assert node.state.flows_count() == 2


def test_each_origin_has_its_own_and_the_newest_is_found(wire: Wire) -> None:
    put_batch(wire, record(1, mark=1), origin="dc1")
    put_batch(wire, FlowRecord(record(1).original, updated_ms=9999, mark=2), origin="dc2")
    flow = get(wire, record(1).original).results[0].flow
    assert (flow.origin, flow.mark) == ("dc2", 2)
    assert [flow.mark for flow in list_all(wire, origin="dc1")] == [1]
    request = pb.DeleteFlowsRequest(keys=[record(1).key], origin="dc2")
    assert wire.call(DELETE, request, pb.DeleteFlowsResponse).deleted == 1
    assert get(wire, record(1).original).results[0].flow.mark == 1


def test_delete_counts_what_was_there(wire: Wire, node: LocalNode) -> None:
    put_batch(wire, *(record(number) for number in range(1, 6)))
    request = pb.DeleteFlowsRequest(
        tuples=[convert.tuple_to_message(record(1).original.turned())], keys=[record(2).key, record(77).key]
    )
    answer = wire.call(DELETE, request, pb.DeleteFlowsResponse)
    assert (answer.deleted, answer.leader) == (2, node.member.id)
    assert node.state.flows_count() == 3


FILTERS = [
    ({}, 6),
    ({"address": ["192.0.2.1"]}, 1),
    ({"address": ["192.0.2.0/30"]}, 3),
    ({"address": ["192.0.2.1", "2001:db8::/32"]}, 2),
    ({"port": [53]}, 1),
    ({"protocol": [6], "port": [443]}, 5),
    ({"tcp_state": [3]}, 5),
    ({"backend": "web-1"}, 1),
    ({"zone": 3}, 0),
    ({"origin": "elsewhere"}, 0),
]


@pytest.mark.parametrize(("conditions", "count"), FILTERS, ids=str)
def test_list_filters_and_pages(wire: Wire, conditions: dict[str, object], count: int) -> None:
    put_objects(wire, *(record(number) for number in range(1, 5)), record_v6(1), record(5, backend_name="web-1"))
    found = list_all(wire, 2, **conditions)
    assert len(found) == count
    assert len({flow.id for flow in found}) == count


def test_stale_answers_need_no_leader(wire: Wire, node: LocalNode) -> None:
    put_batch(wire, record(1))
    node.be_without_leader()
    answer = get(wire, record(1).original, consistency=pb.STALE)
    assert answer.results[0].found
    assert answer.age_ms == 0
    listed = wire.call(LIST, pb.ListFlowsRequest(consistency=pb.STALE), pb.ListFlowsResponse)
    assert len(listed.flows) == 1
    refused = wire.fail(GET, pb.GetFlowsRequest(keys=[record(1).key]))
    assert refused.code == "UNAVAILABLE"
    assert wire.fail(LIST, pb.ListFlowsRequest()).code == "UNAVAILABLE"


GOOD = encode_batch([record(1)])[0]
MESSAGE = convert.record_to_message(record(1))


def changed(**fields: object) -> pb.FlowRecord:
    message = pb.FlowRecord()
    message.CopyFrom(MESSAGE)
    message.MergeFrom(pb.FlowRecord(**fields))  # type: ignore[arg-type]
    return message


REFUSED = [
    (PUT, pb.PutFlowsRequest(), "flows: 0 flows; expected 1 to 65536"),
    (PUT, pb.PutFlowsRequest(batch=GOOD, flows=[MESSAGE]), "flows: give either a batch or flows, not both"),
    (PUT, pb.PutFlowsRequest(batch=b"XXXX" + GOOD[4:]), "batch.magic: b'XXXX' is not b'RFB1'"),
    (PUT, pb.PutFlowsRequest(batch=GOOD[:-1]), "batch: 89 bytes of records; 1 × 90 are expected"),
    (PUT, pb.PutFlowsRequest(batch=GOOD[:50] + b"\xff" + GOOD[51:]), "batch[0].tcp_state"),
    (PUT, pb.PutFlowsRequest(flows=[MESSAGE, pb.FlowRecord()]), "flows[1].original: missing"),
    (PUT, pb.PutFlowsRequest(flows=[changed(tcp_state=77)]), "flows[0].tcp_state: 77 is not in 0 to 9"),
    (
        PUT,
        pb.PutFlowsRequest(flows=[changed(original=pb.Tuple(zone=65536))]),
        "flows[0].original.zone: 65536 is not",
    ),
    (
        PUT,
        pb.PutFlowsRequest(flows=[changed(original=pb.Tuple(source=pb.Endpoint(address=b"abc")))]),
        "flows[0].original.source.address: 3 bytes; an address has 4 or 16",
    ),
    (
        PUT,
        pb.PutFlowsRequest(flows=[changed(application_data=bytes(limits.FLOW_APPLICATION_DATA_BYTES_MAX + 1))]),
        "flows[0].application_data: 1025 bytes; at most 1024",
    ),
    (PUT, pb.PutFlowsRequest(flows=[changed(backend_name="x" * 256)]), "flows[0].backend_name: 256 bytes; at most 255"),
    (PUT, pb.PutFlowsRequest(batch=GOOD, origin="x" * 64), "origin: 64 bytes; at most 63"),
    (GET, pb.GetFlowsRequest(), "tuples: 0 tuples and keys; expected 1 to 10000"),
    (GET, pb.GetFlowsRequest(keys=[b"short"]), "keys[0]: 5 bytes; a key has 16 (IPv4) or 40 (IPv6)"),
    (GET, pb.GetFlowsRequest(tuples=[pb.Tuple()]), "tuples[0].source.address: 0 bytes; an address has 4 or 16"),
    (GET, pb.GetFlowsRequest(keys=[record(1).key], consistency=7), "consistency: 7 is neither"),  # type: ignore[arg-type]
    (LIST, pb.ListFlowsRequest(limit=10_001), "limit: 10001 is more than 10000"),
    (LIST, pb.ListFlowsRequest(cursor=b"x"), "cursor"),
    (LIST, pb.ListFlowsRequest(filter=pb.FlowFilter(address=["nonsense"])), "filter.address[0]: 'nonsense' is not"),
    (LIST, pb.ListFlowsRequest(filter=pb.FlowFilter(port=[70000])), "filter.port[0]: 70000 is not in 0 to 65535"),
    (DELETE, pb.DeleteFlowsRequest(), "tuples: 0 tuples and keys"),
    (DELETE, pb.DeleteFlowsRequest(keys=[b""]), "keys[0]: 0 bytes"),
]


@pytest.mark.parametrize(("path", "request_", "text"), REFUSED, ids=[case[2][:40] for case in REFUSED])
def test_bad_input_is_refused_by_field_and_changes_nothing(
    wire: Wire, node: LocalNode, path: str, request_: pb.PutFlowsRequest, text: str
) -> None:
    proposals = node.proposals
    refused = wire.fail(path, request_)
    assert refused.code == "INVALID_ARGUMENT"
    assert refused.text.startswith(text), refused.text
    assert node.proposals == proposals


def test_an_oversized_batch_is_refused(wire: Wire, node: LocalNode) -> None:
    refused = wire.fail(PUT, pb.PutFlowsRequest(batch=bytes(limits.FLOW_BATCH_BYTES_MAX + 1)))
    assert refused[:2] == ("INVALID_ARGUMENT", f"batch: {limits.FLOW_BATCH_BYTES_MAX + 1} bytes; at most 8388608")


def test_a_full_buffer_is_an_answer(wire: Wire, node: LocalNode) -> None:
    node.ingress_max = 0
    refused = wire.fail(PUT, pb.PutFlowsRequest(batch=GOOD))
    assert refused[:2] == ("RESOURCE_EXHAUSTED", "the ingress buffer is full (0 proposals)")


def test_a_retried_batch_is_applied_once(wire: Wire, node: LocalNode) -> None:

    path = "/rocinante.v1.Cluster/OpenSession"
    opened = wire.call(path, cluster_pb2.OpenSessionRequest(), cluster_pb2.OpenSessionResponse)
    metadata = [("rocinante-session", f"{opened.session:016x}"), ("rocinante-seq", "1")]
    delete = pb.DeleteFlowsRequest(keys=[record(1).key])
    put_batch(wire, record(1))
    first = wire.call(DELETE, delete, pb.DeleteFlowsResponse, metadata=metadata)
    again = wire.call(DELETE, delete, pb.DeleteFlowsResponse, metadata=metadata)
    assert first.deleted == again.deleted == 1
