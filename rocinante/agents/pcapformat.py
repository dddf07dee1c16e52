"""The framing of pcap and pcapng files, without I/O: bytes in, frames out, as far as they have come.

    reader = CaptureReader()
    for frame in reader.feed(data): ...
    reader.end()    # raises FormatError where the file ends in the middle of something

dpkt's own readers want a file that is complete, take a damaged one for its end, and know one interface a pcapng file.
So only dpkt's header classes are used, and every length is checked before it is believed.
pcap: draft-ietf-opsawg-pcap; pcapng: draft-ietf-opsawg-pcapng (sections in the comments).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import dpkt
from dpkt import pcap, pcapng

PACKET_BYTES_MAX: Final = 262_144
"""libpcap's MAXIMUM_SNAPLEN."""
BLOCK_BYTES_MAX: Final = 16 * 1024 * 1024
"""libpcap's limit of a pcapng block."""

_FILE_HEADER_BYTES: Final = 24
_BLOCK_OVERHEAD_BYTES: Final = 12
"""Type and length twice (section 3.1)."""
_SECTION: Final = pcapng.PCAPNG_BT_SHB.to_bytes(4, "big")
_ORDERS: Final = {struct.pack(order + "I", pcapng.BYTE_ORDER_MAGIC): order for order in "<>"}
_MICROSECONDS: Final = 1_000_000
_NANOSECONDS: Final = 1_000_000_000

# The magic number's bytes → byte order, time units a second, bytes of a packet's header ("modified" pcap has 8 more).
_PCAP_KINDS: Final = {
    struct.pack(order + "I", magic): (order, units, header_bytes)
    for order in "<>"
    for magic, units, header_bytes in (
        (pcap.TCPDUMP_MAGIC, _MICROSECONDS, 16),
        (pcap.TCPDUMP_MAGIC_NANO, _NANOSECONDS, 16),
        (pcap.MODPCAP_MAGIC, _MICROSECONDS, 24),
    )
}


class Frame(NamedTuple):
    time_ms: int
    link_type: int
    wire_bytes: int
    data: bytes


class FormatError(Exception):
    """What is wrong and where: the byte's offset in the file, and the field."""

    def __init__(self, offset: int, problem: str) -> None:
        super().__init__(f"at byte {offset}: {problem}")
        self.offset = offset


class _Interface(NamedTuple):
    link_type: int
    units: int
    """Time stamps a second."""
    offset_s: int


class _Shortage(Exception):
    """So many bytes are needed for the next step; `what` is being read."""

    def __init__(self, need: int, what: str) -> None:
        super().__init__(what)
        self.need = need
        self.what = what


