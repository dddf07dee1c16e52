"""The stores of rows, against a plain dict; and that which row a flow has does not depend on the process."""

from __future__ import annotations

import random
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocinante.state.regions import reserve
from rocinante.state.row_index import RowIndex
from rocinante.state.rows import NEVER, FrozenRows, RowStore, deadlines_of

KEY, SLOT = 16, 74
CAPACITY = 200_000


def keys_of(numbers: Iterable[int]) -> list[bytes]:
    return [number.to_bytes(KEY, "little") for number in numbers]


def slot_of(value: int, deadline_ms: int = 0) -> bytes:
    return deadline_ms.to_bytes(8) + value.to_bytes(SLOT - 8)


class Model:
    """A store and the dict that it must be."""

    def __init__(self) -> None:
        self.store = RowStore(KEY, SLOT, CAPACITY)
        self.expected: dict[bytes, bytes] = {}

    def put(self, flows: list[tuple[bytes, bytes]]) -> None:
        slots = np.frombuffer(b"".join(value for _, value in flows), f"V{SLOT}")
        self.store.put(np.frombuffer(b"".join(key for key, _ in flows), f"V{KEY}"), slots, deadlines_of(slots))
        self.expected.update(flows)

    def put_one(self, key: bytes, value: bytes) -> None:
        self.store.put_one(key, value, int.from_bytes(value[:8]))
        self.expected[key] = value

    def put_outside(self, values: dict[bytes, bytes]) -> None:
        self.store.put_outside(values)
        self.expected.update(values)

    def delete(self, keys: list[bytes]) -> None:
        wanted = list(dict.fromkeys(keys))
        if wanted:
            rows = self.store.find(np.frombuffer(b"".join(wanted), f"V{KEY}"))
            self.store.delete(rows[rows >= 0])
        for key in wanted:
            self.expected.pop(key, None)

    def check(self, known: list[bytes]) -> None:
        store = self.store
        rows = store.held(0, store.used)
        assert store.live == len(rows) == len(self.expected)
        found = zip((bytes(key) for key in store.keys[rows].tolist()), store.values(rows), strict=True)
        assert dict(found) == self.expected
        for key in known:
            row = store.find_one(key)
            assert (store.value(row) if row >= 0 else None) == self.expected.get(key)
        together = store.find(np.frombuffer(b"".join(known), f"V{KEY}"))
        assert together.tolist() == [store.find_one(key) for key in known]
        assert set(store.outside) == {
            row for row, value in zip(rows.tolist(), store.values(rows), strict=True) if len(value) > SLOT
        }
        store.check_loaded()


def contents(frozen: FrozenRows, rows: int = 7) -> dict[bytes, bytes]:
    """What a frozen store says that there was, in pieces."""
    found: dict[bytes, bytes] = {}
    for first in range(0, frozen.used, rows):
        piece = frozen.piece(first, first + rows)
        there = (np.flatnonzero(piece.states) + first).tolist()
        for row, key, slot in zip(there, piece.keys.tolist(), piece.slots.tolist(), strict=True):
            found[key] = piece.outside.get(row, slot)
    assert len(found) == frozen.live
    return found


KEYS = st.sampled_from(keys_of(range(60)))
STEP = st.one_of(
    st.tuples(st.just("put"), st.lists(st.tuples(KEYS, st.integers(0, 255)), min_size=1, max_size=40)),
    st.tuples(st.just("one"), st.tuples(KEYS, st.integers(0, 255))),
    st.tuples(st.just("outside"), st.dictionaries(KEYS, st.integers(0, 255), min_size=1, max_size=5)),
    st.tuples(st.just("delete"), st.lists(KEYS, max_size=40)),
    st.tuples(st.just("freeze"), st.none()),
    st.tuples(st.just("thaw"), st.none()),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEP, max_size=25))
def test_a_store_is_a_dict_and_what_is_frozen_stays(steps: list[tuple[str, object]]) -> None:
    model = Model()
    held: list[tuple[FrozenRows, dict[bytes, bytes]]] = []
    for what, given_ in steps:
        if what == "put":
            assert isinstance(given_, list)
            model.put([(key, slot_of(value)) for key, value in given_])
        elif what == "one":
            assert isinstance(given_, tuple)
            model.put_one(given_[0], slot_of(given_[1]))
        elif what == "outside":
            assert isinstance(given_, dict)
            model.put_outside({key: slot_of(value) + b"more" for key, value in given_.items()})
        elif what == "delete":
            assert isinstance(given_, list)
            model.delete(given_)
        elif what == "freeze" and len(held) < 3:
            held.append((model.store.freeze(), dict(model.expected)))
        elif what == "thaw" and held:
            held.pop(0)[0].close()
        model.check(keys_of(range(60)))
        for frozen, expected in held:
            assert contents(frozen) == expected
    assert len(model.store.frozen) == len(held)


