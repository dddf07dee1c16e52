"""Deleting by filter: in ranges of rows, the same on every node, exactly what the filter means."""

from __future__ import annotations

import random

import pytest

from rocinante import limits
from rocinante.errors import InvalidArgument
from rocinante.flows import FlowFilter, FlowRecord, FlowTuple, encode_batch
from rocinante.state.command import Kind
from rocinante.state.deletion import Deletion
from rocinante.state.events import FlowChange
from rocinante.state.flows import Rows, encode_delete_where, encode_put
from rocinante.state.machine import StateMachine
from tests.state.harness import Driver, copy, digest


def flow(number: int, *, port: int = 80, deadline_ms: int = 0, name: str = "", protocol: str = "tcp") -> FlowRecord:
    if number % 7 == 0:
        original = FlowTuple.from_text(protocol, f"[2001:db8::{number:x}]:1000", f"[::1]:{port}")
    else:
        original = FlowTuple.from_text(protocol, f"10.0.{number >> 8}.{number & 255}:1000", f"192.0.2.1:{port}")
    return FlowRecord(original, updated_ms=1, deadline_ms=deadline_ms, backend_name=name)


def put(driver: Driver, origin: str, *flows: FlowRecord) -> None:
    for batch in encode_batch(flows):
        driver.do(Kind.FLOW_PUT, encode_put(origin, batch))


def delete(driver: Driver, asked: FlowFilter) -> Deletion:
    deletion = Deletion(driver.machine, asked)
    while not deletion.complete:
        body = deletion.step()
        if body is not None:
            deletion.took(1, driver.do(Kind.FLOW_DELETE_WHERE, body))
    return deletion


def keys(machine: StateMachine) -> set[tuple[str, bytes]]:
    found: set[tuple[str, bytes]] = set()
    for origin in machine.flows_counts():
        cursor = b""
        while True:
            page = machine.flows_list(FlowFilter(origin=origin), 1000, cursor, 0)
            found |= {(entry.origin, entry.key) for entry in page.flows}
            cursor = page.cursor
            if not cursor:
                break
    return found


@pytest.mark.parametrize(
    "conditions",
    [
        {"port": [81]},
        {"address": ["10.0.1.0/24"]},
        {"address": ["2001:db8::/120"]},
        {"protocol": ["udp"], "port": [80]},
        {"backend": "web-3"},
        {"origin": "dc2"},
        {"origin": "dc1", "port": [82]},
        {},
        {"zone": 9},
    ],
    ids=str,
)
def test_exactly_what_the_filter_means_goes(conditions: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FLOW_EXPIRE_ROWS_MAX", 64)
    driver, some = Driver(), random.Random(7)
    records = [
        flow(
            number,
            port=80 + number % 3,
            deadline_ms=number % 2,
            name=f"web-{number % 5}" if number % 4 == 0 else "",
            protocol=some.choice(("tcp", "udp")),
        )
        for number in range(700)
    ]
    for origin in ("dc1", "dc2"):
        put(driver, origin, *records)
    asked = FlowFilter.parse(**conditions)  # type: ignore[arg-type]
    meant = {
        (origin, record.key)
        for origin in ("dc1", "dc2")
        for record in records
        if asked.matches(record.key, driver.machine.flows_get([record.key], 0, origin)[0].value, origin)  # type: ignore[union-attr]
    }
    other = copy(driver.machine)
    log = len(driver.log)
    deletion = delete(driver, asked)
    assert deletion.deleted == len(meant)
    for data in driver.log[log:]:  # another replica, from a snapshot
        other.apply(other.position.index + 1, 1, data)
    assert digest(other) == digest(driver.machine)
    now_hidden = {(origin, record.key) for origin in ("dc1", "dc2") for record in records} - meant
    assert driver.machine.flows_count() == len(now_hidden)
    assert keys(driver.machine) == now_hidden


def test_what_was_written_meanwhile_is_left_where_it_does_not_match() -> None:
    driver = Driver()
    put(driver, "dc1", *(flow(number) for number in range(1, 7)))
    deletion = Deletion(driver.machine, FlowFilter.parse(backend="old"))
    assert deletion.step() is None
    assert deletion.complete
    put(driver, "dc1", flow(2, name="old"))
    again = Deletion(driver.machine, FlowFilter.parse(backend="old"))
    body = again.step()
    assert body is not None
    put(driver, "dc1", flow(2, name="new"))  # between the look and the command
    assert driver.do(Kind.FLOW_DELETE_WHERE, body) == 0
    assert driver.machine.flows_count() == 6


def test_watchers_are_told_the_keys() -> None:
    driver = Driver()
    put(driver, "dc1", flow(1), flow(2, port=81), flow(3))
    delete(driver, FlowFilter.parse(port=[80], origin="dc1"))
    assert driver.events is not None
    (change,) = driver.events.flows
    assert (change.kind, change.origin, set(change.keys)) == (FlowChange.DELETE, "dc1", {flow(1).key, flow(3).key})


def test_it_goes_on_from_a_cursor_on_another_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FLOW_EXPIRE_ROWS_MAX", 50)
    driver = Driver()
    put(driver, "dc1", *(flow(number) for number in range(1, 400)))
    deletion = Deletion(driver.machine, FlowFilter())
    total, looked_at = 0, 0
    while not deletion.complete:
        body = deletion.step()
        if body is not None:
            deletion.took(1, driver.do(Kind.FLOW_DELETE_WHERE, body))
        total, looked_at = total + deletion.deleted, looked_at + deletion.looked_at
        deletion = Deletion(copy(driver.machine), deletion.asked, deletion.cursor, complete=deletion.complete)
    assert (total, looked_at) == (399, 399)
    assert driver.machine.flows_count() == 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "rows"),
        (encode_delete_where(Rows("dc1", 17, 0, 1), FlowFilter()), "rows"),
        (encode_delete_where(Rows("dc1", 16, 3, 3), FlowFilter()), "rows"),
        (encode_delete_where(Rows("dc1", 16, 0, limits.FLOW_EXPIRE_ROWS_MAX + 1), FlowFilter()), "rows"),
        (encode_delete_where(Rows("dc1", 16, 0, 1), FlowFilter())[:-1], "filter"),
        (encode_delete_where(Rows("dc1", 16, 0, 1), FlowFilter()) + b"x", "filter"),
        (encode_delete_where(Rows("dc1", 16, 0, 1), FlowFilter())[:10], "origin"),
    ],
)
def test_a_body_that_is_none_names_the_field_and_changes_nothing(body: bytes, field: str) -> None:
    driver = Driver()
    put(driver, "dc1", flow(1))
    with pytest.raises(InvalidArgument) as caught:
        driver.do(Kind.FLOW_DELETE_WHERE, body)
    assert caught.value.field == field
    assert driver.machine.flows_count() == 1
