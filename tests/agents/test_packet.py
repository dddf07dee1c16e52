"""From bytes to headers, by link type, with everything that may stand between the link layer and the ports."""

from __future__ import annotations

import random
import struct

import pytest

from rocinante.agents.packet import LINK_TYPE_NAMES, Malformed, Packet, decoder
from rocinante.flows import format_endpoint
from tests.agents.packets import frame, ip_packet, ipv6_with, vlan

V4 = "tcp 10.0.0.1:40000 > 10.0.0.2:80 SA seq=7 ack=9 data=100"
V6 = "udp [2001:db8::1]:5000 > [2001:db8::2]:53 data=10"


def text(packet: Packet | None) -> str:
    """`tcp 10.0.0.1:1 > 10.0.0.2:2 length` and what else is not the default."""
    if packet is None:
        return "nothing"
    made = (
        f"{'tcp' if packet.protocol == 6 else 'udp'} {format_endpoint(packet.source, packet.source_port)} > "
        f"{format_endpoint(packet.destination, packet.destination_port)} {packet.length_bytes}"
    )
    if packet.flags:
        made += f" flags={packet.flags:#x} seq={packet.sequence} ack={packet.acknowledgement}"
    if packet.fragment >= 0:
        made += f" fragment={packet.fragment}"
    return made if packet.has_ports else made + " later"


TCP_TEXT = "tcp 10.0.0.1:40000 > 10.0.0.2:80 140 flags=0x12 seq=7 ack=9"
UDP_TEXT = "udp [2001:db8::1]:5000 > [2001:db8::2]:53 58"


def sll(kind: int, data: bytes) -> bytes:
    return struct.pack(">HHH8sH", 0, 1, 6, b"\1" * 8, kind) + data


def sll2(kind: int, data: bytes) -> bytes:
    return struct.pack(">HHiHBB8s", kind, 0, 3, 1, 0, 6, b"\1" * 8) + data


def raw(line: str) -> bytes:
    return bytes(ip_packet(line))


@pytest.mark.parametrize(
    ("link_type", "data", "expected"),
    [
        pytest.param(1, frame(V4), TCP_TEXT, id="ethernet v4"),
        pytest.param(1, frame(V6), UDP_TEXT, id="ethernet v6"),
        pytest.param(1, vlan(frame(V4), 100), TCP_TEXT, id="vlan"),
        pytest.param(1, vlan(frame(V6), 100, 200), UDP_TEXT, id="two vlans"),
        pytest.param(1, frame(V4) + b"\0" * 6, TCP_TEXT, id="padded to the minimum frame"),
        pytest.param(1, frame(V4)[:96], TCP_TEXT, id="cut by the snaplen after the header"),
        pytest.param(101, raw(V4), TCP_TEXT, id="raw v4"),
        pytest.param(101, raw(V6), UDP_TEXT, id="raw v6"),
        pytest.param(228, raw(V4), TCP_TEXT, id="link type IPV4"),
        pytest.param(113, sll(0x0800, raw(V4)), TCP_TEXT, id="cooked"),
        pytest.param(113, sll(0x8100, struct.pack(">HH", 100, 0x0800) + raw(V4)), TCP_TEXT, id="cooked with a vlan"),
        pytest.param(276, sll2(0x86DD, raw(V6)), UDP_TEXT, id="cooked 2"),
        pytest.param(0, struct.pack("=I", 2) + raw(V4), TCP_TEXT, id="BSD loopback"),
        pytest.param(1, b"\0" * 12 + b"\x08\x06" + b"\0" * 28, "nothing", id="ARP"),
        pytest.param(1, frame("udp 10.0.0.1:1 > 10.0.0.2:2").replace(b"\x40\x11", b"\x40\x01"), "nothing", id="ICMP"),
        pytest.param(1, b"\x01\x80\xc2\0\0\0" + b"\0" * 6 + b"\0\x26\x42\x42\x03" + b"\0" * 40, "nothing", id="LLC"),
    ],
)
def test_link_types(link_type: int, data: bytes, expected: str) -> None:
    assert text(decoder(link_type)(data, len(data))) == expected


