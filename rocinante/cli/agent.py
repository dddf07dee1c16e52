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
from rocinante.agents.own import split_endpoint
from rocinante.agents.pcapfile import FileCapture
from rocinante.agents.report import Report
from rocinante.agents.sniffer import ClusterSink, Options, Sniffer
from rocinante.agents.tracker import FlowTracker
from rocinante.agents.writer import FlowWriter
from rocinante.client import Client
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
Endpoints = Annotated[
    str,
    typer.Option(
        "--cluster", "-c", metavar="HOST:PORT,…", envvar="ROCINANTE_CLUSTER", help="gRPC endpoints of the cluster."
    ),
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

EXAMPLES = """Examples:

    rocinante agent sniff -i eth0 -i lo

    rocinante agent sniff --pcap trace.pcapng --filter 'tcp port 443' -c 192.0.2.1:35001

    ssh host tcpdump -U -w - | rocinante agent sniff --pcap -
"""


@app.command(epilog=EXAMPLES)
def sniff(
    interface: Interfaces = None,
    pcap: PcapFile = "",
    filter_: Filter = "",
    cluster: Endpoints = "127.0.0.1:35001",
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
    report = Report(sys.stderr, interval_s=float("inf") if quiet else limits.SNIFF_REPORT_INTERVAL_S)
    try:
        endpoints = [part for part in cluster.split(",") if part.strip()]
        if not endpoints:
            raise AgentError("--cluster: expected HOST:PORT", EXIT_USAGE)
        for endpoint in endpoints:
            split_endpoint(endpoint)
        source, title = _open(interface or [], pcap, filter_, snaplen, follow)
        with closing(source), Client(endpoints) as client:
            tracker = FlowTracker(flows_max=max_flows, refresh_ms=refresh_ms, zone=zone)
            status = _run(
                source,
                tracker,
                client,
                report,
                Options(flush_ms, live=not pcap, idle_s=idle),
                f"capturing from {title} for {', '.join(endpoints)}",
                include_own=include_own,
            )
    except AgentError as error:
        typer.echo(f"rocinante agent sniff: {error}", err=True)
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


def _run(
    source: Source,
    tracker: FlowTracker,
    client: Client,
    report: Report,
    options: Options,
    title: str,
    *,
    include_own: bool,
) -> int:
    handler = _ConsoleHandler(report)
    logging.getLogger("rocinante").addHandler(handler)
    writer = FlowWriter(ClusterSink(client))
    sniffer = Sniffer(
        source, tracker, writer, report, options, endpoints=None if include_own else lambda: client.endpoints
    )

    def stop(_signal: int, _frame: FrameType | None) -> None:
        sniffer.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        report.start(title)
        status = sniffer.run()
        report.end(sniffer.figures())
        if tracker.waiting:
            typer.echo(
                f"rocinante agent sniff: {tracker.waiting} flows could not be written: the cluster did not take them",
                err=True,
            )
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
