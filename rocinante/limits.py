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
PEER_HEARTBEAT_QUEUE_MESSAGES_MAX: Final = 256
PEER_TEXT_CHARACTERS_MAX: Final = 1024
"""A reason or a version that a peer tells: it goes into logs, answers and status pages."""
PEER_REDIAL_MS_MAX: Final = 200
"""Wait before the next dial, jittered down to half."""
PEER_REFUSED_REDIAL_S: Final = 1.0
"""Wait before the next dial to a peer that refused this node: nothing changes within a fraction of a second."""
PEER_SETTLED_S: Final = 0.3
"""A stream that holds for so long is a connection (a refusal comes within a round trip)."""
PEER_PROBLEMS_SAID_MAX: Final = 16
"""Different reasons that the log gets why one peer is cut off, until it is back."""
PEER_GONE_TIMEOUT_S: Final = 0.3
"""How long it may take to find out whether the host of a peer that went silent refuses connections."""
PEER_GONE_LOOKS_S: Final = (0.02, 0.04, 0.08, 0.16)
"""Pauses before it is looked again where it still took one: a process that was killed closes its connections and the
socket that it listens on one after the other."""
GONE_CAMPAIGN_MS_MIN: Final = 20
"""From when a follower knows that the leader's process has ended until the first one runs for election: before that the
others may not know it, and then they do not answer …"""
GONE_CAMPAIGN_MS_MAX: Final = 40
"""… drawn at random up to this, for those that do not agree on who comes first …"""
GONE_CAMPAIGN_STEP_MS: Final = 150
"""… and so much more for each that comes before, in the order of the ids: longer than an election takes, so that no two
split the votes."""
GONE_CAMPAIGNS_MAX: Final = 4
"""How often it runs, while nobody is elected, before it leaves it to the election time-out."""
PEER_DIAL_TIMEOUT_S: Final = 2.0
PEER_KEEPALIVE_MS: Final = 5_000
PEER_KEEPALIVE_TIMEOUT_MS: Final = 5_000
PEER_FRESH_MS: Final = 3_000
"""A peer that was not heard for longer counts as cut off on status pages."""
PEER_GUESTS_MAX: Final = 16
"""Peers that are in no configuration known here, of which an address is remembered."""
PEER_INFO_MS: Final = 1_000
"""How often a node tells the others its role and progress."""
SNAPSHOT_CHUNK_BYTES: Final = 1 * MIB
SNAPSHOT_TRANSFER_TIMEOUT_S: Final = 600.0

# --- node: log and snapshots
HEAP_BUFFER_BYTES: Final = 32 * MIB
"""Buffers up to this size come from the heap (glibc's largest M_MMAP_THRESHOLD) …"""
HEAP_KEPT_BYTES: Final = 128 * MIB
"""… which keeps so much free memory at its end."""
DISK_QUEUE_READYS_MAX: Final = 1024
COMPACT_ENTRIES: Final = 20_000
"""A snapshot is taken when this many entries were applied since the last one …"""
COMPACT_BYTES: Final = 256 * MIB
"""… or this many bytes of them."""
COMPACT_KEEP_ENTRIES: Final = 5_000
"""Entries kept behind a snapshot so that a slow follower need not get all of it …"""
COMPACT_KEEP_BYTES: Final = 64 * MIB
"""… but no more than this of them: the log is in memory too."""
COMPACT_CHEAP_BYTES: Final = 64 * MIB
"""A snapshot up to this size is taken whenever `compactEntries` or `compactBytes` say so (it costs about 0.1 s) …"""
COMPACT_SHARE: Final = 0.5
"""… a larger one only when the log since the last one is this share of it, and of the flow tables, which may have grown
since: snapshots of a large state for every little growth of the log would cost more than the log itself …"""
COMPACT_ENTRY_BYTES: Final = 8 * KIB
"""… where an entry counts this much beside its bytes, for what it takes to apply it again at a start."""
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
FLOW_DELETE_KEYS_MAX: Final = 10_000
"""Keys in one request to delete flows."""
FLOW_EXPIRE_ROWS_MAX: Final = 65_536
"""Rows of a table that one command looks through, for flows past their deadline or for what a filter means (at most
about 10 ms)."""
FLOW_DELETE_CALL_S: Final = 1.0
"""What one call of a deletion by filter does in, before it answers with a cursor."""

COMMAND_BYTES_MAX: Final = FLOW_BATCH_BYTES_MAX + 1 * KIB
"""The largest command that any request becomes: a flow batch, with its header and origin."""

