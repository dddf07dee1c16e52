"""What all clients have in common: one call after the other, each through any node, tried again where that is safe.

A client with a session tries again elsewhere, under the same name, when it does not know the outcome; one without does
not. What every try said was not done (`Unavailable`, a full buffer) counts as never having happened.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

from rocinante.errors import ResourceExhausted, RocinanteError, SessionExpired, Unavailable
from rocinante.ports import Outcome, ReadPoint, SessionRef
from rocinante.state.command import Kind

from .world import SimulationFailure, World

if TYPE_CHECKING:
    from .host import Host

TRIES_MAX: Final = 12
TRY_TIMEOUT_S: Final = 1.5
"""Until a client gives a try up, and its node should too."""


class Tally:
    """What became of the calls of all clients."""

    def __init__(self) -> None:
        self.done = self.unknown = self.refused = self.retries = 0


class Caller(ABC):
    """See the module."""

    def __init__(
        self, world: World, number: int, hosts: Callable[[], list[Host]], tally: Tally, *, sessions: bool = True
    ) -> None:
        self.world = world
        self.tally = tally
        self.number = number
        self._hosts = hosts
        random = world.random
        self._with_session = sessions and random.random() < 0.6
        self._pause = random.choice((0.02, 0.1, 0.5))
        self._session = 0
        self._seq = 0
        self.stopped = False
        self.idle = True
        self.only: Host | None = None
        """Ask this node alone."""
        self._try = 0
        self._rest = 0
        self.rest()

    @abstractmethod
    def call(self) -> None:
        """Begin a call of its own choice."""

    def stop(self) -> None:
        """No more calls of its own; those that it is told to do, it does without a pause."""
        self.stopped = True
        self._pause = 0.001

    def rest(self) -> None:
        """The call has ended; another follows after a while."""
        self._rest += 1
        this = self._rest
        self.world.at(self.world.random.expovariate(1 / self._pause), None, "client", lambda: self._next(this))

    def busy(self) -> None:
        """It has got something to do; what it would have done after its rest is not done."""
        self._rest += 1
        self.idle = False

    def _next(self, rest: int) -> None:
        if rest != self._rest:
            return
        self.idle = True
        if self.stopped:
            return
        if self._with_session and not self._session:
            self._open()
        else:
            self.call()

    def _open(self) -> None:
        session = self.world.random.getrandbits(63) | 1

        def opened(result: object) -> None:
            if isinstance(result, Outcome):
                self._session, self._seq = session, 0
            self.rest()

        self.idle = False
        self.ask(lambda host: host.node.propose(Kind.SESSION_OPEN, b"", session=SessionRef(session, 0)), opened)

    def name(self) -> SessionRef | None:
        if not self._session:
            return None
        self._seq += 1
        return SessionRef(self._session, self._seq, self._seq)

    def lose_session(self) -> None:
        self._session = 0

    def ask(self, request: Callable[[Host], Future[Any]], then: Callable[[object], None]) -> None:
        """Put a request to some node; `then` is called once: with the result, an error, or None for silence."""
        world = self.world
        self._try += 1
        this = self._try
        host = self.only or world.random.choice(self._hosts())

        def answer(result: object) -> None:
            if self._try == this:
                self._try += 1
                then(result)

        def later(result: object) -> None:
            world.at(0.0001 + world.chance() * 0.002, None, "answer", lambda: answer(result))

        def done(future: Future[Any]) -> None:
            later(future.exception() or future.result())

        def arrive() -> None:
            try:
                request(host).add_done_callback(done)
            except RocinanteError as error:
                later(error)

        if not host.up:
            world.at(0.05, None, "refused", lambda: answer(Unavailable("connection refused")))
            return
        world.at(0.0001 + world.chance() * 0.002, host, "request", arrive)
        world.at(TRY_TIMEOUT_S * 1.2, None, "silence", lambda: answer(None))


class Attempt(ABC):
    """A call with all its tries."""

    def __init__(self, caller: Caller, *, reads: bool) -> None:
        self.caller = caller
        self.world = caller.world
        self.called = caller.world.now
        self._reads = reads
        self._tries = 0
        self._unknown = False
        self._name = None if reads else caller.name()

    @abstractmethod
    def request(self, host: Host, name: SessionRef | None) -> Future[Any]:
        """One try."""

    @abstractmethod
    def ended(self, result: Any) -> None:
        """With what the node answered."""

    @abstractmethod
    def given_up(self, *, unknown: bool) -> None:
        """Without an answer. Unless `unknown`, it certainly never happened."""

    def begin(self) -> None:
        self._tries += 1
        if self._tries > 1:
            self.caller.tally.retries += 1
        self.caller.ask(lambda host: self.request(host, self._name), self._answered)

    def _answered(self, result: object) -> None:
        if isinstance(result, Unavailable | ResourceExhausted):
            self._again()
        elif isinstance(result, SessionExpired):
            self.caller.lose_session()
            self._unknown = True
            self._give_up()
        elif result is None or isinstance(result, RocinanteError):
            self._unknown = True
            self._again()
        elif isinstance(result, BaseException):
            raise SimulationFailure(f"an answer that nobody expected: {result!r}")
        else:
            self.ended(result)
            self.caller.rest()

    def _again(self) -> None:
        repeatable = self._name is not None or self._reads
        if self._tries >= TRIES_MAX or not (repeatable or not self._unknown):
            self._give_up()
            return
        self.world.at(self.world.random.uniform(0.01, 0.2), None, "client", self.begin)

    def _give_up(self) -> None:
        unknown = self._unknown and not self._reads
        if unknown:
            self.caller.tally.unknown += 1
        else:
            self.caller.tally.refused += 1
        self.given_up(unknown=unknown)
        self.caller.rest()


def read_then(host: Host, look: Callable[[], object]) -> Future[Any]:
    """The point, and then the state, as `services/` does it: what is read may be newer than the point."""
    result: Future[Any] = Future()

    def reached(point: Future[ReadPoint]) -> None:
        if error := point.exception():
            result.set_exception(error)
        else:
            host.world.at(host.apply_delay(), host, "read", lambda: result.set_result(look()))

    host.node.read(timeout_s=TRY_TIMEOUT_S).add_done_callback(reached)
    return result
