"""Many records at once: the fields of packed keys and values as numpy arrays, without a Python object for
each record.

`KEY_FIELDS` and `VALUE_FIELDS` are the layouts of docs/flow-format.md as numpy types. An address of IPv6 is two
numbers, its upper and its lower half.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rocinante.flows.filter import BackendMatch, FlowFilter, Network
from rocinante.flows.key import KEY_V4_BYTES, KEY_V6_BYTES, PROTOCOL_ICMP, PROTOCOL_ICMPV6
from rocinante.flows.record import KNOWN_FLAGS, FlowFlag, TcpState
from rocinante.flows.value import NARROW_BYTES, WIDE_BYTES

Raw = NDArray[Any]
Mask = NDArray[np.bool_]
Fields = Mapping[str, Any]
"""By their names: arrays, or one number that holds for all records."""

_HEAD: Final = [("zone", ">u2"), ("family", "u1"), ("protocol", "u1")]
_PORTS: Final = [("a_port", ">u2"), ("b_port", ">u2")]
KEY_FIELDS: Final[dict[int, np.dtype[Any]]] = {
    KEY_V4_BYTES: np.dtype([*_HEAD, ("a", ">u4"), ("b", ">u4"), *_PORTS]),
    KEY_V6_BYTES: np.dtype([*_HEAD, ("a", ">u8"), ("a_low", ">u8"), ("b", ">u8"), ("b_low", ">u8"), *_PORTS]),
}
"""By the key's width."""
_COMMON: Final = [
    ("deadline_ms", ">u8"),
    ("updated_ms", ">u8"),
    ("mark", ">u4"),
    ("flags", ">u2"),
    ("tcp_state", "u1"),
    ("zero", "u1"),
    ("packets_original", ">u8"),
    ("bytes_original", ">u8"),
    ("packets_reply", ">u8"),
    ("bytes_reply", ">u8"),
]
_REPLY_PORTS: Final = [("reply_source_port", ">u2"), ("reply_destination_port", ">u2")]
VALUE_FIELDS: Final[dict[int, np.dtype[Any]]] = {
    NARROW_BYTES: np.dtype(
        [
            *_COMMON,
            ("backend", ">u4"),
            ("backend_port", ">u2"),
            ("reply_source", ">u4"),
            ("reply_destination", ">u4"),
            *_REPLY_PORTS,
        ]
    ),
    WIDE_BYTES: np.dtype(
        [
            *_COMMON,
            ("backend", ">u8"),
            ("backend_low", ">u8"),
            ("backend_port", ">u2"),
            ("reply_source", ">u8"),
            ("reply_source_low", ">u8"),
            ("reply_destination", ">u8"),
            ("reply_destination_low", ">u8"),
            *_REPLY_PORTS,
        ]
    ),
}
"""By the value's width."""
SLOT_BYTES: Final = {KEY_V4_BYTES: NARROW_BYTES, KEY_V6_BYTES: WIDE_BYTES}
"""The value's width behind a key's, in the batches of one width."""
_LOW64: Final = (1 << 64) - 1
_HAS_BACKEND: Final = int(FlowFlag.HAS_BACKEND)
_HAS_REPLY: Final = int(FlowFlag.HAS_REPLY)
_BACKEND_V4: Final = int(FlowFlag.BACKEND_V4)
_REPLY_V4: Final = int(FlowFlag.REPLY_V4)
_REVERSED: Final = int(FlowFlag.REVERSED)
_LOW32: Final = 0xFFFFFFFF
"""Of an upper half that holds an IPv4 address: what must be zero."""


def split(payload: bytes | memoryview, key_bytes: int) -> tuple[Raw, Raw]:
    """(keys, values) of the records of a fixed kind, as views of the payload. Its length must fit."""
    width = key_bytes + SLOT_BYTES[key_bytes]
    records = np.frombuffer(payload, np.dtype([("key", f"V{key_bytes}"), ("value", f"V{SLOT_BYTES[key_bytes]}")]))
    if records.dtype.itemsize != width:
        raise AssertionError("the layout has padding")
    return records["key"], records["value"]


def join(keys: Raw, values: Raw) -> bytes:
    """The records of a fixed kind from its packed keys and values: what `split` takes apart."""
    records = np.empty(len(keys), np.dtype([("key", keys.dtype), ("value", values.dtype)]))
    records["key"], records["value"] = keys, values
    return records.tobytes()


def keys_of(raw: Raw) -> Raw:
    """The fields of packed keys."""
    return raw.view(KEY_FIELDS[raw.dtype.itemsize])


def values_of(raw: Raw) -> Raw:
    """The fields of packed values."""
    return raw.view(VALUE_FIELDS[raw.dtype.itemsize])


def suspect_keys(keys: Raw) -> Mask:
    """Which keys of one width `check_key` refuses."""
    return _disorder(_fields(keys_of(keys)))[0]


def _fields(records: Raw) -> Fields:
    return {name: records[name] for name in records.dtype.names or ()}


