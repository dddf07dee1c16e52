"""`client.flows` against a real server and state machine."""

from __future__ import annotations

import time

import pytest

from rocinante.client import Client, EventKind, FlowSelection
from rocinante.client.flow_json import entry_from_json, entry_to_json
from rocinante.errors import InvalidArgument, OutOfRange
from rocinante.flow_json import record_from_json, record_to_json
from rocinante.flows import Backend, FlowFlag, FlowRecord, FlowTuple, TcpState, decode_batch, encode_batch
from tests.client.serving import Cluster

NOW_MS = int(time.time() * 1000)


def tcp(number: int, **fields: object) -> FlowRecord:
    original = FlowTuple.from_text("tcp", f"192.0.2.{number % 250 + 1}:{40000 + number}", "198.51.100.7:443")
    return FlowRecord(original, updated_ms=NOW_MS, **{"tcp_state": TcpState.ESTABLISHED, **fields})  # type: ignore[arg-type]


FULL = FlowRecord(
    FlowTuple.from_text("udp", "[2001:db8::2]:5353", "[2001:db8::1]:53", zone=7),
    tcp_state=TcpState.NONE,
    flags=FlowFlag.SEEN_REPLY | FlowFlag.ASSURED,
    deadline_ms=NOW_MS + 3_600_000,
    updated_ms=NOW_MS,
    mark=0xFFFF_FFFF,
    backend=Backend(bytes([10, 0, 0, 5]), 8443),
    backend_name="web-1",
    reply=FlowTuple.from_text("udp", "[2001:db8::1]:53", "[2001:db8::9]:999", zone=7),
    packets_original=1,
    bytes_original=2**63,
    packets_reply=3,
    bytes_reply=4,
    application_data=b"\0\xff data",
)


def same(found: FlowRecord, wanted: FlowRecord) -> bool:
    """Apart from the flags that describe the layout only."""
    return record_to_json(found, "") == record_to_json(wanted, "")


def test_records_of_every_kind_come_back_as_they_were(client: Client) -> None:
    v6 = FlowRecord(FlowTuple.from_text("tcp", "[2001:db8::1]:1", "[2001:db8::2]:2"), updated_ms=NOW_MS)
    records = [tcp(1), v6, FULL]
    assert client.flows.put(records).records == 3
    found = client.flows.get([tcp(1).original, v6.original.turned(), FULL.key, FULL.key.hex(), tcp(2)])
    assert [entry and entry.origin for entry in found] == ["dc1", "dc1", "dc1", "dc1", None]
    assert all(same(entry.record, record) for entry, record in zip(found, [*records, FULL], strict=False))
    assert found[0].id == tcp(1).key.hex()


def test_an_encoded_batch_is_kept_as_it_is(client: Client) -> None:
    (batch,) = encode_batch([tcp(number) for number in range(10)])
    with client.flows.watch(from_index=1, batches=True) as changes:
        client.flows.put(batch)
        change = next(changes)
    assert (change.kind, change.batch) == (EventKind.PUT, batch)
    assert len(decode_batch(change.batch)) == 10


def test_origins(client: Client) -> None:
    client.flows.put([tcp(1)], origin="dc2")
    assert client.flows.get([tcp(1)])[0].origin == "dc2"
    assert client.flows.delete([tcp(1)]).deleted == 0, "it is not this datacenter's"
    assert client.flows.delete([tcp(1)], origin="dc2").deleted == 1


def test_list_pages_and_selects(client: Client) -> None:
    client.flows.put([tcp(number) for number in range(25)] + [FULL])
    assert len(list(client.flows.list(page=7))) == 26
    assert len(client.flows.page(limit=7).flows) == 7
    for selection, count in [
        (FlowSelection(protocol=["tcp"]), 25),
        (FlowSelection(port=[40003, 40004]), 2),
        (FlowSelection(address=["2001:db8::/32"]), 1),
        (FlowSelection(tcp_state=["ESTABLISHED"], address=["192.0.2.1"]), 1),
        (FlowSelection(backend="web-1"), 1),
        (FlowSelection(zone=0), 25),
        (FlowSelection(zone=7, origin="dc1"), 1),
        (FlowSelection(origin="elsewhere"), 0),
    ]:
        assert len(list(client.flows.list(selection, stale=True))) == count, selection