# --- storage (storage/)
DISK_RESERVE_BYTES: Final = 512 * MIB
"""Below this much free room writes are refused: enough for a snapshot and for LevelDB to compact."""
LOG_WRITE_BUFFER_BYTES: Final = 16 * MIB
"""LevelDB's memtable, and so the longest write-ahead log that an open replays (twice that while one is flushed)."""
LOG_FILE_BYTES: Final = 8 * MIB
LOG_OPEN_FILES_MAX: Final = 256
LOG_CACHE_BYTES: Final = 1 * MIB
"""The log is read once, at the start: a block cache would only cost memory."""
LOG_TRIM_ENTRIES: Final = 512
"""Old entries deleted in one unsynced batch, so that no synced write waits long behind it."""
LOG_RECLAIM_BYTES: Final = 64 * MIB
"""Growth of LevelDB's files after which it is asked to give back the room of deleted entries."""
LOG_PROGRESS_ENTRIES: Final = 2048
"""How often a load reports its progress."""
SNAPSHOT_HEADER_BYTES_MAX: Final = 1 * MIB
SNAPSHOT_READ_BYTES: Final = 1 * MIB
SNAPSHOT_SYNC_BYTES: Final = 4 * MIB
"""A snapshot's file is synced whenever so much more of it was written: the log's syncs wait for no more than that."""

# --- configuration (config/)
CONFIG_FILE_BYTES_MAX: Final = 256 * KIB
CONFIG_NODES_MAX: Final = 20_000
"""Values in one file; an alias counts once, for only what an option asks for is ever looked at."""
CONFIG_DEPTH_MAX: Final = 16
CONFIG_CONTROLLERS_MAX: Final = 64
CONFIG_DATACENTERS_MAX: Final = 63
"""Other than the one that the file is of."""
CONFIG_PROBLEMS_MAX: Final = 100
"""Mistakes listed; the rest are counted."""
NAME_BYTES_MAX: Final = 63
"""Of a cluster, a datacenter, a controller: they become names of directories and labels of metrics."""

# --- REST (rest/)
REST_BODY_BYTES_MAX: Final = FLOW_BATCH_BYTES_MAX
"""The largest body of any request (`POST /v1/flows`); the others are held to less, see `rest/server.py`."""
REST_JSON_BYTES_MAX: Final = 64 * KIB
"""Bodies of the administrative requests."""
REST_HEADER_BYTES_MAX: Final = 32 * KIB
"""Request line and header; a key of 1 KiB takes three times that in a URL."""
REST_BODY_MEMORY_BYTES_MAX: Final = 1 * MIB
"""A larger body waits in a temporary file (unlinked), so that many at once do not take the memory."""
REST_RECEIVE_BYTES: Final = 64 * KIB
REST_SEND_BUFFER_BYTES_MAX: Final = 4 * MIB
"""What one answer may have waiting for a slow reader before its thread waits too."""
REST_THREADS: Final = 32
"""Requests at work at the same time; event streams have threads of their own."""
REST_THREADS_RESERVED: Final = 4
"""Of these, so many never wait for consensus: health, status and metrics answer when nothing else does."""
REST_SLOT_WAIT_S: Final = 1.0
"""How long a request waits for a thread that may wait for consensus; then 429."""
REST_EVENT_STREAMS_MAX: Final = 16
REST_CONNECTIONS_MAX: Final = 512
REST_BACKLOG: Final = 256
REST_IDLE_TIMEOUT_S: Final = 60
"""A connection without a request."""
REST_REQUEST_TIMEOUT_S: Final = 60
"""From the first byte of a request to its last: one byte a minute does not hold a connection (waitress counts every
byte as life).
"""
REST_STALL_TIMEOUT_S: Final = 30
"""A reader that takes nothing of its answer for so long is cut off."""
REST_LINGER_S: Final = 5.0
"""How long what a client goes on sending after its request was refused is read and dropped, so that it sees why."""
REST_STOP_TIMEOUT_S: Final = 5.0
REST_KEYS_PAGE_DEFAULT: Final = 100
REST_KEYS_PAGE_MAX: Final = 10_000
REST_FLOWS_PAGE_DEFAULT: Final = 100
REST_LOG_LINES_DEFAULT: Final = 20
REST_LOG_LINES_MAX: Final = 1000
REST_EVENT_FLOWS_MAX: Final = 500
"""Flow objects in one server-sent event; a larger batch comes as several."""
REST_EVENT_HEARTBEAT_S: Final = 10.0
REST_EVENT_POLL_S: Final = 1.0
"""How often an idle stream looks for a change of role and a client that is gone; also the interval of `status`
events.
"""