def fragment4(offset_units: int, more: bool, payload: bytes) -> bytes:
    packet = bytearray(raw("udp 10.0.0.1:5000 > 10.0.0.2:53"))[:20] + payload
    packet[2:4] = struct.pack(">H", len(packet))
    packet[4:8] = struct.pack(">HH", 77, offset_units | (0x2000 if more else 0))
    return bytes(packet)


def test_ipv4_fragments() -> None:
    decode = decoder(101)
    first = fragment4(0, True, struct.pack(">HHHH", 5000, 53, 3008, 0) + b"x" * 1472)
    later = fragment4(185, False, b"x" * 1528)
    assert text(decode(first, len(first))) == "udp 10.0.0.1:5000 > 10.0.0.2:53 1500 fragment=77"
    # The payload of a later one could look like ports: they must not be taken for that.
    assert text(decode(later, len(later))) == "udp 10.0.0.1:0 > 10.0.0.2:0 1548 fragment=77 later"


HOP_BY_HOP = (0, b"\0" + b"\1\4" + b"\0" * 4)
ROUTING = (43, b"\0" + b"\0" * 6)
DESTINATION = (60, b"\0" + b"\1\4" + b"\0" * 4)


def fragment6(offset_units: int, more: bool) -> tuple[int, bytes]:
    return 44, b"\0" + struct.pack(">HI", offset_units << 3 | more, 99)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([HOP_BY_HOP], "udp [2001:db8::1]:5000 > [2001:db8::2]:53 66"),
        ([HOP_BY_HOP, ROUTING, DESTINATION], "udp [2001:db8::1]:5000 > [2001:db8::2]:53 82"),
        ([fragment6(0, True)], "udp [2001:db8::1]:5000 > [2001:db8::2]:53 66 fragment=99"),
        ([fragment6(3, False)], "udp [2001:db8::1]:0 > [2001:db8::2]:0 66 fragment=99 later"),
        ([HOP_BY_HOP, fragment6(3, False)], "udp [2001:db8::1]:0 > [2001:db8::2]:0 74 fragment=99 later"),
    ],
)
def test_ipv6_extension_headers(headers: list[tuple[int, bytes]], expected: str) -> None:
    data = ipv6_with(headers, V6)
    assert text(decoder(101)(data, len(data))) == expected


def test_length_of_a_segment_before_offload_has_cut_it() -> None:
    """Total length 0: the card will set it for each piece (TSO). What was on the wire counts."""
    data = bytearray(frame(V4))
    data[16:18] = b"\0\0"
    packet = decoder(1)(bytes(data[:96]), 9_014)
    assert packet is not None
    assert packet.length_bytes == 9_000


@pytest.mark.parametrize("cut", [14, 20, 33, 34, 40, 53])
def test_too_short_is_malformed(cut: int) -> None:
    data = frame(V4)[:cut]
    with pytest.raises(Malformed):
        decoder(1)(data, len(data))


def test_whatever_comes_it_is_a_packet_or_nothing_or_malformed() -> None:
    """Damaged packets of every kind: no other exception may come out of the parser."""
    seed = 20
    chance = random.Random(seed)
    good = [
        frame(V4),
        frame(V6),
        vlan(frame(V4), 5),
        b"\0" * 12 + b"\x86\xdd" + ipv6_with([HOP_BY_HOP, fragment6(3, True), ROUTING], V6),
    ]
    for _ in range(5_000):
        data = bytearray(chance.choice(good))
        for _ in range(chance.randrange(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        cut = bytes(data[: chance.randrange(len(data) + 1)])
        for link_type in (1, 101, 113, 276, 0):
            try:
                packet = decoder(link_type)(cut, len(data))
            except Malformed:
                continue
            assert packet is None or len(packet.source) in (4, 16), f"seed {seed}: {cut.hex()}"


def test_an_unknown_link_type_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"link type 105 is not supported; supported are .*EN10MB"):
        decoder(105)
    assert all(decoder(number) for number in LINK_TYPE_NAMES)
