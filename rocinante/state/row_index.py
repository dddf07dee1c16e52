"""Which row has this key: a hash index over rows, many keys at a time.

Linear hashing (Litwin, VLDB 1980): with every row that comes another bucket is split, so that the index grows with the
table and never stands still to be rebuilt. The rows of a bucket form a chain through `links`, which keeps 32 bits of
each key's hash beside the number of the next row: a key itself is looked at only where the hash is the same.

All work is done by numpy for a whole batch: each round takes one step along all chains at once. The hash is
pair-multiply-shift (Thorup, "High speed hashing for integers and strings", 2015, section 3.4), strongly universal, with
secrets drawn anew by each process: nobody who chooses addresses and ports can make long chains. Nothing that is
replicated depends on the secrets.

Rows are counted from 0; in `links` and `heads` they stand plus one, 0 ends a chain.
"""

from __future__ import annotations

import secrets
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from rocinante.state.regions import reserve

U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]

_LOW: Final = np.uint64(0xFFFFFFFF)
_SHIFT: Final = np.uint64(32)
_FIRST_LEVEL: Final = 10
_SPLIT_MAX: Final = 65_536
"""Buckets split in one go."""
_MASK: Final = (1 << 64) - 1


class _Target(Protocol):
    def __call__(self, hashes: U64, buckets: I64) -> I64: ...


def _same_bucket(hashes: U64, buckets: I64) -> I64:
    del hashes
    return buckets


