"""A bounded queue of messages to one peer over one channel: many threads put, the channel's thread takes all that
waits.

While the channel is not connected nothing is kept: what is late is worth nothing to Raft, which sends again.
"""

from __future__ import annotations

import threading
from collections import deque
from queue import Empty, SimpleQueue

from rocinante.pb.v1 import peer_pb2 as pb


class Outbox:
    """See the module. Sizes in bytes, as the putter estimates them."""

    def __init__(self, *, messages_max: int, bytes_max: int) -> None:
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._items: deque[tuple[pb.PeerMessage, int]] = deque()
        self._bytes = 0
        self._sleeping = False
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._open = False
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def is_open(self) -> bool:
        return self._open

    def open(self) -> None:
        with self._lock:
            self._items.clear()
            self._bytes = 0
            self._open = True

    def close(self) -> None:
        """Drop what waits and wake the taker, which then gets an empty list."""
        with self._lock:
            self._open = False
            self._items.clear()
            self._bytes = 0
        self._wake.put(None)

    def put(self, message: pb.PeerMessage, size_bytes: int) -> bool:
        """False when it was dropped: not connected, or full."""
        with self._lock:
            full = len(self._items) >= self._messages_max or self._bytes + size_bytes > self._bytes_max
            if not self._open or (full and self._items):
                self.dropped += 1
                return False
            self._items.append((message, size_bytes))
            self._bytes += size_bytes
            wake, self._sleeping = self._sleeping, False
        if wake:
            self._wake.put(None)
        return True

    def take(self, bytes_max: int, timeout_s: float) -> list[pb.PeerMessage]:
        """All that waits up to `bytes_max` (at least one message); an empty list when nothing came in time or it was
        closed.
        """
        taken = self._take_now(bytes_max)
        if taken:
            return taken
        try:
            self._wake.get(timeout=timeout_s)
        except Empty:
            pass
        return self._take_now(bytes_max)

    def _take_now(self, bytes_max: int) -> list[pb.PeerMessage]:
        taken: list[pb.PeerMessage] = []
        size = 0
        with self._lock:
            while self._items and (not taken or size + self._items[0][1] <= bytes_max):
                message, message_size = self._items.popleft()
                taken.append(message)
                size += message_size
            self._bytes -= size
            self._sleeping = not taken and self._open
        return taken
