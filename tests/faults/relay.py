"""A relay in user space that holds packets back: `python -m tests.faults.relay LOW_MS HIGH_MS SEED`, on the bridge.

This kernel has no netem. Two TAP devices are made: the kernel forwards what is to be delayed to `delay-in` (by a rule
of nft, see network.py), the relay keeps each frame for its time and hands it to `delay-out`, which is a port of the
bridge. So delays are those of packets, under the kernel's own TCP. Each direction of each pair of hosts has a delay of
its own, drawn from SEED between LOW_MS and HIGH_MS, and each packet varies around it by `JITTER`: packets overtake each
other now and then, as they do on a real path.

Says `ready` on standard output when both devices are there, and on SIGTERM how many packets it held back, as JSON.
"""

from __future__ import annotations

import fcntl
import heapq
import json
import os
import random
import selectors
import signal
import struct
import sys
import time
from typing import Final

DELAY_IN: Final = "delay-in"
DELAY_OUT: Final = "delay-out"
JITTER: Final = 0.1
FRAME_BYTES_MAX: Final = 65_536
HELD_MAX: Final = 100_000
"""Frames; beyond them the relay drops, as a router with a full queue does."""
_IPV4: Final = b"\x08\x00"
_TUNSETIFF: Final = 0x400454CA
_IFF_TAP_NO_PI: Final = 0x1002


def open_tap(name: str) -> int:
    """A new TAP device in the present network namespace; it is gone when the descriptor is closed."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP_NO_PI))
    return descriptor


class Relay:
    """The frames that wait. `low_s` and `high_s` bound the delay of a direction."""

    def __init__(self, source: int, target: int, low_s: float, high_s: float, rng: random.Random) -> None:
        self._source = source
        self._target = target
        self._bounds_s = (low_s, high_s)
        self._rng = rng
        self._delays_s: dict[bytes, float] = {}
        """By the frame's two MAC addresses, that is by direction."""
        self._held: list[tuple[float, int, bytes]] = []
        self.packets = 0
        self.dropped = 0
        self.running = True

    def run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._source, selectors.EVENT_READ)
            while self.running:
                timeout_s = max(0.0, self._held[0][0] - time.monotonic()) if self._held else 0.2
                if selector.select(timeout_s):
                    self._take()
                self._release(time.monotonic())

    def _take(self) -> None:
        """All that has come."""
        while True:
            try:
                frame = os.read(self._source, FRAME_BYTES_MAX)
            except BlockingIOError:
                return
            if frame[12:14] != _IPV4:
                continue  # what this host itself says on a new interface
            if len(self._held) >= HELD_MAX:
                self.dropped += 1
                continue
            direction = frame[:12]
            delay_s = self._delays_s.get(direction)
            if delay_s is None:
                delay_s = self._delays_s[direction] = self._rng.uniform(*self._bounds_s)
            self.packets += 1
            due = time.monotonic() + delay_s * self._rng.uniform(1 - JITTER, 1 + JITTER)
            heapq.heappush(self._held, (due, self.packets, frame))

    def _release(self, now: float) -> None:
        while self._held and self._held[0][0] <= now:
            frame = heapq.heappop(self._held)[2]
            try:
                os.write(self._target, frame)
            except BlockingIOError:
                self.dropped += 1

    def summary(self) -> dict[str, object]:
        delays_ms = sorted(round(delay_s * 1000, 1) for delay_s in self._delays_s.values())
        return {"packets": self.packets, "dropped": self.dropped, "delays_ms": delays_ms}


def main() -> int:
    low_ms, high_ms, seed = float(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    source, target = open_tap(DELAY_IN), open_tap(DELAY_OUT)
    relay = Relay(source, target, low_ms / 1000, high_ms / 1000, random.Random(seed))

    def stop(*_: object) -> None:
        relay.running = False

    signal.signal(signal.SIGTERM, stop)
    print("ready", flush=True)
    relay.run()
    print(json.dumps(relay.summary()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
