"""Flows as messages of `rocinante.v1` and as objects of `rocinante.flows`: pure conversions, for servers and
clients alike.

What cannot be converted raises InvalidArgument that names the field as the message has it, such as
`flows[3].original.zone`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from rocinante import limits
from rocinante.errors import InvalidArgument
from rocinante.flows import (
    Backend,
    BatchKind,
    FlowError,
    FlowFilter,
    FlowFlag,
    FlowRecord,
    FlowTuple,
    TcpState,
    encode_batch,
)
from rocinante.flows.batch import HEADER, MAGIC, VERSION, encode_record
from rocinante.flows.value import pack_value
from rocinante.pb.v1 import flow_pb2 as pb

__all__ = [
    "encode_put",
    "filter_from_message",
    "invalid",
    "record_from_message",
    "record_to_message",
    "records_from_messages",
    "tuple_from_message",
    "tuple_to_message",
]

_FRAME = struct.Struct(">BH")
"""What stands before a record of the variable kind (docs/flow-format.md)."""


def invalid(error: FlowError, where: str = "") -> InvalidArgument:
    """The same complaint for a client; `where` is the field of the request that holds the flow, the batch or
    the filter."""
    if error.index >= 0:
        return InvalidArgument(f"{where or 'records'}[{error.index}].{error.field}", error.problem)
    return InvalidArgument(f"{where}.{error.field}" if where else error.field, error.problem)


def tuple_from_message(message: pb.Tuple) -> FlowTuple:
    """Raises FlowError for what is no tuple, its field without a prefix."""
    made = FlowTuple(
        message.zone,
        message.protocol,
        message.source.address,
        message.source.port,
        message.destination.address,
        message.destination.port,
    )
    made.check()
    return made


def tuple_to_message(flow_tuple: FlowTuple) -> pb.Tuple:
    zone, protocol, source, source_port, destination, destination_port = flow_tuple
    return pb.Tuple(
        zone=zone,
        protocol=protocol,
        source=pb.Endpoint(address=source, port=source_port),
        destination=pb.Endpoint(address=destination, port=destination_port),
    )


def record_from_message(message: pb.FlowRecord) -> FlowRecord:
    """Raises FlowError. `origin` and `id` are for output: they are not looked at."""
    if not message.HasField("original"):
        raise FlowError("original", "missing")
    if message.tcp_state > max(TcpState):
        raise FlowError("tcp_state", f"{message.tcp_state} is not in 0 to {int(max(TcpState))}")
    record = FlowRecord(
        original=_prefixed("original", message.original),
        tcp_state=TcpState(message.tcp_state),
        flags=FlowFlag(message.flags),
        deadline_ms=message.deadline_ms,
        updated_ms=message.updated_ms,
        mark=message.mark,
        backend=Backend(message.backend.address, message.backend.port) if message.HasField("backend") else None,
        backend_name=message.backend_name,
        reply=_prefixed("reply", message.reply) if message.HasField("reply") else None,
        packets_original=message.packets_original,
        bytes_original=message.bytes_original,
        packets_reply=message.packets_reply,
        bytes_reply=message.bytes_reply,
        application_data=message.application_data,
    )
    record.check()
    if len(record.application_data) > limits.FLOW_APPLICATION_DATA_BYTES_MAX:
        size = len(record.application_data)
        raise FlowError("application_data", f"{size} bytes; at most {limits.FLOW_APPLICATION_DATA_BYTES_MAX}")
    return record


def record_to_message(record: FlowRecord, origin: str = "") -> pb.FlowRecord:
    """With the key in `id`; `origin` is the datacenter that owns the record, where it is known."""
    message = pb.FlowRecord(
        original=tuple_to_message(record.original),
        tcp_state=record.tcp_state,
        flags=record.flags,
        deadline_ms=record.deadline_ms,
        updated_ms=record.updated_ms,
        mark=record.mark,
        backend_name=record.backend_name,
        packets_original=record.packets_original,
        bytes_original=record.bytes_original,
        packets_reply=record.packets_reply,
        bytes_reply=record.bytes_reply,
        application_data=record.application_data,
        origin=origin,
        id=record.key.hex(),
    )
    if record.backend is not None:
        message.backend.address, message.backend.port = record.backend
    if record.reply is not None:
        message.reply.CopyFrom(tuple_to_message(record.reply))
    return message


def records_from_messages(messages: Iterable[pb.FlowRecord], where: str = "flows") -> list[FlowRecord]:
    """Raises InvalidArgument with the number of the first bad one."""
    records: list[FlowRecord] = []
    for index, message in enumerate(messages):
        try:
            records.append(record_from_message(message))
        except FlowError as error:
            raise invalid(error.at(index), where) from None
    return records


def encode_put(records: Sequence[FlowRecord], where: str = "flows") -> bytes:
    """One batch of all records, in order: one command, so that they become visible together and a retry is one request.

    Raises InvalidArgument for records that cannot be encoded, none, or more than a batch takes.
    """
    if not 1 <= len(records) <= limits.FLOW_BATCH_RECORDS_MAX:
        raise InvalidArgument(where, f"{len(records)} flows; expected 1 to {limits.FLOW_BATCH_RECORDS_MAX}")
    try:
        batch = _one_batch(records)
    except FlowError as error:
        raise invalid(error, where) from None
    if len(batch) > limits.FLOW_BATCH_BYTES_MAX:
        raise InvalidArgument(where, f"{len(batch)} bytes encoded; at most {limits.FLOW_BATCH_BYTES_MAX}")
    return batch


def _one_batch(records: Sequence[FlowRecord]) -> bytes:
    """Of the narrowest kind that holds them all; the variable kind holds every record."""
    batches = encode_batch(records, records_max=limits.FLOW_BATCH_RECORDS_MAX, bytes_max=limits.FLOW_BATCH_BYTES_MAX)
    if len(batches) == 1:
        return batches[0]
    frames = [_variable_frame(record) for record in records]
    return HEADER.pack(MAGIC, VERSION, BatchKind.VARIABLE, 0, len(frames)) + b"".join(frames)


def _variable_frame(record: FlowRecord) -> bytes:
    kind, encoded = encode_record(record)
    if kind == BatchKind.VARIABLE:
        return encoded
    key, value = record.key, pack_value(record, narrow=False, tail=False)
    return _FRAME.pack(len(key), len(value)) + key + value


def filter_from_message(message: pb.FlowFilter, where: str = "filter") -> FlowFilter:
    """Raises InvalidArgument that names the condition."""
    try:
        return FlowFilter.parse(
            address=message.address,
            port=message.port,
            protocol=message.protocol,
            tcp_state=message.tcp_state,
            backend=message.backend,
            zone=message.zone if message.HasField("zone") else None,
            origin=message.origin,
        )
    except FlowError as error:
        raise invalid(error, where) from None


def _prefixed(field: str, message: pb.Tuple) -> FlowTuple:
    try:
        return tuple_from_message(message)
    except FlowError as error:
        raise FlowError(f"{field}.{error.field}", error.problem) from None
