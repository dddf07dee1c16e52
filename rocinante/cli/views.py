"""How nodes, members, keys and flows look: as JSON (the names of the REST API) and as cells of a table."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rocinante.cli.output import bytes_json, shown
from rocinante.identity import format_id

if TYPE_CHECKING:
    from rocinante.client.types import KeyValue, KvEvent, LogEntry, Member, PeerStatus, Status

__all__ = [
    "event_json",
    "key_json",
    "key_row",
    "log_json",
    "member_json",
    "peer_json",
    "status_json",
    "value_cell",
]

_CELL_CHARACTERS_MAX = 100


def status_json(status: Status) -> dict[str, Any]:
    """As GET /v1/status, without what only the node itself has (log_bytes, snapshot_index)."""
    value = asdict(status)
    value["id"] = format_id(status.id)
    value["leader"] = format_id(status.leader) if status.leader else None
    value["leader_endpoint"] = status.leader_endpoint or None
    value["cluster_id"] = format_id(status.cluster_id)
    value["ready"] = status.role != "not_ready"
    value["alarms"] = list(status.alarms)
    value["peers"] = [peer_json(peer) for peer in status.peers]
    return value


def peer_json(peer: PeerStatus) -> dict[str, Any]:
    value = asdict(peer)
    value["id"] = format_id(peer.id)
    return value


def member_json(member: Member) -> dict[str, Any]:
    return {
        "id": format_id(member.id),
        "name": member.name,
        "endpoint": member.endpoint,
        "address": member.address,
        "port": member.port,
        "rest": member.rest,
        "learner": member.learner,
        "leader": member.leader,
    }


def key_json(item: KeyValue, *, with_value: bool = True) -> dict[str, Any]:
    """As the REST API shows a key."""
    value: dict[str, Any] = dict(bytes_json("key", item.key))
    if with_value:
        value |= bytes_json("value", item.value)
    return value | {
        "create_revision": item.create_revision,
        "mod_revision": item.mod_revision,
        "version": item.version,
        "lease": item.lease,
    }


def key_row(item: KeyValue, *, with_value: bool = True) -> list[str]:
    values = [value_cell(item.value)] if with_value else []
    return [shown(item.key), *values, str(item.version), str(item.mod_revision)]


def value_cell(value: bytes) -> str:
    """The beginning of a value, on one line."""
    text = shown(value[: _CELL_CHARACTERS_MAX * 4])
    return text if len(text) <= _CELL_CHARACTERS_MAX else text[: _CELL_CHARACTERS_MAX - 1] + "…"


def event_json(event: KvEvent) -> dict[str, Any]:
    value: dict[str, Any] = {"type": event.kind.name, "revision": event.item.mod_revision}
    if event.kind.name == "DELETE":
        value |= bytes_json("key", event.item.key)
    else:
        value |= key_json(event.item)
    if event.previous is not None:
        value["previous"] = key_json(event.previous)
    return value


def log_json(entry: LogEntry) -> dict[str, Any]:
    value = asdict(entry)
    value["commands"] = list(entry.commands)
    return value
