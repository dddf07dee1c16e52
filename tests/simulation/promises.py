"""What a node promised must be on its disk, and a restart must not go back behind it.

One vote a term, across crashes and wipes; a vote, and an acknowledgement, leave only once they are durable; term, vote,
commit and log of a restarted node are at least what it had been told to be durable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rocinante.raft.types import NONE, HardState, Message, MessageType

from .disk import SimDisk

if TYPE_CHECKING:
    from .host import Host
    from .oracle import Oracle


@dataclass(slots=True)
class LastLife:
    """What a node knew to be durable when its process ended."""

    hard: HardState
    persisted: int
    persisted_term: int
    settled: bool
    """Nothing else was on its way to the disk: the log must be exactly this."""
    last_index: int


class Promises:
    """See the module."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self._votes: dict[tuple[int, int], int] = {}

    def sent(self, host: Host, message: Message) -> None:
        kind = message.type
        if kind is MessageType.APPEND_RESPONSE:
            if not message.reject and message.log_index > 1:
                self._acknowledged(host, message)
        elif kind is MessageType.VOTE:
            self._voted(host, message, host.id)
        elif kind is MessageType.VOTE_RESPONSE and not message.reject:
            self._voted(host, message, message.to)

    def _acknowledged(self, host: Host, message: Message) -> None:
        """On its disk, unless a later leader has replaced it there: one write may hold both, the entry and what comes
        in its place, and the answer to the former leader goes out behind it. That leader cannot use it. Whoever voted
        for the later one first would not have taken the entry; whoever voted for it with the entry in his log voted
        for one that has it (section 5.4.1 of the paper), and has not lost it. So nobody of the later leader's quorum
        sends such an answer, and without them there is no majority for the entry."""
        files = host.storage.files
        if not files.holds(message.log_index) and files.hard_state().term <= message.term:
            self._oracle.fail(
                f"{host.name} acknowledges entry {message.log_index} in term {message.term}, which is not durable"
            )

    def _voted(self, host: Host, message: Message, candidate: int) -> None:
        before = self._votes.setdefault((host.id, message.term), candidate)
        if before != candidate:
            self._oracle.fail(f"{host.name} votes twice in term {message.term}: for {before:x} and {candidate:x}")
        durable = host.storage.files.hard_state()
        if durable.term < message.term or (durable.term == message.term and durable.vote != candidate):
            self._oracle.fail(f"{host.name} votes for {candidate:x} in term {message.term}; durable is only {durable}")

    # --- restarts

    def ended(self, host: Host, *, failed: bool = False) -> None:
        """The process ends. `failed`: in the middle of a write, of which anything may be there."""
        core = host.node.driver.core
        log, disk = core.log, host.node.disk
        assert isinstance(disk, SimDisk)
        settled = not failed and not disk.waiting
        host.last_life = LastLife(core.durable, log.persisted, log.term(log.persisted), settled, log.last_index)

    def opened(self, host: Host) -> None:
        """It has read its disk."""
        last, core = host.last_life, host.node.driver.core
        if last is None:
            return
        log, hard = core.log, HardState(core.term, core.vote, core.log.commit)
        if hard.term < last.hard.term or hard.commit < last.hard.commit:
            self._oracle.fail(f"{host.name} goes back by a restart: {last.hard} to {hard}")
        if hard.term == last.hard.term and last.hard.vote not in (NONE, hard.vote):
            self._oracle.fail(f"{host.name} forgets a vote by a restart: {last.hard} to {hard}")
        if last.settled and log.last_index < last.persisted:
            self._oracle.fail(f"{host.name} lost entries by a restart: {last.persisted} to {log.last_index}")
        if last.settled and last.persisted >= log.low and log.term(last.persisted) != last.persisted_term:
            self._oracle.fail(f"{host.name} has another entry {last.persisted} after a restart")
        if log.last_index < last.last_index:
            self._oracle.reached("a restart forgets what was not written")
        if hard.vote != NONE and hard.term == last.hard.term:
            self._oracle.reached("a vote is remembered over a restart")
