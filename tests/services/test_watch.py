"""etcdserverpb.Watch over a real socket."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator

import grpc
import pytest

from rocinante import limits
from rocinante.pb.etcd import kv_pb2
from rocinante.pb.etcd import rpc_pb2 as pb
from rocinante.services.server import GrpcServer
from tests.services.wire import WAIT_S, Wire, failure
from tests.support.local_node import LocalNode

PUT_TYPE, DELETE_TYPE = kv_pb2.Event.PUT, kv_pb2.Event.DELETE
Create = pb.WatchCreateRequest


class WatchClient:
    """A Watch stream whose requests the test writes one by one."""

    def __init__(self, wire: Wire) -> None:
        self._requests: queue.Queue[pb.WatchRequest | None] = queue.Queue()
        self._answers = wire.duplex("/etcdserverpb.Watch/Watch", self._outgoing(), pb.WatchResponse, 2 * WAIT_S)

    def _outgoing(self) -> Iterator[pb.WatchRequest]:
        while (request := self._requests.get()) is not None:
            yield request

    def create(self, **what: object) -> pb.WatchResponse:
        self._requests.put(pb.WatchRequest(create_request=Create(**what)))  # type: ignore[arg-type]
        return self.next()

    def cancel(self, watch_id: int) -> None:
        self._requests.put(pb.WatchRequest(cancel_request=pb.WatchCancelRequest(watch_id=watch_id)))

    def ask_progress(self) -> None:
        self._requests.put(pb.WatchRequest(progress_request=pb.WatchProgressRequest()))

    def next(self) -> pb.WatchResponse:
        answer: pb.WatchResponse = next(self._answers)
        return answer

    def events(self, count: int) -> list[tuple[int, int, bytes]]:
        """The next events as (type, revision, key), from as many answers as it takes."""
        found: list[tuple[int, int, bytes]] = []
        while len(found) < count:
            found.extend((event.type, event.kv.mod_revision, event.kv.key) for event in self.next().events)
        return found

    def done(self) -> None:
        self._requests.put(None)

    def end(self) -> None:
        self._requests.put(None)
        self._answers.cancel()


@pytest.fixture
def watching(wire: Wire) -> Iterator[WatchClient]:
    client = WatchClient(wire)
    yield client
    client.end()


def put(wire: Wire, key: bytes, value: bytes = b"v") -> int:
    return wire.call("/etcdserverpb.KV/Put", pb.PutRequest(key=key, value=value), pb.PutResponse).header.revision


def delete(wire: Wire, key: bytes, range_end: bytes = b"") -> int:
    request = pb.DeleteRangeRequest(key=key, range_end=range_end)
    return wire.call("/etcdserverpb.KV/DeleteRange", request, pb.DeleteRangeResponse).header.revision


def compact(wire: Wire, revision: int) -> None:
    wire.call("/etcdserverpb.KV/Compact", pb.CompactionRequest(revision=revision), pb.CompactionResponse)


def test_from_now_on_one_key(wire: Wire, watching: WatchClient, node: LocalNode) -> None:
    put(wire, b"k", b"old")
    created = watching.create(key=b"k")
    assert created.created
    assert (created.watch_id, created.header.revision, created.header.member_id) == (0, 2, node.member.id)
    put(wire, b"other")
    put(wire, b"k", b"new")
    answer = watching.next()
    assert [(event.type, event.kv.value, event.kv.version) for event in answer.events] == [(PUT_TYPE, b"new", 2)]
    assert not answer.events[0].HasField("prev_kv")
    assert answer.header.revision == 4


RANGES = [
    ("one key", {"key": b"b"}, [b"b"]),
    ("a range", {"key": b"b", "range_end": b"d"}, [b"b", b"c"]),
    ("from a key on", {"key": b"b", "range_end": b"\0"}, [b"b", b"c", b"d"]),
    ("everything", {"key": b"\0", "range_end": b"\0"}, [b"a", b"b", b"c", b"d"]),
    ("everything, key left out", {"range_end": b"\0"}, [b"a", b"b", b"c", b"d"]),
]


@pytest.mark.parametrize("live", [True, False], ids=["live", "history"])
@pytest.mark.parametrize(("what", "keys"), [case[1:] for case in RANGES], ids=[case[0] for case in RANGES])
def test_which_keys(wire: Wire, watching: WatchClient, what: dict[str, bytes], keys: list[bytes], live: bool) -> None:
    if live:
        watching.create(**what)
    for key in (b"a", b"b", b"c", b"d"):
        put(wire, key)
    if not live:
        watching.create(**what, start_revision=2)
    assert [key for _, _, key in watching.events(len(keys))] == keys
    watching.ask_progress()
    assert watching.next().watch_id == -1  # and no event before it


def test_history_then_live_without_a_gap_or_a_repeat(wire: Wire, watching: WatchClient) -> None:
    for number in range(10):
        put(wire, b"k%d" % number)
    watching.create(key=b"k", range_end=b"l", start_revision=5)
    for number in range(10):
        put(wire, b"k%d" % number)
    assert [revision for _, revision, _ in watching.events(17)] == list(range(5, 22))


def test_a_long_history_comes_in_pages(wire: Wire, watching: WatchClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WATCH_PAGE_EVENTS_MAX", 7)
    for number in range(50):
        put(wire, b"k%d" % number)
    watching.create(key=b"k", range_end=b"l", start_revision=1)
    assert [revision for _, revision, _ in watching.events(50)] == list(range(2, 52))


def test_a_start_in_the_future(wire: Wire, watching: WatchClient) -> None:
    assert watching.create(key=b"k", start_revision=4).created
    for _ in range(4):
        put(wire, b"k")
    assert [revision for _, revision, _ in watching.events(2)] == [4, 5]


def test_deletions_previous_values_and_filters(wire: Wire, watching: WatchClient) -> None:
    watching.create(key=b"k", prev_kv=True)
    watching.create(key=b"k", filters=[Create.NOPUT])
    watching.create(key=b"k", filters=[Create.NODELETE])
    put(wire, b"k", b"1")
    delete(wire, b"k")
    seen: dict[int, list[tuple[int, bytes]]] = {0: [], 1: [], 2: []}
    while sum(map(len, seen.values())) < 4:
        answer = watching.next()
        seen[answer.watch_id].extend((event.type, event.prev_kv.value) for event in answer.events)
    assert seen == {0: [(PUT_TYPE, b""), (DELETE_TYPE, b"1")], 1: [(DELETE_TYPE, b"")], 2: [(PUT_TYPE, b"")]}


def test_one_transaction_is_one_answer(wire: Wire, watching: WatchClient) -> None:
    watching.create(key=b"k", range_end=b"l")
    operations = [pb.RequestOp(request_put=pb.PutRequest(key=b"k%d" % number)) for number in range(5)]
    wire.call("/etcdserverpb.KV/Txn", pb.TxnRequest(success=operations), pb.TxnResponse)
    assert {event.kv.mod_revision for event in watching.next().events} == {2}


@pytest.mark.parametrize("fragment", [True, False])
def test_a_large_revision_is_split_and_says_so(
    wire: Wire, watching: WatchClient, monkeypatch: pytest.MonkeyPatch, fragment: bool
) -> None:
    monkeypatch.setattr(limits, "WATCH_RESPONSE_BYTES_MAX", 1000)
    watching.create(key=b"k", range_end=b"l", fragment=fragment)
    operations = [pb.RequestOp(request_put=pb.PutRequest(key=b"k%d" % n, value=bytes(400))) for n in range(5)]
    wire.call("/etcdserverpb.KV/Txn", pb.TxnRequest(success=operations), pb.TxnResponse)
    answers = [watching.next() for _ in range(3)]
    assert [len(answer.events) for answer in answers] == [2, 2, 1]
    assert [answer.fragment for answer in answers] == [fragment, fragment, False]


def test_watch_ids_are_given_or_taken(wire: Wire, watching: WatchClient, node: LocalNode) -> None:
    assert [watching.create(key=b"k").watch_id for _ in range(2)] == [0, 1]
    assert watching.create(key=b"k", watch_id=2).watch_id == 2
    assert watching.create(key=b"k").watch_id == 3
    taken = watching.create(key=b"k", watch_id=2)
    assert (taken.created, taken.canceled, taken.watch_id) == (True, True, -1)
    assert taken.cancel_reason == "etcdserver: mvcc: duplicate watch ID provided on the WatchStream"
    assert node.watchers == 1


REFUSED = [
    ("an empty range", {"key": b"b", "range_end": b"a"}, "etcdserver: mvcc: watcher range is empty"),
    ("a negative start", {"key": b"b", "start_revision": -1}, "etcdserver: mvcc: required revision has been compacted"),
    ("a long key", {"key": bytes(limits.KEY_BYTES_MAX + 1)}, "key: at most 1024 bytes"),
]


@pytest.mark.parametrize(("what", "reason"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_a_watch_that_cannot_be(wire: Wire, watching: WatchClient, what: dict[str, object], reason: str) -> None:
    refused = watching.create(**what)
    assert (refused.created, refused.canceled, refused.watch_id) == (True, True, -1)
    assert refused.cancel_reason == reason
    assert watching.create(key=b"k").created  # the stream lives


def test_too_many_watches_on_a_stream(watching: WatchClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WATCHES_PER_STREAM_MAX", 2)
    assert [watching.create(key=b"k").canceled for _ in range(3)] == [False, False, True]


def test_cancel_ends_one_watch_only(wire: Wire, watching: WatchClient) -> None:
    watching.create(key=b"k")
    watching.create(key=b"k")
    watching.cancel(0)
    canceled = watching.next()
    assert (canceled.watch_id, canceled.canceled, canceled.cancel_reason) == (0, True, "")
    watching.cancel(77)  # no such watch: no answer, as etcd
    put(wire, b"k")
    assert watching.next().watch_id == 1


def test_a_compacted_start_is_canceled_with_the_revision(wire: Wire, watching: WatchClient) -> None:
    for _ in range(5):
        put(wire, b"k")
    compact(wire, 5)
    created = watching.create(key=b"k", start_revision=2)
    assert created.created
    assert not created.canceled
    canceled = watching.next()
    assert (canceled.canceled, canceled.compact_revision, canceled.watch_id) == (True, 5, created.watch_id)
    assert watching.create(key=b"k", start_revision=5).created
    assert [revision for _, revision, _ in watching.events(2)] == [5, 6]


def test_progress_on_request_says_how_far_everything_is_told(wire: Wire, watching: WatchClient) -> None:
    watching.create(key=b"k")
    last = [put(wire, b"other") for _ in range(3)][-1]
    put(wire, b"k")
    assert watching.events(1) == [(PUT_TYPE, last + 1, b"k")]
    watching.ask_progress()
    progress = watching.next()
    assert (progress.watch_id, progress.header.revision, len(progress.events)) == (-1, last + 1, 0)


def test_progress_notify_comes_when_nothing_else_does(
    wire: Wire, watching: WatchClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WATCH_PROGRESS_INTERVAL_S", 0.05)
    put(wire, b"k")
    watching.create(key=b"k", progress_notify=True)
    for _ in range(2):
        progress = watching.next()
        assert (progress.watch_id, progress.header.revision, len(progress.events)) == (0, 2, 0)


def test_a_slow_watcher_is_canceled_with_a_place_to_start_again(
    node: LocalNode, serve: Callable[..., GrpcServer]
) -> None:
    """The client does not read: flow control fills, then the node's bounded queue, and the node goes on regardless."""
    node.watch_events_max = 20
    server = serve(node)
    wire = Wire(f"127.0.0.1:{server.port}")
    watching = WatchClient(wire)
    watching.create(key=b"k")
    value = bytes(200 * limits.KIB)
    written = [put(wire, b"k", value) for _ in range(60)]
    seen: list[int] = []
    while True:
        answer = watching.next()
        if answer.canceled:
            break
        seen.extend(event.kv.mod_revision for event in answer.events)
    assert 0 < len(seen) < len(written)
    assert seen == written[: len(seen)]
    start = seen[-1] + 1
    assert answer.cancel_reason == f"etcdserver: watch canceled: too slow; start again at revision {start}"
    assert watching.create(key=b"k", start_revision=start).created
    assert [revision for _, revision, _ in watching.events(len(written) - len(seen))] == written[len(seen) :]
    watching.end()
    wire.close()


