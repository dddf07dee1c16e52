"""`rocinante dev` with real nodes: the commands, the ends it can meet, and that it leaves no process behind."""

from __future__ import annotations

import os
import pty
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.ports import free_block

WAIT_S = 120.0
PORTS = 6
"""Of the largest of these clusters: three nodes, two ports each."""


def processes_with(text: str) -> list[int]:
    """The pids of all processes whose command line contains `text`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
                zombie = (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            except OSError:
                continue
            if text in command and not zombie:
                found.append(int(entry.name))
    return found


def wait_until(reached: Callable[[], object], what: str, timeout_s: float = WAIT_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


class Dev:
    """One run in `directory`; its standard output is read line by line, commands go to its standard input."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.directory = directory
        base = free_block(PORTS)
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "rocinante.cli.main",
                "dev",
                "--dir",
                str(directory),
                "--base-port",
                str(base),
                *arguments,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
        )
        self.lines: list[str] = []
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._queue.put(line.rstrip("\n"))
        self._queue.put(None)

    def command(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def wait_line(self, pattern: str) -> re.Match[str]:
        """The first line from here on that the pattern is found in."""
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                line = self._queue.get(timeout=max(deadline - time.monotonic(), 0.01))
            except queue.Empty:
                pytest.fail(f"no line {pattern!r}:\n" + "\n".join(self.lines))
            assert line is not None, f"it ended without {pattern!r}:\n" + "\n".join(self.lines)
            self.lines.append(line)
            if found := re.search(pattern, line):
                return found

    def end(self, number: int | None = None) -> int:
        if number is not None:
            self.process.send_signal(number)
        status = self.process.wait(WAIT_S)
        self._reader.join(WAIT_S)
        return status

    def left_behind(self) -> list[int]:
        return processes_with(str(self.directory))

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join(WAIT_S)
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()
        wait_until(lambda: not self.left_behind(), "processes were left behind")


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Callable[..., Dev]]:
    runs: list[Dev] = []

    def start(*arguments: str) -> Dev:
        runs.append(Dev(tmp_path / "dev", *arguments))
        return runs[-1]

    yield start
    for run in runs:
        run.close()


def status(url: str) -> dict[str, object]:
    answer: dict[str, object] = httpx.get(f"{url}v1/status", timeout=30, trust_env=False).json()
    return answer


def test_the_commands(dev: Callable[..., Dev]) -> None:
    run = dev("--storage", "memory")
    urls = [run.wait_line(rf"^node{n}: .*page (\S+)")[1] for n in (1, 2, 3)]
    leader = int(run.wait_line(r"^node(\d): leader in term \d")[1])
    other, third = [number for number in (1, 2, 3) if number != leader]

    run.command(f"t {other}")
    run.wait_line(rf"^node{other} leads$")
    assert status(urls[other - 1])["role"] == "leader"

    run.command(f"k {other}")
    run.wait_line(rf"^node{other} killed$")
    run.wait_line(rf"^node({leader}|{third}): leader in term \d")
    run.command(f"k {other}")
    run.wait_line(rf"^node{other} does not run$")
    run.command(f"s {other}")
    run.wait_line(rf"^node{other} started, pid \d+")
    run.wait_line(rf"^node{other}: follower in term \d")

    run.command(f"p {other}")
    run.wait_line(rf"^node{other} paused$")
    run.command(f"c {other}")
    run.wait_line(rf"^node{other} running$")
    run.command(f"c {other}")
    run.wait_line(rf"^node{other} is not paused$")

    for wrong, message in (
        ("k 4", "there are the nodes 1 to 3"),
        ("x 1", "is not a command"),
        ("k", "is not a command"),
    ):
        run.command(wrong)
        run.wait_line(message)
    run.command("?")
    run.wait_line("kill -9")

    run.command(f"p {other}")  # a stopped process is the hardest to end
    run.wait_line(rf"^node{other} paused$")
    assert run.end(signal.SIGTERM) == 0
    assert run.left_behind() == []


