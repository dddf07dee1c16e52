"""Majority arithmetic: all small cases against a definition that is slow and obvious. The tables are in `tables/`."""

from __future__ import annotations

from itertools import combinations, product

from rocinante.raft import Config
from rocinante.raft.quorum import Vote, joint_commit, joint_vote, majority, majority_commit, majority_vote

Y, N = True, False


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


def _subsets(ids: range) -> list[frozenset[int]]:
    return [frozenset(chosen) for size in range(1, len(ids) + 1) for chosen in combinations(ids, size)]


def test_a_joint_quorum_meets_every_quorum_of_either_half() -> None:
    """What makes the way through a joint configuration safe (dissertation, 4.3): all pairs of halves of four."""
    everybody = range(4)
    for new, old in product(_subsets(everybody), repeat=2):
        joint = Config(new, old)
        for yes in _subsets(everybody):
            votes = {voter: voter in yes for voter in everybody}
            others = {voter: not vote for voter, vote in votes.items()}
            if joint_vote(joint, votes) is Vote.WON:
                assert majority_vote(new, others) is not Vote.WON
                assert majority_vote(old, others) is not Vote.WON


def test_what_a_joint_configuration_commits_is_on_a_majority_of_both_halves() -> None:
    for new, old in product(_subsets(range(3)), repeat=2):
        for held in product(range(3), repeat=3):
            committed = joint_commit(Config(new, old), dict(enumerate(held)))
            for half in (new, old):
                assert sum(held[voter] >= committed for voter in half) >= majority(len(half))
            above = committed + 1
            assert any(sum(held[voter] >= above for voter in half) < majority(len(half)) for half in (new, old))
