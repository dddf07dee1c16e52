"""The same flow records for three systems, and how each takes them: what `tests.benchmarks.compare` loads.

A record is a key of 16 bytes and a value of 74 (docs/flow-format.md, IPv4), out of the mix of bench/traffic.py;
all three store the same bytes of it. Rocinante gets batches (Flow/Put), packed as its client's writer packs them, or
plain; Redis pipelines of SET with `WAIT 1` at the end (so that the primary and a replica have it, both synced), etcd
transactions of at most 128 puts. Requests are made before a turn, in the same way for all three, so that no system is
measured with the making of its load. Every answer is checked.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np

from rocinante.bench.bounds import BENCH_ZONE
from rocinante.bench.flows import PUT as FLOW_PUT
from rocinante.bench.flows import channel_to
from rocinante.bench.records import HEADER_BYTES, Encoding, Kind, Pattern
from rocinante.client import Client, FlowSelection
from rocinante.pb.etcd import rpc_pb2
from rocinante.pb.v1 import flow_pb2
from tests.benchmarks.etcd import Etcd
from tests.benchmarks.redis import Redis
from tests.support.cluster import Cluster
from tests.support.ports import HOST
from tests.support.rpc import Rpc

KEY_BYTES: Final = 16
VALUE_BYTES: Final = 74
TXN_PUTS_MAX: Final = 128
"""etcd's own bound (--max-txn-ops)."""
TIMEOUT_S: Final = 60.0
LIFE_MS: Final = 24 * 3_600_000
STAMP: Final = 1
TXN: Final = "/etcdserverpb.KV/Txn"
RANGE: Final = "/etcdserverpb.KV/Range"
_WAIT: Final = b"*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$5\r\n60000\r\n"
_OK: Final = b"+OK\r\n"
_REDIS_BUFFER_BYTES: Final = 1 << 22


@dataclass(frozen=True, slots=True)
class Setting:
    """How a system is loaded."""

    batch: int
    """Records that are acknowledged together."""
    in_flight: int
    """Batches of a connection on their way."""
    connections: int = 1

    def __str__(self) -> str:
        return f"{self.batch:,} × {self.in_flight}" + (f" × {self.connections}" if self.connections > 1 else "")


class Sender(Protocol):
    """One connection."""

    def make(self, first: int) -> Sequence[bytes]:
        """The requests of the batch of flows from that number on. Any sender of the system may send them."""

    async def send(self, made: Sequence[bytes]) -> None:
        """Until they are acknowledged. Raises AssertionError for another answer."""

    async def close(self) -> None: ...


class Target(Protocol):
    """One system, running."""

    @property
    def name(self) -> str: ...
    def pids(self) -> list[int]: ...
    async def connect(self, setting: Setting) -> Sender: ...
    def records(self) -> list[int]:
        """How many each node has."""

    def clear(self) -> None: ...


def pattern(records: int, encoding: Encoding = Encoding.PLAIN) -> Pattern:
    now_ms = time.time_ns() // 1_000_000
    return Pattern(
        Kind.IPV4, records, zone=BENCH_ZONE, deadline_ms=now_ms + LIFE_MS, updated_ms=now_ms, encoding=encoding
    )


def pairs(made: Pattern, first: int) -> tuple[np.ndarray, np.ndarray]:
    """(keys, values) of a batch, a row each."""
    rows = np.frombuffer(made.batch(first, STAMP), np.uint8, offset=HEADER_BYTES).reshape(made.records, -1)
    return rows[:, :KEY_BYTES], rows[:, KEY_BYTES:]


class Rocinante:
    name: Final = "rocinante"

    def __init__(self, cluster: Cluster, encoding: Encoding) -> None:
        self._cluster, self._encoding = cluster, encoding

    def pids(self) -> list[int]:
        return [self._cluster.pid(number) for number in self._cluster.running()]

    async def connect(self, setting: Setting) -> Sender:
        return _FlowSender(self._cluster.endpoint(self._cluster.wait_leader()), setting, self._encoding)

    def records(self) -> list[int]:
        self._cluster.wait_applied(timeout_s=TIMEOUT_S)
        return [int(str(self._cluster.status(number)["flows"])) for number in self._cluster.nodes]

    def clear(self) -> None:
        with Client(self._cluster.endpoints(), timeout_s=TIMEOUT_S) as client:
            client.flows.delete_where(FlowSelection(zone=BENCH_ZONE))
        self._cluster.wait_applied(timeout_s=TIMEOUT_S)


class _FlowSender:
    def __init__(self, endpoint: str, setting: Setting, encoding: Encoding) -> None:
        self._pattern, self._batch = pattern(setting.batch, encoding), setting.batch
        self._channel = channel_to(endpoint)
        self._put: Any = self._channel.unary_unary(FLOW_PUT, response_deserializer=flow_pb2.PutFlowsResponse.FromString)

    def make(self, first: int) -> Sequence[bytes]:
        return [self._pattern.request(first, STAMP)]

    async def send(self, made: Sequence[bytes]) -> None:
        answer: flow_pb2.PutFlowsResponse = await self._put(made[0], timeout=TIMEOUT_S)
        assert answer.records == self._batch, answer

    async def close(self) -> None:
        await self._channel.close()


