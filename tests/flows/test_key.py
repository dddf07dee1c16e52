from __future__ import annotations

import pytest
from hypothesis import given

from rocinante.flows import FlowError, FlowTuple, check_key, parse_endpoint, unpack_key
from tests.flows.strategies import tuples


@given(tuples())
def test_both_directions_have_the_same_key(flow: FlowTuple) -> None:
    flow.check()
    check_key(flow.key())
    assert flow.key() == flow.turned().key()
    assert unpack_key(flow.key(), reverse=flow.reversed) == flow


@given(tuples(), tuples())
def test_different_connections_have_different_keys(one: FlowTuple, other: FlowTuple) -> None:
    assert (one.key() == other.key()) == (other in (one, one.turned()))


@pytest.mark.parametrize(
    ("protocol", "source", "destination", "key"),
    [
        ("tcp", "10.0.0.2:1234", "10.0.0.1:80", "0000 04 06 0a000001 0a000002 0050 04d2"),
        ("tcp", "10.0.0.1:80", "10.0.0.2:1234", "0000 04 06 0a000001 0a000002 0050 04d2"),
        ("udp", "10.0.0.1:9", "10.0.0.1:8", "0000 04 11 0a000001 0a000001 0008 0009"),
        (
            "sctp",
            "[2001:db8::1]:1",
            "[::1]:2",
            "0000 06 84 00000000000000000000000000000001 20010db8000000000000000000000001 0002 0001",
        ),
        ("icmp", "10.0.0.9:7", "10.0.0.8:7", "0000 04 01 0a000008 0a000009 0007 0007"),
    ],
)
def test_key_to_the_byte(protocol: str, source: str, destination: str, key: str) -> None:
    assert FlowTuple.from_text(protocol, source, destination).key() == bytes.fromhex(key)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("tpc", "10.0.0.1:1", "10.0.0.2:1"), "protocol"),
        (("256", "10.0.0.1:1", "10.0.0.2:1"), "protocol"),
        (("tcp", "10.0.0.1:65536", "10.0.0.2:1"), "source"),
        (("tcp", "10.0.0.1:x", "10.0.0.2:1"), "source"),
        (("tcp", "10.0.0.1:99999999999999999999", "10.0.0.2:1"), "source"),
        (("tcp", "10.0.0.1:", "10.0.0.2:1"), "source"),
        (("tcp", "10.0.0.1:-1", "10.0.0.2:1"), "source"),
        (("tcp", "10.0.0.1:1", "10.0.0.256:1"), "destination"),
        (("tcp", "10.0.0.1:1", "[::1]:1"), "destination.address"),
        (("tcp", "[fe80::1%eth0]:1", "[::1]:1"), "source"),
        (("tcp", "[::1:1", "[::1]:1"), "source"),
        (("tcp", "[::1]1", "[::1]:1"), "source"),
        (("icmp", "10.0.0.1:1", "10.0.0.2:2"), "destination.port"),
        (("tcp", "10.0.0.1:1", "10.0.0.2:1", 65536), "zone"),
    ],
)
def test_text_that_is_no_tuple_names_the_field(arguments: tuple[str, str, str], field: str) -> None:
    with pytest.raises(FlowError) as caught:
        FlowTuple.from_text(*arguments)
    assert caught.value.field == field


def test_endpoints_may_leave_the_port_out() -> None:
    assert parse_endpoint("10.0.0.1", "x") == (b"\x0a\0\0\1", 0)
    assert parse_endpoint("::1", "x") == (bytes(15) + b"\1", 0)
    assert parse_endpoint("[::1]", "x") == (bytes(15) + b"\1", 0)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "00",
        "0000 06 06 0a000001 0a000002 0050 04d2",
        "0000 04 06 0a000002 0a000001 0050 04d2",
        "0000 04 06 0a000001 0a000001 0051 0050",
        "0000 04 01 0a000001 0a000002 0001 0002",
    ],
)
def test_bytes_that_are_no_key_are_refused(key: str) -> None:
    with pytest.raises(FlowError):
        check_key(bytes.fromhex(key))


def test_a_tuple_reads_well() -> None:
    assert str(FlowTuple.from_text("tcp", "10.0.0.2:1234", "10.0.0.1:80")) == "tcp 10.0.0.2:1234 > 10.0.0.1:80"
    assert str(FlowTuple.from_text("99", "::1", "[::2]:3", 7)) == "99 [::1]:0 > [::2]:3 zone 7"
