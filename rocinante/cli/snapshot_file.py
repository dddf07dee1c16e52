"""A saved snapshot: one file that says what it is, and whose content can be checked without a cluster.

    4096 bytes   "ROCINANTE-SNAPSHOT 1\n", a JSON object, spaces, "\n": `head -c 4096 FILE` shows it
    the content  of a snapshot as a node has it: its members, then the state (docs/storage.md)

The JSON has `cluster`, `datacenter`, `index`, `term`, `bytes` and `digest` (BLAKE2b-256, hex) of the content. A file
that is not whole has not got it: it is written last, and the file gets its name after it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, Final

from rocinante.errors import FailedPrecondition
from rocinante.limits import SNAPSHOT_CHUNK_BYTES

__all__ = ["HEADER_BYTES", "SavedSnapshot", "SnapshotWriter", "read_content", "read_header"]

MAGIC: Final = b"ROCINANTE-SNAPSHOT 1\n"
HEADER_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class SavedSnapshot:
    """The header of a saved snapshot."""

    cluster: str
    datacenter: str
    index: int
    term: int
    bytes: int
    digest: str


class SnapshotWriter:
    """Writes a snapshot beside `path` and gives it its name at the end. Use it as a context manager: without `finish`,
    nothing stays."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._file: BinaryIO = self._temporary.open("xb")
        self._digest = blake2b(digest_size=32)
        self._finished = False
        self.size_bytes = 0
        try:
            self._file.write(bytes(HEADER_BYTES))
        except OSError:
            self._give_up()
            raise

    def __enter__(self) -> SnapshotWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._finished:
            self._give_up()

    def write(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self._digest.update(chunk)
        self.size_bytes += len(chunk)

    def content(self) -> Iterator[bytes]:
        """What was written so far, read back."""
        self._file.flush()
        with self._temporary.open("rb") as source:
            source.seek(HEADER_BYTES)
            while chunk := source.read(SNAPSHOT_CHUNK_BYTES):
                yield chunk

    def finish(self, *, cluster: str, datacenter: str, index: int, term: int) -> SavedSnapshot:
        """Sync it to disk under its name. Raises OSError."""
        saved = SavedSnapshot(cluster, datacenter, index, term, self.size_bytes, self._digest.hexdigest())
        text = MAGIC + json.dumps(asdict(saved), ensure_ascii=True).encode()
        self._file.seek(0)
        self._file.write(text.ljust(HEADER_BYTES - 1) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._temporary.replace(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        self._finished = True
        return saved

    def _give_up(self) -> None:
        try:
            self._file.close()
        except OSError:
            pass  # what could not be flushed is not wanted any more
        self._temporary.unlink(missing_ok=True)


def read_header(path: Path) -> SavedSnapshot:
    """What the file says of itself. Raises FailedPrecondition when it is no saved snapshot, or not whole; OSError."""
    with path.open("rb") as source:
        header = source.read(HEADER_BYTES)
        size = os.fstat(source.fileno()).st_size
    if len(header) < HEADER_BYTES or not header.startswith(MAGIC):
        raise FailedPrecondition(f"{path} is not a snapshot that `rocinante snapshot save` finished")
    try:
        saved = SavedSnapshot(**json.loads(header[len(MAGIC) :]))
        well_formed = all(isinstance(n, int) and n > 0 for n in (saved.index, saved.term, saved.bytes))
        well_formed = well_formed and all(isinstance(t, str) for t in (saved.cluster, saved.datacenter, saved.digest))
    except (ValueError, TypeError):
        well_formed = False
    if not well_formed:
        raise FailedPrecondition(f"{path}: the header is damaged; use another copy")
    if size != HEADER_BYTES + saved.bytes:
        raise FailedPrecondition(f"{path} has {size} bytes, expected {HEADER_BYTES + saved.bytes}; use another copy")
    return saved


def read_content(path: Path, saved: SavedSnapshot) -> Iterator[bytes]:
    """The content in chunks. Raises FailedPrecondition at its end when it does not have its digest; OSError."""
    digest = blake2b(digest_size=32)
    with path.open("rb") as source:
        source.seek(HEADER_BYTES)
        while chunk := source.read(SNAPSHOT_CHUNK_BYTES):
            digest.update(chunk)
            yield chunk
    if digest.hexdigest() != saved.digest:
        raise FailedPrecondition(f"{path}: the content does not have its digest, it is damaged; use another copy")
