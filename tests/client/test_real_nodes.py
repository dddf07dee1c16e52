"""The client and the command against real nodes, whose leader is killed."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from rocinante.cli.main import run
from rocinante.client import Client, RestClient
from tests.support.cluster import Cluster

KILLS = 1


def test_nothing_is_lost_or_doubled_when_leaders_die(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with Cluster(tmp_path, nodes=3) as cluster:
        cluster.start()
        first = cluster.wait_leader()
        over = threading.Event()
        written = [0, 0, 0]
        rest_urls = [cluster.url(number) for number in (1, 2, 3)]
        with (
            Client(cluster.endpoint(1 if first != 1 else 2), timeout_s=30) as client,
            RestClient(rest_urls, timeout_s=30) as rest,
            client.kv.watch("writer-0", from_revision=1) as events,
        ):

            def work(number: int) -> None:
                put = rest.kv.put if number == 2 else client.kv.put
                while not over.is_set():
                    put(f"writer-{number}", str(written[number] + 1))
                    written[number] += 1

            workers = [threading.Thread(target=work, args=(number,)) for number in range(3)]
            for worker in workers:
                worker.start()
            leader = first
            for _ in range(KILLS):
                seen = list(written)
                cluster.wait_until(
                    lambda seen=seen: all(now > old + 5 for now, old in zip(written, seen, strict=True)), "writes"
                )
                cluster.kill(leader)
                dead, leader = leader, cluster.wait_leader(other_than=leader)
                cluster.restart(dead)
            over.set()
            for worker in workers:
                worker.join()
            found = [client.kv.get(f"writer-{number}") for number in range(3)]
            assert [item.version for item in found if item is not None] == written
            assert [int(next(events).item.value) for _ in range(written[0])] == list(range(1, written[0] + 1))
        cluster.wait_equal_digests()
        assert run(["status", "-o", "json", "-c", cluster.endpoint(1)]) == 0
        status = json.loads(capfdbinary.readouterr().out)
        assert [node["answered"] for node in status["nodes"]] == [True] * 3
        assert run(["snapshot", "save", str(tmp_path / "backup.snap"), "-c", cluster.endpoint(2)]) == 0
