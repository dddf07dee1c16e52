"""What the sniffer tells a person: one line that is rewritten on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from math import isfinite
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text


@dataclass(frozen=True, slots=True)
class Figures:
    """Totals since the start, but for `flows`, `waiting` and the two times, which are of now."""

    packets: int
    flows: int
    waiting: int
    """Flows whose latest state is not written."""
    records: int
    batches: int
    dropped: int
    """By the kernel, for want of room."""
    malformed: int
    evicted: int
    lag_s: float
    """How old the oldest news is that the cluster has not got."""
    write_s: float
    """How long the last batch took."""

    def line(self, packets_per_s: float, records_per_s: float) -> str:
        text = (
            f"{packets_per_s:,.0f} packets/s · {self.flows:,} flows · {records_per_s:,.0f} records/s in "
            f"{self.batches:,} batches ({self.write_s * 1e3:.0f} ms) · "
            f"{self.waiting:,} waiting · lag {self.lag_s:.1f} s"
        )
        for name in ("dropped", "malformed", "evicted"):
            if value := getattr(self, name):
                text += f" · {value:,} {name}"
        return text

    def totals(self) -> dict[str, int]:
        """What is true of the whole run, for its end."""
        return {field.name: getattr(self, field.name) for field in fields(self) if not field.name.endswith("_s")}


class Report:
    """Prints `Figures` to a stream (standard error), live where it is a terminal; `interval_s` infinite: only the
    start and the end."""

    def __init__(self, stream: TextIO, *, interval_s: float, live_interval_s: float = 0.5) -> None:
        self.console = Console(file=stream, highlight=False)
        self._live = (
            Live(Text(""), console=self.console, auto_refresh=False)
            if self.console.is_terminal and isfinite(interval_s)
            else None
        )
        self._interval_s = live_interval_s if self._live else interval_s
        self._last: tuple[float, int, int] | None = None
        self._due_s = 0.0

    def say(self, line: str) -> None:
        """A line of its own."""
        self.console.print(line, soft_wrap=True, markup=False)

    def start(self, what: str) -> None:
        now_s = time.monotonic()
        self._due_s = now_s + self._interval_s
        self._last = (now_s, 0, 0)
        self.say(what)
        if self._live:
            self._live.start()

    def due(self, now_s: float) -> bool:
        return now_s >= self._due_s

    def show(self, figures: Figures, now_s: float) -> None:
        before_s, packets, records = self._last or (now_s, 0, 0)
        seconds = max(now_s - before_s, 1e-3)
        text = figures.line((figures.packets - packets) / seconds, (figures.records - records) / seconds)
        if self._live:
            self._live.update(Text(text, overflow="ellipsis", no_wrap=True), refresh=True)
        else:
            self.say(text)
        self._last = (now_s, figures.packets, figures.records)
        self._due_s = now_s + self._interval_s

    def end(self, figures: Figures | None) -> None:
        """Leave the terminal as it was, with the totals."""
        if self._live:
            self._live.stop()
            self._live = None
        if figures is not None:
            self.say("done: " + ", ".join(f"{value:,} {name}" for name, value in figures.totals().items()))
