"""The packed look-up gives what looking one by one gives: the same flows, the same origins, whatever the kinds."""

from __future__ import annotations

import random

import pytest

from rocinante.errors import InvalidArgument, ResourceExhausted
from rocinante.flows import Backend, FlowRecord, FlowTuple, decode_batch, encode_batch
from rocinante.state import StateMachine, command
from rocinante.state.command import Kind
from rocinante.state.flows import FlowEntry, encode_put
from rocinante.state.machine import PackedFlows

NOW_MS = 1_000


def record(at: int, wide: bool, **more: object) -> FlowRecord:
    text = (f"[2001:db8::{at:x}]:1", "[2001:db8::ffff]:2") if wide else (f"10.0.{at // 256}.{at % 256}:1", "10.9.9.9:2")
    return FlowRecord(FlowTuple.from_text("tcp", *text), **more)  # type: ignore[arg-type]


class Table:
    """A state machine that is written record by record."""

    def __init__(self) -> None:
        self.machine = StateMachine()
        self._index = 0

    def put(self, origin: str, *records: FlowRecord) -> None:
        for batch in encode_batch(records):
            self._index += 1
            data = command.pack([command.encode(Kind.FLOW_PUT, 0, 0, 0, encode_put(origin, batch))])
            self.machine.apply(self._index, 1, data)

    def one_by_one(self, keys: list[bytes], origin: str = "") -> list[tuple[str, FlowRecord] | None]:
        found = [self.machine.flows_get([key], NOW_MS, origin)[0] for key in keys]
        return [None if one is None else (one.origin, _record(one)) for one in found]

    def packed(self, keys: list[bytes], origin: str = "") -> list[tuple[str, FlowRecord] | None]:
        return opened(self.machine.flows_lookup(b"".join(keys), NOW_MS, origin))


def _record(entry: FlowEntry) -> FlowRecord:
    from rocinante.flows import unpack_record

    return unpack_record(entry.key, entry.value)


def opened(answer: PackedFlows) -> list[tuple[str, FlowRecord] | None]:
    """As docs/flow-format.md has it."""
    fixed = iter(decode_batch(answer.batch) if answer.batch else [])
    variable = iter(decode_batch(answer.variable) if answer.variable else [])
    made = [
        None if mark == 0 else (answer.origins[(mark & 0x7F) - 1], next(variable if mark & 0x80 else fixed))
        for mark in answer.found
    ]
    assert next(fixed, None) is None
    assert next(variable, None) is None
    return made


@pytest.mark.parametrize("wide", [False, True], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("origins", [1, 3])
def test_as_one_by_one(wide: bool, origins: int) -> None:
    """Flows of every kind, past their deadline or not, owned by several, newer here or there, with some in none."""
    rng = random.Random(7)
    table = Table()
    for number in range(origins):
        some = []
        for at in range(600):
            if rng.random() < 0.3:
                continue
            flow = record(at, wide, updated_ms=rng.randrange(5), deadline_ms=rng.choice([0, 0, 999, 1000, 1001]))
            if rng.random() < 0.2:
                flow.backend_name = "web"
            if rng.random() < 0.2:
                flow.backend = Backend(bytes(16), 7)
            some.append(flow)
        table.put(f"dc{number}", *some)
    keys = [record(at, wide).key for at in range(650)]
    rng.shuffle(keys)
    keys += keys[:50]  # a key may be asked for twice
    expected = table.one_by_one(keys)
    assert table.packed(keys) == expected
    assert {None if one is None else one[0] for one in expected} == {
        None,
        *(f"dc{number}" for number in range(origins)),
    }
    assert table.packed(keys, "dc0") == table.one_by_one(keys, "dc0")
    assert table.packed(keys, "nowhere") == [None] * len(keys)


def test_over_several_pieces() -> None:
    table = Table()
    table.put("dc1", *(record(at, False, mark=at) for at in range(5_000)))
    keys = [record(at, False).key for at in range(5_001)]
    found = table.packed(keys)
    assert [None if one is None else one[1].mark for one in found] == [*range(5_000), None]


def test_an_empty_table() -> None:
    assert Table().packed([record(1, False).key]) == [None]


GOOD = record(1, False).key


@pytest.mark.parametrize(
    ("packed", "told"),
    [
        (b"", "packed_keys: 0 bytes"),
        (GOOD[:-1], "packed_keys: 15 bytes are no keys of 16 or 40 each"),
        (GOOD + record(1, True).key, "packed_keys: 56 bytes"),
        (GOOD[:2] + b"\5" + GOOD[3:], "packed_keys: 16 bytes"),
        (GOOD + GOOD[:4] + b"\xff" + GOOD[5:], r"packed_keys\[1\]: the endpoints are not in canonical order"),
        (GOOD + GOOD[:2] + b"\6" + GOOD[3:], r"packed_keys\[1\]: family 6"),
        (GOOD + GOOD[:3] + b"\1" + GOOD[4:], r"packed_keys\[1\]: for ICMP"),
        (GOOD * 32_769, "packed_keys: 32769 keys; at most 32768"),
    ],
)
def test_what_are_no_keys_is_refused_by_number(packed: bytes, told: str) -> None:
    with pytest.raises(InvalidArgument, match=told):
        Table().machine.flows_lookup(packed, NOW_MS)


def test_an_answer_that_would_be_too_large_is_refused() -> None:
    table = Table()
    some = [record(at, False, application_data=bytes(1024)) for at in range(9_000)]
    table.put("dc1", *some)
    with pytest.raises(ResourceExhausted, match="page through fewer keys"):
        table.machine.flows_lookup(b"".join(flow.key for flow in some), NOW_MS)