def test_a_dead_node_is_shown_and_data_is_kept(dev: Callable[..., Dev]) -> None:
    run = dev("--nodes", "1")
    url = run.wait_line(r"page (\S+)")[1]
    run.wait_line(r"^node1: leader")
    assert httpx.put(f"{url}v1/kv/greeting", content=b"hello", timeout=30, trust_env=False).status_code == 200
    (pid,) = processes_with(f"{run.directory}/node1")
    os.kill(pid, signal.SIGSEGV)
    assert run.wait_line(r"^node1 died: (.*)")[1].startswith("signal SIGSEGV: ")
    run.command("s 1")
    run.wait_line(r"^node1: leader")
    assert _get(f"{url}v1/kv/greeting?raw") == b"hello"
    run.command("q")
    assert run.end() == 0
    assert run.left_behind() == []

    refused = dev("--nodes", "3")
    assert refused.end() == 2

    kept = subprocess.Popen(
        [sys.executable, "-m", "rocinante.cli.main", "dev", "--dir", str(run.directory), "--nodes", "1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: _get(f"{url}v1/kv/greeting?raw") == b"hello", "the key of the first run")
    finally:
        assert kept.stdin is not None
        kept.communicate(b"q\n", timeout=WAIT_S)
    assert kept.returncode == 0


def test_when_it_is_killed_no_process_is_left(dev: Callable[..., Dev]) -> None:
    run = dev("--nodes", "2", "--storage", "memory")
    run.wait_line(r"^node\d: leader")
    assert len(run.left_behind()) == 3
    run.command("p 2")
    run.wait_line("^node2 paused")
    assert run.end(signal.SIGKILL) == -signal.SIGKILL
    wait_until(lambda: not run.left_behind(), "processes were left behind")


def _get(url: str) -> bytes:
    try:
        return httpx.get(url, timeout=10, trust_env=False).content
    except httpx.HTTPError:
        return b""


def test_on_a_terminal_and_when_the_terminal_goes_away(tmp_path: Path) -> None:
    directory = tmp_path / "dev"
    outer, inner = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "30"}
    command = [sys.executable, "-m", "rocinante.cli.main", "dev", "--dir", str(directory), "--nodes", "1"]
    process = subprocess.Popen(
        [*command, "--storage", "memory", "--base-port", str(free_block(PORTS))],
        stdin=inner, stdout=inner, stderr=inner, start_new_session=True, env=environment,
    )  # fmt: skip
    os.close(inner)
    shown = bytearray()

    def appears(text: bytes) -> bool:
        shown.extend(os.read(outer, 65_536))
        return text in shown

    try:
        wait_until(lambda: appears(b"leader"), "a leader in the table")
        os.write(outer, b"k 1\r")
        wait_until(lambda: appears(b"node1 killed"), "the message")
        os.write(outer, b"s 1\r")
        wait_until(lambda: appears(b"node1 started"), "the message")
    finally:
        os.close(outer)
        process.wait(WAIT_S)
    wait_until(lambda: not processes_with(str(directory)), "processes were left behind")
    assert process.returncode == 0


@pytest.mark.root
def test_the_sniffer_shows_the_machines_connections(dev: Callable[..., Dev]) -> None:
    run = dev("--nodes", "1", "--storage", "memory", "--sniff")
    url = run.wait_line(r"page (\S+)")[1]
    run.wait_line(r"^the sniffer watches lo")
    run.wait_line(r"^node1: leader")
    # The launcher's own questions for the status are connections of this machine, too.
    port = url.rsplit(":", 1)[1].rstrip("/")
    wait_until(lambda: b'"tcp_state"' in _get(f"{url}v1/flows?port={port}"), "a flow of the REST port")
    assert run.end(signal.SIGINT) == 0
    assert run.left_behind() == []


def test_without_the_capability_it_says_how_to(tmp_path: Path) -> None:
    dropped = ("setpriv", "--bounding-set=-net_raw,-net_admin", "--inh-caps=-net_raw,-net_admin")
    if os.geteuid() == 0 and os.spawnlp(os.P_WAIT, dropped[0], *dropped, "true"):
        pytest.skip("setpriv cannot drop capabilities here")
    prefix = dropped if os.geteuid() == 0 else ()
    command = [*prefix, sys.executable, "-m", "rocinante.cli.main", "dev", "--dir", str(tmp_path / "dev")]
    run = subprocess.run(
        [*command, "--nodes", "1", "--storage", "memory", "--sniff", "--base-port", str(free_block(PORTS))],
        input="q\n",
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=True,
    )
    assert re.search(r"not root, so no sniffer: .*:\nsudo .* agent sniff -i lo", run.stdout)
