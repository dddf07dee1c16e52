"""What flows take: how it is counted, bounded, and given back."""

from __future__ import annotations

import psutil
import pytest

from rocinante import limits
from rocinante.errors import ResourceExhausted
from rocinante.flows import FlowFilter, FlowRecord, FlowTuple, encode_batch
from rocinante.state.command import Kind
from rocinante.state.flows import encode_delete, encode_put
from tests.state.harness import Driver, copy
from tests.state.test_deletion import delete

MIB = 1024 * 1024
V4_BYTES, V6_BYTES, OUTSIDE_BYTES = 124, 184, 150
"""As docs/flow-format.md says."""


def flow(number: int, *, data: bytes = b"", v6: bool = False) -> FlowRecord:
    source = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}:7"
    ends = (f"[2001:db8::{number:x}]:7", "[::1]:80") if v6 else (source, "192.0.2.1:80")
    return FlowRecord(FlowTuple.from_text("udp", *ends), updated_ms=1, application_data=data)


def put(driver: Driver, *flows: FlowRecord) -> None:
    for batch in encode_batch(flows):
        driver.do(Kind.FLOW_PUT, encode_put("dc1", batch))


def test_the_count_is_what_the_document_says() -> None:
    driver, value_bytes = Driver(), 110 + 3
    machine = driver.machine
    for step, (records, expected) in enumerate(
        [
            ([flow(1), flow(2)], 2 * V4_BYTES),
            ([flow(1, v6=True)], 2 * V4_BYTES + V6_BYTES),
            ([flow(2, data=b"x" * 10)], 2 * V4_BYTES + V6_BYTES + OUTSIDE_BYTES + value_bytes + 10),
            ([flow(2, data=b"x" * 4)], 2 * V4_BYTES + V6_BYTES + OUTSIDE_BYTES + value_bytes + 4),
            ([flow(3, data=b"x"), flow(3)], 3 * V4_BYTES + V6_BYTES + OUTSIDE_BYTES + value_bytes + 4),
            ([flow(2)], 3 * V4_BYTES + V6_BYTES),
        ]
    ):
        # Of one key in both a fixed and a variable batch, encode_batch puts the fixed one first.
        for record in records:
            put(driver, record)
        assert machine.flows_bytes() == expected, f"step {step}"
        assert copy(machine).flows_bytes() == expected
    driver.do(Kind.FLOW_DELETE, encode_delete("", [flow(1).key, flow(1, v6=True).key]))
    assert machine.flows_bytes() == 2 * V4_BYTES
    assert machine.sizes()["flow_bytes"] == 2 * V4_BYTES


def test_what_stands_outside_the_rows_is_bounded_the_same_on_every_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FLOW_OUTSIDE_BYTES_MAX", 2_000)
    driver = Driver()
    put(driver, flow(1, data=b"x" * 900))
    with pytest.raises(ResourceExhausted, match="application data"):
        put(driver, flow(2, data=b"x" * 900))
    put(driver, flow(3))
    assert driver.machine.flows_count() == 2


def test_new_flows_of_a_batch_are_told_from_updates() -> None:
    driver = Driver()
    put(driver, flow(1), flow(2), flow(1, v6=True), flow(9, data=b"x"))
    for records, expected in (
        ([flow(1), flow(2)], 0),
        ([flow(2), flow(3), flow(4)], 2),
        ([flow(1, v6=True), flow(2, v6=True)], 1),
        ([flow(9, data=b"y"), flow(10, data=b"y")], 1),
    ):
        (batch,) = encode_batch(records)
        assert driver.machine.flows_new("dc1", batch) == expected
        assert driver.machine.flows_new("dc9", batch) == len(records)


def test_a_table_that_empties_gives_its_memory_back_in_steps() -> None:
    driver = Driver()
    (pattern,) = encode_batch([flow(number) for number in range(65_536)])
    head, width = pattern[:12], 90
    for turn in range(8):
        batch = bytearray(pattern)
        batch[12::width] = bytes([turn]) * 65_536  # another zone
        driver.do(Kind.FLOW_PUT, encode_put("dc1", bytes(batch)))
    assert pattern.startswith(head)
    full = psutil.Process().memory_info().rss
    frozen = driver.machine.freeze()
    delete(driver, FlowFilter())
    assert driver.machine.flows_count() == 0
    assert list(driver.machine.release_memory()) == [], "a snapshot still reads it"
    put(driver, flow(1))
    frozen.close()
    steps = list(driver.machine.release_memory())
    assert max(steps) <= limits.FLOW_RELEASE_STEP_BYTES
    assert sum(steps) > 8 * 65_536 * 100
    assert full - psutil.Process().memory_info().rss > 30 * MIB
    assert list(driver.machine.release_memory()) == []
    assert driver.machine.flows_count() == 1


def test_what_a_snapshot_replaces_is_given_back_too() -> None:
    driver, other = Driver(), Driver()
    put(driver, *(flow(number) for number in range(3_000)))
    put(other, flow(1))
    with other.machine.freeze() as frozen:
        driver.machine.restore(list(frozen.chunks()))
    assert sum(driver.machine.release_memory()) > 3_000 * 100
    assert driver.machine.flows_count() == 1
