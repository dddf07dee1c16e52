"""What the launcher shows: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rocinante.dev.process import Condition
from rocinante.dev.watching import Health
from rocinante.limits import DEV_MESSAGES_MAX, DEV_PLAIN_INTERVAL_S

HELP = "k N kill -9   s N start   t N make it leader   p N pause   c N continue   q quit   ? help"

_GAP = 2
_ROLE_STYLES = {
    "leader": "bold green",
    "candidate": "yellow",
    "not_ready": "yellow",
    "died": "bold red",
    "killed": "red",
}
_ROLE_STYLES |= {"paused": "magenta", "ended": "dim", "starting": "yellow"}


@dataclass(frozen=True, slots=True)
class Row:
    """One node, or the sniffer, which has no URL and no health."""

    name: str
    pid: int
    condition: Condition
    health: Health | None
    url: str
    note: str = ""

    @property
    def state(self) -> str:
        """Its role while it runs and answers, else what became of it."""
        if self.condition is not Condition.RUNNING:
            return str(self.condition)
        if not self.url:
            return "running"
        return self.health.role if self.health is not None else "starting"

    def cells(self) -> tuple[str, ...]:
        health = self.health if self.condition is Condition.RUNNING else None
        numbers: tuple[str, ...] = ("", "", "", "", "", "")
        if health is not None:
            numbers = (
                str(health.term),
                f"{health.commit:,}",
                f"{health.applied:,}",
                f"{health.entries_per_s:,.0f}/s",
                f"{health.flows:,}",
                f"{health.keys:,}",
            )
        note = self.note or (health.reason if health is not None else "")
        return (self.name, str(self.pid or ""), self.state, *numbers, note or self.url)


COLUMNS = ("node", "pid", "state", "term", "commit", "applied", "rate", "flows", "keys", "page")
_LEAVE_OUT = ("pid", "applied", "keys", "flows")
"""What a narrow terminal does without, first to last, so that the page's address is whole."""
_RIGHT = frozenset({"pid", "term", "commit", "applied", "rate", "flows", "keys"})


class View(Protocol):
    def start(self) -> None: ...

    def say(self, message: str) -> None:
        """Something happened."""

    def show(self, rows: Sequence[Row], typed: str) -> None:
        """How it is now; `typed` is the command line so far."""

    def stop(self) -> None: ...


class LiveView:
    """A table that is drawn again in place, the last messages, and the line that is being typed."""

    def __init__(self, console: Console) -> None:
        self._live = Live(
            console=console, auto_refresh=False, transient=False, redirect_stdout=False, redirect_stderr=False
        )
        self._messages: deque[str] = deque(maxlen=DEV_MESSAGES_MAX)
        self._rows: Sequence[Row] = ()

    def start(self) -> None:
        self._live.start()

    def say(self, message: str) -> None:
        self._messages.append(f"{time.strftime('%H:%M:%S')}  {message}")

    def show(self, rows: Sequence[Row], typed: str) -> None:
        self._rows = rows
        self._live.update(self._drawn(typed), refresh=True)

    def stop(self) -> None:
        self._live.stop()

    def _drawn(self, typed: str) -> RenderableType:
        rows = [dict(zip(COLUMNS, row.cells(), strict=True)) for row in self._rows]
        table = Table(box=None, header_style="bold", padding=(0, _GAP, 0, 0), pad_edge=False)
        left = self._live.console.width
        widths = self._widths(rows)
        for column, wanted in widths.items():
            # Numbers are never cut; what does not fit is cut from the last column.
            width = min(left, wanted)
            left = max(left - width - _GAP, 0)
            justify: JustifyMethod = "right" if column in _RIGHT else "left"
            table.add_column(column, justify=justify, no_wrap=True, width=width)
        for row, cells in zip(self._rows, rows, strict=True):
            texts = {column: Text(cells[column], overflow="ellipsis") for column in widths}
            texts["state"].stylize(_ROLE_STYLES.get(row.state, ""))
            table.add_row(*texts.values())
        messages = [Text(message, overflow="fold") for message in self._messages]
        return Group(
            table, Text(""), *messages, Text(HELP, style="dim", no_wrap=True), Text(f"> {typed}▏", no_wrap=True)
        )

    def _widths(self, rows: Sequence[dict[str, str]]) -> dict[str, int]:
        """The columns to show and how wide each would like to be."""
        widths = {column: max(len(cell) for cell in (column, *(cells[column] for cells in rows))) for column in COLUMNS}
        address = max((len(row.url) for row in self._rows), default=0)
        for column in _LEAVE_OUT:
            if (
                sum(widths.values()) - widths[COLUMNS[-1]] + address + _GAP * (len(widths) - 1)
                <= self._live.console.width
            ):
                break
            del widths[column]
        return widths


class PlainView:
    """A line for each thing that happens, and now and then one for all nodes."""

    def __init__(self, console: Console, interval_s: float = DEV_PLAIN_INTERVAL_S) -> None:
        self._console = console
        self._interval_s = interval_s
        self._states: dict[str, str] = {}
        self._due_s = 0.0

    def start(self) -> None:
        """Nothing to prepare."""

    def say(self, message: str) -> None:
        self._console.print(message, soft_wrap=True)

    def show(self, rows: Sequence[Row], typed: str) -> None:  # noqa: ARG002 - a terminal's affair
        for row in rows:
            state = row.state if row.health is None else f"{row.state} in term {row.health.term}"
            if self._states.get(row.name) != state:
                self._states[row.name] = state
                self.say(f"{row.name}: {state}")
        now = time.monotonic()
        if not self._due_s:
            self._due_s = now + self._interval_s
        if now >= self._due_s:
            self._due_s = now + self._interval_s
            self.say(" | ".join(self._brief(row) for row in rows))

    def stop(self) -> None:
        """Nothing to tidy up."""

    @staticmethod
    def _brief(row: Row) -> str:
        if row.health is None or row.condition is not Condition.RUNNING:
            return f"{row.name} {row.state}"
        health = row.health
        return (
            f"{row.name} {row.state} applied {health.applied} {health.entries_per_s:.0f}/s "
            f"flows {health.flows} keys {health.keys}"
        )
