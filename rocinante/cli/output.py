"""What the command prints: tables for people, JSON for programs, one line on standard error for what went wrong.

Contract: colours only on a terminal, and never with NO_COLOR (no-color.org). Off a terminal a table is plain text, one
line a row, never cut or wrapped; a terminal that is too narrow gets fewer columns of the wide tables. JSON is UTF-8
whatever the locale. Keys and values may hold anything: what is not printable is shown escaped, so that no terminal
takes it for a command. A reader that went away (`| head`) ends the command quietly with status 0.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import IO, TYPE_CHECKING, Any, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

__all__ = ["Output", "bytes_json", "complain", "console", "duration", "say_json", "say_table", "shown", "write"]

_PLAIN_WIDTH = 32_000
_GAP = 2


class Output(StrEnum):
    """`-o`: table or json."""

    TABLE = "table"
    JSON = "json"


def _is_terminal(stream: IO[str]) -> bool:
    return stream.isatty()


def console(stream: IO[str] | None = None) -> Console:
    """Where to print for people. Plain and wide where there is no terminal, whatever CI systems set."""
    from rich.console import Console

    stream = stream or sys.stdout
    terminal = _is_terminal(stream)
    return Console(
        file=stream,
        force_terminal=terminal,
        no_color=True if os.environ.get("NO_COLOR") else None,
        width=None if terminal else _PLAIN_WIDTH,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=not terminal,
    )


def write(data: bytes | str) -> None:
    """Bytes to standard output, as they are, at once."""
    raw = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(raw)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        reader_gone()


def reader_gone() -> NoReturn:
    """End quietly: nobody reads standard output any more, and the interpreter must not try to flush it."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
    raise typer.Exit(0)


def say_json(value: Any, *, line: bool = False) -> None:
    """One JSON document; `line`: on one line, for streams."""
    text = json.dumps(value, ensure_ascii=False, indent=None if line else 2)
    write(text.encode("utf-8", "replace") + b"\n")


def say_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Iterable[str] = (), spare: Sequence[str] = ()
) -> None:
    """Rows under their titles. Cells are shown as text; `right` names the columns of numbers, `spare` those that a
    narrow terminal does without, first to last."""
    from rich.table import Table
    from rich.text import Text

    output = console()
    table = Table(box=None, pad_edge=False, header_style="bold" if output.is_terminal else "", padding=(0, _GAP, 0, 0))
    numbers = set(right)
    cells = [[cell if isinstance(cell, Text) else Text(str(cell)) for cell in row] for row in rows]
    shown_columns = _that_fit(columns, cells, spare, output.width)
    for number in shown_columns:
        column = columns[number]
        table.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    for row in cells:
        table.add_row(*(row[number] for number in shown_columns))
    with output.capture() as captured:
        output.print(table)
    write("".join(line.rstrip() + "\n" for line in captured.get().splitlines()))


def _that_fit(columns: Sequence[str], cells: Sequence[Sequence[Text]], spare: Sequence[str], width: int) -> list[int]:
    """The numbers of the columns that are shown."""
    widths = {
        number: max(len(title), *(row[number].cell_len for row in cells)) if cells else len(title)
        for number, title in enumerate(columns)
    }
    for title in spare:
        if sum(widths.values()) + _GAP * (len(widths) - 1) <= width:
            break
        widths.pop(columns.index(title), None)
    return list(widths)


def say(text: str) -> None:
    """One line for people."""
    write(text + "\n")


def complain(text: str) -> None:
    """One line on standard error, beginning with the command's name."""
    line = " ".join(part.strip() for part in text.splitlines() if part.strip())
    output = console(sys.stderr)
    from rich.text import Text

    try:
        output.print(
            Text("rocinante: ", style="bold red").append(shown(line), style="not bold default"), soft_wrap=True
        )
    except BrokenPipeError:
        pass


def shown(value: bytes | str) -> str:
    """Text for a terminal: UTF-8 as it is, everything that is not printable as an escape."""
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def bytes_json(name: str, value: bytes) -> dict[str, str]:
    """Bytes in JSON, as in the REST API: text where they are UTF-8, else base64; the member `…_encoding` says which."""
    try:
        return {name: value.decode(), f"{name}_encoding": "utf-8"}
    except UnicodeDecodeError:
        return {name: base64.b64encode(value).decode(), f"{name}_encoding": "base64"}


def duration(milliseconds: int) -> str:
    """About how long, for people; `-` for never."""
    if milliseconds < 0:
        return "-"
    if milliseconds < 1000:
        return f"{milliseconds} ms"
    seconds = milliseconds // 1000
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size * 2:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
