"""The load of `rocinante bench flows`: writers that put encoded batches by rocinante.v1.Flow/Put.

Contract. A writer has a connection of its own. In a closed loop it keeps `in_flight` batches on their way; with a rate
it is an open loop: each batch has a moment when it is due, is sent then however many are on their way (up to a bound),
and its latency counts from that moment, so a stall is seen in all that it delays: no coordinated omission. A batch that
fails is counted by its status and not sent again, but for filling a table. One whose time was up, or that was due and
could not be sent before the end, counts in the latency with the time that it had waited by then. The stamp of a record
is when its batch was due (`records.moment`). Requests are made before the load begins (supply.py).
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import grpc
import uvloop

from rocinante import limits
from rocinante.bench import bounds
from rocinante.bench.crew import Control
from rocinante.bench.plan import within
from rocinante.bench.records import Encoding, Kind, Made, Pattern, moment
from rocinante.bench.supply import Supply
from rocinante.errors import InvalidArgument, Unavailable
from rocinante.pb.v1 import flow_pb2
from rocinante.tokens import own_metadata

__all__ = ["FlowLoad", "FlowPlan", "FlowSample"]

PUT: Final = "/rocinante.v1.Flow/Put"
TURNS: Final = 4
"""How often the flows of a table are updated before the same records come again (but for their stamps)."""
_OPTIONS: Final = (
    ("grpc.max_send_message_length", limits.GRPC_MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", limits.GRPC_MESSAGE_BYTES_MAX),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
)


def channel_to(endpoint: str) -> grpc.aio.Channel:
    """A connection of its own."""
    return grpc.aio.insecure_channel(endpoint, options=_OPTIONS)


async def connected(channels: list[grpc.aio.Channel], endpoints: tuple[str, ...], timeout_s: float) -> None:
    """Raises Unavailable."""
    try:
        await asyncio.wait_for(asyncio.gather(*(channel.channel_ready() for channel in channels)), timeout_s)
    except (TimeoutError, grpc.aio.AioRpcError):
        raise Unavailable(f"cannot connect to {', '.join(endpoints)}") from None


@dataclass(frozen=True, slots=True)
class FlowPlan:
    """One stage. Raises InvalidArgument, with the name of the option."""

    endpoints: tuple[str, ...] = ()
    """IP:PORT of whom to send to; writers are spread over them. Known when the cluster is."""
    kind: Kind = Kind.IPV4
    batch: int = 4_096
    """Records of a batch."""
    writers: int = 1
    in_flight: int = 8
    """Batches of one writer on their way, in a closed loop."""
    rate: float | None = None
    """Records a second of all writers together: an open loop."""
    updates: bool = False
    """Write the flows 0 to `table` again and again, instead of new ones."""
    table: int = 0
    """Flows that are there before."""
    first: int = 0
    """New flows are numbered from here on."""
    records: int | None = None
    """End after so many (a whole number of batches), each of which must succeed: filling a table."""
    processes: int = 1
    encoding: Encoding = Encoding.PACKED
    """As the client's writer sends batches, or plain."""
    prepare: int = 0
    """Records to make before the load begins."""
    zone: int = bounds.BENCH_ZONE
    timeout: float = limits.REQUEST_TIMEOUT_S
    deadline_ms: int = 0
    updated_ms: int = 0

    def __post_init__(self) -> None:
        within("batch", self.batch, 1, limits.FLOW_BATCH_RECORDS_MAX)
        within("writers", self.writers, 1, bounds.BENCH_CLIENTS_MAX)
        within("in-flight", self.in_flight, 1, bounds.BENCH_IN_FLIGHT_MAX)
        if self.rate is not None:
            within("rate", self.rate, 1, 1e9)
        within("table", self.table, 0, bounds.BENCH_TABLE_MAX)
        within("zone", self.zone, 0, 65_535)
        within("processes", self.processes, 1, min(self.writers, bounds.BENCH_PROCESSES_MAX))
        within("timeout", self.timeout, 0.001, limits.REQUEST_TIMEOUT_S_MAX)
        if self.updates and self.table < self.batch:
            raise InvalidArgument("table", f"{self.table} flows to update are fewer than a batch of {self.batch}")
        self.pattern()

    def pattern(self) -> Pattern:
        return Pattern(
            self.kind, self.batch, zone=self.zone, deadline_ms=self.deadline_ms, updated_ms=self.updated_ms,
            encoding=self.encoding,
        )  # fmt: skip

    @property
    def period(self) -> int | None:
        """After so many batches the same ones come again: those of TURNS turns through the table."""
        return TURNS * self.batches_of_table if self.updates else None

    @property
    def batches_of_table(self) -> int:
        return -(-self.table // self.batch)

    def supply(self, *, request: bool = True) -> Supply:
        """The batches, by their numbers. Where flows are updated, the last batch of a turn has the first flows, too."""
        pattern = self.pattern()

        def make(number: int) -> Made:
            if not self.updates:
                return pattern.made(self.first + number * self.batch, request=request)
            turn, place = divmod(number % (TURNS * self.batches_of_table), self.batches_of_table)
            return pattern.made(turn * self.table + place * self.batch, self.table, request=request)

        return Supply(make, self.period)


@dataclass(slots=True)
class FlowSample:
    """What one process did: of each batch that succeeded when it was due, and when it was answered."""

    due_s: array[float]
    ended_s: array[float]
    given_up_s: array[float]
    """Of batches that were not answered in time, or were due and never sent: when they were due …"""
    waited_s: array[float]
    """… and how long they had waited when they were given up."""
    errors: Counter[str]
    chunks: int
    """Numbers of batches that were taken; `first` of the next stage lies behind them."""
    cpu_s: float
    """Of the load process, from its first batch to its last."""
    last_index: int = 0
    """The highest log index that was acknowledged."""
    late: int = 0
    """Batches of an open loop that were sent late, because too many were on their way."""
    sent_bytes: int = 0
    """Of the requests, gRPC's own not counted."""
    sent: int = 0
    """Batches."""
    made_late: int = 0
    """Batches that were not made beforehand."""

    @classmethod
    def empty(cls) -> FlowSample:
        return cls(array("d"), array("d"), array("d"), array("d"), Counter(), 0, 0.0)


@dataclass(slots=True)
class FlowLoad:
    """One process's share of a plan: the writers of these numbers."""

    plan: FlowPlan
    numbers: range
    sample: FlowSample = field(default_factory=FlowSample.empty)

    @property
    def name(self) -> str:
        return f"load process of writer {self.numbers.start + 1}"

    def work(self, control: Control) -> FlowSample:
        return uvloop.run(self._work(control))

    async def _work(self, control: Control) -> FlowSample:
        endpoints = self.plan.endpoints
        channels = [channel_to(endpoints[number % len(endpoints)]) for number in self.numbers]
        await connected(channels, endpoints, self.plan.timeout)
        supply = self._supply()
        writers = [
            _Writer(self.plan, number, channel, self.sample, control, supply)
            for number, channel in zip(self.numbers, channels, strict=True)
        ]
        control.ready()
        busy_s = time.process_time()
        try:
            await asyncio.gather(*(writer.run() for writer in writers))
        finally:
            self.sample.cpu_s = time.process_time() - busy_s
            self.sample.made_late = supply.made_late
            await asyncio.gather(*(channel.close() for channel in channels))
        return self.sample

    def _supply(self) -> Supply:
        """With what its writers will take, in their order."""
        plan, supply = self.plan, self.plan.supply()
        rounds = -(-plan.prepare // (plan.batch * plan.writers))
        supply.prepare(turn * plan.writers + number for turn in range(rounds) for number in self.numbers)
        return supply


class _Writer:
    def __init__(
        self,
        plan: FlowPlan,
        number: int,
        channel: grpc.aio.Channel,
        sample: FlowSample,
        control: Control,
        supply: Supply,
    ) -> None:
        self._plan, self._number, self._sample, self._control = plan, number, sample, control
        self._supply = supply
        put = channel.unary_unary(PUT, response_deserializer=flow_pb2.PutFlowsResponse.FromString)
        self._put: Any = partial(put, metadata=own_metadata())
        self._next = number
        self._chunks = bounds.BENCH_FLOWS_MAX if plan.records is None else -(-plan.records // plan.batch)

    async def run(self) -> None:
        if self._plan.rate is None:
            await asyncio.gather(*(self._closed_loop() for _ in range(self._plan.in_flight)))
        else:
            await self._open_loop(self._plan.batch * self._plan.writers / self._plan.rate)

    def _take(self) -> int | None:
        """The number of the next batch. All writers together number them without a gap, in turns."""
        if self._control.stopping.is_set() or self._next >= self._chunks:
            return None
        taken = self._next
        self._next += self._plan.writers
        self._sample.chunks = max(self._sample.chunks, taken + 1)
        return taken

    async def _closed_loop(self) -> None:
        while (chunk := self._take()) is not None:
            error = await self._send(chunk, time.monotonic())
            while error:
                await asyncio.sleep(bounds.BENCH_ERROR_PAUSE_S)
                if self._plan.records is None or self._control.stopping.is_set():
                    break
                error = await self._send(chunk, time.monotonic())

    async def _open_loop(self, interval_s: float) -> None:
        due_s = time.monotonic() + interval_s * self._number / self._plan.writers
        under_way: set[asyncio.Task[str]] = set()
        while (chunk := self._take()) is not None:
            if (pause_s := due_s - time.monotonic()) > 0:
                await asyncio.sleep(pause_s)
            if len(under_way) >= bounds.BENCH_OPEN_IN_FLIGHT_MAX:
                self._sample.late += 1
                await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            task = asyncio.create_task(self._send(chunk, due_s), name="bench-put")
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            due_s += interval_s
        while due_s < (now_s := time.monotonic()):
            self._give_up(due_s, now_s)
            due_s += interval_s
        await asyncio.gather(*under_way)

    def _give_up(self, due_s: float, now_s: float) -> None:
        self._sample.given_up_s.append(due_s)
        self._sample.waited_s.append(now_s - due_s)

    async def _send(self, chunk: int, due_s: float) -> str:
        """What went wrong; "" when nothing did."""
        plan, sample = self._plan, self._sample
        request = self._supply.take(chunk, moment(due_s))
        sample.sent += 1
        sample.sent_bytes += len(request)
        try:
            answer: flow_pb2.PutFlowsResponse = await self._put(request, timeout=plan.timeout)
        except grpc.aio.AioRpcError as error:
            sample.errors[error.code().name] += 1
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                self._give_up(due_s, time.monotonic())
            return str(error.code().name)
        if answer.records != plan.batch:
            sample.errors["WRONG_ANSWER"] += 1
            return "WRONG_ANSWER"
        sample.due_s.append(due_s)
        sample.ended_s.append(time.monotonic())
        sample.last_index = max(sample.last_index, answer.index)
        self._control.note(len(sample.ended_s) * plan.batch)
        return ""
