"""The same seeded requests to a real etcd and to the state machine: every answer, field by field, and every error must
be the same.

Skipped where there is no etcd (Debian's package `etcd-server`). A failure names the seed and the number of the request.
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.message import Message

from rocinante.errors import RocinanteError
from rocinante.pb.etcd import kv_pb2, rpc_pb2
from rocinante.state.command import Kind
from rocinante.state.kv import txn_is_readonly
from tests.state.harness import Driver
from tests.support.ports import free_ports
from tests.support.tools import requires

pytestmark = requires("etcd")

KEYS = [b"a", b"aa", b"ab", b"b", b"b\0", b"c", b"d", b"dd", b"e", b"\xff", b"\0"]
ENDS = [b"", b"", b"\0", b"b", b"c", b"dz", b"f", b"\xff\xff", b"a"]
_R, _C = rpc_pb2.RangeRequest, rpc_pb2.Compare
ORDERS = [_R.NONE, _R.NONE, _R.ASCEND, _R.DESCEND]
TARGETS = [_R.KEY, _R.KEY, _R.VERSION, _R.CREATE, _R.MOD, _R.VALUE]
COMPARED = [_C.VERSION, _C.CREATE, _C.MOD, _C.VALUE, _C.LEASE]
RESULTS = [_C.EQUAL, _C.GREATER, _C.LESS, _C.NOT_EQUAL]
VALUES = [b"", b"1", b"2", b"long value " * 5]

Request = (
    rpc_pb2.RangeRequest
    | rpc_pb2.PutRequest
    | rpc_pb2.DeleteRangeRequest
    | rpc_pb2.TxnRequest
    | rpc_pb2.CompactionRequest
)
METHODS: dict[type[Message], tuple[str, type[Message], Kind | None]] = {
    rpc_pb2.RangeRequest: ("Range", rpc_pb2.RangeResponse, None),
    rpc_pb2.PutRequest: ("Put", rpc_pb2.PutResponse, Kind.KV_PUT),
    rpc_pb2.DeleteRangeRequest: ("DeleteRange", rpc_pb2.DeleteRangeResponse, Kind.KV_DELETE),
    rpc_pb2.TxnRequest: ("Txn", rpc_pb2.TxnResponse, Kind.KV_TXN),
    rpc_pb2.CompactionRequest: ("Compact", rpc_pb2.CompactionResponse, Kind.KV_COMPACT),
}


class Etcd:
    """One etcd process with an empty store, and raw gRPC to it with our messages."""

    def __init__(self, directory: Path) -> None:
        client, peer = (f"http://127.0.0.1:{port}" for port in free_ports(2))
        arguments = ["etcd", "--data-dir", str(directory / "etcd"), "--name", "one", "--initial-cluster", f"one={peer}"]
        arguments += ["--listen-client-urls", client, "--advertise-client-urls", client]
        arguments += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        self._log = (directory / "etcd.log").open("wb")
        self._process = subprocess.Popen(arguments, stdout=self._log, stderr=self._log)
        self._channel = grpc.insecure_channel(client.removeprefix("http://"))
        self._calls = {
            request: self._channel.unary_unary(
                f"/etcdserverpb.KV/{method}",
                request_serializer=request.SerializeToString,
                response_deserializer=response.FromString,
            )
            for request, (method, response, _) in METHODS.items()
        }
        grpc.channel_ready_future(self._channel).result(timeout=60)
        self._calls[rpc_pb2.RangeRequest](rpc_pb2.RangeRequest(key=b"a"), timeout=60, wait_for_ready=True)

    def call(self, request: Request) -> object:
        """The response without the header's ids, or (code, text)."""
        try:
            response = self._calls[type(request)](request, timeout=60)
        except grpc.RpcError as error:
            return error.code().name, error.details()
        _forget_ids(response)
        return response

    def close(self) -> None:
        self._channel.close()
        self._process.terminate()
        self._process.wait(timeout=60)
        self._log.close()


