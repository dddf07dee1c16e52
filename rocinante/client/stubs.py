"""The methods of the wire contract, for any channel: one table, with the messages of `rocinante.pb` (which live in a
pool of their own).

grpcio's generated stubs would look their messages up in the default pool, where those of another etcd client may
already stand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import grpc

from rocinante.pb.etcd import rpc_pb2
from rocinante.pb.v1 import admin_pb2, cluster_pb2, flow_pb2

__all__ = ["Method", "admin", "cluster", "flow", "kv", "multicallable"]

Q = TypeVar("Q")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Method(Generic[Q, R]):
    """One RPC. `kind` is grpcio's name of its shape: unary_unary, unary_stream or stream_stream."""

    path: str
    request: type[Q]
    response: type[R]
    kind: str = "unary_unary"

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


def multicallable(channel: grpc.Channel, method: Method[Any, Any]) -> Any:
    """grpcio's callable for `method`; it has no types of its own."""
    return getattr(channel, method.kind)(
        method.path,
        request_serializer=method.request.SerializeToString,
        response_deserializer=method.response.FromString,
    )


class kv:  # noqa: N801 - reads as the name space that it is
    """etcdserverpb.KV and etcdserverpb.Watch."""

    RANGE: Final = Method("/etcdserverpb.KV/Range", rpc_pb2.RangeRequest, rpc_pb2.RangeResponse)
    PUT: Final = Method("/etcdserverpb.KV/Put", rpc_pb2.PutRequest, rpc_pb2.PutResponse)
    DELETE: Final = Method("/etcdserverpb.KV/DeleteRange", rpc_pb2.DeleteRangeRequest, rpc_pb2.DeleteRangeResponse)
    TXN: Final = Method("/etcdserverpb.KV/Txn", rpc_pb2.TxnRequest, rpc_pb2.TxnResponse)
    COMPACT: Final = Method("/etcdserverpb.KV/Compact", rpc_pb2.CompactionRequest, rpc_pb2.CompactionResponse)
    WATCH: Final = Method(
        "/etcdserverpb.Watch/Watch", rpc_pb2.WatchRequest, rpc_pb2.WatchResponse, kind="stream_stream"
    )


class flow:  # noqa: N801
    """rocinante.v1.Flow."""

    PUT: Final = Method("/rocinante.v1.Flow/Put", flow_pb2.PutFlowsRequest, flow_pb2.PutFlowsResponse)
    GET: Final = Method("/rocinante.v1.Flow/Get", flow_pb2.GetFlowsRequest, flow_pb2.GetFlowsResponse)
    LIST: Final = Method("/rocinante.v1.Flow/List", flow_pb2.ListFlowsRequest, flow_pb2.ListFlowsResponse)
    DELETE: Final = Method("/rocinante.v1.Flow/Delete", flow_pb2.DeleteFlowsRequest, flow_pb2.DeleteFlowsResponse)
    WAIT_APPLIED: Final = Method(
        "/rocinante.v1.Flow/WaitApplied", flow_pb2.WaitAppliedRequest, flow_pb2.WaitAppliedResponse
    )
    WATCH: Final = Method(
        "/rocinante.v1.Flow/Watch", flow_pb2.WatchFlowsRequest, flow_pb2.WatchFlowsResponse, kind="unary_stream"
    )


class cluster:  # noqa: N801
    """rocinante.v1.Cluster."""

    STATUS: Final = Method("/rocinante.v1.Cluster/Status", cluster_pb2.StatusRequest, cluster_pb2.StatusResponse)
    MEMBERS: Final = Method("/rocinante.v1.Cluster/Members", cluster_pb2.MembersRequest, cluster_pb2.MembersResponse)
    ADD: Final = Method("/rocinante.v1.Cluster/AddMember", cluster_pb2.AddMemberRequest, cluster_pb2.MembersResponse)
    PROMOTE: Final = Method(
        "/rocinante.v1.Cluster/PromoteMember", cluster_pb2.PromoteMemberRequest, cluster_pb2.MembersResponse
    )
    REMOVE: Final = Method(
        "/rocinante.v1.Cluster/RemoveMember", cluster_pb2.RemoveMemberRequest, cluster_pb2.MembersResponse
    )
    TRANSFER: Final = Method(
        "/rocinante.v1.Cluster/TransferLeader", cluster_pb2.TransferLeaderRequest, cluster_pb2.TransferLeaderResponse
    )
    OPEN_SESSION: Final = Method(
        "/rocinante.v1.Cluster/OpenSession", cluster_pb2.OpenSessionRequest, cluster_pb2.OpenSessionResponse
    )
    CLOSE_SESSION: Final = Method(
        "/rocinante.v1.Cluster/CloseSession", cluster_pb2.CloseSessionRequest, cluster_pb2.CloseSessionResponse
    )


class admin:  # noqa: N801
    """rocinante.v1.Admin."""

    SET_GRPC: Final = Method("/rocinante.v1.Admin/SetGrpc", admin_pb2.SetGrpcRequest, admin_pb2.SetGrpcResponse)
    STOP: Final = Method("/rocinante.v1.Admin/Stop", admin_pb2.StopRequest, admin_pb2.StopResponse)
    SNAPSHOT: Final = Method("/rocinante.v1.Admin/Snapshot", admin_pb2.SnapshotRequest, admin_pb2.SnapshotResponse)
    LOG: Final = Method("/rocinante.v1.Admin/Log", admin_pb2.LogRequest, admin_pb2.LogResponse)
    DIGEST: Final = Method("/rocinante.v1.Admin/Digest", admin_pb2.DigestRequest, admin_pb2.DigestResponse)
    SAVE: Final = Method("/rocinante.v1.Admin/Save", admin_pb2.SaveRequest, admin_pb2.SaveResponse, kind="unary_stream")
