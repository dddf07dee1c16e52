"""The table of which script or seed saw which bug: written by `make mutations`, read by the test.

Contract: `table.md` is what `write` made, and `read` gives it back. There is one row a bug.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

TABLE: Final = Path(__file__).with_name("table.md")
_COLUMNS: Final = ("bug", "source", "script or test", "of them in all", "seeds needed", "what the simulator said")
_NONE: Final = "-"
_WHAT_LENGTH_MAX: Final = 110


class Row(NamedTuple):
    bug: str
    source: str
    script: str
    """The one that claims the point, or "" where none is meant to see it."""
    scripts: int
    """How many golden files see it in all."""
    seed: int
    """The first that sees it, counted from 1, so also how many it took; 0 where none up to the bound did."""
    what: str


def write(rows: Sequence[Row], *, seeds_max: int, tree: str, path: Path = TABLE) -> None:
    needed = sorted(row.seed for row in rows if row.seed)
    script_only = [row for row in rows if not row.seed]
    lines = [
        "# Bugs that the tests must see",
        "",
        f"Written by `make mutations` of tree {tree}: {len(rows)} bugs, each put into the product by itself, all seen.",
        f"{sum(bool(row.script) for row in rows)} by the golden file or the test that claims the point; "
        f"{len(needed)} by the simulator, within {seeds_max} seeds, counted from 1: median {median(needed or [0]):g}, "
        f"at most {max(needed, default=0)}.",
        f"{len(script_only)} by a golden file or a test alone: {_why(script_only, seeds_max)}",
        "",
        f"| {' | '.join(_COLUMNS)} |",
        f"|{' --- |' * len(_COLUMNS)}",
    ]
    for row in rows:
        cells = (
            row.bug,
            row.source,
            _code(row.script),
            str(row.scripts),
            str(row.seed or _NONE),
            _code(_short(row.what)),
        )
        lines.append(f"| {' | '.join(cells)} |")
    path.write_text("\n".join(lines) + "\n")


def _why(rows: Sequence[Row], seeds_max: int) -> str:
    if not rows:
        return "there is no such bug."
    return f"no life of the first {seeds_max} came to the point, or it costs time and not safety."


def read(path: Path = TABLE) -> Mapping[str, Row]:
    """By the bug's name. Raises ValueError for a row that `write` did not make."""
    rows: dict[str, Row] = {}
    for line in path.read_text().splitlines():
        if not line.startswith("| ") or line.startswith((f"| {_COLUMNS[0]} |", "| --- |")):
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != len(_COLUMNS):
            raise ValueError(f"{path.name}: expected {len(_COLUMNS)} columns in {line!r}")
        bug, source, script, scripts, seed, what = cells
        rows[bug] = Row(bug, source, _plain(script), int(scripts), 0 if seed == _NONE else int(seed), _plain(what))
    return rows


def _short(what: str) -> str:
    what = what.replace("|", "/").replace("`", "'")
    return what if len(what) <= _WHAT_LENGTH_MAX else what[: _WHAT_LENGTH_MAX - 1] + "…"


def _code(text: str) -> str:
    return f"`{text}`" if text else _NONE


def _plain(cell: str) -> str:
    return "" if cell == _NONE else cell.strip("`")
