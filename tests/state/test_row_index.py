"""The hash index by itself, against a dict: buckets and pages that are full, lanes that were left, splits."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from rocinante.state.regions import reserve
from rocinante.state.row_index import I64, PAGE_LANES, PAGE_ROWS, RowIndex

CAPACITY = 200_000


class Indexed:
    """An index over keys that are numbers, and the dict that it must be. Rows are taken in order, and never again."""

    def __init__(self) -> None:
        self.keys = reserve(2 * CAPACITY, np.uint64).reshape(CAPACITY, 2)
        self.index = RowIndex(self.keys, CAPACITY)
        self.expected: dict[int, int] = {}
        self.used = 0

    @staticmethod
    def words(numbers: list[int]) -> np.ndarray[tuple[int, int], np.dtype[np.uint64]]:
        return np.array([(number, 1) for number in numbers], np.uint64).reshape(-1, 2)

    def add(self, numbers: list[int]) -> None:
        """None of them is there; one may be given more than once."""
        words = self.words(numbers)
        rows: I64 = np.arange(self.used, self.used + len(numbers))
        self.used += len(numbers)
        tags = self.index.hashes(words)
        found, ends = self.index.locate(words, tags)
        assert (found < 0).all()
        self.keys[rows] = words
        last = {number: place for place, number in enumerate(numbers)}
        assert self.index.insert(rows, tags, ends).tolist() == [
            last[number] == place for place, number in enumerate(numbers)
        ]
        self.expected.update(zip(numbers, rows.tolist(), strict=True))

    def add_one(self, number: int) -> None:
        self.keys[self.used] = words = self.words([number])[0]
        self.index.insert_one(self.used, words.tobytes())
        self.expected[number] = self.used
        self.used += 1

    def drop(self, numbers: list[int]) -> None:
        self.index.remove(np.array([self.expected.pop(number) for number in numbers], np.int64))

    def check(self, others: list[int]) -> None:
        assert self.index.rows == len(self.expected)
        known = [*self.expected, *others]
        words = self.words(known)
        found = self.index.find(words, self.index.hashes(words))
        assert found.tolist() == [self.expected.get(number, -1) for number in known]
        for number in random.Random(1).sample(known, min(200, len(known))):
            assert self.index.find_one(self.words([number]).tobytes()) == self.expected.get(number, -1)
        lanes = self.index._tags[: self.index.pages * PAGE_LANES]
        assert self.index._left == int((lanes == 0xFFFFFFFF).sum())
        assert not self.index._tags[len(lanes) : 2 * len(lanes)].any(), "pages that are not in use yet"


def hashed(monkeypatch: pytest.MonkeyPatch, tag_of: Callable[[int], int]) -> None:
    """Keys have the tags that the test says."""
    monkeypatch.setattr(
        RowIndex, "hashes", lambda _self, keys: np.array([tag_of(int(key)) for key in keys[:, 0]], np.uint32)
    )
    monkeypatch.setattr(RowIndex, "_hash_one", lambda _self, key: tag_of(int.from_bytes(key[:8], "little")))


def test_what_comes_and_goes_for_long_is_a_dict() -> None:
    some, indexed, fresh = random.Random(5), Indexed(), iter(range(1, 1 << 30))
    for _ in range(60):
        count = some.choice((1, 40, 900))
        indexed.add([next(fresh) for _ in range(count)])
        there = list(indexed.expected)
        indexed.drop(some.sample(there, min(len(there), some.choice((0, 30, 800)))))
        indexed.check([next(fresh) for _ in range(20)])
    indexed.drop(list(indexed.expected))
    indexed.check([1, 2, 3])
    indexed.add([next(fresh) for _ in range(3_000)])
    indexed.check([])


@pytest.mark.parametrize("bucket", [0, 63], ids=["the first bucket of a page", "the last one"])
def test_what_a_bucket_has_no_room_for_stands_behind_it(monkeypatch: pytest.MonkeyPatch, bucket: int) -> None:
    hashed(monkeypatch, lambda number: bucket << 26 | number)
    indexed = Indexed()
    for first in (1, 60):
        indexed.add(list(range(first, first + 30)))
        indexed.check([200, 201])
    indexed.drop([3, 4, 70])
    assert indexed.index._left == 3, "these stood in buckets that were full"
    indexed.check([3, 4, 70, 200])
    indexed.add([90])
    indexed.add_one(91)
    assert indexed.index._left == 1, "lanes that were left are taken again, from the first bucket on"
    indexed.check([3, 4, 70])


def test_keys_of_one_tag_and_keys_that_come_twice_in_full_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed(monkeypatch, lambda number: 7 + (number % 3))
    indexed = Indexed()
    indexed.add([1, 2, 3, 1, 4, 5, 6, 7, 8, 9, 10, 2, 11, 12, 1])
    indexed.check([13, 14, 15])
    indexed.drop([1, 5])
    indexed.add([20, 1, 20, 1, 21, 20])
    indexed.check([5, 13])


def test_a_page_that_is_full_is_split_before_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tags differ in bit 3 first: pages are split until that bit counts."""
    hashed(monkeypatch, lambda number: (number * 0x9E3779B1 & 0xFFFF0000) | (number % 2) << 3 | 1 << 9)
    indexed = Indexed()
    indexed.add(list(range(1, 1_000)))
    assert indexed.index.pages > 1_000 // PAGE_ROWS + 1
    indexed.check(list(range(2_000, 2_100)))
    indexed = Indexed()
    for number in range(1, 1_000):
        indexed.add_one(number)
    assert indexed.index.pages > 1_000 // PAGE_ROWS + 1
    indexed.check(list(range(2_000, 2_100)))


@pytest.mark.parametrize("secret", [64 << 32, (1 << 36) // 2 + 1, (1 << 36) // 5 + 1], ids=hex)
def test_keys_that_follow_each_other_spread_over_the_pages_whatever_the_secret(secret: int) -> None:
    """Multiply-shift alone puts them into one page, two or five of the thirty."""
    indexed = Indexed()
    indexed.index._scalars[0] = secret
    indexed.index._secrets[0] = secret
    indexed.add(list(range(1, 5_601)))
    assert indexed.index.pages == -(-5_600 // PAGE_ROWS)
    indexed.check([6_000, 7_000])


def test_lanes_that_were_left_do_not_gather() -> None:
    """A table of one size for long, whose flows come and go: without sweeping every bucket would have been full once,
    and every look-up would go through a whole page."""
    some, indexed, fresh = random.Random(6), Indexed(), iter(range(1, 1 << 30))
    indexed.add([next(fresh) for _ in range(5_600)])
    pages = indexed.index.pages
    most = 0
    for _ in range(100):
        indexed.drop(some.sample(list(indexed.expected), 1_000))
        most = max(most, indexed.index._left)
        indexed.add([next(fresh) for _ in range(1_000)])
    indexed.check([0])
    assert indexed.index.pages == pages
    assert most < pages * PAGE_LANES / 50, f"{most} of {pages * PAGE_LANES}"
