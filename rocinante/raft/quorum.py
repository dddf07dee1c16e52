"""Majority arithmetic, for simple and joint configurations. Pure functions.

Contract: a decision of a joint configuration needs a majority of *both* halves (dissertation, section 4.3). The empty
half decides nothing and stands in nobody's way: it wins every vote and commits everything, so that a simple
configuration is a joint one whose outgoing half is empty.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import IntEnum
from typing import Final

from .types import Config

EVERYTHING: Final = (1 << 64) - 1
"""What an empty half commits: the greatest index there is."""


class Vote(IntEnum):
    """The state of an election. Ordered: the outcome of a joint vote is the smaller half's, but lost beats pending."""

    LOST = 0
    PENDING = 1
    WON = 2


def majority(size: int) -> int:
    """How many of `size` voters are a majority."""
    return size // 2 + 1


def majority_vote(voters: Collection[int], votes: Mapping[int, bool]) -> Vote:
    """Counts the votes of `voters`; who has not voted is missing in `votes`, who is no voter does not count."""
    size = len(voters)
    if not size:
        return Vote.WON
    yes = no = 0
    for voter in voters:
        vote = votes.get(voter)
        if vote is True:
            yes += 1
        elif vote is False:
            no += 1
    needed = size // 2 + 1
    if yes >= needed:
        return Vote.WON
    return Vote.LOST if size - no < needed else Vote.PENDING


def majority_commit(voters: Collection[int], matches: Mapping[int, int]) -> int:
    """The greatest index that a majority of `voters` holds (figure 2: "a majority of matchIndex[i] >= N")."""
    size = len(voters)
    if not size:
        return EVERYTHING
    get = matches.get
    held = sorted([get(voter, 0) for voter in voters])
    return held[size - size // 2 - 1]


def joint_vote(config: Config, votes: Mapping[int, bool]) -> Vote:
    """The outcome of an election under `config`: both halves must be won, one lost half loses."""
    incoming = majority_vote(config.voters, votes)
    if not config.voters_outgoing:
        return incoming
    return min(incoming, majority_vote(config.voters_outgoing, votes))


def joint_commit(config: Config, matches: Mapping[int, int]) -> int:
    """The greatest index that both halves of `config` hold by majority."""
    incoming = majority_commit(config.voters, matches)
    if not config.voters_outgoing:
        return incoming
    return min(incoming, majority_commit(config.voters_outgoing, matches))
