"""`client.kv` against a real server and state machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from rocinante.client import Client, EventKind, KeyValue, SortTarget
from rocinante.client.ranges import key_range, prefix_end
from rocinante.client.txn import create_revision, delete, get, mod_revision, nested, put, value, version
from rocinante.errors import InvalidArgument, OutOfRange, ResourceExhausted
from rocinante.limits import KEY_BYTES_MAX, VALUE_BYTES_MAX
from tests.client.serving import PATIENCE_S, Cluster

HARD_KEYS = [
    b"plain",
    "grün".encode(),
    b"\x00",
    b"\xff\xfe",
    b"a/b/c",
    b"with space",
    b"\n\x1b[31m",
    b"x" * KEY_BYTES_MAX,
]


@pytest.mark.parametrize("key", HARD_KEYS)
def test_keys_and_values_are_bytes(client: Client, key: bytes) -> None:
    content = bytes(range(256))
    client.kv.put(key, content)
    assert client.kv.get(key) == KeyValue(key, content, 2, 2, 1)
    assert client.kv.delete(key).deleted == 1
    assert client.kv.get(key) is None


def test_text_is_utf8(client: Client) -> None:
    client.kv.put("grün", "ja")
    assert client.kv.get("grün".encode()).value == b"ja"


def test_what_it_was_before(client: Client) -> None:
    assert client.kv.put("a", "1", previous=True).previous is None
    assert client.kv.put("a", "2", previous=True).previous == KeyValue(b"a", b"1", 2, 2, 1)
    assert client.kv.put("a", "", keep_value=True).revision == 4
    assert client.kv.get("a") == KeyValue(b"a", b"2", 2, 4, 3)
    assert client.kv.get("a", revision=2).value == b"1"
    assert client.kv.delete("a", previous=True).previous[0].value == b"2"


def test_ranges(client: Client) -> None:
    for key in "abcde":
        client.kv.put(key, key.upper())
    kv = client.kv
    assert [item.key for item in kv.range("b", range_end="d").items] == [b"b", b"c"]
    assert kv.range("a", range_end="\0", count_only=True).count == 5
    limited = kv.range("a", range_end="\0", limit=2)
    assert (len(limited.items), limited.more, limited.count, limited.revision) == (2, True, 5, 6)
    down = kv.range("a", range_end="z", sort=SortTarget.MOD, descending=True, keys_only=True)
    assert [(item.key, item.value) for item in down.items][:2] == [(b"e", b""), (b"d", b"")]
    assert kv.delete("b", range_end="d").deleted == 2
    assert kv.range("a", range_end="z", serializable=True).count == 3


def test_prefix_iterates_by_pages_at_one_revision(client: Client) -> None:
    for number in range(7):
        client.kv.put(f"p/{number}", str(number))
    client.kv.put("q", "outside")
    items = client.kv.prefix("p/", page=2)
    first = next(items)
    client.kv.put("p/3", "changed meanwhile")
    client.kv.delete("p/5")
    assert [first.value, *(item.value for item in items)] == [b"0", b"1", b"2", b"3", b"4", b"5", b"6"]
    assert [item.key for item in client.kv.prefix()][-1] == b"q"
    assert client.kv.delete("p/", prefix=True).deleted == 6


@pytest.mark.parametrize(("prefix", "end"), [(b"a", b"b"), (b"a\xff", b"b"), (b"\xff\xff", b"\0"), (b"", b"\0")])
def test_the_end_of_a_prefix(prefix: bytes, end: bytes) -> None:
    assert prefix_end(prefix) == end


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda kv: kv.put("", "v"), "key"),
        (lambda kv: kv.get(""), "key: is empty"),
        (lambda kv: kv.put("k" * (KEY_BYTES_MAX + 1), "v"), "key"),
        (lambda kv: kv.put("k", b"v" * (VALUE_BYTES_MAX + 1)), "value"),
        (lambda kv: kv.put(7, "v"), "key: must be bytes or str, not int"),
        (lambda kv: kv.put("k", "\ud800"), "value: is no valid text"),
        (lambda kv: kv.range("a", prefix=True, range_end="b"), "range_end"),
        (lambda kv: kv.range("a", limit=-1), "limit"),
        (lambda kv: next(kv.prefix("a", page=0)), "page"),
        (lambda kv: kv.watch("a", from_revision=-1), "from_revision"),
        (lambda kv: kv.watch("a", puts=False, deletes=False), "puts"),
        (lambda kv: kv.txn().when(True), "when"),
        (lambda kv: version("a") == "1", "compare"),
        (lambda kv: value("a") == 1, "compare"),
        (lambda kv: kv.txn().then(put("a", "1"), put("a", "2")).commit(), "duplicate key"),
    ],
)
def test_wrong_use_names_the_field_and_changes_nothing(client: Client, one: Cluster, call, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        call(client.kv)
    assert one.node.state_machine.revision == 1


def test_compaction(client: Client) -> None:
    for number in range(5):
        client.kv.put("a", str(number))
    client.kv.compact(4)
    with pytest.raises(OutOfRange, match="compacted"):
        client.kv.get("a", revision=3)
    with pytest.raises(OutOfRange, match="future"):
        client.kv.get("a", revision=99)
    with pytest.raises(OutOfRange, match="compacted"):
        client.kv.compact(2)
    with pytest.raises(OutOfRange, match="4 is the first that is kept"):
        next(client.kv.watch("a", from_revision=2))


def test_too_large_an_answer_is_refused_at_once_and_comes_by_pages(client: Client) -> None:
    for number in range(40):
        client.kv.put(f"big/{number:02}", b"x" * VALUE_BYTES_MAX)
    began_s = time.monotonic()
    with pytest.raises(ResourceExhausted, match="limit"):
        client.kv.range("big/", prefix=True)
    assert time.monotonic() - began_s < PATIENCE_S / 2, "asking again would not help"
    assert sum(1 for _ in client.kv.prefix("big/", page=10)) == 40


def test_transactions(client: Client) -> None:
    kv = client.kv
    done = kv.txn().when(version("lock") == 0).then(put("lock", "me"), put("n", "1")).otherwise(get("lock")).commit()
    assert (done.succeeded, [type(one).__name__ for one in done.responses], done.revision) == (
        True,
        ["PutResult", "PutResult"],
        2,
    )
    lost = kv.txn().when(create_revision("lock") == 0).then(put("lock", "you")).otherwise(get("lock")).commit()
    assert (lost.succeeded, lost.responses[0].items[0].value) == (False, b"me")
    inner = kv.txn().when(value("n") == "1").then(put("n", "2", previous=True))
    deep = kv.txn().when(mod_revision("lock") < 3, version("n") > 0, value("n") != b"7").then(nested(inner)).commit()
    assert deep.responses[0].responses[0].previous.value == b"1"
    gone = kv.txn().then(delete("n", previous=True)).commit()
    assert (gone.responses[0].deleted, gone.responses[0].previous[0].value) == (1, b"2")
    assert not kv.txn().when(version("", prefix=True) > 5).commit().succeeded


def test_a_reading_transaction_is_not_written_to_the_log(client: Client, one: Cluster) -> None:
    client.kv.put("a", "1")
    before = one.node.status().last_index
    assert client.kv.txn().then(get("a")).commit().responses[0].count == 1
    assert one.node.status().last_index == before


@pytest.fixture
def later() -> Iterator[list[threading.Timer]]:
    timers: list[threading.Timer] = []
    yield timers
    for timer in timers:
        timer.join()


def test_a_watch_sees_every_change_in_order(client: Client) -> None:
    client.kv.put("a/1", "old")
    with client.kv.watch("a/", prefix=True, from_revision=2, previous=True) as events:
        client.kv.put("a/2", "x")
        client.kv.put("b", "not watched")
        client.kv.delete("a/1")
        found = [next(events) for _ in range(3)]
    assert [(event.kind, event.item.key, event.item.mod_revision) for event in found] == [
        (EventKind.PUT, b"a/1", 2),
        (EventKind.PUT, b"a/2", 3),
        (EventKind.DELETE, b"a/1", 5),
    ]
    assert found[2].previous.value == b"old"
    assert list(events) == [], "closed: nothing more comes"


def test_a_watch_can_leave_puts_out(client: Client) -> None:
    with client.kv.watch("a", from_revision=1, puts=False) as events:
        client.kv.put("a", "1")
        client.kv.delete("a")
        assert next(events).kind is EventKind.DELETE


def test_a_watch_outlives_the_only_node_that_was_given(three: Cluster) -> None:
    with Client(three.endpoints[0]) as client, client.kv.watch("k", from_revision=1) as events:
        with Client(three.endpoints[1]) as writer:
            writer.kv.put("k", "before")
            assert next(events).item.value == b"before"
            three.shut(0)
            writer.kv.put("k", "after")
        assert next(events).item.value == b"after"


def test_a_watch_goes_on_elsewhere_without_a_gap(three: Cluster) -> None:
    with Client(three.endpoints) as client, client.kv.watch("k", from_revision=1) as events:
        for number in range(30):
            if number in (5, 15, 25):
                door = (number // 10) % 3
                three.shut(door)
                three.open(door)
            client.kv.put("k", str(number))
        assert [int(next(events).item.value) for _ in range(30)] == list(range(30))


def test_closing_ends_a_watch_that_waits(client: Client, later: list[threading.Timer]) -> None:
    events = client.kv.watch("quiet")
    later.append(threading.Timer(0.2, events.close))
    later[0].start()
    assert list(events) == []


def test_a_slow_reader_of_a_watch_gets_everything_all_the_same(client: Client, one: Cluster) -> None:
    with client.kv.watch("k", from_revision=1) as events:
        client.kv.put("k", "0")
        assert next(events).item.version == 1
        for number in range(300):
            client.kv.put("k", bytes([number % 256]) * 60_000)
        assert [next(events).item.version for _ in range(300)] == list(range(2, 302))


def test_key_range() -> None:
    assert key_range("a", prefix=True) == (b"a", b"b")
    assert key_range("", prefix=True) == (b"\0", b"\0")
    assert key_range("a", range_end="c") == (b"a", b"c")
    assert key_range("a") == (b"a", b"")
