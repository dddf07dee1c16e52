"""Until where a write must have come: committed, applied on one member, or applied on all of them.

"All" means every member of the configuration, voters and learners, running or not: one that does not answer does not
know the flow, and who asks for all wants to be told so. The members are those that the leader (or who answers for it)
has when the wait begins.

What a wait promises: when it returns, the member's own table has everything up to the index, so a stale read there,
made after it, sees the write. A member that dies and comes back later has to catch up again, as any.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import Any, Final

import grpc

from rocinante.client.connection import Connection
from rocinante.client.deadline import Backoff, Deadline
from rocinante.client.retry import Failed
from rocinante.client.stubs import cluster, flow
from rocinante.client.types import Member
from rocinante.errors import InvalidArgument, NotApplied, RocinanteError
from rocinante.identity import format_id
from rocinante.limits import REQUEST_TIMEOUT_S_MAX
from rocinante.pb.v1 import cluster_pb2, flow_pb2

__all__ = ["check_until", "wait_applied"]

COMMITTED: Final = "committed"
ALL: Final = "all"
_APPLIED: Final = "applied:"
_MARGIN_S: Final = 0.2
"""The node ends a wait so long before its caller would, so that its words arrive."""


def check_until(until: str) -> str:
    """Raises InvalidArgument for what is not `committed`, `all`, or `applied:` and a member's name, id or endpoint."""
    if until in (COMMITTED, ALL) or (until.startswith(_APPLIED) and len(until) > len(_APPLIED)):
        return until
    raise InvalidArgument(
        "until", f'{until!r} is not "committed", "all" or "applied:<name, id or endpoint of a member>"'
    )


def wait_applied(connection: Connection, index: int, until: str, deadline: Deadline) -> None:
    """Until `index` is applied where `until` says. Raises NotApplied: time is up, there is no such member, or nobody
    could say who the members are."""
    if until == COMMITTED or not index:
        return
    try:
        answer = connection.read(cluster.MEMBERS, cluster_pb2.MembersRequest(), max(0.001, deadline.remaining_s()))
    except RocinanteError as error:
        raise NotApplied(index, {"the members": error.message}) from None
    members = [Member.from_pb(member) for member in answer.members]
    _Wait(connection, index, _chosen(members, until, index), deadline).run()


def _chosen(members: Sequence[Member], until: str, index: int) -> Sequence[Member]:
    if until == ALL:
        return members
    name = until.removeprefix(_APPLIED)
    for member in members:
        if name in (member.name, format_id(member.id), member.endpoint):
            return [member]
    there = ", ".join(member.name for member in members)
    raise NotApplied(index, {name: f"is no member; there are {there}"})


class _Wait:
    """All members are asked at once; one that fails is asked again after a pause."""

    def __init__(self, connection: Connection, index: int, members: Sequence[Member], deadline: Deadline) -> None:
        self._connection = connection
        self._index = index
        self._deadline = deadline
        self._missing = {member.endpoint: member.name for member in members}
        self._reasons: dict[str, str] = {}
        self._backoffs: dict[str, Backoff] = {}
        self._again: dict[str, float] = {}
        """Endpoint → when it is asked again (monotonic seconds)."""
        self._calls: dict[str, Any] = {}
        self._answers: SimpleQueue[tuple[str, Any]] = SimpleQueue()

    def run(self) -> None:
        for endpoint in self._missing:
            self._ask(endpoint)
        try:
            while self._missing:
                if self._deadline.passed():
                    raise NotApplied(self._index, {name: self._why(at) for at, name in self._missing.items()})
                self._step()
        finally:
            for call in self._calls.values():
                call.cancel()

    def _why(self, endpoint: str) -> str:
        return self._reasons.get(endpoint, "no answer in time")

    def _step(self) -> None:
        now = time.monotonic()
        for endpoint in [at for at, when in self._again.items() if when <= now]:
            del self._again[endpoint]
            self._ask(endpoint)
        patience_s = min([self._deadline.remaining_s(), *(when - now for when in self._again.values())])
        try:
            endpoint, call = self._answers.get(timeout=max(0.001, patience_s))
        except Empty:
            return
        self._calls.pop(endpoint, None)
        try:
            call.result()
        except grpc.RpcError as error:
            self._failed(endpoint, self._connection.transport.failed(error, flow.WAIT_APPLIED.name))
        else:
            del self._missing[endpoint]

    def _ask(self, endpoint: str) -> None:
        remaining_s = max(0.001, min(self._deadline.remaining_s(), REQUEST_TIMEOUT_S_MAX))
        wait_ms = max(1, int(1000 * max(remaining_s / 2, remaining_s - _MARGIN_S)))
        request = flow_pb2.WaitAppliedRequest(index=self._index, timeout_ms=wait_ms)
        try:
            method = self._connection.transport.callable(endpoint, flow.WAIT_APPLIED)
        except Failed as failed:
            raise failed.error from None
        call = self._calls[endpoint] = method.future(request, timeout=remaining_s)
        call.add_done_callback(lambda done: self._answers.put((endpoint, done)))

    def _failed(self, endpoint: str, failed: Failed) -> None:
        self._reasons[endpoint] = failed.error.message
        backoff = self._backoffs.setdefault(endpoint, self._connection.caller.backoff())
        self._again[endpoint] = time.monotonic() + backoff.pause_s()
