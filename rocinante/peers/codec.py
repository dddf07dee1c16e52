"""Between the core's messages and the wire (`proto/rocinante/v1/peer.proto`).

Entry data is carried as it is: an entry is encoded once, by the node that proposed it. Entries are megabytes, so their
bytes are not put into message objects, which would copy them three times for each peer: what stands around them is
encoded, and a batch is joined once, as it is written (`encode`, `join_batch`). What comes from the wire is checked
here, so that the core only ever sees well-formed messages: `decode` raises `MalformedMessage` with the field
at fault.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from google.protobuf.message import Message as ProtobufMessage

from rocinante.pb.v1 import peer_pb2 as pb
from rocinante.raft.membership import MEMBERS_MAX, check_config, decode_change
from rocinante.raft.types import Config, Entry, EntryKind, InvalidChange, Message, MessageType


class MalformedMessage(ValueError):
    """A peer sent something that no Rocinante sends; the message names the field."""


class Encoded(NamedTuple):
    """A PeerMessage as it goes over the wire, in pieces: the data of entries is among them as it is."""

    parts: tuple[bytes, ...]
    size: int


def encode_message(message: Message) -> Encoded:
    head = pb.RaftMessage(
        type=int(message.type),
        to=message.to,
        sender=message.sender,
        term=message.term,
        log_index=message.log_index,
        log_term=message.log_term,
        commit=message.commit,
        reject=message.reject,
        hint_index=message.hint_index,
        hint_term=message.hint_term,
        context=message.context,
        force=message.force,
    ).SerializeToString()
    parts: list[bytes] = [b"", head]
    size = len(head)
    for entry in message.entries:
        inner = pb.LogEntryFrame(index=entry.index, term=entry.term, kind=int(entry.kind)).SerializeToString()
        if entry.data:
            inner += _DATA_TAG + varint(len(entry.data))
        before = _ENTRIES_TAG + varint(len(inner) + len(entry.data)) + inner
        parts += (before, entry.data)
        size += len(before) + len(entry.data)
    parts[0] = _RAFT_TAG + varint(size)
    return Encoded(tuple(parts), size + len(parts[0]))


def encode_frame(frame: pb.PeerMessage) -> Encoded:
    """What is not the core's."""
    encoded = frame.SerializeToString()
    return Encoded((encoded,), len(encoded))


def join_batch(messages: Iterable[Encoded]) -> bytes:
    """A PeerBatch of these messages. The one copy that is made of them."""
    parts: list[bytes] = []
    for message in messages:
        parts.append(_MESSAGES_TAG + varint(message.size))
        parts.extend(message.parts)
    return b"".join(parts)


def varint(number: int) -> bytes:
    """A number >= 0 as protobuf writes lengths."""
    if number < 0x80:
        return bytes((number,))
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _tag(field: str, message: type[ProtobufMessage]) -> bytes:
    """What stands before the length of a field of bytes, or of a message, in a message of this type."""
    return varint(message.DESCRIPTOR.fields_by_name[field].number << 3 | _LENGTH_DELIMITED)


_LENGTH_DELIMITED: Final = 2
_MESSAGES_TAG: Final = _tag("messages", pb.PeerBatch)
_RAFT_TAG: Final = _tag("raft", pb.PeerMessage)
_ENTRIES_TAG: Final = _tag("entries", pb.RaftMessage)
_DATA_TAG: Final = _tag("data", pb.LogEntryFrame)


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
