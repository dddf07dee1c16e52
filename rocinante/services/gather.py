"""Requests that arrive close together are handed to the node together.

Each hand-over wakes a thread of the node, which then competes with the event loop for the interpreter. gRPC brings
requests one by one, a few turns of the loop apart, so with a hundred calls in flight nearly each of them woke the
node by itself, and that cost more than the calls. Measured on two clusters of three nodes in turns, with 100 in flight:
648 puts and 1,056 linearizable gets a second when what came in one turn was handed over, 895 and 2,218 when it was
gathered over ten; the processor time of a put fell from 1.5 to 0.85 ms.

A call that is alone is handed over at once. While others are under way, what comes is gathered until
`GATHER_IDLE_TURNS` turns of the loop (some tens of microseconds) have brought nothing more, or `GATHER_REQUESTS_MAX`
are there: nobody waits for a clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from rocinante import limits
from rocinante.errors import RocinanteError
from rocinante.services.bridge import FutureBridge

T = TypeVar("T")


class Gatherer:
    """Belongs to one event loop, and is used on it only. What waits is bounded by the number of calls that may
    be under way."""

    def __init__(self, loop: asyncio.AbstractEventLoop, bridge: FutureBridge) -> None:
        self._loop = loop
        self._bridge = bridge
        self._waiting: list[tuple[asyncio.Future[Any], Callable[[], Future[Any]]]] = []
        self._under_way = 0
        self._seen = 0
        self._idle_turns = 0

    async def ask(self, question: Callable[[], Future[T]]) -> T:
        """Have `question` called, soon; the outcome of the future that it returns, or the RocinanteError that
        it raises."""
        if not self._under_way:
            self._under_way = 1
            try:
                return await self._bridge.wait(question())
            finally:
                self._under_way -= 1
        waiter: asyncio.Future[T] = self._loop.create_future()
        if not self._waiting:
            self._seen = self._idle_turns = 0
            self._loop.call_soon(self._turn)
        self._waiting.append((waiter, question))
        self._under_way += 1
        try:
            return await waiter
        finally:
            self._under_way -= 1

    def _turn(self) -> None:
        count = len(self._waiting)
        if count > self._seen:
            self._seen, self._idle_turns = count, 0
        else:
            self._idle_turns += 1
        if self._idle_turns < limits.GATHER_IDLE_TURNS and count < limits.GATHER_REQUESTS_MAX:
            self._loop.call_soon(self._turn)
        else:
            self._flush()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter, question in waiting:
            if waiter.done():  # the client went away
                continue
            try:
                future = question()
            except RocinanteError as error:
                waiter.set_exception(error)
            else:
                self._bridge.attach(waiter, future)
