"""What a benchmark is told to do is checked, and its arithmetic is right."""

from __future__ import annotations

from array import array
from collections import Counter
from typing import Any

import pytest

from rocinante.bench import Operation, Plan, Result
from rocinante.bench.plan import Sample, quantile
from rocinante.errors import InvalidArgument

HERE = ("127.0.0.1:1",)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"endpoints": ()}, "endpoints"),
        ({"clients": 0}, "clients"),
        ({"clients": 10_001}, "clients"),
        ({"seconds": None, "count": None}, "seconds"),
        ({"seconds": 1.0, "count": 1}, "seconds"),
        ({"seconds": 0.0}, "seconds"),
        ({"seconds": None, "count": 0}, "count"),
        ({"key_bytes": 7}, "key_bytes"),
        ({"key_bytes": 1025}, "key_bytes"),
        ({"value_bytes": -1}, "value_bytes"),
        ({"value_bytes": 512 * 1024 + 1}, "value_bytes"),
        ({"keys": 0}, "keys"),
        ({"get_percent": 101}, "get_percent"),
        ({"warm_up": -1.0}, "warm_up"),
        ({"timeout": 0.0}, "timeout"),
        ({"processes": 2, "clients": 1}, "processes"),
    ],
)
def test_a_wrong_plan_names_its_field(wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Plan(**{"endpoints": HERE, **wrong})
    assert caught.value.field == field


def test_keys_have_their_size_and_differ() -> None:
    plan = Plan(HERE, key_bytes=16, keys=1000)
    keys = {plan.key(number) for number in range(plan.keys)}
    assert len(keys) == 1000
    assert {len(key) for key in keys} == {16}


@pytest.mark.parametrize(
    ("values", "q", "expected"),
    [
        ([], 0.5, 0.0),
        ([7.0], 0.5, 7.0),
        ([7.0], 0.99, 7.0),
        ([1.0, 2.0], 0.5, 1.0),
        ([1.0, 2.0, 3.0], 0.5, 2.0),
        ([float(n) for n in range(1, 101)], 0.99, 99.0),
        ([float(n) for n in range(1, 101)], 1.0, 100.0),
        ([float(n) for n in range(1, 201)], 0.99, 198.0),
    ],
)
def test_quantiles_are_by_nearest_rank(values: list[float], q: float, expected: float) -> None:
    assert quantile(values, q) == expected


def test_the_samples_of_all_processes_count() -> None:
    one = Sample(array("d", [0.001, 0.003]), Counter({"UNAVAILABLE": 1}), 2.0)
    two = Sample(array("d", [0.002, 0.010]), Counter({"UNAVAILABLE": 1, "RESOURCE_EXHAUSTED": 3}), 4.0)
    result = Result.of(Plan(HERE, Operation.PUT, clients=2, processes=2), [one, two])
    assert (result.calls, result.errors) == (4, {"UNAVAILABLE": 2, "RESOURCE_EXHAUSTED": 3})
    assert (result.median_ms, result.max_ms, result.mean_ms) == (2.0, 10.0, 4.0)
    assert result.per_second == 1.0  # 4 calls; the processes ran at the same time, the longest for 4 s
