"""What must hold at every moment, whatever happens: checked after each event, on the host that it happened to.

One leader a term; term, commit and applied never go back; what is committed stays, in the same place, on all nodes and
in every later leader's log; it is durable on a majority (of both halves, in a joint configuration) when it is told to
be committed. The rest is in `promises.py` (votes, what is durable, restarts), `matching.py` (the logs), `rules.py`
(the membership) and `states.py` (the state machines, sessions, keys and flows).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from rocinante.raft.types import Config, Entry, EntryKind, Message, Role

from .matching import LogMatching
from .named import REACHED
from .promises import Promises
from .rules import MembershipRules
from .states import StateRules
from .world import SimulationFailure, World

if TYPE_CHECKING:
    from .host import Host

BOOTSTRAP_INDEX: Final = 1


class CommittedEntry(NamedTuple):
    term: int
    in_term: int
    """Of the node that was first seen to hold it committed."""


class Oracle:
    """See the module. Raises SimulationFailure."""

    def __init__(self, world: World, config: Config) -> None:
        self.world = world
        self.hosts: dict[int, Host] = {}
        self.committed: dict[int, CommittedEntry] = {}
        self.commit_max = BOOTSTRAP_INDEX
        self.wiped = False
        """Somebody lost what it had acknowledged: from then on a majority of disks need not hold what is committed."""
        self.matching = LogMatching(self)
        self.promises = Promises(self)
        self.rules = MembershipRules(self, config)
        self.states = StateRules(self)
        self._leaders: dict[int, int] = {}

    def fail(self, what: str) -> None:
        raise SimulationFailure(what)

    def reached(self, what: str) -> None:
        """A situation of `named.SITUATIONS`."""
        self.world.count(REACHED + what)

    # --- after each event

    def check(self, host: Host) -> None:
        if not host.up:
            return
        core = host.node.driver.core
        commit, term, applied = core.log.commit, core.term, host.node.apply.applied
        seen = host.seen
        if term < seen.term or commit < seen.commit or applied < seen.applied:
            self.fail(
                f"{host.name} goes back: term {seen.term} to {term}, commit {seen.commit} to {commit}, "
                f"applied {seen.applied} to {applied}"
            )
        if applied > commit:
            self.fail(f"{host.name} applied {applied}, but only {commit} is committed")
        seen.term, seen.applied = term, applied
        if core.role is Role.LEADER and self._leaders.get(term) != core.id:
            self._led(host)
        if commit > seen.commit:
            self.commits(host)
        seen.config = core.config

    def _led(self, host: Host) -> None:
        core = host.node.driver.core
        if core.term in self._leaders:
            self.fail(f"two leaders in term {core.term}: {core.id:x} and {self._leaders[core.term]:x}")
        self._leaders[core.term] = core.id
        self.world.count("elections won")
        self.world.note(f"leads in term {core.term}, log {core.log.first_index}..{core.log.last_index}")
        if any(other.leads for other in self.hosts.values() if other is not host):
            self.reached("two leaders at once, of different terms")
        for index in range(core.log.first_index, self.commit_max + 1):
            known = self.committed.get(index)
            if known is None or known.in_term >= core.term:
                continue
            if index > core.log.last_index or core.log.term(index) != known.term:
                self.fail(f"{host.name} leads in term {core.term} without the committed entry {index} of {known}")

    def commits(self, host: Host) -> None:
        """What this node holds to be committed, since it was last looked at."""
        core = host.node.driver.core
        log, seen = core.log, host.seen
        for index in range(max(seen.commit + 1, log.first_index), log.commit + 1):
            entry = log.entry(index)
            known = self.committed.get(index)
            if known is None:
                self.committed[index] = CommittedEntry(entry.term, core.term)
                self.commit_max = max(self.commit_max, index)
                if core.role is Role.LEADER and core.config == seen.config and not self.wiped:
                    self._durable(host, entry)
                if entry.kind is EntryKind.CONFIG:
                    self.rules.committed(entry)
            elif known.term != entry.term:
                self.fail(f"{host.name} committed entry {index} of term {entry.term}; committed was {known}")
        seen.commit = log.commit

    def _durable(self, host: Host, entry: Entry) -> None:
        config = host.node.driver.core.config
        for voters in (config.voters, config.voters_outgoing):
            held = [voter for voter in voters if self.hosts[voter].storage.files.holds(entry.index, entry.term)]
            if voters and 2 * len(held) <= len(voters):
                names = sorted(self.hosts[voter].name for voter in held)
                self.fail(
                    f"{host.name} says that {entry.index} of term {entry.term} is committed; durable only on {names}"
                )
        if config.joint:
            self.reached("commit by both halves of a joint configuration")

    def sent(self, host: Host, message: Message) -> None:
        self.promises.sent(host, message)
