"""What a peer may say besides Raft's own messages, and in them of the members: within the bounds that this software
keeps itself, so that one node's defect or another version does not become every node's.

Each check raises MalformedMessage that names the field; then the stream ends, and nothing was taken.
"""

from __future__ import annotations

from typing import Final

from rocinante import limits
from rocinante.node.directory import decode_members
from rocinante.pb.v1 import peer_pb2 as pb
from rocinante.peers import MalformedMessage
from rocinante.raft.membership import decode_change
from rocinante.raft.types import EntryKind, Message, Role
from rocinante.state import command

_ROLES: Final = frozenset(role.public for role in Role)


def check_frame(frame: pb.PeerMessage) -> None:
    """Forwarded requests, refusals, what a node says of itself. What has no bounds to keep passes."""
    kind = frame.WhichOneof("message")
    if kind == "forward":
        _check_forward(frame.forward)
    elif kind == "info":
        if frame.info.role not in _ROLES:
            raise MalformedMessage(f"info.role: {frame.info.role[:40]!r} is not a role")
        _check_text("info.version", frame.info.version)
    elif kind == "dropped":
        _check_text("dropped.reason", frame.dropped.reason)
    elif kind == "read_response":
        _check_text("read_response.refused", frame.read_response.refused)


def check_changes(message: Message) -> None:
    """The members that membership changes describe. (That a change can be read at all, `decode_message` saw.)"""
    for entry in message.entries:
        if entry.kind is not EntryKind.CONFIG or not (context := decode_change(entry.data).context):
            continue
        try:
            decode_members(context)
        except ValueError as error:
            raise MalformedMessage(f"entries: the members in the change at {entry.index}: {error}") from None


def _check_forward(forward: pb.Forward) -> None:
    """It becomes one log entry, which has to fit a message to a peer: one that does not stops the cluster for good."""
    commands = forward.commands
    if not 1 <= len(commands) <= limits.ENTRY_COMMANDS_MAX:
        raise MalformedMessage(f"forward.commands: {len(commands)}; expected 1 to {limits.ENTRY_COMMANDS_MAX}")
    sizes = [len(each) for each in commands]
    if min(sizes) < command.HEADER_BYTES:
        raise MalformedMessage(f"forward.commands: {min(sizes)} bytes are no command")
    most = limits.COMMAND_BYTES_MAX if len(sizes) == 1 else limits.ENTRY_BYTES_MAX
    if sum(sizes) > most:
        raise MalformedMessage(f"forward.commands: {sum(sizes)} bytes; at most {most}")


def _check_text(field: str, text: str) -> None:
    if len(text) > limits.PEER_TEXT_CHARACTERS_MAX:
        raise MalformedMessage(f"{field}: {len(text)} characters; at most {limits.PEER_TEXT_CHARACTERS_MAX}")
