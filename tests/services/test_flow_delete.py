"""rocinante.v1.Flow/Delete with a filter, over a real socket."""

from __future__ import annotations

import pytest

from rocinante import limits
from rocinante.pb.v1 import flow_pb2 as pb
from tests.services.test_flow import DELETE, list_all, put_batch, record, record_v6
from tests.services.wire import Wire
from tests.support.local_node import LocalNode


def delete(wire: Wire, **fields: object) -> pb.DeleteFlowsResponse:
    return wire.call(DELETE, pb.DeleteFlowsRequest(**fields), pb.DeleteFlowsResponse)  # type: ignore[arg-type]


def test_a_filter_an_origin_or_all(wire: Wire) -> None:
    for origin in ("", "dc2"):
        put_batch(wire, *(record(number) for number in range(1, 9)), origin=origin)
        put_batch(wire, record_v6(1), origin=origin)
    answer = delete(wire, filter=pb.FlowFilter(address=["192.0.2.0/30"]))
    assert (answer.deleted, answer.cursor, answer.looked_at, answer.places) == (3, b"", 9, 9)
    assert answer.index > 0
    assert delete(wire, filter=pb.FlowFilter(address=["192.0.2.0/30"])).deleted == 0, "it may be repeated"
    assert delete(wire, filter=pb.FlowFilter(protocol=[17]), origin="*").deleted == 2
    assert delete(wire, all=True).deleted == 5, "of the node's own datacenter"
    assert len(list_all(wire)) == 8
    assert delete(wire, filter=pb.FlowFilter(), origin="dc2").deleted == 8, "an origin is a condition"
    assert list_all(wire) == []


def test_more_than_fits_the_time_is_done_by_cursor(
    wire: Wire, node: LocalNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FLOW_EXPIRE_ROWS_MAX", 10)
    monkeypatch.setattr(limits, "FLOW_DELETE_CALL_S", 0.0)
    put_batch(wire, *(record(number) for number in range(1, 36)))
    answers = [delete(wire, all=True)]
    while answers[-1].cursor:
        answers.append(delete(wire, all=True, cursor=answers[-1].cursor))
    assert [(answer.deleted, answer.looked_at) for answer in answers] == [(10, 10), (10, 10), (10, 10), (5, 5)]
    assert node.state.flows_count() == 0


def test_a_client_session_names_one_command_and_is_not_used_up(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FLOW_EXPIRE_ROWS_MAX", 10)
    put_batch(wire, *(record(number) for number in range(1, 36)))
    session = [("rocinante-session", f"{7:016x}"), ("rocinante-seq", "1")]
    request = pb.DeleteFlowsRequest(all=True)
    assert wire.call(DELETE, request, pb.DeleteFlowsResponse, metadata=session).deleted == 35


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.DeleteFlowsRequest(filter=pb.FlowFilter()), "filter: has no condition"),
        (pb.DeleteFlowsRequest(filter=pb.FlowFilter(port=[1]), keys=[b"x"]), "filter: give either"),
        (pb.DeleteFlowsRequest(filter=pb.FlowFilter(origin="dc1")), "filter.origin"),
        (pb.DeleteFlowsRequest(filter=pb.FlowFilter(address=["x"])), "filter.address"),
        (pb.DeleteFlowsRequest(all=True, cursor=b"x"), "cursor"),
        (pb.DeleteFlowsRequest(all=True, origin="x" * 64), "origin"),
        (pb.DeleteFlowsRequest(), "tuples"),
    ],
)
def test_what_cannot_be_names_the_field_and_deletes_nothing(
    wire: Wire, node: LocalNode, request_: pb.DeleteFlowsRequest, field: str
) -> None:
    put_batch(wire, record(1))
    failure = wire.fail(DELETE, request_)
    assert failure.code == "INVALID_ARGUMENT"
    assert field in failure.text
    assert node.state.flows_count() == 1
