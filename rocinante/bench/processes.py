"""Runs a stage of a benchmark in load processes of its own, so that neither they nor the progress bar wait for each
other.

A process connects, says so, waits until all have, runs its clients and sends what it measured. Processes are started
afresh (`spawn`): gRPC must not be forked.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Final

import grpc
import uvloop

from rocinante import limits
from rocinante.bench.kv import KvLoad
from rocinante.bench.plan import Plan, Result, Sample
from rocinante.errors import Unavailable

PROGRESS_S: Final = 0.1
NOTE_CALLS: Final = 50
"""Calls between two reports of a process about its progress."""

Progress = Callable[[int, float], None]
"""(calls that ended so far, seconds since the start of the load: of the warm-up at first)."""


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    pipe: Connection
    done: int = 0
    sample: Sample | None = None


def run(plan: Plan, progress: Progress) -> Result:
    """One stage. Raises Unavailable when the cluster cannot be reached or a load process dies."""
    context = multiprocessing.get_context("spawn")
    workers: list[_Worker] = []
    try:
        for number in range(plan.processes):
            ours, theirs = context.Pipe()
            arguments = (theirs, plan, _share(plan.clients, number, plan.processes), _count(plan, number), number)
            process = context.Process(target=_work, args=arguments, name=f"bench-{number + 1}", daemon=True)
            process.start()
            theirs.close()
            workers.append(_Worker(process, ours))
        _wait_connected(workers)
        began = time.perf_counter()
        for worker in workers:
            worker.pipe.send("go")
        while any(worker.sample is None for worker in workers):
            _receive(workers)
            progress(sum(worker.done for worker in workers), time.perf_counter() - began)
        return Result.of(plan, [worker.sample for worker in workers if worker.sample is not None])
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join()
            worker.pipe.close()


def _share(total: int, number: int, parts: int) -> int:
    return total // parts + (number < total % parts)


def _count(plan: Plan, number: int) -> int | None:
    return None if plan.count is None else _share(plan.count, number, plan.processes)


def _wait_connected(workers: list[_Worker]) -> None:
    deadline = time.perf_counter() + limits.BENCH_START_TIMEOUT_S
    for worker in workers:
        if not worker.pipe.poll(max(0.0, deadline - time.perf_counter())):
            raise Unavailable("a load process did not connect in time")
        answer = _message(worker)
        if answer != "connected":
            raise Unavailable(str(answer))


def _receive(workers: list[_Worker]) -> None:
    waiting = {worker.pipe: worker for worker in workers if worker.sample is None}
    for pipe in wait(list(waiting), PROGRESS_S):
        assert isinstance(pipe, Connection)
        worker = waiting[pipe]
        answer = _message(worker)
        if isinstance(answer, Sample):
            worker.sample = answer
        elif isinstance(answer, int):
            worker.done = answer
        else:
            raise Unavailable(str(answer))


def _message(worker: _Worker) -> object:
    try:
        return worker.pipe.recv()
    except EOFError:
        worker.process.join()
        return f"a load process ended with {worker.process.exitcode}"


def _work(pipe: Connection, plan: Plan, clients: int, count: int | None, seed: int) -> None:
    """The life of a load process. Ctrl-C is the parent's affair: it ends us."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    uvloop.run(_measure(pipe, KvLoad(plan, clients, count, seed), ", ".join(plan.endpoints)))


async def _measure(pipe: Connection, load: KvLoad, where: str) -> None:
    try:
        await load.connect()
    except (TimeoutError, grpc.aio.AioRpcError):
        pipe.send(f"cannot connect to {where}")
        return
    pipe.send("connected")
    try:
        pipe.recv()
    except EOFError:
        return  # the parent is gone
    done = 0

    def note(calls: int) -> None:
        nonlocal done
        done += calls
        if done % NOTE_CALLS == 0:
            pipe.send(done)

    sample = await load.run(note)
    await load.close()
    pipe.send(sample)
