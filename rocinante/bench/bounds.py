"""Every bound of the benchmarks, with its unit; as rocinante/limits.py is for all that a cluster does."""

from __future__ import annotations

from typing import Final

from rocinante.limits import MIB

BENCH_CLIENTS_MAX: Final = 10_000
BENCH_PROCESSES_MAX: Final = 64
BENCH_KEYS_MAX: Final = 1_000_000
BENCH_CALLS_MAX: Final = 5_000_000
"""Of one stage: the latency of each call is kept (8 bytes), so that percentiles are exact."""
BENCH_SECONDS_MAX: Final = 3_600.0
BENCH_ERROR_PAUSE_S: Final = 0.05
"""A client whose call failed waits so long before its next one, so that a cluster that is away is not hammered."""
BENCH_START_TIMEOUT_S: Final = 120.0
"""Until all load processes have connected and made their requests."""
BENCH_FLOWS_MAX: Final = 1 << 30
"""Different flows that the load can make."""
BENCH_TABLE_MAX: Final = 32_000_000
"""Flows that are put before a measurement."""
BENCH_IN_FLIGHT_MAX: Final = 1_024
"""Batches of one writer on their way."""
BENCH_OPEN_IN_FLIGHT_MAX: Final = 64
"""The same in an open loop: beyond it a batch is sent late; its latency counts from when it was due all the same."""
BENCH_STAGES_MAX: Final = 64
BENCH_PREPARED_BYTES_MAX: Final = 384 * MIB
"""Requests that a load process makes before it is measured …"""
BENCH_PREPARED_BATCHES_MAX: Final = 16_384
"""… and their number: small ones cost little while they are sent."""
BENCH_PREPARED_RECORDS_PER_S: Final = 1_500_000
BENCH_PREPARED_BATCHES_PER_S: Final = 2_000
"""What a closed loop is prepared for, at most."""
BENCH_FILL_RECORDS: Final = 8_192
"""Records of a batch while a table is filled (fewer where they are large) …"""
BENCH_FILL_IN_FLIGHT: Final = 4
"""… and such batches on their way."""
BENCH_FILL_TIMEOUT_S: Final = 600.0
BENCH_SETTLE_SHARE: Final = 0.15
"""A table is filled when no node takes more than this of a processor any more: snapshots of it are written, …"""
BENCH_SETTLE_POLL_S: Final = 0.5
BENCH_SETTLE_MAX_S: Final = 60.0
"""… or after this long: on a given cluster there may be other work."""
BENCH_ZONE: Final = 65_000
"""The zone of the benchmarks' flows, by which they are removed again."""
BENCH_FLOW_LIFE_MS: Final = 3_600_000
"""The flows of a benchmark that could not remove them end by themselves."""
BENCH_READY_TIMEOUT_S: Final = 120.0
"""Until a node that was started is ready."""
BENCH_STOP_TIMEOUT_S: Final = 60.0
BENCH_POLL_S: Final = 0.02
BENCH_WRITE_TIMEOUT_S: Final = 60.0
"""A write of `bench failover` with all its tries."""
BENCH_WATCH_END_S: Final = 30.0
"""Until the watcher of `bench failover` has seen the last write."""
BENCH_ROUNDS_MAX: Final = 1_000
