"""`rocinante flow top`: the busiest flows, live.

A thread reads a watch, as batches, and keeps the rates; the command's own shows them now and then. On a terminal the
table stays in its place until Ctrl-C; elsewhere, and with `-o json`, the flows are watched for one interval and shown
once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from rocinante import limits
from rocinante.cli.output import console, say_json, say_table, shown
from rocinante.client.flow_json import entry_to_json
from rocinante.client.flow_rates import FlowRate, FlowRates
from rocinante.client.types import EventKind, FlowEntry
from rocinante.errors import OutOfRange, RocinanteError
from rocinante.flows import format_endpoint, validate_batch
from rocinante.flows.key import PROTOCOL_NAMES

if TYPE_CHECKING:
    from rocinante.client import Client, FlowChange, FlowSelection

__all__ = ["Top", "show_live", "show_once"]

COLUMNS: Final = ("BYTES/S", "PACKETS/S", "PROTO", "SOURCE", "DESTINATION", "STATE", "BACKEND", "ORIGIN")
_NUMBERS: Final = ("BYTES/S", "PACKETS/S")
_HEAD_LINES: Final = 4
"""Of the screen, beside the flows: the summary, the titles, the cursor's line, and one to spare."""


def _now_ms() -> int:
    return int(time.monotonic() * 1000)


class Top:
    """The rates of what a watch tells. `error` is set when it has ended."""

    def __init__(self, client: Client, selection: FlowSelection, *, by_packets: bool) -> None:
        self._client = client
        self._selection = selection
        self._by_packets = by_packets
        self._lock = threading.Lock()
        self._rates = FlowRates()
        self._thread = threading.Thread(target=self._run, name="flow-top", daemon=True)
        self._ended = threading.Event()
        self._stopping = False
        self.error: RocinanteError | None = None
        with_table = client.cluster.status().flows <= limits.CLI_TOP_SNAPSHOT_FLOWS_MAX
        self._with_table = with_table
        self._watch = client.flows.watch(selection, snapshot=with_table, batches=True)

    @contextmanager
    def running(self) -> Iterator[Top]:
        self._thread.start()
        try:
            yield self
        finally:
            self._stopping = True
            self._watch.close()
            self._thread.join(limits.THREAD_JOIN_TIMEOUT_S)

    def wait(self, seconds: float) -> None:
        """Let time go by; less when the watch has ended. Raises what ended it."""
        self._ended.wait(seconds)
        if self.error is not None:
            raise self.error

    def busiest(self, count: int) -> list[FlowRate]:
        with self._lock:
            return self._rates.top(count, _now_ms(), by_packets=self._by_packets)

    def summary(self) -> str:
        with self._lock:
            packets_s, bytes_s = self._rates.totals(_now_ms())
            flows, updates = len(self._rates), self._rates.updates
        return f"{flows} flows, {updates} updates: {amount(bytes_s)}B/s, {amount(packets_s)} packets/s"

    def _run(self) -> None:
        try:
            while not self._stopping:
                try:
                    for change in self._watch:
                        self._take(change)
                    return
                except OutOfRange:  # it fell behind: what was missed is told by the next updates' counters
                    self._watch = self._client.flows.watch(self._selection, batches=True)
        except RocinanteError as error:
            if not self._stopping:
                self.error = error
        finally:
            self._ended.set()

    def _take(self, change: FlowChange) -> None:
        with self._lock:
            if change.kind is EventKind.PUT:
                bounds = {"records_max": limits.FLOW_BATCH_RECORDS_MAX, "bytes_max": limits.FLOW_BATCH_BYTES_MAX}
                self._rates.put(change.origin, change.batch, validate_batch(change.batch, **bounds), _now_ms())
            elif change.kind is EventKind.RESET:
                self._rates.clear()
            else:
                self._rates.forget(change.origin, change.keys)


def show_once(top: Top, count: int, seconds: float, *, json: bool) -> None:
    """Watch for a while, then show the busiest."""
    with top.running():
        top.wait(seconds)
        busiest = top.busiest(count)
        if json:
            say_json([_to_json(rate) for rate in busiest])
        else:
            say_table(COLUMNS, [_row(rate) for rate in busiest], right=_NUMBERS)


def show_live(top: Top, count: int | None, seconds: float) -> None:
    """Show them again and again, as many as fit the terminal, until Ctrl-C."""
    from rich.console import Group
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    output = console()

    def screen() -> Group:
        room = max(1, output.height - _HEAD_LINES)
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for title in COLUMNS:
            table.add_column(title, justify="right" if title in _NUMBERS else "left", no_wrap=True)
        for rate in top.busiest(min(room, count or room)):
            table.add_row(*(Text(cell) for cell in _row(rate)))
        return Group(Text(top.summary()), Text(), table)

    with top.running(), Live(screen(), console=output, auto_refresh=False) as live:
        try:
            while True:
                top.wait(seconds)
                live.update(screen(), refresh=True)
        except KeyboardInterrupt:
            return


def _row(rate: FlowRate) -> list[str]:
    record, original = rate.record, rate.record.original
    return [
        amount(rate.bytes_s),
        amount(rate.packets_s),
        PROTOCOL_NAMES.get(original.protocol, str(original.protocol)),
        format_endpoint(original.source, original.source_port),
        format_endpoint(original.destination, original.destination_port),
        record.tcp_state.name,
        format_endpoint(*record.backend) if record.backend is not None else "-",
        shown(rate.origin),
    ]


def _to_json(rate: FlowRate) -> dict[str, Any]:
    entry = entry_to_json(FlowEntry(rate.record, rate.origin, rate.record.key.hex()))
    return {"bytes_per_second": round(rate.bytes_s, 1), "packets_per_second": round(rate.packets_s, 1), **entry}


def amount(number: float) -> str:
    """Three digits: 0, 7.5, 980, 1.25 k, 43 M, …"""
    for unit in ("", " k", " M", " G", " T"):
        if number < 999.5:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:.3g} P"
