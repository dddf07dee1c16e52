"""Three nodes of Debian's Redis on the loopback interface: a primary and two replicas, every write in the append-only
file and synced at once (appendfsync always), no snapshots besides. The yardstick of `tests.benchmarks.compare`."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path
from typing import Final

from rocinante.bench.began import Began
from tests.support.ports import HOST, free_port

START_S: Final = 30.0
STOP_S: Final = 10.0
_TIMEOUT_S: Final = 60.0


class Redis(Began):
    """`with Redis(directory) as redis:` starts the nodes and waits until both replicas follow; leaving kills them by
    pid."""

    name: Final = "redis"

    def __init__(self, directory: Path, nodes: int = 3) -> None:
        directory.mkdir(parents=True)
        self._directory = directory
        self.ports = [free_port() for _ in range(nodes)]
        self._processes: list[subprocess.Popen[bytes]] = []

    def begin(self) -> None:
        for number, port in enumerate(self.ports):
            self._start(number, port)
        self._wait(lambda: all(self._answers(port) for port in self.ports), "to answer")
        self._wait(lambda: self.replicas() == len(self.ports) - 1, "both replicas to follow")

    def _start(self, number: int, port: int) -> None:
        data = self._directory / f"redis{number + 1}"
        data.mkdir()
        options = {
            "port": port, "bind": HOST, "dir": data, "appendonly": "yes", "appendfsync": "always", "save": "",
            "daemonize": "no", "logfile": self._directory / f"redis{number + 1}.log",
        }  # fmt: skip
        if number:
            options["replicaof"] = f"{HOST} {self.ports[0]}"
        command = ["setpriv", "--pdeathsig", "KILL", "--", "redis-server"]
        for name, value in options.items():
            command += [f"--{name}", *(str(value).split(" ") if name == "replicaof" else [str(value)])]
        self._processes.append(
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        )

    def _wait(self, there: object, what: str) -> None:
        assert callable(there)
        deadline = time.monotonic() + START_S
        while not there():
            ended = [process for process in self._processes if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                logs = sorted(self._directory.glob("*.log"))
                ends = "\n".join(path.read_text()[-500:] for path in logs)
                raise RuntimeError(f"waited in vain for Redis: {what}\n{ends}")
            time.sleep(0.05)

    def close(self) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait(STOP_S)

    def pids(self) -> list[int]:
        return [process.pid for process in self._processes]

    def primary(self) -> int:
        """Its port."""
        return self.ports[0]

    def replicas(self) -> int:
        """How many are connected and in sync with the primary."""
        info = self.command(self.ports[0], "INFO", "replication")
        return info.count("state=online")

    def sizes(self) -> list[int]:
        """How many keys each node has."""
        return [int(self.command(port, "DBSIZE").strip().removeprefix(":")) for port in self.ports]

    def flush(self) -> None:
        """Remove all keys, everywhere."""
        self.command(self.ports[0], "FLUSHALL", "SYNC")
        self._wait(lambda: not any(self.sizes()), "to be empty")

    def _answers(self, port: int) -> bool:
        try:
            return self.command(port, "PING").startswith("+PONG")
        except OSError:
            return False

    @staticmethod
    def command(port: int, *words: str) -> str:
        """One command on a connection of its own; the answer as it came."""
        with socket.create_connection((HOST, port), _TIMEOUT_S) as connection:
            request = f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
            connection.sendall(request.encode())
            answer = b""
            while not answer.endswith(b"\r\n") or (answer.startswith(b"$") and not _whole(answer)):
                received = connection.recv(65_536)
                if not received:
                    raise ConnectionResetError("Redis closed the connection")
                answer += received
            return answer.decode()


def _whole(answer: bytes) -> bool:
    """Of a bulk string: all that its first line announces is there."""
    head, _, rest = answer.partition(b"\r\n")
    return len(rest) >= int(head[1:]) + 2
