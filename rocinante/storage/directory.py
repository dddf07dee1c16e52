"""One node's data directory: whose it is, that only one process uses it, and how it comes into being.

    LOCK            held by flock for the life of the process; its content is the holder's pid, for the message
    identity.json   format, cluster (id, name, lineage), node, datacenter; `complete` once the first open has succeeded
    log/            LevelDB (leveldb.py)
    mark            how much of the log was acknowledged (mark.py)
    snapshots/      files (snapshots.py)

The directory is claimed by an `identity.json` that is not yet complete before anything else is made in it, and becomes
complete by a rename after all of it is synced. So a start that was cut off is told from a damaged directory: the former
never acknowledged anything and is made again; the latter is never touched.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from rocinante.errors import DataDirectoryError, DirectoryUnavailableError, StorageError
from rocinante.identity import format_id, parse_id
from rocinante.storage.base import Identity
from rocinante.storage.snapshots import sync_directory
from rocinante.version import DATA_FORMAT, DATA_FORMAT_OLDEST

LOCK: Final = "LOCK"
IDENTITY: Final = "identity.json"
LOG: Final = "log"
MARK: Final = "mark"
SNAPSHOTS: Final = "snapshots"
_IGNORED: Final = {LOCK, "lost+found"}
_UNFINISHED: Final = f".{IDENTITY}"
"""Of a first start that was cut off before it had claimed the directory."""
_MODE: Final = 0o700
_IDENTITY_BYTES_MAX: Final = 64 * 1024
_READ_BYTES: Final = 1024 * 1024

ADVICE: Final = (
    "a damaged node must not vote: remove it from the cluster, empty the directory, "
    "and let it join again as a new member"
)


_NOT_NOW: Final = frozenset(
    {
        errno.EACCES,
        errno.EAGAIN,
        errno.EBUSY,
        errno.EDQUOT,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ENOSPC,
        errno.ENOTDIR,
        errno.EPERM,
        errno.EROFS,
    }
)
"""Failures that say nothing about the data: once their cause is gone, the directory is as good as before."""
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class DataDirectory:
    """The open, locked directory. `fresh` says that this open made it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = path / LOG
        self.mark = path / MARK
        self.snapshots = path / SNAPSHOTS
        self.fresh = False
        self._made: list[Path] = []
        self._lock: int | None = None

    @classmethod
    def open(cls, path: Path, identity: Identity) -> DataDirectory:
        """Make or find the directory, lock it, check whose it is. Raises DataDirectoryError; then it is as it was."""
        directory = cls(path.absolute())
        try:
            directory._make_path()
            directory._take_lock()
            directory._check(identity)
        except OSError as error:
            directory._undo()
            raise unusable(path, error) from error
        except DataDirectoryError:
            directory._undo()
            raise
        return directory

    def _make_path(self) -> None:
        missing = [self.path]
        while not missing[-1].parent.exists():
            missing.append(missing[-1].parent)
        for path in reversed(missing):
            try:
                path.mkdir(_MODE)
            except FileExistsError:
                continue
            self._made.append(path)
            sync_directory(path.parent)

    def _take_lock(self) -> None:
        path = self.path / LOCK
        existed = path.exists()
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(lock, 32).decode(errors="replace").strip()
            os.close(lock)
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise DirectoryUnavailableError(
                f"the data directory {self.path} is in use by another process{f' ({holder})' if holder else ''}"
            ) from None
        self._lock = lock
        if not os.path.samestat(os.fstat(lock), path.stat()):
            # Its maker gave up and unlinked it between our open and our flock.
            raise DirectoryUnavailableError(f"the data directory {self.path} was being removed by another process")
        if not existed:
            self._made.append(path)
        os.ftruncate(lock, 0)
        os.write(lock, f"pid {os.getpid()}\n".encode())

    def _check(self, identity: Identity) -> None:
        """Whose the directory is; a new one is claimed, a half-made one is emptied."""
        found = self._read_identity()
        if found is None:
            strangers = sorted({entry.name for entry in self.path.iterdir()} - _IGNORED - {_UNFINISHED})
            if strangers:
                raise DataDirectoryError(
                    f"{self.path} is not empty and not a data directory of Rocinante (it holds {strangers[0]!r} but no "
                    f"{IDENTITY}): choose an empty directory. If it was this node's, {ADVICE}"
                )
        else:
            _compare(self.path, found, identity)
            if found["complete"]:
                self._need_parts()
                return
            self._remove_contents()
        self._write_identity(identity, complete=False)
        self.fresh = True
        for path in (self.log, self.snapshots):
            path.mkdir(_MODE)

    def _need_parts(self) -> None:
        for path in (self.log, self.mark, self.snapshots):
            if not path.exists():
                raise DataDirectoryError(f"damaged data directory: {path} is missing; {ADVICE}")

    def _read_identity(self) -> dict[str, Any] | None:
        path = self.path / IDENTITY
        try:
            with path.open("rb") as file:
                content = file.read(_IDENTITY_BYTES_MAX)
        except FileNotFoundError:
            return None
        try:
            found = json.loads(content)
            return {
                "format": int(found["format"]),
                "identity": _identity_of(found),
                "complete": found["complete"] is True,
            }
        except (ValueError, KeyError, TypeError):
            raise DataDirectoryError(f"damaged data directory: {path} cannot be understood; {ADVICE}") from None

    def _write_identity(self, identity: Identity, *, complete: bool) -> None:
        content = {
            "format": DATA_FORMAT,
            "cluster": format_id(identity.cluster_id),
            "node": format_id(identity.node_id),
            "datacenter": identity.datacenter,
            "name": identity.cluster,
            "lineage": identity.lineage,
            "complete": complete,
        }
        temporary = self.path / _UNFINISHED
        try:
            with temporary.open("w") as file:
                json.dump(content, file, indent=2)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(self.path / IDENTITY)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        sync_directory(self.path)

    def complete(self, identity: Identity) -> None:
        """Everything is made and synced: from now on the directory is never removed. Raises OSError."""
        sync_directory(self.path)
        self._write_identity(identity, complete=True)

    def _remove_contents(self) -> None:
        """All but the lock. The directory was empty when this node claimed it: whatever is in it now, the node made."""
        for path in self.path.iterdir():
            if path.name in _IGNORED:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def remove_made(self) -> None:
        """Remove what this open made, if it made the directory's content; then let go. Errors are ignored: it is a
        cleanup."""
        if self.fresh:
            try:
                self._remove_contents()
            except OSError:
                pass
            self._undo()
        self.close()

    def _undo(self) -> None:
        """Remove the lock file and the directories that this open made, as far as they are empty."""
        for path in reversed(self._made):
            try:
                if path.is_dir():
                    path.rmdir()
                else:
                    path.unlink(missing_ok=True)
            except OSError:
                break
        self._made = []
        self.close()

    def close(self) -> None:
        """Let another process have it."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def free_bytes(self) -> int:
        """Room that this process may still fill. Raises OSError."""
        state = os.statvfs(self.path)
        return state.f_bavail * state.f_frsize


def _identity_of(found: Mapping[str, Any]) -> Identity:
    """Raises ValueError, KeyError, TypeError."""
    return Identity(
        parse_id(found["cluster"]),
        parse_id(found["node"]),
        str(found["datacenter"]),
        str(found.get("name", "")),
        str(found.get("lineage", "")),
    )


def found_identity(path: Path) -> Identity | None:
    """Whose the directory says it is; None where nothing was ever completed in it. Raises DataDirectoryError."""
    try:
        found = DataDirectory(path)._read_identity()
    except OSError as error:
        raise unusable(path, error) from error
    return found["identity"] if found is not None and found["complete"] else None


def check_unused(path: Path) -> None:
    """Raises DirectoryUnavailableError while a process has the directory open; OSError."""
    if not (path / LOCK).exists():
        return
    directory = DataDirectory(path)
    directory._take_lock()
    directory.close()


def _compare(path: Path, found: dict[str, Any], identity: Identity) -> None:
    check_format(path, found["format"])
    compare_identity(path, found["identity"], identity)


def check_format(path: Path, number: int) -> None:
    """Raises DataDirectoryError when data of this format cannot be read."""
    if number > DATA_FORMAT:
        raise DataDirectoryError(
            f"{path} is of data format {number}, this software knows {DATA_FORMAT}: start the newer version again"
        )
    if number < DATA_FORMAT_OLDEST:
        raise DataDirectoryError(
            f"{path} is of data format {number}, which this version does not read any more: start the older version "
            "again, or wipe the nodes one at a time and let each join again"
        )


def compare_identity(path: Path, found: Identity, identity: Identity) -> None:
    """Raises DataDirectoryError when it is another node's or cluster's data."""
    for what, theirs, ours in (
        ("cluster", format_id(found.cluster_id), format_id(identity.cluster_id)),
        ("datacenter", found.datacenter, identity.datacenter),
        ("node", format_id(found.node_id), format_id(identity.node_id)),
    ):
        if theirs != ours:
            raise DataDirectoryError(
                f"{path} belongs to {what} {theirs}, this is {what} {ours}: check dataDir, the cluster's name and the "
                "node's address and port, or choose an empty directory"
            )


def reason(error: Exception) -> str:
    """The system's or LevelDB's words, without Python's decoration (plyvel gives bytes)."""
    if not isinstance(error, OSError) or not error.errno:
        said = error.args[0] if error.args else error
        return " ".join((said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)).split())
    return f"{error.strerror or error}" + (f" ({error.filename})" if error.filename else "")


