from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocinante.flows import (
    Backend,
    FlowError,
    FlowFilter,
    FlowRecord,
    FlowTuple,
    TcpState,
    encode_batch,
    iter_pairs,
    validate_batch,
)
from tests.flows.strategies import records


def packed(record: FlowRecord) -> tuple[bytes, bytes]:
    (batch,) = encode_batch([record])
    ((key, value),) = iter_pairs(batch, validate_batch(batch, records_max=1, bytes_max=1 << 20))
    return key, value


V4 = FlowRecord(
    FlowTuple.from_text("tcp", "10.1.2.3:1234", "192.0.2.1:80", zone=7),
    tcp_state=TcpState.ESTABLISHED,
    backend=Backend(b"\x0a\0\0\5", 8080),
)
V6 = FlowRecord(FlowTuple.from_text("udp", "[2001:db8::1]:53", "[::1]:5353"), backend=Backend(b"\x0a\0\0\5", 8080))
WIDE = FlowRecord(FlowTuple.from_text("udp", "10.0.0.1:1", "10.0.0.2:2"), backend=Backend(bytes(15) + b"\1", 8080))
NAMED = FlowRecord(FlowTuple.from_text("sctp", "10.9.9.9:1", "10.9.9.8:2"), backend_name="web-1")
FLOWS = {"V4": V4, "V6": V6, "WIDE": WIDE, "NAMED": NAMED}


@pytest.mark.parametrize(
    ("conditions", "meant"),
    [
        ({}, "V4 V6 WIDE NAMED"),
        ({"address": ["10.0.0.0/8"]}, "V4 WIDE NAMED"),
        ({"address": ["10.1.2.3"]}, "V4"),
        ({"address": ["192.0.2.0/24", "2001:db8::/32"]}, "V4 V6"),
        ({"address": ["0.0.0.0/0"]}, "V4 WIDE NAMED"),
        ({"address": ["::/0"]}, "V6"),
        ({"port": [80]}, "V4"),
        ({"port": ["1", 5353]}, "V6 WIDE NAMED"),
        ({"protocol": ["udp"]}, "V6 WIDE"),
        ({"protocol": [6, "132"]}, "V4 NAMED"),
        ({"tcp_state": ["established"]}, "V4"),
        ({"tcp_state": [0]}, "V6 WIDE NAMED"),
        ({"backend": "10.0.0.5"}, "V4 V6"),
        ({"backend": "10.0.0.5:8080"}, "V4 V6"),
        ({"backend": "10.0.0.5:8081"}, ""),
        ({"backend": "::1"}, "WIDE"),
        ({"backend": "[::1]:8080"}, "WIDE"),
        ({"backend": "[::1]:0"}, ""),
        ({"backend": "web-1"}, "NAMED"),
        ({"backend": "web"}, ""),
        ({"zone": 7}, "V4"),
        ({"zone": "0"}, "V6 WIDE NAMED"),
        ({"origin": "dc1"}, "V4 V6 WIDE NAMED"),
        ({"origin": "dc2"}, ""),
        ({"address": ["10.0.0.0/8"], "protocol": ["tcp"], "port": [80]}, "V4"),
    ],
)
def test_which_flows_are_meant(conditions: dict[str, Any], meant: str) -> None:
    flow_filter = FlowFilter.parse(**conditions)
    assert [name for name, flow in FLOWS.items() if flow_filter.matches(*packed(flow), "dc1")] == meant.split()
    assert flow_filter.is_empty == (not conditions)


@pytest.mark.parametrize(
    ("conditions", "field"),
    [
        ({"address": ["10.0.0.0/8", "10.0.0.0/33"]}, "address[1]"),
        ({"address": ["10.0.0.1/8"]}, "address[0]"),
        ({"address": ["fe80::1%eth0"]}, "address[0]"),
        ({"address": ["10.0.0.0/8"] * 1000}, "address"),
        ({"port": [65536]}, "port[0]"),
        ({"port": ["x"]}, "port[0]"),
        ({"protocol": ["nonsense"]}, "protocol[0]"),
        ({"tcp_state": ["OPEN"]}, "tcp_state[0]"),
        ({"tcp_state": [10]}, "tcp_state[0]"),
        ({"backend": "x" * 256}, "backend"),
        ({"zone": -1}, "zone"),
    ],
)
def test_a_condition_that_cannot_be_names_the_field(conditions: dict[str, Any], field: str) -> None:
    with pytest.raises(FlowError) as caught:
        FlowFilter.parse(**conditions)
    assert caught.value.field == field


@given(records(), records(), st.integers(0, 32))
def test_packed_conditions_mean_what_they_mean_of_the_record(record: FlowRecord, other: FlowRecord, bits: int) -> None:
    flow, key_value = record.original, packed(record)
    network = ipaddress.ip_network((other.original.source, bits), strict=False)
    ends = [ipaddress.ip_address(flow.source), ipaddress.ip_address(flow.destination)]
    ports = {flow.source_port, flow.destination_port}
    for conditions, expected in (
        ({"address": [str(network)]}, any(end.version == network.version and end in network for end in ends)),
        ({"port": [other.original.source_port]}, other.original.source_port in ports),
        ({"protocol": [other.original.protocol]}, flow.protocol == other.original.protocol),
        ({"tcp_state": [other.tcp_state]}, record.tcp_state == other.tcp_state),
        ({"zone": other.original.zone}, flow.zone == other.original.zone),
    ):
        assert FlowFilter.parse(**conditions).matches(*key_value, "x") == expected
    if other.backend is not None:
        address, port = ipaddress.ip_address(other.backend.address), other.backend.port
        text = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
        assert FlowFilter.parse(backend=text).matches(*key_value, "x") == (record.backend == other.backend)
