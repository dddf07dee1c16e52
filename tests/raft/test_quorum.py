"""Majority arithmetic: tables, and all small cases against a definition that is slow and obvious."""

from __future__ import annotations

from itertools import combinations, product

import pytest

from rocinante.raft import Config
from rocinante.raft.quorum import EVERYTHING, Vote, joint_commit, joint_vote, majority, majority_commit, majority_vote

Y, N = True, False


@pytest.mark.parametrize(("size", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)])
def test_majority(size: int, needed: int) -> None:
    assert majority(size) == needed


@pytest.mark.parametrize(
    ("voters", "votes", "outcome"),
    [
        ("", {}, Vote.WON),  # nobody to convince: stands in nobody's way
        ("1", {}, Vote.PENDING),
        ("1", {1: Y}, Vote.WON),
        ("1", {1: N}, Vote.LOST),
        ("1", {2: Y}, Vote.PENDING),  # not a voter
        ("12", {1: Y}, Vote.PENDING),
        ("12", {1: N}, Vote.LOST),
        ("12", {1: Y, 2: Y}, Vote.WON),
        ("12", {1: Y, 2: N}, Vote.LOST),
        ("123", {1: Y}, Vote.PENDING),
        ("123", {1: Y, 2: N}, Vote.PENDING),
        ("123", {1: Y, 2: N, 3: Y}, Vote.WON),
        ("123", {1: N, 2: N}, Vote.LOST),
        ("123", {1: Y, 4: Y, 5: Y}, Vote.PENDING),
        ("1234", {1: Y, 2: Y}, Vote.PENDING),
        ("1234", {1: N, 2: N}, Vote.LOST),
        ("12345", {1: Y, 2: Y, 3: N, 4: N}, Vote.PENDING),
        ("12345", {1: Y, 2: Y, 3: Y}, Vote.WON),
    ],
)
def test_majority_vote(voters: str, votes: dict[int, bool], outcome: Vote) -> None:
    assert majority_vote({int(voter) for voter in voters}, votes) is outcome


@pytest.mark.parametrize(
    ("matches", "committed"),
    [
        ([], EVERYTHING),
        ([12], 12),
        ([0], 0),
        ([12, 5], 5),
        ([12, 5, 6], 6),
        ([0, 0, 9], 0),
        ([100, 101, 99], 100),
        ([1, 2, 3, 4], 2),
        ([9, 9, 9, 0], 9),
        ([1, 2, 3, 4, 5], 3),
        ([5, 5, 5, 0, 0], 5),
    ],
)
def test_majority_commit(matches: list[int], committed: int) -> None:
    table = dict(enumerate(matches, 1))
    assert majority_commit(set(table), table) == committed


def test_who_is_not_known_holds_nothing_and_who_is_no_voter_does_not_count() -> None:
    assert majority_commit({1, 2, 3}, {1: 7}) == 0
    assert majority_commit({1, 2, 3}, {1: 7, 2: 6, 8: 9, 9: 9}) == 6


@pytest.mark.parametrize(
    ("voters", "outgoing", "votes", "outcome"),
    [
        ("123", "", {1: Y, 2: Y}, Vote.WON),
        ("123", "123", {1: Y, 2: Y}, Vote.WON),
        ("123", "345", {1: Y, 2: Y}, Vote.PENDING),  # one half is not enough
        ("123", "345", {1: Y, 2: Y, 4: Y, 5: Y}, Vote.WON),
        ("123", "345", {1: Y, 2: Y, 4: N, 5: N}, Vote.LOST),  # one lost half loses
        ("123", "345", {4: N, 5: N}, Vote.LOST),
        ("123", "345", {3: Y}, Vote.PENDING),
        ("1", "2", {1: Y, 2: Y}, Vote.WON),
        ("1", "2", {1: Y, 2: N}, Vote.LOST),
    ],
)
def test_joint_vote(voters: str, outgoing: str, votes: dict[int, bool], outcome: Vote) -> None:
    assert joint_vote(_config(voters, outgoing), votes) is outcome


@pytest.mark.parametrize(
    ("voters", "outgoing", "matches", "committed"),
    [
        ("123", "", {1: 5, 2: 4, 3: 3}, 4),
        ("123", "345", {1: 9, 2: 9, 3: 1, 4: 5, 5: 4}, 4),
        ("123", "345", {1: 3, 2: 2, 3: 9, 4: 9, 5: 9}, 3),
        ("1", "2", {1: 9, 2: 4}, 4),
        ("", "", {1: 9}, EVERYTHING),
    ],
)
def test_joint_commit_is_the_smaller_halfs(voters: str, outgoing: str, matches: dict[int, int], committed: int) -> None:
    assert joint_commit(_config(voters, outgoing), matches) == committed


def test_all_small_votes_against_the_definition() -> None:
    for size in range(1, 6):
        voters = set(range(size))
        quorums = [set(quorum) for quorum in combinations(voters, size // 2 + 1)]
        for answers in product((Y, N, None), repeat=size):
            votes = {voter: answer for voter, answer in enumerate(answers) if answer is not None}
            yes = {voter for voter, answer in votes.items() if answer}
            no = {voter for voter, answer in votes.items() if not answer}
            if any(quorum <= yes for quorum in quorums):
                expected = Vote.WON
            elif all(quorum & no for quorum in quorums):
                expected = Vote.LOST
            else:
                expected = Vote.PENDING
            assert majority_vote(voters, votes) is expected


def test_all_small_commits_against_the_definition() -> None:
    for size in range(1, 6):
        voters = set(range(size))
        for held in product(range(4), repeat=size):
            matches = dict(enumerate(held))
            expected = max(index for index in range(4) if sum(match >= index for match in held) >= size // 2 + 1)
            assert majority_commit(voters, matches) == expected


def test_any_two_quorums_of_neighbouring_configurations_meet() -> None:
    """What makes one-at-a-time changes safe (dissertation, section 4.1), as the functions here count."""
    for size in range(1, 6):
        before, after = set(range(size)), set(range(size + 1))
        for yes in range(1 << (size + 1)):
            votes = {voter: bool(yes >> voter & 1) for voter in after}
            others = {voter: not vote for voter, vote in votes.items()}
            assert not (majority_vote(before, votes) is Vote.WON and majority_vote(after, others) is Vote.WON)


def _config(voters: str, outgoing: str) -> Config:
    return Config(frozenset(map(int, voters)), frozenset(map(int, outgoing)))
