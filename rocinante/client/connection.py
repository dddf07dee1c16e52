"""What all parts of the gRPC client share: the nodes, the channels, the session, and the kinds of call that are made
with them."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from typing import TypeVar

from rocinante.client.deadline import Deadline, check_timeout
from rocinante.client.retry import Caller, Failed, Rules, Try
from rocinante.client.router import Router, parse_endpoint, parse_endpoints
from rocinante.client.session import Sessions
from rocinante.client.stubs import Method, cluster
from rocinante.client.transport import Transport
from rocinante.errors import RocinanteError
from rocinante.identity import endpoint as format_endpoint
from rocinante.limits import CLIENT_CLOSE_TIMEOUT_S, CLIENT_TRY_TIMEOUT_S
from rocinante.pb.v1 import cluster_pb2

__all__ = ["Connection"]

Q = TypeVar("Q")
R = TypeVar("R")


class Connection:
    """Thread-safe. The parameters are those of `Client`."""

    def __init__(
        self, endpoints: str | Iterable[str], *, timeout_s: float, try_timeout_s: float, discover: bool, token: str = ""
    ) -> None:
        rng = random.Random()
        self.router = Router(parse_endpoints(endpoints), discover=discover, clock=time.monotonic, rng=rng)
        self.caller = Caller(
            self.router,
            timeout_s=check_timeout(timeout_s),
            try_timeout_s=check_timeout(try_timeout_s),
            clock=time.monotonic,
            rng=rng,
        )
        self.transport = Transport(self.router, token)
        self._sessions = Sessions(self.open_session)

    def close(self) -> None:
        """End the session on the cluster (waits half a second at most), close the channels. May be repeated."""
        if self.caller.closed:
            return
        session = self._sessions.take()
        self.caller.close()
        if session:
            self.forget_session(session)
        self.transport.close()

    def only(self, endpoint: str | None) -> str:
        """The node that a call is meant for: the one named, or else the first that the user gave."""
        return self.router.seeds[0] if endpoint is None else parse_endpoint(endpoint)

    def read(self, method: Method[Q, R], request: Q, timeout_s: float | None = None) -> R:
        """A call that may be made again without harm."""
        return self._call(method, request, Rules(), self.caller.deadline(timeout_s))

    def write(self, method: Method[Q, R], request: Q, timeout_s: float | None = None) -> R:
        """A call that must be carried out once: it goes under this client's session."""
        return self._call(method, request, Rules(sessions=self._sessions), self.caller.deadline(timeout_s))

    def change(self, method: Method[Q, R], request: Q, timeout_s: float | None = None) -> R:
        """A call without a session that must not be repeated blindly: an unknown outcome is the caller's."""
        rules: Rules[R] = Rules(repeat_unknown=False, patient=True)
        return self._call(method, request, rules, self.caller.deadline(timeout_s))

    def ask(self, method: Method[Q, R], request: Q, endpoint: str, timeout_s: float | None = None) -> R:
        """A question to this node and no other, once. Raises Unavailable when it does not answer."""
        rules: Rules[R] = Rules(patient=True, endpoint=endpoint)
        return self._call(method, request, rules, self.caller.deadline(timeout_s), discover=False)

    def act(self, method: Method[Q, R], request: Q, endpoint: str, timeout_s: float | None = None) -> R:
        """As `ask`, for what changes something: raises OutcomeUnknown when the answer was lost."""
        rules: Rules[R] = Rules(repeat_unknown=False, patient=True, endpoint=endpoint)
        return self._call(method, request, rules, self.caller.deadline(timeout_s), discover=False)

    def _call(
        self, method: Method[Q, R], request: Q, rules: Rules[R], deadline: Deadline, *, discover: bool = True
    ) -> R:
        if discover:
            self.discover(deadline)
        return self.caller.run(lambda attempt: self.transport.call(method, request, attempt), rules, deadline)

    def discover(self, deadline: Deadline) -> None:
        """Ask for the members when it is time to; a call goes on without them when nobody tells."""
        if not self.router.discovery_due():
            return
        try:
            answer = self.caller.run(
                lambda attempt: self.transport.call(cluster.MEMBERS, cluster_pb2.MembersRequest(), attempt),
                Rules(),
                self.caller.deadline(max(0.001, min(deadline.remaining_s() / 2, CLIENT_TRY_TIMEOUT_S))),
            )
        except RocinanteError:
            return
        self.take_members(answer)

    def take_members(self, answer: cluster_pb2.MembersResponse) -> None:
        """What a node said of the members."""
        found = [_endpoint_of(member) for member in answer.members]
        self.router.discovered(endpoint for endpoint in found if endpoint)
        self.transport.keep_only(self.router.endpoints)
        leader = next((_endpoint_of(member) for member in answer.members if member.leader), "")
        if leader:
            self.router.saw_leader(leader)

    def end_session(self, session: int, deadline: Deadline) -> None:
        """End a session on the cluster, and wait for it. Raises Unavailable, OutcomeUnknown."""
        request = cluster_pb2.CloseSessionRequest(session=session)
        self.caller.run(lambda attempt: self.transport.call(cluster.CLOSE_SESSION, request, attempt), Rules(), deadline)

    def forget_session(self, session: int) -> None:
        """End a session on the cluster with one try of half a second at most; an idle one ends by itself."""
        endpoint = self.router.pick() or self.router.seeds[0]
        request = cluster_pb2.CloseSessionRequest(session=session)
        try:
            self.transport.call(cluster.CLOSE_SESSION, request, Try(endpoint, CLIENT_CLOSE_TIMEOUT_S, None))
        except Failed:
            pass

    def open_session(self, deadline: Deadline) -> int:
        """A new session on the cluster. Raises Unavailable."""
        answer = self.caller.run(
            lambda attempt: self.transport.call(cluster.OPEN_SESSION, cluster_pb2.OpenSessionRequest(), attempt),
            Rules(),
            deadline,
        )
        return answer.session


def _endpoint_of(member: cluster_pb2.Member) -> str:
    """Where a member listens; "" where the answer makes no sense of it."""
    try:
        return format_endpoint(member.address, member.port)
    except ValueError:
        return ""
