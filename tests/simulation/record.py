"""A campaign's results in a file, so that it can be stopped and go on: one line of JSON a block of seeds.

A line is written at once and synced; what a crash left of an unfinished one is cut off by the next start. Each line
carries the commit of the tree that ran it, `+` behind it where the tree had changes.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from .campaign import Total

ROOT: Final = Path(__file__).parents[2]
CODE: Final = ("rocinante", "tests/simulation", "tests/linearizability")
"""What a run depends on."""


class RecordError(Exception):
    """The file is not a record."""


@dataclass(frozen=True, slots=True)
class Block:
    first: int
    last: int
    commit: str
    total: Total


def commit_of_tree() -> str:
    """The short name of the commit, `+` behind it where what matters has changes; `unknown` outside of a repository."""
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no", "--", *CODE) else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()


class Record:
    """See the module. Raises RecordError."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def blocks(self) -> list[Block]:
        """What is there; none if there is no file yet."""
        if not self.path.exists():
            return []
        return [_block(line, number) for number, line in enumerate(self._lines(), 1)]

    def _lines(self) -> Iterator[bytes]:
        for line in self.path.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                yield line

    def repair(self) -> None:
        """Cut off what was not finished."""
        if self.path.exists():
            whole = sum(map(len, self._lines()))
            if whole < self.path.stat().st_size:
                os.truncate(self.path, whole)

    def append(self, block: Block) -> None:
        row = {item.name: getattr(block.total, item.name) for item in fields(block.total)}
        row |= {"first": block.first, "last": block.last, "commit": block.commit}
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, json.dumps(row, sort_keys=True).encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _block(line: bytes, number: int) -> Block:
    try:
        row: dict[str, Any] = json.loads(line)
        first, last, commit = int(row.pop("first")), int(row.pop("last")), str(row.pop("commit"))
        row["counts"] = Counter(row["counts"])
        row["failures"] = {int(seed): text for seed, text in row["failures"].items()}
        return Block(first, last, commit, Total(**row))
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(f"line {number}: {error!r}") from error


def missing(seeds: range, done: Sequence[Block], size: int) -> list[range]:
    """The seeds of `seeds` that no block has, in blocks of at most `size`."""
    known = {seed for block in done for seed in range(block.first, block.last + 1)}
    blocks: list[range] = []
    for seed in seeds:
        if seed in known:
            continue
        if blocks and blocks[-1].stop == seed and len(blocks[-1]) < size:
            blocks[-1] = range(blocks[-1].start, seed + 1)
        else:
            blocks.append(range(seed, seed + 1))
    return blocks
