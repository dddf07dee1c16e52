"""The load of `rocinante bench kv`: clients in a closed loop over gRPC, and their latencies.

Each load process runs its share of the clients on one event loop (grpc.aio), which costs about a quarter of the
processor time of threads. A call is not retried: what fails is counted by its status, and its client pauses shortly.
Latency is from the call to the parsed answer.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

import grpc
import uvloop

from rocinante import limits
from rocinante.bench import bounds
from rocinante.bench.crew import Control
from rocinante.bench.plan import Operation, Plan, Sample
from rocinante.errors import Unavailable
from rocinante.pb.etcd import rpc_pb2
from rocinante.tokens import own_metadata

PUT: Final = "/etcdserverpb.KV/Put"
RANGE: Final = "/etcdserverpb.KV/Range"
VALUES: Final = 16
"""Different random values, made beforehand: making one for each call would be measured too."""

NOTE_CALLS: Final = 50
"""Calls between two looks at whether it is time for a report of progress."""

Call = Callable[[], Awaitable[bool]]
"""One request; whether the answer is what it should be."""


def _channel(endpoint: str) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(
        endpoint,
        options=[
            ("grpc.max_receive_message_length", limits.GRPC_MESSAGE_BYTES_MAX),
            ("grpc.enable_retries", 0),
            ("grpc.use_local_subchannel_pool", 1),
        ],
    )


class Meter:
    """What the clients of one process share: when to stop, and what was measured."""

    def __init__(self, count: int | None, note: Callable[[int], None]) -> None:
        self.latencies = array("d")
        self.errors: Counter[str] = Counter()
        self.started = time.perf_counter()
        self.ended = self.started
        self._done = 0
        self._left = min(bounds.BENCH_CALLS_MAX, count if count is not None else bounds.BENCH_CALLS_MAX)
        self._note = note

    def take(self, deadline: float) -> bool:
        """Whether one more call may begin."""
        if self._left <= 0 or time.perf_counter() >= deadline:
            return False
        self._left -= 1
        return True

    def add(self, began: float, error: str) -> None:
        self.ended = time.perf_counter()
        if error:
            self.errors[error] += 1
        else:
            self.latencies.append(self.ended - began)
        self._done += 1
        if self._done % NOTE_CALLS == 0:
            self._note(self._done)

    def sample(self) -> Sample:
        return Sample(self.latencies, self.errors, self.ended - self.started)


class KvLoad:
    """One load process's share of a plan: `clients` of them, on the channels that it opens."""

    def __init__(self, plan: Plan, clients: int, count: int | None, seed: int) -> None:
        self.name = f"load process {seed + 1}"
        self._plan = plan
        self._clients = clients
        self._count = count
        self._random = random.Random(seed)
        self._values = [os.urandom(plan.value_bytes) for _ in range(VALUES)]
        self._channels: list[grpc.aio.Channel] = []

    def work(self, control: Control) -> Sample:
        """(In a process of its own.) Connect, warm up, measure; notes are the calls that ended so far."""
        return uvloop.run(self._work(control))

    async def _work(self, control: Control) -> Sample:
        self._channels = [_channel(endpoint) for endpoint in self._plan.endpoints]
        try:
            ready = asyncio.gather(*(channel.channel_ready() for channel in self._channels))
            await asyncio.wait_for(ready, self._plan.timeout)
        except (TimeoutError, grpc.aio.AioRpcError):
            raise Unavailable(f"cannot connect to {', '.join(self._plan.endpoints)}") from None
        control.ready()
        await self._loop(Meter(None, lambda _: None), self._plan.warm_up)
        meter = Meter(self._count, control.note)
        await self._loop(meter, self._plan.seconds if self._plan.seconds is not None else bounds.BENCH_SECONDS_MAX)
        await asyncio.gather(*(channel.close() for channel in self._channels))
        return meter.sample()

    async def _loop(self, meter: Meter, seconds: float) -> None:
        deadline = time.perf_counter() + seconds
        calls = [self._call(self._channels[number % len(self._channels)]) for number in range(self._clients)]
        await asyncio.gather(*(self._client(meter, call, deadline) for call in calls))

    async def _client(self, meter: Meter, call: Call, deadline: float) -> None:
        while meter.take(deadline):
            began = time.perf_counter()
            try:
                error = "" if await call() else "WRONG_ANSWER"
            except grpc.aio.AioRpcError as failure:
                error = failure.code().name
            meter.add(began, error)
            if error:
                await asyncio.sleep(bounds.BENCH_ERROR_PAUSE_S)

    def _call(self, channel: grpc.aio.Channel) -> Call:
        put, get = self._put(channel), self._get(channel)
        if self._plan.operation is Operation.MIXED:
            share = self._plan.get_percent / 100
            return lambda: get() if self._random.random() < share else put()
        return put if self._plan.operation is Operation.PUT else get

    def _put(self, channel: grpc.aio.Channel) -> Call:
        stub = channel.unary_unary(
            PUT,
            request_serializer=rpc_pb2.PutRequest.SerializeToString,
            response_deserializer=rpc_pb2.PutResponse.FromString,
        )
        plan, draw, values, timeout = self._plan, self._random.randrange, self._values, self._plan.timeout
        own = own_metadata()

        async def call() -> bool:
            request = rpc_pb2.PutRequest(key=plan.key(draw(plan.keys)), value=values[draw(VALUES)])
            answer: rpc_pb2.PutResponse = await stub(request, timeout=timeout, metadata=own)
            return answer.header.revision > 0

        return call

    def _get(self, channel: grpc.aio.Channel) -> Call:
        stub = channel.unary_unary(
            RANGE,
            request_serializer=rpc_pb2.RangeRequest.SerializeToString,
            response_deserializer=rpc_pb2.RangeResponse.FromString,
        )
        plan, draw, timeout = self._plan, self._random.randrange, self._plan.timeout
        own = own_metadata()

        async def call() -> bool:
            request = rpc_pb2.RangeRequest(key=plan.key(draw(plan.keys)), serializable=plan.serializable)
            answer: rpc_pb2.RangeResponse = await stub(request, timeout=timeout, metadata=own)
            return len(answer.kvs) == 1

        return call
