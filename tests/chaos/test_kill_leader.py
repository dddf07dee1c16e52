"""The short form of `make chaos`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.kill_leader import gaps, run


def test_a_gap_is_the_longest_silence_after_a_kill() -> None:
    assert gaps([10.0, 20.0], [9.9, 10.1, 10.9, 19.0, 20.5], 30.0) == pytest.approx([8.1, 0.5])
    assert gaps([10.0], [9.0], 15.0) == [5.0]


def test_nothing_acknowledged_is_lost_or_applied_twice_when_leaders_are_killed(tmp_path: Path) -> None:
    report = run(tmp_path, seconds=15.0, writers=8, every_s=2.0, kills_min=3)
    assert report.problems == []
    assert report.kills >= 3
    assert report.acknowledged > 0
    assert report.errors == []