class CaptureReader:
    """One capture, from its first byte on."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0
        """Where the next thing begins, in the buffer …"""
        self._dropped = 0
        """… and how much of the file came before the buffer."""
        self._step: Callable[[], Frame | None] = self._begin
        self._shortage = _Shortage(4, "magic number")
        self._order = "<"
        self._units = _MICROSECONDS
        self._header_bytes = 16
        self._link_type = 0
        self._interfaces: list[_Interface] = []

    def feed(self, data: bytes) -> Iterator[Frame]:
        """All frames that are complete now. Raises FormatError; nothing can be read after it."""
        self._buffer += data
        try:
            while True:
                frame = self._step()
                if frame is not None:
                    yield frame
        except _Shortage as shortage:
            self._shortage = shortage
        finally:
            del self._buffer[: self._at]
            self._dropped += self._at
            self._at = 0

    def end(self) -> None:
        """The file ends here. Raises FormatError when that is in the middle of something."""
        left = len(self._buffer)
        if left or self._step == self._begin:
            raise self._error(
                f"truncated: {self._shortage.what} has {self._shortage.need} bytes, only {left} are there"
            )

    def _error(self, problem: str, ahead: int = 0) -> FormatError:
        return FormatError(self._dropped + self._at + ahead, problem)

    def _need(self, count: int, what: str) -> bytes:
        """The next `count` bytes, which stay; raises _Shortage."""
        if len(self._buffer) - self._at < count:
            raise _Shortage(count, what)
        return bytes(self._buffer[self._at : self._at + count])

    def _begin(self) -> None:
        magic = self._need(4, "magic number")
        if magic == _SECTION:
            self._step = self._block
            return
        if magic not in _PCAP_KINDS:
            raise self._error(f"magic number {magic.hex()}: not a pcap or pcapng file")
        header = self._need(_FILE_HEADER_BYTES, "file header")
        self._order, self._units, self._header_bytes = _PCAP_KINDS[magic]
        kind = pcap.LEFileHdr if self._order == "<" else pcap.FileHdr
        parsed = kind(header)
        if parsed.v_major != pcap.PCAP_VERSION_MAJOR:
            raise self._error(f"version {parsed.v_major}.{parsed.v_minor}: only 2.x is known", 4)
        # The upper bits tell of a frame check sequence (pcap, section 4): it does not matter here.
        self._link_type = parsed.linktype & 0xFFFF
        self._at += _FILE_HEADER_BYTES
        self._step = self._pcap_packet

    def _pcap_packet(self) -> Frame:
        header = self._need(self._header_bytes, "packet header")
        seconds, fraction, captured, wire = struct.unpack_from(self._order + "IIII", header)
        if captured > PACKET_BYTES_MAX:
            raise self._error(f"captured length {captured}: at most {PACKET_BYTES_MAX}", 8)
        data = self._need(self._header_bytes + captured, "packet")[self._header_bytes :]
        self._at += self._header_bytes + captured
        return Frame(seconds * 1_000 + fraction * 1_000 // self._units, self._link_type, wire, data)

    def _block(self) -> Frame | None:
        """One pcapng block (section 3.1). Types that are not known are stepped over, as section 3.1 wants."""
        head = self._need(8, "block header")
        if head[:4] == _SECTION:
            order = _ORDERS.get(self._need(12, "section header")[8:12])
            if order is None:
                raise self._error("byte-order magic is wrong", 8)
            self._order = order
        kind, length = struct.unpack(self._order + "II", head)
        if length % 4 or not _BLOCK_OVERHEAD_BYTES <= length <= BLOCK_BYTES_MAX:
            raise self._error(f"block length {length}: a multiple of 4 from 12 to {BLOCK_BYTES_MAX}", 4)
        block = self._need(length, "block")
        if block[-4:] != block[4:8]:
            raise self._error("the block's length at its end differs from that at its beginning", length - 4)
        frame = self._known_block(kind, block)
        self._at += length
        return frame

    def _known_block(self, kind: int, block: bytes) -> Frame | None:
        try:
            match kind:
                case pcapng.PCAPNG_BT_SHB:
                    self._section(block)
                case pcapng.PCAPNG_BT_IDB:
                    self._interfaces.append(self._interface(block))
                case pcapng.PCAPNG_BT_EPB | pcapng.PCAPNG_BT_PB:
                    return self._enhanced_packet(block, "IIIII" if kind == pcapng.PCAPNG_BT_EPB else "HxxIIII")
                case pcapng.PCAPNG_BT_SPB:
                    raise self._error("simple packet blocks have no time: write the file with enhanced packet blocks")
        except (dpkt.Error, struct.error, UnicodeDecodeError) as error:
            raise self._error(f"block of type {kind} cannot be read: {error or type(error).__name__}") from error
        return None

    def _section(self, block: bytes) -> None:
        major, minor = struct.unpack_from(self._order + "HH", block, 12)
        if major != pcapng.PCAPNG_VERSION_MAJOR:
            raise self._error(f"pcapng version {major}.{minor}: only 1.x is known", 12)
        self._interfaces = []

    def _interface(self, block: bytes) -> _Interface:
        """Section 4.2, with the options if_tsresol and if_tsoffset."""
        kind = pcapng.InterfaceDescriptionBlockLE if self._order == "<" else pcapng.InterfaceDescriptionBlock
        parsed = kind(block)
        units, offset_s = _MICROSECONDS, 0
        for option in getattr(parsed, "opts", ()):
            if option.code == pcapng.PCAPNG_OPT_IF_TSRESOL and option.data:
                value = option.data[0]
                units = (2 if value & 0x80 else 10) ** (value & 0x7F)
            elif option.code == pcapng.PCAPNG_OPT_IF_TSOFFSET and len(option.data) == 8:
                (offset_s,) = struct.unpack(self._order + "q", option.data)
        return _Interface(parsed.linktype, units, offset_s)

    def _enhanced_packet(self, block: bytes, layout: str) -> Frame:
        """Section 4.3; the obsolete packet block (appendix A) has a narrower interface number."""
        number, high, low, captured, wire = struct.unpack_from(self._order + layout, block, 8)
        if number >= len(self._interfaces):
            raise self._error(f"interface {number}: the section describes {len(self._interfaces)}", 8)
        if captured > len(block) - 8 - 20 - 4:
            raise self._error(f"captured length {captured}: the block has {len(block) - 32} bytes for it", 20)
        interface = self._interfaces[number]
        time_ms = interface.offset_s * 1_000 + (high << 32 | low) * 1_000 // interface.units
        return Frame(max(time_ms, 0), interface.link_type, wire, block[28 : 28 + captured])
