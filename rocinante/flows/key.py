"""The tuple of a flow and its canonical key.

The key's two endpoints are sorted by (address bytes, port), so both directions of a connection have the same key; the
record's flag REVERSED says that the source of the original direction is the second endpoint. To the byte, big endian
(docs/flow-format.md):

    IPv4, 16 bytes: u16 zone | u8 family = 4 | u8 protocol | 4 address a |  4 address b | u16 port a | u16 port b
    IPv6, 40 bytes: u16 zone | u8 family = 6 | u8 protocol | 16 address a | 16 address b | u16 port a | u16 port b

ICMP and ICMPv6: both ports hold the identifier of the query. Type and code are no part of the key, for request and
answer differ in them; an error message belongs to the flow that it quotes. SCTP has ports as TCP has. A protocol
without ports has 0 in both.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import Final, NamedTuple

from rocinante.flows.errors import FlowError

KEY_V4: Final = struct.Struct(">HBB4s4sHH")
KEY_V6: Final = struct.Struct(">HBB16s16sHH")
KEY_V4_BYTES: Final = KEY_V4.size
KEY_V6_BYTES: Final = KEY_V6.size
FAMILY_V4: Final = 4
FAMILY_V6: Final = 6

PROTOCOL_ICMP: Final = 1
PROTOCOL_TCP: Final = 6
PROTOCOL_UDP: Final = 17
PROTOCOL_ICMPV6: Final = 58
PROTOCOL_SCTP: Final = 132
PROTOCOLS: Final[dict[str, int]] = {
    "icmp": PROTOCOL_ICMP,
    "tcp": PROTOCOL_TCP,
    "udp": PROTOCOL_UDP,
    "dccp": 33,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "icmpv6": PROTOCOL_ICMPV6,
    "sctp": PROTOCOL_SCTP,
    "udplite": 136,
}
"""Names of protocol numbers (IANA's registry, in lower case) that text may use."""
PROTOCOL_NAMES: Final[dict[int, str]] = {number: name for name, number in PROTOCOLS.items()}

ADDRESS_BYTES: Final = (4, 16)


class FlowTuple(NamedTuple):
    """One direction of a flow. Addresses are packed: 4 or 16 bytes, both alike. A mapped address (::ffff:1.2.3.4) is
    IPv6."""

    zone: int
    protocol: int
    source: bytes
    source_port: int
    destination: bytes
    destination_port: int

    @classmethod
    def from_text(cls, protocol: str | int, source: str, destination: str, zone: int = 0) -> FlowTuple:
        """From `tcp`, `192.0.2.1:1234`, `[2001:db8::1]:443` and the like. Raises FlowError."""
        source_address, source_port = parse_endpoint(source, "source")
        destination_address, destination_port = parse_endpoint(destination, "destination")
        made = cls(zone, parse_protocol(protocol), source_address, source_port, destination_address, destination_port)
        made.check()
        return made

    def check(self, field: str = "") -> None:
        """Raise FlowError, its field prefixed with `field`, unless this is a tuple that has a key."""
        prefix = f"{field}." if field else ""
        check_range(f"{prefix}zone", self.zone, 0xFFFF)
        check_range(f"{prefix}protocol", self.protocol, 0xFF)
        if len(self.source) not in ADDRESS_BYTES:
            raise FlowError(f"{prefix}source.address", f"{len(self.source)} bytes; an address has 4 or 16")
        if len(self.destination) != len(self.source):
            raise FlowError(
                f"{prefix}destination.address",
                f"{len(self.destination)} bytes; the source address has {len(self.source)}",
            )
        check_range(f"{prefix}source.port", self.source_port, 0xFFFF)
        check_range(f"{prefix}destination.port", self.destination_port, 0xFFFF)
        if self.protocol in (PROTOCOL_ICMP, PROTOCOL_ICMPV6) and self.source_port != self.destination_port:
            raise FlowError(
                f"{prefix}destination.port", "for ICMP both ports hold the identifier, so they are the same"
            )

    @property
    def reversed(self) -> bool:
        """Whether the source is the second endpoint of the key."""
        return (self.source, self.source_port) > (self.destination, self.destination_port)

    def turned(self) -> FlowTuple:
        """The other direction."""
        return FlowTuple(
            self.zone, self.protocol, self.destination, self.destination_port, self.source, self.source_port
        )

    def key(self) -> bytes:
        """The canonical key; the same for both directions. The tuple must be valid (`check`)."""
        layout, family = (KEY_V4, FAMILY_V4) if len(self.source) == 4 else (KEY_V6, FAMILY_V6)
        zone, protocol, source, source_port, destination, destination_port = self
        if (source, source_port) > (destination, destination_port):
            return layout.pack(zone, family, protocol, destination, source, destination_port, source_port)
        return layout.pack(zone, family, protocol, source, destination, source_port, destination_port)

    def __str__(self) -> str:
        protocol = PROTOCOL_NAMES.get(self.protocol, str(self.protocol))
        source = format_endpoint(self.source, self.source_port)
        destination = format_endpoint(self.destination, self.destination_port)
        return f"{protocol} {source} > {destination}" + (f" zone {self.zone}" if self.zone else "")


def unpack_key(key: bytes, *, reverse: bool = False) -> FlowTuple:
    """The tuple of a key; `reverse` is the record's flag REVERSED. Raises FlowError when the bytes are not a canonical
    key."""
    check_key(key)
    layout = KEY_V4 if len(key) == KEY_V4_BYTES else KEY_V6
    zone, _, protocol, first, second, first_port, second_port = layout.unpack(key)
    if reverse:
        return FlowTuple(zone, protocol, second, second_port, first, first_port)
    return FlowTuple(zone, protocol, first, first_port, second, second_port)


def check_key(key: bytes) -> None:
    """Raise FlowError unless `key` is canonical: length, family, order of the endpoints, equal ports for ICMP."""
    if len(key) == KEY_V4_BYTES:
        layout, expected = KEY_V4, FAMILY_V4
    elif len(key) == KEY_V6_BYTES:
        layout, expected = KEY_V6, FAMILY_V6
    else:
        raise FlowError("key", f"{len(key)} bytes; a key has {KEY_V4_BYTES} (IPv4) or {KEY_V6_BYTES} (IPv6)")
    _, family, protocol, first, second, first_port, second_port = layout.unpack(key)
    if family != expected:
        raise FlowError("key", f"family {family}; a key of {len(key)} bytes has family {expected}")
    if (first, first_port) > (second, second_port):
        raise FlowError("key", "the endpoints are not in canonical order (address bytes, then port)")
    if protocol in (PROTOCOL_ICMP, PROTOCOL_ICMPV6) and first_port != second_port:
        raise FlowError("key", "for ICMP both ports hold the identifier, so they are the same")


def check_range(field: str, number: int, most: int) -> None:
    """Raise FlowError unless 0 <= number <= most."""
    if not 0 <= number <= most:
        raise FlowError(field, f"{number} is not in 0 to {most}")


def parse_address(text: str, field: str) -> bytes:
    """Packed bytes of an IP address without a scope. Raises FlowError."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        raise FlowError(field, f"{text!r} is not an IP address") from error
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        raise FlowError(field, f"{text!r} has a scope, which a flow's address has not")
    return address.packed


def parse_endpoint(text: str, field: str) -> tuple[bytes, int]:
    """`192.0.2.1:80` or `[2001:db8::1]:80`; without a port it is 0. Raises FlowError."""
    host, port = text, ""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise FlowError(field, f"{text!r} is not [address]:port")
        port = rest[1:]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    address = parse_address(host, field)
    if not port and not text.endswith(":"):
        return address, 0
    if not (port.isascii() and port.isdigit()) or int(port[:6]) > 0xFFFF:
        raise FlowError(field, f"port {port!r} is not in 0 to 65535")
    return address, int(port)


def parse_protocol(protocol: str | int, field: str = "protocol") -> int:
    """A number, its text, or a name of PROTOCOLS. Raises FlowError."""
    if isinstance(protocol, str):
        lower = protocol.lower()
        if lower in PROTOCOLS:
            return PROTOCOLS[lower]
        if not (lower.isascii() and lower.isdigit()) or len(lower) > 3:
            raise FlowError(field, f"{protocol!r} is neither a number nor one of {', '.join(PROTOCOLS)}")
        protocol = int(lower)
    check_range(field, protocol, 0xFF)
    return protocol


def format_address(address: bytes) -> str:
    """Text of 4 or 16 packed bytes."""
    return str(ipaddress.ip_address(address))


def format_endpoint(address: bytes, port: int) -> str:
    """`192.0.2.1:80` or `[2001:db8::1]:80`."""
    text = format_address(address)
    return f"[{text}]:{port}" if len(address) == 16 else f"{text}:{port}"
