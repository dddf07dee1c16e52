"""The load of `rocinante bench lookup`: packed look-ups by rocinante.v1.Flow/Get, in a closed loop.

Each process draws its keys at random from the table, and a share of them from beyond it, beforehand. Each answer is
checked: as many flows are found as must be.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import grpc
import numpy as np
import uvloop

from rocinante import limits
from rocinante.bench import bounds
from rocinante.bench.crew import Control
from rocinante.bench.flows import FlowPlan, channel_to, connected
from rocinante.bench.plan import within
from rocinante.bench.records import Kind
from rocinante.pb.v1 import flow_pb2
from rocinante.tokens import own_metadata

__all__ = ["LookupLoad", "LookupPlan", "LookupSample"]

GET: Final = "/rocinante.v1.Flow/Get"
_ASKED: Final = 64
"""Different look-ups of a process, made beforehand."""


@dataclass(frozen=True, slots=True)
class LookupPlan:
    """Raises InvalidArgument, with the name of the option."""

    endpoints: tuple[str, ...]
    kind: Kind = Kind.IPV4
    table: int = 1_000_000
    batch: int = 1_000
    """Keys of a look-up."""
    clients: int = 4
    """Look-ups on their way, of each process."""
    processes: int = 1
    misses: int = 0
    """Of 100 keys, those that are not there."""
    stale: bool = True
    zone: int = bounds.BENCH_ZONE
    timeout: float = limits.REQUEST_TIMEOUT_S

    def __post_init__(self) -> None:
        within("table", self.table, 1, bounds.BENCH_TABLE_MAX)
        within("batch", self.batch, 1, limits.FLOW_LOOKUP_KEYS_MAX)
        within("clients", self.clients, 1, bounds.BENCH_IN_FLIGHT_MAX)
        within("processes", self.processes, 1, bounds.BENCH_PROCESSES_MAX)
        within("misses", self.misses, 0, 100)
        within("timeout", self.timeout, 0.001, limits.REQUEST_TIMEOUT_S_MAX)


@dataclass(slots=True)
class LookupSample:
    began_s: array[float]
    ended_s: array[float]
    errors: Counter[str]
    cpu_s: float = 0.0


@dataclass(frozen=True, slots=True)
class LookupLoad:
    """One process."""

    plan: LookupPlan
    number: int

    @property
    def name(self) -> str:
        return f"load process {self.number + 1}"

    def work(self, control: Control) -> LookupSample:
        return uvloop.run(self._work(control))

    async def _work(self, control: Control) -> LookupSample:
        plan = self.plan
        endpoint = plan.endpoints[self.number % len(plan.endpoints)]
        channel = channel_to(endpoint)
        await connected([channel], (endpoint,), plan.timeout)
        asked = self._requests()
        sample = LookupSample(array("d"), array("d"), Counter())
        method = channel.unary_unary(GET, response_deserializer=flow_pb2.GetFlowsResponse.FromString)
        get = partial(method, metadata=own_metadata())
        control.ready()
        busy_s = time.process_time()
        await asyncio.gather(*(self._client(get, asked, n, sample, control) for n in range(plan.clients)))
        sample.cpu_s = time.process_time() - busy_s
        await channel.close()
        return sample

    def _requests(self) -> list[tuple[bytes, int]]:
        """(encoded request, how many of its keys are there)."""
        plan = self.plan
        rng = np.random.default_rng(self.number)
        pattern = FlowPlan(plan.endpoints, plan.kind, 1, zone=plan.zone).pattern()
        consistency = flow_pb2.STALE if plan.stale else flow_pb2.LINEARIZABLE
        made = []
        for _ in range(_ASKED):
            numbers = rng.integers(0, plan.table, plan.batch)
            missing = rng.random(plan.batch) < plan.misses / 100
            numbers[missing] += bounds.BENCH_FLOWS_MAX // 2
            request = flow_pb2.GetFlowsRequest(packed_keys=pattern.keys(numbers), consistency=consistency)
            made.append((request.SerializeToString(), int((~missing).sum())))
        return made

    async def _client(
        self, get: Any, asked: list[tuple[bytes, int]], number: int, sample: LookupSample, control: Control
    ) -> None:
        turn = number * len(asked) // self.plan.clients
        while not control.stopping.is_set():
            request, expected = asked[turn % len(asked)]
            turn += 1
            began_s = time.monotonic()
            try:
                answer: flow_pb2.GetFlowsResponse = await get(request, timeout=self.plan.timeout)
                found = answer.packed.found
                error = "" if len(found) - found.count(0) == expected else "WRONG_ANSWER"
            except grpc.aio.AioRpcError as failure:
                error = failure.code().name
            if error:
                sample.errors[error] += 1
                await asyncio.sleep(bounds.BENCH_ERROR_PAUSE_S)
                continue
            sample.began_s.append(began_s)
            sample.ended_s.append(time.monotonic())
            control.note(len(sample.ended_s) * self.plan.batch)
