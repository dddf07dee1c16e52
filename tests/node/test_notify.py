"""sd_notify(3) over a real datagram socket, as systemd would see it."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rocinante.node.notify import Notifier
from tests.node.tools import FAST, log_size, wait_log
from tests.support.cluster import Cluster


class Manager:
    """The other end of NOTIFY_SOCKET: what came, in order, with the time at which it was read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self.states: list[str] = []

    def read(self, timeout_s: float) -> str | None:
        """The next datagram."""
        self._socket.settimeout(timeout_s)
        try:
            state = self._socket.recv(4096).decode()
        except TimeoutError:
            return None
        self.states.append(state)
        return state

    def drain(self) -> None:
        """All that waits already."""
        self._socket.setblocking(False)
        while True:
            try:
                self.states.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return

    def wait(self, beginning: str, timeout_s: float = 60.0) -> str:
        end = time.monotonic() + timeout_s
        while (left := end - time.monotonic()) > 0:
            state = self.read(left)
            if state is not None and state.startswith(beginning):
                return state
        raise AssertionError(f"{beginning} did not come; there was {self.states}")

    def close(self) -> None:
        self._socket.close()


@contextmanager
def managed(tmp_path: Path, **environment: str) -> Iterator[tuple[Cluster, Manager]]:
    """One node under a manager; the node is a cluster of its own."""
    manager = Manager(tmp_path / "notify")
    try:
        with Cluster(tmp_path / "cluster", nodes=1, timers=FAST) as cluster:
            cluster.nodes[1].environment = {"NOTIFY_SOCKET": str(manager.path), **environment}
            yield cluster, manager
    finally:
        manager.close()


def test_a_life_under_systemd_from_start_to_stop(tmp_path: Path) -> None:
    with managed(tmp_path, WATCHDOG_USEC="600000") as (cluster, manager):
        cluster.start()
        manager.wait("READY=1")
        assert cluster.status(1)["role"] != "not_ready", "ready is said when it is true"
        manager.wait("STATUS=leader, term ")
        manager.wait("WATCHDOG=1")
        manager.wait("WATCHDOG=1")
        assert manager.states.count("READY=1") == 1

        cluster.options["log"] = {"level": "debug"}
        cluster.write_config(cluster.config)
        offset = log_size(cluster, 1)
        os.kill(cluster.pid(1), signal.SIGHUP)
        reloading = manager.wait("RELOADING=1")
        usec = int(reloading.partition("MONOTONIC_USEC=")[2])
        assert 0 <= time.monotonic_ns() // 1000 - usec < 30_000_000
        manager.wait("READY=1")
        wait_log(cluster, 1, "configuration reloaded", offset)

        cluster.config.write_text("artifact: [")
        offset = log_size(cluster, 1)
        os.kill(cluster.pid(1), signal.SIGHUP)
        manager.wait("RELOADING=1")
        manager.wait("READY=1")
        wait_log(cluster, 1, "the configuration was not reloaded", offset)
        assert cluster.status(1)["role"] == "leader", "a wrong file does no harm"

        assert cluster.stop(1) == 0
        manager.wait("STOPPING=1")
        manager.drain()
        assert manager.states.count("READY=1") == 3
        assert "WATCHDOG=1" not in manager.states[manager.states.index("STOPPING=1") :]


def test_the_watchdog_is_not_fed_by_a_process_that_stands_still(tmp_path: Path) -> None:
    with managed(tmp_path, WATCHDOG_USEC="300000") as (cluster, manager):
        cluster.start()
        manager.wait("WATCHDOG=1")
        cluster.pause(1)
        manager.drain()
        assert manager.read(0.7) is None
        cluster.resume(1)
        manager.wait("WATCHDOG=1")


def test_a_watchdog_meant_for_another_process_is_not_fed(tmp_path: Path) -> None:
    with managed(tmp_path, WATCHDOG_USEC="100000", WATCHDOG_PID="1") as (cluster, manager):
        cluster.start()
        manager.wait("READY=1")
        manager.wait("STATUS=leader")
        assert cluster.stop(1) == 0
        manager.drain()
        assert "WATCHDOG=1" not in manager.states


@pytest.mark.parametrize("path", ["", "/nowhere/at/all"])
def test_without_a_manager_there_is_silence_and_no_harm(tmp_path: Path, path: str) -> None:
    with Cluster(tmp_path, nodes=1, timers=FAST) as cluster:
        cluster.nodes[1].environment = {"NOTIFY_SOCKET": path} if path else {}
        cluster.start()
        cluster.wait_leader()
        cluster.put(1, "key", "v")
        assert cluster.stop(1) == 0
        assert "Traceback" not in cluster.nodes[1].log.read_text()


class Driver:
    """Counts turns, as long as it is let."""

    def __init__(self) -> None:
        self.turns = 0
        self.stuck = False

    def turn(self) -> int:
        if not self.stuck:
            self.turns += 1
        return self.turns


def test_the_watchdog_is_fed_only_while_the_driver_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that feeds it lives on when the driver hangs, and must not hide that."""
    manager, driver = Manager(tmp_path / "notify"), Driver()
    monkeypatch.setenv("NOTIFY_SOCKET", str(manager.path))
    monkeypatch.setenv("WATCHDOG_USEC", "60000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    notifier = Notifier()
    try:
        notifier.start(driver.turn, lambda: f"turn {driver.turns}")
        manager.wait("WATCHDOG=1")
        driver.stuck = True
        manager.wait(f"STATUS=turn {driver.turns}")
        manager.drain()
        before = manager.states.count("WATCHDOG=1")
        end = time.monotonic() + 1.0  # many of its intervals; one may have been under way
        while (left := end - time.monotonic()) > 0:
            manager.read(left)
        assert manager.states.count("WATCHDOG=1") <= before + 1
        driver.stuck = False
        manager.wait("WATCHDOG=1")
    finally:
        notifier.stopping()
        manager.close()
