"""Configurations: what a change makes of one, the rules that a configuration holds, and a change's bytes in the log.

Contract: `next_config` is a pure function; every replica that applies the same change to the same configuration gets
the same result or the same `InvalidChange`. At most one voter changes in a simple change (dissertation, section 4.1);
anything more goes through a joint configuration (section 4.3). A configuration that had voters never loses all.

A CONFIG entry carries the change *and* the configuration that results: the leader computes it once, everybody adopts
it. So a node that joins with nothing, and replays a log whose first configuration was never an entry, cannot arrive at
another one.

A voter that becomes a learner inside a joint configuration goes on voting with the outgoing half, so it waits in
`learners_next` until the joint configuration is left.
"""

from __future__ import annotations

import struct
from typing import Final

from .types import NONE, Change, ChangeKind, Config, ConfigChange, InvalidChange, Transition

CHANGES_MAX: Final = 64
"""Changes in one `ConfigChange`."""
CONTEXT_BYTES_MAX: Final = 64 * 1024
"""Bytes of `ConfigChange.context`."""
MEMBERS_MAX: Final = 255
"""Members of one kind (voters, learners, ...) in a configuration."""
NODE_ID_MAX: Final = (1 << 64) - 1

_FORMAT: Final = 1
_HEADER: Final = struct.Struct(">BBBI")  # format, transition, number of changes, bytes of context
_CHANGE: Final = struct.Struct(">BQ")  # kind, node
_CONFIG: Final = struct.Struct(">B4B")  # auto-leave, numbers of voters, outgoing voters, learners, staged learners


def encode_change(change: ConfigChange, result: Config | None = None) -> bytes:
    """The bytes of a CONFIG entry, big endian: header, changes, context, then `result` if given.

    Raises `InvalidChange` naming what is out of bounds.
    """
    if len(change.changes) > CHANGES_MAX:
        raise InvalidChange(f"changes: at most {CHANGES_MAX} at once, got {len(change.changes)}")
    if len(change.context) > CONTEXT_BYTES_MAX:
        raise InvalidChange(f"context: at most {CONTEXT_BYTES_MAX} bytes, got {len(change.context)}")
    for _, node in change.changes:
        _check_node(node)
    header = _HEADER.pack(_FORMAT, Transition(change.transition), len(change.changes), len(change.context))
    changes = b"".join(_CHANGE.pack(ChangeKind(kind), node) for kind, node in change.changes)
    return header + changes + change.context + (b"" if result is None else _encode_config(result))


def decode_change(data: bytes) -> ConfigChange:
    """The change in a CONFIG entry. Raises `InvalidChange` naming what is wrong with the bytes."""
    change, _ = _decode(data)
    return change


def decode_config(data: bytes) -> Config | None:
    """The configuration that results from the change in a CONFIG entry, if the entry carries it. Raises as above."""
    _, config = _decode(data)
    return config


def _decode(data: bytes) -> tuple[ConfigChange, Config | None]:
    if len(data) < _HEADER.size:
        raise InvalidChange(f"change: {len(data)} bytes are too short for a header of {_HEADER.size}")
    version, transition, count, context_bytes = _HEADER.unpack_from(data)
    if version != _FORMAT:
        raise InvalidChange(f"change: format {version} is not known, expected {_FORMAT}")
    if count > CHANGES_MAX:
        raise InvalidChange(f"changes: at most {CHANGES_MAX} at once, got {count}")
    if context_bytes > CONTEXT_BYTES_MAX:
        raise InvalidChange(f"context: at most {CONTEXT_BYTES_MAX} bytes, got {context_bytes}")
    body = _HEADER.size + count * _CHANGE.size
    end = body + context_bytes
    if len(data) < end:
        raise InvalidChange(f"change: expected at least {end} bytes, got {len(data)}")
    try:
        changes = tuple(
            Change(ChangeKind(kind), _check_node(node)) for kind, node in _CHANGE.iter_unpack(data[_HEADER.size : body])
        )
        change = ConfigChange(changes, Transition(transition), data[body:end])
    except ValueError as error:  # an enumeration refused its number
        raise InvalidChange(f"change: {error}") from None
    return change, _decode_config(data[end:]) if len(data) > end else None


def _sets(config: Config) -> tuple[frozenset[int], ...]:
    return config.voters, config.voters_outgoing, config.learners, config.learners_next


def _encode_config(config: Config) -> bytes:
    sets = _sets(config)
    if max(len(nodes) for nodes in sets) > MEMBERS_MAX:
        raise InvalidChange(f"config: at most {MEMBERS_MAX} members of a kind")
    header = _CONFIG.pack(config.auto_leave, *(len(nodes) for nodes in sets))
    return header + b"".join(struct.pack(f">{len(nodes)}Q", *sorted(nodes)) for nodes in sets)


