"""`rocinante agent …`: programs beside the cluster that feed it. One so far: `sniff`."""

from __future__ import annotations

import logging
import signal
import sys
from contextlib import closing
from types import FrameType
from typing import Annotated

import typer

from rocinante import limits
from rocinante.agents.capture import LiveCapture, Source, check_filter
from rocinante.agents.errors import AgentError
from rocinante.agents.pcapfile import FileCapture
from rocinante.agents.report import Report
from rocinante.agents.sniffer import Options, Sniffer
from rocinante.agents.tracker import FlowTracker
from rocinante.agents.writer import FlowWriter
from rocinante.cli.common import ClusterCommand, examples, settings
from rocinante.cli.output import complain, say_json
from rocinante.errors import EXIT_USAGE

__all__ = ["app"]

app = typer.Typer(help="Programs beside the cluster that feed it.", no_args_is_help=True)


@app.callback()
def agent() -> None:
    """Programs beside the cluster that feed it."""


Interfaces = Annotated[
    list[str] | None,
    typer.Option("--interface", "-i", metavar="NAME", help="A network interface; may be repeated."),
]
PcapFile = Annotated[str, typer.Option(metavar="FILE", help="A pcap or pcapng file instead, or - for standard input.")]
Filter = Annotated[
    str,
    typer.Option("--filter", metavar="EXPR", help="Only packets that match this BPF expression (man pcap-filter)."),
]
Follow = Annotated[bool, typer.Option("--follow/--once", help="At the file's end wait for more (tail -f), or end.")]
Idle = Annotated[float, typer.Option(min=0, metavar="SECONDS", help="End when no packet came for so long; 0: never.")]
Snaplen = Annotated[
    int,
    typer.Option(
        min=limits.SNIFF_SNAPLEN_BYTES_MIN, max=limits.SNIFF_SNAPLEN_BYTES_MAX, help="Bytes of a packet to capture."
    ),
]
FlushMs = Annotated[int, typer.Option(min=10, max=10_000, help="Write what is new this often.")]
RefreshMs = Annotated[
    int, typer.Option(min=100, max=limits.SNIFF_REFRESH_MS_MAX, help="Write mere counters of a flow this often.")
]
MaxFlows = Annotated[
    int,
    typer.Option(min=1, max=10_000_000, help="Flows to keep; beyond it those nearest to their deadline are forgotten."),
]
Zone = Annotated[int, typer.Option(min=0, max=0xFFFF, help="The flows' zone (VRF or tenant).")]
IncludeOwn = Annotated[
    bool, typer.Option("--include-own/--exclude-own", help="Record the cluster's own gRPC connections too.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No statistics while it runs.")]


@app.command(
    cls=ClusterCommand,
    epilog=examples(
        "rocinante agent sniff -i eth0 -i lo",
        "rocinante -c 192.0.2.1:35001 agent sniff --pcap trace.pcapng --filter 'tcp port 443'",
        "ssh host tcpdump -U -w - | rocinante agent sniff --pcap -",
    ),
)
def sniff(
    ctx: typer.Context,
    interface: Interfaces = None,
    pcap: PcapFile = "",
    filter_: Filter = "",
    follow: Follow = False,
    idle: Idle = 0,
    snaplen: Snaplen = limits.SNIFF_SNAPLEN_BYTES,
    flush_ms: FlushMs = limits.SNIFF_FLUSH_MS,
    refresh_ms: RefreshMs = limits.SNIFF_REFRESH_MS,
    max_flows: MaxFlows = limits.SNIFF_FLOWS_MAX,
    zone: Zone = 0,
    include_own: IncludeOwn = False,
    quiet: Quiet = False,
) -> None:
    """Watch TCP and UDP on interfaces or in a capture file, and keep the cluster's flow table current.

    Only headers are read. Capturing from an interface needs root or CAP_NET_RAW. SIGINT and SIGTERM end it after a
    last write.
    """
    chosen = settings(ctx)
    report = Report(sys.stderr, interval_s=float("inf") if quiet else limits.SNIFF_REPORT_INTERVAL_S)
    try:
        endpoints = chosen.endpoints()
        source, title = _open(interface or [], pcap, filter_, snaplen, follow)
        with closing(source), chosen.client() as client:
            tracker = FlowTracker(flows_max=max_flows, refresh_ms=refresh_ms, zone=zone)
            options = Options(flush_ms, live=not pcap, idle_s=idle)
            timeout_s = chosen.timeout_s or limits.SNIFF_WRITE_TIMEOUT_S
            writer = FlowWriter(client.flows.writer(timeout_s=timeout_s, linger_s=0))
            own = None if include_own else lambda: client.endpoints
            sniffer = Sniffer(source, tracker, writer, report, options, own)
            report.start(f"capturing from {title} for {', '.join(endpoints)}")
            status = _run(sniffer, writer, report)
            if chosen.json:
                say_json(sniffer.figures().totals())
    except AgentError as error:
        complain(f"agent sniff: {error}")
        raise typer.Exit(error.status) from None
    raise typer.Exit(status)


def _open(interfaces: list[str], pcap: str, expression: str, snaplen: int, follow: bool) -> tuple[Source, str]:
    if bool(interfaces) == bool(pcap):
        raise AgentError("give either --interface (once or more) or --pcap", EXIT_USAGE)
    if follow and not pcap:
        raise AgentError("--follow: only for --pcap; an interface is always followed", EXIT_USAGE)
    if expression:
        check_filter(expression)
    if pcap:
        return FileCapture(pcap, expression=expression, follow=follow), pcap
    return LiveCapture(interfaces, snaplen=snaplen, expression=expression), ", ".join(interfaces)


def _run(sniffer: Sniffer, writer: FlowWriter, report: Report) -> int:
    """Until the capture ends or a signal comes; the exit status."""
    handler = _ConsoleHandler(report)
    logging.getLogger("rocinante").addHandler(handler)

    def stop(_signal: int, _frame: FrameType | None) -> None:
        sniffer.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        status = sniffer.run()
        figures = sniffer.figures()
        report.end(figures)
        if figures.waiting:
            complain(f"agent sniff: {figures.waiting} flows are not written: the cluster did not take them")
        return status
    finally:
        report.end(None)
        writer.close()
        logging.getLogger("rocinante").removeHandler(handler)
        for number, old in before.items():
            signal.signal(number, old)


class _ConsoleHandler(logging.Handler):
    """Log lines go where the report goes, so that they do not tear its live line."""

    def __init__(self, report: Report) -> None:
        super().__init__(logging.WARNING)
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        self._report.say(record.getMessage())
