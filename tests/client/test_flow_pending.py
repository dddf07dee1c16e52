"""What waits in a writer, against a model that is a list: the last record of each flow goes, one at a time."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from rocinante.client.flow_pending import Pending, Taken, pairs_of
from rocinante.flows import Backend, FlowRecord, FlowTuple, decode_batch, encode_batch

FLOWS = [
    *(FlowTuple.from_text("tcp", f"10.0.0.{at}:1", "10.0.0.9:2") for at in range(1, 5)),
    FlowTuple.from_text("tcp", "[::1]:1", "[::2]:2"),
]
SHAPES = [{}, {}, {"backend_name": "web"}, {"backend": Backend(bytes(16), 1)}]


class PendingModel(RuleBasedStateMachine):
    """Records carry the number of their put."""

    def __init__(self) -> None:
        super().__init__()
        self.pending = Pending()
        self.puts = 0
        self.waiting: dict[FlowTuple, FlowRecord] = {}
        self.under_way: list[tuple[Taken, set[FlowTuple]]] = []
        self.seen: dict[FlowTuple, int] = {}
        self.given = self.replaced = self.sent = 0

    @rule(
        flows=st.lists(st.tuples(st.sampled_from(FLOWS), st.sampled_from(SHAPES)), min_size=1, max_size=6),
        encoded=st.booleans(),
    )
    def put(self, flows: list[tuple[FlowTuple, dict[str, object]]], encoded: bool) -> None:
        records = []
        for flow, shape in flows:
            self.puts += 1
            records.append(FlowRecord(flow, packets_original=self.puts, **shape))  # type: ignore[arg-type]
        if encoded:  # batch by batch, as somebody who has encoded them already
            for batch in encode_batch(records):
                self.waiting |= {record.original: record for record in decode_batch(batch)}
                self._add(batch)
        else:
            self.waiting |= {record.original: record for record in records}
            self._add(records)

    def _add(self, flows: bytes | list[FlowRecord]) -> None:
        for part in pairs_of(flows):
            self.given += part.given
            self.replaced += self.pending.add(part)

    @rule(records_max=st.integers(1, 4))
    def take(self, records_max: int) -> None:
        taken = self.pending.take(records_max, 1 << 20)
        busy = {flow for _, flows in self.under_way for flow in flows}
        if taken is None:
            assert not self.waiting.keys() - busy, "what could go does not"
            return
        records = decode_batch(taken.batch)
        assert 0 < len(records) <= records_max
        assert [record.key for record in records] == taken.keys
        for record in records:
            assert record == self.waiting.pop(record.original), "the last one"
            assert record.original not in busy, "two with one flow are on their way"
            assert record.packets_original > self.seen.get(record.original, 0)
            self.seen[record.original] = record.packets_original
        self.sent += len(records)
        self.under_way.append((taken, {record.original for record in records}))

    @rule(which=st.integers(0, 5))
    def answer(self, which: int) -> None:
        if which < len(self.under_way):
            taken, _ = self.under_way.pop(which)
            self.pending.release(taken.keys, len(taken.batch))

    @invariant()
    def numbers_agree(self) -> None:
        assert len(self.pending) == len(self.waiting) == self.given - self.replaced - self.sent
        assert self.pending.keys() == {flow.key() for flow in self.waiting}
        assert self.pending.size_bytes == sum(len(batch) - 12 for batch in encode_batch(self.waiting.values()))
        assert self.pending.busy == sum(len(flows) for _, flows in self.under_way)
        assert self.pending.busy_bytes == sum(len(taken.batch) for taken, _ in self.under_way)


TestPending = PendingModel.TestCase
TestPending.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
