"""Packets of a pcap or pcapng file, of standard input, or of a file that still grows.

libpcap reads the format, in a thread of its own (`capture-file`), because reading a pipe blocks. Standard input and
a file that is followed reach libpcap through a pipe that a second thread (`capture-pump`) fills: so the capture can
be ended while there is nothing to read, and a file's end need not be the end.
"""

from __future__ import annotations

import os
import queue
import select
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from rocinante.agents.capture import Endpoint, Sink, check_filter, require_libpcap
from rocinante.agents.errors import AgentError
from rocinante.agents.packet import Malformed, Packet, decoder
from rocinante.errors import EXIT_USAGE
from rocinante.limits import (
    SNIFF_FILE_QUEUE_CHUNKS_MAX,
    SNIFF_FOLLOW_INTERVAL_S,
    SNIFF_PUMP_BYTES,
    SNIFF_READ_PACKETS_MAX,
)

STDIN: Final = "-"

Chunk = list[tuple[Packet, int]]
_CLOSE_WAIT_S: Final = 2.0


class FileCapture:
    """A capture file as a source (`capture.Source`)."""

    def __init__(self, name: str, *, expression: str = "", follow: bool = False) -> None:
        """`name`: a path, or `-` for standard input. Raises AgentError when it cannot be opened or the filter is
        wrong; what is wrong inside is raised by `read`."""
        self._pcap = require_libpcap()
        if expression:
            check_filter(expression)
        self.malformed = 0
        self._title = "standard input" if name == STDIN else name
        self._expression = expression
        self._chunks: queue.Queue[tuple[Chunk, int] | AgentError | None] = queue.Queue(SNIFF_FILE_QUEUE_CHUNKS_MAX)
        self._stop = threading.Event()
        self._ended = False
        self._pump: _Pump | None = None
        path = name
        if name == STDIN or follow:
            self._pump = _Pump(sys.stdin.fileno() if name == STDIN else _open(name), follow=follow and name != STDIN)
            path = f"/dev/fd/{self._pump.reading_end}"
        else:
            os.close(_open(name))
        self._thread = threading.Thread(target=self._run, args=(path,), name="capture-file", daemon=True)
        self._thread.start()

    def read(self, sink: Sink, timeout_s: float) -> int:
        try:
            chunk = self._chunks.get(timeout=timeout_s)
        except queue.Empty:
            return 0
        if chunk is None:
            self._ended = True
            return 0
        if isinstance(chunk, AgentError):
            raise chunk
        packets, count = chunk
        for packet, time_ms in packets:
            sink(packet, time_ms)
        return count

    @property
    def ended(self) -> bool:
        return self._ended

    def leave_out(self, endpoints: Iterable[Endpoint]) -> None:
        """A file has them anyway; the tracker leaves them out."""

    def dropped(self) -> int:
        return 0

    def close(self) -> None:
        self._stop.set()
        if self._pump is not None:
            self._pump.close()
        while self._thread.is_alive():  # it may wait for room in the queue
            try:
                self._chunks.get(timeout=SNIFF_FOLLOW_INTERVAL_S)
            except queue.Empty:
                self._thread.join(_CLOSE_WAIT_S)
                break

    def _run(self, path: str) -> None:
        """The thread `capture-file`."""
        count = 0
        try:
            handle = self._pcap.open_offline(path)
        except self._pcap.Error as error:
            self._fail(f"--pcap {self._title}: not a readable pcap or pcapng file: {error.msg}")
            return
        try:
            link_type = int(handle.datalink())
            decode = decoder(link_type)
            if self._expression:
                handle.setfilter(handle.compile(self._expression, True, self._pcap.NETMASK_UNKNOWN))
            packets: Chunk = []
            seen = 0
            for header, data in handle:
                if self._stop.is_set():
                    return
                if header is None:
                    continue
                count += 1
                seen += 1
                try:
                    packet = decode(data, header.len)
                except Malformed:
                    self.malformed += 1
                else:
                    if packet is not None:
                        packets.append((packet, int(header.ts * 1_000)))
                if seen >= SNIFF_READ_PACKETS_MAX or (self._pump is not None and self._chunks.empty()):
                    self._chunks.put((packets, seen))
                    packets, seen = [], 0
            self._chunks.put((packets, seen))
            self._chunks.put(None)
        except self._pcap.Error as error:
            self._chunks.put((packets, seen))
            self._fail(f"--pcap {self._title}: packet {count + 1}: {error.msg}")
        except ValueError as error:
            self._fail(f"--pcap {self._title}: file header: {error}")
        finally:
            handle.close()

    def _fail(self, message: str) -> None:
        self._chunks.put(AgentError(message))


class _Pump:
    """Copies a descriptor into a pipe until it ends, or is closed; a file that is followed never ends."""

    def __init__(self, source: int, *, follow: bool) -> None:
        self._source = source
        self._follow = follow
        self._stop = threading.Event()
        self.reading_end, self._writing_end = os.pipe()
        self._wake_reader, self._wake_writer = os.pipe()
        self._thread = threading.Thread(target=self._run, name="capture-pump", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """May be repeated."""
        if self._stop.is_set():
            return
        self._stop.set()
        os.write(self._wake_writer, b"x")
        # Should the other side have stopped reading, the pump waits for room in the pipe: make some.
        while self._thread.is_alive():
            ready, _, _ = select.select([self.reading_end], [], [], SNIFF_FOLLOW_INTERVAL_S)
            if ready and not os.read(self.reading_end, SNIFF_PUMP_BYTES):
                break
        self._thread.join(_CLOSE_WAIT_S)
        for descriptor in (self.reading_end, self._wake_reader, self._wake_writer):
            os.close(descriptor)
        if self._source != sys.stdin.fileno():
            os.close(self._source)

    def _run(self) -> None:
        """The thread `capture-pump`."""
        try:
            while not self._stop.is_set():
                select.select([self._source, self._wake_reader], [], [])
                if self._stop.is_set():
                    return
                data = os.read(self._source, SNIFF_PUMP_BYTES)
                if data:
                    self._write(data)
                elif not self._follow:
                    return
                else:
                    self._stop.wait(SNIFF_FOLLOW_INTERVAL_S)
        finally:
            os.close(self._writing_end)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view and not self._stop.is_set():
            view = view[os.write(self._writing_end, view) :]


def _open(name: str) -> int:
    try:
        if Path(name).is_dir():
            raise IsADirectoryError(21, "is a directory", name)
        return os.open(name, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise AgentError(f"--pcap {name}: {error.strerror}", EXIT_USAGE) from error