class RowIndex:
    """See the module. `keys` are the rows' keys, `words` of 8 bytes each; the caller writes them before `insert`."""

    __slots__ = ("_heads", "_keys", "_level", "_links", "_scalars", "_secrets", "_split", "rows")

    def __init__(self, keys: U64, capacity: int) -> None:
        """`keys`: (capacity, words)."""
        words = keys.shape[1]
        self._keys = keys
        self._links: U64 = reserve(capacity, np.uint64)
        self._heads: U32 = reserve(max(2 * capacity, 2 << _FIRST_LEVEL), np.uint32)
        self._scalars = [secrets.randbits(64) for _ in range(2 * words)]
        self._secrets = np.array(self._scalars, np.uint64)
        self._level = _FIRST_LEVEL
        self._split = 0
        self.rows = 0
        """How many are in the index."""

    # --- hash and bucket

    def hashes(self, keys: U64) -> U64:
        """32 bits for each of the keys, (n, words)."""
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
        return total

    def _hash_one(self, key: bytes) -> int:
        total = 0
        for word in range(len(key) // 8):
            number = int.from_bytes(key[8 * word : 8 * word + 8], "little")
            scalars = self._scalars
            total += ((number >> 32) + scalars[2 * word]) * ((number & 0xFFFFFFFF) + scalars[2 * word + 1])
        return (total & _MASK) >> 32

    @property
    def buckets(self) -> int:
        return (1 << self._level) + self._split

    def _buckets_of(self, hashes: U64) -> I64:
        size = 1 << self._level
        buckets = hashes & np.uint64(2 * size - 1)
        np.subtract(buckets, np.uint64(size), out=buckets, where=buckets >= np.uint64(self.buckets))
        return buckets.view(np.int64)

    # --- look up

    def find(self, keys: U64, hashes: U64) -> I64:
        """The row of each key, -1 where there is none."""
        return self._find(keys, hashes, self._buckets_of(hashes))

    def _find(self, keys: U64, hashes: U64, buckets: I64) -> I64:
        found = np.full(len(buckets), -1, np.int64)
        current = self._heads.take(buckets)
        waiting = np.flatnonzero(current)
        rows = current[waiting].astype(np.int64)
        wanted = hashes[waiting]
        while waiting.size:
            rows -= 1
            links = self._links.take(rows)
            hits = np.flatnonzero((links >> _SHIFT) == wanted)
            following = links.astype(np.uint32)
            if hits.size:
                stored, asked = self._keys.take(rows.take(hits), axis=0), keys.take(waiting.take(hits), axis=0)
                same = stored[:, 0] == asked[:, 0]
                for word in range(1, stored.shape[1]):
                    same &= stored[:, word] == asked[:, word]
                if not same.all():  # another key with the same hash
                    hits = hits[same]
                found[waiting[hits]] = rows[hits]
                following[hits] = 0
            going_on = np.flatnonzero(following)
            rows = following[going_on].astype(np.int64)
            waiting, wanted = waiting[going_on], wanted[going_on]
        return found

    def find_one(self, key: bytes) -> int:
        """The row of one key, -1 where there is none."""
        wanted = self._hash_one(key)
        size = 1 << self._level
        bucket = wanted & (2 * size - 1)
        if bucket >= self.buckets:
            bucket -= size
        row = int(self._heads[bucket])
        while row:
            link = int(self._links[row - 1])
            if link >> 32 == wanted and self._keys[row - 1].tobytes() == key:
                return row - 1
            row = link & 0xFFFFFFFF
        return -1

    def regions(self, rows: int) -> list[tuple[NDArray[Any], int]]:
        """Its arrays, and how many bytes of each were ever written where no row from `rows` on was taken."""
        return [(self._links, rows * self._links.itemsize), (self._heads, self.buckets * self._heads.itemsize)]

    # --- change

    def insert(self, rows: I64, hashes: U64) -> NDArray[np.bool_]:
        """Put rows into their chains; their keys are written and none of them is in the index.

        Where a key stands more than once among them, its last row is taken. Returns which rows were.
        """
        self._grow(self.rows + len(rows))
        taken = np.ones(len(rows), np.bool_)
        buckets = self._buckets_of(hashes)
        number = np.arange(len(rows))
        while True:
            # Of several for one bucket the last one stands there afterwards, and is the one that goes in this round.
            entries = (rows + 1).astype(np.uint32)
            before = self._heads[buckets]
            self._heads[buckets] = entries
            now = self._heads[buckets]
            won = now == entries
            if won.all():
                self._links[rows] = (hashes << _SHIFT) | before
                break
            self._links[rows[won]] = (hashes[won] << _SHIFT) | before[won]
            lost = np.flatnonzero(~won)
            winners = now[lost].astype(np.int64) - 1
            doubled = (self._keys[winners] == self._keys[rows[lost]]).all(axis=1)
            taken[number[lost[doubled]]] = False
            lost = lost[~doubled]
            if not lost.size:
                break
            rows, hashes, buckets, number = rows[lost], hashes[lost], buckets[lost], number[lost]
        self.rows += int(np.count_nonzero(taken))
        return taken

    def remove(self, rows: I64, states: NDArray[np.uint8]) -> None:
        """Take rows, each given once, out of their chains. `states` is 0 for these rows, and not for others in the
        index."""
        buckets = self._buckets_of(self._links[rows] >> _SHIFT)
        heads = self._heads[buckets]
        # Each bucket once, without sorting: of several writers to one head the last one stands there afterwards.
        numbers = np.arange(len(rows), dtype=np.uint32)
        self._heads[buckets] = numbers
        once = np.flatnonzero(self._heads[buckets] == numbers)
        buckets, heads = buckets[once], heads[once]
        self._heads[buckets] = 0
        self._relink(heads, buckets, _same_bucket, states)
        self.rows -= len(rows)

    def _grow(self, rows: int) -> None:
        while self.buckets < rows:
            size = 1 << self._level
            count = min(rows - self.buckets, size - self._split, _SPLIT_MAX)
            first = self._split
            heads = self._heads[first : first + count].copy()
            self._heads[first : first + count] = 0
            bit = np.uint64(size)

            def parted(hashes: U64, buckets: I64, bit: np.uint64 = bit) -> I64:
                moved: I64 = (hashes & bit).view(np.int64)
                return buckets + moved

            self._relink(heads, np.arange(first, first + count), parted, None)
            self._split += count
            if self._split == size:
                self._level += 1
                self._split = 0

    def _relink(self, heads: U32, buckets: I64, target: _Target, states: NDArray[np.uint8] | None) -> None:
        """Walk these chains, which are out of the index, and put each row (of those whose state is not 0) into the
        chain of `target(hashes, buckets)`. No two chains may have the same target, so that a round writes no head
        twice."""
        there = np.flatnonzero(heads)
        entries, buckets = heads[there], buckets[there]
        while entries.size:
            rows = entries.astype(np.int64) - 1
            links = self._links[rows]
            following = links.astype(np.uint32)
            if states is not None:
                stay = np.flatnonzero(states[rows])
                put, put_rows, put_links, put_buckets = entries[stay], rows[stay], links[stay], buckets[stay]
            else:
                put, put_rows, put_links, put_buckets = entries, rows, links, buckets
            hashes = put_links >> _SHIFT
            targets = target(hashes, put_buckets)
            self._links[put_rows] = (hashes << _SHIFT) | self._heads[targets]
            self._heads[targets] = put
            going_on = np.flatnonzero(following)
            entries, buckets = following[going_on], buckets[going_on]