def test_no_records_is_nothing_to_do(client: Client, one: Cluster) -> None:
    before = one.node.status().last_index
    assert client.flows.put([]).records == 0
    assert one.node.status().last_index == before


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda flows: flows.put([tcp(1), FlowRecord(tcp(1).original, mark=-1)]), r"flows\[1\].mark"),
        (lambda flows: flows.put(b"nonsense"), "batch"),
        (lambda flows: flows.get(["zz"]), r"flows\[0\]: 'zz' is not a flow id"),
        (lambda flows: flows.get([b"short"]), r"flows\[0\].key"),
        (lambda flows: list(flows.list(FlowSelection(address=["nowhere"]))), r"address\[0\]"),
        (lambda flows: list(flows.list(FlowSelection(protocol=["quic"]))), r"protocol\[0\]"),
        (lambda flows: flows.page(limit=0), "limit"),
        (lambda flows: flows.watch(from_index=-1), "from_index"),
        (lambda flows: flows.watch(from_index=5, snapshot=True), "from_index"),
        (lambda flows: flows.put([tcp(1)], origin="x" * 64), "origin"),
    ],
)
def test_wrong_use_names_the_field_and_changes_nothing(client: Client, one: Cluster, call, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        call(client.flows)
    assert one.node.state_machine.flows_count() == 0


def test_a_watch_begins_with_the_table_and_goes_on_with_changes(client: Client) -> None:
    client.flows.put([tcp(1), tcp(2)])
    with client.flows.watch(snapshot=True) as changes:
        assert next(changes).kind is EventKind.RESET
        table = next(changes)
        assert (table.kind, len(table.flows)) == (EventKind.PUT, 2)
        synced = next(changes)
        assert synced.kind is EventKind.SYNCED
        client.flows.put([tcp(3)])
        client.flows.delete([tcp(1)])
        written, deleted = next(changes), next(changes)
    assert same(written.flows[0].record, tcp(3))
    assert written.index > synced.index
    assert (deleted.kind, deleted.keys, deleted.origin) == (EventKind.DELETE, (tcp(1).key,), "dc1")
    assert changes.index == written.index, "what was read whole"


def test_an_empty_table_is_a_snapshot_too(client: Client) -> None:
    with client.flows.watch(snapshot=True) as changes:
        assert [next(changes).kind for _ in range(2)] == [EventKind.RESET, EventKind.SYNCED]


def test_a_watch_selects(client: Client) -> None:
    with client.flows.watch(FlowSelection(port=[40002]), from_index=1) as changes:
        client.flows.put([tcp(1), tcp(2), tcp(3)])
        assert [entry.record.original.source_port for entry in next(changes).flows] == [40002]


def test_a_watch_goes_on_elsewhere_without_a_gap(three: Cluster) -> None:
    with Client(three.endpoints) as client, client.flows.watch(from_index=1) as changes:
        for number in range(30):
            if number in (5, 15, 25):
                door = (number // 10) % 3
                three.shut(door)
                three.open(door)
            client.flows.put([tcp(number)])
        ports = [entry.record.original.source_port for _ in range(30) for entry in next(changes).flows]
    assert ports == [40000 + number for number in range(30)]


def test_a_watch_that_cannot_go_on_begins_anew_or_says_so(client: Client) -> None:
    client.flows.put([tcp(1)])
    with pytest.raises(OutOfRange, match="watch again with a snapshot"):
        next(client.flows.watch(from_index=10_000))


@pytest.mark.parametrize("record", [tcp(1), FULL], ids=["plain", "full"])
def test_json_says_all_of_a_record(record: FlowRecord) -> None:
    text = record_to_json(record, "dc1")
    assert same(record_from_json(text, "flow", 0), record)
    assert entry_to_json(entry_from_json(text)) == text


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ([], "flow: must be an object"),
        ({}, "flow.protocol: is missing"),
        ({"protocol": "tcp"}, "flow.source: is missing"),
        ({"protocol": "tcp", "source": "192.0.2.1:1", "destination": 7}, "flow.destination: must be like"),
        ({"protocol": "tcp", "source": {"address": 7}, "destination": "a"}, "flow.source.address"),
        ({"protocol": "tcp", "source": "192.0.2.1:1", "destination": "192.0.2.2:x"}, "flow.destination: port"),
        ({"protocl": "tcp"}, "flow.protocl: is not a field of a flow"),
        ({"protocol": True}, "flow.protocol: must be a name or a number"),
        ({"protocol": "tcp", "source": "1.2.3.4:1", "destination": "1.2.3.4:2", "mark": -1}, "flow.mark"),
        (
            {"protocol": "tcp", "source": "1.2.3.4:1", "destination": "1.2.3.4:2", "mark": "1"},
            "flow.mark: must be a whole",
        ),
        ({"protocol": "tcp", "source": "1.2.3.4:1", "destination": "1.2.3.4:2", "tcp_state": "OPEN"}, "flow.tcp_state"),
        ({"protocol": "tcp", "source": "1.2.3.4:1", "destination": "1.2.3.4:2", "flags": ["X"]}, "flow.flags"),
        ({"protocol": "tcp", "source": "1.2.3.4:1", "destination": "1.2.3.4:2", "flags": "X"}, "flow.flags"),
        ({"protocol": "tcp", "source": "1.2.3.4:1", "destination": "1.2.3.4:2", "reply": 1}, "flow.reply"),
        ({"protocol": "tcp", "source": "1.2.3.4:1", "destination": "1.2.3.4:2", "application_data": "%"}, "base64"),
    ],
)
def test_wrong_json_names_the_field(item: object, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        record_from_json(item, "flow", 0)
