"""`rocinante flow top`: once as JSON and as a table, and live in a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl

import pytest

from rocinante.cli.flow_top import amount
from rocinante.client import Client
from rocinante.flows import FlowRecord, FlowTuple
from tests.cli.conftest import COMMAND, Run
from tests.client.serving import Cluster

WAIT_S = 60


def flows(turn: int) -> list[FlowRecord]:
    now_ms = int(time.time() * 1000)
    return [
        FlowRecord(
            FlowTuple.from_text("udp", f"192.0.2.{number}:5000", "198.51.100.7:53"),
            updated_ms=now_ms,
            packets_original=turn * (10 - number),
            bytes_original=turn * number * 100,
        )
        for number in range(1, 6)
    ]


@contextmanager
def traffic(cluster: Cluster) -> Iterator[None]:
    """Counters that move all the time."""
    stop = threading.Event()

    def run() -> None:
        with Client(cluster.endpoints[0]) as client:
            turn = 0
            while not stop.wait(0.05):
                turn += 1
                client.flows.put(flows(turn))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_once_as_json_and_as_a_table(on: Run, cluster: Cluster) -> None:
    with traffic(cluster):
        found = json.loads(on("flow", "top", "-o", "json", "-n", "2", "--interval", "2").out)
        assert [flow["source"]["address"] for flow in found] == ["192.0.2.5", "192.0.2.4"]
        assert found[0]["bytes_per_second"] > found[1]["bytes_per_second"] > 0
        assert found[0]["packets_per_second"] > 0
        lines = on("flow", "top", "--sort", "packets", "--address", "192.0.2.0/30", "--interval", "2").text.splitlines()
    assert lines[0].split() == ["BYTES/S", "PACKETS/S", "PROTO", "SOURCE", "DESTINATION", "STATE", "BACKEND", "ORIGIN"]
    assert [re.findall(r"192\.0\.2\.\d", line)[0] for line in lines[1:]] == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]


def test_nothing_moves(on: Run) -> None:
    assert json.loads(on("flow", "top", "-o", "json", "--interval", "0.2").out) == []


def test_a_cluster_that_is_not_there(cli: Run) -> None:
    ran = cli("-c", "127.0.0.1:1", "--timeout", "1", "flow", "top", "-o", "json")
    assert ran.status == 3


class Terminal:
    """A process on a pseudo-terminal of 120 × 12, and what it has written."""

    def __init__(self, *arguments: str) -> None:
        self._end, end = pty.openpty()
        ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 120, 0, 0))
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "12"}
        self.process = subprocess.Popen(
            [*COMMAND, *arguments], stdin=end, stdout=end, stderr=end, env=environment, start_new_session=True
        )
        os.close(end)
        self.text = ""

    def read_until(self, pattern: str) -> str:
        until = time.monotonic() + WAIT_S
        while not re.search(pattern, self.text, re.DOTALL):
            left = until - time.monotonic()
            assert left > 0, f"no {pattern!r} in {self.text[-2000:]!r}"
            if select.select([self._end], [], [], left)[0]:
                self.text += os.read(self._end, 65_536).decode(errors="replace")
        return self.text

    def close(self) -> int:
        """Ctrl-C; the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.end()

    def end(self) -> int:
        """Its exit status; what it writes is read meanwhile, or it would wait for room in the terminal."""
        until = time.monotonic() + WAIT_S
        while self.process.poll() is None and time.monotonic() < until:
            if select.select([self._end], [], [], 0.05)[0]:
                try:
                    self.text += os.read(self._end, 65_536).decode(errors="replace")
                except OSError:
                    break
        status = self.process.wait(WAIT_S)
        while select.select([self._end], [], [], 0)[0]:
            try:
                self.text += os.read(self._end, 65_536).decode(errors="replace")
            except OSError:  # Linux's way to say that the other side is closed
                break
        os.close(self._end)
        return status


def test_live_in_a_terminal(cluster: Cluster) -> None:
    terminal = Terminal("-c", cluster.endpoints[0], "flow", "top", "--interval", "0.2")
    try:
        with traffic(cluster):
            terminal.read_until(r"5 flows, \d+ updates: [\d.]+ ?k?B/s")
            terminal.read_until(r"BYTES/S.*192\.0\.2\.5:5000.*192\.0\.2\.4:5000.*192\.0\.2\.1:5000")
            updates = {int(number) for number in re.findall(r"flows, (\d+) updates", terminal.text)}
            terminal.text = ""
            terminal.read_until(r"updates.*updates.*updates")
            updates |= {int(number) for number in re.findall(r"flows, (\d+) updates", terminal.text)}
            assert len(updates) >= 3, "it is shown anew"
    finally:
        status = terminal.close()
    assert status == 0, terminal.text
    assert "Traceback" not in terminal.text


def test_a_terminal_without_a_cluster_is_told(cluster: Cluster) -> None:
    with traffic(cluster):
        terminal = Terminal("-c", cluster.endpoints[0], "--timeout", "5", "flow", "top", "--interval", "0.2")
        terminal.read_until("BYTES/S")
    cluster.node.be_not_ready("stopping")
    cluster.shut(0)
    assert terminal.end() == 3
    assert "rocinante: " in terminal.text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (7.46, "7.46"), (999.4, "999"), (999.6, "1 k"), (1254, "1.25 k"), (43e6, "43 M"), (2e19, "2e+04 P")],
)
def test_amounts(number: float, text: str) -> None:
    assert amount(number) == text