# --- client
CLIENT_ENDPOINTS_MAX: Final = 64
"""Nodes that a client keeps in mind: what it was given and what it discovered."""
CLIENT_TIMEOUT_S: Final = 10.0
"""A whole call with all its tries, where the caller sets no other."""
CLIENT_TIMEOUT_S_MAX: Final = 86_400.0
CLIENT_TRY_TIMEOUT_S: Final = 2.0
"""How long the first try waits for its answer; each later one that also runs out of time waits twice as long as the
one before.
"""
CLIENT_TRIES_MAX: Final = 1000
CLIENT_BACKOFF_S: Final = 0.02
"""The first pause after every known node was tried; it doubles, jittered, up to …"""
CLIENT_BACKOFF_S_MAX: Final = 1.0
CLIENT_NODE_REST_S: Final = 0.5
"""How long a node that did not answer is asked last; it doubles with each failure up to …"""
CLIENT_NODE_REST_S_MAX: Final = 5.0
CLIENT_DISCOVERY_INTERVAL_S: Final = 30.0
CLIENT_CLOSE_TIMEOUT_S: Final = 0.5
"""What closing a client may wait to end its session on the cluster (it ends by itself when idle)."""
WRITER_BATCH_RECORDS: Final = 4096
"""A flow writer's batch is full with so many records …"""
WRITER_BATCH_BYTES: Final = 2 * MIB
"""… or bytes."""
WRITER_PACK_RECORDS_MIN: Final = 512
"""A batch of so many records is sent packed; of fewer, the columns cost more than the bytes."""
WRITER_LINGER_S: Final = 0.005
"""How long the first record of a batch waits for more, while another batch is on its way."""
WRITER_IN_FLIGHT: Final = 8
"""Batches of a writer on their way at a time."""
WRITER_IN_FLIGHT_MAX: Final = 256
WRITER_RECORDS_MAX: Final = 131_072
"""Records that a writer holds, waiting and on their way (about 450 bytes of memory each)."""
WRITER_BYTES_MAX: Final = 64 * MIB
WRITER_CLOSE_TIMEOUT_S: Final = 5.0
"""How long closing a writer waits for its thread."""
CLIENT_RANGE_PAGE_KEYS: Final = 500
CLIENT_LIST_PAGE_RECORDS: Final = 1000
CLIENT_SAVE_TIMEOUT_S: Final = 600.0
"""An online backup, or a snapshot, where the caller sets no bound."""
CLIENT_REST_CONNECTIONS_MAX: Final = 64
CLIENT_REST_BODY_BYTES_MAX: Final = 64 * MIB
RATE_FLOWS_MAX: Final = 200_000
"""Flows whose rates `flow top` follows (about 500 bytes each); beyond it those without news are forgotten."""
RATE_STALE_FACTOR: Final = 3
"""A rate holds for so many times the time between the two updates that told it, …"""
RATE_STALE_MS_MIN: Final = 3_000
"""… but at least for this."""
CLI_TOP_ROWS_MAX: Final = 1_000
CLI_TOP_SNAPSHOT_FLOWS_MAX: Final = 100_000
"""In a larger table `flow top` does not read the counters that are there before it begins."""
CLI_JSON_LINE_BYTES_MAX: Final = 64 * KIB

