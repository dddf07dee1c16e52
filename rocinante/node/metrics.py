"""What the node counts, by Prometheus name without the `rocinante_` prefix (`NodePort.metrics`). Sampled without
locks: counters only grow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rocinante.raft.status import Status

if TYPE_CHECKING:
    from rocinante.node.node import Node


def node_metrics(node: Node) -> dict[str, float]:
    """See the module."""
    beat = node.driver.beat
    values: dict[str, float] = {}
    values.update(_raft(node, beat.status))
    values.update(_ingress(node))
    values.update(_storage(node))
    values.update(_peers(node))
    values.update({f"state_{name}": float(number) for name, number in node.state.sizes().items()})
    values.update(_flows(node))
    values["requests_unauthenticated_total"] = node.keyring.refused
    values["watch_watchers"] = node.hub.count
    values["watch_fell_behind_total"] = node.hub.fell_behind
    return values


def _flows(node: Node) -> dict[str, float]:
    config, housekeeping = node.room.config, node.housekeeping
    return {
        "cluster_clock_offset_seconds": node.clock.offset_ms / 1000,
        "cluster_clock_jumps_total": node.clock.jumps,
        "flow_records_max": config.flows.max_records,
        "flow_bytes_max": config.flows.max_bytes,
        "flow_records_written_total": node.state.flow_records_written,
        "kv_bytes_max": config.limits.key_bytes,
        "storage_reserve_bytes": config.storage.disk_reserve_bytes,
        "flow_expire_commands_total": housekeeping.expired_batches,
        "flow_released_bytes_total": housekeeping.released_bytes,
        "room_refused_total": node.room.refused,
    }


def _raft(node: Node, status: Status) -> dict[str, float]:
    driver = node.driver
    return {
        "raft_turns_total": driver.turn,
        "raft_leader_changes_total": driver.leader_changes,
        "raft_elections_total": driver.elections,
        "raft_ticks_skipped_total": driver.ticks_skipped,
        "raft_messages_ignored_total": status.ignored,
        "raft_uncommitted_bytes": status.uncommitted_bytes,
        "raft_persisted_index": status.persisted,
        "raft_leader_silent_seconds": status.leader_silent_ticks * node.config.timers.tick_ms / 1000,
        "raft_votes_withheld_total": node.recovery.withheld,
        "raft_read_rounds_total": node.reader.rounds,
        "apply_entries_total": node.apply.entries,
        "apply_commands_total": node.apply.commands,
        "apply_queue": node.apply.waiting,
    }


def _ingress(node: Node) -> dict[str, float]:
    ingress, proposer, pending = node.ingress, node.proposer, node.pending
    return {
        "ingress_proposals": ingress.waiting,
        "ingress_bytes": ingress.waiting_bytes,
        "ingress_reads": node.reader.waiting,
        "ingress_refused_total": ingress.refused,
        "ingress_messages_dropped_total": ingress.messages_dropped,
        "proposals_waiting": proposer.waiting,
        "proposals_forwarded_total": proposer.forwarded,
        "proposals_retried_total": proposer.retried,
        "proposals_resolved_total": pending.resolved,
        "proposals_unknown_total": pending.unknown,
        "proposal_entries_total": proposer.entries,
        "forwards_refused_total": proposer.dropped,
    }


def _storage(node: Node) -> dict[str, float]:
    disk = node.disk
    values = {
        "storage_writes_total": float(disk.writes),
        "storage_entries_total": disk.entries,
        "storage_entry_bytes_total": disk.bytes,
        "storage_queue": disk.waiting,
        "storage_snapshot_bytes": node.engine.snapshots.size_bytes(),
        "storage_snapshots_taken_total": node.snapshotter.taken,
        "storage_snapshot_last_seconds": node.snapshotter.last_seconds,
    }
    free = node.engine.disk_free_bytes()
    if free is not None:
        values["storage_free_bytes"] = free
    values.update(disk.sync_seconds.samples("storage_sync_seconds"))
    return values


def _peers(node: Node) -> dict[str, float]:
    transport, service = node.transport, node.peer_service
    members, _ = node.membership.published
    voters = [member.id for member in members if not member.learner]
    values: dict[str, float] = {
        "cluster_voters": len(voters),
        "cluster_voters_connected": sum(voter == node.id or transport.connected(voter) for voter in voters),
        "peer_messages_unsent_total": transport.unsent,
        "peer_refused_total": service.refused,
        "peer_malformed_total": service.malformed,
    }
    for member, channels in transport.links():
        for channel in channels:
            labels = f'{{peer="{member.name}",channel="{channel.kind}"}}'
            values[f"peer_queue{labels}"] = len(channel.outbox)
            values[f"peer_batches_total{labels}"] = channel.batches
            values[f"peer_sent_bytes_total{labels}"] = channel.bytes
            values[f"peer_connects_total{labels}"] = channel.connects
            values[f"peer_dropped_total{labels}"] = channel.outbox.dropped
    return values
