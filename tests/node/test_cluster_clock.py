"""The cluster's time, with clocks that the test moves: tables of what happens and what the time is then."""

from __future__ import annotations

import logging

import pytest

from rocinante import limits
from rocinante.node.cluster_clock import ClusterClock

EPOCH_MS = 1_800_000_000_000
HOUR_MS = 3_600_000
HOLD_MS = limits.CLOCK_HOLD_MS


class Host:
    """A node's clocks and its view of the cluster's time. All times are told as ms after EPOCH_MS."""

    def __init__(self, replicated_ms: int | None = 0, *, monotonic_ms: int = 5_000, jumped_ms: int = 0) -> None:
        self.monotonic_ms, self.jumped_ms = monotonic_ms, jumped_ms
        self.began_ms = monotonic_ms
        self.clock = ClusterClock(
            monotonic_ms=lambda: self.monotonic_ms,
            wall_ms=self.wall_ms,
            replicated_ms=0 if replicated_ms is None else EPOCH_MS + replicated_ms,
        )

    def wall_ms(self) -> int:
        return EPOCH_MS + self.monotonic_ms - self.began_ms + self.jumped_ms

    @property
    def now(self) -> int:
        return self.clock.now_ms() - EPOCH_MS

    def passes(self, ms: int, *, leads: bool = True, step_ms: int = 1_000) -> int:
        """Time goes by, with a round of housekeeping each second."""
        for _ in range(ms // step_ms):
            self.monotonic_ms += step_ms
            self.look(leads=leads)
        return self.now

    def look(self, *, leads: bool = True) -> None:
        if leads:
            self.said_ms = self.clock.lead()
        else:
            self.clock.follow()

    def hears(self, ms: int, *, said: bool = True) -> None:
        self.clock.observe(EPOCH_MS + ms, said=said)


def leader() -> Host:
    host = Host(None)
    host.look()
    host.hears(host.said_ms - EPOCH_MS)
    assert host.now == 0
    return host


def test_a_new_cluster_takes_the_time_of_its_leader() -> None:
    host = Host(None, jumped_ms=77)
    assert host.now == 77, "before anybody has said it: this host's own"
    host.look()
    assert host.said_ms == EPOCH_MS + 77
    host.passes(10_000)
    assert host.now == 10_077


@pytest.mark.parametrize(
    ("jump_ms", "after_ms", "expected_ms"),
    [
        # the wall clock jumps by …, and after … the cluster's time is …
        (400, 1_000, 1_050),  # near: slewed by 5 %
        (400, 10_000, 10_400),
        (-400, 1_000, 950),
        (-400, 10_000, 9_600),
        (10_000, 4_000, 8_000),  # further: at double speed …
        (10_000, 60_000, 70_000),
        (-10_000, 4_000, 2_000),  # … or at half
        (-10_000, 60_000, 50_000),
        (288_000, 60_000, 60_000),  # a jump: not followed at once …
        (-288_000, 60_000, 60_000),
        (3 * HOUR_MS, HOLD_MS - 1_000, HOLD_MS - 1_000),
        (288_000, HOLD_MS + 101_000, HOLD_MS + 201_000),  # … but at double speed once it has held still
        (288_000, HOLD_MS + 600_000, HOLD_MS + 888_000),
        (-288_000, HOLD_MS + 101_000, HOLD_MS + 50_500),  # backwards at half speed, …
        (-288_000, HOLD_MS + 600_000, HOLD_MS + 312_000),  # … until the wall clock is there
        (3 * HOUR_MS, HOLD_MS + HOUR_MS, HOLD_MS + 2 * HOUR_MS),
        (-3 * HOUR_MS, HOLD_MS + HOUR_MS, HOLD_MS + HOUR_MS // 2),
    ],
)
def test_the_leaders_wall_clock_jumps(jump_ms: int, after_ms: int, expected_ms: int) -> None:
    host = leader()
    host.jumped_ms += jump_ms
    assert host.now == 0, "nothing is followed at once"
    now_ms = host.passes(after_ms)
    assert abs(now_ms - expected_ms) <= 1_000, now_ms - expected_ms


@pytest.mark.parametrize("jump_ms", [288_000, -288_000, 5 * HOUR_MS, -5 * HOUR_MS])
def test_the_time_never_goes_back_and_no_flow_loses_more_than_half_of_its_life(jump_ms: int) -> None:
    host = leader()
    host.jumped_ms += jump_ms
    before = host.now
    while abs(host.clock.offset_ms) > limits.CLOCK_STEP_MS:
        now = host.passes(1_000)
        assert 500 <= now - before <= 2_000
        before = now
        assert host.clock.alarm or abs(host.clock.offset_ms) < limits.CLOCK_NEAR_MS
    host.passes(2_000)
    assert not host.clock.alarm


def test_a_jump_that_is_undone_leaves_no_trace() -> None:
    host = leader()
    host.jumped_ms += 288_000
    assert host.passes(200_000) == 200_000
    host.jumped_ms -= 288_000
    assert host.passes(200_000) == 400_000
    assert not host.clock.alarm


def test_a_clock_that_goes_to_and_fro_is_not_followed() -> None:
    host = leader()
    for turn in range(40):
        host.jumped_ms = 288_000 if turn % 2 else -288_000
        host.passes(100_000)
    assert host.now == 4_000_000
    assert host.clock.jumps == 40


def test_an_operator_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    host = leader()
    host.jumped_ms -= 288_000
    host.passes(10_000)
    assert host.clock.alarm == (
        "the clock of this host is 4.8 min behind the cluster's time: flows end by the cluster's time; a leader's "
        "clock that stays so is followed in 4.85 min; check its NTP"
    )
    assert (host.clock.jumps, host.clock.offset_ms) == (1, -288_000)
    host.passes(HOLD_MS)
    assert "runs half as fast until they agree" in host.clock.alarm
    host.passes(600_000)
    assert not host.clock.alarm
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "INFO"]
    assert "near the cluster's time again" in caplog.text
    assert "runs half as fast until they agree" in caplog.messages[2]


def test_a_follower_goes_by_what_the_leader_says() -> None:
    host = Host(0, jumped_ms=-288_000)
    host.hears(50_000)
    assert host.now == 50_000
    assert host.passes(10_000, leads=False) == 60_000
    assert "4.97 min behind the cluster's time" not in host.clock.alarm
    assert "behind the cluster's time" in host.clock.alarm, "of a follower's clock too: it may lead soon"
    host.hears(59_900)
    assert host.now == 60_000, "it waits for a leader that is a little slower, and does not go back"
    host.passes(1_000, leads=False)
    assert host.now == 60_990, "a CLOCK comes late: its own time counts, but for what its clock may have gained"
    host.hears(200_000)
    host.hears(65_000)
    host.passes(1_000, leads=False)
    assert host.now == 200_000, "a leader that is far behind is followed, by waiting for it"


def test_a_late_clock_does_not_put_a_node_behind() -> None:
    """As after a pause: what waited in the socket is old."""
    host = Host(0)
    for turn in range(1, 7):
        host.passes(10_000, leads=False)
        host.hears(turn * 10_000 - (1_700 if turn == 4 else 5))
    host.look()
    assert 0 <= 60_000 - (host.said_ms - EPOCH_MS) <= 100
    assert not host.clock.alarm


def test_a_node_that_leads_soon_after_its_start_makes_up_for_what_it_missed_without_an_alarm() -> None:
    host = Host(0, jumped_ms=19_000)
    host.hears(12_000)
    host.look()
    assert host.said_ms - EPOCH_MS == 12_000
    assert host.passes(10_000) == 28_200, "it was 7 s behind: 6 at double speed, the last at leisure"
    assert not host.clock.alarm


def test_a_new_leader_goes_on_from_the_replicated_time() -> None:
    host = Host(0, jumped_ms=7 * HOUR_MS)
    host.hears(50_000)
    host.passes(5_000, leads=False)
    host.look()
    assert host.said_ms - EPOCH_MS == 55_000, "its own wall clock is off, which it finds out as any leader does"
    assert host.passes(60_000) == 115_000
    assert "ahead of the cluster's time" in host.clock.alarm


def test_a_leader_that_was_deposed_takes_the_new_leaders_time() -> None:
    host = leader()
    host.passes(10_000)
    host.look(leads=False)
    host.hears(30_000)
    assert host.now == 30_000


@pytest.mark.parametrize(
    ("down_ms", "expected_ms"),
    [
        (20_000, 20_000),
        (9 * HOUR_MS, 9 * HOUR_MS),  # the cluster was down: that time is over
        (-9 * HOUR_MS, 0),  # a wall clock behind what was replicated has jumped, whatever happened
    ],
)
def test_a_cluster_that_was_down(down_ms: int, expected_ms: int) -> None:
    host = Host(0, jumped_ms=down_ms)
    host.hears(0, said=False)  # the log is replayed
    assert host.now == 0
    host.look()
    assert host.now == expected_ms
    assert bool(host.clock.alarm) == (down_ms < 0)


def test_a_follower_that_has_just_started_raises_no_alarm() -> None:
    host = Host(0, jumped_ms=9 * HOUR_MS)
    host.passes(3_000, leads=False)
    assert not host.clock.alarm, "nobody has said the time since: it may be the cluster that was down"
    host.hears(9 * HOUR_MS + 3_000)
    host.passes(5_000, leads=False)
    assert not host.clock.alarm
    host.jumped_ms = 0
    host.passes(1_000, leads=False)
    assert "9 h behind the cluster's time" in host.clock.alarm


def test_what_another_nodes_log_tells_of_the_time_before_is_not_the_time() -> None:
    """A cluster that was down: this node was stopped first, the others said the time a while longer."""
    host = Host(0, jumped_ms=9 * HOUR_MS)
    host.hears(40_000, said=False)
    host.passes(6_000, leads=False)
    assert not host.clock.alarm
    host.look()
    assert host.now == 9 * HOUR_MS + 6_000, "nobody led meanwhile: it steps"
    assert not host.clock.alarm


def test_a_follower_that_catches_up_for_long_raises_no_alarm() -> None:
    """It was down for an hour, and finds out what was said in each ten seconds of it, in a few seconds."""
    host = Host(0, jumped_ms=HOUR_MS)
    for said_ms in range(0, HOUR_MS + 10_000, 10_000):
        host.hears(said_ms)
        host.monotonic_ms += 30
        if said_ms % 300_000 == 0:
            host.look(leads=False)
            assert not host.clock.alarm
    host.passes(9_000, leads=False)
    assert not host.clock.alarm
    host.hears(HOUR_MS + 20_000)
    host.passes(9_000, leads=False)
    assert not host.clock.alarm


def test_a_node_that_restarts_in_a_living_cluster_does_not_step() -> None:
    host = Host(0, jumped_ms=9 * HOUR_MS)
    host.hears(40_000)  # what the leader says, behind the end of the log that was found
    host.look()
    assert host.now == 40_000
    assert host.clock.alarm


def test_an_older_time_in_a_snapshot_changes_nothing() -> None:
    host = leader()
    host.passes(10_000)
    host.hears(3_000, said=False)
    assert host.now == 10_000


def test_a_node_that_has_just_caught_up_leads() -> None:
    """The last CLOCK that it found was said 9 s ago: nobody told it so (faults: seed 71, power-cut and others)."""
    host = Host(0, jumped_ms=19_000)
    host.hears(10_000)
    assert host.now == 10_000
    host.look()
    assert host.passes(5_000) == 20_000, "double speed: no flow ends before half of its time-out"
    assert not host.clock.alarm
    assert host.passes(5_000) == 28_100, "the last second at leisure"
    host.jumped_ms += limits.CLOCK_NEAR_MS + 1_000
    assert host.passes(5_000) == 33_100, "more than that is a jump"
    assert host.clock.alarm


def test_a_follower_that_has_just_caught_up_raises_no_alarm_about_the_age_of_what_it_found() -> None:
    host = Host(0, jumped_ms=19_000)
    for said_ms in (0, 10_000):  # a log that is caught up with: all at once
        host.hears(said_ms)
    host.passes(1_000, leads=False)
    assert not host.clock.alarm
    host.hears(20_000)
    host.passes(1_000, leads=False)
    assert not host.clock.alarm
    host.jumped_ms += 90_000
    host.passes(9_000, leads=False)
    host.hears(30_000)
    host.passes(5_000, leads=False)
    assert "90 s ahead of the cluster's time" in host.clock.alarm
