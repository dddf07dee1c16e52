"""The high-water mark: how many batches of the log were acknowledged, kept beside LevelDB.

LevelDB drops a torn tail of its write-ahead log in silence, paranoid checks or not: right for bytes that were never
synced, fatal for bytes that were. The log's own records cannot tell the two apart, for they are lost together. So after
each synced batch its number is written here, without a sync of its own: a killed process leaves it in the page cache, a
power loss leaves an older number, and either way every number found here was acknowledged and must be in the log.

    512 bytes per slot:  "ROCIMARK" | u64 sequence | u32 crc of both         big endian, two slots, used in turn

Two slots a sector apart, so that a torn write can only lose the newer number.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Final
from zlib import crc32

from rocinante.storage.records import DamagedError

SLOT_BYTES: Final = 512
_MAGIC: Final = b"ROCIMARK"
_BODY: Final = struct.Struct(">8sQ")
_SLOT: Final = struct.Struct(">8sQI")


class Mark:
    """The open file. Every method may raise OSError."""

    def __init__(self, path: Path, *, create: bool) -> None:
        self._path = path
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if create else 0)
        self._descriptor = os.open(path, flags, 0o600)
        if create:
            # Written and synced once in full: later writes need no new block, so they cannot fail for want of room.
            os.pwrite(self._descriptor, b"\0" * (2 * SLOT_BYTES), 0)
            self.advance(0)
            os.fsync(self._descriptor)

    def advance(self, sequence: int) -> None:
        """The batch `sequence` is durable."""
        body = _BODY.pack(_MAGIC, sequence)
        os.pwrite(self._descriptor, body + struct.pack(">I", crc32(body)), SLOT_BYTES * (sequence & 1))

    def read(self) -> int:
        """The last number that was acknowledged, as far as is known here. Raises DamagedError when neither slot is
        intact, or the file is not as long as it was made."""
        size = os.fstat(self._descriptor).st_size
        if size != 2 * SLOT_BYTES:
            # It was synced in full when it was made: no loss of power makes it shorter.
            raise DamagedError(f"the high-water mark has {size} bytes, not {2 * SLOT_BYTES}")
        found = []
        for slot in range(2):
            try:
                content = os.pread(self._descriptor, _SLOT.size, SLOT_BYTES * slot)
            except OSError as error:
                error.filename = str(self._path)
                raise
            magic, sequence, crc = _SLOT.unpack(content)
            if magic == _MAGIC and crc == crc32(content[: _BODY.size]):
                found.append(sequence)
        if not found:
            raise DamagedError("the high-water mark is damaged")
        return int(max(found))

    def close(self) -> None:
        os.close(self._descriptor)
