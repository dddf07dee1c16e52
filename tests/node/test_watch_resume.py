"""A watch that goes on at a node which is behind the one that it was read from before."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from rocinante.client import Client, EventKind, FlowChange
from rocinante.errors import OutOfRange
from rocinante.flows import FlowRecord, FlowTuple
from tests.node.tools import others
from tests.rest.conftest import NO_TLS
from tests.rest.test_events import Event, parse_events
from tests.support.cluster import Cluster

WRITES = 50
WAIT_S = 60


def record(number: int) -> FlowRecord:
    return FlowRecord(FlowTuple(0, 6, bytes((10, 0, 0, number)), 7, b"\xc0\0\2\1", 443), updated_ms=1)


def test_it_waits_for_the_node_and_misses_nothing(tmp_path: Path) -> None:
    """It is not told that what follows is gone, nor that its index is of the future."""
    with Cluster(tmp_path) as cluster:
        cluster.start()
        leader = cluster.wait_leader()
        behind = others(cluster, leader)[0]
        asked = threading.Semaphore(0)

        def by_grpc(index: int) -> FlowChange:
            with (
                Client([cluster.endpoint(behind)], timeout_s=WAIT_S) as client,
                client.flows.watch(from_index=index) as watch,
            ):
                asked.release()
                return next(watch)

        def by_rest(index: int) -> Event:
            with httpx.Client(base_url=cluster.url(behind), timeout=WAIT_S, verify=NO_TLS) as http:
                asked.release()
                with http.stream("GET", f"/v1/events?types=flow&from_index={index}") as answer:
                    assert answer.status_code == 200, answer.read()
                    return next(parse_events(answer.iter_lines()))

        with Client([cluster.endpoint(leader)], timeout_s=WAIT_S) as client, ThreadPoolExecutor() as pool:
            client.flows.put([record(0)])
            cluster.pause(behind)
            try:
                for number in range(WRITES):
                    read = client.flows.put([record(number)]).index
                by_calls, by_events = pool.submit(by_grpc, read), pool.submit(by_rest, read)
                assert all(asked.acquire(timeout=WAIT_S) for _ in range(2))
            finally:
                cluster.resume(behind)
            written = client.flows.put([record(WRITES)]).index
            change, event = by_calls.result(WAIT_S), by_events.result(WAIT_S)
        assert (change.kind, change.index) == (EventKind.PUT, written)
        assert (event.name, event.id) == ("flow", str(written))


def test_an_index_that_the_cluster_never_had_is_told_so(tmp_path: Path) -> None:
    """It is of another cluster's log, which was here before, say: to wait for it would be to miss what is written."""
    with Cluster(tmp_path) as cluster:
        cluster.start()
        follower = others(cluster, cluster.wait_leader())[0]
        with (
            httpx.Client(base_url=cluster.url(follower), timeout=WAIT_S, verify=NO_TLS) as http,
            http.stream("GET", "/v1/events?types=flow&from_index=1000000") as answer,
        ):
            event = next(parse_events(answer.iter_lines()))
        assert event.name == "fell-behind"
        assert "in the future" in event.data["message"]
        with (
            Client([cluster.endpoint(follower)], timeout_s=WAIT_S) as client,
            client.flows.watch(from_index=1_000_000) as watch,
            pytest.raises(OutOfRange),
        ):
            next(watch)
