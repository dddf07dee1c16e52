"""Every path and method with its parameters, bodies and answers."""

from __future__ import annotations

from typing import Any, Final

from rocinante import limits
from rocinante.flows import TcpState
from rocinante.rest.events import TYPES
from rocinante.rest.openapi.schemas import FLOW_EXAMPLE, FLOW_ID, ref

Spec = dict[str, Any]
JSON: Final = "application/json"
BYTES: Final = "application/octet-stream"
TEXT: Final = "text/plain"
STRING: Final[Spec] = {"type": "string"}
FLAG: Final[Spec] = {
    "anyOf": [{"type": "boolean"}, {"type": "string", "enum": ["", "1", "yes", "0", "no"]}],
    "default": False,
    "description": "The bare name, `?name`, is true",
}
SESSION_ID: Final[Spec] = {"type": "string", "pattern": "^[0-9a-fA-F]{1,16}$", "description": "Hex; not 0"}
INDEX_HEADER: Final[Spec] = {
    "Rocinante-Index": {"description": "The log index that the answer stands for", "schema": {"type": "integer"}},
    "Rocinante-Leader": {"description": "IP:PORT of the leader, where known", "schema": STRING},
}


def _parameter(name: str, where: str, schema: Spec, description: str) -> Spec:
    return {"name": name, "in": where, "schema": schema, "description": description, "required": where == "path"}


def _query(name: str, schema: Spec, description: str) -> Spec:
    return _parameter(name, "query", schema, description)


def _header(name: str, schema: Spec, description: str) -> Spec:
    return _parameter(name, "header", schema, description)


def _several(name: str, items: Spec, description: str) -> Spec:
    return _query(name, {"type": "array", "items": items}, description) | {"style": "form", "explode": True}


def _integer(least: int, most: int, default: int | None = None) -> Spec:
    schema: Spec = {"type": "integer", "minimum": least, "maximum": most}
    return schema if default is None else schema | {"default": default}


def _answer(description: str, name: str = "", *, content: Spec | None = None, example: Any = None) -> Spec:
    body = content or {JSON: {"schema": ref(name)} | ({} if example is None else {"example": example})}
    return {"description": description, "headers": INDEX_HEADER, "content": body}


def _body(name: str, example: Any, required: bool = True) -> Spec:
    return {"required": required, "content": {JSON: {"schema": ref(name), "example": example}}}


ERRORS: Final = {
    400: "BadRequest",
    401: "Unauthenticated",
    404: "NotFound",
    409: "Conflict",
    413: "TooLarge",
    429: "Busy",
    503: "Unavailable",
}


def _operation(
    tag: str, name: str, summary: str, good: dict[int, Spec], errors: tuple[int, ...] = (), **more: Any
) -> Spec:
    """`errors` are those of the operation; 400 (a parameter, the Host), 405 and 500 may come from any, 401 from all
    but those with `security=[]`."""
    responses = {str(status): answer for status, answer in good.items()}
    asks_for_a_token = more.get("security") != []
    for status in sorted({400, *errors} | ({401} if asks_for_a_token else set())):
        responses.setdefault(str(status), {"$ref": f"#/components/responses/{ERRORS[status]}"})
    responses["405"] = {"$ref": "#/components/responses/MethodNotAllowed"}
    responses["500"] = {"$ref": "#/components/responses/Internal"}
    return {"tags": [tag], "operationId": name, "summary": summary, "responses": responses} | more