def _is(error: Exception, numbers: frozenset[int]) -> bool:
    """Whether it is one of these of the system's errors; LevelDB gives only the system's words."""
    if isinstance(error, OSError) and error.errno:
        return error.errno in numbers
    return any(reason(error).endswith(os.strerror(number)) for number in numbers)


def is_full(error: Exception) -> bool:
    """Whether it failed for want of room, however it was wrapped."""
    if isinstance(error.__cause__, Exception) and is_full(error.__cause__):
        return True
    return _is(error, _FULL)


def unusable(place: Path, error: Exception) -> DataDirectoryError | StorageError:
    """What to raise when a system call failed below `place` at a start. A disk that cannot be read or written is a
    StorageError; what has nothing to do with the data is worth another try; the rest may be damage."""
    text = reason(error)
    if isinstance(error, StorageError) and isinstance(error.__cause__, OSError):
        error = error.__cause__
    if is_full(error):
        return DirectoryUnavailableError(f"cannot use {place} as data directory: {text}; make room and start again")
    if _is(error, _NOT_NOW):
        return DirectoryUnavailableError(f"cannot use {place} as data directory: {text}")
    if _is(error, frozenset({errno.EIO})):
        return StorageError(f"the disk of {place} fails: {text}; replace it. If data was lost, {ADVICE}")
    if isinstance(error, OSError) and error.errno:
        return DirectoryUnavailableError(f"cannot use {place} as data directory: {text}")
    return DataDirectoryError(f"damaged data directory: {place} cannot be opened: {text}; {ADVICE}")


def check_readable(directory: Path) -> None:
    """Read every file in it. Raises OSError, which names the file.

    LevelDB maps its tables: a sector that cannot be read would end the process by SIGBUS, without a word. What is read
    here is in the page cache when LevelDB comes to it.
    """
    buffer = bytearray(_READ_BYTES)
    for path in sorted(path for path in directory.iterdir() if path.is_file()):
        try:
            with path.open("rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass
        except OSError as error:
            error.filename = error.filename or str(path)
            raise
