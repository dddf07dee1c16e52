"""A cgroup for each host, in every hierarchy that there is: systemd inside must not share one with another systemd, and
what is in one can be killed as a whole."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from tests.hosts.names import LabError

KILL_TIMEOUT_S: Final = 30.0
_DEPTH_MAX: Final = 6


def _mounts() -> list[tuple[str, Path]]:
    """(controllers, where it is mounted) of each hierarchy; "" is the unified one."""
    found = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, options, *_ = line.split()
        if kind == "cgroup2":
            found.append(("", Path(place)))
        elif kind == "cgroup":
            found.append((options, Path(place)))
    return found


def make(name: str) -> list[Path]:
    """Below the cgroups that this process is in; the directories, one a hierarchy."""
    own = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        own[frozenset(filter(None, controllers.split(",")))] = path.lstrip("/")
    made = []
    for options, place in _mounts():
        words = set(filter(None, options.split(",")))
        mine = [path for names, path in own.items() if (names <= words if names else not words)]
        if not mine:
            continue
        directory = place / mine[0] / name
        directory.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):  # empty in a new cgroup of version 1: nobody could enter
            if (directory / setting).exists() and not (directory / setting).read_text().strip():
                (directory / setting).write_text((directory.parent / setting).read_text())
        made.append(directory)
    if not made:
        raise LabError("no cgroups are mounted")
    return made


def remove(prefix: str) -> None:
    """Kill all that is in cgroups whose names begin so, and remove them. Raises LabError when they do not go."""
    deadline = time.monotonic() + KILL_TIMEOUT_S
    while found := named(prefix):
        for path in found:
            _empty(path)
        if time.monotonic() > deadline:
            raise LabError(f"cgroups do not go: {', '.join(map(str, found))}")
        time.sleep(0.05)  # the kernel tells nobody when a killed process has left its cgroup


def named(prefix: str) -> list[Path]:
    """The cgroups whose names begin so, in all hierarchies."""
    return [path for _, place in _mounts() for path in _named(place, prefix)]


def _named(place: Path, prefix: str) -> list[Path]:
    found = []
    for directory, names, _ in os.walk(place):
        if len(Path(directory).relative_to(place).parts) >= _DEPTH_MAX:
            names.clear()
        for name in [name for name in names if name.startswith(prefix)]:
            found.append(Path(directory, name))
            names.remove(name)
    return found


def _empty(top: Path) -> None:
    try:
        if (top / "cgroup.kill").exists():
            (top / "cgroup.kill").write_text("1")
        for directory, _, _ in os.walk(top, topdown=False):
            if not (top / "cgroup.kill").exists():
                for pid in Path(directory, "cgroup.procs").read_text().split():
                    os.kill(int(pid), 9)
            Path(directory).rmdir()
    except OSError:
        return  # still busy: the next turn
