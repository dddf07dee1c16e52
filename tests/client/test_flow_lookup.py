"""Many flows looked up at once, over a real socket."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rocinante.client import Client
from rocinante.errors import InvalidArgument
from rocinante.flows import FlowColumns, FlowRecord, FlowTuple


def record(at: int, **more: Any) -> FlowRecord:
    return FlowRecord(FlowTuple.from_text("tcp", f"10.0.{at // 256}.{at % 256}:7", "192.0.2.1:443"), mark=at, **more)


def columns(count: int) -> FlowColumns:
    return FlowColumns(
        source=np.arange(0x0A000000, 0x0A000000 + count),
        destination="192.0.2.1",
        protocol=6,
        source_port=7,
        destination_port=443,
    )


@pytest.mark.parametrize("stale", [False, True])
def test_found_and_not_found_as_columns_and_as_objects(client: Client, stale: bool) -> None:
    there = [record(at, updated_ms=1) for at in range(3_000) if at % 3]
    there[10].backend_name = "web"
    client.flows.put(there)
    answer = client.flows.get_many(columns(3_000), stale=stale)
    by_key = {flow.key: flow for flow in there}
    expected = [by_key.get(record(at).key) for at in range(3_000)]
    entries = answer.entries()
    assert [None if entry is None else entry.record for entry in entries] == expected
    assert answer.found.tolist() == [flow is not None for flow in expected]
    assert {answer.origin(number) for number in range(3_000)} == {"", "dc1"}
    assert len(answer) == 3_000
    rows, found = client.flows.get_columns(columns(3_000), stale=stale)
    assert found is not None
    assert found.mark.tolist() == rows.tolist() == [f.mark for f in expected if f is not None and not f.backend_name]


def test_the_ways_to_name_them(client: Client) -> None:
    flows = [record(1, updated_ms=1), record(2, updated_ms=1)]
    client.flows.put(flows)
    keys = b"".join(flow.key for flow in flows)
    ways: list[Any] = [keys, flows, [flow.original for flow in flows], [flow.key.hex() for flow in flows]]
    for way in ways:
        assert [entry and entry.record for entry in client.flows.get_many(way).entries()] == flows


def test_nothing_asked_and_nothing_there(client: Client) -> None:
    assert client.flows.get_many([]).entries() == ()
    rows, found = client.flows.get_columns([record(1)])
    assert (rows.tolist(), found) == ([], None)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (b"\0" * 15, "packed_keys: 15 bytes"),
        (["zz"], r"flows\[0\]: 'zz' is not a flow id"),
        ([record(1), FlowTuple.from_text("tcp", "[::1]:1", "[::2]:2")], r"flows\[1\]: is of another address family"),
        (FlowColumns(source=["10.0.0.1", "::1"], destination=["10.0.0.2", "::2"], protocol=6), r"flows\[1\]\.source"),
        (record(1).key * 32_769, "32769 keys; at most 32768"),
    ],
)
def test_what_cannot_be_asked(client: Client, asked: Any, told: str) -> None:
    with pytest.raises(InvalidArgument, match=told):
        client.flows.get_many(asked)
