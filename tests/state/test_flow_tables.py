"""The FLOW_* commands and the reads of flows, through the state machine."""

from __future__ import annotations

import random

import pytest

from rocinante import limits
from rocinante.errors import InvalidArgument, ResourceExhausted
from rocinante.flows import FlowFilter, FlowRecord, FlowTuple, decode_batch, encode_batch, packed, unpack_record
from rocinante.state.command import Kind
from rocinante.state.events import FlowChange, FlowChanges, PackedKeys
from rocinante.state.flows import Rows, encode_delete, encode_expire, encode_put
from rocinante.state.machine import DuePage, StateMachine
from tests.state.harness import Driver, copy

ALL = FlowFilter()


def flow(number: int, updated_ms: int = 1, deadline_ms: int = 0, **more: str) -> FlowRecord:
    original = FlowTuple.from_text("tcp", f"10.0.{number >> 8}.{number & 255}:1000", "192.0.2.1:80")
    return FlowRecord(original, updated_ms=updated_ms, deadline_ms=deadline_ms, **more)  # type: ignore[arg-type]


def put(driver: Driver, origin: str, *flows: FlowRecord) -> int:
    total = 0
    for batch in encode_batch(flows):
        count = driver.do(Kind.FLOW_PUT, encode_put(origin, batch))
        assert isinstance(count, int)
        total += count
    return total


def found(
    machine: StateMachine, record: FlowRecord, now_ms: int = 0, origin: str = ""
) -> tuple[str, FlowRecord] | None:
    (entry,) = machine.flows_get([record.key], now_ms, origin)
    return None if entry is None else (entry.origin, unpack_record(entry.key, entry.value))


def listed(machine: StateMachine, limit: int = 100, now_ms: int = 0, flow_filter: FlowFilter = ALL) -> list[FlowRecord]:
    records: list[FlowRecord] = []
    cursor = b""
    while True:
        page = machine.flows_list(flow_filter, limit, cursor, now_ms)
        assert len(page.flows) <= limit
        records += [unpack_record(entry.key, entry.value) for entry in page.flows]
        cursor = page.cursor
        if not cursor:
            return records


def test_a_batch_is_put_and_told_as_it_is() -> None:
    driver = Driver()
    (batch,) = encode_batch([flow(1), flow(2), flow(1, updated_ms=9)])
    assert driver.do(Kind.FLOW_PUT, encode_put("dc1", batch)) == 3
    assert driver.events is not None
    assert driver.events.flows == (FlowChanges(FlowChange.PUT, "dc1", batch),)
    assert driver.machine.flows_counts() == {"dc1": 2}
    assert found(driver.machine, flow(1)) == ("dc1", flow(1, updated_ms=9)), "of one key the later record counts"


def various(number: int, more: int = 0, *, wide: bool = False) -> FlowRecord:
    """Records that differ as much as real ones do."""
    made = flow(number, updated_ms=(number + more) << 24, deadline_ms=(number + more + 1) << 25)
    made.bytes_original = number << 28
    if wide:
        made.original = FlowTuple.from_text("udp", f"[2001:db8::{number:x}:1]:{number}", "[2001:db8::]:53")
        made.bytes_reply = (number * 7) << 28
    return made


def test_packed_or_not_the_tables_are_the_same_and_so_is_what_is_told() -> None:
    batches = [
        *encode_batch([various(number) for number in range(300)]),
        *encode_batch([various(number % 40, number) for number in range(300)]),
        *encode_batch([various(number, wide=True) for number in range(200)]),
    ]
    plain, other = Driver(), Driver()
    for batch in batches:
        written = bytes(packed(batch))
        assert written != batch
        results = [
            plain.do(Kind.FLOW_PUT, encode_put("dc1", batch)),
            other.do(Kind.FLOW_PUT, encode_put("dc1", written)),
        ]
        assert results[0] == results[1] == len(decode_batch(batch))
        assert plain.events is not None
        assert other.events is not None
        assert [change.batch for change in plain.events.flows] == [change.batch for change in other.events.flows]
    with plain.machine.freeze() as one, other.machine.freeze() as two:
        assert one.digest() == two.digest()
    fresh, (again,) = packed(batches[0]), encode_batch([various(number) for number in range(200, 400)])
    assert other.machine.flows_new("dc1", bytes(fresh)) == 0
    assert other.machine.flows_new("dc1", bytes(packed(again))) == 100


def test_a_packed_batch_that_is_none_changes_nothing() -> None:
    driver = Driver()
    (batch,) = encode_batch([various(number) for number in range(100)])
    written = bytes(packed(batch))
    with pytest.raises(InvalidArgument, match="batch"):
        driver.do(Kind.FLOW_PUT, encode_put("dc1", written[:-1]))
    assert driver.machine.flows_count() == 0


