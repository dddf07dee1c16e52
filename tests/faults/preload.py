"""A disk that fails on demand, for one node: faulty_disk.c, compiled once, and the control file that commands it.

    disk = FaultyDisk(node.data, directory / "node1.control")
    node.environment.update(disk.environment())
    …
    rule = disk.fail(Operation.SYNC, errno.EIO, match="log/")     # from now on, until `clear`
    disk.slow(Operation.SYNC, 0.2)
    disk.die(Act.KILL_PARTIAL, Operation.WRITE, match="log/", skip=7)
    disk.power_cut(random)                                        # of a process that was killed

The library is inert until it is told something. Its layout of the control file is this module's.
"""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from enum import IntEnum, IntFlag
from functools import cache
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Final

SOURCE: Final = Path(__file__).with_name("faulty_disk.c")
RULES: Final = 8
FILES: Final = 8192
MATCH_BYTES: Final = 64
_MAGIC: Final = b"FAULTY01"
_HEAD: Final = struct.Struct("=8sQ")
_RULE: Final = struct.Struct(f"=IIIiIIqqqq{MATCH_BYTES}s")
_ACTIVE: Final = struct.Struct("=I")
_COUNT: Final = struct.Struct("=q")
_FILE: Final = struct.Struct("=QQ")
_SEEN_OFFSET: Final = 40
_HITS_OFFSET: Final = 48
_FILES_OFFSET: Final = _HEAD.size + RULES * _RULE.size
_BYTES: Final = _FILES_OFFSET + FILES * _FILE.size


class Operation(IntFlag):
    WRITE = 1
    SYNC = 2
    RENAME = 4
    OPEN = 8
    """For writing; for reading it is READ."""
    READ = 16
    UNLINK = 32


class Act(IntEnum):
    NOTHING = 0
    """But the delay."""
    FAIL = 1
    PARTIAL = 2
    """Half of a write, the next one fails."""
    KILL_BEFORE = 3
    KILL_AFTER = 4
    KILL_PARTIAL = 5


