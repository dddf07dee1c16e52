"""Which controller a process is: real processes, real ports."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from rocinante.config import ClaimError, ClusterConfig, Controller, claim
from tests.config.tools import local

CLAIMER = """
import json, sys
from rocinante.config import ClaimError, ClusterConfig, Controller, claim
config = ClusterConfig("test", tuple(Controller(*row) for row in json.loads(sys.argv[1])))
sys.stdin.readline()
try:
    held = claim(config)
    print(held.controller.name, flush=True)
    sys.stdin.read()
except ClaimError as error:
    print(error, flush=True)
    sys.exit(1)
"""


class Claimers:
    """Processes that claim when told to, and hold until their end."""

    def __init__(self, config: ClusterConfig, count: int) -> None:
        rows = json.dumps([(node.name, node.address, node.port, node.rest) for node in config.controllers])
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-c", CLAIMER, rows], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for _ in range(count)
        ]

    def go(self) -> list[str]:
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        return [process.stdout.readline().strip() for process in self.processes if process.stdout]

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()


@pytest.fixture
def config() -> ClusterConfig:
    return local(3)


@pytest.fixture
def blocker() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_three_started_at_once_are_three_and_a_fourth_is_none(config: ClusterConfig) -> None:
    claimers = Claimers(config, 4)
    try:
        said = sorted(claimers.go(), key=len)
        assert sorted(said[:3]) == ["node1", "node2", "node3"]
        assert said[3].startswith("no controller of cluster test is free on this host (node1: ")
        for node in config.controllers:
            assert f"{node.name}: {node.endpoint} is claimed by process" in said[3]
    finally:
        claimers.end()


def test_many_rounds_never_give_one_twice(config: ClusterConfig) -> None:
    for _ in range(4):
        claimers = Claimers(config, 3)
        try:
            assert sorted(claimers.go()) == ["node1", "node2", "node3"]
        finally:
            claimers.end()


def test_a_claim_ends_with_its_process(config: ClusterConfig) -> None:
    claimers = Claimers(config, 1)
    try:
        assert claimers.go() == ["node1"]
        with claim(config) as mine:
            assert mine.controller.name == "node2"
    finally:
        claimers.end()
    with claim(config) as mine:
        assert mine.controller.name == "node1"


@pytest.mark.parametrize("which", ["port", "rest"])
def test_a_controller_whose_port_is_taken_is_passed_over(config: ClusterConfig, blocker: ExitStack, which: str) -> None:
    port = getattr(config.controllers[0], which)
    blocker.enter_context(socket.create_server(("127.0.0.1", port)))
    with claim(config) as mine:
        assert mine.controller.name == "node2"
    with pytest.raises(ClaimError, match=rf"^cannot be node1: 127.0.0.1:{port} is in use by this process$"):
        claim(config, "node1")


def test_the_process_on_a_port_is_named(config: ClusterConfig) -> None:
    node = config.controllers[0]
    code = f"import socket, sys; s = socket.create_server(('', {node.rest})); print(flush=True); sys.stdin.read()"
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None
        other.stdout.readline()
        expected = rf"cannot be node1: {re.escape(node.rest_endpoint)} is in use by process {other.pid} \(python.*\)$"
        with pytest.raises(ClaimError, match=expected):
            claim(config, "node1")
    finally:
        other.communicate()


def test_a_listener_on_every_interface_counts(config: ClusterConfig, blocker: ExitStack) -> None:
    blocker.enter_context(socket.create_server(("0.0.0.0", config.controllers[0].port)))
    with claim(config) as mine:
        assert mine.controller.name == "node2"


def test_a_failed_claim_holds_nothing(config: ClusterConfig) -> None:
    with socket.create_server(("127.0.0.1", config.controllers[0].rest)), pytest.raises(ClaimError):
        claim(config, "node1")
    with claim(config, "node1") as mine:
        assert mine.controller is config.controllers[0]


def test_by_name(config: ClusterConfig) -> None:
    with claim(config, "node3") as mine:
        assert mine.controller.name == "node3"
        with pytest.raises(ClaimError, match=r"cannot be node3: .* is claimed by this process"):
            claim(config, "node3")
    claim(config, "node3").close()


def test_an_unknown_name(config: ClusterConfig) -> None:
    expected = r"^no controller is named 'nod2' \(did you mean node2\?\): there are node1, node2, node3$"
    with pytest.raises(ClaimError, match=expected):
        claim(config, "nod2")


def test_controllers_of_other_hosts_are_passed_over(config: ClusterConfig) -> None:
    # TEST-NET-1 and the documentation prefix (RFC 5737, RFC 3849): on nobody's interface.
    others = (Controller("far", "192.0.2.1", 7000, 7001), Controller("far6", "2001:db8::1", 7000, 7001))
    with claim(ClusterConfig("test", (*others, *config.controllers))) as mine:
        assert mine.controller.name == "node1"
    with pytest.raises(ClaimError, match=r"far: 192.0.2.1 is not an address of this host; far6: 2001:db8::1 is not an"):
        claim(ClusterConfig("test", others))


def test_a_port_that_needs_privilege(config: ClusterConfig) -> None:
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 1:
        pytest.skip("every port is open to everybody here")
    node = Controller("low", "127.0.0.1", 1, config.controllers[0].rest)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        with pytest.raises(ClaimError, match=r"cannot be low: 127.0.0.1:1 needs a privilege"):
            claim(ClusterConfig("test", (node,)), "low")
    finally:
        if root:
            os.seteuid(0)
