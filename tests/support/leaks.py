"""What a test run must not leave behind: processes, network namespaces, mounts.

Every process that a test starts inherits an environment variable with this run's name, so that one whose parent is
gone is found as well. Namespaces are found by their name (`netns_name`), mounts by their place below the run's
temporary directory.
"""

from __future__ import annotations

import itertools
import os
import uuid
from pathlib import Path
from typing import Final

import psutil

VARIABLE: Final = "ROCINANTE_TEST_RUN"
GRACE_S: Final = 5.0
_NETNS: Final = Path("/run/netns")
_numbers = itertools.count(1)


def mark_this_run() -> str:
    """Name this run in the environment, for all processes that it will start."""
    name = uuid.uuid4().hex
    os.environ[VARIABLE] = name
    return name


def netns_name() -> str:
    """A name for a network namespace that `leftovers` will recognise."""
    return f"roci-{os.getpid()}-{next(_numbers)}"


def leftovers(run: str, temporary: Path) -> list[str]:
    """One line for each thing that is still there. Processes get a short grace to end, are then named and killed."""
    return [*_processes(run), *_namespaces(), *_mounts(temporary)]


def _processes(run: str) -> list[str]:
    mine = psutil.Process()
    found = {process.pid: process for process in mine.children(recursive=True)}
    for process in psutil.process_iter():
        if process.pid != mine.pid and _carries(process, run):
            found[process.pid] = process
    _, alive = psutil.wait_procs(list(found.values()), timeout=GRACE_S)
    lines = []
    for process in alive:
        try:
            if process.status() == psutil.STATUS_ZOMBIE and process.ppid() != mine.pid:
                continue  # dead; reaping it is init's work
            lines.append(f"process {process.pid} ({process.status()}): {' '.join(process.cmdline())[:200]}")
            process.kill()
        except psutil.NoSuchProcess:
            continue
    return lines


def _carries(process: psutil.Process, run: str) -> bool:
    try:
        return process.environ().get(VARIABLE) == run
    except (psutil.Error, OSError):
        return False  # a kernel thread, somebody else's, or just gone


def _namespaces() -> list[str]:
    own = f"roci-{os.getpid()}-"
    names = [path.name for path in _NETNS.iterdir()] if _NETNS.is_dir() else []
    return [f"network namespace {name}" for name in names if name.startswith(own)]


def _mounts(temporary: Path) -> list[str]:
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [f"mount {point}" for point in points if Path(point).is_relative_to(temporary)]
