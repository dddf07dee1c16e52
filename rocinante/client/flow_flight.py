"""One batch of a writer on its way: its tries, and what a failed one means (the table of client/retry.py).

Contract: knows no thread and no lock; the writer's thread asks it what to do next. Between two tries nothing is lost:
a batch keeps its name (session, seq), so that it is carried out once, but where the cluster is too busy and nothing is
in doubt: then it gets a new name, for a refusal is remembered under the old one as the outcome.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from rocinante.client.deadline import Backoff, Deadline
from rocinante.client.flow_pending import Taken
from rocinante.client.flow_reports import Waiter
from rocinante.client.retry import Failed, Next, refusal_after_unknown
from rocinante.client.router import Router
from rocinante.client.session import Sessions, Ticket
from rocinante.errors import OutcomeUnknown, RocinanteError, Unauthenticated, Unavailable
from rocinante.flows import packed
from rocinante.limits import WRITER_PACK_RECORDS_MIN

__all__ = ["Flight"]


@dataclass(slots=True, eq=False)
class Flight:
    """See the module. Times are the clock's, in seconds."""

    taken: Taken
    waiters: list[Waiter]
    deadline: Deadline
    backoff: Backoff
    try_timeout_s: float
    began_s: float
    waited_s: float
    """How long the oldest record waited before."""
    ticket: Ticket | None = None
    resume_s: float = 0.0
    """When the next try may go."""
    tries: int = 0
    unknown: bool = False
    """A try may have been carried out."""
    tried: set[str] = field(default_factory=set)
    reasons: dict[str, str] = field(default_factory=dict)
    last: RocinanteError | None = None
    wire: bytes = b""
    """The batch as it is sent, once it was; the same for every try."""

    def encoded(self) -> bytes:
        """The batch to send: packed, where it has enough records for that to be worth its while."""
        if not self.wire:
            batch = self.taken.batch
            self.wire = bytes(packed(batch)) if self.records >= WRITER_PACK_RECORDS_MIN else batch
        return self.wire

    @property
    def records(self) -> int:
        return len(self.taken.keys)

    def endpoint(self, router: Router, now_s: float) -> str | None:
        """Where the next try goes; None: every node had its try, pause first."""
        picked = router.pick(self.tried)
        if picked is None:
            self.tried.clear()
            self._pause(now_s)
        return picked

    def timeout_s(self) -> float:
        return min(max(0.001, self.deadline.remaining_s()), self.try_timeout_s)

    def failed(self, endpoint: str, failed: Failed, sessions: Sessions, now_s: float) -> RocinanteError | None:
        """Take note of a try that failed. The error that ends it all, or None: try again at `resume_s`."""
        self.last = failed.error
        self.reasons[endpoint] = failed.error.message
        self.unknown = self.unknown or failed.unknown
        self.tried.add(endpoint)
        if failed.then is Next.STOP:
            if self.unknown and isinstance(failed.error, Unauthenticated):
                return refusal_after_unknown(failed.error)
            return failed.error
        if failed.unknown:
            self.try_timeout_s *= 2
        if failed.then is Next.REOPEN:
            return self._reopen(sessions, now_s)
        if failed.then is Next.LATER:
            self.tried.clear()
            self._pause(now_s)
            if not self.unknown and self.ticket is not None:
                sessions.end(self.ticket)
                self.ticket = None
        return self.over()

    def _reopen(self, sessions: Sessions, now_s: float) -> RocinanteError | None:
        if self.ticket is not None:
            sessions.expired(self.ticket)
        if self.unknown:
            return OutcomeUnknown(
                "the writer's session ended while the outcome of an earlier try was not known: the batch may or may"
                " not have been carried out"
            )
        self.ticket = None
        self.tried.clear()
        self._pause(now_s)
        return self.over()

    def _pause(self, now_s: float) -> None:
        self.resume_s = now_s + self.backoff.pause_s()

    def over(self) -> RocinanteError | None:
        """The error when its time is up."""
        if not self.deadline.passed():
            return None
        within = f"within {round(self.deadline.timeout_s, 2):g} s"
        why = "; ".join(f"{endpoint}: {reason}" for endpoint, reason in self.reasons.items())
        if self.unknown:
            return OutcomeUnknown(f"no answer {within}: the batch may or may not have been carried out ({why})")
        if self.last is None or isinstance(self.last, Unavailable | OutcomeUnknown):
            return Unavailable(f"no node could answer {within} ({why or 'none was asked'})")
        return self.last


Done = Callable[[Flight, str, object], None]
"""Told of the end of a try: the flight, the endpoint, and the answer or what failed."""
