"""How long a flow lives without news: time-outs by zone, protocol, TCP state and whether answers were seen.

A record that states no deadline (0) gets one before it goes into the log, many records at a time; so every update moves
its flow's deadline. Counted from the record's update time; from now where it has none, where that time is still to
come, or where the flow would be over already: who writes a flow holds it alive. NO_DEADLINE says that it never ends.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rocinante.flows import columns
from rocinante.flows.batch import HEADER_BYTES, BatchInfo, BatchKind, Buffer, validate_batch
from rocinante.flows.key import KEY_V4_BYTES, KEY_V6_BYTES, PROTOCOL_ICMP, PROTOCOL_ICMPV6
from rocinante.flows.packing import is_packed, least, packed, unpacked
from rocinante.flows.record import U64_MAX, FlowFlag, TcpState

NO_DEADLINE: Final = U64_MAX
"""As `deadline_ms`: the flow stays until it is deleted, whatever the time-outs say."""
_STATES: Final = len(TcpState)
_PLACES: Final = 256 * _STATES * 2
"""Of one zone: protocol, TCP state, seen reply."""
_SEEN_REPLY: Final = int(FlowFlag.SEEN_REPLY)
_REPLY_BIT: Final = _SEEN_REPLY.bit_length() - 1
_TIMES: Final = struct.Struct(">QQ")
_FRAME: Final = struct.Struct(">BH")
_TCP, _UDP, _DCCP, _GRE, _SCTP, _UDPLITE = 6, 17, 33, 47, 132, 136


TIMEOUT_NAMES: Final = (
    *(f"tcp_{state.name.lower()}" for state in TcpState),
    "udp", "udp_stream", "gre", "gre_stream", "sctp", "dccp", "icmp", "icmpv6", "generic",
)  # fmt: skip
"""What a zone says, in seconds. `udp` (UDP-Lite too) and `gre` are until an answer is seen, `…_stream` from then on;
`generic` is any other protocol."""


def _milliseconds(seconds: Mapping[str, int]) -> NDArray[np.uint64]:
    """By (protocol × states + state) × 2 + seen reply."""
    table = np.full((256, _STATES, 2), seconds["generic"], np.uint64)
    for state in TcpState:
        table[_TCP, state] = seconds[f"tcp_{state.name.lower()}"]
    for protocol, name in ((_UDP, "udp"), (_UDPLITE, "udp"), (_GRE, "gre")):
        table[protocol, :, 0], table[protocol, :, 1] = seconds[name], seconds[f"{name}_stream"]
    for protocol, name in ((_SCTP, "sctp"), (_DCCP, "dccp"), (PROTOCOL_ICMP, "icmp"), (PROTOCOL_ICMPV6, "icmpv6")):
        table[protocol] = seconds[name]
    flat: NDArray[np.uint64] = table.reshape(-1) * np.uint64(1000)
    return flat


class Timeouts:
    """The time-outs of all zones. `stamp` is for any thread."""

    def __init__(self, default: Mapping[str, int], zones: Mapping[int, Mapping[str, int]] | None = None) -> None:
        """Seconds by the names of TIMEOUT_NAMES, for zones that say nothing and for those that do."""
        zones = zones or {}
        self._tables: NDArray[np.uint64] = np.concatenate([_milliseconds(one) for one in (default, *zones.values())])
        self._starts: NDArray[np.int64] = np.zeros(1 << 16, np.int64)
        """Where the table of each zone begins."""
        for number, zone in enumerate(zones, 1):
            self._starts[zone] = number * _PLACES

    def timeout_ms(self, zone: int, protocol: int, state: int, *, seen_reply: bool) -> int:
        """Of one kind of flow."""
        return int(self._tables[int(self._starts[zone]) + (protocol * _STATES + state) * 2 + seen_reply])

    def stamp_any(self, batch: Buffer, now_ms: int, *, records_max: int, bytes_max: int) -> Buffer:
        """`stamp` for a valid batch within these bounds, packed ones too; one that states all deadlines stays
        packed as it is."""
        if is_packed(batch) and least(batch, "deadline_ms"):
            return batch
        fixed = unpacked(batch, records_max=records_max, bytes_max=bytes_max)
        changed = self.stamp(fixed, validate_batch(fixed, records_max=records_max, bytes_max=bytes_max), now_ms)
        return packed(changed) if is_packed(batch) else changed

    def stamp(self, batch: Buffer, info: BatchInfo, now_ms: int) -> Buffer:
        """The batch, with a deadline for each record that has none: the same object where all have one.

        The batch must be valid (`validate_batch`, `check_records`).
        """
        if info.kind is BatchKind.VARIABLE:
            return self._stamp_variable(batch, info.count, now_ms)
        key_bytes = KEY_V6_BYTES if info.kind is BatchKind.V6 else KEY_V4_BYTES
        _, raw = columns.split(memoryview(batch)[HEADER_BYTES:], key_bytes)
        without = np.flatnonzero(columns.values_of(raw)["deadline_ms"] == 0)
        if not without.size:
            return batch
        changed = bytearray(batch)
        raw_keys, raw = columns.split(memoryview(changed)[HEADER_BYTES:], key_bytes)
        key, value = columns.keys_of(raw_keys), columns.values_of(raw)
        if without.size < len(raw):
            key, value_of = key[without], value[without]
        else:
            value_of = value
        seen_reply = (value_of["flags"] >> _REPLY_BIT) & 1
        place = (key["protocol"].astype(np.int64) * _STATES + value_of["tcp_state"]) * 2 + seen_reply
        timeouts = self._tables[self._starts[key["zone"]] + place]
        value["deadline_ms"][without] = _deadlines(value_of["updated_ms"].astype(np.uint64), timeouts, now_ms)
        return bytes(changed)

    def _stamp_variable(self, batch: Buffer, count: int, now_ms: int) -> Buffer:
        changed: bytearray | None = None
        at = HEADER_BYTES
        for _ in range(count):
            key_bytes, value_bytes = _FRAME.unpack_from(batch, at)
            key_at = at + _FRAME.size
            at = key_at + key_bytes
            deadline_ms, updated_ms = _TIMES.unpack_from(batch, at)
            if not deadline_ms:
                changed = bytearray(batch) if changed is None else changed
                timeout_ms = self.timeout_ms(
                    int.from_bytes(batch[key_at : key_at + 2]),
                    batch[key_at + 3],
                    batch[at + 22],
                    seen_reply=bool(batch[at + 21] & _SEEN_REPLY),
                )
                begin_ms = updated_ms if now_ms - timeout_ms < updated_ms <= now_ms else now_ms
                struct.pack_into(">Q", changed, at, begin_ms + timeout_ms)
            at += value_bytes
        return batch if changed is None else bytes(changed)


def _deadlines(updated: NDArray[np.uint64], timeouts: NDArray[np.uint64], now_ms: int) -> NDArray[np.uint64]:
    now = np.uint64(now_ms)
    believed = (updated <= now) & (updated + timeouts > now)
    begin = np.where(believed, updated, now)
    deadlines: NDArray[np.uint64] = begin + timeouts
    return deadlines
