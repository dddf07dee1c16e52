"""What a snapshot stands for is what was applied when the state was frozen (node/snapshotter.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rocinante.limits import MIB
from rocinante.node.apply import Act
from rocinante.node.directory import split_snapshot
from rocinante.node.membership import member_from
from rocinante.node.snapshotter import Snapshotter
from rocinante.ports import Member
from rocinante.raft.types import Config
from rocinante.state import StateMachine
from rocinante.state.machine import FrozenState
from rocinante.storage import Engine, open_leveldb
from tests.storage.tools import ME


class Applied:
    """What the apply thread has, without the thread: `put` carries out at once, so that the moment is certain."""

    def __init__(self, config: Config, members: dict[int, Member]) -> None:
        self.state = StateMachine()
        self.applied, self.applied_term = 7, 3
        self.config, self.members = config, members
        self.on_entries: Callable[[int, int], None] = lambda _entries, _bytes: None

    def put(self, act: Act) -> None:
        act.run()
        # What is applied from now on is not in the snapshot, whose file is written later.
        self.applied, self.applied_term, self.config, self.members = 9, 4, Config(), {}


@contextmanager
def running(
    applied: Applied, directory: Path, *, compact_entries: int, compact_bytes: int
) -> Iterator[tuple[Engine, Snapshotter]]:
    engine = open_leveldb(directory, ME)
    try:
        engine.log.load()
        snapshotter = Snapshotter(
            applied,  # type: ignore[arg-type]  # see there
            engine.snapshots,
            compact_entries=compact_entries,
            compact_bytes=compact_bytes,
            on_snapshot=lambda _meta: None,
        )
        snapshotter.start()
        yield engine, snapshotter
        snapshotter.stop(60)
    finally:
        engine.close()


@pytest.mark.parametrize("joint", [False, True])
def test_its_configuration_is_that_of_its_index_with_learners_and_both_halves(tmp_path: Path, joint: bool) -> None:
    members = {
        member.id: member for member in (member_from(f"node{n}", "127.0.0.1", 35000 + n, 8000 + n) for n in range(1, 5))
    }
    first, second, third, fourth = members
    config = Config(
        voters=frozenset({first, second}),
        voters_outgoing=frozenset({first, third}) if joint else frozenset(),
        learners=frozenset({fourth}),
        learners_next=frozenset({third}) if joint else frozenset(),
        auto_leave=joint,
    )
    applied = Applied(config, members)
    with running(applied, tmp_path / "data", compact_entries=100, compact_bytes=MIB) as (engine, snapshotter):
        file = snapshotter.take_file().result(60)
        assert file.meta == (7, 3, config)
        described, _ = split_snapshot(engine.snapshots.read(file, 1 << 16))
        assert described == {identifier: members[identifier] for identifier in config.members}


def test_a_large_table_is_written_when_the_log_has_half_of_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it has grown so large since the last snapshot, or was so large then."""
    applied = Applied(Config(), {})
    flows_bytes = freezes = 0
    freeze = applied.state.freeze

    def counted() -> FrozenState:
        nonlocal freezes
        freezes += 1
        return freeze()

    monkeypatch.setattr(applied.state, "flows_bytes", lambda: flows_bytes)
    monkeypatch.setattr(applied.state, "freeze", counted)
    with running(applied, tmp_path / "data", compact_entries=1000, compact_bytes=8 * MIB) as (_, snapshotter):
        for flows_mib, log_mib, taken in (
            (64, 7, False),
            (64, 1, True),
            (65, 31, False),
            (80, 8, False),
            (80, 1, True),
            (200, 99, False),
            (200, 1, True),
            (10, 8, True),
        ):
            flows_bytes, before = flows_mib * MIB, freezes
            applied.applied += 1
            applied.on_entries(0, log_mib * MIB)
            assert freezes - before == taken, f"{log_mib} MiB of log, {flows_mib} MiB of flows"
            if (under_way := snapshotter._under_way) is not None:
                under_way.result(60)
            assert snapshotter.taken == freezes
