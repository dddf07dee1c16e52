"""A node's status, from what the driver published and what the transport knows. No lock, no wait: it answers in every
state.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rocinante.ports import Member, NodeStatus, PeerView
from rocinante.raft.status import Status

if TYPE_CHECKING:
    from rocinante.node.node import Node


def node_status(node: Node) -> NodeStatus:
    """See the module."""
    status = node.driver.beat.status
    controller, config = node.controller, node.config
    state = node.state
    applied = node.apply.applied
    members, _ = node.membership.published
    return NodeStatus(
        id=node.id,
        name=controller.name,
        address=controller.address,
        port=controller.port,
        rest=controller.rest,
        role=status.role.public,
        term=status.term,
        leader=status.leader,
        commit=max(status.commit, applied),  # what is applied is committed; the driver publishes a little later
        applied=applied,
        last_index=max(status.last_index, applied),
        first_index=status.first_index,
        revision=state.revision,
        keys=state.keys_count(),
        flows=state.flows_count(),
        storage=node.engine.name,
        cluster=config.name,
        datacenter=config.datacenter,
        cluster_id=node.identity.cluster_id,
        lineage=node.identity.lineage,
        uptime_ms=int((time.monotonic() - node.started_at) * 1000),
        grpc_enabled=node.switch.enabled,
        not_ready_reason=node.not_ready_reason(),
        peers=tuple(_peer(node, status, member) for member in members if member.id != node.id),
        alarms=tuple(alarm for alarm in (*node.room.alarms, node.clock.alarm, node.recovery.reason) if alarm),
        log_bytes=node.engine.log.size_bytes(),
        snapshot_index=status.snapshot_index,
    )


def _peer(node: Node, status: Status, member: Member) -> PeerView:
    transport = node.transport
    info = transport.info(member.id)
    progress = status.peers.get(member.id)
    lag = transport.lag(member.id) if progress is None else max(0, status.last_index - progress.match)
    return PeerView(
        member=member,
        connected=transport.connected(member.id),
        heard_ms=transport.heard_ms(member.id),
        state=progress.state.value if progress else "",
        match=progress.match if progress else 0,
        lag=lag,
        role=info.role if info else "",
        term=info.term if info else 0,
        commit=info.commit if info else 0,
        applied=info.applied if info else 0,
        version=info.version if info else "",
    )
