"""The rows of the tables in `tables/`: one question to the arithmetic of quorums or memberships, and its answer.

    vote    (1 2 3)&&(3 4 5) yes=1,2 no=3         an election's outcome
    commit  (1 2 3) 1=9 2=5 3=1                   what is committed when these hold up to there
    quorum  5                                     how many of five are a majority
    change  (1 2 3) v4 r1 explicit                the configuration after a change, or why it is refused
    config  (1 2) learners=(2)                    whether such a configuration can be

A configuration is written as scripts show it: voters, outgoing voters behind `&&`, learners, staged learners (`next`),
`autoleave`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from rocinante.raft import (
    Change,
    ChangeKind,
    Config,
    ConfigChange,
    InvalidChange,
    Transition,
    check_config,
    decode_config,
    encode_change,
    next_config,
)
from rocinante.raft.quorum import EVERYTHING, joint_commit, joint_vote, majority

from .script import show_config

_CONFIG: Final = re.compile(
    r"\((?P<voters>[\d ]*)\)(?:&&\((?P<outgoing>[\d ]*)\))?(?: learners=\((?P<learners>[\d ]*)\))?"
    r"(?: next=\((?P<staged>[\d ]*)\))?(?P<auto> autoleave)?"
)
_KINDS: Final = {"v": ChangeKind.ADD_VOTER, "l": ChangeKind.ADD_LEARNER, "r": ChangeKind.REMOVE}
_TRANSITIONS: Final = {
    "implicit": Transition.JOINT_IMPLICIT,
    "explicit": Transition.JOINT_EXPLICIT,
    "leave": Transition.LEAVE,
}


def row(text: str) -> str:
    """The answer to one row. Raises ValueError for a row that is none."""
    verb, _, rest = text.partition(" ")
    if verb not in _VERBS:
        raise ValueError(f"{text!r}: expected one of {', '.join(_VERBS)}")
    try:
        return _VERBS[verb](rest.strip())
    except InvalidChange as error:
        return f"refused: {error}"


def parse_config(text: str) -> tuple[Config, list[str]]:
    """The configuration at the beginning of `text`, and the words behind it."""
    found = _CONFIG.match(text)
    if found is None:
        raise ValueError(f"{text!r}: expected a configuration such as (1 2 3)&&(1) learners=(4) next=(3) autoleave")
    sets = [frozenset(map(int, (found[name] or "").split())) for name in ("voters", "outgoing", "learners", "staged")]
    return Config(sets[0], sets[1], sets[2], sets[3], bool(found["auto"])), text[found.end() :].split()


def parse_change(words: list[str]) -> ConfigChange:
    transition = Transition.AUTO
    if words and words[-1] in _TRANSITIONS:
        transition = _TRANSITIONS[words[-1]]
        words = words[:-1]
    return ConfigChange(tuple(Change(_KINDS[word[0]], int(word[1:])) for word in words), transition)


def _vote(text: str) -> str:
    config, words = parse_config(text)
    votes: dict[int, bool] = {}
    for word in words:
        answer, _, voters = word.partition("=")
        votes |= dict.fromkeys(map(int, voters.split(",")), {"yes": True, "no": False}[answer])
    return joint_vote(config, votes).name.lower()


def _commit(text: str) -> str:
    config, words = parse_config(text)
    matches = {int(voter): int(index) for voter, index in (word.split("=") for word in words)}
    index = joint_commit(config, matches)
    return "everything" if index == EVERYTHING else str(index)


def _quorum(text: str) -> str:
    return str(majority(int(text)))


def _change(text: str) -> str:
    config, words = parse_config(text)
    change = parse_change(words)
    after = next_config(config, change)
    # What the log carries is what the leader computed.
    assert decode_config(encode_change(change, after)) == after
    return show_config(after)


def _config(text: str) -> str:
    config, words = parse_config(text)
    if words:
        raise ValueError(f"{text!r}: {words} is behind the configuration")
    return f"{show_config(check_config(config))} holds"


_VERBS: Final[dict[str, Callable[[str], str]]] = {
    "vote": _vote,
    "commit": _commit,
    "quorum": _quorum,
    "change": _change,
    "config": _config,
}
