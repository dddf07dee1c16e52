"""Futures of the node's threads, awaited on the gRPC event loop.

The node completes many futures at once (one log entry carries the commands of many clients), and each wake-up of an
event loop from another thread is a system call. So what completes is put on a deque, and the loop is woken once for
all of it: `call_soon_threadsafe` is only called when no wake-up is under way. The flag is cleared *before* the deque
is emptied, so that nothing can be left behind.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


class FutureBridge:
    """Belongs to one event loop. `wait` is called on that loop, the futures may be completed by any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._done: deque[tuple[asyncio.Future[Any], Future[Any]]] = deque()
        self._scheduled = False

    def wait(self, future: Future[T]) -> asyncio.Future[T]:
        """The same outcome as a future of the loop. To give up waiting does not take back what was asked of the
        node."""
        waiter: asyncio.Future[T] = self._loop.create_future()
        self.attach(waiter, future)
        return waiter

    def attach(self, waiter: asyncio.Future[T], future: Future[T]) -> None:
        """Give `waiter` the outcome of `future`."""
        if future.done():
            _settle(waiter, future)
        else:
            future.add_done_callback(partial(self._completed, waiter))

    def _completed(self, waiter: asyncio.Future[Any], future: Future[Any]) -> None:
        self._done.append((waiter, future))
        if not self._scheduled:
            self._scheduled = True
            try:
                self._loop.call_soon_threadsafe(self._drain)
            except RuntimeError:
                # The loop is closed: the server has stopped, and nobody waits any more.
                self._done.clear()

    def _drain(self) -> None:
        self._scheduled = False
        done = self._done
        while done:
            _settle(*done.popleft())


def _settle(waiter: asyncio.Future[Any], future: Future[Any]) -> None:
    if waiter.done():  # the client went away
        return
    if future.cancelled():
        waiter.cancel()
        return
    error = future.exception()
    if error is not None:
        waiter.set_exception(error)
    else:
        waiter.set_result(future.result())
