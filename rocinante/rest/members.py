"""Who belongs to the cluster, and changes of it: what `rocinante members` does, for those who have curl.

A change is asked of the leader; another node answers 503 and says who leads. It is answered when it is committed.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

from rocinante.errors import InvalidArgument, NotFound
from rocinante.identity import parse_id
from rocinante.ports import Member, described_member
from rocinante.rest.context import RestContext, wait
from rocinante.rest.http import Json, Reply, Request, json_reply
from rocinante.rest.status import member_to_json


def get_members(context: RestContext, request: Request) -> Reply:
    """The members by the cluster's configuration as this node has it."""
    request.query.finish()
    return json_reply(_members(context))


def add_member(context: RestContext, request: Request) -> Reply:
    """Add a node: a learner, unless `voter`."""
    request.query.finish()
    fields: dict[str, type | tuple[type, ...]] = {"address": str, "port": int, "name": str, "rest": int, "voter": bool}
    body = request.json_object(fields)
    for name in ("address", "port"):
        if name not in body:
            raise InvalidArgument(name, "is missing")
    member = described_member(body["address"], body["port"], name=body.get("name", ""), rest=body.get("rest", 0))
    timeout_s = request.timeout_s()
    with context.consensus_slot():
        index = wait(context.node.add_member(member, voter=body.get("voter", False)), timeout_s)
    return json_reply(_members(context), 201, index=index)


def promote_member(context: RestContext, request: Request) -> Reply:
    """Make a learner that has caught up a voter."""
    request.query.finish()
    request.json_object({})
    identifier = _named(context, request).id
    return _change(context, request, lambda: context.node.promote_member(identifier))


def remove_member(context: RestContext, request: Request) -> Reply:
    """Remove a node. Its data directory must not be used for this cluster again."""
    request.query.finish()
    identifier = _named(context, request).id
    return _change(context, request, lambda: context.node.remove_member(identifier))


def _change(context: RestContext, request: Request, change: Callable[[], Future[int]]) -> Reply:
    timeout_s = request.timeout_s()
    with context.consensus_slot():
        index = wait(change(), timeout_s)
    return json_reply(_members(context), index=index)


def _members(context: RestContext) -> Json:
    members, changing = context.node.members()
    leader = context.node.status().leader
    return {"members": [member_to_json(member, leader) for member in members], "changing": changing}


def _named(context: RestContext, request: Request) -> Member:
    """The member that the path names. Raises NotFound."""
    text = request.arguments["member"]
    members, _ = context.node.members()
    found = find_member(members, text)
    if found is None:
        known = ", ".join(member.name for member in members)
        raise NotFound(f"{text[:100]!r} is not a member; there is {known}")
    return found


def find_member(members: tuple[Member, ...], text: str) -> Member | None:
    """By its name, IP:PORT or id."""
    for member in members:
        if text in {member.name, member.endpoint}:
            return member
    try:
        identifier = parse_id(text)
    except ValueError:
        return None
    return next((member for member in members if member.id == identifier), None)
