"""The TCP state machine of the flow tracker: conntrack's states, seen by a bystander. PURE.

conntrack (net/netfilter/nf_conntrack_proto_tcp.c) is in the path of the packets; the sniffer only looks on and may
miss some. So it differs from conntrack's table in these points, (a) and (b) marked in the tables:

(a) An ACK of the initiator after its SYN means that the SYN/ACK was missed: ESTABLISHED. conntrack calls it invalid.
(b) A SYN of either side opens a closed connection (TIME_WAIT, CLOSE) again. conntrack lets only the initiator do so.
(c) Sequence windows and retransmissions are not followed, so the time-outs RETRANS and UNACK for unanswered data
    are not applied.

A dot in a table means: the packet is counted, but state and deadline stay.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from rocinante.flows import TcpState

FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
ACK: Final = 0x10


class Event(IntEnum):
    """What a segment is to the state machine."""

    SYN = 0
    SYN_ACK = 1
    FIN = 2
    ACK = 3
    RST = 4
    NONE = 5
    """No flag that matters: no legal segment of an open connection."""


class Direction(IntEnum):
    ORIGINAL = 0
    REPLY = 1


ORIGINAL: Final = """
    state         syn         syn_ack   fin         ack          rst
    NONE          SYN_SENT    .         .           ESTABLISHED  .
    SYN_SENT      SYN_SENT    .         .           ESTABLISHED  CLOSE
    SYN_SENT2     SYN_SENT2   SYN_RECV  .           .            CLOSE
    SYN_RECV      .           .         FIN_WAIT    ESTABLISHED  CLOSE
    ESTABLISHED   .           .         FIN_WAIT    ESTABLISHED  CLOSE
    FIN_WAIT      .           .         LAST_ACK    CLOSE_WAIT   CLOSE
    CLOSE_WAIT    .           .         LAST_ACK    CLOSE_WAIT   CLOSE
    LAST_ACK      .           .         LAST_ACK    TIME_WAIT    CLOSE
    TIME_WAIT     SYN_SENT    .         TIME_WAIT   TIME_WAIT    CLOSE
    CLOSE         SYN_SENT    .         CLOSE       CLOSE        CLOSE
"""
"""A segment of the initiator. (a) is the ack in SYN_SENT. From TIME_WAIT or CLOSE to SYN_SENT is a new flow."""

REPLY: Final = """
    state         syn         syn_ack   fin         ack          rst
    NONE          .           .         .           .            .
    SYN_SENT      SYN_SENT2   SYN_RECV  .           .            CLOSE
    SYN_SENT2     SYN_SENT2   SYN_RECV  .           .            CLOSE
    SYN_RECV      .           .         FIN_WAIT    SYN_RECV     CLOSE
    ESTABLISHED   .           .         FIN_WAIT    ESTABLISHED  CLOSE
    FIN_WAIT      .           .         LAST_ACK    CLOSE_WAIT   CLOSE
    CLOSE_WAIT    .           .         LAST_ACK    CLOSE_WAIT   CLOSE
    LAST_ACK      .           .         LAST_ACK    TIME_WAIT    CLOSE
    TIME_WAIT     SYN_SENT    .         TIME_WAIT   TIME_WAIT    CLOSE
    CLOSE         SYN_SENT    .         CLOSE       CLOSE        CLOSE
"""
"""A segment of the other side. (b) is the syn in TIME_WAIT and CLOSE: its sender is the new flow's initiator."""

TIMEOUTS_MS: Final[dict[TcpState, int]] = {
    TcpState.NONE: 10_000,
    TcpState.SYN_SENT: 120_000,
    TcpState.SYN_RECV: 60_000,
    TcpState.ESTABLISHED: 5 * 86_400_000,
    TcpState.FIN_WAIT: 120_000,
    TcpState.CLOSE_WAIT: 60_000,
    TcpState.LAST_ACK: 30_000,
    TcpState.TIME_WAIT: 120_000,
    TcpState.CLOSE: 10_000,
    TcpState.SYN_SENT2: 120_000,
}
"""tcp_timeouts of nf_conntrack_proto_tcp.c (Linux 6.x); no flow stays in NONE."""

UNACKNOWLEDGED_MS: Final = 300_000
"""Same file, TCP_CONNTRACK_UNACK: an ESTABLISHED connection that was picked up in its middle and seen in one
direction only."""

Rows = tuple[tuple[TcpState | None, ...], ...]


def _parse(table: str) -> Rows:
    """A table as [state][event]; None is a dot. The event NONE never changes anything."""
    rows: dict[TcpState, tuple[TcpState | None, ...]] = {}
    for line in table.strip().splitlines()[1:]:
        name, *cells = line.split()
        rows[TcpState[name]] = (*(None if cell == "." else TcpState[cell] for cell in cells), None)
    return tuple(rows[state] for state in TcpState)


_TRANSITIONS: Final[tuple[Rows, Rows]] = (_parse(ORIGINAL), _parse(REPLY))


def classify(flags: int) -> Event:
    """What conntrack's get_conntrack_index makes of a segment's flags: RST before SYN before FIN before ACK."""
    if flags & RST:
        return Event.RST
    if flags & SYN:
        return Event.SYN_ACK if flags & ACK else Event.SYN
    if flags & FIN:
        return Event.FIN
    return Event.ACK if flags & ACK else Event.NONE


def following(state: TcpState, direction: Direction, event: Event) -> TcpState | None:
    """The state after the segment; None: it stays, and so does the deadline."""
    return _TRANSITIONS[direction][state][event]


def timeout_ms(state: TcpState, both_ways: bool) -> int:
    """How long a connection in `state` may be silent before it is forgotten."""
    if state is TcpState.ESTABLISHED and not both_ways:
        return UNACKNOWLEDGED_MS
    return TIMEOUTS_MS[state]
