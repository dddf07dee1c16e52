"""The life of flows on real nodes: time-outs, the cluster's time when wall clocks jump, a mass expiry, a full table."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rocinante.client import Client, FlowEntry, FlowSelection
from rocinante.flows import FlowFlag, FlowRecord, FlowTuple, TcpState, encode_batch
from rocinante.flows.timeouts import NO_DEADLINE
from tests.node.tools import FAST, refused, rest
from tests.support.cluster import Cluster

HOUR_S = 3600
FAKE_WALL = """\
import os, time

_path, _time_ns = os.environ["FAKE_WALL"], time.time_ns

def _now_ns():
    try:
        with open(_path) as file:
            return _time_ns() + int(float(file.read() or 0) * 1e9)
    except (OSError, ValueError):
        return _time_ns()

time.time_ns = _now_ns
time.time = lambda: _now_ns() / 1e9
"""
"""A node's wall clock is off by what a file says. Its monotonic clock is not."""


def flow(number: int, protocol: str = "udp", *, zone: int = 0, **fields: object) -> FlowRecord:
    source = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}:1024"
    return FlowRecord(FlowTuple.from_text(protocol, source, "192.0.2.1:53", zone), **fields)  # type: ignore[arg-type]


def one(client: Client, record: FlowRecord) -> FlowEntry | None:
    (found,) = client.flows.get([record])
    return found


def flows_on(cluster: Cluster, number: int) -> int:
    return int(str(cluster.status(number)["flows"]))


def alarms(cluster: Cluster, number: int) -> str:
    return " ".join(str(alarm) for alarm in cluster.status(number)["alarms"])  # type: ignore[attr-defined]


def test_time_outs_by_protocol_state_and_zone(tmp_path: Path) -> None:
    options = {"timeouts": {"udp": 600, "udpStream": 700, "tcpClose": 1}, "zones": {7: {"udp": 800}}}
    with Cluster(tmp_path, nodes=1, flows=options, timers=FAST) as cluster:
        cluster.start()
        cluster.wait_leader()
        with Client(cluster.endpoints(), timeout_s=60) as client:
            begun_ms = int(time.time() * 1000)
            written = [
                (flow(1), 600),
                (flow(2, flags=FlowFlag.SEEN_REPLY), 700),
                (flow(3, zone=7), 800),
                (flow(4, "tcp", tcp_state=TcpState.ESTABLISHED), 432_000),
                (flow(5, backend_name="web"), 600),
            ]
            client.flows.put([record for record, _ in written])
            for record, seconds in written:
                found = one(client, record)
                assert found is not None
                left_s = (found.record.deadline_ms - begun_ms) / 1000
                assert seconds - 2 < left_s < seconds + 90, record
            forever = flow(6, deadline_ms=NO_DEADLINE)
            client.flows.put([forever, flow(7, "tcp", tcp_state=TcpState.CLOSE)])
            cluster.wait_until(lambda: flows_on(cluster, 1) == 6, "what is closed ends after a second")
            found = one(client, forever)
            assert found is not None
            assert found.record.deadline_ms == NO_DEADLINE


def test_an_update_moves_the_deadline(tmp_path: Path) -> None:
    with Cluster(tmp_path, nodes=1, flows={"timeouts": {"udp": 4}}, timers=FAST) as cluster:
        cluster.start()
        cluster.wait_leader()
        with Client(cluster.endpoints(), timeout_s=60) as client:
            client.flows.put([flow(1), flow(2)])
            first = one(client, flow(1))
            assert first is not None
            # As long as it takes what was written with it to end.
            while True:
                ended = one(client, flow(2)) is None
                client.flows.put([flow(1)])
                found = one(client, flow(1))
                assert found is not None
                if ended:
                    break
            assert found.record.deadline_ms > first.record.deadline_ms
            cluster.wait_until(lambda: flows_on(cluster, 1) == 0, "both are gone")


def test_time_outs_can_be_off(tmp_path: Path) -> None:
    with Cluster(tmp_path, nodes=1, flows={"timeouts": "off"}, timers=FAST) as cluster:
        cluster.start()
        cluster.wait_leader()
        with Client(cluster.endpoints(), timeout_s=60) as client:
            client.flows.put([flow(1)])
            found = one(client, flow(1))
            assert found is not None
            assert found.record.deadline_ms == 0


