"""Writers and a cluster of three real processes whose leader is killed (SIGKILL) and stopped (SIGSTOP) meanwhile.

Every record carries the number of its put as the packet counter. A watch sees all batches in the order of the log: of
each flow the numbers must rise there, so that an update which was overtaken, or carried out twice, is seen.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import pytest

from rocinante.client import Client, EventKind, FlowWatch, FlowWriter, PutFlowsResult
from rocinante.errors import RocinanteError
from rocinante.flows import FlowColumns, FlowRecord, FlowTuple, decode_columns
from tests.support.cluster import Cluster

FLOWS = 300
END = 0xFFFFFFFF
"""The counter of the last put."""


def flow_of(base: int, at: int) -> FlowTuple:
    return FlowTuple(0, 6, (0x0A000000 + base + at).to_bytes(4), 7, b"\xc0\0\2\1", 443)


def columns(base: int, count: int) -> FlowColumns:
    return FlowColumns(
        source=range(0x0A000000 + base, 0x0A000000 + base + FLOWS),
        destination="192.0.2.1",
        protocol=6,
        source_port=7,
        destination_port=443,
        packets_original=count,
        updated_ms=1,
    )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        cluster.start()
        cluster.wait_leader()
        yield cluster


class Order(threading.Thread):
    """Reads the watch, and holds that the counters of each flow rise."""

    def __init__(self, watch: FlowWatch, ends: int) -> None:
        super().__init__(name="order")
        self.watch = watch
        self.ends = ends
        self.problems: list[str] = []
        self.batches = 0
        self.indexes: list[int] = []
        """Of all changes, so that a failure shows where it was."""
        self._last: dict[int, int] = {}

    def run(self) -> None:
        for change in self.watch:
            if change.kind is not EventKind.PUT:
                self.problems.append(f"{change.kind.name} at {change.index}, after {self.indexes[-3:]}")
                continue
            self.batches += 1
            self.indexes.append(change.index)
            found = decode_columns(change.batch)
            for source, count in zip(found.source.tolist(), found.packets_original.tolist(), strict=True):
                if count <= self._last.get(source, 0):
                    self.problems.append(f"{source:x}: {count} after {self._last[source]} at {change.index}")
                self._last[source] = count
            if sum(count == END for count in self._last.values()) == self.ends:
                return


class Load(threading.Thread):
    """Puts all its flows again and again, all in columns, and remembers what was acknowledged."""

    def __init__(self, client: Client, base: int) -> None:
        super().__init__(name=f"load-{base:x}")
        self.base = base
        self.acknowledged = 0
        self.failures: list[BaseException] = []
        self.stop = threading.Event()
        self.puts = 0
        self.writer = client.flows.writer(batch_records=100, linger_s=0.001, timeout_s=60)

    def run(self) -> None:
        with self.writer:
            while not self.stop.wait(0.002):
                self.puts += 1
                self.writer.submit(columns(self.base, self.puts)).add_done_callback(self._done(self.puts))
            self.writer.submit(columns(self.base, END)).add_done_callback(self._done(END))

    def _done(self, count: int) -> Callable[[Future[PutFlowsResult]], None]:
        def told(future: Future[PutFlowsResult]) -> None:
            if (error := future.exception()) is not None:
                self.failures.append(error)
            else:
                self.acknowledged = max(self.acknowledged, count)

        return told


class Barrier(threading.Thread):
    """Writes one flow until a member has applied it, and reads it there at once, stale."""

    def __init__(self, client: Client, writer: FlowWriter, name: str, endpoint: str, base: int) -> None:
        super().__init__(name=f"barrier-{name}")
        self.client, self.writer, self.member, self.endpoint, self.base = client, writer, name, endpoint, base
        self.kept = self.missed = 0
        self.problems: list[str] = []
        self.stop = threading.Event()

    def run(self) -> None:
        count = 0
        while not self.stop.is_set():
            count += 1
            record = FlowRecord(flow_of(self.base, 0), packets_original=count, updated_ms=1)
            try:
                self.writer.put(record, until=f"applied:{self.member}", timeout_s=10)
            except RocinanteError:
                self.missed += 1
                continue
            try:
                answer = self.client.flows.get_many([record], stale=True, endpoint=self.endpoint, timeout_s=10)
            except RocinanteError:
                continue  # it died between the two
            (entry,) = answer.entries()
            if entry is None or entry.record.packets_original != count:
                self.problems.append(f"{self.member}: {count} is not there, but {entry}")
            self.kept += 1


def test_leaders_are_killed_and_stopped_under_writers(cluster: Cluster) -> None:
    with Client(cluster.endpoints(), timeout_s=60, try_timeout_s=1) as client:
        began = int(str(cluster.status(cluster.wait_leader())["applied"]))
        loads = [Load(client, base) for base in (0, 1 << 16)]
        bounds = [Load(client, 2 << 16)]
        single = client.flows.writer(timeout_s=60)
        order = Order(client.flows.watch(from_index=began, batches=True), FLOWS * 3)
        barriers = [
            Barrier(client, single, node.name, node.endpoint, (3 << 16) + number)
            for number, node in cluster.nodes.items()
        ]
        stoppable: list[Load | Barrier] = [*loads, *bounds, *barriers]
        order.start()
        for thread in stoppable:
            thread.start()
        try:
            for fault in ("kill", "stop", "kill"):
                _let_write(loads)
                leader = cluster.wait_leader()
                if fault == "kill":
                    cluster.kill(leader)
                    cluster.wait_leader(other_than=leader)
                    _let_write(loads)
                    cluster.start(leader)
                else:
                    cluster.pause(leader)
                    _let_write(loads)
                    cluster.resume(leader)
            _let_write(loads)
            cluster.wait_until(lambda: all(one.kept > 3 for one in barriers), "each barrier was kept several times")
        finally:
            for thread in stoppable:
                thread.stop.set()
            for thread in stoppable:
                thread.join(120)
        order.join(120)
        alive = order.is_alive()
        order.watch.close()
        assert not alive, "the watch did not see all that was written"
        single.close()
        assert not order.problems, order.problems[:5]
        assert order.batches > 20
        for load in [*loads, *bounds]:
            assert not load.failures
            assert load.acknowledged == END
            assert load.writer.counters.failed_batches == 0
        for barrier in barriers:
            assert not barrier.problems, barrier.problems[:5]
        assert sum(load.writer.counters.retries for load in loads) > 0, "no batch was under way: the test shows nothing"
        with client.flows.writer() as writer:
            # Of this writer's own, behind all the others in the log: a barrier of one that put nothing waits for
            # nothing.
            writer.put(FlowRecord(flow_of(4 << 16, 0), updated_ms=1), until="all", timeout_s=30)
        for number in cluster.nodes:
            answer = client.flows.get_many(columns(0, 0), stale=True, endpoint=cluster.endpoint(number))
            found = answer.columns()
            assert found is not None
            assert found.packets_original.tolist() == [END] * FLOWS
    cluster.wait_equal_digests()


def _let_write(loads: list[Load]) -> None:
    """Until what is put now is acknowledged."""
    wanted = [load.puts for load in loads]
    end = time.monotonic() + 120
    while any(load.acknowledged < count for load, count in zip(loads, wanted, strict=True)):
        assert time.monotonic() < end, f"nothing is written any more: {[load.failures[:1] for load in loads]}"
        threading.Event().wait(0.05)


def test_what_was_acknowledged_just_before_the_leader_died_is_there(cluster: Cluster) -> None:
    """`committed` means on the disks of a majority: what the one that is killed acknowledged is on another."""
    with Client(cluster.endpoints(), timeout_s=60, try_timeout_s=1) as client, client.flows.writer() as writer:
        for round_ in range(1, 3):
            leader = cluster.wait_leader()
            writer.put(columns(9 << 16, round_), until="committed", timeout_s=30)
            cluster.kill(leader)
            found = client.flows.get_many(columns(9 << 16, 0)).columns()
            assert found is not None
            assert found.packets_original.tolist() == [round_] * FLOWS
            cluster.start(leader)
            writer.put(columns(9 << 16, round_ + 10), until="all", timeout_s=30)