# --- services (the gRPC server)
LEADER_VIEW_AGE_S_MAX: Final = 0.05
"""How old the leader named in an answer's trailing metadata may be."""
GRPC_METADATA_BYTES_MAX: Final = 16 * KIB
GRPC_KEEPALIVE_TIME_MS: Final = 10_000
"""A silent client is pinged after so long, …"""
GRPC_KEEPALIVE_TIMEOUT_MS: Final = 5_000
"""… and its connection is closed when it does not answer within this."""
GRPC_CLIENT_PING_INTERVAL_MS_MIN: Final = 1_000
"""A client that pings more often is told to calm down (etcd: 5 s; the peers' channels ping every
`PEER_KEEPALIVE_MS`).
"""
GRPC_START_TIMEOUT_S: Final = 10.0
GRPC_WORKERS_MAX: Final = 2
"""Threads for what would hold up the event loop: large answers and batches, and backups."""
GATHER_IDLE_TURNS: Final = 10
"""Turns of the event loop without a new request, after which what was gathered goes to the node."""
GATHER_REQUESTS_MAX: Final = 256
RANGE_INLINE_KEYS_MAX: Final = 64
"""A range limited to so many keys is answered on the event loop; others on a worker."""
WATCHES_PER_STREAM_MAX: Final = 1024
WATCH_REQUESTS_MAX: Final = 16
"""Requests of a stream that wait until what was answered is read; beyond it nothing more is read from it (etcd: 16)."""
WATCH_PROGRESS_INTERVAL_S: Final = 600.0
"""etcd's default for watches created with `progress_notify`."""
WATCH_RESPONSE_BYTES_MAX: Final = 256 * KIB
"""Events of one answer on a stream; more are sent in several. gRPC holds it three times over until the client reads."""
WATCH_PAGE_EVENTS_MAX: Final = 1_000
"""Events that a watch from an old revision reads from the history in one step."""
WATCH_DRAIN_ENTRIES_MAX: Final = 256
"""Log entries whose events are gathered before they are sent."""
FLOW_WATCH_RECORDS_MAX: Final = 1_000
"""Flows as objects in one event; what is more comes in several."""
FLOW_WATCH_RESPONSE_BYTES_MAX: Final = 1 * MIB
"""Events of one answer of a flow watch: a larger message costs gRPC little more than a small one."""
FLOW_BATCH_ROWS: Final = 16_384
"""Rows of the table that become one batch of a watch's snapshot (about 3 ms under the state's lock)."""
FLOW_WATCH_SILENT_ENTRIES_MAX: Final = 1_024
"""After so many entries without anything for a flow watch it is told the index alone, so that it can resume from
there.
"""
FLOW_GET_KEYS_MAX: Final = 10_000
FLOW_LOOKUP_KEYS_MAX: Final = 32_768
"""Packed keys in one look-up; the records of so many fit one message."""
FLOW_LOOKUP_VARIABLE_BYTES_MAX: Final = 8 * MIB
"""Records of the variable kind in the answer to a packed look-up."""
FLOW_LOOKUP_INLINE_KEYS: Final = 2_048
"""So many packed keys are looked up on the event loop (about 0.5 ms); more on a worker thread."""
FLOW_LIST_RECORDS_DEFAULT: Final = 100
LOG_LINES_MAX: Final = 1_000
LOG_LINES_DEFAULT: Final = 20

# --- node: driver
GROUP_ENTRIES: Final = 2
"""With this many entries on their way to the quorum, further proposals gather for the next one (group commit) …"""
GROUP_BYTES: Final = 256 * KIB
"""… until there are this many bytes of them."""
GROUP_FORWARDS: Final = 2
"""The same for what a follower forwards …"""
GROUP_READ_ROUNDS: Final = 2
"""… and for ReadIndex rounds."""
APPLY_INLINE_BYTES: Final = 16 * KIB
"""Up to so much is applied by the driver itself when the apply thread is idle: two thread switches less."""
DRIVER_SWEEP_MS: Final = 50
"""How often the driver looks for requests whose time is up."""
DRIVER_TICKS_MAX: Final = 50
"""Ticks made up for after the process stood still; a longer pause counts as this much."""
TRANSFER_TIMEOUT_S: Final = 5.0
LOG_TAIL_ENTRIES_MAX: Final = 1_000
"""Entries that `/v1/log` can show."""
CLOCK_INTERVAL_MS: Final = 10_000
"""How often the leader says the cluster's time (node/cluster_clock.py)."""
CLOCK_STEP_MS: Final = 1_000
"""Towards a wall clock that is off by no more than this the cluster's time moves by …"""
CLOCK_SLEW_PERCENT: Final = 5
"""… this share of the time that passes; …"""
CLOCK_NEAR_MS: Final = 60_000
"""… at double or half speed where it is off by no more than this: a CLOCK that a node finds when it catches up is as
old as CLOCK_INTERVAL_MS and a time without a leader. A wall clock that is further off has jumped."""
CLOCK_DRIFT_PER_MILLE: Final = 1
"""What one host's monotonic clock may gain on another's (crystals: 0.1)."""
CLOCK_HOLD_MS: Final = 300_000
"""How long a wall clock that jumped must hold still before the cluster's time follows it."""
EXPIRE_INTERVAL_MS: Final = 1_000
EXPIRE_SCAN_ROWS: Final = 16_000_000
"""Rows that one round of the leader's search for flows past their deadline looks at (about 1 ns each)."""
EXPIRE_ROWS: Final = 16_384
"""Rows that one command to expire covers: at most 2.4 ms for each node (65,536: 7 ms)."""
EXPIRE_COMMANDS_MAX: Final = 1
"""Commands to expire that may be under way …"""
EXPIRE_REST_MAX_S: Final = 0.05
"""… and between one and the next the leader rests for as long as the last one took, up to this: what ends together
takes about half of the nodes' time, and writes have the other half."""
FLOW_RELEASE_PAUSE_S: Final = 0.002
"""Between two steps of giving memory back: other threads run."""