class Clocks:
    """The wall clocks of a cluster's nodes."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        code = directory / "code"
        code.mkdir()
        (code / "sitecustomize.py").write_text(FAKE_WALL)
        self._files = {number: directory / f"wall{number}" for number in cluster.nodes}
        for number, node in cluster.nodes.items():
            node.environment |= {"PYTHONPATH": str(code), "FAKE_WALL": str(self._files[number])}

    def put(self, seconds: float, *numbers: int) -> None:
        for number in numbers or self._files:
            self._files[number].write_text(str(seconds))


@pytest.fixture
def clocked(tmp_path: Path) -> Iterator[tuple[Cluster, Clocks]]:
    with Cluster(tmp_path / "cluster", nodes=3, timers=FAST) as cluster:
        clocks = Clocks(cluster, tmp_path)
        cluster.start()
        yield cluster, clocks


def wait_until_the_time_is_said(cluster: Cluster, leader: int) -> None:
    """Before, the cluster has no time of its own."""

    def said() -> bool:
        lines = rest(cluster, leader, "GET", "/v1/committed?last=100").json["entries"]
        return any("clock: " in command for line in lines for command in line["commands"])

    cluster.wait_until(said, "the leader has said the time")


def test_a_leaders_clock_that_jumps_ends_no_flow_and_is_told(clocked: tuple[Cluster, Clocks]) -> None:
    cluster, clocks = clocked
    leader = cluster.wait_leader()
    wait_until_the_time_is_said(cluster, leader)
    others = [number for number in cluster.nodes if number != leader]
    with Client(cluster.endpoints(), timeout_s=60) as client:
        client.flows.put([flow(number, deadline_ms=int((time.time() + 200) * 1000)) for number in range(100)])
        for jump_s, direction in ((288, "ahead of"), (-288, "behind"), (5 * HOUR_S, "ahead of")):
            clocks.put(jump_s, leader)
            cluster.wait_until(lambda: f"{direction} the cluster's time" in alarms(cluster, leader), "the alarm")  # noqa: B023
            assert len(list(client.flows.list())) == 100
            assert not any("cluster's time" in alarms(cluster, number) for number in others)
            client.flows.put([flow(1000)])
            found = one(client, flow(1000))
            assert found is not None
            assert abs(found.record.deadline_ms / 1000 - time.time() - 30) < 15, "stamped by the cluster's time"
            client.flows.delete([flow(1000)])
        clocks.put(0, leader)
        cluster.wait_until(lambda: not alarms(cluster, leader), "the alarm is over")


def test_a_cluster_that_was_down_catches_up_at_once(clocked: tuple[Cluster, Clocks]) -> None:
    cluster, clocks = clocked
    wait_until_the_time_is_said(cluster, cluster.wait_leader())
    with Client(cluster.endpoints(), timeout_s=60) as client:
        client.flows.put([*(flow(number) for number in range(50)), flow(99, deadline_ms=NO_DEADLINE)])
        for number in cluster.nodes:
            cluster.stop(number)
        clocks.put(HOUR_S)
        cluster.start()
        cluster.wait_leader()
        cluster.wait_until(lambda: all(flows_on(cluster, number) == 1 for number in cluster.nodes), "they have ended")
        assert [entry.record.original for entry in client.flows.list()] == [flow(99).original]
    assert not any("cluster's time" in alarms(cluster, number) for number in cluster.nodes)


def test_many_flows_that_end_together_end_soon_and_on_all_nodes(tmp_path: Path) -> None:
    count, life_ms = 60_000, 6_000
    with Cluster(tmp_path, nodes=3, timers=FAST, storage={"engine": "memory"}) as cluster:
        cluster.start()
        cluster.wait_leader()
        with Client(cluster.endpoints(), timeout_s=60) as client:
            deadline_ms = int(time.time() * 1000) + life_ms
            for batch in encode_batch(flow(number, deadline_ms=deadline_ms) for number in range(count)):
                client.flows.put(batch)
            client.flows.put([flow(count + 1, deadline_ms=NO_DEADLINE)])
            cluster.wait_until(lambda: time.time() * 1000 > deadline_ms, "they are due")
            cluster.wait_until(lambda: client.flows.get([flow(1)]) == (None,), "hidden, by the cluster's time")
            cluster.wait_until(lambda: all(flows_on(cluster, number) == 1 for number in cluster.nodes), "gone")
            cluster.wait_equal_digests()
            client.flows.put([flow(1, deadline_ms=NO_DEADLINE)])
            assert client.flows.delete_where(FlowSelection(protocol=["udp"])).deleted == 2


def test_a_full_table_takes_updates_but_no_new_flows(tmp_path: Path) -> None:
    flows = {"max": 1000, "maxBytes": 1 << 20, "timeouts": "off"}  # UDP's 30 s may be over before the table is full
    with Cluster(tmp_path, nodes=1, flows=flows, timers=FAST) as cluster:
        cluster.start()
        cluster.wait_leader()
        with Client(cluster.endpoints(), timeout_s=60) as client:
            client.flows.put([flow(number) for number in range(950)])
            cluster.wait_until(
                lambda: "little room for more flows: 950 of 1000" in alarms(cluster, 1), "the alarm before"
            )
            client.flows.put([flow(number) for number in range(1000)])
            client.flows.put([flow(number, mark=7) for number in range(500, 1000)])
            assert "1000 of 1000 records (flows.max)" in refused(cluster, 1, [flow(5), flow(1001)])
            found = one(client, flow(5))
            assert found is not None
            assert client.flows.delete([flow(number) for number in range(900)]).deleted == 900
            data = b"x" * 1000
            client.flows.put([flow(number, application_data=data) for number in range(2000, 2750)])
            more = [flow(number, application_data=data) for number in range(3000, 3100)]
            assert "bytes (flows.maxBytes)" in refused(cluster, 1, more)
            cluster.wait_until(lambda: "little room for more flows" in alarms(cluster, 1), "the alarm of bytes")
