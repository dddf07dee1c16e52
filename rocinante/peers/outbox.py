"""A bounded queue of messages to one peer over one channel: the driver puts, the channel's task takes all that waits.

Both run on the event loop, so there is no lock. While the channel is not connected nothing is kept: what is late is
worth nothing to Raft, which sends again.
"""

from __future__ import annotations

import asyncio
from collections import deque

from rocinante.peers.codec import Encoded


class Outbox:
    """See the module. Sizes in bytes on the wire."""

    def __init__(self, *, messages_max: int, bytes_max: int) -> None:
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self._items: deque[Encoded] = deque()
        self._bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self._open = False
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def is_open(self) -> bool:
        return self._open

    def open(self) -> None:
        self._clear()
        self._open = True

    def close(self) -> None:
        """Drop what waits and wake the taker, which then gets an empty list."""
        self._open = False
        self._clear()
        self._wake()

    def _clear(self) -> None:
        self._items.clear()
        self._bytes = 0

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def put(self, message: Encoded) -> bool:
        """False when it was dropped: not connected, or full."""
        full = len(self._items) >= self._messages_max or self._bytes + message.size > self._bytes_max
        if not self._open or (full and self._items):
            self.dropped += 1
            return False
        self._items.append(message)
        self._bytes += message.size
        self._wake()
        return True

    async def take(self, bytes_max: int) -> list[Encoded]:
        """All that waits up to `bytes_max` (at least one message), once there is some; empty when it was closed."""
        while self._open and not self._items:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        taken: list[Encoded] = []
        size = 0
        while self._items and (not taken or size + self._items[0].size <= bytes_max):
            message = self._items.popleft()
            taken.append(message)
            size += message.size
        self._bytes -= size
        return taken