def test_all_kinds_stand_in_one_table() -> None:
    driver = Driver()
    v6 = FlowRecord(FlowTuple.from_text("udp", "[::1]:1", "[::2]:2"))
    flows = [flow(1), v6, flow(2, backend_name="web")]
    put(driver, "dc1", *flows)
    assert sorted(map(repr, listed(driver.machine))) == sorted(map(repr, flows))
    put(driver, "dc1", flow(2, updated_ms=3))
    assert found(driver.machine, flow(2)) == ("dc1", flow(2, updated_ms=3)), "a fixed record replaces a variable one"


def test_a_lookup_asks_all_origins_and_takes_the_newest() -> None:
    driver = Driver()
    put(driver, "dc1", flow(1, updated_ms=10), flow(2, updated_ms=10))
    put(driver, "dc2", flow(1, updated_ms=20), flow(2, updated_ms=5))
    put(driver, "dc0", flow(1, updated_ms=20))
    machine = driver.machine
    assert found(machine, flow(1)) == ("dc0", flow(1, updated_ms=20)), "of equally new ones the first name"
    assert found(machine, flow(2)) == ("dc1", flow(2, updated_ms=10))
    assert found(machine, flow(2), origin="dc2") == ("dc2", flow(2, updated_ms=5))
    assert found(machine, flow(2), origin="dc9") is None
    assert found(machine, flow(3)) is None
    assert sorted(record.updated_ms for record in listed(machine)) == [10, 20], "a list gives what a look-up gives"
    assert len(listed(machine, flow_filter=FlowFilter(origin="dc2"))) == 2
    assert machine.flows_count() == 5


def test_what_is_past_its_deadline_is_hidden() -> None:
    driver = Driver()
    put(driver, "dc1", flow(1, updated_ms=2, deadline_ms=100), flow(2))
    put(driver, "dc2", flow(1, updated_ms=1, deadline_ms=200))
    machine = driver.machine
    assert [entry and entry[0] for entry in (found(machine, flow(1), now) for now in (99, 100, 199, 200))] == [
        "dc1",
        "dc2",
        "dc2",
        None,
    ]
    assert [len(listed(machine, now_ms=now)) for now in (99, 100, 200)] == [2, 2, 1]


def test_deleting_counts_what_was_there() -> None:
    driver = Driver()
    put(driver, "dc1", flow(1), flow(2), flow(3))
    put(driver, "dc2", flow(1))
    keys = [flow(n).key for n in (1, 1, 2, 9)]
    assert driver.do(Kind.FLOW_DELETE, encode_delete("dc1", keys)) == 2
    assert driver.events is not None
    assert driver.events.flows == (FlowChanges(FlowChange.DELETE, "dc1", keys=PackedKeys(flow(1).key + flow(2).key)),)
    assert driver.do(Kind.FLOW_DELETE, encode_delete("dc1", keys)) == 0
    assert not driver.changed()
    assert driver.do(Kind.FLOW_DELETE, encode_delete("", [flow(1).key, flow(3).key])) == 2, "every origin"
    assert driver.machine.flows_counts() == {}


def test_expiry_drops_only_what_has_expired_when_it_is_applied() -> None:
    driver = Driver()
    put(driver, "dc1", flow(1, deadline_ms=100), flow(2, deadline_ms=100), flow(3, deadline_ms=101), flow(4))
    page = driver.machine.flows_due(100)
    assert page == DuePage(Rows("dc1", 16, 0, 4), 2, b"")
    assert page.rows is not None
    put(driver, "dc1", flow(2, deadline_ms=500))  # renewed between the scan and the command
    assert driver.do(Kind.FLOW_EXPIRE, encode_expire(100, page.rows)) == 1
    assert driver.events is not None
    assert driver.events.flows == (FlowChanges(FlowChange.EXPIRE, "dc1", keys=PackedKeys(flow(1).key)),)


def test_the_scan_for_what_is_due_goes_through_all_origins_in_pieces() -> None:
    driver = Driver()
    for origin in ("dc1", "dc2", "dc3"):
        put(driver, origin, *(flow(number, deadline_ms=10 + number % 2) for number in range(300)))
    due: dict[str, int] = {}
    cursor, pages = b"", 0
    while True:
        page = driver.machine.flows_due(10, cursor, rows_max=100)
        assert page.rows is not None
        assert page.rows.stop - page.rows.first <= 100
        due[page.rows.origin] = due.get(page.rows.origin, 0) + page.due
        cursor, pages = page.cursor, pages + 1
        if not cursor:
            break
    assert due == {"dc1": 150, "dc2": 150, "dc3": 150}
    assert pages == 9
    assert driver.machine.flows_due(10, origin="dc2") == (Rows("dc2", 16, 0, 300), 150, b"")
    assert driver.machine.flows_due(10, origin="none") == (None, 0, b"")