class EtcdTarget:
    name: Final = "etcd"

    def __init__(self, etcd: Etcd) -> None:
        self._etcd, self._rpc = etcd, Rpc()

    def pids(self) -> list[int]:
        return self._etcd.pids()

    async def connect(self, setting: Setting) -> Sender:
        leader = self._etcd.leader()
        assert leader is not None, "etcd has no leader"
        return _TxnSender(leader, setting)

    def records(self) -> list[int]:
        request = rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0", count_only=True)
        return [
            self._rpc.call(endpoint, RANGE, request, rpc_pb2.RangeResponse, TIMEOUT_S).count
            for endpoint in self._etcd.endpoints()
        ]

    def clear(self) -> None:
        request = rpc_pb2.DeleteRangeRequest(key=b"\0", range_end=b"\0")
        leader = self._etcd.leader()
        assert leader is not None, "etcd has no leader"
        answer = self._rpc.call(leader, "/etcdserverpb.KV/DeleteRange", request, rpc_pb2.DeleteRangeResponse, TIMEOUT_S)
        compaction = rpc_pb2.CompactionRequest(revision=answer.header.revision)
        self._rpc.call(leader, "/etcdserverpb.KV/Compact", compaction, rpc_pb2.CompactionResponse, TIMEOUT_S)


class _TxnSender:
    """A batch is cut into transactions of at most 128 puts, which are on their way together."""

    def __init__(self, endpoint: str, setting: Setting) -> None:
        self._pattern = pattern(setting.batch)
        parts = -(-setting.batch // TXN_PUTS_MAX)
        self._puts = -(-setting.batch // parts)
        put = rpc_pb2.PutRequest(key=b"K" * KEY_BYTES, value=b"V" * VALUE_BYTES)
        operation = rpc_pb2.TxnRequest(success=[rpc_pb2.RequestOp(request_put=put)]).SerializeToString()
        self._key_at, self._value_at = operation.index(b"K" * KEY_BYTES), operation.index(b"V" * VALUE_BYTES)
        self._rows = np.frombuffer(bytearray(operation * setting.batch), np.uint8).reshape(setting.batch, -1)
        self._channel = channel_to(endpoint)
        self._txn: Any = self._channel.unary_unary(TXN, response_deserializer=rpc_pb2.TxnResponse.FromString)

    def make(self, first: int) -> Sequence[bytes]:
        keys, values = pairs(self._pattern, first)
        self._rows[:, self._key_at : self._key_at + KEY_BYTES] = keys
        self._rows[:, self._value_at : self._value_at + VALUE_BYTES] = values
        return [self._rows[at : at + self._puts].tobytes() for at in range(0, len(self._rows), self._puts)]

    async def send(self, made: Sequence[bytes]) -> None:
        answers = await asyncio.gather(*(self._txn(part, timeout=TIMEOUT_S) for part in made))
        assert sum(len(answer.responses) for answer in answers) == len(self._rows), "not every put was answered"

    async def close(self) -> None:
        await self._channel.close()


class RedisTarget:
    name: Final = "redis"

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def pids(self) -> list[int]:
        return self._redis.pids()

    async def connect(self, setting: Setting) -> Sender:
        reader, writer = await asyncio.open_connection(HOST, self._redis.primary(), limit=_REDIS_BUFFER_BYTES)
        return _PipelineSender(reader, writer, setting)

    def records(self) -> list[int]:
        deadline_s = time.monotonic() + TIMEOUT_S
        while len(set(sizes := self._redis.sizes())) > 1 and time.monotonic() < deadline_s:
            time.sleep(0.05)  # WAIT 1 waits for one of the two replicas
        return sizes

    def clear(self) -> None:
        self._redis.flush()


class _PipelineSender:
    """SETs and a WAIT, one write for all of them; answers come in order."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, setting: Setting) -> None:
        self._reader, self._writer, self._batch = reader, writer, setting.batch
        self._pattern = pattern(setting.batch)
        head, middle = b"*3\r\n$3\r\nSET\r\n$16\r\n", b"\r\n$74\r\n"
        command = head + b"K" * KEY_BYTES + middle + b"V" * VALUE_BYTES + b"\r\n"
        self._key_at, self._value_at = len(head), len(head) + KEY_BYTES + len(middle)
        self._rows = np.frombuffer(bytearray(command * setting.batch), np.uint8).reshape(setting.batch, -1)
        self._expected = _OK * setting.batch
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._reading = asyncio.create_task(self._read())

    def make(self, first: int) -> Sequence[bytes]:
        keys, values = pairs(self._pattern, first)
        self._rows[:, self._key_at : self._key_at + KEY_BYTES] = keys
        self._rows[:, self._value_at : self._value_at + VALUE_BYTES] = values
        return [self._rows.tobytes() + _WAIT]

    async def send(self, made: Sequence[bytes]) -> None:
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(answered)
        self._writer.write(made[0])
        await answered

    async def _read(self) -> None:
        try:
            while True:
                answers = await self._reader.readexactly(len(self._expected))
                assert answers == self._expected, answers[:100]
                replicas = await self._reader.readline()
                assert int(replicas.strip().removeprefix(b":")) >= 1, replicas
                self._waiting.popleft().set_result(None)
        except (AssertionError, ValueError, asyncio.IncompleteReadError) as error:
            for answered in self._waiting:
                answered.set_exception(error)

    async def close(self) -> None:
        self._reading.cancel()
        self._writer.close()
        await self._writer.wait_closed()
