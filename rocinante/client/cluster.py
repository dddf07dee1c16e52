"""`client.cluster`: the members, who leads, and how a node is doing."""

from __future__ import annotations

from rocinante.client.connection import Connection
from rocinante.client.stubs import cluster
from rocinante.client.types import Member, Members, Status
from rocinante.pb.v1 import cluster_pb2

__all__ = ["ClusterClient"]


class ClusterClient:
    """Changes of the membership have no session: one whose answer was lost is not repeated but ends with
    OutcomeUnknown."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def status(self, endpoint: str | None = None, *, timeout_s: float | None = None) -> Status:
        """What a node knows of itself and its peers: the node at `endpoint`, or any that answers. Needs no leader."""
        request = cluster_pb2.StatusRequest()
        if endpoint is None:
            return Status.from_pb(self._connection.read(cluster.STATUS, request, timeout_s))
        node = self._connection.only(endpoint)
        return Status.from_pb(self._connection.ask(cluster.STATUS, request, node, timeout_s))

    def members(self, *, timeout_s: float | None = None) -> Members:
        return _members(self._connection.read(cluster.MEMBERS, cluster_pb2.MembersRequest(), timeout_s))

    def leader(self, *, timeout_s: float | None = None) -> Member | None:
        """The leader, as some node knows it; None when that node knows none."""
        return next((member for member in self.members(timeout_s=timeout_s).members if member.leader), None)

    def add(
        self,
        address: str,
        port: int,
        *,
        name: str = "",
        rest: int = 0,
        voter: bool = False,
        timeout_s: float | None = None,
    ) -> Members:
        """Add a node, as a learner unless `voter`. Raises InvalidArgument, AlreadyExists, FailedPrecondition (a change
        is under way)."""
        request = cluster_pb2.AddMemberRequest(name=name, address=address, port=port, rest=rest, voter=voter)
        return _members(self._connection.change(cluster.ADD, request, timeout_s))

    def promote(self, identifier: int, *, timeout_s: float | None = None) -> Members:
        """Make a learner a voter. Raises NotFound, FailedPrecondition (not caught up, a voter already)."""
        request = cluster_pb2.PromoteMemberRequest(id=identifier)
        return _members(self._connection.change(cluster.PROMOTE, request, timeout_s))

    def remove(self, identifier: int, *, timeout_s: float | None = None) -> Members:
        """Remove a node. Raises NotFound, FailedPrecondition (the last voter)."""
        request = cluster_pb2.RemoveMemberRequest(id=identifier)
        return _members(self._connection.change(cluster.REMOVE, request, timeout_s))

    def transfer(self, to: int = 0, *, timeout_s: float | None = None) -> int:
        """Hand leadership to a node (0: the most up-to-date voter); the id of the new leader, once it leads."""
        request = cluster_pb2.TransferLeaderRequest(to=to)
        return self._connection.change(cluster.TRANSFER, request, timeout_s).leader


def _members(answer: cluster_pb2.MembersResponse) -> Members:
    return Members(tuple(map(Member.from_pb, answer.members)), answer.joint, answer.index)
