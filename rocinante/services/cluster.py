"""rocinante.v1.Cluster: who belongs to the cluster, who leads, how this node is doing; and client sessions.

`Status` and `Members` tell what this node knows, without a round; the rest goes through the node.
"""

from __future__ import annotations

import secrets
import time
from typing import Any

from google.protobuf.message import Message

from rocinante import limits
from rocinante.errors import InvalidArgument, OutcomeUnknown
from rocinante.identity import endpoint
from rocinante.pb.v1 import cluster_pb2 as pb
from rocinante.ports import Member, NodeStatus, PeerView, SessionRef, described_member
from rocinante.services.call import Call, Calls, Handlers, Unary
from rocinante.state.command import Kind
from rocinante.version import PROTOCOL_VERSION, __version__

SERVICE = "rocinante.v1.Cluster"


class ClusterService:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._node = calls.node

    def handlers(self) -> Handlers:
        methods: dict[str, tuple[type[Message], Unary[Any]]] = {
            "Status": (pb.StatusRequest, self.status),
            "Members": (pb.MembersRequest, self.members),
            "AddMember": (pb.AddMemberRequest, self.add_member),
            "PromoteMember": (pb.PromoteMemberRequest, self.promote_member),
            "RemoveMember": (pb.RemoveMemberRequest, self.remove_member),
            "TransferLeader": (pb.TransferLeaderRequest, self.transfer_leader),
            "OpenSession": (pb.OpenSessionRequest, self.open_session),
            "CloseSession": (pb.CloseSessionRequest, self.close_session),
        }
        return {
            f"/{SERVICE}/{name}": self._calls.unary(f"/{SERVICE}/{name}", request, handler)
            for name, (request, handler) in methods.items()
        }

    async def status(self, _call: Call, _request: pb.StatusRequest) -> pb.StatusResponse:
        return status_message(self._node.status())

    async def members(self, _call: Call, _request: pb.MembersRequest) -> pb.MembersResponse:
        return self._members(0)

    async def add_member(self, call: Call, request: pb.AddMemberRequest) -> pb.MembersResponse:
        member = described_member(request.address, request.port, name=request.name, rest=request.rest)
        index = await call.wait(self._node.add_member(member, voter=request.voter))
        return self._members(index)

    async def promote_member(self, call: Call, request: pb.PromoteMemberRequest) -> pb.MembersResponse:
        _check_id("id", request.id)
        return self._members(await call.wait(self._node.promote_member(request.id)))

    async def remove_member(self, call: Call, request: pb.RemoveMemberRequest) -> pb.MembersResponse:
        _check_id("id", request.id)
        return self._members(await call.wait(self._node.remove_member(request.id)))

    async def transfer_leader(self, call: Call, request: pb.TransferLeaderRequest) -> pb.TransferLeaderResponse:
        leader = await call.wait(self._node.transfer_leader(request.to))
        return pb.TransferLeaderResponse(leader=leader)

    async def open_session(self, call: Call, _request: pb.OpenSessionRequest) -> pb.OpenSessionResponse:
        until = time.monotonic() + call.timeout_s()
        while True:
            session = secrets.randbits(64) or 1  # 0 is the system's
            try:
                await call.propose(Kind.SESSION_OPEN, b"", SessionRef(session, 0))
            except OutcomeUnknown:
                if time.monotonic() >= until:
                    raise
                continue  # under another id: the first may be open already, and ends when it is not used
            return pb.OpenSessionResponse(session=session, idle_ms_max=limits.SESSION_IDLE_MS_MAX)

    async def close_session(self, call: Call, request: pb.CloseSessionRequest) -> pb.CloseSessionResponse:
        _check_id("session", request.session)
        await call.propose(Kind.SESSION_CLOSE, b"", SessionRef(request.session, 0))
        return pb.CloseSessionResponse()

    def _members(self, index: int) -> pb.MembersResponse:
        members, joint = self._node.members()
        leader = self._node.status().leader
        return pb.MembersResponse(
            members=[member_message(member, leader=member.id == leader) for member in members], joint=joint, index=index
        )


def member_message(member: Member, *, leader: bool) -> pb.Member:
    return pb.Member(
        id=member.id,
        name=member.name,
        address=member.address,
        port=member.port,
        rest=member.rest,
        learner=member.learner,
        leader=leader,
    )


def status_message(status: NodeStatus) -> pb.StatusResponse:
    leader = status.leader_member()
    return pb.StatusResponse(
        id=status.id,
        name=status.name,
        endpoint=endpoint(status.address, status.port),
        role=status.role,
        term=status.term,
        leader=status.leader,
        leader_endpoint=leader.endpoint if leader else "",
        commit=status.commit,
        applied=status.applied,
        last_index=status.last_index,
        first_index=status.first_index,
        revision=status.revision,
        keys=status.keys,
        flows=status.flows,
        storage=status.storage,
        version=__version__,
        protocol_version=PROTOCOL_VERSION,
        cluster=status.cluster,
        datacenter=status.datacenter,
        cluster_id=status.cluster_id,
        peers=[_peer_message(peer) for peer in status.peers],
        grpc_enabled=status.grpc_enabled,
        not_ready_reason=status.not_ready_reason,
        uptime_ms=status.uptime_ms,
        alarms=status.alarms,
        lineage=status.lineage,
    )


def _peer_message(peer: PeerView) -> pb.PeerStatus:
    return pb.PeerStatus(
        id=peer.member.id,
        name=peer.member.name,
        endpoint=peer.member.endpoint,
        state=peer.state,
        match=peer.match,
        lag=peer.lag,
        connected=peer.connected,
        heard_ms=peer.heard_ms,
        role=peer.role,
        term=peer.term,
        commit=peer.commit,
        applied=peer.applied,
        version=peer.version,
        rest=peer.member.rest,
        learner=peer.member.learner,
    )


def _check_id(field: str, identifier: int) -> None:
    if not identifier:
        raise InvalidArgument(field, "missing (0 is nobody)")
