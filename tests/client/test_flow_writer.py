"""The writer of flows: what it collects, in which order it sends, what it does when the cluster cannot take it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rocinante.client import BatchReport, Client, FlowWriter
from rocinante.errors import (
    InvalidArgument,
    NotApplied,
    OutcomeUnknown,
    ResourceExhausted,
    RocinanteError,
    Unavailable,
)
from rocinante.flows import (
    Backend,
    FlowColumns,
    FlowRecord,
    FlowTuple,
    decode_batch,
    encode_batch,
    encode_columns,
    packed,
)
from rocinante.limits import WRITER_PACK_RECORDS_MIN
from rocinante.state.events import FlowChange, FlowChanges
from tests.client.chaos import ChaosProxy, Cut
from tests.client.serving import PATIENCE_S, WHILE_S, Cluster


def record(at: int, count: int = 1, **more: Any) -> FlowRecord:
    flow = FlowTuple.from_text("tcp", f"10.0.{at // 256}.{at % 256}:7", "192.0.2.1:443")
    return FlowRecord(flow, packets_original=count, updated_ms=1, **more)


def counts(client: Client) -> dict[int, int]:
    """Host number → its counter, as the cluster has it."""
    found = client.flows.list()
    return {int.from_bytes(e.record.original.source[2:]): e.record.packets_original for e in found}


class History:
    """All batches in the order of the log, from a watch."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._watch = cluster.node.watch(1)

    def batches(self) -> list[list[FlowRecord]]:
        """Everything so far."""
        found = []
        last = self._cluster.node.status().applied
        while (events := self._watch.get(0.2)) is not None:
            found += [decode_batch(change.batch) for change in events.flows if change.kind is FlowChange.PUT]
            if events.index >= last:
                break
        return found


