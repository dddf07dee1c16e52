"""Client sessions: every command of a session is carried out at most once (Ongaro's dissertation, section 6.3).

A session has a floor: the results of all seqs below it were received, or had to be forgotten. A command below the floor
is refused, for it cannot be told whether it was carried out; one that is kept is answered again; any other is new. Seqs
need not come in order.

Bounds, each of which is kept by forgetting the oldest, so that a retry which comes too late is refused, and never
carried out twice: SESSIONS_MAX sessions (the one not used for longest goes), SESSION_WINDOW_MAX outcomes of one session
(the lowest seq goes), SESSION_RESULT_BYTES_MAX of outcomes altogether (the one applied first goes), SESSION_IDLE_MS_MAX
of the state's own time without use.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from heapq import heappop, heappush
from typing import NamedTuple

from rocinante import limits
from rocinante.errors import InvalidArgument, SessionExpired
from rocinante.state.outcome import encode_outcome


class KeptSession(NamedTuple):
    """A session as a snapshot has it."""

    session: int
    used_ms: int
    floor: int


class KeptOutcome(NamedTuple):
    session: int
    seq: int
    outcome: bytes


class _Session:
    __slots__ = ("floor", "seqs", "used_ms")

    def __init__(self, used_ms: int, floor: int = 1) -> None:
        self.used_ms = used_ms
        self.floor = floor
        self.seqs: list[int] = []
        """A heap of the seqs whose outcome is kept."""


class Sessions:
    """All sessions, the one not used for longest first, and their outcomes, the one applied first first."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[int, _Session] = OrderedDict()
        self._outcomes: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def __contains__(self, session: int) -> bool:
        return session in self._sessions

    @property
    def outcomes_count(self) -> int:
        return len(self._outcomes)

    @property
    def outcome_bytes(self) -> int:
        """All outcomes, each with SESSION_OUTCOME_OVERHEAD_BYTES."""
        return self._bytes

    def open(self, session: int, now_ms: int) -> None:
        """Open a session; one that is open is only used. Raises InvalidArgument for 0, which marks the system's
        commands."""
        if session == 0:
            raise InvalidArgument("session", "0 is not a client session")
        known = self._sessions.get(session)
        if known is not None:
            self._use(session, known, now_ms)
            return
        while len(self._sessions) >= limits.SESSIONS_MAX:
            self.close(next(iter(self._sessions)))
        self._sessions[session] = _Session(now_ms)

    def close(self, session: int) -> None:
        """End a session and forget its outcomes; one that is not known is left alone."""
        ended = self._sessions.pop(session, None)
        if ended is not None:
            for seq in ended.seqs:
                self._drop(session, seq)

    def begin(self, session: int, seq: int, ack: int, now_ms: int) -> bytes | None:
        """Whether a command is new (None), or the outcome that it had (`decode_outcome`).

        Raises InvalidArgument for seq 0; SessionExpired for a session that is not known, or a seq below its floor.
        """
        known = self._sessions.get(session)
        if known is None:
            raise SessionExpired(f"session {session:016x} is not known (any more): open a new one")
        if seq == 0:
            raise InvalidArgument("seq", "must be greater than 0")
        self._use(session, known, now_ms)
        self._forget_below(session, known, ack)
        if seq < known.floor:
            raise SessionExpired(
                f"session {session:016x}: the result of seq {seq} is no longer kept, as it was acknowledged or too old"
            )
        return self._outcomes.get((session, seq))

    def finish(self, session: int, seq: int, outcome: bytes) -> None:
        """Keep the outcome of a command that `begin` called new."""
        known = self._sessions.get(session)
        if known is None:
            return  # The command was the one that ended it.
        if len(outcome) > limits.SESSION_RESULT_BYTES_ONE_MAX:
            outcome = encode_outcome(
                SessionExpired(f"seq {seq} was carried out; its result of {len(outcome)} bytes is too large to be kept")
            )
        self._outcomes[(session, seq)] = outcome
        heappush(known.seqs, seq)
        self._bytes += len(outcome) + limits.SESSION_OUTCOME_OVERHEAD_BYTES
        if len(known.seqs) > limits.SESSION_WINDOW_MAX:
            self._forget_below(session, known, known.seqs[0] + 1)
        while self._bytes > limits.SESSION_RESULT_BYTES_MAX:
            oldest, oldest_seq = next(iter(self._outcomes))
            self._forget_below(oldest, self._sessions[oldest], oldest_seq + 1)

    def expire(self, before_ms: int, now_ms: int) -> int:
        """The state's time moves: end the sessions that were idle for more than SESSION_IDLE_MS_MAX. Returns how many.

        Where it moves by more than that at once, for the first time in a new cluster or after the whole cluster was
        away, nobody knows when a session that was used since the last move was used: it counts as used now.
        """
        if now_ms - before_ms > limits.SESSION_IDLE_MS_MAX:
            for known in reversed(self._sessions.values()):
                if known.used_ms < before_ms:
                    break
                known.used_ms = now_ms
        ended = 0
        while self._sessions:
            session, oldest = next(iter(self._sessions.items()))
            if now_ms - oldest.used_ms <= limits.SESSION_IDLE_MS_MAX:
                break
            self.close(session)
            ended += 1
        return ended

    def keep(self) -> tuple[list[KeptSession], list[KeptOutcome]]:
        """A copy, each list in its order, which is part of the state."""
        sessions = [KeptSession(session, known.used_ms, known.floor) for session, known in self._sessions.items()]
        outcomes = [KeptOutcome(session, seq, outcome) for (session, seq), outcome in self._outcomes.items()]
        return sessions, outcomes

    @classmethod
    def load(cls, sessions: Iterable[KeptSession], outcomes: Iterable[KeptOutcome]) -> Sessions:
        """From what `keep` gave. Raises ValueError where an outcome has no session, or stands twice."""
        made = cls()
        for session, used_ms, floor in sessions:
            made._sessions[session] = _Session(used_ms, floor)
        for session, seq, outcome in outcomes:
            known = made._sessions.get(session)
            if known is None or seq < known.floor or (session, seq) in made._outcomes:
                raise ValueError(f"the outcome of session {session:016x}, seq {seq}, does not belong here")
            made._outcomes[(session, seq)] = outcome
            heappush(known.seqs, seq)
            made._bytes += len(outcome) + limits.SESSION_OUTCOME_OVERHEAD_BYTES
        return made

    def _use(self, session: int, known: _Session, now_ms: int) -> None:
        known.used_ms = now_ms
        self._sessions.move_to_end(session)

    def _forget_below(self, session: int, known: _Session, floor: int) -> None:
        if floor <= known.floor:
            return
        known.floor = floor
        seqs = known.seqs
        while seqs and seqs[0] < floor:
            self._drop(session, heappop(seqs))

    def _drop(self, session: int, seq: int) -> None:
        outcome = self._outcomes.pop((session, seq))
        self._bytes -= len(outcome) + limits.SESSION_OUTCOME_OVERHEAD_BYTES
