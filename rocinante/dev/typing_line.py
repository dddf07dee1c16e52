"""Commands typed on standard input, a line each: with an echo and a line editor of our own on a terminal (the live
table is redrawn around it), as they come from anything else."""

from __future__ import annotations

import os
import select
import termios
import tty
from types import TracebackType
from typing import Any, Final

from rocinante.limits import DEV_LINE_BYTES_MAX

_END_OF_INPUT: Final = "\x04"
_BACKSPACES: Final = ("\x7f", "\b")
_KILL_LINE: Final = "\x15"
_ESCAPE: Final = "\x1b"
QUIT: Final = "q"


class CommandInput:
    """A context manager: on a terminal it takes over keys and echo, and gives them back. `wake`: a descriptor that
    ends `read`'s wait."""

    def __init__(self, descriptor: int, wake: int, *, interactive: bool) -> None:
        self._descriptor: int | None = descriptor
        self._wake = wake
        self._interactive = interactive
        self._saved: list[Any] | None = None
        self._pending = b""
        self.typed = ""
        """What of the next command is there."""

    def __enter__(self) -> CommandInput:
        if self._interactive and self._descriptor is not None:
            self._saved = termios.tcgetattr(self._descriptor)
            tty.setcbreak(self._descriptor, termios.TCSANOW)  # signals (Ctrl-C) stay on
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._saved is not None and self._descriptor is not None:
            try:
                termios.tcsetattr(self._descriptor, termios.TCSANOW, self._saved)
            except termios.error:  # the terminal is gone
                pass

    def read(self, timeout_s: float) -> list[str]:
        """The commands that were completed within the time. The end of a terminal is the command to quit; the end
        of a pipe or file is just the end of the commands."""
        watched = [self._wake] if self._descriptor is None else [self._wake, self._descriptor]
        ready, _, _ = select.select(watched, [], [], timeout_s)
        if self._wake in ready:
            os.read(self._wake, DEV_LINE_BYTES_MAX)
        if self._descriptor is None or self._descriptor not in ready:
            return []
        try:
            data = os.read(self._descriptor, DEV_LINE_BYTES_MAX)
        except OSError:
            data = b""
        if not data:
            self._descriptor = None
            return [QUIT] if self._interactive else self._take_lines(b"\n")
        return self._take_keys(data.decode(errors="ignore")) if self._interactive else self._take_lines(data)

    def _take_lines(self, data: bytes) -> list[str]:
        *lines, self._pending = (self._pending + data).split(b"\n")
        self._pending = self._pending[-DEV_LINE_BYTES_MAX:]
        return [text for line in lines if (text := line.decode(errors="replace").strip())]

    def _take_keys(self, keys: str) -> list[str]:
        commands = []
        if keys.startswith(_ESCAPE):  # an arrow or another special key: there is nothing to move in
            return []
        for key in keys:
            if key in "\r\n":
                if self.typed.strip():
                    commands.append(self.typed.strip())
                self.typed = ""
            elif key == _END_OF_INPUT:
                commands.append(QUIT)
            elif key in _BACKSPACES:
                self.typed = self.typed[:-1]
            elif key == _KILL_LINE:
                self.typed = ""
            elif key.isprintable() and len(self.typed) < DEV_LINE_BYTES_MAX:
                self.typed += key
        return commands