# --- node: bounds of the state
KEY_STORE_BYTES_MAX: Final = 2 * 1024 * MIB
"""etcd's default quota."""
FLOW_TABLE_RECORDS_MAX: Final = 10_000_000
FLOW_TABLE_BYTES_MAX: Final = 4 * 1024 * MIB
"""The defaults of `flows.max` and `flows.maxBytes`."""
FLOW_TIMEOUT_S_MAX: Final = 315_360_000
"""Ten years."""
FLOW_ZONES_MAX: Final = 1_024
"""Zones with time-outs of their own (40 KiB of memory each)."""
QUOTA_ALARM_RATIO: Final = 0.9
KEEP_REVISIONS: Final = 100_000
KEEP_REVISIONS_SLACK: Final = 0.25
"""History is compacted when it is longer than `keepRevisions` by this share: not all the time."""

LINEAGE_TIMEOUT_S: Final = 2.0
"""How long a node without data waits for what the others say of their cluster (node/lineage.py)."""
LINEAGE_ANSWER_BYTES_MAX: Final = 4 * MIB
LINEAGE_CHARACTERS_MAX: Final = 63
RESTORE_SKIP: Final = 1_000_000_000
"""Revisions and log indexes that a restore leaves out, so that none is used twice (a day of 10,000 writes a
second)."""
REMOVED_LINGER_S: Final = 2.0
"""How long a node that was removed still answers its peers, so that they hear of the removal."""

# --- node: stop
DRAIN_TIMEOUT_S: Final = 5.0
GRPC_STOP_GRACE_S: Final = 1.0
THREAD_JOIN_TIMEOUT_S: Final = 5.0
FORWARD_RETRY_S: Final = 1.0
"""A forward without an outcome is sent again after this (and at once when the leader changes)."""
FORWARDS_REMEMBERED_MAX: Final = 1024
"""Forwards whose refusal can still be told from their loss."""
REFUSED_PAUSE_S: Final = 0.01
"""Wait before what the leader refused is offered again."""
READ_ROUNDS_MAX: Final = 4096
"""ReadIndex rounds of one node that are under way at once; beyond it reads wait for the next."""
APPLIED_WAITS_MAX: Final = 4096
"""Requests that wait until this node has applied an index; each entry that is applied looks at all of them."""
READ_RETRY_S: Final = 0.5
"""A forwarded ReadIndex request without an answer is asked again after this."""
PROMOTE_LAG_ENTRIES_MAX: Final = 1_000
"""A learner further behind is not made a voter: it would only be a burden to the quorum."""

# --- the state machine
KV_PIECE_KEYS: Final = 1024
"""Keys that a reader looks at before it lets go of the state's lock for a moment (about 1 ms)."""
KV_COMPACT_STEP_CHANGES: Final = 1024
"""Changes whose compaction is carried out with each entry applied, so that a large one does not stop the node."""
KV_EVENTS_PAGE_CHANGES_MAX: Final = 1024
FLOW_ORIGINS_MAX: Final = 64
"""Datacenters that own flows; a look-up asks each of them."""
FLOW_RECORDS_MAX: Final = 32_000_000
"""Records of all origins (about 250 bytes of memory each); a batch that might pass it is refused."""
FLOW_OUTSIDE_BYTES_MAX: Final = 8 * 1024 * MIB
"""Values that stand outside the fixed rows (names, application data), of all flows together."""
FLOW_RELEASE_STEP_BYTES: Final = 4 * MIB
"""Memory of an emptied table that is given back in one go (about 0.4 ms, in which no other thread runs)."""
FLOW_PIECE_RECORDS: Final = 2048
"""Records that a reader looks at before it lets go of the state's lock for a moment (about 1 ms)."""
FLOW_SCAN_RECORDS_MAX: Final = 200_000
"""Records that one page of a list looks at; a page may be short of its limit, and have a cursor."""
STATE_FREEZES_MAX: Final = 4
"""Frozen states held at a time: a snapshot, a backup, a digest, and one more."""
SESSION_RESULT_BYTES_ONE_MAX: Final = 1 * MIB
"""A result larger than this is not kept for a retry; the retry is told so."""
SESSION_OUTCOME_OVERHEAD_BYTES: Final = 128
"""What keeping one outcome costs beside its bytes, counted in SESSION_RESULT_BYTES_MAX."""
STATE_SECTION_BYTES_MAX: Final = 64 * MIB
"""One section of a snapshot; a longer one is taken for damage."""
NOTIFY_INTERVAL_S: Final = 1.0
START_EXTEND_S: Final = 30.0
"""While a long log is replayed, systemd is asked for this much more time, again and again."""

