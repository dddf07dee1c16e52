"""The schemas of all bodies (JSON Schema 2020-12). `additionalProperties: false` where an answer is complete: a new
field is a change here too.
"""

from __future__ import annotations

from typing import Any, Final

from rocinante.flow_json import COUNTERS, FLAG_NAMES
from rocinante.flows import TcpState

Schema = dict[str, Any]

TEXT: Final[Schema] = {"type": "string"}
FLAG: Final[Schema] = {"type": "boolean"}
NUMBER: Final[Schema] = {"type": "integer", "minimum": 0}
ID: Final[Schema] = {"type": "string", "pattern": "^[0-9a-f]{16}$", "description": "An unsigned 64-bit number in hex"}
PORT: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": 65535}
ROLE: Final[Schema] = {"type": "string", "enum": ["not_ready", "follower", "candidate", "leader"]}
ENCODING: Final[Schema] = {"type": "string", "enum": ["utf-8", "base64"]}
ORIGIN: Final[Schema] = {"type": "string", "maxLength": 63, "description": "The datacenter that owns the record"}
ADDRESS: Final[Schema] = {"type": "string", "description": "An IP address"}


def nullable(schema: Schema) -> Schema:
    return schema | {"type": [schema["type"], "null"]}


def described(schema: Schema, description: str) -> Schema:
    return schema | {"description": description}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def list_of(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def record(properties: dict[str, Schema], optional: tuple[str, ...] = (), description: str = "") -> Schema:
    """An object with exactly these fields, all of them but `optional` always there."""
    required = [name for name in properties if name not in optional]
    schema: Schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return schema | {"description": description} if description else schema


LEADER: Final[dict[str, Schema]] = {
    "leader": described(nullable(ID), "null: not known"),
    "leader_name": nullable(TEXT),
    "leader_endpoint": described(nullable(TEXT), "IP:PORT of its gRPC interface"),
    "leader_rest": described(nullable(PORT), "The port of its REST interface"),
}
MEMBER: Final[dict[str, Schema]] = {
    "id": ID,
    "name": TEXT,
    "endpoint": described(TEXT, "IP:PORT"),
    "address": ADDRESS,
    "port": PORT,
    "rest": PORT,
    "learner": FLAG,
}
PEER: Final = record(
    MEMBER
    | {
        "connected": FLAG,
        "heard_ms": {"type": "integer", "minimum": -1, "description": "Since its last message; -1: never"},
        "state": described(TEXT, "probe, replicate or snapshot: the leader's view; else empty"),
        "match": NUMBER,
        "lag": described(NUMBER, "Entries behind the leader (its view), or behind this node's commit"),
        "role": described(TEXT, "What it last said of itself; empty: nothing yet"),
        "term": NUMBER,
        "commit": NUMBER,
        "applied": NUMBER,
        "version": TEXT,
    }
)
STATUS: Final = record(
    {name: MEMBER[name] for name in ("id", "name", "endpoint", "address", "port", "rest")}
    | {
        "role": ROLE,
        "ready": FLAG,
        "not_ready_reason": TEXT,
        "grpc_enabled": FLAG,
        "term": NUMBER,
        **LEADER,
        "commit": NUMBER,
        "applied": NUMBER,
        "last_index": NUMBER,
        "first_index": NUMBER,
        "snapshot_index": NUMBER,
        "revision": described(NUMBER, "Of the key-value store"),
        "keys": NUMBER,
        "flows": NUMBER,
        "storage": described(TEXT, "leveldb, or memory (nothing is kept on disk)"),
        "log_bytes": NUMBER,
        "alarms": list_of(TEXT),
        "cluster": TEXT,
        "datacenter": TEXT,
        "cluster_id": ID,
        "lineage": described(TEXT, "The word that the cluster was restored under; empty: it began empty"),
        "version": TEXT,
        "protocol_version": NUMBER,
        "uptime_ms": NUMBER,
        "peers": list_of(ref("Peer")),
    }
)
KEY: Final[dict[str, Schema]] = {"key": TEXT, "key_encoding": ENCODING}
KEY_VALUE: Final[dict[str, Schema]] = KEY | {
    "value": TEXT,
    "value_encoding": ENCODING,
    "create_revision": NUMBER,
    "mod_revision": NUMBER,
    "version": described(NUMBER, "Changes since the key was made"),
    "lease": NUMBER,
}
REVISION: Final = described(NUMBER, "The store's revision")
FLOW_WRITABLE: Final[dict[str, Schema]] = {
    "zone": described(PORT, "VRF or tenant"),
    "protocol": {
        "anyOf": [{"type": "string"}, {"type": "integer", "minimum": 0, "maximum": 255}],
        "description": "A name such as tcp or udp, or the number where it has none",
    },
    "source": ref("Endpoint"),
    "destination": ref("Endpoint"),
    "reply": record({"source": ref("Endpoint"), "destination": ref("Endpoint")}, description="Only with NAT"),
    "tcp_state": {"type": "string", "enum": list(TcpState.__members__)},
    "flags": list_of({"type": "string", "enum": list(FLAG_NAMES)}),
    "mark": {"type": "integer", "minimum": 0, "maximum": 2**32 - 1},
    "deadline_ms": described(NUMBER, "Unix time; 0: none"),
    "updated_ms": described(NUMBER, "Unix time"),
    "backend": ref("Endpoint"),
    "backend_name": {"type": "string", "maxLength": 255},
    **dict.fromkeys(COUNTERS, NUMBER),
    "application_data": {"type": "string", "contentEncoding": "base64", "description": "Opaque; at most 1 KiB"},
}
FLOW_ID: Final[Schema] = {"type": "string", "pattern": "^([0-9a-f]{32}|[0-9a-f]{80})$", "description": "The key in hex"}
FLOW_OPTIONAL: Final = ("reply", "backend", "backend_name", "application_data")
FLOW_EXAMPLE: Final[Schema] = {
    "protocol": "tcp",
    "source": {"address": "192.0.2.1", "port": 41234},
    "destination": {"address": "198.51.100.7", "port": 443},
    "tcp_state": "ESTABLISHED",
    "backend": {"address": "10.0.0.5", "port": 8443},
    "packets_original": 10,
    "bytes_original": 5120,
}
LOG_LINE: Final = record(
    {
        "index": NUMBER,
        "term": NUMBER,
        "kind": described(TEXT, "noop, config or commands"),
        "size_bytes": NUMBER,
        "commands": described(list_of(TEXT), "One line a command, for people"),
        "committed": FLAG,
    }
)

SCHEMAS: Final[dict[str, Schema]] = {
    "Error": record(
        {
            "error": record(
                {
                    "code": described(TEXT, "gRPC's name of the error"),
                    "message": described(TEXT, "For a person; begins with the name of the field at fault"),
                    "leader": described(TEXT, "IP:PORT of the leader, where that helps"),
                },
                optional=("leader",),
            )
        }
    ),
    "Endpoint": {
        "type": "object",
        "properties": {"address": ADDRESS, "port": PORT},
        "required": ["address"],
        "additionalProperties": False,
        "description": "In what is written, the text ADDRESS:PORT ([ADDRESS]:PORT) will do as well",
    },
    "Peer": PEER,
    "Status": STATUS,
    "Leader": record(LEADER | {"term": NUMBER}),
    "Role": record({"role": ROLE, "term": NUMBER, "not_ready_reason": TEXT}),
    "Peers": record({"peers": list_of(ref("Peer"))}),
    "Applied": record({"index": described(NUMBER, "The last log index that is applied on this node")}),
    "Members": record({"members": list_of(record(MEMBER | {"leader": FLAG})), "changing": FLAG}),
    "Size": record(
        {
            "size": described(NUMBER, "Nodes of the cluster, this one included"),
            "voters": NUMBER,
            "learners": NUMBER,
            "quorum": NUMBER,
            "connected": described(NUMBER, "Nodes that this one is connected to, and itself"),
            "log_entries": NUMBER,
            "log_bytes": NUMBER,
            "keys": NUMBER,
            "flows": NUMBER,
        }
    ),
    "Log": record(
        {"entries": list_of(ref("LogLine")), "first_index": NUMBER, "last_index": NUMBER, "commit": NUMBER},
        description="Oldest first",
    ),
    "LogLine": LOG_LINE,
    "KeyValue": record(KEY_VALUE),
    "Key": record({name: schema for name, schema in KEY_VALUE.items() if not name.startswith("value")}),
    "KeyFound": record(KEY_VALUE | {"revision": REVISION}),
    "KeyWritten": record(KEY | {"revision": described(NUMBER, "The key's new mod_revision")}),
    "KeyDeleted": record(KEY | {"deleted": NUMBER, "revision": REVISION}),
    "KeyList": record(
        {
            "keys": list_of({"anyOf": [ref("KeyValue"), ref("Key")]}),
            "remaining": described(NUMBER, "Keys behind this page"),
            "cursor": described(TEXT, "For the next page; empty: that was all"),
            "revision": REVISION,
        }
    ),
    "FlowInput": {
        "type": "object",
        "properties": FLOW_WRITABLE | {"id": described(TEXT, "Ignored"), "origin": described(TEXT, "Ignored")},
        "required": ["protocol", "source", "destination"],
        "additionalProperties": False,
        "examples": [FLOW_EXAMPLE],
    },
    "Flow": record({"id": FLOW_ID, "origin": ORIGIN} | FLOW_WRITABLE, optional=FLOW_OPTIONAL),
    "FlowList": record(
        {
            "flows": list_of(ref("Flow")),
            "cursor": described(TEXT, "For the next page; empty: that was all. A short page may have one"),
            "total": described(NUMBER, "Records in the table, of all origins, whatever the filter"),
        }
    ),
    "FlowsWritten": record({"records": NUMBER, "index": NUMBER}),
    "FlowsDeleted": record(
        {
            "deleted": described(NUMBER, "By this request"),
            "index": described(NUMBER, "0 where nothing was deleted"),
            "cursor": described(TEXT, "For the next request; empty: that was all"),
            "looked_at": described(NUMBER, "Places of the table that this request went through …"),
            "places": described(NUMBER, "… of so many there are"),
        }
    ),
    "FlowDeleted": record({"deleted": NUMBER, "index": NUMBER}),
    "Session": record({"session": ID, "idle_ms_max": described(NUMBER, "It ends when unused for so long")}),
    "SessionClosed": record({"session": ID}),
    "GrpcSwitch": record({"enabled": FLAG}),
    "Stopping": record({"stopping": {"const": True}}),
    "NewMember": record(
        {
            "address": described(TEXT, "An IP address"),
            "port": described(PORT, "gRPC"),
            "name": described(TEXT, "Absent: its address and port"),
            "rest": described(PORT, "0 or absent: none"),
            "voter": described(FLAG, "At once, not a learner first"),
        },
        ("name", "rest", "voter"),
    ),
    "TransferRequest": record({"to": described(TEXT, "Name, IP:PORT or id; absent: the best of the voters")}, ("to",)),
    "Transferred": record({"leader": ID, "leader_name": TEXT, "leader_endpoint": TEXT}),
    "Snapshot": record(
        {
            "index": NUMBER,
            "term": NUMBER,
            "size_bytes": NUMBER,
            "digest": {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "BLAKE2b-256 of the file"},
        }
    ),
    "Empty": record({}),
}
