"""The flow tables against dictionaries, one an origin: put, delete, expire, freeze, snapshot, restore, lists with
filters and pages, while it goes on."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from rocinante.flows import Backend, FlowFilter, FlowRecord, FlowTuple, TcpState, encode_batch, unpack_record
from rocinante.state.command import Kind
from rocinante.state.flows import encode_delete, encode_expire, encode_put
from rocinante.state.machine import FrozenState, StateMachine
from tests.fuzz.runs import examples
from tests.state.harness import Driver, content, copy

ORIGINS: Final = st.sampled_from(["dc1", "dc2", "dc3"])
ADDRESSES: Final = ["10.0.0.1", "10.0.0.2", "192.0.2.1", "2001:db8::1", "2001:db8::2"]
NOW_MS: Final = st.integers(0, 60)


@st.composite
def flows(draw: st.DrawFn) -> FlowRecord:
    """Few keys, so that they meet; both directions of one; every shape of value."""
    source = draw(st.sampled_from(ADDRESSES))
    others = [each for each in ADDRESSES if (":" in each) == (":" in source)]
    ends = [ipaddress.ip_address(address).packed for address in (source, draw(st.sampled_from(others)))]
    protocol = draw(st.sampled_from([6, 17]))
    original = FlowTuple(draw(st.integers(0, 1)), protocol, ends[0], draw(st.integers(1, 2)), ends[1], 80)
    return FlowRecord(
        original if draw(st.booleans()) else original.turned(),
        tcp_state=draw(st.sampled_from([TcpState.NONE, TcpState.ESTABLISHED])),
        deadline_ms=draw(st.sampled_from([0, 10, 20, 30])),
        updated_ms=draw(st.integers(1, 50)),
        backend=draw(st.sampled_from([None, Backend(b"\x0a\x00\x00\x05", 80)])),
        backend_name=draw(st.sampled_from(["", "web"])),
    )


@st.composite
def filters(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "address": draw(st.sampled_from([[], ["10.0.0.0/8"], ["::/0", "192.0.2.1"]])),
        "port": draw(st.sampled_from([[], [1], [2, 80]])),
        "protocol": draw(st.sampled_from([[], [6]])),
        "tcp_state": draw(st.sampled_from([[], [3]])),
        "backend": draw(st.sampled_from(["", "web", "10.0.0.5", "10.0.0.5:80", "10.0.0.5:81"])),
        "zone": draw(st.sampled_from([None, 0, 1])),
        "origin": draw(st.sampled_from(["", "dc1", "dc4"])),
    }


Table = dict[bytes, FlowRecord]


def means(wanted: dict[str, Any], record: FlowRecord, origin: str) -> bool:
    """What a filter means, by the fields of the object and not by bytes."""
    original = record.original
    ends = [(original.source, original.source_port), (original.destination, original.destination_port)]
    addresses = [ipaddress.ip_address(address) for address, _ in ends]
    networks = [ipaddress.ip_network(text) for text in wanted["address"]]
    conditions = [
        not networks or any(address in network for address in addresses for network in networks),
        not wanted["port"] or any(port in wanted["port"] for _, port in ends),
        not wanted["protocol"] or original.protocol in wanted["protocol"],
        not wanted["tcp_state"] or record.tcp_state in wanted["tcp_state"],
        wanted["zone"] is None or original.zone == wanted["zone"],
        not wanted["origin"] or origin == wanted["origin"],
    ]
    backend = wanted["backend"]
    if backend == "web":
        conditions.append(record.backend_name == "web")
    elif backend:
        host, _, port = backend.partition(":")
        there = record.backend is not None and str(ipaddress.ip_address(record.backend.address)) == host
        conditions.append(there and (not port or (record.backend is not None and record.backend.port == int(port))))
    return all(conditions)


@dataclass
class Held:
    """A frozen state, and what it was when it was frozen."""

    frozen: FrozenState
    content: list[bytes]


class FlowMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.driver = Driver()
        self.tables: dict[str, Table] = {}
        self.held: list[Held] = []

    @property
    def machine(self) -> StateMachine:
        return self.driver.machine

    @rule(origin=ORIGINS, records=st.lists(flows(), min_size=1, max_size=6))
    def put(self, origin: str, records: list[FlowRecord]) -> None:
        for batch in encode_batch(records):
            self.driver.do(Kind.FLOW_PUT, encode_put(origin, batch))
        table = self.tables.setdefault(origin, {})
        # Records of different kinds come in different batches, kind by kind (IPv4, IPv6, variable).
        for kind in (0, 1, 2):
            table.update({record.key: record for record in records if _kind(record) == kind})

    @rule(origin=st.sampled_from(["dc1", "dc2", ""]), records=st.lists(flows(), min_size=1, max_size=4))
    def delete(self, origin: str, records: list[FlowRecord]) -> None:
        keys = [record.key for record in records]
        deleted = self.driver.do(Kind.FLOW_DELETE, encode_delete(origin, keys))
        expected = 0
        for name, table in self.tables.items():
            if origin in ("", name):
                expected += sum(table.pop(key, None) is not None for key in dict.fromkeys(keys))
        assert deleted == expected

    @rule(now_ms=NOW_MS, rows_max=st.integers(1, 5))
    def expire(self, now_ms: int, rows_max: int) -> None:
        """As the leader does: look for what is due, page by page, and have it dropped."""
        cursor, dropped = b"", 0
        for _ in range(1000):
            page = self.machine.flows_due(now_ms, cursor, rows_max=rows_max)
            if page.rows is not None and page.due:
                gone = self.driver.do(Kind.FLOW_EXPIRE, encode_expire(now_ms, page.rows))
                assert gone == page.due
                dropped += page.due
            cursor = page.cursor
            if not cursor:
                break
        due = 0
        for table in self.tables.values():
            for key in [key for key, record in table.items() if 0 < record.deadline_ms <= now_ms]:
                del table[key]
                due += 1
        assert dropped == due

    @rule(wanted=filters(), limit=st.integers(1, 4), now_ms=NOW_MS)
    def read(self, wanted: dict[str, Any], limit: int, now_ms: int) -> None:
        found: list[tuple[str, FlowRecord]] = []
        cursor = b""
        while True:
            page = self.machine.flows_list(FlowFilter.parse(**wanted), limit, cursor, now_ms)
            assert len(page.flows) <= limit
            found += [(entry.origin, unpack_record(entry.key, entry.value)) for entry in page.flows]
            cursor = page.cursor
            if not cursor:
                break
        expected = [
            (origin, record)
            for origin, table in self.tables.items()
            for record in table.values()
            if not 0 < record.deadline_ms <= now_ms and means(wanted, record, origin)
        ]
        assert sorted(map(repr, found)) == sorted(repr((o, _as_stored(r))) for o, r in expected)

    @rule(record=flows(), now_ms=NOW_MS)
    def get(self, record: FlowRecord, now_ms: int) -> None:
        """The newest of all origins, whichever direction is asked for."""
        (entry,) = self.machine.flows_get([record.original.turned().key()], now_ms)
        alive = [
            table[record.key]
            for table in self.tables.values()
            if record.key in table and not 0 < table[record.key].deadline_ms <= now_ms
        ]
        assert (entry is None) == (not alive)
        if entry is not None:
            assert unpack_record(entry.key, entry.value).updated_ms == max(r.updated_ms for r in alive)

    @precondition(lambda self: len(self.held) < 3)
    @rule()
    def freeze(self) -> None:
        self.held.append(Held(self.machine.freeze(), content(copy(self.machine))))

    @precondition(lambda self: self.held)
    @rule(number=st.integers(0, 2))
    def thaw(self, number: int) -> None:
        held = self.held.pop(number % len(self.held))
        with held.frozen:
            assert list(held.frozen.chunks(1 << 20)) == held.content

    @rule()
    def restore(self) -> None:
        """Go on with a copy; what was frozen before stays what it was."""
        made = copy(self.machine)
        assert content(made) == content(self.machine)
        for held in self.held:
            assert list(held.frozen.chunks(1 << 20)) == held.content
            held.frozen.close()
        self.held = []
        self.driver = Driver(made)

    @invariant()
    def counts(self) -> None:
        expected = {name: len(table) for name, table in sorted(self.tables.items()) if table}
        assert {name: count for name, count in self.machine.flows_counts().items() if count} == expected
        assert self.machine.flows_count() == sum(expected.values())

    def teardown(self) -> None:
        for held in self.held:
            with held.frozen:
                assert list(held.frozen.chunks(1 << 20)) == held.content


def _kind(record: FlowRecord) -> int:
    if record.backend_name:
        return 2
    return 1 if len(record.original.source) == 16 else 0


def _as_stored(record: FlowRecord) -> FlowRecord:
    """The flags that describe the bytes are the encoder's."""
    (batch,) = encode_batch([record])
    from rocinante.flows import decode_batch

    return decode_batch(batch)[0]


def test_the_flow_tables_are_what_dictionaries_are() -> None:
    run_state_machine_as_test(FlowMachine, settings=examples(60, steps=40))