def test_a_list_finds_what_stays_exactly_once_while_the_tables_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FLOW_PIECE_RECORDS", 7)
    some = random.Random(5)
    driver = Driver()
    for origin in ("dc1", "dc2"):
        put(driver, origin, *(flow(number) for number in range(0 if origin == "dc1" else 1000, 1400, 2)))
    stays = {flow(number).key for number in range(0, 700, 2)}
    seen: list[bytes] = []
    cursor, nodes = b"", [driver.machine]
    while True:
        page = some.choice(nodes).flows_list(ALL, 23, cursor, 0)
        seen += [entry.key for entry in page.flows]
        cursor = page.cursor
        if not cursor:
            break
        fresh = [flow(some.randrange(2000), updated_ms=some.randrange(9)) for _ in range(40)]
        gone = [flow(some.randrange(700, 2000)).key for _ in range(60)]
        (batch,) = encode_batch(fresh)
        driver.do(Kind.FLOW_PUT, encode_put("dc1", batch))
        driver.do(Kind.FLOW_DELETE, encode_delete("", gone))
        nodes = [driver.machine, copy(driver.machine)]  # a cursor means the same on every node
    assert all(seen.count(key) == 1 for key in stays)


def test_a_page_is_bounded_in_what_it_looks_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FLOW_PIECE_RECORDS", 50)
    monkeypatch.setattr(limits, "FLOW_SCAN_RECORDS_MAX", 100)
    driver = Driver()
    put(driver, "dc1", *(flow(number) for number in range(350)))
    nothing = FlowFilter.parse(port=[9])
    page = driver.machine.flows_list(nothing, 10, b"", 0)
    assert (page.flows, bool(page.cursor)) == ([], True)
    assert listed(driver.machine, flow_filter=nothing) == []
    assert len(listed(driver.machine, limit=33)) == 350


@pytest.mark.parametrize(
    ("limit", "cursor", "field"),
    [
        (0, b"", "limit"),
        (10_001, b"", "limit"),
        (1, b"x", "cursor"),
        (1, b"\2" + bytes(9) + b"\xff", "cursor"),
        (1, b"\1" + bytes(9), "cursor"),
    ],
)
def test_a_list_that_cannot_be_names_the_field(limit: int, cursor: bytes, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Driver().machine.flows_list(ALL, limit, cursor, 0)
    assert caught.value.field == field


BATCH = encode_batch([flow(1)])[0]


@pytest.mark.parametrize(
    ("kind", "body", "field"),
    [
        (Kind.FLOW_PUT, b"", "origin"),
        (Kind.FLOW_PUT, b"\0" + BATCH, "origin"),
        (Kind.FLOW_PUT, b"\5dc1", "origin"),
        (Kind.FLOW_PUT, b"\1\xff" + BATCH, "origin"),
        (Kind.FLOW_PUT, b"\x40" + b"x" * 64 + BATCH, "origin"),
        (Kind.FLOW_PUT, b"\3dc1", "batch"),
        (Kind.FLOW_PUT, b"\3dc1" + BATCH[:-1], "batch"),
        (Kind.FLOW_PUT, b"\3dc1" + encode_batch([flow(1, backend_name="web")])[0][:-1] + b"\1", "batch"),
        (Kind.FLOW_DELETE, b"\3dc1", "count"),
        (Kind.FLOW_DELETE, b"\3dc1\0\0\0\1", "keys[0]"),
        (Kind.FLOW_DELETE, b"\3dc1\0\0\0\1\5abc", "keys"),
        (Kind.FLOW_DELETE, b"\3dc1\0\0\0\0x", "keys"),
        (Kind.FLOW_DELETE, b"\3dc1\xff\0\0\0", "count"),
        (Kind.FLOW_EXPIRE, b"\0\0", "rows"),
        (Kind.FLOW_EXPIRE, encode_expire(1, Rows("dc1", 17, 0, 1)), "rows"),
        (Kind.FLOW_EXPIRE, encode_expire(1, Rows("dc1", 16, 5, 5)), "rows"),
        (Kind.FLOW_EXPIRE, encode_expire(1, Rows("dc1", 16, 0, limits.FLOW_EXPIRE_ROWS_MAX + 1)), "rows"),
        (Kind.FLOW_EXPIRE, encode_expire(1, Rows("dc1", 16, 0, 1)) + b"x", "rows"),
        (Kind.FLOW_EXPIRE, encode_expire(1, Rows("dc1", 16, 0, 1))[:-1], "origin"),
        (Kind.CLOCK, b"1", "now"),
    ],
)
def test_a_body_that_is_none_names_the_field(kind: Kind, body: bytes, field: str) -> None:
    driver = Driver()
    with pytest.raises(InvalidArgument) as caught:
        driver.do(kind, body)
    assert caught.value.field == field
    assert not driver.changed()
    assert driver.machine.flows_count() == 0


def test_origins_and_records_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FLOW_ORIGINS_MAX", 2)
    monkeypatch.setattr(limits, "FLOW_RECORDS_MAX", 10)
    driver = Driver()
    put(driver, "dc1", flow(1))
    put(driver, "dc2", flow(1))
    with pytest.raises(ResourceExhausted, match="origin"):
        put(driver, "dc3", flow(1))
    with pytest.raises(ResourceExhausted, match="batch"):
        put(driver, "dc1", *(flow(number) for number in range(9)))
    assert driver.machine.flows_count() == 2
