"""`rocinante agent sniff` as a process, and the flow table that it writes to."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import IO, NamedTuple

from rocinante.client import Client
from rocinante.flows import FlowRecord
from rocinante.services.server import GrpcServer
from tests.support.local_node import LocalNode

WAIT_S = 60.0
POLL_S = 0.02


class Served(NamedTuple):
    node: LocalNode
    server: GrpcServer
    endpoint: str
    client: Client

    def flows(self) -> list[FlowRecord]:
        return sorted((entry.record for entry in self.client.flows.list()), key=lambda record: record.original)

    def texts(self) -> list[str]:
        """`tcp a > b STATE packets/packets` of every flow."""
        return [describe(record) for record in self.flows()]

    def wait_for(self, reached: Callable[[list[str]], bool], timeout_s: float = WAIT_S) -> list[str]:
        """Poll the table (nothing announces a write to another process) until it is as wanted."""
        deadline = time.monotonic() + timeout_s
        while not reached(texts := self.texts()):
            assert time.monotonic() < deadline, "the table is:\n  " + "\n  ".join(texts)
            time.sleep(POLL_S)
        return texts


def describe(record: FlowRecord) -> str:
    return f"{record.original} {record.tcp_state.name} {record.packets_original}/{record.packets_reply}"


class Sniff:
    """One run. Its standard error is read all the time; `wait_line` waits for a line of it."""

    def __init__(
        self, *arguments: str, stdin: int | IO[bytes] = subprocess.DEVNULL, prefix: Sequence[str] = ()
    ) -> None:
        command = [*prefix, sys.executable, "-m", "rocinante.cli.main", "agent", "sniff", *arguments]
        environment = {name: value for name, value in os.environ.items() if name != "ROCINANTE_CLUSTER"}
        self.process = subprocess.Popen(
            command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        )
        self.lines: list[str] = []
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._queue.put(line.decode().rstrip("\n"))
        self._queue.put(None)

    def wait_line(self, part: str) -> str:
        """The first line from here on that contains `part`."""
        while True:
            line = self._queue.get(timeout=WAIT_S)
            assert line is not None, f"it ended without {part!r}:\n" + "\n".join(self.lines)
            self.lines.append(line)
            if part in line:
                return line

    def end(self, number: int | None = signal.SIGTERM) -> tuple[int, str, str]:
        """Send a signal (or none) and wait: exit status, standard output, standard error."""
        if number is not None:
            self.process.send_signal(number)
        status = self.process.wait(WAIT_S)
        self._reader.join(WAIT_S)
        while (line := self._queue.get()) is not None:
            self.lines.append(line)
        assert self.process.stdout is not None
        output = self.process.stdout.read().decode()
        self.process.stdout.close()
        assert self.process.stderr is not None
        self.process.stderr.close()
        return status, output, "\n".join(self.lines)

    def __enter__(self) -> Sniff:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        if self.process.stdout is not None and not self.process.stdout.closed:
            self.end(None)


def sniff(
    *arguments: str, stdin: int | IO[bytes] = subprocess.DEVNULL, prefix: Sequence[str] = ()
) -> tuple[int, str, str]:
    """Run it to its end."""
    with Sniff(*arguments, stdin=stdin, prefix=prefix) as run:
        return run.end(None)
