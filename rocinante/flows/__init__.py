"""The flow model: tuple and key, record and value, batch, filter. PURE: no clock, thread, file, socket; imports nothing
of ours but itself."""

from __future__ import annotations

from rocinante.flows.batch import (
    PAIRS,
    BatchInfo,
    BatchKind,
    check_records,
    decode_batch,
    encode_batch,
    iter_pairs,
    payload,
    validate_batch,
)
from rocinante.flows.errors import FlowError
from rocinante.flows.filter import FlowFilter
from rocinante.flows.flow_columns import FlowColumns, decode_columns, encode_columns, encode_keys
from rocinante.flows.key import (
    FlowTuple,
    check_key,
    format_address,
    format_endpoint,
    parse_address,
    parse_endpoint,
    parse_protocol,
    unpack_key,
)
from rocinante.flows.packing import packed, unpacked, unpacked_bytes
from rocinante.flows.record import Backend, FlowFlag, FlowRecord, TcpState
from rocinante.flows.value import is_past, times_ms, unpack_record

__all__ = [
    "PAIRS",
    "Backend",
    "BatchInfo",
    "BatchKind",
    "FlowColumns",
    "FlowError",
    "FlowFilter",
    "FlowFlag",
    "FlowRecord",
    "FlowTuple",
    "TcpState",
    "check_key",
    "check_records",
    "decode_batch",
    "decode_columns",
    "encode_batch",
    "encode_columns",
    "encode_keys",
    "format_address",
    "format_endpoint",
    "is_past",
    "iter_pairs",
    "packed",
    "parse_address",
    "parse_endpoint",
    "parse_protocol",
    "payload",
    "times_ms",
    "unpack_key",
    "unpack_record",
    "unpacked",
    "unpacked_bytes",
    "validate_batch",
]
