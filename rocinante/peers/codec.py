"""Between the core's messages and the wire (`proto/rocinante/v1/peer.proto`).

Entry data is carried as it is: an entry is encoded once, by the node that proposed it. What comes from the wire is
checked here, so that the core only ever sees well-formed messages: `decode` raises `MalformedMessage` with the field
at fault.
"""

from __future__ import annotations

from typing import Final

from rocinante.pb.v1 import peer_pb2 as pb
from rocinante.raft.membership import MEMBERS_MAX, check_config, decode_change
from rocinante.raft.types import Config, Entry, EntryKind, InvalidChange, Message, MessageType

ENTRY_OVERHEAD_BYTES: Final = 32
"""About what one entry costs on the wire besides its data."""
MESSAGE_OVERHEAD_BYTES: Final = 64


class MalformedMessage(ValueError):
    """A peer sent something that no Rocinante sends; the message names the field."""


def encode_message(message: Message) -> pb.PeerMessage:
    return pb.PeerMessage(
        raft=pb.RaftMessage(
            type=int(message.type),
            to=message.to,
            sender=message.sender,
            term=message.term,
            log_index=message.log_index,
            log_term=message.log_term,
            entries=[
                pb.LogEntryFrame(index=entry.index, term=entry.term, kind=int(entry.kind), data=entry.data)
                for entry in message.entries
            ],
            commit=message.commit,
            reject=message.reject,
            hint_index=message.hint_index,
            hint_term=message.hint_term,
            context=message.context,
            force=message.force,
        )
    )


def decode_message(frame: pb.RaftMessage) -> Message:
    """Raises MalformedMessage."""
    try:
        kind = MessageType(frame.type)
    except ValueError:
        raise MalformedMessage(f"type: {frame.type} is not a message type") from None
    if kind is MessageType.SNAPSHOT:
        raise MalformedMessage("type: a snapshot comes by InstallSnapshot, not by Exchange")
    if frame.sender == 0 or frame.to == 0:
        raise MalformedMessage("sender, to: must not be 0")
    return Message(
        type=kind,
        to=frame.to,
        sender=frame.sender,
        term=frame.term,
        log_index=frame.log_index,
        log_term=frame.log_term,
        entries=_decode_entries(frame),
        commit=frame.commit,
        reject=frame.reject,
        hint_index=frame.hint_index,
        hint_term=frame.hint_term,
        context=frame.context,
        force=frame.force,
    )


def _decode_entries(frame: pb.RaftMessage) -> tuple[Entry, ...]:
    if not frame.entries:
        return ()
    entries = []
    expected, term = frame.log_index + 1, frame.log_term
    for item in frame.entries:
        if item.index != expected:
            raise MalformedMessage(f"entries: index {item.index} where {expected} was expected")
        if item.term < term or item.term > frame.term:
            raise MalformedMessage(f"entries: term {item.term} of entry {item.index} is not in {term}..{frame.term}")
        if item.kind not in (0, 1):
            raise MalformedMessage(f"entries: {item.kind} is not a kind of entry")
        if item.kind == EntryKind.CONFIG:
            _check_change(item)
        entries.append(Entry(item.index, item.term, EntryKind(item.kind), item.data))
        expected, term = expected + 1, item.term
    return tuple(entries)


def _check_change(item: pb.LogEntryFrame) -> None:
    """A membership change that cannot be read must not get into the log: there it ends every node that has it."""
    try:
        decode_change(item.data)
    except InvalidChange as error:
        raise MalformedMessage(f"entries: the change at {item.index} cannot be read: {error}") from None


def encode_config(config: Config) -> pb.ConfigFrame:
    return pb.ConfigFrame(
        voters=sorted(config.voters),
        voters_outgoing=sorted(config.voters_outgoing),
        learners=sorted(config.learners),
        learners_next=sorted(config.learners_next),
        auto_leave=config.auto_leave,
    )


def decode_config(frame: pb.ConfigFrame) -> Config:
    """Raises MalformedMessage for a configuration that breaks the rules of configurations."""
    config = Config(
        voters=frozenset(frame.voters),
        voters_outgoing=frozenset(frame.voters_outgoing),
        learners=frozenset(frame.learners),
        learners_next=frozenset(frame.learners_next),
        auto_leave=frame.auto_leave,
    )
    if len(config.members) > MEMBERS_MAX:
        raise MalformedMessage(f"config: {len(config.members)} members; at most {MEMBERS_MAX}")
    try:
        return check_config(config)
    except InvalidChange as error:
        raise MalformedMessage(f"config: {error}") from None


def message_bytes(message: Message) -> int:
    """About what the message takes on the wire, for the bounds of queues."""
    size = MESSAGE_OVERHEAD_BYTES
    for entry in message.entries:
        size += ENTRY_OVERHEAD_BYTES + len(entry.data)
    return size
