"""The not-ready role: Rocinante's addition to Raft (DESIGN.md, section 4).

Contract: no protocol message is taken, no request is served, time does not pass. What was promised stays: term, vote
and log; writes in flight are acknowledged, committed entries are still handed out (so that a log is replayed before
the node takes part). To the others a node that is not ready is a node that is cut off.
"""

from __future__ import annotations

from .server import Behaviour
from .types import FatalInconsistency, Message, ProposalDropped, Role


class NotReady(Behaviour):
    __slots__ = ()

    role = Role.NOT_READY
    listening = False

    def tick(self) -> None:
        """Time stands still."""

    def step(self, message: Message) -> None:
        """Nothing listens: `core.Raft.step` counts the message as ignored before it comes here."""
        raise FatalInconsistency(f"a node that is not ready was given a message of type {message.type}")

    def refusal(self) -> ProposalDropped:
        return ProposalDropped("not ready")
