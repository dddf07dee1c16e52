"""The sniffer and a cluster of three real nodes, whose leader is killed while connections are opened."""

from __future__ import annotations

import contextlib
import signal
import socket
from pathlib import Path

import pytest

from rocinante.client import Client, FlowSelection
from tests.agents.sniffing import Sniff, describe
from tests.support.cluster import Cluster
from tests.support.ports import free_port

CONNECTIONS = 40


@pytest.mark.root
def test_every_connection_is_on_all_nodes_although_the_leader_was_killed(tmp_path: Path) -> None:
    port = free_port()
    with contextlib.ExitStack() as stack, Cluster(tmp_path / "cluster") as cluster:
        cluster.start()
        leader = cluster.wait_leader()
        endpoints = [cluster.endpoint(number) for number in (1, 2, 3)]
        run = stack.enter_context(
            Sniff("-i", "lo", "-c", ",".join(endpoints), "--filter", f"tcp port {port}", "--flush-ms", "50")
        )
        run.wait_line("capturing from lo")
        listener = stack.enter_context(socket.create_server(("127.0.0.1", port)))
        expected = set()
        for number in range(CONNECTIONS):
            if number == CONNECTIONS // 2:
                cluster.kill(leader)
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            stack.enter_context(listener.accept()[0])
            expected.add(f"tcp 127.0.0.1:{client.getsockname()[1]} > 127.0.0.1:{port} ESTABLISHED 2/1")
        cluster.restart(leader)
        status, _, errors = run.end(signal.SIGTERM)
        assert status == 0, errors
        cluster.wait_equal_digests()
        for endpoint in endpoints:
            with Client(endpoint, discover=False) as client_of_one:
                found = client_of_one.flows.list(FlowSelection(port=(port,)), stale=True)
                assert {describe(entry.record) for entry in found} == expected