def _decode_config(data: bytes) -> Config:
    if len(data) < _CONFIG.size:
        raise InvalidChange(f"config: {len(data)} bytes are too short for a header of {_CONFIG.size}")
    auto_leave, *counts = _CONFIG.unpack_from(data)
    expected = _CONFIG.size + 8 * sum(counts)
    if len(data) != expected:
        raise InvalidChange(f"config: expected {expected} bytes, got {len(data)}")
    if auto_leave > 1:
        raise InvalidChange(f"auto_leave: expected 0 or 1, got {auto_leave}")
    nodes = struct.unpack(f">{sum(counts)}Q", data[_CONFIG.size :])
    sets: list[frozenset[int]] = []
    start = 0
    for count in counts:
        sets.append(frozenset(nodes[start : start + count]))
        if len(sets[-1]) != count:
            raise InvalidChange("config: a node is named twice")
        start += count
    voters, outgoing, learners, staged = sets
    return check_config(Config(voters, outgoing, learners, staged, bool(auto_leave)))


def _check_node(node: int) -> int:
    if not NONE < node <= NODE_ID_MAX:
        raise InvalidChange(f"node: expected an id from 1 to 2^64 - 1, got {node}")
    return node


def next_config(config: Config, change: ConfigChange) -> Config:
    """The configuration after `change`. Raises `InvalidChange`; `config` itself is never changed."""
    if change.transition is Transition.LEAVE:
        if change.changes:
            raise InvalidChange("changes: leaving a joint configuration takes none")
        return leave_joint(config)
    if config.joint:
        raise InvalidChange("the configuration is joint: leave it first")
    if not change.changes:
        raise InvalidChange("changes: expected at least one")
    nodes = [_check_node(node) for _, node in change.changes]
    if len(set(nodes)) != len(nodes):
        raise InvalidChange("changes: a node is named twice")
    simple = _after_changes(config, change, joint=False)
    voters_changed = len(simple.voters ^ config.voters)
    if change.transition is Transition.AUTO and (voters_changed <= 1 or not config.voters):
        return check_config(simple)
    return check_config(_after_changes(config, change, joint=True))


def leave_joint(config: Config) -> Config:
    """C_old,new becomes C_new: outgoing voters lose their vote, staged learners become learners."""
    if not config.joint:
        raise InvalidChange("the configuration is not joint: there is nothing to leave")
    return check_config(Config(voters=config.voters, learners=config.learners | config.learners_next))


def _after_changes(config: Config, change: ConfigChange, *, joint: bool) -> Config:
    if joint and not config.voters:
        raise InvalidChange("a configuration without voters cannot become joint")
    voters = set(config.voters)
    learners = set(config.learners)
    staged: set[int] = set()
    outgoing = config.voters if joint else frozenset[int]()
    for kind, node in change.changes:
        if kind is ChangeKind.ADD_VOTER:
            if node in voters:
                raise InvalidChange(f"node: {node:016x} is a voter already")
            learners.discard(node)
            voters.add(node)
        elif kind is ChangeKind.ADD_LEARNER:
            if node in learners:
                raise InvalidChange(f"node: {node:016x} is a learner already")
            voters.discard(node)
            (staged if node in outgoing else learners).add(node)
        else:
            if node not in voters and node not in learners:
                raise InvalidChange(f"node: {node:016x} is not a member")
            voters.discard(node)
            learners.discard(node)
    if not voters:
        raise InvalidChange("changes: no voter would be left")
    return Config(
        voters=frozenset(voters),
        voters_outgoing=outgoing,
        learners=frozenset(learners),
        learners_next=frozenset(staged),
        auto_leave=joint and change.transition is not Transition.JOINT_EXPLICIT,
    )


def check_config(config: Config) -> Config:
    """Returns `config` if it holds the rules of a configuration, else raises `InvalidChange`. The empty one does."""
    for node in config.members:
        _check_node(node)
    if config.learners & (config.voters | config.voters_outgoing):
        raise InvalidChange("learners: a learner is a voter too")
    if config.learners_next - config.voters_outgoing:
        raise InvalidChange("learners_next: only an outgoing voter is staged to be a learner")
    if config.learners_next & config.voters:
        raise InvalidChange("learners_next: a staged learner is an incoming voter")
    if not config.joint and config.auto_leave:
        raise InvalidChange("auto_leave: the configuration is not joint")
    if not config.voters and config.members:
        raise InvalidChange("voters: expected at least one")
    return config