def until(reached: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < end, what
        threading.Event().wait(0.005)


WAYS: list[tuple[str, Any, int]] = [
    ("one record", record(1), 1),
    ("several", [record(1), record(2)], 2),
    ("a generator", (record(at) for at in range(3)), 3),
    ("none", [], 0),
    ("both families", [record(1), FlowRecord(FlowTuple.from_text("udp", "[::1]:1", "[::2]:2"))], 2),
    ("a name", record(1, backend_name="web"), 1),
    ("an encoded batch", encode_batch([record(1), record(2)])[0], 2),
    ("a packed batch", bytes(packed(encode_batch([record(at) for at in range(9)])[0])), 9),
    ("columns", FlowColumns(source=[0x0A000001, 0x0A000002], destination="192.0.2.1", protocol=6), 2),
]


@pytest.mark.parametrize(("flows", "records"), [pytest.param(*rest, id=name) for name, *rest in WAYS])
def test_the_ways_to_put(client: Client, flows: Any, records: int) -> None:
    with client.flows.writer() as writer:
        result = writer.put(flows, until="committed")
        assert result is not None
        assert result.records == records
        assert len(list(client.flows.list())) == records
        assert writer.counters.acknowledged == records


def test_a_large_batch_travels_packed_and_is_told_as_it_was(client: Client, one: Cluster) -> None:
    watch = one.node.watch()
    numbers = np.arange(WRITER_PACK_RECORDS_MIN)
    large = FlowColumns(
        source=numbers + 0x0A000000,
        destination="192.0.2.1",
        protocol=6,
        mark=numbers << 20,
        bytes_original=numbers << 20,
    )
    with client.flows.writer() as writer:
        for flows in (large, record(1)):
            writer.put(flows, until="committed", timeout_s=PATIENCE_S)
    changes: list[FlowChanges] = []
    while len(changes) < 2:
        events = watch.get(PATIENCE_S)
        assert events is not None
        changes += events.flows
    assert [len(change.written) < len(change.batch) for change in changes] == [True, False]
    assert encode_columns(large) == [changes[0].batch]


def test_what_is_put_is_there_after_a_flush_and_after_closing(client: Client) -> None:
    with client.flows.writer() as writer:
        for at in range(100):
            writer.put(record(at))
        writer.flush()
        assert counts(client) == dict.fromkeys(range(100), 1)
        writer.put(record(7, 2))
    assert counts(client)[7] == 2
    with pytest.raises(Unavailable, match="closed"):
        writer.put(record(1))
    writer.close()


def test_the_first_goes_at_once_and_the_next_are_collected(client: Client, one: Cluster) -> None:
    """Nothing is on its way: no waiting. While something is: up to `linger_s`, or until a batch is full."""
    history = History(one)
    with client.flows.writer(linger_s=30, batch_records=10) as writer:
        writer.put(record(0), until="committed", timeout_s=PATIENCE_S)
        one.node.be_slow()
        writer.put(record(1))
        until(lambda: writer.under_way == 1, "the first goes at once")
        for at in range(2, 11):
            writer.put(record(at))
        assert (writer.under_way, writer.waiting) == (1, 9), "the others wait for a full batch"
        writer.put(record(11))
        until(lambda: writer.under_way == 11, "a full batch goes though another is on its way")
        one.node.be_normal()
        writer.flush()
    assert [len(batch) for batch in history.batches()] == [1, 1, 10]


def test_updates_of_a_flow_coalesce_and_the_last_one_counts(client: Client, one: Cluster) -> None:
    history = History(one)
    with client.flows.writer(linger_s=0) as writer:
        writer.put(record(0), until="committed")
        one.node.be_slow()
        writer.put(record(1))
        until(lambda: writer.under_way == 1, "it is on its way")
        for count in range(1, 50):
            writer.put([record(1, count), record(2, count)])
        until(lambda: writer.under_way == 2, "what is not on its way may go")
        assert writer.waiting == 1, "a later update of a flow that is on its way waits for it"
        for count in range(50, 100):
            writer.put([record(2, count), record(1, count, backend_name="web")])
        assert writer.waiting == 2
        one.node.be_normal()
        writer.flush()
        assert writer.counters.coalesced == writer.counters.records - writer.counters.acknowledged > 100
    assert counts(client) == {0: 1, 1: 99, 2: 99}
    assert sum(map(len, history.batches())) < 10
    for at in (1, 2):
        seen = [flow.packets_original for batch in history.batches() for flow in batch if flow.key == record(at).key]
        assert seen == sorted(seen)


def test_a_flow_that_gets_or_loses_its_name_is_one_flow(client: Client, one: Cluster) -> None:
    """It changes its kind, and so its batch; the last one counts all the same."""
    with client.flows.writer(linger_s=0) as writer:
        writer.put(record(0), until="committed")
        one.node.be_slow()
        kinds: list[dict[str, Any]] = [{}, {"backend_name": "web"}, {"backend": Backend(bytes(16), 1)}, {}]
        for at, first in enumerate(kinds, 1):
            for other in kinds:
                writer.put(record(100 + at, 1, **first))
                writer.put(record(100 + at, 2, **other))
        one.node.be_normal()
    assert counts(client) == {0: 1, **dict.fromkeys(range(101, 105), 2)}


def test_a_waiter_is_served_by_the_record_that_replaced_its_own(client: Client, one: Cluster) -> None:
    with client.flows.writer(linger_s=0) as writer:
        writer.put(record(1), until="committed")
        one.node.be_slow()
        writer.put(record(1, 2))
        until(lambda: writer.under_way == 1, "it is on its way")
        early = writer.submit([record(1, 3), record(2, 3)])
        late = writer.submit(record(1, 4))
        assert not early.done()
        one.node.be_normal()
        assert early.result(PATIENCE_S).index == late.result(PATIENCE_S).index
        assert counts(client)[1] == 4


def test_reports_of_each_batch(client: Client) -> None:
    reports: list[BatchReport] = []
    with client.flows.writer(on_batch=reports.append) as writer:
        result = writer.put([record(at) for at in range(10)], until="committed")
    assert result is not None
    (report,) = reports
    assert (report.records, report.index, report.error, report.tries) == (10, result.index, None, 1)
    assert report.size_bytes == 12 + 10 * 90
    assert 0 < report.latency_s < PATIENCE_S
    assert writer.metrics()["flow_writer_acknowledged_total"] == 10


BAD: list[tuple[Any, str]] = [
    (FlowRecord(FlowTuple(0, 6, b"123", 1, b"4567", 2)), r"flows\[0\]\.original\.source"),
    ([record(1), record(2, application_data=bytes(2000))], r"flows\[1\]\.application_data: 2000 bytes; at most 1024"),
    (b"RFB1", "batch"),
    (FlowColumns(source=[1, 2], destination=[3, 4], protocol=[6, 300]), r"flows\[1\]\.protocol"),
]


@pytest.mark.parametrize(("flows", "told"), BAD)
def test_a_bad_record_is_refused_alone(client: Client, flows: Any, told: str) -> None:
    """It never gets into a batch that has the records of others."""
    with client.flows.writer() as writer:
        writer.put(record(7))
        with pytest.raises(InvalidArgument, match=told):
            writer.put(flows)
    assert counts(client) == {7: 1}


def test_a_full_writer_blocks_or_refuses(client: Client, one: Cluster) -> None:
    with client.flows.writer(records_max=10, linger_s=0) as writer:
        writer.put(record(0), until="committed")
        one.node.be_slow()
        writer.put([record(at) for at in range(10)])
        with pytest.raises(ResourceExhausted, match="the writer is full"):
            writer.put(record(10), timeout_s=0.05)
        waiting = threading.Thread(target=writer.put, args=(record(11),))
        waiting.start()
        one.node.be_normal()
        waiting.join(PATIENCE_S)
        assert not waiting.is_alive(), "room again"
        assert writer.counters.blocked_s > 0.04
    with client.flows.writer(records_max=1, when_full="raise") as writer:
        one.node.be_slow()
        writer.put(record(12))
        with pytest.raises(ResourceExhausted):
            writer.put(record(13))
        one.node.be_normal()
    assert set(counts(client)) == {*range(10), 11, 12}


def test_a_busy_cluster_slows_it_down_and_fails_nothing(client: Client, one: Cluster) -> None:
    with client.flows.writer(linger_s=0, batch_records=5, timeout_s=PATIENCE_S) as writer:
        writer.put(record(0), until="committed")
        one.node.be_refusing(ResourceExhausted("too many requests wait"))
        for at in range(100):
            writer.put(record(at))
        until(lambda: writer.counters.slowed + writer._tries.slowed > 3, "it is refused again and again")
        one.node.be_normal()
        writer.flush()
        assert writer.counters.failed_batches == 0
    assert counts(client) == dict.fromkeys(range(100), 1)


def test_what_is_refused_for_good_is_reported(client: Client, one: Cluster) -> None:
    """Until its time is up; the records may be put again."""
    reports: list[BatchReport] = []
    with client.flows.writer(timeout_s=WHILE_S, on_batch=reports.append) as writer:
        writer.put(record(0), until="committed")
        one.node.be_refusing(ResourceExhausted("the table is full"))
        with pytest.raises(ResourceExhausted, match="the table is full"):
            writer.put(record(1), until="committed", timeout_s=PATIENCE_S)
        one.node.be_normal()
        failed = reports[-1]
        assert isinstance(failed.error, ResourceExhausted)
        writer.put(failed.batch, until="committed")
    assert counts(client) == {0: 1, 1: 1}


def test_a_failure_that_nobody_was_told_of_is_raised_by_the_next_flush(client: Client, one: Cluster) -> None:
    writer = client.flows.writer(timeout_s=WHILE_S)
    writer.put(record(0), until="committed")
    one.node.be_without_leader()
    writer.put(record(1))
    until(lambda: writer.counters.failed_batches == 1, "its time is up")
    one.node.be_normal()
    with pytest.raises(Unavailable):
        writer.flush()
    writer.put(record(2))
    writer.close()
    assert counts(client) == {0: 1, 2: 1}


def test_closing_a_writer_whose_cluster_is_away_ends_in_time(one: Cluster) -> None:
    with Client(one.endpoints, timeout_s=WHILE_S) as client:
        writer = client.flows.writer()
        writer.put(record(0), until="committed")
        one.node.be_slow()
        future = writer.submit(record(1))
        began = time.monotonic()
        with pytest.raises(RocinanteError):
            writer.close()
        assert time.monotonic() - began < PATIENCE_S
        with pytest.raises(RocinanteError):
            future.result(PATIENCE_S)
        one.node.be_normal()


def test_closing_the_client_first_ends_the_writer(one: Cluster) -> None:
    client = Client(one.endpoints, timeout_s=WHILE_S)
    writer = client.flows.writer()
    writer.put(record(0), until="committed")
    one.node.be_slow()
    writer.put(record(1))
    until(lambda: writer.under_way == 1, "it is on its way")
    client.close()
    with pytest.raises(RocinanteError):
        writer.close()
    one.node.be_normal()


@pytest.mark.parametrize("how", list(Cut))
def test_a_lost_connection_applies_once(how: Cut, one: Cluster) -> None:
    history = History(one)
    proxy = ChaosProxy(one.grpc_ports[0])
    try:
        with Client(proxy.endpoint, discover=False, timeout_s=PATIENCE_S) as client, client.flows.writer() as writer:
            writer.put(record(0), until="committed")
            proxy.cut(record(1).key, how, lambda: one.node.state_machine.flows_count() == 2)
            writer.put(record(1), until="committed")
            assert writer.counters.retries == 1
        assert proxy.made == [how]
    finally:
        proxy.close()
    assert [len(batch) for batch in history.batches()] == [1, 1]


def test_a_session_that_the_cluster_forgot_is_opened_again(client: Client, one: Cluster) -> None:
    with client.flows.writer() as writer:
        writer.put(record(0), until="committed")
        client.flows.put([record(9)])
        session = writer._tries._last_session
        from rocinante.state.command import Kind

        one.node.propose(Kind.SESSION_CLOSE, b"", session=_named(session)).result(PATIENCE_S)
        writer.put(record(1), until="committed")
        assert writer._tries._last_session != session
    assert counts(client) == {0: 1, 1: 1, 9: 1}


def _named(session: int) -> Any:
    from rocinante.ports import SessionRef

    return SessionRef(session, 1)


class Overtaken:
    """A batch that was given up without an answer, and arrives after all, behind the update that came later."""

    def __init__(self, cluster: Cluster, client: Client) -> None:
        self.cluster, self.client = cluster, client

    def run(self) -> list[int]:
        """The counters of the flow, in the order of the log."""
        node = self.cluster.node
        history = History(self.cluster)
        held: list[tuple[Any, ...]] = []
        propose = node.propose

        def lose(kind: Any, body: bytes, **more: Any) -> Any:
            if record(1).key in body and not held:
                held.append((kind, body, more))
                from concurrent.futures import Future

                return Future()
            return propose(kind, body, **more)

        with self.client.flows.writer(timeout_s=WHILE_S, linger_s=0) as writer:
            writer.put(record(0), until="committed")
            node.propose = lose  # type: ignore[method-assign]
            with pytest.raises(OutcomeUnknown):
                writer.put(record(1, 1), until="committed", timeout_s=PATIENCE_S)
            node.propose = propose  # type: ignore[method-assign]
            writer.put(record(1, 2), until="committed", timeout_s=PATIENCE_S)
            kind, body, more = held[0]
            late = propose(kind, body, session=more["session"], timeout_s=PATIENCE_S)
            assert "no longer kept" in str(late.exception(PATIENCE_S)), "the cluster refuses it"
        return [flow.packets_original for batch in history.batches() for flow in batch if flow.key == record(1).key]


def test_a_batch_that_arrives_late_never_overtakes(client: Client, one: Cluster) -> None:
    assert Overtaken(one, client).run() == [2]


def test_many_threads_and_many_writers_on_one_client(client: Client) -> None:
    def work(writer: FlowWriter, base: int) -> None:
        for count in range(1, 21):
            for at in range(base, base + 20):
                writer.put(record(at, count))

    writers = [client.flows.writer(linger_s=0.001) for _ in range(3)]
    threads = [threading.Thread(target=work, args=(writers[at % 3], at * 20)) for at in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for writer in writers:
        writer.close()
    assert counts(client) == dict.fromkeys(range(180), 20)


# --- until


@pytest.mark.parametrize("where", ["committed", "all", "applied:node1"])
def test_until(client: Client, where: str) -> None:
    with client.flows.writer() as writer:
        writer.put(record(1), until=where)
        writer.barrier(where)
    assert counts(client) == {1: 1}


def test_until_by_id_and_endpoint(client: Client, one: Cluster) -> None:
    from rocinante.identity import format_id

    with client.flows.writer() as writer:
        writer.put(record(1), until=f"applied:{format_id(one.node.member.id)}")
        writer.put(record(2), until=f"applied:{one.endpoints[0]}")
        assert counts(client) == {1: 1, 2: 1}, "it is there when the call returns"


@pytest.mark.parametrize("where", ["", "applied", "applied:", "everywhere"])
def test_an_until_that_is_none_writes_nothing(client: Client, where: str) -> None:
    with client.flows.writer() as writer:
        with pytest.raises(InvalidArgument, match="until: "):
            writer.put(record(1), until=where)
        with pytest.raises(InvalidArgument, match="until: "):
            writer.barrier(where)
    assert not counts(client)


def test_a_member_that_there_is_not_or_that_does_not_answer_is_named(three: Cluster) -> None:
    with Client(three.endpoints, timeout_s=PATIENCE_S) as client, client.flows.writer() as writer:
        with pytest.raises(
            NotApplied, match=r"committed at log index \d+, .* node9 \(is no member; there are node1, n"
        ):
            writer.put(record(1), until="applied:node9")
        three.shut(2)
        with pytest.raises(NotApplied) as caught:
            writer.put(record(2), until="all", timeout_s=WHILE_S)
        assert list(caught.value.missing) == ["node3"]
        three.open(2)
        writer.barrier("all")
    with Client(three.endpoints) as client:
        assert counts(client) == {1: 1, 2: 1}


def test_a_barrier_after_everything_was_acknowledged_still_waits_for_the_members(three: Cluster) -> None:
    with Client(three.endpoints, timeout_s=PATIENCE_S) as client, client.flows.writer() as writer:
        writer.put(record(1), until="committed")
        three.shut(1)
        with pytest.raises(NotApplied):
            writer.barrier("all", timeout_s=WHILE_S)


@pytest.mark.parametrize(
    "options",
    [
        {"batch_records": 0},
        {"batch_records": 65_537},
        {"batch_bytes": 9 << 20},
        {"in_flight": 0},
        {"linger_s": -1},
        {"when_full": "drop"},
        {"timeout_s": 0},
    ],
)
def test_options_that_cannot_be(client: Client, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(options))):
        client.flows.writer(**options)
