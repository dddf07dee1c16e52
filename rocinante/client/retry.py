"""The loop around every call: which node, how long, what after a failure. gRPC and REST share it.

A transport makes one try and raises `Failed` with two facts: whether the request may have been carried out (`unknown`),
and what makes sense next. From them follows what the caller gets:

| the tries so far                       | the end         | the caller gets                                    |
| -------------------------------------- | --------------- | -------------------------------------------------- |
| all certainly not carried out          | time is up      | the last error (Unavailable, ResourceExhausted, …) |
| one may have been carried out          | time is up      | OutcomeUnknown                                     |
| one may have been carried out          | session unknown | OutcomeUnknown                                     |
| all certainly not carried out          | session unknown | goes on under a new session                        |
| whatever                               | a final answer  | that answer: with a session it is the first one's  |
| all certainly not carried out          | all refuse us   | Unauthenticated                                    |
| one may have been carried out          | all refuse us   | OutcomeUnknown                                     |

Reads have no session and nothing to lose: they are simply made again.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Generic, TypeVar

from rocinante.client.deadline import Backoff, Deadline
from rocinante.client.router import Router
from rocinante.client.session import SessionRef, Sessions, Ticket
from rocinante.errors import OutcomeUnknown, RocinanteError, SessionExpired, Unauthenticated, Unavailable
from rocinante.limits import CLIENT_TRIES_MAX, CLIENT_TRY_TIMEOUT_S

__all__ = ["Caller", "Failed", "Next", "Rules", "Send", "Try", "refusal_after_unknown", "settled"]

T = TypeVar("T")
_CLOSED = "this client is closed"
_TRY_MIN_S: Final = 0.1
"""With less time left no further try is begun: its answer would come too late, and a refusal that was certain would be
told as an outcome that is not known."""


class Next(Enum):
    """What makes sense after a try that failed."""

    STOP = "the answer is final"
    ELSEWHERE = "another node may do it"
    ELSEWHERE_OR_STOP = "another node may let us in; when none is left the answer is final"
    LATER = "the cluster is busy: pause first"
    REOPEN = "the cluster does not know the session"


class Failed(Exception):
    """One try did not succeed. `unknown`: it may have been carried out; `node_down`: the node itself did not answer, or
    lets nobody like us in: it is asked last for a while."""

    def __init__(self, error: RocinanteError, then: Next, *, unknown: bool = False, node_down: bool = False) -> None:
        super().__init__(error.message)
        self.error = error
        self.then = then
        self.unknown = unknown
        self.node_down = node_down


def settled(failed: Failed, router: Router, tried: Collection[str]) -> Failed:
    """What a failure means where the nodes of `tried` have been asked, the one that failed among them."""
    if failed.then is not Next.ELSEWHERE_OR_STOP:
        return failed
    then = Next.STOP if router.pick(tried) is None else Next.ELSEWHERE
    return Failed(failed.error, then, unknown=failed.unknown, node_down=failed.node_down)


def refusal_after_unknown(refusal: RocinanteError) -> OutcomeUnknown:
    """For a write that no node lets in any more, after a try that one did."""
    return OutcomeUnknown(f"an earlier try may or may not have been carried out; then: {refusal.message}")


@dataclass(frozen=True, slots=True)
class Try:
    """What a transport needs to make one try."""

    endpoint: str
    timeout_s: float
    ref: SessionRef | None


Send = Callable[[Try], T]


@dataclass(slots=True)
class Rules(Generic[T]):
    """How one kind of call is made again."""

    sessions: Sessions | None = None
    """Set: a write that is named and may be sent again whatever happened."""
    repeat_unknown: bool = True
    """Without a session: whether the call does no harm when carried out twice (as a read; adding a member does)."""
    patient: bool = False
    """A call that may take long: the first try may use all the time there is."""
    endpoint: str | None = None
    """Ask only this node, and only once: that it does not answer is an answer."""


@dataclass(slots=True)
class _Call:
    """The state of one call over its tries."""

    deadline: Deadline
    backoff: Backoff
    try_timeout_s: float
    tried: set[str] = field(default_factory=set)
    reasons: dict[str, str] = field(default_factory=dict)
    unknown: bool = False
    ticket: Ticket | None = None
    last: RocinanteError | None = None


class Caller:
    """Makes calls through a transport's `send` until one succeeds, the answer is final, or the time is up."""

    def __init__(
        self,
        router: Router,
        *,
        timeout_s: float,
        try_timeout_s: float = CLIENT_TRY_TIMEOUT_S,
        clock: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self._router = router
        self._timeout_s = timeout_s
        self._try_timeout_s = try_timeout_s
        self._clock = clock
        self._rng = rng
        self._closed = threading.Event()

    def close(self) -> None:
        """Calls that pause end at once with Unavailable; so do new ones."""
        self._closed.set()

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    @property
    def try_timeout_s(self) -> float:
        """After what time without an answer another node is asked."""
        return self._try_timeout_s

    def deadline(self, timeout_s: float | None = None) -> Deadline:
        return Deadline(self._timeout_s if timeout_s is None else timeout_s, self._clock)

    def pause(self, seconds: float) -> None:
        """Wait; raises Unavailable when the client is closed meanwhile."""
        if self._closed.wait(seconds):
            raise Unavailable(_CLOSED)

    def backoff(self) -> Backoff:
        return Backoff(self._rng)

    def run(self, send: Send[T], rules: Rules[T], deadline: Deadline) -> T:
        """The answer. Raises a RocinanteError as the table above says."""
        call = _Call(deadline, self.backoff(), self._try_timeout_s)
        try:
            for _ in range(CLIENT_TRIES_MAX):
                self._wait(call, 0)
                endpoint = self._next_endpoint(call, rules)
                if rules.sessions is not None and call.ticket is None:
                    call.ticket = rules.sessions.begin(deadline)
                try:
                    answer = send(self._try(call, endpoint, rules))
                except Failed as failed:
                    self._after(call, rules, endpoint, failed)
                else:
                    self._router.worked(endpoint)
                    return answer
                if deadline.remaining_s() < _TRY_MIN_S:
                    break
            raise self._gave_up(call)
        finally:
            if rules.sessions is not None and call.ticket is not None:
                rules.sessions.end(call.ticket)

    def _next_endpoint(self, call: _Call, rules: Rules[T]) -> str:
        """Where the next try goes; pauses first when every node had its try."""
        if rules.endpoint is not None:
            return rules.endpoint
        picked = self._router.pick(call.tried)
        if picked is not None:
            return picked
        self._pause(call)
        call.tried.clear()
        return self._router.pick() or self._router.seeds[0]

    def _pause(self, call: _Call) -> None:
        pause_s = call.backoff.pause_s()
        if pause_s >= call.deadline.remaining_s():
            raise self._gave_up(call)
        self._wait(call, pause_s)

    def _wait(self, call: _Call, seconds: float) -> None:
        """As `pause`, for a call whose earlier try may have been carried out."""
        if self._closed.wait(seconds):
            raise OutcomeUnknown("this client was closed during a write") if call.unknown else Unavailable(_CLOSED)

    def _try(self, call: _Call, endpoint: str, rules: Rules[T]) -> Try:
        remaining_s = max(0.001, call.deadline.remaining_s())
        timeout_s = remaining_s if rules.patient else min(remaining_s, call.try_timeout_s)
        return Try(endpoint, timeout_s, call.ticket.ref() if call.ticket is not None else None)

    def _after(self, call: _Call, rules: Rules[T], endpoint: str, failed: Failed) -> None:
        """Take note of a failure and prepare the next try; raises where there is none."""
        call.last = failed.error
        call.reasons[endpoint] = failed.error.message
        call.unknown = call.unknown or failed.unknown
        call.tried.add(endpoint)
        failed = settled(failed, self._router, self._router.endpoints if rules.endpoint else call.tried)
        if failed.node_down:
            self._router.failed(endpoint)
        else:
            self._router.worked(endpoint)
        if failed.then is Next.STOP:
            if call.unknown and call.ticket is not None and isinstance(failed.error, Unauthenticated):
                raise refusal_after_unknown(failed.error)
            raise failed.error
        if failed.unknown:
            call.try_timeout_s *= 2
            if rules.sessions is None and not rules.repeat_unknown:
                raise OutcomeUnknown(
                    f"{failed.error.message}; it may or may not have been done: look before you repeat it"
                )
        if rules.endpoint is not None:
            raise Unavailable(f"{endpoint}: {failed.error.message}") if failed.node_down else failed.error
        if failed.then is Next.REOPEN:
            self._reopen(call, rules)
        elif failed.then is Next.LATER:
            self._pause(call)
            call.tried.clear()

    def _reopen(self, call: _Call, rules: Rules[T]) -> None:
        if rules.sessions is None or call.ticket is None:
            raise call.last or SessionExpired("the session is not known")
        rules.sessions.expired(call.ticket)
        call.ticket = None
        call.tried.clear()
        if call.unknown:
            raise OutcomeUnknown(
                "the client session ended while the outcome of an earlier try was not known: the write may or may not"
                " have been carried out; read the value before you repeat it"
            )
        self._pause(call)

    def _gave_up(self, call: _Call) -> RocinanteError:
        """The error for a call whose time is up."""
        within = f"within {round(call.deadline.timeout_s, 2):g} s"
        why = "; ".join(f"{endpoint}: {reason}" for endpoint, reason in call.reasons.items())
        if call.unknown and call.ticket is not None:
            return OutcomeUnknown(f"no answer {within}: the write may or may not have been carried out ({why})")
        if call.last is None:
            return Unavailable(f"no node was asked {within}: set a longer timeout")
        if isinstance(call.last, Unavailable | OutcomeUnknown):
            return Unavailable(f"no node could answer {within} ({why})")
        return call.last
