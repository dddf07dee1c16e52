"""Whatever an entry holds: `apply` answers, and what it refuses changes nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocinante.errors import InvalidArgument, RocinanteError
from rocinante.flows import FlowFilter, encode_batch
from rocinante.pb.etcd import rpc_pb2
from rocinante.state import command
from rocinante.state.command import Kind
from rocinante.state.flows import Rows, encode_delete, encode_expire, encode_put
from rocinante.state.machine import StateMachine
from rocinante.state.outcome import decode_outcome, encode_outcome
from tests.state.harness import Driver, content, digest
from tests.state.test_flow_tables import flow, put

SESSION = 9
BODIES = {
    Kind.KV_PUT: rpc_pb2.PutRequest(key=b"a", value=b"new", prev_kv=True).SerializeToString(),
    Kind.KV_DELETE: rpc_pb2.DeleteRangeRequest(key=b"a", range_end=b"z", prev_kv=True).SerializeToString(),
    Kind.KV_TXN: rpc_pb2.TxnRequest(
        compare=[rpc_pb2.Compare(key=b"a", target=rpc_pb2.Compare.VALUE, value=b"1")],
        success=[rpc_pb2.RequestOp(request_put={"key": b"a"}), rpc_pb2.RequestOp(request_range={"key": b"a"})],
        failure=[rpc_pb2.RequestOp(request_txn={"success": [{"request_delete_range": {"key": b"b"}}]})],
    ).SerializeToString(),
    Kind.KV_COMPACT: rpc_pb2.CompactionRequest(revision=3).SerializeToString(),
    Kind.FLOW_PUT: encode_put("dc1", encode_batch([flow(1), flow(2)])[0]),
    Kind.FLOW_DELETE: encode_delete("dc1", [flow(1).key, flow(5).key]),
    Kind.FLOW_EXPIRE: encode_expire(1000, Rows("dc1", 16, 0, 9)),
    Kind.SESSION_OPEN: b"",
    Kind.SESSION_CLOSE: b"",
    Kind.CLOCK: (77).to_bytes(8),
}


def _start() -> list[bytes]:
    driver = Driver()
    driver.do(Kind.SESSION_OPEN, session=SESSION)
    for name in (b"a", b"b", b"c"):
        driver.put(name, b"1")
    put(driver, "dc1", *(flow(number, deadline_ms=500) for number in range(10)))
    return content(driver.machine)


START = _start()


@pytest.fixture(scope="module")
def machine() -> StateMachine:
    return StateMachine()


def check(machine: StateMachine, data: bytes) -> None:
    machine.restore(START)
    before = digest_of_rest(machine)
    applied = machine.apply(machine.position.index + 1, 1, data)
    results = [result for _, _, result in applied.outcomes]
    for result in results:
        assert encode_outcome(decode_outcome(encode_outcome(result))) == encode_outcome(result)
    kept = any(session for session, _, _ in applied.outcomes)
    if not kept and all(isinstance(result, RocinanteError) for result in results):
        assert applied.events is None
        assert digest_of_rest(machine) == before
    machine.kv_range(rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0"))
    machine.flows_list(FlowFilter.parse(backend="x", address=["::/0"]), 100, b"", 0)
    digest(machine)


def digest_of_rest(machine: StateMachine) -> bytes:
    """Everything but the first section, which has the position."""
    whole = b"".join(content(machine))
    return whole[8 + 5 + int.from_bytes(whole[9:13]) + 4 :]


@given(data=st.binary(max_size=200))
def test_noise(machine: StateMachine, data: bytes) -> None:
    check(machine, data)


@given(data=st.data())
def test_noise_as_a_body(machine: StateMachine, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(Kind))
    session, seq = data.draw(st.sampled_from([(0, 0), (SESSION, 1), (8, 1)]))
    check(machine, command.pack([command.encode(kind, session, seq, 0, data.draw(st.binary(max_size=120)))]))


@given(data=st.data())
def test_a_good_command_with_some_bytes_changed(machine: StateMachine, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(list(BODIES)))
    session = data.draw(st.sampled_from([0, SESSION]))
    entry = command.pack([command.encode(kind, session, 1, 0, BODIES[kind])])
    at = data.draw(st.integers(0, len(entry) - 1))
    check(machine, entry[:at] + data.draw(st.binary(max_size=4)) + entry[at + data.draw(st.integers(0, 4)) :])


def test_an_entry_that_is_cut_off_is_refused_as_a_whole() -> None:
    driver = Driver()
    good = command.encode(Kind.KV_PUT, 0, 0, 0, BODIES[Kind.KV_PUT])
    data = command.pack([good, good])
    for cut in range(1, len(data)):
        if cut == len(data) // 2:
            continue  # Exactly one command: a whole entry.
        applied = driver.machine.apply(cut, 1, data[:cut])
        assert [type(result) for _, _, result in applied.outcomes] == [InvalidArgument]
    assert driver.machine.revision == 1
    assert driver.machine.position.index == len(data) - 1


def test_a_transaction_nested_too_deep_is_refused() -> None:
    body = b""
    for _ in range(2000):  # success: [RequestOp{request_txn: …}], by hand, for protobuf itself refuses to make it
        inner = b"\x22" + _length(body) + body
        body = b"\x12" + _length(inner) + inner
    driver = Driver()
    assert isinstance(driver.outcome(Kind.KV_TXN, body), InvalidArgument)


def _length(data: bytes) -> bytes:
    number, parts = len(data), bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def test_entries_go_forward_only() -> None:
    driver = Driver()
    driver.clock(5)
    with pytest.raises(ValueError, match="entry 1 cannot be applied after entry 1"):
        driver.machine.apply(1, 1, b"")
    assert driver.machine.apply(7, 2, b"").outcomes == []
    assert driver.machine.position == (7, 2)
