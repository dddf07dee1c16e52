"""What the comparison with etcd cannot show: our own bounds, reads in pieces, compaction by steps, paging."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from rocinante import limits
from rocinante.errors import InvalidArgument, OutOfRange, ResourceExhausted
from rocinante.pb.etcd import rpc_pb2
from rocinante.state.kv import KvStore, check_put, check_range, check_txn, txn_is_readonly
from rocinante.state.kv.view import PinnedView
from tests.state.harness import Driver, copy, digest

EVERYTHING = rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0")


def keys_at(driver: Driver, revision: int) -> list[tuple[bytes, bytes]]:
    request = rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0", revision=revision)
    return [(pair.key, pair.value) for pair in driver.machine.kv_range(request).kvs]


def nested(depth: int) -> rpc_pb2.TxnRequest:
    request = rpc_pb2.TxnRequest(success=[rpc_pb2.RequestOp(request_range={"key": b"a"})])
    for _ in range(depth - 1):
        request = rpc_pb2.TxnRequest(success=[rpc_pb2.RequestOp(request_txn=request)])
    return request


def test_sizes_and_depths_are_bounded_and_the_field_is_named() -> None:
    key, value = bytes(limits.KEY_BYTES_MAX), bytes(limits.VALUE_BYTES_MAX)
    check_put(rpc_pb2.PutRequest(key=key, value=value))
    check_range(rpc_pb2.RangeRequest(key=key, range_end=key))
    check_txn(nested(limits.TXN_DEPTH_MAX))
    checks: list[tuple[Callable[[], None], str]] = [
        (lambda: check_put(rpc_pb2.PutRequest(key=key + b"x")), "key"),
        (lambda: check_put(rpc_pb2.PutRequest(key=b"a", value=value + b"x")), "value"),
        (lambda: check_range(rpc_pb2.RangeRequest(key=b"a", range_end=key + b"x")), "range_end"),
        (lambda: check_range(rpc_pb2.RangeRequest(key=b"a", sort_order=7)), ""),  # type: ignore[arg-type]
        (lambda: check_txn(nested(limits.TXN_DEPTH_MAX + 1)), "request_txn"),
        (lambda: check_txn(rpc_pb2.TxnRequest(compare=[rpc_pb2.Compare(key=key + b"x")])), "key"),
    ]
    for check, field in checks:
        with pytest.raises(InvalidArgument) as caught:
            check()
        assert caught.value.field == field


def test_a_transaction_that_only_reads_is_known_as_one() -> None:
    put = rpc_pb2.RequestOp(request_put={"key": b"a"})
    assert txn_is_readonly(nested(3))
    assert txn_is_readonly(rpc_pb2.TxnRequest())
    assert not txn_is_readonly(rpc_pb2.TxnRequest(failure=[put]))
    assert not txn_is_readonly(rpc_pb2.TxnRequest(success=[rpc_pb2.RequestOp(request_txn={"failure": [put]})]))
    with pytest.raises(InvalidArgument, match="proposed"):
        Driver().machine.kv_txn_read(rpc_pb2.TxnRequest(failure=[put]))


def test_an_answer_that_is_too_large_is_refused_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RANGE_RESPONSE_BYTES_MAX", 3000)
    driver = Driver()
    for number in range(5):
        driver.put(b"%d" % number, bytes(1000))
    with pytest.raises(ResourceExhausted, match="limit"):
        driver.machine.kv_range(EVERYTHING)
    assert len(driver.machine.kv_range(rpc_pb2.RangeRequest(key=b"0", range_end=b"9", limit=2)).kvs) == 2
    assert len(driver.machine.kv_range(rpc_pb2.RangeRequest(key=b"0", range_end=b"9", keys_only=True)).kvs) == 5
    before = digest(driver.machine)
    with pytest.raises(ResourceExhausted):
        driver.delete(b"0", b"9", prev_kv=True)
    read = rpc_pb2.RequestOp(request_range=EVERYTHING)
    put = rpc_pb2.RequestOp(request_put={"key": b"3", "value": b"new"})
    delete = rpc_pb2.RequestOp(request_delete_range={"key": b"0"})
    with pytest.raises(ResourceExhausted):
        driver.txn(rpc_pb2.TxnRequest(success=[put, delete, read]))
    assert not driver.changed()
    copied = copy(driver.machine)
    assert driver.get(b"3") == bytes(1000)
    driver.put(b"new")
    assert driver.machine.revision == 7, "what was begun has been undone"
    assert [pair[0] for pair in keys_at_keys(driver)] == [b"0", b"1", b"2", b"3", b"4", b"new"]
    assert copied.revision == 6
    assert before != digest(driver.machine)


def keys_at_keys(driver: Driver) -> list[tuple[bytes, int]]:
    request = rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0", keys_only=True)
    return [(pair.key, pair.version) for pair in driver.machine.kv_range(request).kvs]


def test_compaction_goes_by_steps_and_reads_do_not_see_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "KV_COMPACT_STEP_CHANGES", 3)
    driver = Driver()
    for round_ in range(5):
        for name in (b"a", b"b", b"c", b"d"):
            driver.put(name, b"%d" % round_)
        driver.delete(b"b")
    revision = driver.machine.revision
    expected = [keys_at(driver, at) for at in range(revision - 3, revision + 1)]
    driver.compact(revision - 3)
    history = driver.machine.sizes()["kv_history"]
    assert history > 20, "not all at once"
    for _ in range(12):
        assert [keys_at(driver, at) for at in range(revision - 3, revision + 1)] == expected
        assert digest(driver.machine) == digest(copy(driver.machine))
        driver.clock(0)
    sizes = driver.machine.sizes()
    assert sizes["kv_history"] == 4
    with pytest.raises(OutOfRange, match="compacted"):
        keys_at(driver, revision - 4)
    driver.delete(b"\0", b"\0")
    driver.compact(driver.machine.revision)
    driver.put(b"z")
    driver.compact(driver.machine.revision)
    for _ in range(12):
        driver.clock(0)
    sizes = driver.machine.sizes()
    assert (sizes["keys"], sizes["kv_history"], sizes["kv_bytes"]) == (1, 1, 201), "nothing of the others is left"


def test_compacting_again_and_again_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep that is overtaken by the next compaction, tombstones of exactly the compacted revision among them."""
    monkeypatch.setattr(limits, "KV_COMPACT_STEP_CHANGES", 2)
    driver = Driver()
    for number in range(200):
        driver.put(b"%d" % (number % 7))
        driver.delete(b"%d" % ((number + 3) % 7))
        if number % 3 == 0:
            driver.compact(driver.machine.revision - number % 2)
        assert digest(copy(driver.machine)) == digest(driver.machine)
    driver.put(b"last")
    driver.compact(driver.machine.revision)
    for _ in range(400):
        driver.clock(0)
    sizes = driver.machine.sizes()
    assert sizes["kv_history"] == 1
    assert sizes["kv_bytes"] == sum(200 + len(key) for key, _ in keys_at(driver, 0))


