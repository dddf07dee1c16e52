"""Results and errors of commands, and their bytes: what a session keeps for a retry, and a snapshot carries.

    u8 tag | content     tags 0 None, 1 int (u64), 2.. an etcd response (protobuf), 64.. an error (u16 length | field |
    text)

The etcd messages have no maps, so that their bytes are the same on all nodes. A result is kept as bytes, not as an
object, so that what a caller does with the object that it got changes nothing here.
"""

from __future__ import annotations

import struct
from typing import Final

from google.protobuf.message import Message

from rocinante import errors
from rocinante.errors import InvalidArgument, RocinanteError
from rocinante.pb.etcd import rpc_pb2

Result = (
    rpc_pb2.PutResponse | rpc_pb2.DeleteRangeResponse | rpc_pb2.TxnResponse | rpc_pb2.CompactionResponse | int | None
)
"""What a command answers: KV_* the etcd response (of its header only `revision` is set), FLOW_PUT the number of
records, FLOW_DELETE and FLOW_EXPIRE the number deleted, the others None."""

_NONE: Final = b"\x00"
_INT: Final = struct.Struct(">BQ")
_INT_TAG: Final = 1
_MESSAGE_TAGS: Final[dict[type[Message], bytes]] = {
    rpc_pb2.PutResponse: b"\x02",
    rpc_pb2.DeleteRangeResponse: b"\x03",
    rpc_pb2.TxnResponse: b"\x04",
    rpc_pb2.CompactionResponse: b"\x05",
}
_MESSAGES: Final = {tag[0]: message for message, tag in _MESSAGE_TAGS.items()}
_ERROR_TAGS: Final[dict[type[RocinanteError], int]] = {
    errors.InvalidArgument: 64,
    errors.OutOfRange: 65,
    errors.NotFound: 66,
    errors.AlreadyExists: 67,
    errors.FailedPrecondition: 68,
    errors.ResourceExhausted: 69,
    errors.SessionExpired: 70,
    errors.Internal: 71,
}
_ERRORS: Final = {tag: error for error, tag in _ERROR_TAGS.items()}
_FIELD: Final = struct.Struct(">H")


def encode_outcome(outcome: Result | RocinanteError) -> bytes:
    """The bytes of a result, or of one of the errors that a state machine may give."""
    if isinstance(outcome, Message):
        return _MESSAGE_TAGS[type(outcome)] + outcome.SerializeToString()
    if outcome is None:
        return _NONE
    if isinstance(outcome, int):
        return _INT.pack(_INT_TAG, outcome)
    tag = _ERROR_TAGS.get(type(outcome), _ERROR_TAGS[errors.Internal])
    field = outcome.field.encode() if isinstance(outcome, InvalidArgument) else b""
    text = outcome.message.encode(errors="replace")
    if field:
        text = text[len(field) + 2 :]
    return bytes((tag,)) + _FIELD.pack(len(field)) + field + text


def decode_outcome(data: bytes) -> Result | RocinanteError:
    """The object of `encode_outcome`'s bytes. Raises ValueError when they are not that."""
    if not data:
        raise ValueError("an outcome has at least one byte")
    tag, content = data[0], data[1:]
    if data == _NONE:
        return None
    if tag == _INT_TAG and len(data) == _INT.size:
        number: int = _INT.unpack(data)[1]
        return number
    if tag in _MESSAGES:
        return _MESSAGES[tag].FromString(content)  # type: ignore[return-value]  # one of Result's, by the table
    if tag in _ERRORS and len(content) >= _FIELD.size:
        (length,) = _FIELD.unpack_from(content)
        field, text = content[2 : 2 + length].decode(), content[2 + length :].decode()
        error = _ERRORS[tag]
        return InvalidArgument(field, text) if error is InvalidArgument else error(text)
    raise ValueError(f"an outcome with tag {tag} and {len(data)} bytes is not known")