# --- agents: the sniffer
SNIFF_FLOWS_MAX: Final = 200_000
"""Default of --max-flows: about 600 bytes each."""
SNIFF_SNAPLEN_BYTES: Final = 192
"""Bytes of a packet that are captured: Ethernet, two VLAN tags, IPv6 with a few extension headers, TCP with options."""
SNIFF_SNAPLEN_BYTES_MIN: Final = 96
SNIFF_SNAPLEN_BYTES_MAX: Final = 65_535
SNIFF_RING_BYTES: Final = 16 * MIB
"""The kernel's buffer of one interface; what does not fit is dropped and counted."""
SNIFF_READ_PACKETS_MAX: Final = 2_048
"""Packets that are handled before the clock is looked at again."""
SNIFF_READ_BYTES: Final = 256 * KIB
"""Bytes of a file that are handled before the clock is looked at again."""
SNIFF_FRAGMENTS_MAX: Final = 1_024
"""Fragmented datagrams whose flow is remembered for their later fragments."""
SNIFF_BATCH_RECORDS_MAX: Final = 4_096
"""Records that are written with one call."""
SNIFF_BATCHES_MAX: Final = 4
"""Batches that are under way; then the tracker collects until one of them is done."""
SNIFF_FLUSH_MS: Final = 200
SNIFF_REFRESH_MS: Final = 5_000
"""Default of --refresh-ms: how old the counters of a flow without news may be in the cluster."""
SNIFF_REFRESH_MS_MAX: Final = 15_000
"""Half of the shortest time-out of a flow that lives on (UDP without an answer: 30 s), so that its deadline is always
moved in time.
"""
SNIFF_WRITE_TIMEOUT_S: Final = 5.0
SNIFF_RETRY_PAUSE_S: Final = 0.2
SNIFF_RETRY_PAUSE_S_MAX: Final = 2.0
SNIFF_FINAL_FLUSH_S: Final = 10.0
"""How long the end waits for what is not written yet."""
SNIFF_MEMBERS_INTERVAL_S: Final = 30.0
"""How often the cluster is asked for its members' endpoints, whose traffic is not recorded."""
SNIFF_KERNEL_ENDPOINTS_MAX: Final = 32
"""Own endpoints that the kernel's filter leaves out; more are left out after the capture."""
SNIFF_REPORT_INTERVAL_S: Final = 5.0
SNIFF_FOLLOW_INTERVAL_S: Final = 0.1
"""How often a file that is followed is looked at for more."""

# --- (those of the benchmarks are in rocinante/bench/bounds.py)

DRAIN_POLL_S: Final = 0.01
SWITCH_TIMEOUT_S: Final = 5.0
READY_POLL_S: Final = 0.2
SIGNAL_POLL_S: Final = 0.5

# --- the development cluster (`rocinante dev`)
DEV_NODES_MAX: Final = 9
DEV_STATUS_INTERVAL_S: Final = 0.5
DEV_STATUS_TIMEOUT_S: Final = 1.0
DEV_REFRESH_INTERVAL_S: Final = 0.25
DEV_PLAIN_INTERVAL_S: Final = 10.0
"""Without a terminal a line with everything is printed this often, beside the lines about what happens."""
DEV_STOP_TIMEOUT_S: Final = 10.0
"""How long nodes may take to end before they are killed."""
DEV_STOP_PATIENCE_S: Final = 2.0
DEV_SNIFFER_STOP_TIMEOUT_S: Final = 3.0
DEV_MESSAGES_MAX: Final = 6
DEV_LINE_BYTES_MAX: Final = 1_024
DEV_LOG_BYTES_MAX: Final = 16 * MIB
"""A node's log that is longer is put aside (one of them is kept) when the node starts."""
DEV_LOG_TAIL_BYTES: Final = 4_096
DEV_TRANSFER_TIMEOUT_S: Final = 5.0
