"""Programs of the operating system that some tests need: `@requires("etcdctl", "h2load")`.

`packaging/apt-test.txt` is the one list of them. Without a tool its tests are skipped, with the package to install
as the reason; where `CI=true` is set they fail, so that a continuous integration that tests less than it claims is
noticed.
"""

from __future__ import annotations

import os
import shutil
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
LIST: Final = ROOT / "packaging" / "apt-test.txt"


class Tool(NamedTuple):
    name: str
    """The command that proves it is there, or an absolute path."""
    package: str
    only_on: str
    """The ID of the one distribution (os-release) that has it in a usable form; empty: all."""


@cache
def tools() -> dict[str, Tool]:
    """The list, by name of the tool. A line: package, tool (or file), optional distribution; `#` begins a comment."""
    found: dict[str, Tool] = {}
    for line in LIST.read_text().splitlines():
        fields = line.partition("#")[0].split()
        if fields:
            package, name, *rest = fields
            found[name] = Tool(name, package, rest[0] if rest else "")
    return found


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}


def requires(*names: str) -> pytest.MarkDecorator:
    """Mark a test (or a module, by `pytestmark`) that needs these tools."""
    for name in names:
        if name not in tools():
            raise LookupError(f"{name} is not in {LIST.relative_to(ROOT)}")
    return pytest.mark.requires(*names)


@cache
def missing(name: str) -> str:
    """Empty when the tool is here, else why not and what to do."""
    tool = tools()[name]
    if Path(name).exists() if name.startswith("/") else shutil.which(name) is not None:
        return ""
    if tool.only_on and _distribution() != tool.only_on:
        return f"{name} is missing (only {tool.only_on} has a usable package of it)"
    return f"{name} is missing: apt-get install {tool.package}"


def must_be_here(name: str) -> bool:
    """Whether a missing tool is a failure and not a reason to skip."""
    only_on = tools()[name].only_on
    return in_ci() and (not only_on or _distribution() == only_on)


@cache
def _distribution() -> str:
    for line in Path("/etc/os-release").read_text().splitlines():
        if line.startswith("ID="):
            return line.removeprefix("ID=").strip('"')
    return ""
