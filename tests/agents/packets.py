"""Packets made by dpkt from a line of text, for tests.

tcp 10.0.0.1:40000 > 10.0.0.2:80 SA seq=5 ack=9 data=100
udp [2001:db8::1]:53 > [2001:db8::2]:9 data=10
"""

from __future__ import annotations

import struct
from pathlib import Path

import dpkt
from dpkt.ethernet import Ethernet
from dpkt.ip import IP
from dpkt.ip6 import IP6
from dpkt.tcp import TCP
from dpkt.udp import UDP

from rocinante.flows import parse_endpoint

FLAGS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16}


def ip_packet(line: str) -> IP | IP6:
    """The packet of a line, with lengths as a sender would set them."""
    protocol, source, _, destination, *rest = line.split()
    options = dict(word.split("=") for word in rest if "=" in word)
    flags = sum(FLAGS[letter] for word in rest if "=" not in word for letter in word)
    (src, sport), (dst, dport) = parse_endpoint(source, "source"), parse_endpoint(destination, "destination")
    payload = b"x" * int(options.get("data", 0))
    if protocol == "tcp":
        segment = TCP(
            sport=sport, dport=dport, seq=int(options.get("seq", 0)), ack=int(options.get("ack", 0)), flags=flags
        )
        segment.data = payload
    else:
        segment = UDP(sport=sport, dport=dport, data=payload)
        segment.ulen = len(segment)
    number = 6 if protocol == "tcp" else 17
    if len(src) == 4:
        packet = IP(src=src, dst=dst, p=number, data=segment)
        packet.len = len(packet)
        return packet
    packet = IP6(src=src, dst=dst, nxt=number, hlim=64, data=segment)
    packet.plen = len(segment)
    return packet


def frame(line: str) -> bytes:
    packet = ip_packet(line)
    return bytes(Ethernet(type=0x0800 if isinstance(packet, IP) else 0x86DD, data=packet))


def write_pcap(path: Path, frames: list[tuple[float, bytes]], link_type: int = 1, nano: bool = False) -> Path:
    with path.open("wb") as file:
        writer = dpkt.pcap.Writer(file, linktype=link_type, nano=nano)
        for when, data in frames:
            writer.writepkt(data, when)
    return path


def write_pcapng(path: Path, frames: list[tuple[float, bytes]], link_type: int = 1) -> Path:
    with path.open("wb") as file:
        writer = dpkt.pcapng.Writer(file, linktype=link_type)
        for when, data in frames:
            writer.writepkt(data, when)
    return path


def vlan(data: bytes, *tags: int) -> bytes:
    """The frame with VLAN tags put in, the outer one first."""
    body = data[12:]
    for tag in reversed(tags):
        body = struct.pack(">HH", 0x8100, tag) + body
    return data[:12] + body


def ipv6_with(headers: list[tuple[int, bytes]], line: str) -> bytes:
    """A raw IPv6 packet with extension headers: (its number, its bytes without the next-header byte)."""
    packet = ip_packet(line)
    segment = bytes(packet.data)
    chain = b""
    numbers = [number for number, _ in headers] + [packet.nxt]
    for (_, body), following in zip(headers, numbers[1:], strict=True):
        chain += bytes([following]) + body
    packet.nxt, packet.plen = numbers[0], len(chain) + len(segment)
    return bytes(packet)[:40] + chain + segment
