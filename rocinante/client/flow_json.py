"""Flows that a cluster gave, in JSON: `rocinante.flow_json` with the origin and the id that the cluster said."""

from __future__ import annotations

from typing import Any

from rocinante.client.types import FlowEntry
from rocinante.flow_json import record_from_json, record_to_json

__all__ = ["entry_from_json", "entry_to_json"]


def entry_to_json(entry: FlowEntry) -> dict[str, Any]:
    return record_to_json(entry.record, entry.origin, entry.id)


def entry_from_json(item: Any) -> FlowEntry:
    """A flow of an answer. Raises InvalidArgument."""
    record = record_from_json(item, "flow", 0)
    return FlowEntry(record, str(item.get("origin", "")), str(item.get("id", "")) or record.key.hex())
