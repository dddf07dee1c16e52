"""What a seed decides before anything happens: sizes, limits (tiny ones too), options, delays."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any, Final

from rocinante.config import ClusterConfig, Controller, IngressLimits, StorageOptions, Timers
from rocinante.raft.options import RotationMode

SIZES: Final = (1, 2, 3, 3, 3, 3, 4, 5, 5, 6, 7)
STORMS_S: Final = (0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 12.0, 25.0)
"""How long faults go on (virtual seconds): mostly short and dense, since a seed finds more at its beginning."""
CALM_S_MAX: Final = 2.0
"""Before the first fault."""


@dataclass(slots=True)
class Weather:
    """How slow things are (seconds) and how likely (probabilities), the same for all hosts of a run."""

    disk_max: float
    apply_max: float
    apply_aside: float
    """How often entries wait for the thread `apply`, however little they are."""
    disk_min: float = 0.0005


@dataclass(slots=True)
class Drawn:
    """See the module."""

    tiny: dict[str, int]
    """Of `rocinante.limits`."""
    raft: dict[str, Any]
    """Of the core's options."""
    weather: Weather
    config: ClusterConfig
    calm_s: float
    storm_s: float
    keys: int
    key_clients: int
    flow_clients: int
    watchers: int


def draw(random: Random) -> Drawn:
    choice = random.choice
    return Drawn(
        tiny=_limits(random),
        raft=_options(random),
        weather=Weather(
            disk_max=choice((0.001, 0.003, 0.03)), apply_max=choice((0.0005, 0.01)), apply_aside=choice((0.0, 0.2, 1.0))
        ),
        config=_config(random),
        calm_s=random.uniform(0.0, CALM_S_MAX),
        storm_s=choice(STORMS_S),
        keys=choice((1, 2, 4)),
        key_clients=random.randint(1, 4),
        flow_clients=choice((0, 0, 1, 2)),
        watchers=choice((0, 1, 2)),
    )


def _limits(random: Random) -> dict[str, int]:
    choice = random.choice
    return {
        "SNAPSHOT_CHUNK_BYTES": choice((256, 4096, 1 << 20)),
        "ENTRY_COMMANDS_MAX": choice((1, 2, 4096)),
        "DISK_QUEUE_READYS_MAX": choice((1, 3, 1024)),
        "GROUP_ENTRIES": choice((1, 2, 100)),
        "APPLY_INLINE_BYTES": choice((0, 100, 16 * 1024)),
        "SESSIONS_MAX": choice((5, 20, 10_000)),
        "SESSION_WINDOW_MAX": choice((2, 4096)),
        "SESSION_IDLE_MS_MAX": choice((4_000, 20_000, 3_600_000)),
        "SNAPSHOTS_KEPT": choice((1, 2)),
        "FORWARDS_REMEMBERED_MAX": choice((1, 1024)),
        "READ_ROUNDS_MAX": choice((1, 4096)),
        "CLOCK_INTERVAL_MS": choice((2_000, 60_000)),
        "WATCH_QUEUE_EVENTS_MAX": choice((1, 4096)),
        "WATCH_PAGE_EVENTS_MAX": choice((1, 1000)),
        "WATCH_DRAIN_ENTRIES_MAX": choice((1, 256)),
    }


def _options(random: Random) -> dict[str, Any]:
    choice = random.choice
    return {
        "max_inflight_appends": choice((1, 2, 256)),
        "max_append_bytes": choice((1, 200, 1 << 20)),
        "max_committed_bytes": choice((1, 200, 1 << 22)),
        "max_uncommitted_bytes": choice((500, 2_000, 1 << 26)),
        "max_applying_bytes": choice((1, 1 << 26)),
        "max_pending_reads": choice((1, 1 << 16)),
        "lazy_commit": random.random() < 0.7,
        "frugal_reads": random.random() < 0.7,
        "rotation": choice((RotationMode.OFF, RotationMode.OFF, *RotationMode)),
        "rotation_min_ticks": 30,
        "rotation_max_ticks": 150,
    }


def _config(random: Random) -> ClusterConfig:
    choice = random.choice
    size, compact = choice(SIZES), choice((3, 5, 20, 100, 20_000))
    return ClusterConfig(
        name="simulated",
        controllers=tuple(
            Controller(f"node{number}", "127.0.0.1", 35000 + number, 8000 + number) for number in range(1, size + 1)
        ),
        timers=Timers(tick_ms=choice((25, 50, 100)), heartbeat_ms=100, election_ms=500, request_timeout_ms=3000),
        storage=StorageOptions(
            compact_entries=compact, keep_entries=choice((0, 3, compact)), keep_revisions=choice((5, 50, 100_000))
        ),
        limits=IngressLimits(ingress_proposals=choice((2, 4096))),
    )
