"""All routes in one table; a test holds it equal to the paths of the OpenAPI document."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from rocinante.rest import admin, backup, events, flows, health, kv, members, metrics, sessions, static, status
from rocinante.rest.context import RestContext
from rocinante.rest.http import Reply, Request

Handler = Callable[[RestContext, Request], Reply]
NOT_PAGE: Final = r"(?!(?:v1|livez|readyz|metrics|openapi\.json)(?:/|$))"


class Route(NamedTuple):
    method: str
    path: str
    """As OpenAPI writes it."""
    handler: Handler
    pattern: str = ""
    """As Bottle writes it, where that differs."""


KEY_PATTERN: Final = r"/v1/kv/<key:re:[\s\S]*>"
"""A key may hold slashes and line ends, and its bytes need not be UTF-8 (Bottle's own text of them is not used)."""

ROUTES: Final = (
    Route("GET", "/livez", health.get_livez),
    Route("GET", "/readyz", health.get_readyz),
    Route("GET", "/metrics", metrics.get_metrics),
    Route("GET", "/openapi.json", static.get_openapi),
    Route("GET", "/", static.get_file),
    Route("GET", "/{file}", static.get_file, f"/<file:re:{NOT_PAGE}[\\s\\S]+>"),
    Route("GET", "/v1/status", status.get_status),
    Route("GET", "/v1/leader", status.get_leader),
    Route("GET", "/v1/role", status.get_role),
    Route("GET", "/v1/peers", status.get_peers),
    Route("GET", "/v1/members", members.get_members),
    Route("POST", "/v1/members", members.add_member),
    Route("DELETE", "/v1/members/{member}", members.remove_member, "/v1/members/<member>"),
    Route("POST", "/v1/members/{member}/promote", members.promote_member, "/v1/members/<member>/promote"),
    Route("GET", "/v1/snapshot", backup.get_snapshot),
    Route("GET", "/v1/size", status.get_size),
    Route("GET", "/v1/log", status.get_log),
    Route("GET", "/v1/committed", status.get_committed),
    Route("GET", "/v1/applied", status.get_applied),
    Route("GET", "/v1/kv", kv.list_keys),
    Route("GET", "/v1/kv/{key}", kv.get_key, KEY_PATTERN),
    Route("PUT", "/v1/kv/{key}", kv.put_key, KEY_PATTERN),
    Route("DELETE", "/v1/kv/{key}", kv.delete_key, KEY_PATTERN),
    Route("GET", "/v1/flows", flows.list_flows),
    Route("POST", "/v1/flows", flows.put_flows),
    Route("DELETE", "/v1/flows", flows.delete_flows),
    Route("GET", "/v1/flows/{id}", flows.get_flow, "/v1/flows/<id>"),
    Route("DELETE", "/v1/flows/{id}", flows.delete_flow, "/v1/flows/<id>"),
    Route("GET", "/v1/events", events.get_events),
    Route("POST", "/v1/sessions", sessions.open_session),
    Route("DELETE", "/v1/sessions/{session}", sessions.close_session, "/v1/sessions/<session>"),
    Route("POST", "/v1/admin/grpc", admin.set_grpc),
    Route("POST", "/v1/admin/stop", admin.stop),
    Route("POST", "/v1/admin/transfer", admin.transfer),
    Route("POST", "/v1/admin/snapshot", admin.snapshot),
)
