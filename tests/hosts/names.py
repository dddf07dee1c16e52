"""What a lab is called everywhere, and how a command of the host is run."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Final

PREFIX: Final = "rocl-"
"""All that a lab makes on the host (namespaces, cgroups) is called `rocl-<lab>-...`: so it can be found again by name
alone, whatever became of who made it."""
STATE: Final = Path("/var/lib/rocinante-lab")
"""What the hosts of a lab wrote, its keys and its files: `<lab>/`."""
CACHE: Final = Path("/var/cache/rocinante-lab")
"""The trees that hosts start from."""
NETNS: Final = Path("/run/netns")
OPERATOR: Final = "operator"
"""Whose place in the network the tests have."""
USER: Final = "admin"
"""Whom they log in as on a host; sudo lets it do everything."""
COMMAND_TIMEOUT_S: Final = 60.0
_NAME: Final = re.compile(r"[a-z][a-z0-9]{0,15}")


class LabError(Exception):
    """Something that a lab needs is missing, or a command failed: what, and what it said."""


def checked_name(name: str) -> str:
    """The name, when it can be that of a lab or a host. Raises LabError."""
    if not _NAME.fullmatch(name):
        raise LabError(f"{name!r} cannot be a name: a letter, then letters and digits, at most 16, all small")
    return name


def scope(lab: str, part: str = "") -> str:
    """The name of a namespace or cgroup."""
    return f"{PREFIX}{lab}-{part}"


def state_of(lab: str) -> Path:
    return STATE / lab


def run(*command: str | Path, stdin: str | None = None, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
    """Run a command; its output. Raises LabError with what it said."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False, env=_environment()
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabError(f"{' '.join(words)}: {error}") from None
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise LabError(f"{' '.join(words)}: exit status {done.returncode}\n{said}")
    return done.stdout


def _environment() -> dict[str, str]:
    """Root's programs are found also where they are not in the path of who calls."""
    return {**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}
