"""Numbers that a restored cluster leaves out: nothing is used twice, and who asks for what is left out is told."""

from __future__ import annotations

import pytest

from rocinante.errors import OutOfRange
from rocinante.pb.etcd import rpc_pb2
from tests.state.harness import Driver, copy, digest


def filled() -> Driver:
    driver = Driver()
    for number in range(5):
        driver.put(b"a", b"%d" % number)
    driver.put(b"b", b"x")
    driver.delete(b"b")
    return driver


@pytest.mark.parametrize("skip", [0, 1, 10**9])
def test_keys_stay_as_they_are_and_history_is_gone(skip: int) -> None:
    machine = filled().machine
    index, revision = machine.position.index, machine.revision
    assert machine.skip(skip, skip) == (index + skip, 1)
    assert machine.revision == revision + skip
    (key,) = machine.kv_range(rpc_pb2.RangeRequest(key=b"a", range_end=b"\0")).kvs
    assert (key.value, key.version, key.mod_revision) == (b"4", 5, 6)
    if skip:
        for old in (2, revision, revision + skip - 1):
            with pytest.raises(OutOfRange, match="compacted"):
                machine.kv_events_since(old, b"a", b"")
    assert machine.kv_events_since(revision + skip + 1, b"a", b"").changes == []


def test_what_is_written_next_is_numbered_behind_the_gap_and_watched_from_there() -> None:
    machine = filled().machine
    machine.skip(1000, 1000)
    revision = machine.revision
    again = Driver(machine)
    assert again.put(b"a", b"new").header.revision == revision + 1
    assert machine.position.index == 1008
    (change,) = machine.kv_events_since(revision + 1, b"a", b"").changes
    assert change.revision == revision + 1


def test_it_is_the_same_state_after_a_snapshot() -> None:
    machine = filled().machine
    machine.skip(7, 9)
    assert digest(copy(machine)) == digest(machine)


def test_not_while_somebody_reads_an_older_revision() -> None:
    machine = filled().machine
    with machine.freeze(), pytest.raises(ValueError, match="being read"):
        machine.skip(1, 1)