def test_bytes_that_are_no_request_end_the_stream(wire: Wire, node: LocalNode) -> None:
    answers = wire.duplex("/etcdserverpb.Watch/Watch", iter([b"\xff\xff"]), pb.WatchResponse)  # type: ignore[list-item]
    with pytest.raises(grpc.RpcError) as caught:
        next(answers)
    text = "etcdserverpb.WatchRequest: the bytes are not such a message"
    assert failure(caught.value)[:2] == ("INVALID_ARGUMENT", text)


def test_the_end_of_the_requests_ends_the_stream_and_its_watch(watching: WatchClient, node: LocalNode) -> None:
    watching.create(key=b"k")
    assert node.watchers == 1
    watching.done()
    with pytest.raises(StopIteration):
        watching.next()
    assert node.watchers == 0


def test_a_client_that_goes_away_leaves_nothing_behind(node: LocalNode, server: GrpcServer) -> None:
    wire = Wire(f"127.0.0.1:{server.port}")
    watching = WatchClient(wire)
    watching.create(key=b"k")
    watching.end()
    wire.close()
    assert node.wait_until(lambda: node.watchers == 0, WAIT_S)


def test_no_room_for_another_watch(wire: Wire, watching: WatchClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WATCHERS_MAX", 0)
    refused = watching.create(key=b"k")
    assert (refused.canceled, refused.cancel_reason) == (True, "there are 0 watchers already")
