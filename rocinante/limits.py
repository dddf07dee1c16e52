"""Every bound of Rocinante, with its unit as the last word of its name. The Raft core has its own in `raft/options.py`.

Where a number comes from a measurement or from another system, the comment says so.
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * 1024

# --- requests (etcd: 1.5 MiB and 128 operations; Consul: 512 KiB values)
KEY_BYTES_MAX: Final = 1 * KIB
VALUE_BYTES_MAX: Final = 512 * KIB
REQUEST_BYTES_MAX: Final = 1536 * KIB
TXN_OPERATIONS_MAX: Final = 128
TXN_DEPTH_MAX: Final = 8
RANGE_RESPONSE_BYTES_MAX: Final = 16 * MIB
"""A range that would answer more is refused with RESOURCE_EXHAUSTED and the advice to page with `limit`."""
REQUEST_TIMEOUT_S: Final = 5.0
"""How long a request waits for its commit or its read point when the caller sets no deadline."""
REQUEST_TIMEOUT_S_MAX: Final = 60.0

# --- gRPC
GRPC_MESSAGE_BYTES_MAX: Final = 20 * MIB
GRPC_CONCURRENT_RPCS_MAX: Final = 4096

# --- node: ingress (client side of the driver)
INGRESS_PROPOSALS_MAX: Final = 8192
INGRESS_BYTES_MAX: Final = 64 * MIB
INGRESS_READS_MAX: Final = 16384
INGRESS_MESSAGES_MAX: Final = 8192
"""Protocol messages from peers; beyond it the newest are dropped and counted (Raft repairs a lost message)."""
ENTRY_COMMANDS_MAX: Final = 4096
"""Commands that the driver packs into one log entry."""
ENTRY_BYTES_MAX: Final = 4 * MIB

# --- node: peers
PEER_QUEUE_MESSAGES_MAX: Final = 4096
PEER_QUEUE_BYTES_MAX: Final = 64 * MIB
PEER_BATCH_BYTES_MAX: Final = 8 * MIB
SNAPSHOT_CHUNK_BYTES: Final = 1 * MIB
SNAPSHOT_TRANSFER_TIMEOUT_S: Final = 600.0

# --- node: log and snapshots
DISK_QUEUE_READYS_MAX: Final = 1024
COMPACT_ENTRIES: Final = 20_000
"""A snapshot is taken when this many entries were applied since the last one …"""
COMPACT_BYTES: Final = 256 * MIB
"""… or this many bytes of them."""
COMPACT_KEEP_ENTRIES: Final = 5_000
"""Entries kept behind a snapshot so that a slow follower need not get all of it."""
SNAPSHOTS_KEPT: Final = 2

# --- client sessions (dissertation, section 6.3)
SESSIONS_MAX: Final = 10_000
SESSION_WINDOW_MAX: Final = 4096
"""Requests of one session whose outcome is kept for a retry."""
SESSION_RESULT_BYTES_MAX: Final = 64 * MIB
"""All cached results together; the oldest go first."""
SESSION_IDLE_MS_MAX: Final = 3_600_000

# --- watches
WATCH_QUEUE_EVENTS_MAX: Final = 4096
WATCH_QUEUE_BYTES_MAX: Final = 32 * MIB
WATCH_HISTORY_ENTRIES_MAX: Final = 8192
WATCH_HISTORY_BYTES_MAX: Final = 64 * MIB
WATCHERS_MAX: Final = 1024

# --- flows
FLOW_BATCH_RECORDS_MAX: Final = 65_536
FLOW_BATCH_BYTES_MAX: Final = 8 * MIB
FLOW_APPLICATION_DATA_BYTES_MAX: Final = 1 * KIB
FLOW_BACKEND_NAME_BYTES_MAX: Final = 255
FLOW_ORIGIN_BYTES_MAX: Final = 63
FLOW_LIST_RECORDS_MAX: Final = 10_000
FLOW_EXPIRE_KEYS_MAX: Final = 10_000
