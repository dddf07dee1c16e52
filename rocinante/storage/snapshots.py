"""Snapshots as files: written aside, synced, renamed; checked by digest whenever they are read.

    <20-digit index>-<20-digit term>.snap =
        "ROCISNAP" | u32 version | u32 meta length | meta (records.py) | u64 content length | u32 crc of all before
        content
        32 bytes BLAKE2b-256 of the content

Big endian. The lengths are filled in at the end, before the sync, so that a file that was renamed is whole. Each
temporary file begins with a dot and is removed at the next open.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, Final
from zlib import crc32

from rocinante import limits
from rocinante.errors import StorageError
from rocinante.raft.types import SnapshotMeta
from rocinante.storage.base import SnapshotFile
from rocinante.storage.records import DamagedError, decode_meta, encode_meta

VERSION: Final = 1
DIGEST_BYTES: Final = 32
_MAGIC: Final = b"ROCISNAP"
_START: Final = struct.Struct(">8sII")
_END: Final = struct.Struct(">QI")
_LENGTH: Final = struct.Struct(">Q")
_NAME: Final = re.compile(r"(\d{20})-(\d{20})\.snap")
_TEMPORARY: Final = ".writing-"


def sync_directory(directory: Path) -> None:
    """Make the names in it durable (a rename is not, before). Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _header(meta: bytes, content_bytes: int) -> bytes:
    head = _START.pack(_MAGIC, VERSION, len(meta)) + meta + _LENGTH.pack(content_bytes)
    return head + struct.pack(">I", crc32(head))


def _read_header(file: BinaryIO, path: Path) -> SnapshotFile:
    """The file's metadata, with the reading position at the content. Raises DamagedError, OSError."""
    start = file.read(_START.size)
    if len(start) < _START.size:
        raise DamagedError(f"{path.name} is cut short in its header")
    magic, version, meta_bytes = _START.unpack(start)
    if magic != _MAGIC:
        raise DamagedError(f"{path.name} is not a snapshot")
    if version > VERSION:
        raise DamagedError(f"{path.name} is of format {version}, this software knows {VERSION}")
    if meta_bytes > limits.SNAPSHOT_HEADER_BYTES_MAX:
        raise DamagedError(f"{path.name} has a damaged header")
    rest = file.read(meta_bytes + _END.size)
    if len(rest) < meta_bytes + _END.size:
        raise DamagedError(f"{path.name} is cut short in its header")
    content_bytes, crc = _END.unpack_from(rest, meta_bytes)
    if crc32(start + rest[: meta_bytes + _LENGTH.size]) != crc:
        raise DamagedError(f"{path.name} has a damaged header")
    expected = _START.size + len(rest) + content_bytes + DIGEST_BYTES
    actual = os.fstat(file.fileno()).st_size
    if actual != expected:
        raise DamagedError(f"{path.name} has {actual} bytes, expected {expected}")
    position = file.tell()
    file.seek(-DIGEST_BYTES, os.SEEK_END)
    digest = file.read(DIGEST_BYTES)
    file.seek(position)
    return SnapshotFile(decode_meta(rest[:meta_bytes]), content_bytes, digest)


class FileSink:
    """A snapshot being written. One thread; ends with `finish` or `abort`."""

    def __init__(self, directory: Path, meta: SnapshotMeta) -> None:
        self._directory = directory
        self._meta = meta
        self._encoded = encode_meta(meta)
        self._digest = blake2b(digest_size=DIGEST_BYTES)
        self._content_bytes = 0
        self._unsynced_bytes = 0
        self._temporary = directory / f"{_TEMPORARY}{os.urandom(8).hex()}"
        try:
            self._file: BinaryIO | None = self._temporary.open("xb")
            self._file.write(_header(self._encoded, 0))
        except OSError as error:
            raise StorageError(f"cannot write the snapshot {self._temporary}: {error.strerror}") from error

    def write(self, chunk: bytes) -> None:
        """Append to the content. Raises StorageError.

        Little of it is ever unsynced: a sync of the log waits for what the device has to do, and with ext4's ordered
        data also for what any file has grown by. One sync at the end of a large snapshot held up the log for 0.3 s.
        """
        if self._file is None:
            raise StorageError("the snapshot is already finished or given up")
        try:
            self._file.write(chunk)
            self._unsynced_bytes += len(chunk)
            if self._unsynced_bytes >= limits.SNAPSHOT_SYNC_BYTES:
                self._file.flush()
                os.fdatasync(self._file.fileno())
                self._unsynced_bytes = 0
        except OSError as error:
            self.abort()
            raise StorageError(f"cannot write the snapshot {self._temporary}: {error.strerror}") from error
        self._digest.update(chunk)
        self._content_bytes += len(chunk)

    def finish(self, expected_digest: bytes | None = None) -> SnapshotFile:
        """Sync, check, rename, sync the directory. Raises StorageError; ValueError when the digest is another."""
        if self._file is None:
            raise StorageError("the snapshot is already finished or given up")
        digest = self._digest.digest()
        if expected_digest is not None and digest != expected_digest:
            self.abort()
            raise ValueError(
                f"snapshot of index {self._meta.index}: the content's digest is {digest.hex()}, "
                f"expected {expected_digest.hex()}"
            )
        file = self._file
        try:
            file.write(digest)
            file.seek(0)
            file.write(_header(self._encoded, self._content_bytes))
            file.flush()
            os.fsync(file.fileno())
            file.close()
            self._temporary.rename(self._directory / file_name(self._meta))
            sync_directory(self._directory)
        except OSError as error:
            self.abort()
            raise StorageError(f"cannot write the snapshot {self._temporary}: {error.strerror}") from error
        self._file = None
        return SnapshotFile(self._meta, self._content_bytes, digest)

    def abort(self) -> None:
        """Leave nothing behind. No effect after `finish`."""
        file, self._file = self._file, None
        if file is None:
            return
        try:
            file.close()
        except OSError:
            pass  # What could not be flushed is not wanted any more.
        try:
            self._temporary.unlink(missing_ok=True)
        except OSError:
            pass  # Removed at the next open.


