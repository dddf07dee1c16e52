"""The sniffer: packets of any link type, capture files, and what the tracker makes of them."""

from __future__ import annotations

import struct
from typing import Final

from rocinante.agents.packet import LINK_TYPE_NAMES, Malformed, decoder
from rocinante.agents.pcapformat import CaptureReader, FormatError, Frame
from rocinante.agents.tracker import FlowTracker
from rocinante.flows import encode_batch
from tests.agents import packets
from tests.fuzz.targets import Target

LINKS: Final = sorted(LINK_TYPE_NAMES)


def one_packet(data: bytes) -> None:
    """The first byte chooses the link type, the second how much longer the packet was on the wire."""
    if len(data) < 2:
        return
    try:
        packet = decoder(LINKS[data[0] % len(LINKS)])(data[2:], len(data) - 2 + data[1])
    except Malformed:
        return
    if packet is None:
        return
    tracker = FlowTracker(flows_max=4, refresh_ms=1)
    for now_ms in (1, 2, 2**41):
        tracker.add(packet, now_ms)
    _written(tracker)


def one_capture(data: bytes) -> None:
    """A capture file, in pieces; its packets go the whole way to encoded batches."""
    reader, tracker = CaptureReader(), FlowTracker(flows_max=4, refresh_ms=1)
    try:
        for at in range(0, len(data), 40):
            for frame in reader.feed(data[at : at + 40]):
                _track(frame, tracker)
        reader.end()
    except FormatError as error:
        assert 0 <= error.offset <= len(data)
    _written(tracker)


def _track(frame: Frame, tracker: FlowTracker) -> None:
    try:
        packet = decoder(frame.link_type)(frame.data, frame.wire_bytes)
    except (ValueError, Malformed):  # ValueError: a link type that the sniffer says it does not know
        return
    if packet is not None:
        tracker.add(packet, frame.time_ms)


def _written(tracker: FlowTracker) -> None:
    taken = tracker.take(100)
    if taken.records:
        assert encode_batch(taken.records)
    tracker.expire(2**42)


LINES: Final = [
    "tcp 10.0.0.1:40000 > 10.0.0.2:80 S seq=5",
    "tcp 10.0.0.2:80 > 10.0.0.1:40000 SA seq=9 ack=6",
    "tcp 10.0.0.1:40000 > 10.0.0.2:80 A seq=6 ack=10 data=20",
    "udp [2001:db8::1]:53 > [2001:db8::2]:9 data=10",
    "tcp [2001:db8::1]:5000 > [2001:db8::2]:9 F",
]


def packet_seeds() -> list[bytes]:
    ethernet, raw = (bytes((LINKS.index(link), 0)) for link in (1, 101))
    frames = [packets.frame(line) for line in LINES]
    seeds = [ethernet + frame for frame in frames]
    seeds += [ethernet + packets.vlan(frames[0], 5), ethernet + packets.vlan(frames[3], 5, 6)]
    seeds += [raw + bytes(packets.ip_packet(line)) for line in LINES]
    fragment = [(44, b"\0" + struct.pack(">HI", 8 << 3, 7)), (0, b"\0" + bytes(6)), (60, b"\0" + bytes(6))]
    seeds.append(raw + packets.ipv6_with(fragment, LINES[3]))
    seeds += [bytes((LINKS.index(link), 0)) + header + bytes(packets.ip_packet(LINES[0])) for link, header in (
        (0, b"\x02\0\0\0"), (108, b"\0\0\0\x02"), (113, bytes(14) + b"\x08\0"), (276, b"\x08\0" + bytes(18))
    )]  # fmt: skip
    return seeds


def capture_seeds() -> list[bytes]:
    from tests.fuzz.targets.storage import folder

    path = folder() / "seed.pcap"
    frames = [(1000.5 + at, packets.frame(line)) for at, line in enumerate(LINES)]
    seeds = []
    try:
        seeds += [packets.write_pcap(path, frames, nano=nano).read_bytes() for nano in (False, True)]
        seeds.append(packets.write_pcap(path, [(1.0, frames[0][1][14:])], 101).read_bytes())
        seeds.append(packets.write_pcapng(path, frames).read_bytes())
    finally:
        path.unlink()
    return seeds


TARGETS: Final = [
    Target("packet", one_packet, packet_seeds, 512, 500),
    Target("capture", one_capture, capture_seeds, 2048),
]
