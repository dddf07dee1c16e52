"""What the client's methods take and give: plain, typed, immutable data. Ids are unsigned 64-bit numbers, revisions and
indexes integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from rocinante.errors import InvalidArgument
from rocinante.flows.record import FlowRecord
from rocinante.pb.etcd import kv_pb2
from rocinante.pb.v1 import cluster_pb2

__all__ = [
    "CompactResult",
    "DeleteFlowsResult",
    "DeleteResult",
    "EventKind",
    "FlowChange",
    "FlowEntry",
    "FlowPage",
    "KeyValue",
    "KvEvent",
    "LogEntry",
    "Member",
    "Members",
    "PeerStatus",
    "PutFlowsResult",
    "PutResult",
    "RangeResult",
    "SnapshotResult",
    "StateDigest",
    "Status",
    "TxnResult",
    "to_bytes",
]


def to_bytes(value: bytes | str, field: str) -> bytes:
    """A key or value as the wire has it: text is UTF-8. Raises InvalidArgument naming `field`."""
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError as error:
            raise InvalidArgument(field, f"is no valid text: {error.reason}; give bytes") from None
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise InvalidArgument(field, f"must be bytes or str, not {type(value).__name__}")


@dataclass(frozen=True, slots=True)
class KeyValue:
    """A key with its value and revisions (etcd's mvccpb.KeyValue)."""

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    """Changes since the key was created."""
    lease: int = 0

    @classmethod
    def from_pb(cls, kv: kv_pb2.KeyValue) -> KeyValue:
        return cls(kv.key, kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease)


@dataclass(frozen=True, slots=True)
class PutResult:
    revision: int
    previous: KeyValue | None
    """The key before, where it was asked for and there was one."""


@dataclass(frozen=True, slots=True)
class RangeResult:
    items: tuple[KeyValue, ...]
    more: bool
    """`limit` left some out."""
    count: int
    """All keys of the range, whatever the limit."""
    revision: int
    """The store's revision when it was read."""


@dataclass(frozen=True, slots=True)
class DeleteResult:
    deleted: int
    revision: int
    previous: tuple[KeyValue, ...]


@dataclass(frozen=True, slots=True)
class CompactResult:
    revision: int


@dataclass(frozen=True, slots=True)
class TxnResult:
    succeeded: bool
    """All conditions held, so that the operations of `then` were done, else those of `otherwise`."""
    responses: tuple[RangeResult | PutResult | DeleteResult | TxnResult, ...]
    """One for each operation, in order."""
    revision: int


class EventKind(IntEnum):
    """What happened, in watches of keys and of flows."""

    PUT = 0
    DELETE = 1
    EXPIRE = 2
    """Flows only: the deadline passed."""
    RESET = 3
    """Flows only: a snapshot begins; forget what you have, PUT events with all there is follow."""
    SYNCED = 4
    """Flows only: the snapshot is complete; what follows are changes."""


@dataclass(frozen=True, slots=True)
class KvEvent:
    kind: EventKind
    item: KeyValue
    """Of a deletion only `key` and `mod_revision` are filled."""
    previous: KeyValue | None = None


@dataclass(frozen=True, slots=True)
class FlowEntry:
    """A flow as the table has it."""

    record: FlowRecord
    origin: str
    """The datacenter that owns it."""
    id: str
    """Its key in hex."""


@dataclass(frozen=True, slots=True)
class FlowPage:
    flows: tuple[FlowEntry, ...]
    cursor: bytes
    """For the next page; empty: that was all."""
    index: int
    age_ms: int
    """STALE reads: time since the node last heard from a leader."""


@dataclass(frozen=True, slots=True)
class FlowChange:
    """One event of a watch of flows. Which fields are filled depends on `kind` and on how the watch was asked for."""

    kind: EventKind
    index: int
    origin: str = ""
    flows: tuple[FlowEntry, ...] = ()
    """PUT, unless batches were asked for."""
    batch: bytes = b""
    """PUT, when batches were asked for: to be read with `rocinante.flows`."""
    keys: tuple[bytes, ...] = ()
    """DELETE and EXPIRE: the packed keys that went."""


@dataclass(frozen=True, slots=True)
class PutFlowsResult:
    records: int
    index: int
    """The log index of the last batch."""


@dataclass(frozen=True, slots=True)
class DeleteFlowsResult:
    deleted: int
    index: int


@dataclass(frozen=True, slots=True)
class DeleteProgress:
    """How far a deletion by filter is: places of the table that were gone through, of so many there are now."""

    deleted: int
    looked_at: int
    places: int


@dataclass(frozen=True, slots=True)
class Member:
    id: int
    name: str
    address: str
    port: int
    rest: int
    learner: bool
    leader: bool

    @property
    def endpoint(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    @classmethod
    def from_pb(cls, member: cluster_pb2.Member) -> Member:
        return cls(
            member.id, member.name, member.address, member.port, member.rest, bool(member.learner), bool(member.leader)
        )


@dataclass(frozen=True, slots=True)
class Members:
    members: tuple[Member, ...]
    joint: bool
    """A membership change is under way."""
    index: int


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """How the node that was asked sees another one; times in ms, -1: never."""

    id: int
    name: str
    endpoint: str
    role: str
    state: str
    match: int
    lag: int
    connected: bool
    heard_ms: int
    term: int
    commit: int
    applied: int
    version: str
    rest: int
    learner: bool


@dataclass(frozen=True, slots=True)
class Status:
    """What a node says of itself and its peers."""

    id: int
    name: str
    endpoint: str
    role: str
    """not_ready, follower, candidate or leader."""
    term: int
    leader: int
    leader_endpoint: str
    commit: int
    applied: int
    last_index: int
    first_index: int
    revision: int
    keys: int
    flows: int
    storage: str
    version: str
    protocol_version: int
    cluster: str
    datacenter: str
    cluster_id: int
    grpc_enabled: bool
    not_ready_reason: str
    uptime_ms: int
    alarms: tuple[str, ...]
    peers: tuple[PeerStatus, ...]
    lineage: str = ""
    """The word that the cluster was restored under; "": it began empty."""

    @classmethod
    def from_pb(cls, status: cluster_pb2.StatusResponse) -> Status:
        own = {name: getattr(status, name) for name in cls.__dataclass_fields__ if name not in ("alarms", "peers")}
        peers = tuple(
            PeerStatus(**{name: getattr(peer, name) for name in PeerStatus.__dataclass_fields__})
            for peer in status.peers
        )
        return cls(**own, alarms=tuple(status.alarms), peers=peers)


@dataclass(frozen=True, slots=True)
class LogEntry:
    index: int
    term: int
    kind: str
    size_bytes: int
    commands: tuple[str, ...]
    committed: bool


@dataclass(frozen=True, slots=True)
class SnapshotResult:
    index: int
    term: int
    size_bytes: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class StateDigest:
    index: int
    digest: bytes
    revision: int


def key_values(kvs: Sequence[kv_pb2.KeyValue]) -> tuple[KeyValue, ...]:
    return tuple(KeyValue.from_pb(kv) for kv in kvs)
