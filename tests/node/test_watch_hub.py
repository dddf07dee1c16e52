"""The fan-out to watchers: bounds, resumption, and what is said to those who lost their place."""

from __future__ import annotations

import pytest

from rocinante import limits
from rocinante.errors import OutOfRange, ResourceExhausted, Unavailable
from rocinante.node.watch import WatchHub
from rocinante.state.events import AppliedEvents


def events(index: int, size_bytes: int = 10) -> AppliedEvents:
    return AppliedEvents(index, (), (), size_bytes)


def filled(count: int) -> WatchHub:
    hub = WatchHub()
    hub.reset(1)
    for index in range(2, 2 + count):
        hub.publish(events(index))
    return hub


def test_a_watch_resumes_after_the_index_it_names_and_gets_what_follows() -> None:
    hub = filled(10)
    watch = hub.watch(5, 11)
    hub.publish(events(12))
    found = [watch.get(0) for _ in range(8)]
    assert [item.index if item else None for item in found] == [6, 7, 8, 9, 10, 11, 12, None]


def test_a_watch_from_now_on_gets_nothing_of_the_past() -> None:
    hub = filled(10)
    watch = hub.watch(0, 11)
    assert watch.get(0) is None
    hub.publish(events(12))
    assert (found := watch.get(0)) is not None
    assert found.index == 12


def test_one_who_does_not_read_is_told_that_it_fell_behind_and_costs_nothing_more() -> None:
    hub = filled(0)
    slow, quick = hub.watch(0, 1), hub.watch(0, 1)
    for index in range(2, 3 + limits.WATCH_QUEUE_EVENTS_MAX):
        hub.publish(events(index))
        assert quick.get(0) is not None
    assert (hub.fell_behind, hub.count) == (1, 1)
    with pytest.raises(OutOfRange, match="fell behind"):
        slow.get(0)


def test_a_large_event_passes_and_many_large_ones_do_not() -> None:
    hub = filled(0)
    watch = hub.watch(0, 1)
    hub.publish(events(2, limits.WATCH_QUEUE_BYTES_MAX + 1))
    assert watch.get(0) is not None
    hub.publish(events(3, limits.WATCH_QUEUE_BYTES_MAX // 2 + 1))
    hub.publish(events(4, limits.WATCH_QUEUE_BYTES_MAX // 2 + 1))
    with pytest.raises(OutOfRange, match="fell behind"):
        watch.get(0)


@pytest.mark.parametrize(
    ("what", "from_index", "says"),
    [
        ("older than what is kept", 2, "start again from a snapshot"),
        ("in the future", 10_000_000, "is in the future"),
    ],
)
def test_an_index_that_cannot_be_resumed_from_is_refused(what: str, from_index: int, says: str) -> None:
    count = limits.WATCH_HISTORY_ENTRIES_MAX + 100
    with pytest.raises(OutOfRange, match=says):
        filled(count).watch(from_index, count + 1)


def test_the_history_is_bounded_in_bytes_too() -> None:
    hub = filled(0)
    for index in range(2, 12):
        hub.publish(events(index, limits.WATCH_HISTORY_BYTES_MAX // 4))
    assert [hub.watch(at, 11) for at in (8, 9, 10)]
    with pytest.raises(OutOfRange):
        hub.watch(6, 11)


def test_a_snapshot_in_place_of_the_state_ends_the_watches() -> None:
    hub = filled(5)
    watch = hub.watch(0, 6)
    hub.reset(100)
    with pytest.raises(OutOfRange, match="start again"):
        watch.get(0)
    with pytest.raises(OutOfRange):
        hub.watch(50, 100)
    assert hub.watch(100, 100).get(0) is None


def test_the_end_is_told_after_what_was_there_before_it() -> None:
    hub = filled(5)
    watch = hub.watch(5, 6)
    hub.end()
    assert watch.get(0) is not None
    with pytest.raises(Unavailable):
        watch.get(0)
    with pytest.raises(Unavailable):
        hub.watch(0, 6)


def test_the_watchers_are_counted_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WATCHERS_MAX", 2)
    hub = filled(0)
    first, _ = hub.watch(0, 1), hub.watch(0, 1)
    with pytest.raises(ResourceExhausted):
        hub.watch(0, 1)
    first.close()
    hub.watch(0, 1)


def test_who_asked_is_woken_at_every_event_and_at_once_where_something_waits() -> None:
    hub = filled(5)
    woken: list[int] = []
    watch = hub.watch(5, 6)
    watch.on_events(lambda: woken.append(1))
    assert len(woken) == 1
    hub.publish(events(7))
    assert len(woken) == 2
