"""Disks of a node's own: a small file system that can be full, lose its power, and lose a sector. Root only.

`Disk.tmpfs` is quick and can be full. `Disk.ext4` is a real ext4 on a loop device: `cut_power` is the kernel's own
shutdown of it (what xfstests calls godown) — from that moment nothing reaches the disk, neither what the page cache
holds nor the open journal transaction — and `restore_power` mounts it again, which replays the journal. Whatever the
process had synced is there then, and what it had not synced mostly is not.

All of it is removed by `close`; what a run that is gone left behind is removed by `sweep`.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Final, Self

MIB: Final = 1024 * 1024
_PREFIX: Final = "rocf-"
_OWNER: Final = re.compile(rf"{_PREFIX}(\d+)-\d+")
_EXT4_SHUTDOWN: Final = 0x8004587D
"""EXT4_IOC_SHUTDOWN, _IOR('X', 125, __u32): fs/ext4/ext4.h."""
_NO_LOG_FLUSH: Final = 2
"""Not even the journal is written out: the power goes."""
BALLAST: Final = "ballast"
COMMAND_S: Final = 60.0


class DiskFailure(Exception):
    """A command of the operating system failed; the message holds its words."""


def _run(*command: str | Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=COMMAND_S, check=False
    )
    if done.returncode:
        raise DiskFailure(f"{' '.join(str(part) for part in command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()


class Disk:
    """See the module. `path` is where it is mounted."""

    _number = 0

    def __init__(self, path: Path, device: str, *, kind: str, image: int = -1) -> None:
        self.path = path
        self.kind = kind
        self._device = device
        self._image = image
        """A descriptor of what is on the disk, which has no name any more (ext4)."""
        self._mounted = False
        self._closed = False

    @classmethod
    def _name(cls) -> str:
        Disk._number += 1
        return f"{_PREFIX}{os.getpid()}-{Disk._number}"

    @classmethod
    def tmpfs(cls, path: Path, size_bytes: int) -> Disk:
        path.mkdir(parents=True, exist_ok=True)
        disk = cls(path, cls._name(), kind="tmpfs")
        _run("mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=0700", disk._device, path)
        disk._mounted = True
        return disk

    @classmethod
    def ext4(cls, path: Path, size_bytes: int) -> Disk:
        """A sparse image beside `path`, unlinked as soon as the loop device holds it."""
        path.mkdir(parents=True, exist_ok=True)
        image = path.parent / f"{cls._name()}.img"
        try:
            with image.open("xb") as file:
                file.truncate(size_bytes)
            _run("mkfs.ext4", "-q", "-m", "0", "-E", "nodiscard,lazy_itable_init=1", "-J", "size=4", image)
            disk = cls(path, "", kind="ext4", image=os.open(image, os.O_RDWR | os.O_CLOEXEC))
        finally:
            image.unlink(missing_ok=True)
        try:
            disk.restore_power()
        except DiskFailure:
            disk.close()
            raise
        return disk

    # --- room

    def free_bytes(self) -> int:
        state = os.statvfs(self.path)
        return state.f_bavail * state.f_frsize

    def fill(self, leave_bytes: int = 0) -> None:
        """Grow the ballast until only this much room is left (0: not a block)."""
        with (self.path / BALLAST).open("ab", buffering=0) as file:
            while (more := self.free_bytes() - leave_bytes) > 0:
                try:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, more)
                except OSError:
                    if more < MIB or leave_bytes:
                        break
                    # The file system needs some of it for itself: take it in smaller pieces.
                    self._take(file.fileno())
                    break
            if not leave_bytes:
                self._take(file.fileno())

    @staticmethod
    def _take(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_END)
        for piece in (MIB, 64 * 1024, 4096):
            try:
                while True:
                    os.write(descriptor, bytes(piece))
            except OSError:
                continue

    def free(self) -> None:
        """Remove the ballast."""
        (self.path / BALLAST).unlink(missing_ok=True)

    # --- power

    def cut_power(self) -> None:
        """From now on nothing reaches the disk, and every write and sync fails. ext4 only."""
        directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(directory, _EXT4_SHUTDOWN, struct.pack("=I", _NO_LOG_FLUSH))
        finally:
            os.close(directory)

    def restore_power(self) -> None:
        """Mount it (again): the journal is replayed. The process that used it must be gone.

        As a new loop device: mount namespaces that were made meanwhile have copies of the old mount, and as long as one
        of them is there, the old device is the file system that was shut down.
        """
        if self._mounted:
            self._unmount()
        self._detach()
        self._device = _run("losetup", "--find", "--show", f"/proc/{os.getpid()}/fd/{self._image}")
        _run("mount", "-t", "ext4", self._device, self.path)
        self._mounted = True

    # --- the end

    def _unmount(self) -> None:
        _run("umount", self.path)
        self._mounted = False

    def close(self) -> None:
        """Unmount it, whatever still uses it, and give its memory back."""
        if self._closed:
            return
        self._closed = True
        if self._mounted:
            try:
                self._unmount()
            except DiskFailure:
                _run("umount", "--lazy", self.path)
        if self.kind == "ext4":
            self._detach()
            os.close(self._image)

    def _detach(self) -> None:
        """The device goes with its last mount, wherever that is."""
        if self._device:
            _run("losetup", "--detach", self._device)
            self._device = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _gone(text: str) -> bool:
    """Whether it carries the name of a run whose process is no more."""
    match = _OWNER.search(text)
    return match is not None and not Path(f"/proc/{match[1]}").exists()


def sweep() -> list[str]:
    """Remove the disks of runs that are gone; one line for each."""
    said = []
    loops = {}
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            loops[f"/dev/{backing.parent.parent.name}"] = backing.read_text()
        except OSError:
            continue
    for line in Path("/proc/mounts").read_text().splitlines():
        device, where, *_ = line.split()
        if _gone(device) or _gone(loops.get(device, "")):
            _run("umount", "--lazy", where.encode().decode("unicode_escape"))
            said.append(f"unmounted {where}")
    for device, image in loops.items():
        if _gone(image) and Path(f"/sys/block/{Path(device).name}/loop/backing_file").exists():
            _run("losetup", "--detach", device)
            said.append(f"detached {device}")
    return said


def unusable() -> str:
    """Why there can be no such disks here; empty when there can."""
    if os.geteuid() != 0:
        return "needs root: mounts file systems"
    if not Path("/dev/loop-control").exists():
        return "there are no loop devices"
    if "\text4\n" not in Path("/proc/filesystems").read_text():
        return "the kernel has no ext4"
    return ""
