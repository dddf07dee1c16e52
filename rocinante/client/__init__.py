"""The Python client, over gRPC (`Client`) and over REST (`RestClient`): discovery, retries that apply once, watches
that go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rocinante.client.client import Client
from rocinante.client.flow_lookup import FlowsFound
from rocinante.client.flow_messages import FlowSelection
from rocinante.client.flow_reports import BatchReport, WriterCounters
from rocinante.client.flow_watch import FlowWatch
from rocinante.client.flow_writer import FlowWriter
from rocinante.client.kv import SortTarget
from rocinante.client.kv_watch import KvWatch
from rocinante.client.txn import Txn
from rocinante.client.types import (
    DeleteFlowsResult,
    DeleteProgress,
    DeleteResult,
    EventKind,
    FlowChange,
    FlowEntry,
    FlowPage,
    KeyValue,
    KvEvent,
    LogEntry,
    Member,
    Members,
    PeerStatus,
    PutFlowsResult,
    PutResult,
    RangeResult,
    SnapshotResult,
    StateDigest,
    Status,
    TxnResult,
)

if TYPE_CHECKING:
    from rocinante.client.rest import RestClient

__all__ = [
    "BatchReport",
    "Client",
    "DeleteFlowsResult",
    "DeleteProgress",
    "DeleteResult",
    "EventKind",
    "FlowChange",
    "FlowEntry",
    "FlowPage",
    "FlowSelection",
    "FlowWatch",
    "FlowWriter",
    "FlowsFound",
    "KeyValue",
    "KvEvent",
    "KvWatch",
    "LogEntry",
    "Member",
    "Members",
    "PeerStatus",
    "PutFlowsResult",
    "PutResult",
    "RangeResult",
    "RestClient",
    "SnapshotResult",
    "SortTarget",
    "StateDigest",
    "Status",
    "Txn",
    "TxnResult",
    "WriterCounters",
]


def __getattr__(name: str) -> Any:
    """`RestClient` is loaded when it is asked for: its HTTP library takes a moment."""
    if name == "RestClient":
        from rocinante.client.rest import RestClient

        return RestClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
