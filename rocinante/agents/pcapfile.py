"""Packets of a pcap or pcapng file, of standard input, or of a file that still grows. No threads: what has come is
read, and a pipe is waited for with `select`."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from rocinante.agents.capture import Endpoint, Sink, check_filter, compile_filter
from rocinante.agents.errors import AgentError
from rocinante.agents.packet import Decoder, Malformed, decoder
from rocinante.agents.pcapformat import CaptureReader, FormatError, Frame
from rocinante.errors import EXIT_USAGE
from rocinante.limits import SNIFF_FOLLOW_INTERVAL_S, SNIFF_READ_BYTES

STDIN: Final = "-"
_STDIN: Final = 0


class FileCapture:
    """A capture file as a source (`capture.Source`)."""

    malformed: int

    def __init__(self, name: str, *, expression: str = "", follow: bool = False) -> None:
        """`name`: a path, or `-` for standard input. Raises AgentError when it cannot be opened or the filter is wrong;
        what is wrong inside is raised by `read`."""
        if expression:
            check_filter(expression)
        self.malformed = 0
        self._title = "standard input" if name == STDIN else name
        self._expression = expression
        self._follow = follow and name != STDIN
        self._reader = CaptureReader()
        self._decoders: dict[int, tuple[Decoder, Any]] = {}
        self._ended = False
        self._packets = 0
        self._file = os.dup(_STDIN) if name == STDIN else _open(name)

    def read(self, sink: Sink, timeout_s: float) -> int:
        if not select.select([self._file], [], [], timeout_s)[0]:
            return 0
        count = 0
        data = os.read(self._file, SNIFF_READ_BYTES)
        try:
            for frame in self._reader.feed(data):
                count += 1
                self._packets += 1
                self._give(frame, sink)
            if not data:
                self._at_end(timeout_s)
        except FormatError as error:
            raise AgentError(f"--pcap {self._title}: {error}, after {self._packets} packets") from error
        return count

    def _at_end(self, timeout_s: float) -> None:
        if self._follow:
            time.sleep(min(timeout_s, SNIFF_FOLLOW_INTERVAL_S))  # a file announces nothing that select could wait for
            return
        self._ended = True
        self._reader.end()

    def _give(self, frame: Frame, sink: Sink) -> None:
        decode, program = self._decoders.get(frame.link_type) or self._link(frame.link_type)
        if program is not None and not program.matches(frame):
            return
        try:
            packet = decode(frame.data, frame.wire_bytes)
        except Malformed:
            self.malformed += 1
            return
        if packet is not None:
            sink(packet, frame.time_ms)

    def _link(self, link_type: int) -> tuple[Decoder, Any]:
        try:
            found = decoder(link_type), compile_filter(self._expression, link_type) if self._expression else None
        except ValueError as error:
            raise AgentError(f"--pcap {self._title}: {error}") from error
        self._decoders[link_type] = found
        return found

    @property
    def ended(self) -> bool:
        return self._ended

    def leave_out(self, endpoints: Iterable[Endpoint]) -> None:
        """A file has them anyway; the tracker leaves them out."""

    def dropped(self) -> int:
        return 0

    def close(self) -> None:
        os.close(self._file)


def _open(name: str) -> int:
    try:
        if Path(name).is_dir():
            raise IsADirectoryError(21, "is a directory", name)
        return os.open(name, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise AgentError(f"--pcap {name}: {error.strerror}", EXIT_USAGE) from error
