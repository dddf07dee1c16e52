"""The flow table's options: how much it may hold, and how long a flow lives without news."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rocinante import limits
from rocinante.config.option import option


def _seconds(key: str, default: int) -> Any:
    return field(default=default, metadata=option(key, minimum=1, maximum=limits.FLOW_TIMEOUT_S_MAX, unit="s"))


@dataclass(frozen=True, slots=True)
class FlowTimeouts:
    """Seconds; the names (but for their spelling) and the defaults are conntrack's: Linux's
    Documentation/networking/nf_conntrack-sysctl.rst, and net/netfilter/nf_conntrack_proto_*.c for what has no sysctl.
    A record without a deadline gets one by them on its way in."""

    tcp_none: int = _seconds("tcpNone", 600)
    """The writer does not follow the states of TCP; conntrack has no such flow, this is its generic time-out."""
    tcp_syn_sent: int = _seconds("tcpSynSent", 120)
    tcp_syn_recv: int = _seconds("tcpSynRecv", 60)
    tcp_established: int = _seconds("tcpEstablished", 432_000)
    tcp_fin_wait: int = _seconds("tcpFinWait", 120)
    tcp_close_wait: int = _seconds("tcpCloseWait", 60)
    tcp_last_ack: int = _seconds("tcpLastAck", 30)
    tcp_time_wait: int = _seconds("tcpTimeWait", 120)
    tcp_close: int = _seconds("tcpClose", 10)
    tcp_syn_sent2: int = _seconds("tcpSynSent2", 120)
    udp: int = _seconds("udp", 30)
    """No answer was seen; UDP-Lite too."""
    udp_stream: int = _seconds("udpStream", 120)
    """Answers were seen."""
    gre: int = _seconds("gre", 30)
    gre_stream: int = _seconds("greStream", 180)
    sctp: int = _seconds("sctp", 210)
    """An established association: a record has no states of SCTP."""
    dccp: int = _seconds("dccp", 43_200)
    """As sctp."""
    icmp: int = _seconds("icmp", 30)
    icmpv6: int = _seconds("icmpv6", 30)
    generic: int = _seconds("generic", 600)
    """Any other protocol."""


@dataclass(frozen=True, slots=True)
class FlowOptions:
    """Bounds are on flows of all origins together. At nine tenths an alarm is raised; beyond it batches with new flows
    are refused, updates, deletes and expiry are not."""

    max_records: int = field(
        default=limits.FLOW_TABLE_RECORDS_MAX,
        metadata=option("max", minimum=1_000, maximum=limits.FLOW_RECORDS_MAX, unit="records"),
    )
    max_bytes: int = field(
        default=limits.FLOW_TABLE_BYTES_MAX,
        metadata=option("maxBytes", minimum=limits.MIB, maximum=1024 * 1024 * limits.MIB, unit="bytes"),
    )
    """As docs/flow-format.md counts them."""
    timeouts: FlowTimeouts | None = field(default=FlowTimeouts(), metadata=option("timeouts"))
    """None (`off`): a record without a deadline stays until it is deleted."""
    zones: tuple[tuple[int, FlowTimeouts], ...] = field(default=(), metadata=option("zones"))
    """Zones with time-outs of their own: what one does not say is as in `timeouts`."""