CONSENSUS: Final = (409, 429, 503)
TIMEOUT: Final = _header(
    "Rocinante-Timeout-Ms",
    _integer(1, int(limits.REQUEST_TIMEOUT_S_MAX * 1000), int(limits.REQUEST_TIMEOUT_S * 1000)),
    "How long to wait for consensus",
)
SESSION: Final = [
    _header("Rocinante-Session", SESSION_ID, "A session of POST /v1/sessions: the same Rocinante-Seq applies once"),
    _header("Rocinante-Seq", _integer(1, 2**64 - 1), "The number of this write in its session"),
    _header("Rocinante-Ack", _integer(0, 2**64 - 1, 0), "The answers of all lower numbers were received"),
    TIMEOUT,
]
CONDITION: Final = [
    _header("If-Match", STRING, 'Only if the key\'s mod_revision is this ("7"), or the key exists (*); else 409'),
    _header("If-None-Match", {"type": "string", "enum": ["*"]}, "Only if the key does not exist; else 409"),
]
KEY: Final = _parameter("key", "path", STRING, "Percent-encoded; may hold slashes and any bytes")
FLOW: Final = _parameter("id", "path", FLOW_ID, "The flow's key in hex")
MEMBER: Final = _parameter("member", "path", STRING, "Its name, IP:PORT or id")
CURSOR: Final = _query("cursor", STRING, "From the last page")
SERIALIZABLE: Final = _query("serializable", FLAG, "Answer from this node's state at once; it may be old")
REVISION: Final = _query("revision", _integer(0, 2**63 - 1, 0), "Read at this older revision; 0: now")
CONSISTENCY: Final = _query(
    "consistency",
    {"type": "string", "enum": ["linearizable", "stale"], "default": "linearizable"},
    "stale: from this node's own table; `Rocinante-Age-Ms` says how old that may be",
)
LAST: Final = _query("last", _integer(1, limits.REST_LOG_LINES_MAX, limits.REST_LOG_LINES_DEFAULT), "How many entries")
ORIGIN: Final = _query(
    "origin", {"type": "string", "maxLength": limits.FLOW_ORIGIN_BYTES_MAX}, "Datacenter; default: the node's own"
)
VERBOSE: Final = _query("verbose", FLAG, "Say more")
TEXT_BODY: Final[Spec] = {TEXT: {"schema": STRING, "example": "[+]node ok\n[+]leader ok\nready\n"}}
METRICS_BODY: Final[Spec] = {TEXT: {"schema": STRING}, "application/openmetrics-text": {"schema": STRING}}
VALUE_BODY: Final[Spec] = {
    "required": True,
    "content": {"*/*": {"schema": {"type": "string", "maxLength": limits.VALUE_BYTES_MAX}}},
}
KEY_FOUND: Final[Spec] = {JSON: {"schema": ref("KeyFound")}, BYTES: {"schema": {"type": "string", "format": "binary"}}}
FLOWS_BODY: Final[Spec] = {
    "required": True,
    "content": {
        JSON: {
            "schema": {
                "type": "array",
                "items": ref("FlowInput"),
                "minItems": 1,
                "maxItems": limits.FLOW_BATCH_RECORDS_MAX,
            },
            "example": [FLOW_EXAMPLE],
        },
        BYTES: {"schema": {"type": "string", "format": "binary"}},
    },
}
FILTERS: Final = [
    _several("address", STRING, "Address or CIDR of either end"),
    _several("port", _integer(0, 65535), "Port of either end"),
    _several("protocol", STRING, "Name or number"),
    _several("state", {"type": "string", "enum": list(TcpState.__members__)}, "TCP state"),
    _query("backend", STRING, "Address, address:port, or name"),
    _query("zone", _integer(0, 65535), "VRF or tenant"),
    _query("origin", STRING, "Datacenter"),
]
STREAM: Final[Spec] = {
    "text/event-stream": {
        "schema": STRING,
        "example": 'event: kv\ndata: {"type":"put","revision":7,"key":"a"}\nid: 12\n\n',
    }
}


def _page(limit_max: int, limit_default: int) -> Spec:
    return _query("limit", _integer(1, limit_max, limit_default), "Most to answer with")


