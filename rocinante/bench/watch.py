"""The load of `rocinante bench watch`: watchers of the whole flow table, each a process of its own, and how far behind
the writes they are.

A change's lag is from the moment when its batch was due to be written (the stamp of its records) to the moment when the
watcher had read it: it has the commit in it, as whoever waits for a change feels it.
"""

from __future__ import annotations

import threading
import time
from array import array
from dataclasses import dataclass

from rocinante.bench.bounds import BENCH_POLL_S, BENCH_WATCH_END_S
from rocinante.bench.crew import Control
from rocinante.bench.records import passed_s, stamp_of
from rocinante.client import Client, EventKind, FlowWatch

__all__ = ["Watched", "Watcher", "close_at"]


@dataclass(slots=True)
class Watched:
    """What one watcher saw."""

    endpoint: str
    read_s: array[float]
    """When each batch was read …"""
    lag_s: array[float]
    """… and how long after it was due …"""
    records: array[int]
    """… and how many it had."""
    fell_behind: int = 0
    """How often the node said that it was too slow; it was given the whole table again."""
    cpu_s: float = 0.0
    reached: int = 0
    """The log index up to which it read."""


@dataclass(frozen=True, slots=True)
class Watcher:
    """A job for a crew. It begins with the table, and ends when it has read up to the log index that is the parent's
    last word."""

    number: int
    endpoint: str
    zone: int

    @property
    def name(self) -> str:
        return f"watcher {self.number + 1}"

    def work(self, control: Control) -> Watched:
        seen = Watched(self.endpoint, array("d"), array("d"), array("q"))
        busy_s = time.process_time()
        with (
            Client(self.endpoint, discover=False) as client,
            client.flows.watch(snapshot=True, batches=True) as changes,
        ):
            self._read(changes, control, seen)
            seen.reached = changes.index
        seen.cpu_s = time.process_time() - busy_s
        return seen

    def _read(self, changes: FlowWatch, control: Control, seen: Watched) -> None:
        in_table, begun = True, False
        for change in changes:
            if change.kind is EventKind.RESET:
                in_table = True
                seen.fell_behind += begun
            elif change.kind is EventKind.SYNCED:
                in_table = False
                if not begun:
                    begun = True
                    control.ready()
                    close_at(control, changes)
            elif change.batch and not in_table and (stamp := stamp_of(change.batch, self.zone)) is not None:
                now_s = time.monotonic()
                due, records = stamp
                seen.read_s.append(now_s)
                seen.lag_s.append(passed_s(due, now_s))
                seen.records.append(records)


def close_at(control: Control, changes: FlowWatch) -> None:
    """Have a thread end the watch when it has read up to the index that is the parent's last word; or when it does not
    come so far in BENCH_WATCH_END_S."""

    def end() -> None:
        """(Thread `bench-watch-end`.)"""
        control.stopping.wait()
        deadline_s = time.monotonic() + BENCH_WATCH_END_S
        while changes.index < (control.last_word or 0) and time.monotonic() < deadline_s:
            time.sleep(BENCH_POLL_S)
        changes.close()

    threading.Thread(target=end, name="bench-watch-end", daemon=True).start()
