"""The key store against the simplest model of it: a dictionary a revision, kept for ever.

Random writes, deletions, transactions, compactions, snapshots and restores; at any moment any range of any revision
that is kept reads as the model says, the events from any revision lead from one state to the next, and a restored
state is the same to the byte. (How the answers look in all their fields is compared with etcd's own in tests/state.)
"""

from __future__ import annotations

from typing import Final, NamedTuple

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from rocinante.errors import InvalidArgument, OutOfRange
from rocinante.pb.etcd import kv_pb2, rpc_pb2
from rocinante.state.command import Kind
from tests.fuzz.runs import examples
from tests.state.harness import Driver, content, copy, digest

KEYS: Final = st.sampled_from([b"a", b"a\0", b"ab", b"b", b"c", b"\xff", b"\xff\xff"])
VALUES: Final = st.sampled_from([b"", b"1", b"2", b"\0\xff"])
ENDS: Final = st.sampled_from([b"", b"\0", b"b", b"bb", b"d", b"\xff\xff\xff"])


class Kept(NamedTuple):
    """One key in the model."""

    value: bytes
    create: int
    mod: int
    version: int


State = dict[bytes, Kept]


def inside(key: bytes, begin: bytes, end: bytes) -> bool:
    if not end:
        return key == begin
    return key >= begin and (end == b"\0" or key < end)


class KvMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.driver = Driver()
        self.states: dict[int, State] = {1: {}}
        self.events: list[tuple[int, bytes, bytes | None]] = []
        """(revision, key, value or None)"""
        self.compacted = 0

    @property
    def revision(self) -> int:
        return max(self.states)

    @property
    def now(self) -> State:
        return self.states[self.revision]

    def _put(self, state: State, at: int, key: bytes, value: bytes) -> None:
        before = state.get(key)
        state[key] = Kept(value, before.create if before else at, at, before.version + 1 if before else 1)
        self.events.append((at, key, value))

    def _delete(self, state: State, at: int, begin: bytes, end: bytes) -> list[bytes]:
        gone = [key for key in sorted(state) if inside(key, begin, end)]
        for key in gone:
            del state[key]
            self.events.append((at, key, None))
        return gone

    @rule(key=KEYS, value=VALUES, prev=st.booleans())
    def put(self, key: bytes, value: bytes, prev: bool) -> None:
        before = self.now.get(key)
        answer = self.driver.put(key, value, prev_kv=prev)
        assert answer.HasField("prev_kv") == (prev and before is not None)
        if prev and before:
            assert answer.prev_kv.value == before.value
        at, state = self.revision + 1, dict(self.now)
        self._put(state, at, key, value)
        self.states[at] = state
        assert answer.header.revision == at

    @rule(key=KEYS, end=ENDS)
    def delete(self, key: bytes, end: bytes) -> None:
        answer = self.driver.delete(key, end, prev_kv=True)
        at, state = self.revision + 1, dict(self.now)
        gone = self._delete(state, at, key, end)
        assert answer.deleted == len(gone)
        assert [kv.key for kv in answer.prev_kvs] == gone
        if gone:
            self.states[at] = state
        assert answer.header.revision == self.revision

    @rule(key=KEYS, expected=VALUES, writes=st.dictionaries(KEYS, VALUES, max_size=3), erased=KEYS)
    def transaction(self, key: bytes, expected: bytes, writes: dict[bytes, bytes], erased: bytes) -> None:
        """If the key has that value, several puts, else a deletion and a read of what it did."""
        compare = rpc_pb2.Compare(key=key, target=rpc_pb2.Compare.VALUE, value=expected)
        answer = self.driver.txn(
            rpc_pb2.TxnRequest(
                compare=[compare],
                success=[rpc_pb2.RequestOp(request_put={"key": k, "value": v}) for k, v in writes.items()],
                failure=[
                    rpc_pb2.RequestOp(request_delete_range={"key": erased}),
                    rpc_pb2.RequestOp(request_range={"key": erased}),
                ],
            )
        )
        holds = key in self.now and self.now[key].value == expected
        assert answer.succeeded == holds
        at, state = self.revision + 1, dict(self.now)
        if holds:
            for name, value in writes.items():
                self._put(state, at, name, value)
        else:
            self._delete(state, at, erased, b"")
            assert not answer.responses[1].response_range.kvs
        if self.events and self.events[-1][0] == at:
            self.states[at] = state
        assert answer.header.revision == self.revision

    @precondition(lambda self: self.revision > self.compacted + 1)
    @rule(data=st.data())
    def compact(self, data: st.DataObject) -> None:
        at = data.draw(st.integers(self.compacted + 1, self.revision))
        self.driver.compact(at)
        self.compacted = at

    @rule(at=st.sampled_from([-(2**63), 10**6, 2**63 - 1]))
    def compact_nonsense(self, at: int) -> None:
        answer = self.driver.outcome(Kind.KV_COMPACT, rpc_pb2.CompactionRequest(revision=at).SerializeToString())
        assert isinstance(answer, InvalidArgument | OutOfRange)

    @rule(begin=KEYS, end=ENDS, limit=st.integers(0, 3), data=st.data())
    def read(self, begin: bytes, end: bytes, limit: int, data: st.DataObject) -> None:
        at = data.draw(st.integers(0, self.revision + 1))
        request = rpc_pb2.RangeRequest(key=begin, range_end=end, revision=at, limit=limit)
        if at > self.revision or 0 < at < self.compacted:
            with pytest.raises(OutOfRange):
                self.driver.machine.kv_range(request)
            return
        state = self.states[at or self.revision]
        wanted = [(key, *state[key]) for key in sorted(state) if inside(key, begin, end)]
        answer = self.driver.machine.kv_range(request)
        assert answer.count == len(wanted)
        assert [(kv.key, kv.value, kv.create_revision, kv.mod_revision, kv.version) for kv in answer.kvs] == (
            wanted[:limit] if limit else wanted
        )
        assert answer.more == bool(limit and len(wanted) > limit)

    @rule(data=st.data())
    def follow(self, data: st.DataObject) -> None:
        """From the compacted revision itself etcd lets a watch begin, and tells what is left of it: not compared."""
        start = data.draw(st.integers(1, self.revision + 1).filter(lambda at: at != self.compacted))
        if start < self.compacted:
            with pytest.raises(OutOfRange):
                self.driver.machine.kv_events_since(start)
            return
        found: list[tuple[int, bytes, bytes | None]] = []
        while start <= self.revision:
            page = self.driver.machine.kv_events_since(start, limit=2)
            for change in page.changes:
                for event in change.events:
                    value = None if event.type == kv_pb2.Event.DELETE else event.kv.value
                    found.append((change.revision, event.kv.key, value))
            assert page.next_revision > start
            start = page.next_revision
        first = found[0][0] if found else self.revision + 1
        assert found == [event for event in self.events if event[0] >= first]

    @rule()
    def restore(self) -> None:
        """Go on with a copy that was made from a snapshot."""
        made = copy(self.driver.machine)
        assert content(made) == content(self.driver.machine)
        self.driver = Driver(made)

    @invariant()
    def agrees(self) -> None:
        machine = self.driver.machine
        assert (machine.revision, machine.keys_count()) == (self.revision, len(self.now))

    def teardown(self) -> None:
        assert digest(copy(self.driver.machine)) == digest(self.driver.machine)


def test_the_key_store_is_what_a_dictionary_for_each_revision_is() -> None:
    run_state_machine_as_test(KvMachine, settings=examples(60, steps=40))
