"""Whether the lock files fit pyproject.toml, without a network: `python -m tests.tools.check_lock`.

Held: every dependency that pyproject.toml names is locked, at a version that it allows, and nothing is locked as
"needed by pyproject.toml" that is not named there (any more); every package has hashes; no line names a place to
download from; what is in both files has one version.
"""

from __future__ import annotations

import re
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).resolve().parents[2]
LOCKS: Final[dict[str, tuple[str, ...]]] = {
    "requirements.lock": ("build",),
    "requirements-dev.lock": ("build", "dev"),
    "requirements-fuzz.lock": ("build", "fuzz"),
    "requirements-molecule.lock": ("build", "molecule"),
}
"""Each lock file with the dependency groups that it holds besides the project's own dependencies."""

_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;\\]+)")


@dataclass
class Pin:
    version: str
    hashes: int = 0
    direct: bool = False
    """Named by pyproject.toml itself, says the lock."""


@dataclass
class Lock:
    pins: dict[str, list[Pin]] = field(default_factory=dict)
    """By canonical name; more than one where a version depends on the Python."""
    strange: list[str] = field(default_factory=list)


def read_lock(text: str) -> Lock:
    """Parse what `uv pip compile --generate-hashes` writes."""
    lock = Lock()
    pin: Pin | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if match := _PIN.match(line):
            pin = Pin(match["version"])
            lock.pins.setdefault(canonicalize_name(match["name"]), []).append(pin)
        elif pin is not None and line.strip().startswith("--hash=sha256:"):
            pin.hashes += 1
        elif pin is not None and line.strip().startswith("#"):
            pin.direct |= "(pyproject.toml" in line
        elif line.strip():
            lock.strange.append(f"line {number}: {line.strip()}")
    return lock


def wanted(pyproject: dict[str, object], groups: tuple[str, ...]) -> dict[str, Requirement]:
    """The requirements that pyproject.toml names: its dependencies and those groups."""
    project, tables = pyproject["project"], pyproject["dependency-groups"]
    assert isinstance(project, dict)
    assert isinstance(tables, dict)
    lines = [*project["dependencies"], *(line for group in groups for line in tables[group])]
    requirements = [Requirement(line) for line in lines]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


def problems_of(lock: Lock, requirements: dict[str, Requirement]) -> list[str]:
    problems = [f"unexpected {line}" for line in lock.strange]
    for name, requirement in requirements.items():
        pins = lock.pins.get(name, [])
        if not pins:
            problems.append(f"{name} is not locked")
        problems += [
            f"{name}=={pin.version} is locked, pyproject.toml wants {requirement}"
            for pin in pins
            if not requirement.specifier.contains(pin.version, prereleases=True)
        ]
    for name, pins in lock.pins.items():
        if any(pin.direct for pin in pins) and name not in requirements:
            problems.append(f"{name} is locked for pyproject.toml, which does not name it")
        problems += [f"{name}=={pin.version} has no hash" for pin in pins if not pin.hashes]
    return problems


def check(root: Path = ROOT) -> list[str]:
    """One line a problem."""
    pyproject = tomllib.loads((root / "pyproject.toml").read_text())
    problems: list[str] = []
    locks = {name: read_lock((root / name).read_text()) for name in LOCKS}
    for name, groups in LOCKS.items():
        problems += [f"{name}: {problem}" for problem in problems_of(locks[name], wanted(pyproject, groups))]
    run = locks.pop("requirements.lock")
    for package, pins in run.pins.items():
        here = [pin.version for pin in pins]
        for name, lock in locks.items():
            there = [pin.version for pin in lock.pins.get(package, [])]
            if here != there:
                problems.append(f"{package}: {here} in requirements.lock, {there} in {name}")
    return problems


def main() -> int:
    problems = check()
    if problems:
        print("the lock does not fit pyproject.toml, run `make lock`:", *problems, sep="\n  ", file=sys.stderr)
        return 1
    print("locks fit pyproject.toml")
    return 0


if __name__ == "__main__":
    sys.exit(main())
