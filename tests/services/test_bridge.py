"""Futures of threads on the event loop: one wake-up for many, none lost; requests gathered."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future

import pytest

from rocinante import limits
from rocinante.errors import ResourceExhausted, Unavailable
from rocinante.services.bridge import FutureBridge
from rocinante.services.gather import Gatherer
from tests.services.wire import WAIT_S


class CountingLoop:
    """The running loop, and how often another thread woke it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.wake_ups = 0
        self.create_future = self._loop.create_future
        self.call_soon = self._loop.call_soon

    def call_soon_threadsafe(self, *arguments: object) -> None:
        self.wake_ups += 1
        self._loop.call_soon_threadsafe(*arguments)  # type: ignore[arg-type]


def test_what_completes_together_wakes_the_loop_once() -> None:
    async def scenario() -> None:
        loop = CountingLoop()
        bridge = FutureBridge(loop)  # type: ignore[arg-type]
        futures: list[Future[int]] = [Future() for _ in range(1000)]
        waiters = [bridge.wait(future) for future in futures]

        def complete() -> None:
            for number, future in enumerate(futures):
                future.set_result(number)

        thread = threading.Thread(target=complete)
        thread.start()
        thread.join()  # the loop stands still meanwhile
        assert await asyncio.gather(*waiters) == list(range(1000))
        assert loop.wake_ups == 1

    asyncio.run(scenario())


def test_nothing_is_lost_while_threads_and_loop_run_against_each_other() -> None:
    async def scenario() -> None:
        bridge = FutureBridge(asyncio.get_running_loop())
        futures: list[Future[int]] = [Future() for _ in range(4000)]
        waiters = [bridge.wait(future) for future in futures]

        def complete(part: int) -> None:
            for number in range(part, len(futures), 4):
                futures[number].set_result(number)

        threads = [threading.Thread(target=complete, args=(part,)) for part in range(4)]
        for thread in threads:
            thread.start()
        assert await asyncio.wait_for(asyncio.gather(*waiters), WAIT_S) == list(range(4000))
        for thread in threads:
            thread.join()

    asyncio.run(scenario())


def test_errors_and_those_who_went_away() -> None:
    async def scenario() -> None:
        bridge = FutureBridge(asyncio.get_running_loop())
        failing: Future[int] = Future()
        left: Future[int] = Future()
        done: Future[int] = Future()
        done.set_result(7)
        waiting, gone = bridge.wait(failing), bridge.wait(left)
        gone.cancel()
        left.set_result(1)
        failing.set_exception(Unavailable("no leader"))
        with pytest.raises(Unavailable, match="no leader"):
            await waiting
        assert await bridge.wait(done) == 7

    asyncio.run(scenario())


def test_requests_that_arrive_close_together_are_asked_together_and_a_lone_one_at_once() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        bridge = FutureBridge(loop)
        gatherer = Gatherer(loop, bridge)
        asked: list[int] = []
        futures: dict[int, Future[int]] = {}

        def question(number: int) -> Future[int]:
            asked.append(number)
            futures[number] = Future()
            return futures[number]

        async def ask(number: int) -> int:
            return await gatherer.ask(lambda: question(number))

        first = asyncio.create_task(ask(0))
        await asyncio.sleep(0)
        assert asked == [0]
        others = [asyncio.create_task(ask(number)) for number in range(1, 6)]
        await asyncio.sleep(0)
        assert asked == [0]
        others[2].cancel()
        for _ in range(limits.GATHER_IDLE_TURNS + 2):
            await asyncio.sleep(0)
        assert asked == [0, 1, 2, 4, 5]
        for number, future in futures.items():
            future.set_result(number * 10)
        assert await first == 0
        results = await asyncio.gather(*others, return_exceptions=True)
        assert [result for result in results if isinstance(result, int)] == [10, 20, 40, 50]
        again = asyncio.create_task(ask(6))
        await asyncio.sleep(0)
        assert asked[-1] == 6
        futures[6].set_result(60)
        assert await again == 60

    asyncio.run(scenario())


def test_a_question_that_is_refused_at_once_fails_alone() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        gatherer = Gatherer(loop, FutureBridge(loop))
        pending: Future[int] = Future()

        def refuse() -> Future[int]:
            raise ResourceExhausted("full")

        first = asyncio.create_task(gatherer.ask(lambda: pending))
        await asyncio.sleep(0)
        second = asyncio.create_task(gatherer.ask(refuse))
        with pytest.raises(ResourceExhausted):
            await second
        pending.set_result(1)
        assert await first == 1
        with pytest.raises(ResourceExhausted):
            await gatherer.ask(refuse)

    asyncio.run(scenario())
