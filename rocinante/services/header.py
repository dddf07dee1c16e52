"""etcd's response header: which cluster, which node, which revision, which term."""

from __future__ import annotations

from rocinante.pb.etcd import rpc_pb2
from rocinante.services.leader import LeaderView


def fill(header: rpc_pb2.ResponseHeader, leader: LeaderView, term: int = 0) -> None:
    """Complete a header that has its revision already. `term` 0: the one this node knows of."""
    status = leader.status()
    header.cluster_id = status.cluster_id
    header.member_id = status.id
    header.raft_term = term or status.term
