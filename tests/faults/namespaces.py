"""The network that the clusters of one run live in: a bridge, a namespace for the clients, and one for each node.

    with Lab() as lab:             # this process is in the clients' namespace from here on
        lab.add_node(1)            # the address is node_address(1), the command's prefix lab.prefix(1)

Contract: everything is named `rocf-<pid>-...`, so that what a run leaves behind because it was killed is found by the
next one (`remove_leftovers`) and nobody else's is touched. The namespaces of a run end with `close`, also after a
failure, SIGINT or SIGTERM (`__main__` turns those into exceptions). The process itself moves into the clients'
namespace (setns of the main thread, before there is another one): gRPC opens sockets on threads of its own, so there is
no other way to be sure where they are.

Addresses and ports are the same in every run: each run has its own bridge.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import Final, Self

PREFIX: Final = "rocf-"
NETNS: Final = Path("/run/netns")
SUBNET: Final = "10.77.0"
CLIENTS_HOST: Final = 200
"""The clients' address in the subnet; the nodes have theirs from 1 on."""
NODES_MAX: Final = 64
BRIDGE: Final = "bridge0"
COMMAND_TIMEOUT_S: Final = 20.0
_CLONE_NEWNET: Final = 0x40000000


def node_address(number: int) -> str:
    """The IPv4 address of a node."""
    return f"{SUBNET}.{number}"


def node_mac(number: int) -> str:
    """The MAC address of a node's only interface; its last byte is the node's number."""
    return f"02:00:0a:4d:00:{number:02x}"


def run(*command: str, stdin: str | None = None) -> str:
    """Run a command; its output. Raises RuntimeError with what it said."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}\n{stdin or ''}")
    return done.stdout


def enter(name: str) -> None:
    """Move this process into a network namespace. Only before it has a second thread."""
    if threading.active_count() != 1:
        raise RuntimeError("a process with several threads cannot move into a network namespace")
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(NETNS / name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(descriptor, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter the network namespace {name}")
    finally:
        os.close(descriptor)


def left_by(pid: int) -> list[str]:
    """The namespaces that a run with this pid made and that are still there."""
    names = [path.name for path in NETNS.iterdir()] if NETNS.is_dir() else []
    return sorted(name for name in names if name.startswith(f"{PREFIX}{pid}-"))


def remove_leftovers() -> list[str]:
    """Remove what runs left behind that are gone; the names."""
    removed = []
    for path in sorted(NETNS.iterdir()) if NETNS.is_dir() else []:
        if not path.name.startswith(PREFIX):
            continue
        pid = path.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdigit() and not _is_a_run(int(pid)):
            run("ip", "netns", "delete", path.name)
            removed.append(path.name)
    return removed


def _is_a_run(pid: int) -> bool:
    try:
        return b"python" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


class Lab:
    """See the module. One a process."""

    def __init__(self) -> None:
        self._name = f"{PREFIX}{os.getpid()}"
        self.bridge_namespace: Final = f"{self._name}-bridge"
        self.clients_namespace: Final = f"{self._name}-clients"
        self._nodes: dict[int, str] = {}
        self._made: list[str] = []

    def open(self) -> None:
        """Make the bridge and the clients' namespace, and move there. Raises RuntimeError or OSError."""
        remove_leftovers()
        self._make(self.bridge_namespace)
        self._bridge("link", "add", BRIDGE, "type", "bridge", "stp_state", "0", "mcast_snooping", "0")
        self._bridge("link", "set", BRIDGE, "up")
        self._make(self.clients_namespace)
        self._connect(self.clients_namespace, "clients", CLIENTS_HOST)
        enter(self.clients_namespace)

    def add_node(self, number: int) -> None:
        """A namespace for a node, connected to the bridge. One that is there already stays."""
        if not 1 <= number <= NODES_MAX:
            raise ValueError(f"node {number}: from 1 to {NODES_MAX}")
        if number in self._nodes:
            return
        name = f"{self._name}-{number}"
        self._make(name)
        self._nodes[number] = name
        self._connect(name, f"n{number}", number)

    def prefix(self, number: int) -> list[str]:
        """What a command begins with that runs on a node's host. The process keeps its pid, and sees all files."""
        return ["nsenter", f"--net={NETNS / self._nodes[number]}", "--"]

    @property
    def bridge_prefix(self) -> list[str]:
        """As `prefix`, for a command that runs on the bridge."""
        return ["nsenter", f"--net={NETNS / self.bridge_namespace}", "--"]

    def close(self) -> None:
        """Remove all namespaces of this run. Processes in them must have ended."""
        for name in reversed(self._made):
            if (NETNS / name).exists():
                run("ip", "netns", "delete", name)
        self._made.clear()
        self._nodes.clear()

    def _make(self, name: str) -> None:
        self._made.append(name)
        run("ip", "netns", "add", name)
        run("ip", "-netns", name, "link", "set", "lo", "up")

    def _bridge(self, *arguments: str) -> None:
        run("ip", "-netns", self.bridge_namespace, *arguments)

    def _connect(self, name: str, port: str, host: int) -> None:
        """A cable from a namespace's `eth0` to the bridge's `port`."""
        mac = node_mac(host)
        self._bridge(
            "link", "add", port, "type", "veth", "peer", "name", "eth0", "address", mac, "netns", name
        )  # fmt: skip
        # One packet is one packet: a rule that drops one in ten must not see 64 KB as one.
        self._bridge("link", "set", port, "gso_max_segs", "1", "master", BRIDGE, "up")
        run("ip", "-netns", name, "link", "set", "eth0", "gso_max_segs", "1", "up")
        run("ip", "-netns", name, "address", "add", f"{node_address(host)}/24", "dev", "eth0")
        # Known for ever: while a relay delays packets the bridge sees them come out of another port.
        run("bridge", "-netns", self.bridge_namespace, "fdb", "replace", mac, "dev", port, "master", "static")

    def __enter__(self) -> Self:
        try:
            self.open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