def _disorder(key: Fields) -> tuple[Mask, Mask]:
    """(keys that are not canonical, those whose endpoints are the same)."""
    wide = "a_low" in key
    protocol = key["protocol"]
    a_port, b_port = key["a_port"].astype(np.uint16), key["b_port"].astype(np.uint16)
    kind = np.uint64 if wide else np.uint32
    a, b = key["a"].astype(kind), key["b"].astype(kind)
    greater, equal = a > b, a == b
    if wide:
        a_low, b_low = key["a_low"].astype(np.uint64), key["b_low"].astype(np.uint64)
        greater |= equal & (a_low > b_low)
        equal &= a_low == b_low
    bad: Mask = greater | (key["family"] != (6 if wide else 4))
    bad |= equal & (a_port > b_port)
    bad |= (a_port != b_port) & ((protocol == PROTOCOL_ICMP) | (protocol == PROTOCOL_ICMPV6))
    return bad, equal & (a_port == b_port)


def suspects(keys: Raw, values: Raw) -> Mask:
    """Which records of a fixed kind break a rule of the format: what `check_key` and `check_value` refuse."""
    return suspect_fields(_fields(keys_of(keys)), _fields(values_of(values)))


def suspect_fields(key: Fields, value: Fields) -> Mask:
    """The same by the fields of keys and values, each an array or one number for all."""
    wide = "a_low" in key
    flags = value["flags"].astype(np.uint16)
    disorder, same_ends = _disorder(key)
    bad: Mask = disorder | (same_ends & ((flags & _REVERSED) != 0))
    bad |= (value["tcp_state"] > max(TcpState)) | (value["zero"] != 0) | (flags > KNOWN_FLAGS)
    backend = _any(value, ("backend", "backend_low", "backend_port"))
    reply = _any(
        value,
        (
            "reply_source",
            "reply_source_low",
            "reply_destination",
            "reply_destination_low",
            "reply_source_port",
            "reply_destination_port",
        ),
    )
    bad |= backend & ((flags & _HAS_BACKEND) == 0)
    bad |= reply & ((flags & _HAS_REPLY) == 0)
    narrow_in_wide = (flags & (_BACKEND_V4 | _REPLY_V4)) != 0
    if not narrow_in_wide.any():
        return bad
    if not wide:
        bad |= narrow_in_wide
        return bad
    low = np.uint64(_LOW32)
    padded = ((value["backend"].astype(np.uint64) & low) != 0) | (value["backend_low"] != 0)
    bad |= ((flags & _BACKEND_V4) != 0) & (((flags & _HAS_BACKEND) == 0) | padded)
    padded = _any(value, ("reply_source_low", "reply_destination_low"))
    for half in ("reply_source", "reply_destination"):
        padded = padded | ((value[half].astype(np.uint64) & low) != 0)
    bad |= ((flags & _REPLY_V4) != 0) & (((flags & _HAS_REPLY) == 0) | padded)
    return bad


def _any(value: Fields, fields: Sequence[str]) -> Mask:
    """Whether one of these fields (those that there are) is not zero."""
    found: Mask = np.zeros((), np.bool_)
    for field in fields:
        if field in value:
            found = found | (value[field] != 0)
    return found


def matches(asked: FlowFilter, keys: Raw, values: Raw) -> Mask:
    """Which records the filter means, by all that it asks but the origin. Of values that are longer than their slot
    the beginning must be given, and the backend is not looked at right: see `FlowFilter.matches`."""
    found, value = matches_keys(asked, keys), values_of(values)
    if asked.states:
        found &= np.isin(value["tcp_state"], list(asked.states))
    if asked.backend is not None:
        found &= _has_backend(value, asked.backend)
    return found


def matches_keys(asked: FlowFilter, keys: Raw) -> Mask:
    """Which keys of one width the filter means, by all that it asks of keys."""
    key = keys_of(keys)
    found: Mask = np.ones(len(keys), np.bool_)
    if asked.zone is not None:
        found &= key["zone"] == asked.zone
    if asked.protocols:
        found &= np.isin(key["protocol"], list(asked.protocols))
    if asked.ports:
        ports = list(asked.ports)
        found &= np.isin(key["a_port"], ports) | np.isin(key["b_port"], ports)
    if asked.networks:
        inside: Mask = np.zeros(len(keys), np.bool_)
        for network in asked.networks:
            if network.key_bytes == keys.dtype.itemsize:
                inside |= _in_network(key, "a", network) | _in_network(key, "b", network)
        found &= inside
    return found


def _in_network(key: Raw, end: str, network: Network) -> Mask:
    if network.key_bytes == KEY_V4_BYTES:
        near: Mask = (key[end].astype(np.uint32) & np.uint32(network.mask)) == np.uint32(network.base)
        return near
    high, low = np.uint64(network.mask >> 64), np.uint64(network.mask & _LOW64)
    upper: Mask = (key[end].astype(np.uint64) & high) == np.uint64(network.base >> 64)
    if not low:
        return upper
    upper &= (key[f"{end}_low"].astype(np.uint64) & low) == np.uint64(network.base & _LOW64)
    return upper


def _has_backend(value: Raw, backend: BackendMatch) -> Mask:
    if backend.name:
        return np.zeros(len(value), np.bool_)  # a name makes a value longer than its slot
    flags = value["flags"].astype(np.uint16)
    found: Mask = (flags & _HAS_BACKEND) != 0
    if backend.port is not None:
        found &= value["backend_port"] == backend.port
    address = int.from_bytes(backend.address)
    is_v4 = len(backend.address) == 4
    if value.dtype.itemsize == NARROW_BYTES:
        found &= (value["backend"] == address) if is_v4 else False
        return found
    found &= ((flags & _BACKEND_V4) != 0) == is_v4
    if is_v4:
        address <<= 96
    found &= (value["backend"] == (address >> 64)) & (value["backend_low"] == (address & _LOW64))
    return found
