"""The streams that are open, so that they can all be ended when the node stops being ready.

A stream's handler may be anywhere: waiting for events, reading, blocked in a write to a client that does not read.
So it is cancelled, and told apart from a client's own cancellation by the registry. gRPC must have sent the initial
metadata before that (`Calls` sees to it): it cannot send a status while they are on their way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from rocinante.errors import Unavailable

T = TypeVar("T")


class Streams:
    """Begins closed. Used on the event loop only."""

    def __init__(self) -> None:
        self._open: set[asyncio.Task[Any]] = set()
        self._closed_reason = "not ready: starting"
        self._ended_reason = "not ready"

    def open(self) -> None:
        """Streams may begin (again)."""
        self._closed_reason = ""

    def cut(self, reason: str) -> None:
        """End every stream with `reason`, and those that begin until `open`."""
        self._closed_reason = reason
        tasks, self._open = self._open, set()
        for task in tasks:
            task.cancel()

    def end(self, reason: str) -> None:
        """End every stream with `reason`; others may begin."""
        if not self._closed_reason:
            self.cut(reason)
            self._ended_reason, self._closed_reason = reason, ""

    async def run(self, work: Coroutine[Any, Any, T], is_let_in: Callable[[], bool]) -> T:
        """Run a stream's handler in the current task. Raises Unavailable when it is cut.

        `is_let_in` is asked once it can be cut: its token may have been taken away since the call was let in.
        """
        task = asyncio.current_task()
        if self._closed_reason or task is None:
            work.close()
            raise Unavailable(self._closed_reason)
        if not is_let_in():
            work.close()
            raise Unavailable("the access tokens have changed")
        self._open.add(task)
        try:
            return await work
        except asyncio.CancelledError:
            if task in self._open:
                raise
            task.uncancel()
            raise Unavailable(self._closed_reason or self._ended_reason) from None
        finally:
            self._open.discard(task)
