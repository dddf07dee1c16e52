"""JSON lines: one object a line, of bounded length, from a file or standard input."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rocinante.errors import InvalidArgument, OutcomeUnknown
from rocinante.limits import CLI_JSON_LINE_BYTES_MAX

if TYPE_CHECKING:
    from rocinante.client import FlowWriter, PutFlowsResult

__all__ = ["finish", "json_lines"]


def finish(writer: FlowWriter, until: str) -> PutFlowsResult:
    """Wait until all that was put is written, for as long as something is. Raises as `FlowWriter.barrier`."""
    while True:
        before = writer.counters.acknowledged
        try:
            return writer.barrier(until)
        except OutcomeUnknown:
            if writer.counters.acknowledged == before:
                raise


def json_lines(path: Path | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, object) for each line that is not empty; None: standard input. Raises InvalidArgument naming the line,
    OSError."""
    name = "standard input" if path is None else str(path)
    with nullcontext(sys.stdin.buffer) if path is None else path.open("rb") as source:
        number = 0
        while line := source.readline(CLI_JSON_LINE_BYTES_MAX + 1):
            number += 1
            where = f"{name}:{number}"
            if len(line) > CLI_JSON_LINE_BYTES_MAX:
                raise InvalidArgument(where, f"the line is longer than {CLI_JSON_LINE_BYTES_MAX} bytes")
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InvalidArgument(where, f"is not JSON ({error})") from None
            if not isinstance(value, dict):
                raise InvalidArgument(where, "must be a JSON object")
            yield where, value
