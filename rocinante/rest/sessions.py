"""Client sessions: with one, a write that is sent again applies once (dissertation, section 6.3)."""

from __future__ import annotations

import secrets
import time

from rocinante import limits
from rocinante.errors import OutcomeUnknown
from rocinante.identity import format_id
from rocinante.ports import SessionRef
from rocinante.rest.context import RestContext, wait
from rocinante.rest.http import Reply, Request, json_reply, parse_session
from rocinante.state.command import Kind


def open_session(context: RestContext, request: Request) -> Reply:
    """Open a session; its number goes into `Rocinante-Session` of the writes that follow."""
    request.query.finish()
    request.json_object({})
    until = time.monotonic() + request.timeout_s()
    while True:
        timeout_s = max(0.0, until - time.monotonic())
        session = secrets.randbits(63) + 1
        try:
            index = _propose(context, timeout_s, Kind.SESSION_OPEN, session)
        except OutcomeUnknown:
            if time.monotonic() >= until:
                raise
            continue  # under another id: the first may be open already, and ends when it is not used
        return json_reply({"session": format_id(session), "idle_ms_max": limits.SESSION_IDLE_MS_MAX}, 201, index=index)


def close_session(context: RestContext, request: Request) -> Reply:
    """Close a session; closing one that is not open changes nothing."""
    request.query.finish()
    session = parse_session(request.arguments["session"], "session")
    index = _propose(context, request.timeout_s(), Kind.SESSION_CLOSE, session)
    return json_reply({"session": format_id(session)}, index=index)


def _propose(context: RestContext, timeout_s: float, kind: Kind, session: int) -> int:
    with context.consensus_slot():
        return wait(
            context.node.propose(kind, b"", session=SessionRef(session, 0), timeout_s=timeout_s), timeout_s
        ).index
