"""One flow as an object: what a batch carries in bytes (`value.py`, `batch.py`), with its checks.

Units: times are unix milliseconds (0: none), counters are packets and bytes since the flow began, u64.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final, NamedTuple

from rocinante.flows.errors import FlowError
from rocinante.flows.key import ADDRESS_BYTES, FlowTuple, check_range

U16_MAX: Final = 0xFFFF
U32_MAX: Final = 0xFFFF_FFFF
U64_MAX: Final = 0xFFFF_FFFF_FFFF_FFFF
BACKEND_NAME_BYTES_MAX: Final = 255
"""What the format can hold (u8); the API may allow less."""
APPLICATION_DATA_BYTES_MAX: Final = 0xFFFF - 4096
"""What the format can hold beside the rest (the value's length is a u16); the API allows less."""


class TcpState(IntEnum):
    """conntrack's names and numbers (linux/netfilter/nf_conntrack_tcp.h)."""

    NONE = 0
    SYN_SENT = 1
    SYN_RECV = 2
    ESTABLISHED = 3
    FIN_WAIT = 4
    CLOSE_WAIT = 5
    LAST_ACK = 6
    TIME_WAIT = 7
    CLOSE = 8
    SYN_SENT2 = 9


class FlowFlag(IntFlag):
    """The u16 of a value. What is in LAYOUT_FLAGS describes the bytes: the encoder sets it, whatever a record says."""

    REVERSED = 1
    """The source of the original direction is the second endpoint of the key."""
    SEEN_REPLY = 2
    """Packets were seen in both directions (conntrack's IPS_SEEN_REPLY)."""
    ASSURED = 4
    """Not to be dropped early when the table is full (IPS_ASSURED)."""
    NAT_SRC = 8
    """The source is translated (IPS_SRC_NAT)."""
    NAT_DST = 16
    """The destination is translated (IPS_DST_NAT)."""
    HAS_BACKEND = 32
    HAS_REPLY = 64
    BACKEND_V4 = 128
    """In a wide value: the backend's address is IPv4, in the first 4 of the 16 bytes."""
    REPLY_V4 = 256
    """In a wide value: the addresses of the reply tuple are IPv4, each in the first 4 of its 16 bytes."""


LAYOUT_FLAGS: Final = (
    FlowFlag.REVERSED | FlowFlag.HAS_BACKEND | FlowFlag.HAS_REPLY | FlowFlag.BACKEND_V4 | FlowFlag.REPLY_V4
)
KNOWN_FLAGS: Final = 0x1FF
_STATE_MAX: Final = int(max(TcpState))
NO_FLAGS: Final = FlowFlag(0)


class Backend(NamedTuple):
    """Where a load balancer sent the flow."""

    address: bytes
    port: int


@dataclass(slots=True)
class FlowRecord:
    """A flow; `original` is its first direction as its initiator sent it. `reply` None: the original turned round (no
    NAT)."""

    original: FlowTuple
    tcp_state: TcpState = TcpState.NONE
    flags: FlowFlag = NO_FLAGS
    deadline_ms: int = 0
    updated_ms: int = 0
    mark: int = 0
    backend: Backend | None = None
    backend_name: str = ""
    reply: FlowTuple | None = None
    packets_original: int = 0
    bytes_original: int = 0
    packets_reply: int = 0
    bytes_reply: int = 0
    application_data: bytes = b""

    @property
    def key(self) -> bytes:
        return self.original.key()

    def check(self) -> None:
        """Raise FlowError, naming the field, unless the record can be encoded."""
        self.original.check("original")
        check_range("tcp_state", self.tcp_state, _STATE_MAX)
        flags = int(self.flags)
        if flags & ~KNOWN_FLAGS:
            raise FlowError("flags", f"0x{flags:x} has unknown bits; known are 0x{KNOWN_FLAGS:x}")
        check_range("mark", self.mark, U32_MAX)
        for name in ("deadline_ms", "updated_ms", "packets_original", "bytes_original", "packets_reply", "bytes_reply"):
            check_range(name, getattr(self, name), U64_MAX)
        if self.backend is not None:
            if len(self.backend.address) not in ADDRESS_BYTES:
                raise FlowError("backend.address", f"{len(self.backend.address)} bytes; an address has 4 or 16")
            check_range("backend.port", self.backend.port, U16_MAX)
        if self.reply is not None:
            self._check_reply(self.reply)
        try:
            name_bytes = len(self.backend_name.encode())
        except UnicodeEncodeError as error:
            raise FlowError("backend_name", "not encodable as UTF-8") from error
        if name_bytes > BACKEND_NAME_BYTES_MAX:
            raise FlowError("backend_name", f"{name_bytes} bytes; at most {BACKEND_NAME_BYTES_MAX}")
        if len(self.application_data) > APPLICATION_DATA_BYTES_MAX:
            raise FlowError(
                "application_data", f"{len(self.application_data)} bytes; at most {APPLICATION_DATA_BYTES_MAX}"
            )

    def _check_reply(self, reply: FlowTuple) -> None:
        reply.check("reply")
        if reply.zone != self.original.zone:
            raise FlowError("reply.zone", f"{reply.zone}; the original tuple has {self.original.zone}")
        if reply.protocol != self.original.protocol:
            raise FlowError("reply.protocol", f"{reply.protocol}; the original tuple has {self.original.protocol}")
