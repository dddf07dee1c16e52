"""Whom a client asks."""

from __future__ import annotations

import random

import pytest

from rocinante.client.router import Router, parse_endpoint, parse_endpoints
from rocinante.errors import InvalidArgument


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def router(*seeds: str, discover: bool = True) -> tuple[Router, Clock]:
    clock = Clock()
    return Router(seeds, discover=discover, clock=clock, rng=random.Random(3)), clock


def test_the_leader_is_asked_first_and_forgotten_when_it_fails() -> None:
    found, _ = router("a:1", "b:1", "c:1")
    found.saw_leader("b:1")
    assert [found.pick() for _ in range(5)] == ["b:1"] * 5
    found.failed("b:1")
    assert found.leader == ""
    assert {found.pick() for _ in range(50)} == {"a:1", "c:1"}


def test_a_node_that_failed_rests_and_is_still_asked_when_there_is_nobody_else() -> None:
    found, clock = router("a:1", "b:1")
    found.failed("a:1")
    assert {found.pick() for _ in range(20)} == {"b:1"}
    found.failed("b:1")
    assert found.pick() in ("a:1", "b:1")
    assert found.pick({"a:1"}) == "b:1"
    assert found.pick({"a:1", "b:1"}) is None
    clock.now_s = 10
    assert {found.pick() for _ in range(50)} == {"a:1", "b:1"}
    found.worked("a:1")


def test_members_are_discovered_and_seeds_never_forgotten() -> None:
    found, clock = router("a:1")
    assert found.discovery_due()
    assert not found.discovery_due(), "one caller does it"
    found.discovered(["a:1", "b:1", "c:1"])
    assert found.endpoints == ("a:1", "b:1", "c:1")
    found.saw_leader("c:1")
    found.discovered(["b:1"])
    assert (found.endpoints, found.leader) == (("a:1", "b:1"), "")
    clock.now_s = 31
    assert found.discovery_due()


def test_without_discovery_only_what_was_given_is_used() -> None:
    found, _ = router("proxy:1", discover=False)
    found.saw_leader("10.0.0.1:35001")
    assert (found.leader, found.endpoints, found.discovery_due()) == ("", ("proxy:1",), False)


@pytest.mark.parametrize("text", ["127.0.0.1:35001", "[::1]:1", "node1.example:65535", " a:1 "])
def test_endpoints(text: str) -> None:
    assert parse_endpoint(text) == text.strip()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("127.0.0.1", "not HOST:PORT"),
        (":35001", "not HOST:PORT"),
        ("::1:35001", r"in brackets: \[::1\]"),
        ("http://127.0.0.1:8001", "not HOST:PORT"),
        ("a:0", "from 1 to 65535"),
        ("a:65536", "from 1 to 65535"),
        ("a:x", "from 1 to 65535"),
        ("", "no endpoint given"),
        (",", "no endpoint given"),
        (",".join(f"a:{port}" for port in range(1, 66)), "at most 64"),
    ],
)
def test_wrong_endpoints(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        parse_endpoints(text)


def test_several_in_one_text_each_once() -> None:
    assert parse_endpoints("a:1, b:2,a:1") == ("a:1", "b:2")
