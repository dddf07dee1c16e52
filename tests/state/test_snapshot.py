"""Snapshots: taken while entries are applied, restored whole or not at all."""

from __future__ import annotations

import random
import threading
import zlib
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocinante import limits
from rocinante.errors import ResourceExhausted
from rocinante.flows import FlowFilter
from rocinante.pb.etcd import rpc_pb2
from rocinante.state.command import Kind
from rocinante.state.flows import encode_delete
from rocinante.state.machine import FlowPage, Position, StateMachine
from rocinante.state.sections import SnapshotError, frame
from tests.state.harness import Driver, content, copy, digest
from tests.state.scenario import History
from tests.state.test_flow_tables import flow, put

EVERYTHING = rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0")


def filled(seed: int = 1, entries: int = 300) -> StateMachine:
    machine, history = StateMachine(), History(seed)
    for index, data in enumerate(history.entries(entries), 1):
        machine.apply(index, 3, data)
        history.saw(machine.revision)
    return machine


def pages(machine: StateMachine) -> list[FlowPage]:
    found = [machine.flows_list(FlowFilter(), 33, b"", 0)]
    while found[-1].cursor:
        found.append(machine.flows_list(FlowFilter(), 33, found[-1].cursor, 0))
    return found


def test_an_empty_state_has_a_snapshot_too() -> None:
    machine = StateMachine()
    assert copy(machine).position == Position(0, 0)
    assert copy(machine).revision == 1


def test_what_is_restored_answers_the_same() -> None:
    machine = filled()
    made = copy(machine)
    assert made.position == machine.position == Position(300, 3)
    assert (made.revision, made.compacted_revision) == (machine.revision, machine.compacted_revision)
    assert (made.now_ms, made.sizes()) == (machine.now_ms, machine.sizes())
    assert made.kv_range(EVERYTHING) == machine.kv_range(EVERYTHING)
    assert pages(made) == pages(machine)
    assert content(made) == content(machine)


@pytest.mark.parametrize("chunk_bytes", [1, 7, 1000, 1 << 20])
def test_how_it_is_cut_is_not_seen_in_it(chunk_bytes: int) -> None:
    machine = filled(entries=60)
    chunks = content(machine, chunk_bytes)
    assert {len(chunk) for chunk in chunks[:-1]} <= {chunk_bytes}
    assert 0 < len(chunks[-1]) <= chunk_bytes
    assert b"".join(chunks) == b"".join(content(machine))
    assert blake2b(b"".join(chunks), digest_size=32).digest() == digest(machine), "the digest is that of the file"
    made = StateMachine()
    made.restore(chunks)
    assert digest(made) == digest(machine)


def test_a_frozen_state_stays_as_it_was_while_everything_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver()
    for number in range(50):
        driver.put(b"k%02d" % (number % 20), b"%d" % number)
    put(driver, "dc1", *(flow(number) for number in range(100)))
    put(driver, "dc2", *(flow(number) for number in range(10)))
    before = b"".join(content(driver.machine))
    with driver.machine.freeze() as frozen:
        driver.put(b"new")
        driver.delete(b"k", b"l")
        driver.compact(driver.machine.revision)
        put(driver, "dc1", *(flow(number, updated_ms=9) for number in range(50, 150)))
        driver.do(Kind.FLOW_DELETE, encode_delete("", [flow(number).key for number in range(90)]))
        put(driver, "dc1", *(flow(number, updated_ms=10) for number in range(60)))
        put(driver, "dc2", flow(7))
        put(driver, "dc3", flow(7))
        for _ in range(10):
            driver.clock(1)
        assert b"".join(frozen.chunks(999)) == before
        assert blake2b(before, digest_size=32).digest() == frozen.digest()
        assert driver.machine.sizes()["kv_history"] > 60, "what the frozen state needs is not dropped"
    driver.clock(2)
    assert driver.machine.sizes()["kv_history"] <= 20, "… and is, when it is closed"


