"""Waking a coroutine from the node's threads, once for all that happened meanwhile."""

from __future__ import annotations

import asyncio


class Wake:
    """An event of the loop that any thread may set; repeated setting costs nothing until the waiter has seen it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._set = False

    def __call__(self) -> None:
        """From any thread."""
        if self._set:
            return
        self._set = True
        try:
            self._loop.call_soon_threadsafe(self._event.set)
        except RuntimeError:
            # The loop is closed: the server has stopped, and nobody waits any more.
            return

    async def wait(self, timeout_s: float | None) -> None:
        """Until set, or until the time is up. What happens after this returns sets it again."""
        try:
            await asyncio.wait_for(self._event.wait(), timeout_s)
        except TimeoutError:
            return
        finally:
            self._event.clear()
            self._set = False
