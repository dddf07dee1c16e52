"""The framing of a snapshot's content: sections, each with a checksum of its own.

    "RSTATE" | u16 version = 2 | section…     section = u8 tag | u32 length | payload | u32 CRC-32 of tag, length and
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
VERSION: Final = 2
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
    _check_start(reader.take(_START.size, "the header"))
    number = 0
    while not reader.at_end():
        where = f"section {number}"
        header = reader.take(_HEADER.size, where)
        tag, length = header[0], _section_length(header, where)
        payload = reader.take(length, where)
        (crc,) = _CRC.unpack(reader.take(_CRC.size, where))
        if crc != zlib.crc32(payload, zlib.crc32(header)):
            raise SnapshotError(f"snapshot: {where} (tag {tag}, {length} bytes) is damaged: its checksum is wrong")
        yield tag, payload
        number += 1


class FrameCheck:
    """The check of `unframe` for content that is handed in piece by piece and not kept, however long its sections are.

    Raises SnapshotError from `feed` or `end`. What is in the sections is not looked at.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._begun = False
        self._left = 0
        """Bytes of the payload under way that are still to come."""
        self._crc: int | None = None
        """Of the section under way; None between two of them."""
        self._sections = 0

    def feed(self, data: bytes) -> None:
        data, at = self._buffer + data, 0
        while True:
            if self._left:
                taken = min(self._left, len(data) - at)
                self._crc = zlib.crc32(memoryview(data)[at : at + taken], self._crc or 0)
                at, self._left = at + taken, self._left - taken
            needed = _START if not self._begun else _HEADER if self._crc is None else _CRC
            if self._left or len(data) - at < needed.size:
                break
            self._take(data[at : at + needed.size])
            at += needed.size
        self._buffer = data[at:]

    def _take(self, part: bytes) -> None:
        where = f"section {self._sections}"
        if not self._begun:
            _check_start(part)
            self._begun = True
        elif self._crc is None:
            self._left = _section_length(part, where)
            self._crc = zlib.crc32(part)
        else:
            if self._crc != _CRC.unpack(part)[0]:
                raise SnapshotError(f"snapshot: {where} is damaged: its checksum is wrong")
            self._crc = None
            self._sections += 1

    def end(self) -> None:
        if not self._begun or self._buffer or self._crc is not None or not self._sections:
            raise SnapshotError(f"snapshot: ends within section {self._sections}")


def _check_start(start: bytes) -> None:
    magic, version = _START.unpack(start)
    if magic != MAGIC:
        raise SnapshotError(f"snapshot: begins with {magic!r}, {MAGIC!r} is expected")
    if version != VERSION:
        raise SnapshotError(f"snapshot: version {version}; this software reads version {VERSION}")


def _section_length(header: bytes, where: str) -> int:
    length: int = _HEADER.unpack(header)[1]
    if length > limits.STATE_SECTION_BYTES_MAX:
        raise SnapshotError(f"snapshot: {where} is damaged: its length says {length} bytes")
    return length


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
