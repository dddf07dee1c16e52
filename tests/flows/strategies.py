"""Random flows for Hypothesis: few addresses and ports, so that they meet, and every field at its edges."""

from __future__ import annotations

from hypothesis import strategies as st

from rocinante.flows import Backend, FlowFlag, FlowRecord, FlowTuple, TcpState

V4 = st.sampled_from([bytes(4), b"\x0a\x00\x00\x01", b"\x0a\x00\x00\x02", b"\xff" * 4]) | st.binary(
    min_size=4, max_size=4
)
V6 = st.sampled_from([bytes(16), b"\xfe\x80" + bytes(13) + b"\x01", b"\xff" * 16]) | st.binary(min_size=16, max_size=16)
PORTS = st.sampled_from([0, 1, 80, 443, 65535]) | st.integers(0, 65535)
U64 = st.sampled_from([0, 1, 2**64 - 1]) | st.integers(0, 2**64 - 1)
USER_FLAGS = [FlowFlag.SEEN_REPLY, FlowFlag.ASSURED, FlowFlag.NAT_SRC, FlowFlag.NAT_DST]


@st.composite
def tuples(draw: st.DrawFn, zone: int | None = None, protocol: int | None = None) -> FlowTuple:
    addresses = draw(st.sampled_from([V4, V6]))
    if protocol is None:
        protocol = draw(st.sampled_from([1, 6, 17, 47, 58, 132]) | st.integers(0, 255))
    source_port = draw(PORTS)
    destination_port = source_port if protocol in (1, 58) else draw(PORTS)
    zone = draw(st.sampled_from([0, 1, 65535])) if zone is None else zone
    return FlowTuple(zone, protocol, draw(addresses), source_port, draw(addresses), destination_port)


@st.composite
def records(draw: st.DrawFn) -> FlowRecord:
    original = draw(tuples())
    flags = FlowFlag(0)
    for flag in draw(st.lists(st.sampled_from(USER_FLAGS))):
        flags |= flag
    return FlowRecord(
        original=original,
        tcp_state=draw(st.sampled_from(TcpState)),
        flags=flags,
        deadline_ms=draw(U64),
        updated_ms=draw(U64),
        mark=draw(st.integers(0, 2**32 - 1)),
        backend=draw(st.none() | st.builds(Backend, V4 | V6, PORTS)),
        backend_name=draw(st.just("") | st.text(max_size=60)),
        reply=draw(st.none() | tuples(zone=original.zone, protocol=original.protocol)),
        packets_original=draw(U64),
        bytes_original=draw(U64),
        packets_reply=draw(U64),
        bytes_reply=draw(U64),
        application_data=draw(st.just(b"") | st.binary(max_size=200)),
    )
