"""A saved snapshot: one file that says what it is, and whose content can be checked without a cluster.

    4096 bytes   "ROCINANTE-SNAPSHOT 1\n", a JSON object, spaces, "\n": `head -c 4096 FILE` shows it
    the content  of a snapshot as a node has it: its members, then the state (docs/storage.md)

The JSON has `cluster`, `datacenter`, `lineage`, `index`, `term`, `taken_ms` (unix time), `bytes` and `digest`
(BLAKE2b-256, hex) of the content. A file that is not whole has not got it: it is written last, and the file gets its
name after it. Until then it has no name at all where the file system can do that (O_TMPFILE), so that nothing stays
of a save that was killed.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, Final

from rocinante.errors import FailedPrecondition
from rocinante.limits import SNAPSHOT_CHUNK_BYTES

__all__ = ["HEADER_BYTES", "SavedSnapshot", "SnapshotWriter", "encode_header", "read_content", "read_header"]

MAGIC: Final = b"ROCINANTE-SNAPSHOT 1\n"
HEADER_BYTES: Final = 4096
_MODE: Final = 0o600
"""All of the state is in it."""
_NO_UNNAMED: Final = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL})
_OPEN_FILES: Final = "/proc/self/fd"


@dataclass(frozen=True, slots=True)
class SavedSnapshot:
    """The header of a saved snapshot."""

    cluster: str
    datacenter: str
    index: int
    term: int
    bytes: int
    digest: str
    lineage: str = ""
    """Of the cluster that it was taken from: the word that it was restored under; "": it began empty."""
    taken_ms: int = 0
    """By the clock of who wrote it; 0: not known."""


def encode_header(saved: SavedSnapshot) -> bytes:
    """The first HEADER_BYTES of the file."""
    text = MAGIC + json.dumps(asdict(saved), ensure_ascii=True).encode()
    return text.ljust(HEADER_BYTES - 1) + b"\n"


class SnapshotWriter:
    """Writes a snapshot beside `path` and gives it its name at the end. Use it as a context manager: without `finish`,
    nothing stays."""

    def __init__(self, path: Path, *, replace: bool = False) -> None:
        """Raises OSError; FailedPrecondition where the file is there and not to be replaced."""
        if not replace and os.path.lexists(path):
            raise _is_there(path)
        self._path, self._replace = path, replace
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._named = False
        self._file: BinaryIO = self._open()
        self._digest = blake2b(digest_size=32)
        self._finished = False
        self.size_bytes = 0
        try:
            self._file.write(bytes(HEADER_BYTES))
        except OSError:
            self._give_up()
            raise

    def _open(self) -> BinaryIO:
        if Path(_OPEN_FILES).is_dir():
            try:
                return os.fdopen(os.open(self._path.parent, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, _MODE), "w+b")
            except OSError as error:
                if error.errno not in _NO_UNNAMED:
                    raise
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
        file = os.fdopen(os.open(self._temporary, flags, _MODE), "w+b")
        self._named = True
        return file

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
        at = HEADER_BYTES
        while chunk := os.pread(self._file.fileno(), SNAPSHOT_CHUNK_BYTES, at):
            at += len(chunk)
            yield chunk

    def finish(
        self, *, cluster: str, datacenter: str, index: int, term: int, lineage: str = "", taken_ms: int = 0
    ) -> SavedSnapshot:
        """Sync it to disk under its name. Raises OSError; FailedPrecondition where the file came to be meanwhile."""
        digest = self._digest.hexdigest()
        saved = SavedSnapshot(cluster, datacenter, index, term, self.size_bytes, digest, lineage, taken_ms)
        self._file.seek(0)
        self._file.write(encode_header(saved))
        self._file.flush()
        os.fsync(self._file.fileno())
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._give_name(directory)
            os.fsync(directory)
        finally:
            os.close(directory)
        self._file.close()
        self._finished = True
        return saved

    def _give_name(self, directory: int) -> None:
        """At once: either the whole file is there under its name, or what was there before."""
        try:
            if not self._named:
                target = self._temporary.name if self._replace else self._path.name
                # With a directory's descriptor Python calls linkat, which follows the link in /proc to the open file.
                os.link(f"{_OPEN_FILES}/{self._file.fileno()}", target, dst_dir_fd=directory, follow_symlinks=True)
                self._named = self._replace
            elif not self._replace:
                os.link(self._temporary, self._path)
        except FileExistsError:
            raise _is_there(self._path) from None
        if self._replace:
            self._temporary.replace(self._path)
        else:
            self._temporary.unlink(missing_ok=True)

    def _give_up(self) -> None:
        try:
            self._file.close()
        except OSError:
            pass  # what could not be flushed is not wanted any more
        if self._named:
            self._temporary.unlink(missing_ok=True)


def _is_there(path: Path) -> FailedPrecondition:
    return FailedPrecondition(f"{path} is there already: choose another name, or say --force")


def read_header(path: Path) -> SavedSnapshot:
    """What the file says of itself. Raises FailedPrecondition when it is no saved snapshot, or not whole; OSError."""
    with path.open("rb") as source:
        header = source.read(HEADER_BYTES)
        size = os.fstat(source.fileno()).st_size
    if len(header) < HEADER_BYTES or not header.startswith(MAGIC):
        raise FailedPrecondition(f"{path} is not a snapshot that `rocinante snapshot save` finished")
    try:
        saved = SavedSnapshot(**json.loads(header[len(MAGIC) :]))
        numbers, texts = (saved.index, saved.term, saved.bytes), (saved.cluster, saved.datacenter, saved.lineage)
        well_formed = all(isinstance(n, int) and n > 0 for n in numbers) and isinstance(saved.taken_ms, int)
        well_formed = well_formed and all(isinstance(text, str) for text in (*texts, saved.digest))
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
