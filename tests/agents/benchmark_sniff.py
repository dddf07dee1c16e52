"""How many packets the sniffer takes: `python -m tests.agents.benchmark_sniff [PACKETS] [FLOWS]`.

Stages, each with those before it: `decode` (dpkt), `track` (the flow tracker), `file` (a pcap file read as `--pcap`
does). Times are of the processor, so that a busy machine does not change them much. With root also `live`: as many
packets as the loopback interface gives while `tcpreplay`-like UDP load runs.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import time
from pathlib import Path

from rocinante.agents.capture import LiveCapture
from rocinante.agents.packet import Packet, decoder
from rocinante.agents.pcapfile import FileCapture
from rocinante.agents.tracker import FlowTracker
from rocinante.dev.sniffing import may_capture
from rocinante.limits import SNIFF_SNAPLEN_BYTES
from tests.agents.packets import frame, write_pcap
from tests.support.ports import free_port

LIVE_S = 3.0


def frames(flows: int) -> list[bytes]:
    """Both directions of data packets of TCP connections, half of them IPv6."""
    made = []
    for number in range(flows):
        a, b = ("10.0.{}.{}", "10.9.0.1") if number % 2 else ("[2001:db8::{}:{}]", "[2001:db8::9]")
        client, server = f"{a.format(number // 250, number % 250)}:{20_000 + number % 40_000}", f"{b}:443"
        made += [frame(f"tcp {client} > {server} PA data=60"), frame(f"tcp {server} > {client} A data=60")]
    return made


def tracker() -> FlowTracker:
    return FlowTracker(flows_max=200_000, refresh_ms=5_000)


def report(stage: str, packets: int, seconds: float) -> None:
    print(
        f"{stage:8} {packets:>9,} packets  {seconds / packets * 1e6:6.2f} µs each  {packets / seconds:>9,.0f} packets/s"
    )


def live() -> None:
    """A process floods the loopback interface with UDP; what is captured and what the kernel had to drop."""
    port = free_port()
    source = LiveCapture(["lo"], snaplen=SNIFF_SNAPLEN_BYTES, expression=f"udp port {port}")
    tracked = tracker()
    child = os.fork()
    if not child:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            end = time.monotonic() + LIVE_S
            while time.monotonic() < end:
                sender.sendto(b"x" * 100, ("127.0.0.1", port))
        os._exit(0)
    began_cpu, end = time.process_time(), time.monotonic() + LIVE_S + 0.5
    while time.monotonic() < end:
        source.read(tracked.add, 0.1)
    seconds = time.process_time() - began_cpu
    os.waitpid(child, 0)
    report("live", tracked.counters.packets, seconds)
    print(f"         in {LIVE_S:.0f} s beside the sender; the kernel dropped {source.dropped():,}")
    source.close()


def main() -> None:
    packets = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    given = frames(int(sys.argv[2]) if len(sys.argv) > 2 else 10_000)
    decode = decoder(1)
    began = time.process_time()
    decoded: list[Packet] = []
    for number in range(packets):
        data = given[number % len(given)]
        packet = decode(data, len(data))
        assert packet is not None
        decoded.append(packet)
    report("decode", packets, decode_s := time.process_time() - began)
    tracked = tracker()
    began = time.process_time()
    for number, packet in enumerate(decoded):
        tracked.add(packet, number // 50)
    report("track", packets, decode_s + time.process_time() - began)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "a.pcap"
        write_pcap(path, [(1e9 + n / 50_000, given[n % len(given)]) for n in range(packets)])
        source, tracked = FileCapture(str(path)), tracker()
        began = time.process_time()
        while not source.ended:
            source.read(tracked.add, 0.1)
        report("file", packets, time.process_time() - began)
        source.close()
    if may_capture():
        live()


if __name__ == "__main__":
    main()
