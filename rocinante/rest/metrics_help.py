"""What each metric means, for `# HELP`. A name that is not here gets its own words."""

from __future__ import annotations

from typing import Final

HELP: Final[dict[str, str]] = {
    "raft_role": "1 for the role that this node has, 0 for the others.",
    "raft_term": "Raft's term.",
    "raft_has_leader": "1 when this node knows a leader.",
    "raft_is_leader": "1 when this node leads.",
    "raft_commit_index": "Last log index known to be committed.",
    "raft_applied_index": "Last log index applied to the state machine.",
    "raft_last_index": "Last index of this node's log.",
    "raft_first_index": "First index that this node's log still has.",
    "raft_snapshot_index": "Log index of the latest snapshot.",
    "raft_leader_changes": "How often this node saw another leader.",
    "storage_log_bytes": "Size of the log, on disk or in memory.",
    "storage_alarms": "Alarms raised now (such as a disk that is nearly full).",
    "kv_revision": "Revision of the key-value store.",
    "kv_keys": "Keys that exist now.",
    "flow_records": "Flow records in the table, of all origins.",
    "grpc_enabled": "1 when the gRPC interface is switched on.",
    "node_uptime_seconds": "Time since the node started.",
    "peer_connected": "1 when this node is connected to the peer.",
    "peer_lag_entries": "Entries that the peer is behind.",
    "peer_heard_seconds": "Time since the last message from the peer; NaN: never.",
    "rest_queue_depth": "REST requests that wait for a thread.",
}


def help_text(name: str) -> str:
    """The meaning of a metric, by its name without `rocinante_` and `_total`."""
    return HELP.get(name) or f"{name.replace('_', ' ').capitalize()}."