def test_a_large_store_is_a_dict_too() -> None:
    some, model = random.Random(3), Model()
    for _ in range(60):
        numbers = [some.randrange(60_000) for _ in range(some.choice((1, 300, 4000)))]
        model.put([(key, slot_of(some.randrange(1 << 32))) for key in keys_of(numbers)])
        if some.random() < 0.4:
            model.delete(keys_of(some.randrange(60_000) for _ in range(3000)))
    model.check(keys_of(some.randrange(60_000) for _ in range(2000)))
    model.delete(list(model.expected))
    model.check(keys_of(range(100)))
    model.put([(key, slot_of(1)) for key in keys_of(range(500))])
    model.check(keys_of(range(600)))


def test_the_row_of_a_flow_depends_on_what_was_done_alone() -> None:
    """Two processes have different secrets; a cursor and an expiry mean rows."""
    models = [Model(), Model()]
    for model in models:
        some = random.Random(8)
        for _ in range(40):
            numbers = [some.randrange(900) for _ in range(some.choice((2, 200)))]  # keys stand twice in a batch
            model.put([(key, slot_of(some.randrange(99))) for key in keys_of(numbers)])
            model.delete(keys_of(some.randrange(900) for _ in range(80)))
    first, second = (model.store for model in models)
    assert first.used == second.used
    assert first.states[: first.used].tolist() == second.states[: first.used].tolist()
    rows = first.held(0, first.used)
    assert first.keys[rows].tolist() == second.keys[rows].tolist()
    assert first.freeze().free.tolist() == second.freeze().free.tolist()


def test_one_flow_by_itself_is_written_as_a_batch_of_one_is() -> None:
    """Nodes that do the one and nodes that do the other have the same rows."""
    one, batch = Model(), Model()
    some = random.Random(9)
    for step in range(400):
        ((key,), deadline) = keys_of([some.randrange(700)]), some.choice((0, 5, 1_700_000_000_000))
        flow = (key, slot_of(some.randrange(99), deadline))
        one.put_one(*flow)
        batch.put([flow])
        for model in (one, batch):
            if step % 50 == 10:
                model.delete(keys_of(range(step % 7, 700, 9)))
            if step % 90 == 20:
                model.put_outside({keys_of([step % 11])[0]: slot_of(1) + b"more"})
            if step == 200:
                model.store.freeze()
    for model in (one, batch):
        model.check(keys_of(range(720)))
    first, second = one.store, batch.store
    for name in ("states", "deadlines", "keys", "slots"):
        assert getattr(first, name)[: first.used].tolist() == getattr(second, name)[: second.used].tolist()
    assert first.freeze().free.tolist() == second.freeze().free.tolist()
    assert contents(first.frozen[0]) == contents(second.frozen[0])


def test_the_last_of_several_values_for_one_place_stays() -> None:
    """What the stores rely on of numpy."""
    count = 100_000
    places = np.random.default_rng(1).integers(0, 500, count)
    array = np.zeros(500, np.uint32)
    array[places] = np.arange(count, dtype=np.uint32)
    expected = {int(place): number for number, place in enumerate(places)}
    assert {place: int(array[place]) for place in expected} == expected
    slots = np.zeros(500, "V74")
    slots[places] = np.frombuffer(b"".join(slot_of(number) for number in range(count)), "V74")
    assert all(slots[place].tobytes() == slot_of(number) for place, number in expected.items())


def test_keys_with_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model()
    monkeypatch.setattr(RowIndex, "hashes", lambda _self, keys: np.full(len(keys), 7, np.uint32))
    monkeypatch.setattr(RowIndex, "_hash_one", lambda _self, _key: 7)
    model.put([(key, slot_of(number)) for number, key in enumerate(keys_of([1, 2, 3, 2, 4, 1]))])
    model.delete(keys_of([3]))
    model.put([(key, slot_of(9)) for key in keys_of([5, 2])])
    model.check(keys_of(range(8)))


def test_one_key_is_hashed_as_many_are() -> None:
    some = random.Random(4)
    for words in (2, 5):
        index = RowIndex(reserve(10 * words, np.uint64).reshape(10, words), 10)
        keys = [some.randbytes(8 * words) for _ in range(200)] + [b"\xff" * 8 * words, bytes(8 * words)]
        together = index.hashes(np.frombuffer(b"".join(keys), np.uint64).reshape(-1, words))
        assert together.tolist() == [index._hash_one(key) for key in keys]


def test_deadlines_are_what_values_begin_with() -> None:
    stated = [0, 1, 5, (1 << 64) - 1, 1_700_000_000_000]
    slots = np.frombuffer(b"".join(slot_of(3, deadline) for deadline in stated), f"V{SLOT}")
    assert deadlines_of(slots).tolist() == [int(NEVER), 1, 5, int(NEVER), 1_700_000_000_000]
    model = Model()
    model.put([(key, slot_of(0, deadline)) for key, deadline in zip(keys_of(range(5)), stated, strict=True)])
    assert model.store.due(0, 99, 5).tolist() == [1, 2]
    model.delete(keys_of([1]))
    assert model.store.due(0, 99, 5).tolist() == [2]
