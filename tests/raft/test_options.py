"""A `RaftOptions` that exists is valid; what is wrong is named."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from rocinante.raft import RaftOptions, RotationMode

NUMBERS = [field.name for field in fields(RaftOptions) if field.type == "int"]


def test_defaults_are_valid() -> None:
    options = RaftOptions()
    assert options.pre_vote
    assert options.check_quorum
    assert options.rotation is RotationMode.OFF


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [0, -1, 1.5, "10", None, True])
def test_numbers(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        RaftOptions(**{name: value})


@pytest.mark.parametrize("name", ["pre_vote", "check_quorum", "lazy_commit", "frugal_reads"])
@pytest.mark.parametrize("value", [1, 0, "yes", None])
def test_flags(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected true or false"):
        RaftOptions(**{name: value})


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"election_ticks": 3, "heartbeat_ticks": 3}, "election_ticks: must be greater than heartbeat_ticks"),
        ({"rotation_min_ticks": 9, "rotation_max_ticks": 8}, "rotation_max_ticks: must be at least"),
        ({"rotation": "sometimes"}, "rotation: expected one of off, delay_heartbeats, transfer"),
    ],
)
def test_what_contradicts(values: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        RaftOptions(**values)


def test_rotation_may_be_a_plain_word() -> None:
    values: dict[str, Any] = {"rotation": "transfer"}
    assert RaftOptions(**values).rotation is RotationMode.TRANSFER
