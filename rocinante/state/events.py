"""What applying an entry changed, as watchers get it."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from rocinante.pb.etcd import kv_pb2


class FlowChange(IntEnum):
    PUT = 0
    DELETE = 1
    EXPIRE = 2


class KvChanges(NamedTuple):
    """All events of one revision, in order; `prev_kv` is always filled where there was one."""

    revision: int
    events: tuple[kv_pb2.Event, ...]


class FlowChanges(NamedTuple):
    """One batch as it was written (PUT: `batch`, never taken apart), or the keys that went."""

    kind: FlowChange
    origin: str
    batch: bytes = b""
    keys: tuple[bytes, ...] = ()


class AppliedEvents(NamedTuple):
    """Everything that the entry at `index` changed. `size_bytes` is about what it holds, for the bounds of queues."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    kv: tuple[KvChanges, ...]
    flows: tuple[FlowChanges, ...]
    size_bytes: int
