"""What acts on one node or on the leadership. Every request is a POST with a JSON body, so that no foreign page can
send it.
"""

from __future__ import annotations

from rocinante.errors import InvalidArgument
from rocinante.identity import format_id
from rocinante.ports import Member
from rocinante.rest.context import RestContext, wait
from rocinante.rest.http import Reply, Request, json_reply
from rocinante.rest.members import find_member


def set_grpc(context: RestContext, request: Request) -> Reply:
    """Switch the node's gRPC interface: off, it is not ready, and REST goes on."""
    request.query.finish()
    body = request.json_object({"enabled": bool})
    if "enabled" not in body:
        raise InvalidArgument("enabled", "is missing")
    context.node.set_grpc(body["enabled"])
    return json_reply({"enabled": body["enabled"]}, 202)


def stop(context: RestContext, request: Request) -> Reply:
    """Begin a graceful stop, as by SIGTERM."""
    request.query.finish()
    request.json_object({})
    context.node.stop()
    return json_reply({"stopping": True}, 202)


def transfer(context: RestContext, request: Request) -> Reply:
    """Hand leadership over, and answer when the new leader leads. `to`: a name, IP:PORT or id; absent: the best of
    the voters.
    """
    request.query.finish()
    body = request.json_object({"to": str})
    members, _ = context.node.members()
    target = _find(members, body["to"]) if body.get("to") else 0
    timeout_s = request.timeout_s()
    with context.consensus_slot():
        leader = wait(context.node.transfer_leader(target), timeout_s)
    name, endpoint = next(((member.name, member.endpoint) for member in members if member.id == leader), ("", ""))
    return json_reply({"leader": format_id(leader), "leader_name": name, "leader_endpoint": endpoint})


def snapshot(context: RestContext, request: Request) -> Reply:
    """Take a snapshot now and compact the log behind it."""
    request.query.finish()
    request.json_object({})
    with context.consensus_slot():
        info = wait(context.node.snapshot(), request.timeout_s())
    answer = {"index": info.index, "term": info.term, "size_bytes": info.size_bytes, "digest": info.digest.hex()}
    return json_reply(answer, index=info.index)


def _find(members: tuple[Member, ...], text: str) -> int:
    found = find_member(members, text)
    if found is None:
        raise InvalidArgument("to", f"{text[:100]!r} is not a member; there is {', '.join(m.name for m in members)}")
    return found.id
