"""The order of keys, against a plain list; segments are made small so that few keys do what many would."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocinante.state import order
from rocinante.state.order import KeyOrder


@pytest.fixture(autouse=True)
def _small_segments() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "SEGMENT_KEYS", 4)
        patch.setattr(order, "GHOSTS_MIN", 3)
        yield


class Table:
    """A set of live keys and its order, and what each key's position was when it came."""

    def __init__(self) -> None:
        self.order = KeyOrder()
        self.live: dict[bytes, None] = {}
        self.positions: dict[bytes, int] = {}

    def put(self, keys: list[bytes]) -> None:
        fresh = [key for key in dict.fromkeys(keys) if key not in self.live]
        self.live.update(dict.fromkeys(fresh))
        self.order.add(fresh)
        self.check()

    def delete(self, keys: list[bytes]) -> None:
        gone = [key for key in dict.fromkeys(keys) if key in self.live]
        for key in gone:
            del self.live[key]
        self.order.forget(gone, len(self.live))
        self.check()

    def walk(self, position: int, limit: int) -> Iterator[tuple[bytes, int]]:
        while (stretch := self.order.walk(position, limit)) is not None:
            for number, key in enumerate(stretch.keys):
                yield key, stretch.segment.position(stretch.start + number)
            position = stretch.position_after(len(stretch.keys))

    def check(self) -> None:
        found = list(self.walk(0, 3))
        keys = [key for key, _ in found]
        positions = [position for _, position in found]
        assert len(keys) == len(set(keys)), "each key once"
        assert set(keys) == set(self.live) | self.order.ghosts
        assert not self.order.ghosts & set(self.live)
        assert positions == sorted(set(positions))
        for key, position in found:
            if key in self.positions and key in self.live:
                assert self.positions[key] == position, "a living key stays where it is"
        self.positions = {key: position for key, position in found if key in self.live}
        assert len(self.order.ghosts) <= max(order.GHOSTS_MIN, len(self.live)) + 4
        assert sum(len(segment.keys) for segment in self.order.segments) == len(keys)
        assert all(0 < len(segment.keys) <= order.SEGMENT_KEYS for segment in self.order.segments)


KEYS = st.integers(0, 40).map(lambda number: b"%02d" % number)


@given(st.lists(st.tuples(st.booleans(), st.lists(KEYS, max_size=12)), max_size=60))
def test_keys_stay_where_they_are(steps: list[tuple[bool, list[bytes]]]) -> None:
    table = Table()
    for is_put, keys in steps:
        if is_put:
            table.put(keys)
        else:
            table.delete(keys)


@given(st.lists(st.tuples(st.booleans(), st.lists(KEYS, max_size=12)), max_size=30), st.integers(1, 5))
def test_a_walk_that_is_interrupted_finds_what_stays_exactly_once(
    steps: list[tuple[bool, list[bytes]]], limit: int
) -> None:
    table = Table()
    table.put([b"%02d" % number for number in range(0, 41, 2)])
    stayed, found, position = set(table.live), [], 0
    for is_put, keys in [*steps, *[(True, [])] * 60]:
        stretch = table.order.walk(position, limit)
        if stretch is None:
            break
        found += stretch.keys
        position = stretch.position_after(len(stretch.keys))
        if is_put:
            table.put(keys)
        else:
            table.delete(keys)
            stayed -= set(keys)
    for key in stayed:
        assert found.count(key) == 1


def test_a_key_that_comes_back_soon_has_its_old_place() -> None:
    table = Table()
    table.put([b"00", b"01", b"02"])
    table.delete([b"01"])
    table.put([b"03", b"01"])
    assert [key for key, _ in table.walk(0, 10)] == [b"00", b"01", b"02", b"03"]


def test_a_view_stays_as_it_was() -> None:
    table = Table()
    table.put([b"%02d" % number for number in range(10)])
    view = table.order.view()
    before = [list(segment.keys) for segment in view.segments[:-1]] + [view.segments[-1].keys[: view.last_keys]]
    table.put([b"%02d" % number for number in range(10, 30)])
    table.delete([b"%02d" % number for number in range(25)])
    after = [list(segment.keys) for segment in view.segments[:-1]] + [view.segments[-1].keys[: view.last_keys]]
    assert after == before
