"""What a node knows of itself and of the others: needs no consensus, answers in every state, `not_ready` too."""

from __future__ import annotations

from typing import Any

from rocinante import limits
from rocinante.identity import format_id
from rocinante.ports import LogLine, Member, NodeStatus, PeerView
from rocinante.rest.context import RestContext, wait
from rocinante.rest.http import Reply, Request, json_reply
from rocinante.version import PROTOCOL_VERSION, __version__


def get_status(context: RestContext, request: Request) -> Reply:
    request.query.finish()
    return json_reply(status_to_json(context.node.status()))


def get_leader(context: RestContext, request: Request) -> Reply:
    request.query.finish()
    status = context.node.status()
    return json_reply(leader_to_json(status) | {"term": status.term})


def get_role(context: RestContext, request: Request) -> Reply:
    request.query.finish()
    status = context.node.status()
    return json_reply({"role": status.role, "term": status.term, "not_ready_reason": status.not_ready_reason})


def get_peers(context: RestContext, request: Request) -> Reply:
    request.query.finish()
    return json_reply({"peers": [peer_to_json(peer) for peer in context.node.status().peers]})


def get_size(context: RestContext, request: Request) -> Reply:
    """How many nodes the cluster has, and how much this one holds."""
    request.query.finish()
    members, _ = context.node.members()
    status = context.node.status()
    voters = sum(not member.learner for member in members)
    return json_reply(
        {
            "size": len(members),
            "voters": voters,
            "learners": len(members) - voters,
            "quorum": voters // 2 + 1,
            "connected": 1 + sum(peer.connected for peer in status.peers),
            "log_entries": max(0, status.last_index - status.first_index + 1),
            "log_bytes": status.log_bytes,
            "keys": status.keys,
            "flows": status.flows,
        }
    )


def get_log(context: RestContext, request: Request) -> Reply:
    return _log(context, request, committed=False)


def get_committed(context: RestContext, request: Request) -> Reply:
    return _log(context, request, committed=True)


def _log(context: RestContext, request: Request, *, committed: bool) -> Reply:
    last = request.query.integer("last", limits.REST_LOG_LINES_DEFAULT, least=1, most=limits.REST_LOG_LINES_MAX)
    request.query.finish()
    status = context.node.status()
    lines = context.node.log(last, committed=committed)
    return json_reply(
        {
            "entries": [log_line_to_json(line) for line in lines],
            "first_index": status.first_index,
            "last_index": status.last_index,
            "commit": status.commit,
        }
    )


def get_applied(context: RestContext, request: Request) -> Reply:
    """Answers when this node's own state has everything up to a log index."""
    index = request.query.integer("index", 0, least=0, most=2**63 - 1)
    most_ms = int(limits.REQUEST_TIMEOUT_S_MAX * 1000)
    timeout_ms = request.query.integer("timeout_ms", int(limits.REQUEST_TIMEOUT_S * 1000), least=1, most=most_ms)
    request.query.finish()
    timeout_s = timeout_ms / 1000
    with context.consensus_slot():
        point = wait(context.node.wait_applied(index, timeout_s=timeout_s), timeout_s, changes=False)
    return json_reply({"index": point.index})


def leader_to_json(status: NodeStatus) -> dict[str, Any]:
    """All null where no leader is known."""
    member = status.leader_member()
    return {
        "leader": format_id(member.id) if member else None,
        "leader_name": member.name if member else None,
        "leader_endpoint": member.endpoint if member else None,
        "leader_rest": member.rest if member else None,
    }


def status_to_json(status: NodeStatus) -> dict[str, Any]:
    return {
        "id": format_id(status.id),
        "name": status.name,
        "endpoint": Member(status.id, status.name, status.address, status.port, status.rest).endpoint,
        "address": status.address,
        "port": status.port,
        "rest": status.rest,
        "role": status.role,
        "ready": status.role != "not_ready",
        "not_ready_reason": status.not_ready_reason,
        "grpc_enabled": status.grpc_enabled,
        "term": status.term,
        **leader_to_json(status),
        "commit": status.commit,
        "applied": status.applied,
        "last_index": status.last_index,
        "first_index": status.first_index,
        "snapshot_index": status.snapshot_index,
        "revision": status.revision,
        "keys": status.keys,
        "flows": status.flows,
        "storage": status.storage,
        "log_bytes": status.log_bytes,
        "alarms": list(status.alarms),
        "cluster": status.cluster,
        "datacenter": status.datacenter,
        "cluster_id": format_id(status.cluster_id),
        "lineage": status.lineage,
        "version": __version__,
        "protocol_version": PROTOCOL_VERSION,
        "uptime_ms": status.uptime_ms,
        "peers": [peer_to_json(peer) for peer in status.peers],
    }


def peer_to_json(peer: PeerView) -> dict[str, Any]:
    member = peer.member
    return {
        "id": format_id(member.id),
        "name": member.name,
        "endpoint": member.endpoint,
        "address": member.address,
        "port": member.port,
        "rest": member.rest,
        "learner": member.learner,
        "connected": peer.connected,
        "heard_ms": peer.heard_ms,
        "state": peer.state,
        "match": peer.match,
        "lag": peer.lag,
        "role": peer.role,
        "term": peer.term,
        "commit": peer.commit,
        "applied": peer.applied,
        "version": peer.version,
    }


def member_to_json(member: Member, leader: int) -> dict[str, Any]:
    return {
        "id": format_id(member.id),
        "name": member.name,
        "endpoint": member.endpoint,
        "address": member.address,
        "port": member.port,
        "rest": member.rest,
        "learner": member.learner,
        "leader": member.id == leader,
    }


def log_line_to_json(line: LogLine) -> dict[str, Any]:
    return {
        "index": line.index,
        "term": line.term,
        "kind": line.kind,
        "size_bytes": line.size_bytes,
        "commands": list(line.commands),
        "committed": line.committed,
    }
