"""The framing of a snapshot's content: sections, each with a checksum of its own.

    "RSTATE" | u16 version = 1 | section…     section = u8 tag | u32 length | payload | u32 CRC-32 of tag, length and
    payload

Big endian. The content is a function of the state alone, so that its digest is the state's; how it is cut into chunks
is not seen in it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Final

from rocinante import limits

MAGIC: Final = b"RSTATE"
VERSION: Final = 1
_START: Final = struct.Struct(">6sH")
_HEADER: Final = struct.Struct(">BI")
_CRC: Final = struct.Struct(">I")


class SnapshotError(ValueError):
    """The content of a snapshot is damaged, or of another version."""


def frame(sections: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
    """The content's parts, in order."""
    yield _START.pack(MAGIC, VERSION)
    for tag, payload in sections:
        header = _HEADER.pack(tag, len(payload))
        yield header
        yield payload
        yield _CRC.pack(zlib.crc32(payload, zlib.crc32(header)))


def rechunk(parts: Iterable[bytes], chunk_bytes: int) -> Iterator[bytes]:
    """The same bytes in chunks of exactly this size, the last one shorter."""
    if chunk_bytes <= 0:
        raise ValueError(f"chunk_bytes: {chunk_bytes} is not positive")
    buffer = bytearray()
    for part in parts:
        buffer += part
        if len(buffer) >= chunk_bytes:
            at = 0
            while len(buffer) - at >= chunk_bytes:
                yield bytes(buffer[at : at + chunk_bytes])
                at += chunk_bytes
            del buffer[:at]
    if buffer:
        yield bytes(buffer)


def unframe(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """(tag, payload) of every section, checked. Raises SnapshotError."""
    reader = _Reader(chunks)
    start = reader.take(_START.size, "the header")
    magic, version = _START.unpack(start)
    if magic != MAGIC:
        raise SnapshotError(f"snapshot: begins with {magic!r}, {MAGIC!r} is expected")
    if version != VERSION:
        raise SnapshotError(f"snapshot: version {version}; this software reads version {VERSION}")
    number = 0
    while not reader.at_end():
        where = f"section {number}"
        header = reader.take(_HEADER.size, where)
        tag, length = _HEADER.unpack(header)
        if length > limits.STATE_SECTION_BYTES_MAX:
            raise SnapshotError(f"snapshot: {where} is damaged: its length says {length} bytes")
        payload = reader.take(length, where)
        (crc,) = _CRC.unpack(reader.take(_CRC.size, where))
        if crc != zlib.crc32(payload, zlib.crc32(header)):
            raise SnapshotError(f"snapshot: {where} (tag {tag}, {length} bytes) is damaged: its checksum is wrong")
        yield tag, payload
        number += 1


class _Reader:
    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._buffer = bytearray()
        self._at = 0

    def at_end(self) -> bool:
        return not self._fill(1)

    def take(self, count: int, what: str) -> bytes:
        if not self._fill(count):
            raise SnapshotError(f"snapshot: ends within {what}")
        taken = bytes(self._buffer[self._at : self._at + count])
        self._at += count
        return taken

    def _fill(self, count: int) -> bool:
        while len(self._buffer) - self._at < count:
            chunk = next(self._chunks, None)
            if chunk is None:
                return False
            del self._buffer[: self._at]
            self._at = 0
            self._buffer += chunk
        return True