def file_name(meta: SnapshotMeta) -> str:
    return f"{meta.index:020d}-{meta.term:020d}.snap"


class FileSnapshots:
    """The snapshots of one directory. Any thread may read; `create`, `prune` are the caller's to serialize."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.recorded_index = 0
        """The snapshot that the log begins from; the log's thread sets it."""

    def remove_leftovers(self) -> None:
        """Delete what a crash left half-written. Raises OSError."""
        for path in self._directory.iterdir():
            if path.name.startswith(_TEMPORARY):
                path.unlink()

    def create(self, meta: SnapshotMeta) -> FileSink:
        """Raises StorageError."""
        return FileSink(self._directory, meta)

    def _paths(self) -> list[tuple[int, int, Path]]:
        """(index, term, path), oldest first, by the names alone."""
        named = ((_NAME.fullmatch(path.name), path) for path in self._directory.iterdir())
        return sorted((int(match[1]), int(match[2]), path) for match, path in named if match)

    def list(self) -> Sequence[SnapshotFile]:
        """Those whose header is intact, oldest first. Raises StorageError."""
        found = []
        try:
            for _, _, path in self._paths():
                try:
                    with path.open("rb") as file:
                        found.append(_read_header(file, path))
                except (DamagedError, FileNotFoundError):
                    continue  # A damaged one is as good as none; a pruned one is gone.
        except OSError as error:
            raise StorageError(f"cannot read {self._directory}: {error.strerror}") from error
        return found

    def problem(self, meta: SnapshotMeta) -> str | None:
        """Why the snapshot of that index and term cannot be used, after reading all of it; None when it is whole."""
        path = self._directory / file_name(meta)
        try:
            with path.open("rb") as file:
                snapshot = _read_header(file, path)
            for _ in self.read(snapshot, limits.SNAPSHOT_READ_BYTES):
                pass
        except OSError as error:
            return f"{path.name}: {error.strerror}"
        except (DamagedError, StorageError) as error:
            return str(error)
        return None

    def read(self, snapshot: SnapshotFile, chunk_bytes: int) -> Iterator[bytes]:
        """The content in chunks of `chunk_bytes` (the last one shorter). Raises StorageError when it is not intact."""
        path = self._directory / file_name(snapshot.meta)
        digest = blake2b(digest_size=DIGEST_BYTES)
        try:
            with path.open("rb") as file:
                left = _read_header(file, path).size_bytes
                while left and (chunk := file.read(min(chunk_bytes, left))):
                    left -= len(chunk)
                    digest.update(chunk)
                    yield chunk
                stored = file.read(DIGEST_BYTES)
        except OSError as error:
            raise StorageError(f"cannot read the snapshot {path}: {error.strerror}") from error
        except DamagedError as error:
            raise StorageError(f"damaged snapshot in {self._directory}: {error}") from error
        if left or not digest.digest() == stored == snapshot.digest:
            raise StorageError(f"damaged snapshot: the content of {path} does not have its digest")

    def prune(self, keep: int) -> None:
        """Delete those that the log no longer begins from, but for the newest `keep` of all. Raises StorageError.

        The one that the log has recorded, and those that it is about to, stay: a restart would not find its beginning.
        """
        paths = self._paths()
        surplus = paths[: max(len(paths) - keep, 0)]
        self._remove([path for index, _, path in surplus if index < self.recorded_index])

    def remove_newer(self, index: int) -> None:
        """Delete snapshots that the log does not know of: a crash came between the file and the log. Raises
        StorageError."""
        self._remove([path for at, _, path in self._paths() if at > index])

    def _remove(self, paths: Sequence[Path]) -> None:
        if not paths:
            return
        try:
            for path in paths:
                path.unlink(missing_ok=True)
            sync_directory(self._directory)
        except OSError as error:
            raise StorageError(f"cannot delete in {self._directory}: {error.strerror}") from error

    def size_bytes(self) -> int:
        """Of all files together."""
        return directory_bytes(self._directory)


def directory_bytes(directory: Path) -> int:
    """The sizes of the files in a directory whose files come and go. 0 where it cannot be read."""
    total = 0
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                try:
                    total += entry.stat(follow_symlinks=False).st_size
                except FileNotFoundError:
                    continue
    except OSError:
        return total
    return total
