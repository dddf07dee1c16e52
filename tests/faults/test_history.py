"""The checks of a history, on histories that are right and on ones that are wrong in one place."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.history import (
    Asked,
    How,
    flows_that_are_wrong,
    longest_gap,
    not_linearizable,
    read_history,
    revisions_that_go_back,
    unexplained,
    write_history,
)
from tests.faults.registry import Expect


def asked(
    verb: str,
    at: tuple[float, float],
    value: str | None = None,
    *,
    output: object = None,
    how: How = "ok",
    revision: int = 0,
    expected: str | None = None,
    client: str = "a",
) -> Asked:
    return Asked(client, "k", verb, at[0], at[1], how, value, expected, output, revision)


RIGHT = {
    "a read sees the last write": [asked("put", (1, 2), "x"), asked("get", (3, 4), output="x")],
    "an unknown write may come late": [
        asked("put", (1, 2), "x"),
        asked("put", (3, 4), "y", how="unknown", client="b"),
        asked("get", (5, 6), output="x"),
        asked("get", (7, 8), output="y"),
    ],
    "an unknown write may never come": [asked("put", (1, 2), "y", how="unknown"), asked("get", (3, 4))],
    "a refused write never happened": [asked("put", (1, 2), "y", how="refused"), asked("get", (3, 4))],
    "a read without an answer says nothing": [asked("put", (1, 2), "x"), asked("get", (3, 4), how="unknown")],
    "a swap of what is there": [asked("put", (1, 2), "x"), asked("cas", (3, 4), "y", expected="x", output=True)],
    "a swap of what is not there": [asked("cas", (1, 2), "y", expected="x", output=False), asked("get", (3, 4))],
}
WRONG = {
    "a stale read": [asked("put", (1, 2), "x"), asked("put", (3, 4), "y"), asked("get", (5, 6), output="x")],
    "a lost write": [asked("put", (1, 2), "x"), asked("get", (3, 4))],
    "a refused write that happened": [asked("put", (1, 2), "y", how="refused"), asked("get", (3, 4), output="y")],
    "a write that was done twice": [
        asked("put", (1, 2), "x"),
        asked("put", (3, 4), "y", client="b"),
        asked("get", (5, 6), output="x"),
    ],
    "two swaps of one value": [
        asked("put", (1, 2), "x"),
        asked("cas", (3, 4), "y", expected="x", output=True),
        asked("cas", (5, 6), "z", expected="x", output=True),
    ],
}


@pytest.mark.parametrize("name", RIGHT)
def test_right(name: str) -> None:
    assert not_linearizable(RIGHT[name]) == []


@pytest.mark.parametrize("name", WRONG)
def test_wrong(name: str) -> None:
    assert not_linearizable(WRONG[name]) == ["key k: not linearizable"]


@pytest.mark.parametrize(
    ("history", "problems"),
    [
        ([asked("put", (1, 2), "x", revision=5), asked("get", (3, 4), revision=5)], 0),
        ([asked("put", (1, 2), "x", revision=5), asked("get", (1.5, 4), revision=4)], 0),
        ([asked("put", (1, 2), "x", revision=5), asked("get", (3, 4), revision=4)], 1),
        ([asked("get", (1, 2), revision=5), asked("put", (3, 4), "x", revision=5)], 1),
        ([asked("put", (1, 3), "x", revision=5), asked("put", (2, 4), "y", revision=5)], 1),
        ([asked("cas", (1, 3), "x", revision=5, output=False), asked("put", (2, 4), "y", revision=5)], 0),
    ],
)
def test_revisions(history: list[Asked], problems: int) -> None:
    assert len(revisions_that_go_back(history)) == problems


@pytest.mark.parametrize(
    ("history", "problems"),
    [
        ([asked("flow-put", (1, 2), "1"), asked("flow-get", (3, 4), "1", output=[1, 1])], 0),
        ([asked("flow-put", (1, 2), "1", how="unknown"), asked("flow-get", (3, 4), "1", output=[0, 0])], 0),
        ([asked("flow-put", (1, 2), "1", how="unknown"), asked("flow-get", (3, 4), "1", output=[1, 1])], 0),
        ([asked("flow-put", (1, 2), "1"), asked("flow-get", (3, 4), "1", output=[0, 0])], 1),
        ([asked("flow-put", (1, 2), "1"), asked("flow-get", (3, 4), "1", output=[1, -1])], 1),
        ([asked("flow-put", (1, 2), "1"), asked("flow-get", (3, 4), "1", output=[2, 2])], 1),
        (
            [
                asked("flow-put", (1, 2), "1", how="unknown"),
                asked("flow-put", (3, 4), "2"),
                asked("flow-get", (5, 6), "2", output=[1, 1]),
            ],
            1,
        ),
    ],
)
def test_flows(history: list[Asked], problems: int) -> None:
    assert len(flows_that_are_wrong(history)) == problems


def test_the_gap_is_the_longest_silence_that_overlaps_the_fault() -> None:
    history = [asked("put", (at, at), "x") for at in (1.0, 5.0, 5.5, 8.0)] + [asked("get", (6, 6), output="x")]
    assert longest_gap(history, 5.2, 9.0) == (2.5, 5.5)
    assert longest_gap(history, 8.5, 12.0) == (4.0, 8.0)


def test_an_answer_that_no_fault_explains_is_told() -> None:
    assert unexplained([asked("put", (1, 2), "x", how="error")]) == ["put k of a at 1.000: "]


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    history = [asked("cas", (1, 2), "y", expected="x", output=True), asked("get", (3, 4), output=None, how="unknown")]
    write_history(tmp_path / "h", history)
    assert read_history(tmp_path / "h") == history


def test_what_must_be_in_a_log_and_is_not_is_told() -> None:
    logs = {1: "leads no more", 2: "x\nleader in term 3", 3: ""}
    assert Expect("faulted", "leads no more").missing(logs, {1}) == []
    assert Expect("faulted", "leads no more").missing(logs, {1, 3}) == ["node3 did not log /leads no more/"]
    assert Expect("others", r"^leader in term").missing(logs, {1}) == []
    assert Expect("others", "leads no more").missing(logs, {1}) == ["none of node2, node3 logged /leads no more/"]
    assert Expect("faulted", "leader in").present(logs, {2, 3}) == ["node2 logged /leader in/"]
