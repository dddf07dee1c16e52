"""Our own source files, parsed once, for the tests of this directory."""

from __future__ import annotations

import ast
import subprocess
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGE: Final = ROOT / "rocinante"
GENERATED: Final = PACKAGE / "pb"


@dataclass(frozen=True)
class Import:
    """One imported name: `module` is what must exist, `name` what is taken from it ("" for a plain import)."""

    module: str
    name: str
    line: int
    typing_only: bool
    """Below `if TYPE_CHECKING:`."""

    @property
    def full(self) -> str:
        return f"{self.module}.{self.name}" if self.name else self.module


@dataclass(frozen=True)
class Source:
    path: Path
    text: str
    tree: ast.Module

    @property
    def relative(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def module(self) -> str:
        parts = self.path.relative_to(ROOT).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def package(self) -> str:
        """The house's room that it is in: `raft` for rocinante/raft/log.py, `limits` for rocinante/limits.py."""
        parts = self.module.split(".")
        return parts[1] if len(parts) > 1 else ""

    @cached_property
    def imports(self) -> list[Import]:
        below_typing = {
            id(child)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
            for statement in node.body
            for child in ast.walk(statement)
        }
        found: list[Import] = []
        for node in ast.walk(self.tree):
            only = id(node) in below_typing
            if isinstance(node, ast.Import):
                found += [Import(alias.name, "", node.lineno, only) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                module = node.module or ""
                if node.level:  # relative: from the package upwards
                    base = self.module.split(".") if self.path.name == "__init__.py" else self.module.split(".")[:-1]
                    module = ".".join([*base[: len(base) - node.level + 1], *([module] if module else [])])
                found += [Import(module, alias.name, node.lineno, only) for alias in node.names]
        return found


def _read(path: Path) -> Source:
    text = path.read_text()
    return Source(path, text, ast.parse(text, str(path)))


@cache
def sources() -> list[Source]:
    """Everything of the package that is written by hand."""
    return [_read(path) for path in sorted(PACKAGE.rglob("*.py")) if not path.is_relative_to(GENERATED)]


@cache
def sources_of_tests() -> list[Source]:
    return [_read(path) for path in sorted((ROOT / "tests").rglob("*.py"))]


@cache
def repository_files() -> list[Path]:
    """What git has or would add: no build output, nothing that is ignored. All files where this is no git clone."""
    try:
        listing = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, check=True,
        ).stdout.decode()  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return sorted(path for path in ROOT.rglob("*") if path.is_file() and ".venv" not in path.parts)
    paths = [ROOT / name for name in listing.split("\0") if name]
    return sorted(path for path in paths if path.is_file())