@cache
def library() -> Path:
    """The compiled library; raises LookupError without a compiler, CalledProcessError with the compiler's words."""
    compiler = shutil.which("gcc")
    if compiler is None:
        raise LookupError("gcc is missing: apt-get install gcc libc6-dev")
    name = f"rocinante-faulty-disk-{os.geteuid()}-{sha256(SOURCE.read_bytes()).hexdigest()[:16]}.so"
    built = Path("/tmp") / name
    if not built.exists() or built.stat().st_uid != os.geteuid():
        making = built.with_suffix(f".{os.getpid()}")
        command = [compiler, "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(making), str(SOURCE)]
        subprocess.run([*command, "-ldl"], check=True, capture_output=True, text=True)
        making.replace(built)
    return built


class Rule:
    """One of the library's rules, as long as it is in force."""

    def __init__(self, memory: mmap.mmap, number: int) -> None:
        self._memory = memory
        self._at = _HEAD.size + number * _RULE.size

    @property
    def active(self) -> bool:
        return bool(_ACTIVE.unpack_from(self._memory, self._at)[0])

    @property
    def hits(self) -> int:
        """Calls that it has delayed, failed or killed in so far."""
        return int(_COUNT.unpack_from(self._memory, self._at + _HITS_OFFSET)[0])

    def clear(self) -> None:
        _ACTIVE.pack_into(self._memory, self._at, 0)

    def write(
        self, operations: Operation, act: Act, error: int, delay_us: int, skip: int, times: int, m: bytes
    ) -> None:
        _RULE.pack_into(self._memory, self._at, 0, operations, act, error, delay_us, 0, skip, times, 0, 0, m)
        # Last, and alone: the process may look at any moment.
        _ACTIVE.pack_into(self._memory, self._at, 1)


class FaultyDisk:
    """See the module. One for each data directory; the control file lies outside of it."""

    def __init__(self, root: Path, control: Path) -> None:
        self.root = root
        self.control = control
        with control.open("w+b") as file:
            file.truncate(_BYTES)
            self._memory = mmap.mmap(file.fileno(), _BYTES)
        _HEAD.pack_into(self._memory, 0, _MAGIC, 0)
        self._rules = [Rule(self._memory, number) for number in range(RULES)]

    def environment(self) -> dict[str, str]:
        """For the process whose disk it is."""
        return {
            "LD_PRELOAD": str(library()),
            "FAULTY_DISK_ROOT": str(self.root),
            "FAULTY_DISK_CONTROL": str(self.control),
        }

    # --- rules

    def _add(
        self,
        operations: Operation,
        act: Act,
        match: str,
        *,
        error: int = 0,
        delay_s: float = 0.0,
        skip: int,
        times: int,
    ) -> Rule:
        encoded = match.encode()
        if len(encoded) >= MATCH_BYTES:
            raise ValueError(f"match: {match!r} has more than {MATCH_BYTES - 1} bytes")
        free = next((rule for rule in self._rules if not rule.active), None)
        if free is None:
            raise ValueError(f"more than {RULES} rules")
        free.write(operations, act, error, int(delay_s * 1_000_000), skip, times, encoded)
        return free

    def fail(
        self,
        operations: Operation,
        error: int,
        *,
        match: str = "",
        skip: int = 0,
        times: int = -1,
        partial: bool = False,
        delay_s: float = 0.0,
    ) -> Rule:
        """These calls fail with that errno on files whose path below the root contains `match`."""
        act = Act.PARTIAL if partial else Act.FAIL
        return self._add(operations, act, match, error=error, delay_s=delay_s, skip=skip, times=times)

    def slow(self, operations: Operation, delay_s: float, *, match: str = "", skip: int = 0, times: int = -1) -> Rule:
        return self._add(operations, Act.NOTHING, match, delay_s=delay_s, skip=skip, times=times)

    def die(self, act: Act, operations: Operation, *, match: str = "", skip: int = 0) -> Rule:
        """The process is killed at that call (the one after `skip` others)."""
        return self._add(operations, act, match, skip=skip, times=1)

    def clear(self) -> None:
        """The disk is sound again."""
        for rule in self._rules:
            rule.clear()

    # --- a power cut

    def _synced(self) -> dict[int, int]:
        found = _FILE.iter_unpack(self._memory[_FILES_OFFSET:_BYTES])
        return {inode: length for inode, length in found if inode}

    def unsynced(self) -> Iterator[tuple[Path, int, int]]:
        """(file, synced bytes, bytes) of all that have bytes which no sync has covered. The process must not run."""
        known = self._synced()
        for path in sorted(self.root.rglob("*")):
            if path.is_file() and not path.is_symlink():
                state = path.stat()
                # A file that the library never saw opened was stdio's (LevelDB's notes), or is older than the control.
                synced = known.get(state.st_ino, state.st_size)
                if synced < state.st_size:
                    yield path, synced, state.st_size

    def power_cut(self, random: Random, *, keep: float | None = None) -> list[str]:
        """Take away what was never synced, as far as the disk had not come to it: all, nothing, or a part of each
        file (a torn write). The process must have been killed. `keep` is the share that stays; None: drawn for each
        file. One line for each file that lost something."""
        said = []
        for path, synced, size in list(self.unsynced()):
            share = keep if keep is not None else random.choice((0.0, 0.0, random.random(), 1.0))
            left = synced + int((size - synced) * share)
            if left == size:
                continue
            if left == 0 and random.random() < 0.5:
                path.unlink()  # not even its name came to the disk
            else:
                os.truncate(path, left)
            said.append(f"{path.relative_to(self.root)}: {left} of {size} bytes are left, {synced} were synced")
        said += self._old_mark(random, keep)
        self.all_is_synced()
        return said

    def _old_mark(self, random: Random, keep: float | None) -> list[str]:
        """The mark is overwritten in its place and never synced after it was made: any older content may be there."""
        mark = self.root / "mark"
        if not mark.exists() or (keep if keep is not None else random.random()) >= 0.5:
            return []
        from rocinante.storage.mark import Mark

        mark.unlink()
        Mark(mark, create=True).close()
        return ["mark: as it was when it was made"]

    def all_is_synced(self) -> None:
        """What is there now is on the disk: after a power cut nothing is only in memory."""
        self._memory[_FILES_OFFSET:_BYTES] = bytes(_BYTES - _FILES_OFFSET)

    def close(self) -> None:
        self._memory.close()
        self.control.unlink(missing_ok=True)