def test_history_is_paged_by_whole_revisions() -> None:
    driver = Driver()
    for number in range(30):
        driver.put(b"a%02d" % number)
        driver.put(b"b%02d" % number)
    driver.delete(b"a", b"b")
    seen, at, pages = [], 1, 0
    while at <= driver.machine.revision:
        page = driver.machine.kv_events_since(at, b"a", b"b", limit=7)
        seen += [(changes.revision, len(changes.events)) for changes in page.changes]
        assert page.next_revision > at
        at, pages = page.next_revision, pages + 1
    assert seen == [(2 + 2 * number, 1) for number in range(30)] + [(62, 30)]
    assert pages > 5
    assert driver.machine.kv_events_since(63).changes == []
    assert driver.machine.kv_events_since(70).next_revision == 70
    one = driver.machine.kv_events_since(1, b"b07", b"").changes
    assert [changes.revision for changes in one] == [17]


def test_history_after_a_compaction() -> None:
    driver = Driver()
    driver.put(b"a", b"1")  # 2
    driver.put(b"a", b"2")  # 3
    driver.delete(b"a")  # 4
    driver.put(b"a", b"3")  # 5
    driver.compact(4)
    for machine in (driver.machine, copy(driver.machine)):
        with pytest.raises(OutOfRange, match="compacted"):
            machine.kv_events_since(3)
        deleted, put = machine.kv_events_since(4).changes
        assert (deleted.revision, deleted.events[0].type, deleted.events[0].HasField("prev_kv")) == (4, 1, False)
        assert (put.revision, put.events[0].kv.value, put.events[0].HasField("prev_kv")) == (5, b"3", False)


def test_a_large_range_is_read_at_one_revision_while_writes_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "KV_PIECE_KEYS", 10)
    driver = Driver()
    for number in range(300):
        driver.put(b"%03d" % number, b"same")
    stop = threading.Event()

    def write() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            batch = [rpc_pb2.RequestOp(request_put={"key": b"%03d" % n, "value": b"%d" % turn}) for n in (0, 150, 299)]
            driver.txn(rpc_pb2.TxnRequest(success=batch))
            driver.put(b"%03d-%d" % (turn % 300, turn))
            driver.delete(b"%03d-%d" % (turn % 300, turn))
            driver.compact(driver.machine.revision)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(40):
            response = driver.machine.kv_range(EVERYTHING)
            values = {pair.key: pair.value for pair in response.kvs}
            assert len({values[b"000"], values[b"150"], values[b"299"]}) == 1
            assert 300 <= len(values) <= 301
            assert response.count == len(values)
            assert max(pair.mod_revision for pair in response.kvs) <= response.header.revision
    finally:
        stop.set()
        writer.join()


def test_a_view_keeps_its_revision_from_compaction() -> None:
    store, lock = KvStore(), threading.Lock()
    for value in (b"1", b"2"):
        store.put(b"a", value, 0)
        store.commit()
    view = PinnedView(store, lock)
    store.put(b"a", b"3", 0)
    store.commit()
    store.compact(store.revision)
    assert store.compact_step(100), "there is work, and it waits"
    ((key, version),) = view.pairs(b"a", b"", view.revision, 0)
    assert (key, version.value) == (b"a", b"2")
    view.close()
    assert not store.compact_step(100)
    assert len(store.index.versions[b"a"]) == 1


@pytest.mark.parametrize(("key", "limit"), [(b"", 1), (b"a", 0)])
def test_a_bad_request_for_events_is_refused(key: bytes, limit: int) -> None:
    with pytest.raises(InvalidArgument):
        Driver().machine.kv_events_since(1, key, b"", limit)
