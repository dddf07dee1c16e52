"""Which row has this key: a hash index over rows, many keys at a time.

A bucket is eight lanes, each the 32 bits of a key's hash (its *tag*) and the number of its row, in two arrays: a
look-up reads the tags of a bucket, which stand in half a cache line, and rows and keys only where a tag is the same.
What does not fit its bucket stands in the next one that has room, within the same page of 64 buckets: so a look-up goes
on behind a full bucket, and ends at one that is not. A lane that is given up in a full bucket is therefore marked as
left, not as free: what stands behind that bucket must still be found. Pages are swept of such lanes, one after the
other, at the pace at which rows go.

The pages grow by linear hashing (Litwin, VLDB 1980): with every few hundred rows that come another page is split in
two, so that the index grows with the table and never stands still to be rebuilt. A page is split from beginning to end,
by a bit of its tags: no chain is followed, no row and no key is looked at.

All work is done by numpy for a whole batch, the eight lanes of a bucket as the eight bytes of a number. The hash is
pair-multiply-shift (Thorup, "High speed hashing for integers and strings", 2015, section 3.4), strongly universal, with
secrets drawn anew by each process: nobody who chooses addresses and ports can fill a page. That is said of pairs of
keys; those that follow each other (the ports of one client) become an arithmetic progression, which with one secret in
some hundreds falls into few of the pages. So the bits are mixed once more, by a bijection, under which the hash stays
as universal as it is. Nothing that is replicated depends on the secrets.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rocinante.state.regions import populate, reserve

U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]
_Mask = NDArray[np.bool_]

LANES: Final = 8
PAGE_BUCKETS: Final = 64
PAGE_LANES: Final = PAGE_BUCKETS * LANES
PAGE_ROWS: Final = 192
"""There is a page for so many rows. Those whose turn to be split has not come hold up to twice as many: three quarters
of their lanes."""
_BUCKET_SHIFT: Final = np.uint32(32 - 6)
"""The upper bits of a tag say which bucket of a page, the lower ones which page."""
_FREE: Final = np.uint32(0)
_LEFT: Final = np.uint32(0xFFFFFFFF)
_NOBODYS: Final = (int(_FREE), int(_LEFT))
_TAG_MIN: Final = np.uint32(1)
_TAG_MAX: Final = np.uint32(0xFFFFFFFE)
_ALL: Final = np.uint64(0x0101010101010101)
"""Every lane of a bucket."""
_ONE: Final = np.uint64(1)
_LOW: Final = np.uint64(0xFFFFFFFF)
_SHIFT: Final = np.uint64(32)
_MASK: Final = (1 << 64) - 1
_PAGES_MAX: Final = 256
"""Pages rewritten in one go (131,072 lanes, about a millisecond)."""
_SWEPT_ROWS: Final = 64
"""For so many rows that went another page is swept."""
_POPULATED_PAGES_MIN: Final = 8
"""So many pages of the index (16 KiB) are asked for at once."""
_MIX: Final = np.uint32(0x9E3779B1)
_HALF: Final = np.uint32(16)
"""A tag is mixed by its upper half, a multiplication and its upper half again."""
_BUCKET_OF_LANE: Final = np.repeat(np.arange(PAGE_BUCKETS, dtype=np.uint32), LANES)


class Ends(NamedTuple):
    """Where the look-up of each key ended: for one that was not found, in the bucket that it is to be put into."""

    buckets: I64
    taken: U64
    """Which of its lanes are: a byte each, 1 or 0."""


class RowIndex:
    """See the module. `keys` are the rows' keys, `words` of 8 bytes each; the caller writes them before `insert`."""

    __slots__ = (
        "_buckets",
        "_keys",
        "_left",
        "_level",
        "_rows",
        "_scalars",
        "_secrets",
        "_split",
        "_sweep_at",
        "_swept",
        "_tags",
        "rows",
    )

    def __init__(self, keys: U64, capacity: int) -> None:
        """`keys`: (capacity, words)."""
        words = keys.shape[1]
        self._keys = keys
        # Twice what it takes, for the case that a page must be split before its turn.
        lanes = 2 * (capacity // PAGE_ROWS + PAGE_BUCKETS) * PAGE_LANES
        self._tags: U32 = reserve(lanes, np.uint32)
        self._buckets: U32 = self._tags.reshape(-1, LANES)
        """The same."""
        self._rows: U32 = reserve(lanes, np.uint32)
        self._scalars = [secrets.randbits(64) for _ in range(2 * words)]
        self._secrets = np.array(self._scalars, np.uint64)
        self._level = 0
        self._split = 0
        self._left = 0
        """Lanes that are marked as left."""
        self._sweep_at = 0
        """The page that is swept next."""
        self._swept = 0
        """Rows that went since the last one was."""
        self.rows = 0
        """How many are in the index."""

    # --- hash and bucket

    def hashes(self, keys: U64) -> U32:
        """The tag of each of the keys, (n, words)."""
        total = np.zeros(len(keys), np.uint64)
        for word in range(keys.shape[1]):
            column = keys[:, word]
            high = column >> _SHIFT
            high += self._secrets[2 * word]
            low = column & _LOW
            low += self._secrets[2 * word + 1]
            high *= low
            total += high
        total >>= _SHIFT
        tags: U32 = total.astype(np.uint32)
        half = tags >> _HALF
        tags ^= half
        tags *= _MIX
        tags ^= np.right_shift(tags, _HALF, out=half)
        return np.clip(tags, _TAG_MIN, _TAG_MAX, out=tags)

    def _hash_one(self, key: bytes) -> int:
        total = 0
        for word in range(len(key) // 8):
            number = int.from_bytes(key[8 * word : 8 * word + 8], "little")
            scalars = self._scalars
            total += ((number >> 32) + scalars[2 * word]) * ((number & 0xFFFFFFFF) + scalars[2 * word + 1])
        tag = (total & _MASK) >> 32
        half = int(_HALF)
        tag = (tag ^ tag >> half) * int(_MIX) & int(_LOW)
        tag ^= tag >> half
        return min(max(tag, int(_TAG_MIN)), int(_TAG_MAX))

    @property
    def pages(self) -> int:
        return (1 << self._level) + self._split

    def _homes(self, tags: U32) -> I64:
        """The bucket in which the look-up of each begins."""
        size = 1 << self._level
        pages = tags & np.uint32(size - 1)
        if self._split:
            pages = np.where(pages < np.uint32(self._split), tags & np.uint32(2 * size - 1), pages)
        buckets = pages.astype(np.int64)
        buckets *= PAGE_BUCKETS
        buckets += tags >> _BUCKET_SHIFT
        return buckets

    # --- look up

    def find(self, keys: U64, tags: U32) -> I64:
        """The row of each key, -1 where there is none."""
        return self.locate(keys, tags)[0]

    def locate(self, keys: U64, tags: U32) -> tuple[I64, Ends]:
        """The same, and for `insert` where those that are not there may be put. That holds until the next change."""
        places, ends = self._look(keys, tags)
        there = np.flatnonzero(places >= 0)
        if there.size == len(places):
            return self._rows.take(places).astype(np.int64), ends
        if there.size:
            places[there] = self._rows.take(places.take(there))
        return places, ends

    def _look(self, keys: U64, tags: U32) -> tuple[I64, Ends]:
        """(the lane of each key, -1 where there is none; where its look-up ended)."""
        places = np.full(len(tags), -1, np.int64)
        buckets = self._homes(tags)
        lanes = self._buckets.take(buckets, axis=0)
        taken = _bytes(lanes != _FREE)
        same = _bytes(lanes == tags[:, None])
        hits = np.flatnonzero(same)
        if hits.size:
            self._confirm(keys, hits, buckets.take(hits), same.take(hits), places)
        full = np.flatnonzero(taken == _ALL)
        for _ in range(1, PAGE_BUCKETS):
            full = full[places.take(full) < 0]
            if not full.size:
                break
            following = _following(buckets.take(full))
            lanes = self._buckets.take(following, axis=0)
            taken_there = _bytes(lanes != _FREE)
            same = _bytes(lanes == tags.take(full)[:, None])
            buckets[full], taken[full] = following, taken_there
            hits = np.flatnonzero(same)
            if hits.size:
                self._confirm(keys, full.take(hits), following.take(hits), same.take(hits), places)
            full = full[taken_there == _ALL]
        return places, Ends(buckets, taken)

    def _confirm(self, keys: U64, numbers: I64, buckets: I64, same: U64, places: I64) -> None:
        """These keys' tags stand in these lanes of these buckets; find out in which of them the keys do."""
        while numbers.size:
            candidates = buckets * LANES
            candidates += _first_lane(same)
            stored, asked = self._keys.take(self._rows.take(candidates), axis=0), keys.take(numbers, axis=0)
            equal = stored[:, 0] == asked[:, 0]
            for word in range(1, stored.shape[1]):
                equal &= stored[:, word] == asked[:, word]
            if equal.all():
                places[numbers] = candidates
                return
            places[numbers[equal]] = candidates[equal]
            same &= same - _ONE  # without the first lane
            others = np.flatnonzero(~equal & (same != 0))
            numbers, buckets, same = numbers[others], buckets[others], same[others]

    def find_one(self, key: bytes) -> int:
        """The row of one key, -1 where there is none."""
        wanted = self._hash_one(key)
        for at, tags in self._way_of(wanted):
            for lane, tag in enumerate(tags):
                if tag == wanted:
                    row = int(self._rows[at + lane])
                    if self._keys[row].tobytes() == key:
                        return row
            if 0 in tags:
                return -1
        return -1

    def _way_of(self, tag: int) -> Iterator[tuple[int, list[int]]]:
        """The buckets that a look-up goes through, as long as somebody asks: (the first lane, the tags of all)."""
        size = 1 << self._level
        page = tag & (size - 1)
        if page < self._split:
            page = tag & (2 * size - 1)
        first = tag >> int(_BUCKET_SHIFT)
        for step in range(PAGE_BUCKETS):
            at = (page * PAGE_BUCKETS + (first + step) % PAGE_BUCKETS) * LANES
            yield at, self._tags[at : at + LANES].tolist()

    def regions(self) -> list[tuple[NDArray[Any], int]]:
        """Its arrays, and how many bytes of each were ever written."""
        lanes = self.pages * PAGE_LANES
        return [(array, lanes * array.itemsize) for array in (self._tags, self._rows)]

    # --- change

    def insert(self, rows: I64, tags: U32, ends: Ends | None = None) -> _Mask:
        """Put rows into the index; their keys are written and none of them is in it. `ends`: what `locate` said of
        these keys, if nothing has changed since.

        Where a key stands more than once among them, its last row is taken. Returns which rows were.
        """
        wanted = self.rows + len(rows)
        if wanted > self.pages * (PAGE_ROWS + PAGE_ROWS // 8):
            self._grow(wanted)
            ends = None
        taken = self._put(rows.astype(np.uint32), tags, None if self._left else ends)
        self.rows += int(np.count_nonzero(taken))
        self._grow(self.rows)
        return taken

    def insert_one(self, row: int, key: bytes) -> None:
        """`insert` of one row: much quicker than as one of many."""
        mine = self._hash_one(key)
        place = self._free_lane(mine)
        while place < 0:  # all of its page is full: before its turn
            self._split_pages((1 << self._level) - self._split)
            place = self._free_lane(mine)
        self._left -= int(self._tags[place] == _LEFT)
        self._tags[place], self._rows[place] = mine, row
        self.rows += 1
        self._grow(self.rows)

    def _free_lane(self, tag: int) -> int:
        for at, tags in self._way_of(tag):
            for lane, other in enumerate(tags):
                if other in _NOBODYS:
                    return at + lane
        return -1

    def _put(self, rows: U32, tags: U32, ends: Ends | None) -> _Mask:
        """Each into the first free lane from its home on. Returns which were."""
        inserted = np.ones(len(rows), np.bool_)
        numbers: I64 = np.arange(len(rows))
        buckets = self._homes(tags) if ends is None else ends.buckets
        taken = self._taken(buckets) if ends is None else ends.taken
        while True:
            full = np.flatnonzero(taken == _ALL)
            if full.size:
                room = np.flatnonzero(taken != _ALL)
                lost = room[self._place(rows[room], tags[room], buckets[room], taken[room], inserted, numbers[room])]
                left = np.concatenate((lost, full))
            else:
                left = self._place(rows, tags, buckets, taken, inserted, numbers)
            if not left.size:
                return inserted
            numbers, rows, tags, buckets = numbers[left], rows[left], tags[left], buckets[left]
            if full.size:
                onward = buckets[len(lost) :]
                onward[:] = _following(onward)
                if (onward == self._homes(tags[len(lost) :])).any():  # all of a page is full: before its turn
                    self._split_pages((1 << self._level) - self._split)
                    buckets = self._homes(tags)
            taken = self._taken(buckets)

    def _place(self, rows: U32, tags: U32, buckets: I64, taken: U64, inserted: _Mask, numbers: I64) -> I64:
        """Into the first free lane of these buckets, which have one. Returns which of them have to try again; says in
        `inserted`, by `numbers`, which stand there already: of a key that comes more than once the last one is taken,
        for all of them go the same way until it has its lane."""
        places = buckets * LANES
        places += _first_lane(taken ^ _ALL)
        if self._left:
            self._left -= len(np.unique(places[self._tags.take(places) == _LEFT]))
        # Of several for one lane the last one stands there afterwards, and is the one that goes in.
        self._rows[places] = rows
        self._tags[places] = tags
        lost = np.flatnonzero(self._rows.take(places) != rows)
        if not lost.size:
            return lost
        alike = self._tags.take(places.take(lost)) == tags.take(lost)
        if alike.any():
            winners = self._rows.take(places.take(lost))
            doubled = alike & (self._keys[winners] == self._keys[rows[lost]]).all(axis=1)
            inserted[numbers[lost[doubled]]] = False
            lost = lost[~doubled]
        return lost

    def _taken(self, buckets: I64) -> U64:
        """The lanes of each bucket that a row stands in."""
        lanes = self._buckets.take(buckets, axis=0)
        return _bytes((lanes != _FREE) & (lanes != _LEFT)) if self._left else _bytes(lanes != _FREE)

    def remove(self, rows: I64) -> None:
        """Take rows, each given once, out of the index. Their keys are still there."""
        keys = self._keys[rows]
        places, _ = self._look(keys, self.hashes(keys))
        lanes = self._buckets.take(places // LANES, axis=0)
        full = _bytes(lanes != _FREE) == _ALL
        self._tags[places] = np.where(full, _LEFT, _FREE)
        self._left += int(np.count_nonzero(full))
        self.rows -= len(rows)
        self._swept += len(rows)
        self._sweep()

    def _sweep(self) -> None:
        """Rewrite as many pages as is their turn, so that no more than a part of any page is marked as left."""
        while self._left and self._swept >= _SWEPT_ROWS:
            first = self._sweep_at if self._sweep_at < self.pages else 0
            count = min(self._swept // _SWEPT_ROWS, self.pages - first, _PAGES_MAX)
            self._rewrite(first, count, 0)
            self._sweep_at = first + count
            self._swept -= count * _SWEPT_ROWS
        self._swept = min(self._swept, _SWEPT_ROWS)

    def _grow(self, rows: int) -> None:
        pages = -(-rows // PAGE_ROWS)
        if pages > self.pages:
            self._split_pages(pages - self.pages)

    def _split_pages(self, count: int) -> None:
        while count > 0:
            size = 1 << self._level
            some = min(count, size - self._split, _PAGES_MAX)
            first = self._split
            self._split += some
            self._rewrite(first, some, size)
            if self._split == size:
                self._level += 1
                self._split = 0
            count -= some

    def _rewrite(self, first: int, count: int, size: int) -> None:
        """Put the rows of these pages into their home buckets. With `size` the pages from `first + size` on, which are
        empty, take those whose tag has that bit: half of them."""
        span = slice(first * PAGE_LANES, (first + count) * PAGE_LANES)
        tags, rows = self._tags[span], self._rows[span]
        if self._left:
            left = np.flatnonzero(tags == _LEFT)
            tags[left] = _FREE
            self._left -= len(left)
        away = (tags >> _BUCKET_SHIFT).reshape(count, PAGE_LANES) != _BUCKET_OF_LANE
        away &= tags.reshape(count, PAGE_LANES) != _FREE
        astray = np.flatnonzero(away)
        astray_tags, astray_rows = tags[astray], rows[astray]
        tags[astray] = _FREE
        if size:
            first_lane, last_lane = span.start + size * PAGE_LANES, span.stop + size * PAGE_LANES
            if count >= _POPULATED_PAGES_MIN:
                for array in (self._tags, self._rows):
                    populate(array, first_lane * array.itemsize, last_lane * array.itemsize)
            goes = tags >> np.uint32(size.bit_length() - 1)
            goes &= np.uint32(1)
            moved = self._tags[first_lane:last_lane]
            np.multiply(tags, goes, out=moved)
            tags ^= moved
            self._rows[first_lane:last_lane] = rows  # also those that stay: nobody looks at the row of a free lane
        if astray.size:
            self._put(astray_rows, astray_tags, None)


def _bytes(lanes: _Mask) -> U64:
    """What is said of the eight lanes of each bucket as the eight bytes of a number."""
    found: U64 = lanes.view(np.uint64).reshape(-1)
    return found


def _first_lane(lanes: U64) -> NDArray[np.uint8]:
    """The number of the first one that is said, of each bucket; there is one."""
    first = lanes & (~lanes + _ONE)
    first -= _ONE
    bits: NDArray[np.uint8] = np.bitwise_count(first)
    bits >>= np.uint8(3)
    return bits


def _following(buckets: I64) -> I64:
    """The next bucket of the same page; behind the last one the first."""
    return (buckets & -PAGE_BUCKETS) | ((buckets + 1) & (PAGE_BUCKETS - 1))
