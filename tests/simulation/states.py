"""The state machines: entries in order, once each, equal states at equal indexes; every command carried out once.

It also keeps the history that clients are measured by: what each revision of the keys changed (`watching.py`), and what
each flow was at each index (`flow_model.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rocinante.errors import ResourceExhausted
from rocinante.state.command import Kind
from rocinante.state.events import FlowChange
from rocinante.state.machine import Applied, Position

from .flow_model import FlowModel

if TYPE_CHECKING:
    from .host import Host
    from .oracle import Oracle

Carried = list[tuple[int, int, int, bytes, Any]]
"""(session, seq, kind, body, result) of the commands of an entry that were carried out, in order."""
KeyEvent = tuple[int, bytes, bytes]
"""(type, key, value)."""


class StateRules:
    """See the module."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self.flows = FlowModel()
        self.events: dict[int, tuple[KeyEvent, ...]] = {}
        """Of the keys, by revision."""
        self.revision = 1
        self.index = 0
        """The highest that anybody has applied."""
        self._data: dict[int, bytes] = {}
        self._digests: dict[int, bytes] = {}
        self._carried: dict[tuple[int, int], int] = {}
        self._digest_every = oracle.world.random.choice((2, 8, 32))

    def applied(self, host: Host, index: int, term: int, data: bytes, applied: Applied, carried: Carried) -> None:
        if not host.up:
            return  # it still makes its first snapshot
        oracle = self._oracle
        if index != host.seen.position + 1:
            oracle.fail(f"{host.name} applies entry {index} after {host.seen.position}")
        host.seen.position = index
        oracle.commits(host)
        known = oracle.committed.get(index)
        if known is None or known.term != term:
            oracle.fail(f"{host.name} applies entry {index} of term {term}; committed is {known}")
        if self._data.setdefault(index, data) != data:
            oracle.fail(f"{host.name} applies other bytes than the others at {index}")
        for session, seq, *_ in carried:
            if session and self._carried.setdefault((session, seq), index) != index:
                oracle.fail(
                    f"{host.name} carries {seq} of session {session:x} out twice: at "
                    f"{self._carried[session, seq]} and at {index}"
                )
        if index > self.index:
            self._first(index, applied, carried)
        if index % self._digest_every == 0:
            self._compare(host, index)

    def _first(self, index: int, applied: Applied, carried: Carried) -> None:
        self.index = index
        events = applied.events
        expired = iter(
            [(change.origin, tuple(change.keys)) for change in events.flows if change.kind is FlowChange.EXPIRE]
            if events is not None
            else []
        )
        changed = [(kind, body) for _, _, kind, body, result in carried if result or kind != Kind.FLOW_EXPIRE]
        if wrong := self.flows.apply(index, changed, expired):
            self._oracle.fail(wrong)
        for change in events.kv if events is not None else ():
            if change.revision != self.revision + 1:
                self._oracle.fail(f"revision {change.revision} follows {self.revision} at entry {index}")
            self.revision = change.revision
            self.events[change.revision] = tuple(
                (event.type, bytes(event.kv.key), bytes(event.kv.value)) for event in change.events
            )

    def _compare(self, host: Host, index: int) -> None:
        try:
            with host.node.state.freeze() as frozen:
                digest = frozen.digest()
        except ResourceExhausted:
            return
        if self._digests.setdefault(index, digest) != digest:
            self._oracle.fail(f"{host.name} has another state than the others after entry {index}")

    def restored(self, host: Host, position: Position) -> None:
        host.seen.position = position.index
        known = self._oracle.committed.get(position.index)
        if known is not None and known.term != position.term:
            self._oracle.fail(f"{host.name} restores a snapshot of {position}; committed is {known}")
        if host.up and position.index in self._digests:
            self._compare(host, position.index)

    def compare_all(self, hosts: list[Host]) -> None:
        """At the end, when all have applied the same."""
        for host in hosts:
            self._compare(host, host.node.apply.applied)
