"""Client sessions: the names under which writes are sent, so that a write that is sent again is carried out once.

The cluster remembers per session which requests it carried out and what it answered (dissertation, section 6.3). A
client names each write (session, seq), sends the same name again when it did not hear the answer, and tells with every
write below which seq it has all answers (`ack`), so that the cluster can forget them. Calls run concurrently and end in
any order; `ack` is the lowest seq that is still under way. A request that its caller gave up is no longer under way:
the next `ack` passes it, and from then on the cluster refuses it should it still arrive late.

Contract: thread-safe, knows no transport; gRPC and REST share it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

from rocinante.client.deadline import Deadline
from rocinante.errors import ResourceExhausted
from rocinante.identity import format_id
from rocinante.limits import SESSION_WINDOW_MAX

__all__ = ["METADATA_ACK", "METADATA_SEQ", "METADATA_SESSION", "SessionRef", "Sessions", "Ticket"]

METADATA_SESSION = "rocinante-session"
METADATA_SEQ = "rocinante-seq"
METADATA_ACK = "rocinante-ack"
"""The names in gRPC metadata (proto/rocinante/v1/flow.proto); HTTP headers are the same in title case."""


class SessionRef(NamedTuple):
    """The name of one try of one write."""

    session: int
    seq: int
    ack: int

    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (
            (METADATA_SESSION, format_id(self.session)),
            (METADATA_SEQ, str(self.seq)),
            (METADATA_ACK, str(self.ack)),
        )


class _Session:
    """One session on the cluster. Guarded by the lock of `Sessions`."""

    def __init__(self, identifier: int) -> None:
        self.id = identifier
        self.next_seq = 1
        self.open_seqs: dict[int, None] = {}
        """Under way, in order of their seqs (a dict keeps the order in which they began)."""

    @property
    def ack(self) -> int:
        return next(iter(self.open_seqs), self.next_seq)


class Ticket:
    """One write under way; it keeps its (session, seq) over all tries."""

    def __init__(self, sessions: Sessions, session: _Session, seq: int) -> None:
        self._sessions = sessions
        self.session = session
        self.seq = seq

    def ref(self) -> SessionRef:
        """What the next try carries."""
        return self._sessions._ref(self.session, self.seq)


class Sessions:
    """The session of one client, opened when the first write needs it, and again when the cluster knows it no more."""

    def __init__(self, open_session: Callable[[Deadline], int]) -> None:
        self._open = open_session
        self._changed = threading.Condition()
        self._current: _Session | None = None
        self._opening = False

    def begin(self, deadline: Deadline) -> Ticket:
        """A name for a new write. Opens a session where there is none.

        Raises what opening raises, and ResourceExhausted when so many writes are under way for the whole of `deadline`
        that the cluster could not keep the outcome of the oldest.
        """
        while True:
            with self._changed:
                session = self._current
                if session is not None and session.next_seq - session.ack < SESSION_WINDOW_MAX:
                    seq = session.next_seq
                    session.next_seq += 1
                    session.open_seqs[seq] = None
                    return Ticket(self, session, seq)
                if session is not None or self._opening:
                    if not self._changed.wait(deadline.remaining_s()) and deadline.passed():
                        raise ResourceExhausted(
                            f"{SESSION_WINDOW_MAX} writes of this client are under way: wait for some to end"
                            if session is not None
                            else "another call of this client is still opening a session: try again"
                        )
                    continue
                self._opening = True
            self._open_one(deadline)

    def _open_one(self, deadline: Deadline) -> None:
        opened: _Session | None = None
        try:
            opened = _Session(self._open(deadline))
        finally:
            with self._changed:
                self._opening = False
                self._current = opened
                self._changed.notify_all()

    def end(self, ticket: Ticket) -> None:
        """The write's answer came, or its caller gave up."""
        with self._changed:
            ticket.session.open_seqs.pop(ticket.seq, None)
            self._changed.notify_all()

    def expired(self, ticket: Ticket) -> None:
        """The cluster does not know the session (any more): the next write opens another one."""
        with self._changed:
            ticket.session.open_seqs.pop(ticket.seq, None)
            if self._current is ticket.session:
                self._current = None
            self._changed.notify_all()

    def passed(self, ticket: Ticket) -> bool:
        """Whether every write that goes from now on tells the cluster to refuse this one, which has ended: its seq is
        below the next `ack`, or its session is used no more."""
        with self._changed:
            return ticket.session is not self._current or ticket.session.ack > ticket.seq

    def take(self) -> int:
        """The id of the open session, 0 without one; it is used no more. For closing the client."""
        with self._changed:
            session, self._current = self._current, None
            return session.id if session is not None else 0

    def _ref(self, session: _Session, seq: int) -> SessionRef:
        with self._changed:
            return SessionRef(session.id, seq, session.ack)
