"""Requests of this node's own clients whose outcome is not known yet.

Every command has a name, (session, seq), and the state machine applies each name at most once. A command that comes
without a client session goes under the node's own, the *gateway session*, so that the node may propose it again after
a change of leader without any risk of applying it twice.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future

from rocinante.errors import OutcomeUnknown, ResourceExhausted, RocinanteError, SessionExpired, Unavailable
from rocinante.node.requests import Ingress, Proposal
from rocinante.ports import Outcome, SessionRef
from rocinante.state import command
from rocinante.state.command import Kind


class Gateway:
    """The node's own session. Its first act is to open it; until that is applied, nothing else goes under it."""

    def __init__(self) -> None:
        self.session = random.SystemRandom().getrandbits(64) or 1
        self.open = False
        self.next_seq = 1
        self.outstanding: dict[int, None] = {}
        """Seqs without an outcome, in ascending order."""

    def ack(self) -> int:
        """The lowest seq whose result is still wanted (dissertation, section 6.3)."""
        return next(iter(self.outstanding), self.next_seq)


class Pending:
    """See the module. Callers' threads add, the apply thread resolves, the driver gives up; each step takes the lock
    briefly.
    """

    def __init__(self, ingress: Ingress, on_retry: Callable[[Proposal], None]) -> None:
        self._ingress = ingress
        self._on_retry = on_retry
        self._lock = threading.Lock()
        self._proposals: dict[tuple[int, int], Proposal] = {}
        self._indexes: dict[int, tuple[int, Future[int]]] = {}
        self.gateway = Gateway()
        self.resolved = 0
        self.unknown = 0

    def __len__(self) -> int:
        return len(self._proposals)

    def add(self, kind: Kind, body: bytes, session: SessionRef | None, deadline: float) -> Proposal:
        """Give the command its name and remember it. Raises ResourceExhausted when the ingress is full.

        A retry of a client that still waits here for its first try gets that one's future.
        """
        future: Future[Outcome] = Future()
        with self._lock:
            if session is not None:
                key = (session.session, session.seq)
                if known := self._proposals.get(key):
                    return known
                data = command.framed(kind, session.session, session.seq, session.ack, body)
                proposal = Proposal(data, *key, deadline, future, gateway=False, once=kind is Kind.SESSION_OPEN)
            else:
                proposal = self._name(kind, body, deadline, future)
            self._proposals[proposal.key] = proposal
        try:
            self._ingress.put_proposal(proposal)
        except RocinanteError as error:
            self._forget(proposal)
            _fail(proposal.future, error)  # a retry may have joined it meanwhile
            raise
        return proposal

    def _name(self, kind: Kind, body: bytes | memoryview, deadline: float, future: Future[Outcome]) -> Proposal:
        gateway = self.gateway
        if kind is Kind.SESSION_OPEN:
            data = command.framed(kind, gateway.session, 0, 0, body)
            return Proposal(data, gateway.session, 0, deadline, future, gateway=True, once=True)
        seq = gateway.next_seq
        gateway.next_seq += 1
        gateway.outstanding[seq] = None
        data = command.framed(kind, gateway.session, seq, gateway.ack(), body)
        return Proposal(data, gateway.session, seq, deadline, future, gateway=True)

    def _forget(self, proposal: Proposal) -> bool:
        with self._lock:
            if self._proposals.pop(proposal.key, None) is None:
                return False
            if proposal.session == self.gateway.session:
                self.gateway.outstanding.pop(proposal.seq, None)
            return True

    def reopen_gateway(self) -> None:
        """The state machine does not know the gateway session any more, or nobody knows whether it was opened: go on
        under a new one. What has a name under the old one gets another when that is refused."""
        with self._lock:
            self.gateway = Gateway()

    def outstanding(self) -> list[Proposal]:
        with self._lock:
            return list(self._proposals.values())

    def resolve(self, index: int, term: int, outcomes: Iterable[tuple[int, int, object]]) -> None:
        """The entry at `index` was applied; `outcomes` has (session, seq, result or error) of each command in it."""
        done: list[tuple[Proposal, object]] = []
        with self._lock:
            gateway = self.gateway
            for session, seq, result in outcomes:
                proposal = self._proposals.pop((session, seq), None)
                if session == gateway.session:
                    gateway.outstanding.pop(seq, None)
                if proposal is not None:
                    done.append((proposal, result))
        if not done:
            return
        self._ingress.proposal_done(len(done), sum(len(proposal.frame) for proposal, _ in done))
        self.resolved += len(done)
        for proposal, result in done:
            if isinstance(result, SessionExpired) and proposal.gateway:
                self._retry_or_fail(proposal)
            elif isinstance(result, RocinanteError):
                _fail(proposal.future, result)
            elif not proposal.future.done():
                proposal.future.set_result(Outcome(index, term, result))

    def _retry_or_fail(self, proposal: Proposal) -> None:
        """The gateway session had ended. A command that was tried once was certainly not applied, so it may get a new
        name.
        """
        if proposal.tries == 1:
            self._on_retry(proposal)
        else:
            self.unknown += 1
            _fail(proposal.future, OutcomeUnknown("the node's session ended meanwhile: the write may have happened"))

    def rename(self, proposal: Proposal) -> None:
        """Put a command that was certainly not applied under the present gateway session, and in the ingress again."""
        parsed = command.decode(proposal.command)
        with self._lock:
            renamed = self._name(Kind(parsed.kind), parsed.body, proposal.deadline, proposal.future)
            self._proposals[renamed.key] = renamed
        try:
            self._ingress.put_proposal(renamed)
        except RocinanteError as error:
            self._forget(renamed)
            _fail(renamed.future, error)

    def rename_untried(self, proposal: Proposal) -> None:
        """It has the name of a gateway session that is another now."""
        if self._forget(proposal):
            self._ingress.proposal_done(1, len(proposal.frame))
            self.rename(proposal)

    def give_up(self, proposal: Proposal, why: str = "time is up") -> None:
        """Its time is up, or the node stops or stands aside."""
        if not self._forget(proposal):
            return
        self._ingress.proposal_done(1, len(proposal.frame))
        if proposal.tries:
            self.unknown += 1
            _fail(
                proposal.future,
                OutcomeUnknown(f"{why}: the write may still happen; retry it with a client session to be sure"),
            )
        elif proposal.exhausted:
            _fail(proposal.future, ResourceExhausted(proposal.refused))
        else:
            _fail(proposal.future, Unavailable(proposal.refused or f"{why}: it was not proposed"))

    def give_up_late(self, now: float | None = None) -> None:
        """All whose time is up."""
        now = time.monotonic() if now is None else now
        for proposal in [item for item in self.outstanding() if item.deadline <= now]:
            self.give_up(proposal)

    # --- waiting for an index (membership changes)

    def wait_index(self, index: int, term: int) -> Future[int]:
        """Done when the entry at `index` is applied here; fails when another took its place."""
        future: Future[int] = Future()
        with self._lock:
            self._indexes[index] = (term, future)
        return future

    def resolve_index(self, index: int, term: int) -> None:
        if not self._indexes:
            return
        with self._lock:
            expected, future = self._indexes.pop(index, (0, None))
        if future is None:
            return
        if expected == term and not future.done():
            future.set_result(index)
        else:
            _fail(future, Unavailable("another leader's entry took the place of this change: it did not happen"))

    def forget_indexes(self, index: int) -> None:
        """A snapshot took the place of everything up to `index`."""
        with self._lock:
            gone = [at for at in self._indexes if at <= index]
            futures = [self._indexes.pop(at)[1] for at in gone]
        for future in futures:
            _fail(
                future, OutcomeUnknown("the node fell behind: ask for the members to see whether the change happened")
            )


def _fail(future: Future[Outcome] | Future[int], error: RocinanteError) -> None:
    if not future.done():
        future.set_exception(error)