PATHS: Final[Spec] = {
    "/livez": {
        "get": _operation(
            "health",
            "livez",
            "The process answers",
            {200: _answer("It does", content=TEXT_BODY)},
            parameters=[VERBOSE],
            security=[],
        )
    },
    "/readyz": {
        "get": _operation(
            "health",
            "readyz",
            "The node is ready and knows a leader",
            {200: _answer("Ready", content=TEXT_BODY), 503: _answer("Not ready; a line a check", content=TEXT_BODY)},
            parameters=[VERBOSE],
            security=[],
        )
    },
    "/metrics": {
        "get": _operation(
            "health", "metrics", "Numbers in Prometheus' form", {200: _answer("All numbers", content=METRICS_BODY)}
        )
    },
    "/openapi.json": {
        "get": _operation(
            "page", "openapi", "This document", {200: _answer("It", content={JSON: {"schema": {"type": "object"}}})}
        )
    },
    "/": {
        "get": _operation(
            "page", "index", "The web page", {200: _answer("HTML", content={"text/html": {"schema": STRING}})}, (404,)
        )
    },
    "/{file}": {
        "get": _operation(
            "page",
            "file",
            "A file of the web page",
            {200: _answer("The file", content={"*/*": {"schema": STRING}}), 304: {"description": "As you have it"}},
            (404,),
            parameters=[_parameter("file", "path", STRING, "Its path")],
        )
    },
    "/v1/status": {
        "get": _operation(
            "status", "status", "All that this node knows of itself and the others", {200: _answer("Status", "Status")}
        )
    },
    "/v1/leader": {
        "get": _operation("status", "leader", "Who leads", {200: _answer("null where not known", "Leader")})
    },
    "/v1/role": {"get": _operation("status", "role", "What this node is", {200: _answer("Role", "Role")})},
    "/v1/peers": {
        "get": _operation("status", "peers", "The others, as this node sees them", {200: _answer("Peers", "Peers")})
    },
    "/v1/members": {
        "get": _operation("status", "members", "The members by configuration", {200: _answer("Members", "Members")}),
        "post": _operation(
            "admin",
            "addMember",
            "Add a node, as a learner unless `voter`; to be asked of the leader",
            {201: _answer("The members with it", "Members")},
            (413, *CONSENSUS),
            parameters=[TIMEOUT],
            requestBody=_body("NewMember", {"address": "192.0.2.14", "port": 35001, "name": "node4", "rest": 8001}),
        ),
    },
    "/v1/members/{member}": {
        "delete": _operation(
            "admin",
            "removeMember",
            "Remove a node; its data must not be used for this cluster again",
            {200: _answer("The members without it", "Members")},
            (404, *CONSENSUS),
            parameters=[MEMBER, TIMEOUT],
        )
    },
    "/v1/members/{member}/promote": {
        "post": _operation(
            "admin",
            "promoteMember",
            "Make a learner that has caught up a voter",
            {200: _answer("The members", "Members")},
            (404, 413, *CONSENSUS),
            parameters=[MEMBER, TIMEOUT],
            requestBody=_body("Empty", {}),
        )
    },
    "/v1/snapshot": {
        "get": _operation(
            "admin",
            "saveSnapshot",
            "Take a snapshot now, and send it as the file that `rocinante snapshot` verifies and restores",
            {200: _answer("The file", content={BYTES: {"schema": {"type": "string", "format": "binary"}}})},
            (429, 503),
        )
    },
    "/v1/size": {
        "get": _operation(
            "status", "size", "How large the cluster and this node's state are", {200: _answer("Sizes", "Size")}
        )
    },
    "/v1/log": {
        "get": _operation(
            "status", "log", "The last entries of this node's log", {200: _answer("Entries", "Log")}, parameters=[LAST]
        )
    },
    "/v1/committed": {
        "get": _operation(
            "status", "committed", "The last committed entries", {200: _answer("Entries", "Log")}, parameters=[LAST]
        )
    },
    "/v1/applied": {
        "get": _operation(
            "status",
            "applied",
            "Wait until this node's own state has everything up to a log index",
            {200: _answer("What is applied, at least the index asked for", "Applied")},
            (429, 503),
            parameters=[
                _query("index", _integer(0, 2**63 - 1, 0), "As the answer to a write has it"),
                _query(
                    "timeout_ms",
                    _integer(1, int(limits.REQUEST_TIMEOUT_S_MAX * 1000), int(limits.REQUEST_TIMEOUT_S * 1000)),
                    "How long to wait",
                ),
            ],
        )
    },
    "/v1/kv": {
        "get": _operation(
            "kv",
            "listKeys",
            "A page of keys in order",
            {200: _answer("Keys", "KeyList")},
            CONSENSUS,
            parameters=[
                _query("prefix", STRING, "Only keys that begin so"),
                _page(limits.REST_KEYS_PAGE_MAX, limits.REST_KEYS_PAGE_DEFAULT),
                CURSOR,
                _query("keys_only", FLAG, "Without values"),
                SERIALIZABLE,
                REVISION,
                TIMEOUT,
            ],
        )
    },
    "/v1/kv/{key}": {
        "get": _operation(
            "kv",
            "getKey",
            "One key",
            {200: _answer("The key; with `raw` the bytes of its value", content=KEY_FOUND)},
            (404, *CONSENSUS),
            parameters=[KEY, _query("raw", FLAG, "Answer with the value's bytes"), SERIALIZABLE, REVISION, TIMEOUT],
        ),
        "put": _operation(
            "kv",
            "putKey",
            "Set a key; the body is the value",
            {200: _answer("Written", "KeyWritten")},
            (413, *CONSENSUS),
            parameters=[KEY, *CONDITION, *SESSION],
            requestBody=VALUE_BODY,
        ),
        "delete": _operation(
            "kv",
            "deleteKey",
            "Delete a key; one that is not there is no error",
            {200: _answer("How many were deleted", "KeyDeleted")},
            CONSENSUS,
            parameters=[KEY, *CONDITION, *SESSION],
        ),
    },
    "/v1/flows": {
        "get": _operation(
            "flows",
            "listFlows",
            "A page of flows that match all filters",
            {200: _answer("Flows", "FlowList")},
            CONSENSUS,
            parameters=[
                *FILTERS,
                _page(limits.FLOW_LIST_RECORDS_MAX, limits.REST_FLOWS_PAGE_DEFAULT),
                CURSOR,
                CONSISTENCY,
                TIMEOUT,
            ],
        ),
        "post": _operation(
            "flows",
            "putFlows",
            "Write flows: all or none",
            {200: _answer("How many, and where in the log", "FlowsWritten")},
            (413, *CONSENSUS),
            parameters=[ORIGIN, *SESSION],
            requestBody=FLOWS_BODY,
        ),
        "delete": _operation(
            "flows",
            "deleteFlows",
            "Delete all flows that match all filters; call again with the cursor until it is empty",
            {200: _answer("How many were deleted, and how far it is", "FlowsDeleted")},
            CONSENSUS,
            parameters=[
                *FILTERS[:-1],
                _query("origin", STRING, "Datacenter; default: the node's own; `*`: every one"),
                _query("all", FLAG, "Needed where there is neither a filter nor an origin"),
                CURSOR,
                TIMEOUT,
            ],
        ),
    },
    "/v1/flows/{id}": {
        "get": _operation(
            "flows",
            "getFlow",
            "One flow; of several origins the newest",
            {200: _answer("The flow", "Flow")},
            (404, *CONSENSUS),
            parameters=[FLOW, _query("origin", STRING, "Only this datacenter's record"), CONSISTENCY, TIMEOUT],
        ),
        "delete": _operation(
            "flows",
            "deleteFlow",
            "Delete one flow; one that is not there is no error",
            {200: _answer("How many were deleted", "FlowDeleted")},
            CONSENSUS,
            parameters=[FLOW, ORIGIN, *SESSION],
        ),
    },
    "/v1/events": {
        "get": _operation(
            "events",
            "events",
            "What changes, as server-sent events",
            {200: _answer("A stream without end", content=STREAM)},
            (429, 503),
            parameters=[
                _query(
                    "types",
                    {"type": "string", "example": "kv,flow,role"},
                    f"Some of {', '.join(TYPES)}; separated by commas",
                ),
                _query("prefix", STRING, "Only keys that begin so"),
                *FILTERS,
                _query(
                    "flows", {"type": "string", "enum": ["full", "summary"], "default": "full"}, "summary: counts only"
                ),
                _query("from_index", _integer(0, 2**63 - 1, 0), "What came after this log index; 0: from now on"),
                _header("Last-Event-ID", _integer(0, 2**63 - 1), "The same; a browser sends it when it reconnects"),
            ],
        )
    },
    "/v1/sessions": {
        "post": _operation(
            "sessions",
            "openSession",
            "Open a session",
            {201: _answer("Its number", "Session")},
            (413, *CONSENSUS),
            parameters=[TIMEOUT],
            requestBody=_body("Empty", {}),
        )
    },
    "/v1/sessions/{session}": {
        "delete": _operation(
            "sessions",
            "closeSession",
            "Close a session",
            {200: _answer("Closed", "SessionClosed")},
            CONSENSUS,
            parameters=[_parameter("session", "path", SESSION_ID, "As it was opened"), TIMEOUT],
        )
    },
    "/v1/admin/grpc": {
        "post": _operation(
            "admin",
            "setGrpc",
            "Switch this node's gRPC interface; off, the node is not ready",
            {202: _answer("It is being switched", "GrpcSwitch")},
            (413,),
            requestBody=_body("GrpcSwitch", {"enabled": False}),
        )
    },
    "/v1/admin/stop": {
        "post": _operation(
            "admin",
            "stop",
            "Stop this node gracefully",
            {202: _answer("It stops", "Stopping")},
            (413,),
            requestBody=_body("Empty", {}),
        )
    },
    "/v1/admin/transfer": {
        "post": _operation(
            "admin",
            "transfer",
            "Hand leadership over",
            {200: _answer("Who leads now", "Transferred")},
            (413, *CONSENSUS),
            parameters=[TIMEOUT],
            requestBody=_body("TransferRequest", {"to": "node2"}),
        )
    },
    "/v1/admin/snapshot": {
        "post": _operation(
            "admin",
            "snapshot",
            "Take a snapshot now, and compact the log behind it",
            {200: _answer("The snapshot", "Snapshot")},
            (413, *CONSENSUS),
            parameters=[TIMEOUT],
            requestBody=_body("Empty", {}),
        )
    },
}