def _forget_ids(response: object) -> None:
    header = response.header  # type: ignore[attr-defined]
    header.CopyFrom(rpc_pb2.ResponseHeader(revision=header.revision))


def ours(driver: Driver, request: Request) -> object:
    kind = METHODS[type(request)][2]
    try:
        if isinstance(request, rpc_pb2.RangeRequest):
            return driver.machine.kv_range(request)
        if isinstance(request, rpc_pb2.TxnRequest) and txn_is_readonly(request):
            answer = driver.machine.kv_txn_read(request)
            proposed = driver.txn(request)
            assert proposed == answer, "a read-only transaction answers the same when it is proposed"
            return answer
        assert kind is not None
        return driver.do(kind, request.SerializeToString())
    except RocinanteError as error:
        return error.code.value, error.message


class Requests:
    """Random requests that often hit something, and sometimes something forbidden."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.revision = 1

    def key(self) -> bytes:
        return b"" if self._random.random() < 0.01 else self._random.choice(KEYS)

    def past(self) -> int:
        draw = self._random.random()
        if draw < 0.5:
            return 0
        if draw < 0.55:
            return self.revision + self._random.randint(1, 3)
        if draw < 0.58:
            return -1
        return max(0, self.revision - self._random.randint(0, 30))

    def near(self) -> int:
        return max(0, self.revision - self._random.randint(0, 20))

    def range(self) -> rpc_pb2.RangeRequest:
        some = self._random
        request = rpc_pb2.RangeRequest(key=self.key(), range_end=some.choice(ENDS), revision=self.past())
        request.limit = some.choice([0, 0, 0, 1, 2, 5, -1])
        request.sort_order = some.choice(ORDERS)
        request.sort_target = some.choice(TARGETS)
        request.keys_only = some.random() < 0.2
        request.count_only = some.random() < 0.1
        request.serializable = some.random() < 0.5
        for name in ("min_mod_revision", "max_mod_revision", "min_create_revision", "max_create_revision"):
            if some.random() < 0.1:
                setattr(request, name, self.near())
        return request

    def put(self) -> rpc_pb2.PutRequest:
        some = self._random
        request = rpc_pb2.PutRequest(key=self.key(), value=some.choice(VALUES), prev_kv=some.random() < 0.3)
        if some.random() < 0.15:
            request.ignore_value = True
            if some.random() < 0.8:
                request.value = b""
        request.ignore_lease = some.random() < 0.1
        if some.random() < 0.04:
            request.lease = 4711
        return request

    def delete(self) -> rpc_pb2.DeleteRangeRequest:
        some = self._random
        ends = ENDS if some.random() < 0.3 else [b""]
        return rpc_pb2.DeleteRangeRequest(key=self.key(), range_end=some.choice(ends), prev_kv=some.random() < 0.5)

    def compare(self) -> rpc_pb2.Compare:
        some = self._random
        request = rpc_pb2.Compare(key=self.key(), target=some.choice(COMPARED), result=some.choice(RESULTS))
        if some.random() < 0.3:
            request.range_end = some.choice(ENDS)
        match request.target:
            case rpc_pb2.Compare.VERSION:
                request.version = some.choice([0, 1, 2, 3])
            case rpc_pb2.Compare.CREATE:
                request.create_revision = some.choice([0, self.near()])
            case rpc_pb2.Compare.MOD:
                request.mod_revision = some.choice([0, self.near()])
            case rpc_pb2.Compare.VALUE:
                request.value = some.choice(VALUES)
            case _:
                request.lease = some.choice([0, 1])
        if some.random() < 0.05:
            request.version = 1  # an operand that is not the target's
        return request

    def operation(self, depth: int) -> rpc_pb2.RequestOp:
        draw = self._random.random()
        if draw < 0.01:
            return rpc_pb2.RequestOp()
        if draw < 0.35:
            return rpc_pb2.RequestOp(request_range=self.range())
        if draw < 0.65:
            return rpc_pb2.RequestOp(request_put=self.put())
        if draw < 0.85 or depth == 0:
            return rpc_pb2.RequestOp(request_delete_range=self.delete())
        return rpc_pb2.RequestOp(request_txn=self.txn(depth - 1))

    def txn(self, depth: int = 2) -> rpc_pb2.TxnRequest:
        some = self._random
        request = rpc_pb2.TxnRequest(compare=[self.compare() for _ in range(some.choice([0, 1, 1, 2]))])
        request.success.extend([self.operation(depth) for _ in range(some.choice([0, 1, 2, 3]))])
        request.failure.extend([self.operation(depth) for _ in range(some.choice([0, 1, 2, 3]))])
        return request

    def next(self) -> Request:
        draw = self._random.random()
        if draw < 0.3:
            return self.range()
        if draw < 0.6:
            return self.put()
        if draw < 0.7:
            return self.delete()
        if draw < 0.98:
            return self.txn()
        return rpc_pb2.CompactionRequest(revision=self.past() or self.near(), physical=draw < 0.99)


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Etcd]:
    server = Etcd(tmp_path)
    yield server
    server.close()


@pytest.mark.parametrize("seed", [1, 2])
def test_random_requests_get_the_answers_of_etcd(etcd: Etcd, seed: int) -> None:
    driver, requests = Driver(), Requests(seed)
    for number in range(1000):
        request = requests.next()
        expected, found = etcd.call(request), ours(driver, request)
        where = f"seed {seed}, request {number}: {type(request).__name__} {{{request}}}"
        assert found == expected, where
        requests.revision = driver.machine.revision


def _op(**which: object) -> rpc_pb2.RequestOp:
    return rpc_pb2.RequestOp(**which)  # type: ignore[arg-type]


def _put(key: bytes, **more: object) -> rpc_pb2.RequestOp:
    return _op(request_put=rpc_pb2.PutRequest(key=key, **more))  # type: ignore[arg-type]


def _delete(key: bytes, range_end: bytes = b"") -> rpc_pb2.RequestOp:
    return _op(request_delete_range=rpc_pb2.DeleteRangeRequest(key=key, range_end=range_end))


def _nested(*success: rpc_pb2.RequestOp, failure: tuple[rpc_pb2.RequestOp, ...] = ()) -> rpc_pb2.RequestOp:
    return _op(request_txn=rpc_pb2.TxnRequest(success=success, failure=failure))


CORNERS: dict[str, Request] = {
    "an operation that is none": rpc_pb2.TxnRequest(success=[rpc_pb2.RequestOp()]),
    "128 operations are allowed": rpc_pb2.TxnRequest(success=[_put(b"k%d" % n) for n in range(128)]),
    "129 are not": rpc_pb2.TxnRequest(success=[_put(b"k%d" % n) for n in range(129)]),
    "nor 127 and one nested with 2": rpc_pb2.TxnRequest(
        success=[*(_put(b"k%d" % n) for n in range(127)), _nested(_put(b"x"), _put(b"y"))]
    ),
    "the same key twice": rpc_pb2.TxnRequest(success=[_put(b"a"), _put(b"a")]),
    "the same key in either branch": rpc_pb2.TxnRequest(success=[_put(b"a")], failure=[_put(b"a")]),
    "the same key in a nested transaction": rpc_pb2.TxnRequest(success=[_put(b"a"), _nested(_put(b"a"))]),
    "the same key in nested branches": rpc_pb2.TxnRequest(success=[_nested(_put(b"a"), failure=(_put(b"a"),))]),
    "the same key in nested siblings": rpc_pb2.TxnRequest(success=[_nested(_put(b"a")), _nested(_put(b"a"))]),
    "put and delete": rpc_pb2.TxnRequest(success=[_put(b"a"), _delete(b"a")]),
    "put within a deleted range": rpc_pb2.TxnRequest(success=[_delete(b"a", b"c"), _put(b"b")]),
    "put at a deleted range's end": rpc_pb2.TxnRequest(success=[_delete(b"a", b"c"), _put(b"c")]),
    "put after a delete from key on": rpc_pb2.TxnRequest(success=[_put(b"z"), _delete(b"a", b"\0"), _put(b"zz")]),
    "put of the key from which is deleted": rpc_pb2.TxnRequest(success=[_put(b"a"), _delete(b"a", b"\0")]),
    "nested put, then nested delete of it": rpc_pb2.TxnRequest(success=[_nested(_put(b"q")), _nested(_delete(b"q"))]),
    "nested delete, then nested put": rpc_pb2.TxnRequest(success=[_nested(_delete(b"q")), _nested(_put(b"q"))]),
    "two deletes of one key": rpc_pb2.TxnRequest(success=[_delete(b"a"), _delete(b"a")]),
    "empty key in a compare": rpc_pb2.TxnRequest(compare=[rpc_pb2.Compare()]),
    "an empty transaction": rpc_pb2.TxnRequest(),
    "value and ignore_value": rpc_pb2.PutRequest(key=b"a", value=b"1", ignore_value=True),
    "lease and ignore_lease": rpc_pb2.PutRequest(key=b"a", lease=1, ignore_lease=True),
    "a lease that is not there": rpc_pb2.PutRequest(key=b"a", lease=1),
    "ignore_value of no key": rpc_pb2.PutRequest(key=b"none", ignore_value=True),
    "a lease and ignore_value of no key": rpc_pb2.PutRequest(key=b"none", ignore_value=True, lease=1),
    "compact at 0": rpc_pb2.CompactionRequest(revision=0),
    "compact at -1": rpc_pb2.CompactionRequest(revision=-1),
    "compact in the future": rpc_pb2.CompactionRequest(revision=1_000_000),
    "compact now": rpc_pb2.CompactionRequest(revision=1),
    "compact again": rpc_pb2.CompactionRequest(revision=1),
    "a compacted revision": rpc_pb2.RangeRequest(key=b"a", revision=-1),
}


def test_corners_get_the_answers_of_etcd(etcd: Etcd) -> None:
    driver = Driver()
    for put in (rpc_pb2.PutRequest(key=b"a", value=b"1"), rpc_pb2.PutRequest(key=b"b", value=b"2")):
        assert ours(driver, put) == etcd.call(put)
    everything = rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0")
    for name, request in CORNERS.items():
        assert (name, ours(driver, request)) == (name, etcd.call(request))
        assert (name, ours(driver, everything)) == (name, etcd.call(everything))


def test_events_are_those_of_an_etcd_watch(etcd: Etcd) -> None:
    driver, requests = Driver(), Requests(99)
    for _ in range(400):
        request = requests.next()
        if not isinstance(request, rpc_pb2.CompactionRequest):
            assert ours(driver, request) == etcd.call(request)
            requests.revision = driver.machine.revision
    last = driver.machine.revision
    page = driver.machine.kv_events_since(1)
    found = [event for changes in page.changes for event in changes.events]
    assert found == _watched(etcd, last)
    assert page.next_revision == last + 1


def _watched(etcd: Etcd, last: int) -> list[kv_pb2.Event]:
    watch = etcd._channel.stream_stream(
        "/etcdserverpb.Watch/Watch",
        request_serializer=rpc_pb2.WatchRequest.SerializeToString,
        response_deserializer=rpc_pb2.WatchResponse.FromString,
    )
    create = rpc_pb2.WatchCreateRequest(key=b"\0", range_end=b"\0", start_revision=1, prev_kv=True)
    responses = watch(iter([rpc_pb2.WatchRequest(create_request=create)]), timeout=60)
    events: list[kv_pb2.Event] = []
    for response in responses:
        events += response.events
        if events and events[-1].kv.mod_revision >= last:
            responses.cancel()
            break
    return events
