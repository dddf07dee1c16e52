"""What must hold at every moment, whatever happens: checked after each event, on the host that it happened to.

One leader a term; one vote a term, across crashes and wipes; term, commit and applied never go back; what is committed
stays, in the same place, on all nodes and in every later leader's log; it is durable on a majority when it is told to
be committed; entries are applied in order, once each, and give equal states; no write happens twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from rocinante.errors import ResourceExhausted
from rocinante.raft.types import Message, MessageType, Role
from rocinante.state.machine import Applied, Position

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

    def __init__(self, world: World) -> None:
        self._world = world
        self.hosts: dict[int, Host] = {}
        self.committed: dict[int, CommittedEntry] = {}
        self.commit_max = BOOTSTRAP_INDEX
        self.wiped = False
        """Somebody lost what it had acknowledged: from then on a majority of disks need not hold what is committed."""
        self._leaders: dict[int, int] = {}
        self._votes: dict[tuple[int, int], int] = {}
        self._data: dict[int, bytes] = {}
        self._digests: dict[int, bytes] = {}
        self._values: dict[bytes, int] = {}
        self._digest_every = world.random.choice((1, 4, 16))

    def fail(self, what: str) -> None:
        raise SimulationFailure(what)

    # --- after each event

    def check(self, host: Host) -> None:
        core = host.node.driver.core
        log = core.log
        seen = host.seen
        if core.term < seen.term or log.commit < seen.commit or host.node.apply.applied < seen.applied:
            self.fail(
                f"{host.name} goes back: term {seen.term} to {core.term}, commit {seen.commit} to {log.commit}, "
                f"applied {seen.applied} to {host.node.apply.applied}"
            )
        if host.node.apply.applied > log.commit:
            self.fail(f"{host.name} applied {host.node.apply.applied}, but only {log.commit} is committed")
        seen.term, seen.applied = core.term, host.node.apply.applied
        if core.role is Role.LEADER and self._leaders.get(core.term) != core.id:
            self._led(host)
        if log.commit > seen.commit:
            self._commit(host)
        seen.config = core.config

    def _led(self, host: Host) -> None:
        core = host.node.driver.core
        if core.term in self._leaders:
            self.fail(f"two leaders in term {core.term}: {core.id:x} and {self._leaders[core.term]:x}")
        self._leaders[core.term] = core.id
        self._world.count("elections won")
        self._world.note(f"leads in term {core.term}, log {core.log.first_index}..{core.log.last_index}")
        for index in range(core.log.first_index, self.commit_max + 1):
            known = self.committed.get(index)
            if known is None or known.in_term >= core.term:
                continue
            if index > core.log.last_index or core.log.term(index) != known.term:
                self.fail(f"{host.name} leads in term {core.term} without the committed entry {index} of {known}")

    def _commit(self, host: Host) -> None:
        core = host.node.driver.core
        log, seen = core.log, host.seen
        for index in range(max(seen.commit + 1, log.first_index), log.commit + 1):
            term = log.term(index)
            known = self.committed.get(index)
            if known is None:
                self.committed[index] = CommittedEntry(term, core.term)
                self.commit_max = max(self.commit_max, index)
                if core.role is Role.LEADER and core.config == seen.config and not self.wiped:
                    self._durable(host, index, term)
            elif known.term != term:
                self.fail(f"{host.name} committed entry {index} of term {term}; committed was {known}")
        seen.commit = log.commit

    def _durable(self, host: Host, index: int, term: int) -> None:
        config = host.node.driver.core.config
        for voters in (config.voters, config.voters_outgoing):
            held = [voter for voter in voters if self._holds(voter, index, term)]
            if voters and 2 * len(held) <= len(voters):
                names = sorted(self.hosts[voter].name for voter in held)
                self.fail(f"{host.name} says that {index} of term {term} is committed; durable only on {names}")

    def _holds(self, voter: int, index: int, term: int) -> bool:
        files = self.hosts[voter].storage.files
        return files.term_of(index) == term or files.snapshot_index() >= index

    # --- messages

    def sent(self, host: Host, message: Message) -> None:
        """One vote a term, whatever became of the voter's memory."""
        if message.type is MessageType.VOTE:
            candidate = host.id
        elif message.type is MessageType.VOTE_RESPONSE and not message.reject:
            candidate = message.to
        else:
            return
        before = self._votes.setdefault((host.id, message.term), candidate)
        if before != candidate:
            self.fail(f"{host.name} votes twice in term {message.term}: for {before:x} and {candidate:x}")

    # --- the state machine

    def applied(self, host: Host, index: int, term: int, data: bytes, applied: Applied) -> None:
        if not host.up:
            return  # it still makes its first snapshot
        if index != host.seen.position + 1:
            self.fail(f"{host.name} applies entry {index} after {host.seen.position}")
        host.seen.position = index
        self._commit(host)
        known = self.committed.get(index)
        if known is None or known.term != term:
            self.fail(f"{host.name} applies entry {index} of term {term}; committed is {known}")
        first = index not in self._data
        if self._data.setdefault(index, data) != data:
            self.fail(f"{host.name} applies other bytes than the others at {index}")
        if first and applied.events is not None:
            for change in applied.events.kv:
                for event in change.events:
                    self._written_once(bytes(event.kv.value), index)
        if index % self._digest_every == 0:
            self._compare(host, index)

    def _written_once(self, value: bytes, index: int) -> None:
        if not value:
            return  # a delete
        before = self._values.setdefault(value, index)
        if before != index:
            self.fail(f"{value!r} is written twice: by entry {before} and by {index}")

    def _compare(self, host: Host, index: int) -> None:
        try:
            with host.node.state.freeze() as frozen:
                digest = frozen.digest()
        except ResourceExhausted:
            return
        if self._digests.setdefault(index, digest) != digest:
            self.fail(f"{host.name} has another state than the others after entry {index}")

    def restored(self, host: Host, position: Position) -> None:
        host.seen.position = position.index
        known = self.committed.get(position.index)
        if known is not None and known.term != position.term:
            self.fail(f"{host.name} restores a snapshot of {position}; committed is {known}")
        if host.up and position.index in self._digests:
            self._compare(host, position.index)

    def compare_all(self, hosts: list[Host]) -> None:
        """At the end, when all have applied the same."""
        for host in hosts:
            self._compare(host, host.node.apply.applied)