def test_a_snapshot_is_written_while_another_thread_applies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "KV_PIECE_KEYS", 16)
    driver = Driver()
    for number in range(500):
        driver.put(b"key %03d" % number, b"old")
    put(driver, "dc1", *(flow(number) for number in range(2000)))
    expected = digest(driver.machine)
    frozen = driver.machine.freeze()
    stop = threading.Event()

    def write() -> None:
        some = random.Random(1)
        while not stop.is_set():
            driver.put(b"key %03d" % some.randrange(600), b"new")
            driver.delete(b"key %03d" % some.randrange(600))
            put(driver, "dc1", *(flow(some.randrange(3000), updated_ms=7) for _ in range(20)))
            driver.do(Kind.FLOW_DELETE, encode_delete("dc1", [flow(some.randrange(3000)).key for _ in range(20)]))
            if some.random() < 0.1:
                driver.compact(driver.machine.revision)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(5):
            index = driver.machine.position.index
            assert frozen.digest() == expected
            while driver.machine.position.index == index:
                driver.machine.flows_list(FlowFilter(), 100, b"", 0)
    finally:
        stop.set()
        writer.join()
    frozen.close()
    assert digest(copy(driver.machine)) == digest(driver.machine)


def test_frozen_states_are_bounded_and_closed_once() -> None:
    machine = filled(entries=50)
    held = [machine.freeze() for _ in range(limits.STATE_FREEZES_MAX)]
    with pytest.raises(ResourceExhausted):
        machine.freeze()
    held[0].close()
    held[0].close()
    with pytest.raises(ValueError, match="closed"):
        held[0].digest()
    with machine.freeze() as another:
        assert another.digest() == held[1].digest()
    for frozen in held:
        frozen.close()


def test_a_frozen_state_outlives_a_restore() -> None:
    machine = filled(seed=1)
    other = content(filled(seed=2, entries=310))
    expected = digest(machine)
    with machine.freeze() as frozen:
        assert machine.restore(other) == Position(310, 3)
        machine.apply(311, 3, b"")
        assert frozen.digest() == expected


def test_any_damage_is_found_and_changes_nothing() -> None:
    whole = b"".join(content(filled(entries=25)))
    machine = filled(seed=5, entries=40)
    before = digest(machine)
    some = random.Random(3)
    damages = [whole[:cut] for cut in range(0, len(whole), 97)] + [whole + b"\0", whole + whole[8:]]
    for _ in range(300):
        at = some.randrange(len(whole))
        damages.append(whole[:at] + bytes((whole[at] ^ (1 << some.randrange(8)),)) + whole[at + 1 :])
    for damaged in damages:
        with pytest.raises(SnapshotError, match=r"^snapshot: "):
            machine.restore([damaged])
    assert digest(machine) == before
    machine.restore([whole])
    assert digest(machine) == blake2b(whole, digest_size=32).digest()


def _sections(whole: bytes) -> list[tuple[int, bytes]]:
    sections = []
    at = 8
    while at < len(whole):
        length = int.from_bytes(whole[at + 1 : at + 5])
        sections.append((whole[at], whole[at + 5 : at + 5 + length]))
        assert zlib.crc32(whole[at : at + 5 + length]) == int.from_bytes(whole[at + 5 + length : at + 9 + length])
        at += 9 + length
    return sections


SECTIONS = _sections(b"".join(content(filled(entries=25))))


@given(st.data())
def test_content_that_is_wrong_under_good_checksums_is_refused_or_restores_to_itself(data: st.DataObject) -> None:
    sections = list(SECTIONS)
    number = data.draw(st.integers(0, len(sections) - 1))
    tag, payload = sections[number]
    match data.draw(st.sampled_from(["drop", "double", "cut", "poke", "retag"])):
        case "drop":
            del sections[number]
        case "double":
            sections.insert(number, sections[number])
        case "cut":
            sections[number] = tag, payload[: data.draw(st.integers(0, len(payload) - 1))]
        case "poke":
            at = data.draw(st.integers(0, len(payload) - 1))
            poked = payload[:at] + data.draw(st.binary(min_size=1, max_size=3)) + payload[at + 1 :]
            sections[number] = tag, poked[: len(payload)]
        case _:
            sections[number] = data.draw(st.integers(0, 255)), payload
    whole = b"".join(frame(sections))
    machine = StateMachine()
    try:
        machine.restore([whole])
    except SnapshotError:
        assert machine.position == Position(0, 0)
    else:
        machine.kv_range(EVERYTHING)
        machine.flows_list(FlowFilter(), 1000, b"", 0)
        machine.apply(machine.position.index + 1, 1, b"")


def test_a_snapshot_of_a_newer_version_is_refused() -> None:
    whole = b"".join(content(filled(entries=5)))
    with pytest.raises(SnapshotError, match="version 3; this software reads version 2"):
        StateMachine().restore([whole[:6] + b"\0\3" + whole[8:]])
