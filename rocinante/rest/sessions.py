"""Client sessions: with one, a write that is sent again applies once (dissertation, section 6.3)."""

from __future__ import annotations

import secrets

from rocinante import limits
from rocinante.identity import format_id
from rocinante.ports import SessionRef
from rocinante.rest.context import RestContext, wait
from rocinante.rest.http import Reply, Request, json_reply, parse_session
from rocinante.state.command import Kind


def open_session(context: RestContext, request: Request) -> Reply:
    """Open a session; its number goes into `Rocinante-Session` of the writes that follow."""
    request.query.finish()
    request.json_object({})
    session = secrets.randbits(63) + 1
    index = _propose(context, request, Kind.SESSION_OPEN, session)
    return json_reply({"session": format_id(session), "idle_ms_max": limits.SESSION_IDLE_MS_MAX}, 201, index=index)


def close_session(context: RestContext, request: Request) -> Reply:
    """Close a session; closing one that is not open changes nothing."""
    request.query.finish()
    session = parse_session(request.arguments["session"], "session")
    index = _propose(context, request, Kind.SESSION_CLOSE, session)
    return json_reply({"session": format_id(session)}, index=index)


def _propose(context: RestContext, request: Request, kind: Kind, session: int) -> int:
    timeout_s = request.timeout_s()
    with context.consensus_slot():
        return wait(
            context.node.propose(kind, b"", session=SessionRef(session, 0), timeout_s=timeout_s), timeout_s
        ).index
