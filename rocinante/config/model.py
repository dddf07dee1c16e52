"""The cluster configuration as plain data, and the one place that says which options exist.

Every option is a dataclass field with `option(...)`: its YAML key, default, unit and bounds live in the field's
metadata, `load.py` reads them from there, and a test holds `packaging/rocinante.example.yaml` to them. An instance
that `load_config` returned is valid: nothing needs to be checked again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from rocinante import limits
from rocinante.config.flow_model import FlowOptions
from rocinante.config.option import META, Option, option
from rocinante.identity import cluster_id, endpoint, server_id

__all__ = [
    "META",
    "NO_FILE",
    "AuthOptions",
    "ClusterConfig",
    "Controller",
    "Datacenter",
    "FlowOptions",
    "IngressLimits",
    "LogLevel",
    "LogOptions",
    "Option",
    "RestOptions",
    "Rotation",
    "RotationMode",
    "StorageEngine",
    "StorageOptions",
    "Timers",
    "option",
]


NO_FILE: Final = Path()
"""Where a file is an option, and none is given."""


class RotationMode(StrEnum):
    OFF = "off"
    DELAY_HEARTBEATS = "delay_heartbeats"
    """The leader falls silent for longer than the longest election timeout, so that the others elect a new one."""
    TRANSFER = "transfer"
    """The leader hands over: no gap in service."""


class StorageEngine(StrEnum):
    LEVELDB = "leveldb"
    MEMORY = "memory"
    """Nothing is kept on disk: a node that restarts has forgotten everything, its vote too. For tests and throw-away
    clusters."""


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Timers:
    """Raft's clock. An election starts after `election_ms` to twice that without a word from a leader (raft paper,
    section 5.2 and 5.6)."""

    tick_ms: int = field(default=20, metadata=option("tickMs", minimum=1, maximum=1_000, unit="ms"))
    heartbeat_ms: int = field(default=100, metadata=option("heartbeatMs", minimum=5, maximum=60_000, unit="ms"))
    election_ms: int = field(default=1_000, metadata=option("electionMs", minimum=50, maximum=600_000, unit="ms"))
    request_timeout_ms: int = field(
        default=int(limits.REQUEST_TIMEOUT_S * 1_000),
        metadata=option("requestTimeoutMs", minimum=100, maximum=int(limits.REQUEST_TIMEOUT_S_MAX * 1_000), unit="ms"),
    )
    """How long a request waits for its commit or read point when its caller sets no deadline."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """Leader rotation: at random intervals between the two bounds."""

    mode: RotationMode = field(default=RotationMode.OFF, metadata=option("mode"))
    min_seconds: int = field(default=60, metadata=option("minSeconds", minimum=1, maximum=604_800, unit="s"))
    max_seconds: int = field(default=600, metadata=option("maxSeconds", minimum=1, maximum=604_800, unit="s"))


@dataclass(frozen=True, slots=True)
class StorageOptions:
    """Where and how the log and the snapshots are kept."""

    engine: StorageEngine = field(default=StorageEngine.LEVELDB, metadata=option("engine"))
    data_dir: Path = field(default=Path("/var/lib/rocinante"), metadata=option("dataDir"))
    """The base directory: each node keeps its data in `<dataDir>/<cluster name>-<controller name>`."""
    compact_entries: int = field(
        default=limits.COMPACT_ENTRIES,
        metadata=option("compactEntries", minimum=100, maximum=10_000_000, unit="entries"),
    )
    """A snapshot is taken, and the log compacted behind it, when this many entries were applied since the last one …"""
    compact_bytes: int = field(
        default=limits.COMPACT_BYTES,
        metadata=option("compactBytes", minimum=limits.MIB, maximum=64 * 1024 * limits.MIB, unit="bytes"),
    )
    """… or this many bytes of them."""
    keep_entries: int = field(
        default=limits.COMPACT_KEEP_ENTRIES,
        metadata=option("keepEntries", minimum=0, maximum=10_000_000, unit="entries"),
    )
    """Entries kept behind a snapshot, so that a slow follower need not get all of it."""
    keep_revisions: int = field(
        default=limits.KEEP_REVISIONS,
        metadata=option("keepRevisions", minimum=0, maximum=1_000_000_000, unit="revisions"),
    )
    """Older revisions of the keys are compacted by the leader now and then; 0: only when somebody asks for it."""
    disk_reserve_bytes: int = field(
        default=limits.DISK_RESERVE_BYTES,
        metadata=option("diskReserveBytes", minimum=0, maximum=1024 * 1024 * limits.MIB, unit="bytes"),
    )
    """Below this much free room on the data directory's file system an alarm is raised and writes are refused; reads
    go on."""


@dataclass(frozen=True, slots=True)
class IngressLimits:
    """The bounded buffer in front of the driver, and the bounds of the state; full is an answer (RESOURCE_EXHAUSTED,
    HTTP 429)."""

    ingress_proposals: int = field(
        default=limits.INGRESS_PROPOSALS_MAX,
        metadata=option("ingressProposals", minimum=16, maximum=1_000_000, unit="proposals"),
    )
    ingress_bytes: int = field(
        default=limits.INGRESS_BYTES_MAX,
        metadata=option("ingressBytes", minimum=4 * limits.MIB, maximum=16 * 1024 * limits.MIB, unit="bytes"),
    )
    key_bytes: int = field(
        default=limits.KEY_STORE_BYTES_MAX,
        metadata=option("keyBytes", minimum=limits.MIB, maximum=256 * 1024 * limits.MIB, unit="bytes"),
    )
    """Keys and values with their kept history, in memory. At 90 % an alarm is raised; beyond it puts are refused,
    deletes and compactions are not."""


@dataclass(frozen=True, slots=True)
class LogOptions:
    level: LogLevel = field(default=LogLevel.INFO, metadata=option("level"))


@dataclass(frozen=True, slots=True)
class RestOptions:
    allowed_hosts: tuple[str, ...] = field(default=(), metadata=option("allowedHosts"))
    """Names that a request's Host header may carry beside the addresses and names of this host (against DNS rebinding,
    CVE-2018-1098)."""
    threads: int = field(
        default=limits.REST_THREADS, metadata=option("threads", minimum=1, maximum=256, unit="threads")
    )


@dataclass(frozen=True, slots=True)
class AuthOptions:
    token_file: Path = field(default=NO_FILE, metadata=option("tokenFile"))
    """The access tokens (tokens.py), in a file of each host; without one everybody is let in."""


@dataclass(frozen=True, slots=True)
class Controller:
    """One node of the cluster."""

    name: str
    address: str
    """An IP address in its one spelling."""
    port: int
    """gRPC, for clients and peers."""
    rest: int
    """HTTP: REST, metrics and the page."""
    wwwroot: Path | None = None
    """The files of the page; None: the packaged ones (also where the configured directory does not exist, with a
    warning)."""

    @property
    def id(self) -> int:
        """The server id (DESIGN, section 4)."""
        return server_id(self.address, self.port)

    @property
    def endpoint(self) -> str:
        """`IP:PORT` of gRPC; an IPv6 address in brackets."""
        return endpoint(self.address, self.port)

    @property
    def rest_endpoint(self) -> str:
        return endpoint(self.address, self.rest)


@dataclass(frozen=True, slots=True)
class Datacenter:
    """Another datacenter, which is a cluster of its own."""

    name: str
    endpoints: tuple[str, ...]
    """`IP:PORT` of gRPC of its controllers."""


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """All of `artifact`."""

    name: str
    controllers: tuple[Controller, ...]
    datacenter: str = "dc1"
    cleanup_on_failure: bool = False
    """Remove a node's half-made data directory when its first start fails."""
    datacenters: tuple[Datacenter, ...] = ()
    """The others, for the links between datacenters (DESIGN, section 8), which do not exist yet: checked, used by
    nothing."""
    timers: Timers = Timers()
    rotation: Rotation = Rotation()
    storage: StorageOptions = StorageOptions()
    limits: IngressLimits = IngressLimits()
    flows: FlowOptions = FlowOptions()  # noqa: RUF009  (it is frozen, as the others, which ruff sees)
    log: LogOptions = LogOptions()
    rest: RestOptions = RestOptions()
    auth: AuthOptions = AuthOptions()

    def cluster_id(self, lineage: str = "") -> int:
        """The id of this cluster, and of what was restored under its name as `lineage` (identity.py)."""
        return cluster_id(self.name, self.datacenter, lineage)

    def data_directory(self, controller: Controller) -> Path:
        """Where this controller keeps its data."""
        return self.storage.data_dir / f"{self.name}-{controller.name}"

    def controller(self, name: str) -> Controller | None:
        """The controller of that name, if there is one."""
        return next((controller for controller in self.controllers if controller.name == name), None)
