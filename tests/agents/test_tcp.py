"""The TCP state machine by itself: conntrack's table with the differences that tcp.py names."""

from __future__ import annotations

from itertools import product

import pytest

from rocinante.agents.tcp import TIMEOUTS_MS, Direction, Event, classify, following, timeout_ms
from rocinante.flows import TcpState

CONNTRACK = {
    # nf_conntrack_proto_tcp.c, tcp_conntracks[], a column for each state in the order of their numbers; "-" is what it
    # calls ignored or invalid.
    (Direction.ORIGINAL, Event.SYN): "SS SS - - - - - SS SS S2",
    (Direction.ORIGINAL, Event.SYN_ACK): "- - - - - - - - - SR",
    (Direction.ORIGINAL, Event.FIN): "- - FW FW LA LA LA TW CL -",
    (Direction.ORIGINAL, Event.ACK): "ES - ES ES CW CW TW TW CL -",
    (Direction.ORIGINAL, Event.RST): "- CL CL CL CL CL CL CL CL CL",
    (Direction.REPLY, Event.SYN): "- S2 - - - - - - - S2",
    (Direction.REPLY, Event.SYN_ACK): "- SR - - - - - - - SR",
    (Direction.REPLY, Event.FIN): "- - FW FW LA LA LA TW CL -",
    (Direction.REPLY, Event.ACK): "- - SR ES CW CW TW TW CL -",
    (Direction.REPLY, Event.RST): "- CL CL CL CL CL CL CL CL CL",
}
SHORT = dict(zip(("NO", "SS", "SR", "ES", "FW", "CW", "LA", "TW", "CL", "S2"), TcpState, strict=True))
DIFFERENCES = {
    (TcpState.SYN_SENT, Direction.ORIGINAL, Event.ACK): TcpState.ESTABLISHED,
    (TcpState.TIME_WAIT, Direction.REPLY, Event.SYN): TcpState.SYN_SENT,
    (TcpState.CLOSE, Direction.REPLY, Event.SYN): TcpState.SYN_SENT,
}


@pytest.mark.parametrize(("state", "direction"), list(product(TcpState, Direction)))
def test_transitions_are_conntracks_but_for_the_named_differences(state: TcpState, direction: Direction) -> None:
    for event in Event:
        column = CONNTRACK.get((direction, event), " ".join("-" * 10)).split()[state]
        expected = DIFFERENCES.get((state, direction, event), SHORT.get(column))
        assert following(state, direction, event) is expected, (state.name, direction.name, event.name)


@pytest.mark.parametrize(
    ("flags", "event"),
    [
        (0x02, Event.SYN),
        (0x12, Event.SYN_ACK),
        (0xC2, Event.SYN),  # with ECN (RFC 3168, section 6.1.1)
        (0x10, Event.ACK),
        (0x18, Event.ACK),
        (0x11, Event.FIN),
        (0x01, Event.FIN),
        (0x04, Event.RST),
        (0x14, Event.RST),
        (0x06, Event.RST),
        (0x00, Event.NONE),
        (0x28, Event.NONE),
    ],
)
def test_classify(flags: int, event: Event) -> None:
    assert classify(flags) is event


def test_timeouts_are_conntracks() -> None:
    """sysctl net.netfilter.nf_conntrack_tcp_timeout_*, in seconds."""
    seconds = {state.name.lower(): ms // 1_000 for state, ms in TIMEOUTS_MS.items()}
    assert seconds == {
        "none": 10,
        "syn_sent": 120,
        "syn_recv": 60,
        "established": 432_000,
        "fin_wait": 120,
        "close_wait": 60,
        "last_ack": 30,
        "time_wait": 120,
        "close": 10,
        "syn_sent2": 120,
    }
    assert timeout_ms(TcpState.ESTABLISHED, both_ways=False) == 300_000
    assert timeout_ms(TcpState.FIN_WAIT, both_ways=False) == 120_000
