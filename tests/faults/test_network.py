"""The network's faults, measured: a delay that delays nothing would make its rounds worthless."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.faults.probe import DELAY_MS, LOSS_PERCENT, PACKETS
from tests.faults.relay import JITTER
from tests.support.tools import ROOT, requires

pytestmark = [pytest.mark.root, requires("ip", "nft")]


@pytest.fixture(scope="module")
def measured() -> dict[str, dict[str, Any]]:
    command = [sys.executable, "-m", "tests.faults.probe"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", ["whole", "healed"])
def test_a_whole_network_loses_nothing_and_is_fast(name: str, measured: dict[str, dict[str, Any]]) -> None:
    assert measured[name]["back"] == PACKETS
    assert measured[name]["quickest_ms"] < DELAY_MS[0]


def test_a_delay_is_that_of_both_ways_and_loses_nothing(measured: dict[str, dict[str, Any]]) -> None:
    assert measured["delayed"]["back"] == PACKETS
    assert measured["delayed"]["quickest_ms"] >= 2 * DELAY_MS[0] * (1 - JITTER)
    assert measured["delayed"]["hits"] == 2 * PACKETS


def test_loss_is_that_of_both_ways(measured: dict[str, dict[str, Any]]) -> None:
    expected = PACKETS * (1 - LOSS_PERCENT / 100) ** 2
    assert expected * 0.6 < measured["lossy"]["back"] < expected * 1.4  # more than four standard deviations
    assert measured["lossy"]["hits"] == PACKETS - measured["lossy"]["back"]


@pytest.mark.parametrize("name", ["cut there", "cut back"])
def test_one_way_is_enough_for_no_answer(name: str, measured: dict[str, dict[str, Any]]) -> None:
    assert measured[name] == {"back": 0, "quickest_ms": None, "hits": PACKETS}
