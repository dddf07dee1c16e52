"""Rates from the differences of counters, as tables of what came and what is shown then."""

from __future__ import annotations

import pytest

from rocinante.client.flow_rates import FlowRates
from rocinante.flows import FlowRecord, FlowTuple, encode_batch, validate_batch

T_MS = 1_800_000_000_000


def flow(number: int, at_s: float, packets: int, size: int, *, v6: bool = False, name: str = "") -> FlowRecord:
    source = f"[2001:db8::{number}]:7" if v6 else f"192.0.2.{number % 250}:{number}"
    return FlowRecord(
        FlowTuple.from_text("tcp", source, "[::1]:80" if v6 else "198.51.100.1:80"),
        updated_ms=T_MS + int(at_s * 1000) if at_s >= 0 else 0,
        packets_original=packets,
        packets_reply=packets,
        bytes_original=size,
        backend_name=name,
    )


class Rates(FlowRates):
    def came(self, now_s: float, *flows: FlowRecord, origin: str = "dc1") -> None:
        for batch in encode_batch(flows):
            info = validate_batch(batch, records_max=65_536, bytes_max=1 << 23)
            self.put(origin, batch, info, int(now_s * 1000))

    def shown(self, now_s: float, count: int = 10, *, by_packets: bool = False) -> list[tuple[int, float, float]]:
        """(source port, packets/s, bytes/s)"""
        top = self.top(count, int(now_s * 1000), by_packets=by_packets)
        return [(rate.record.original.source_port, rate.packets_s, rate.bytes_s) for rate in top]


@pytest.mark.parametrize(("v6", "name"), [(False, ""), (True, ""), (False, "web"), (True, "web")])
def test_the_rate_is_that_between_the_last_two_updates(v6: bool, name: str) -> None:
    rates = Rates()
    rates.came(1, flow(1, 0, 10, 1000, v6=v6, name=name))
    assert rates.shown(1) == [], "one update tells no rate"
    rates.came(3, flow(1, 2, 15, 5000, v6=v6, name=name))
    ((_, packets_s, bytes_s),) = rates.shown(3)
    assert (packets_s, bytes_s) == (5, 2000)
    assert rates.totals(3000) == (5, 2000)
    rates.came(3.1, flow(1, 2.5, 15, 5100, v6=v6, name=name))
    ((_, packets_s, bytes_s),) = rates.shown(3.2)
    assert (packets_s, bytes_s) == (0, 200)


def test_without_update_times_it_is_by_when_they_came() -> None:
    rates = Rates()
    rates.came(1, flow(1, -1, 0, 0))
    rates.came(5, flow(1, -1, 2, 400))
    assert rates.shown(5) == [(1, 1, 100)]


def test_what_is_silent_has_no_rate_after_a_while() -> None:
    rates = Rates()
    rates.came(0, flow(1, 0, 0, 0), flow(2, 0, 0, 0))
    rates.came(5, flow(1, 5, 5, 500), flow(2, 5, 5, 500))
    rates.came(5.5, flow(2, 5.5, 6, 600))
    assert [port for port, *_ in rates.shown(8)] == [2, 1]
    assert [port for port, *_ in rates.shown(9)] == [1], "flow 2 came each half second: 3 s are enough"
    assert rates.shown(20) == [(1, 2, 100)]
    assert rates.shown(21) == []
    assert rates.totals(21_000) == (0, 0)


def test_the_busiest_first_by_bytes_or_packets() -> None:
    rates = Rates()
    for at, factor in ((0, 0), (1, 1)):
        rates.came(at, *(flow(n, at, factor * (10 - n), factor * n * 100) for n in range(1, 10)))
    assert [port for port, *_ in rates.shown(1, 3)] == [9, 8, 7]
    assert [port for port, *_ in rates.shown(1, 3, by_packets=True)] == [1, 2, 3]


def test_a_flow_that_began_anew_or_went_is_not_busy() -> None:
    rates = Rates()
    rates.came(0, flow(1, 0, 100, 100), flow(2, 0, 0, 0), flow(3, 0, 0, 0))
    rates.came(1, flow(1, 1, 0, 10), flow(2, 1, 1, 1), flow(3, 1, 1, 2))
    assert [port for port, *_ in rates.shown(1)] == [3, 2]
    rates.forget("dc1", [flow(2, 0, 0, 0).key, flow(9, 0, 0, 0).key])
    rates.forget("dc2", [flow(3, 0, 0, 0).key])
    assert [port for port, *_ in rates.shown(1)] == [3]
    rates.came(2, flow(1, 2, 1, 110), flow(2, 2, 9, 999), flow(3, 2, 2, 4))
    assert [port for port, *_ in rates.shown(2)] == [1, 3], "what came again begins anew"


def test_origins_are_flows_of_their_own() -> None:
    rates = Rates()
    for at in (0, 1):
        rates.came(at, flow(1, at, at, at * 10), origin="dc1")
        rates.came(at, flow(1, at, at, at * 20), origin="dc2")
    assert [(rate.origin, rate.bytes_s) for rate in rates.top(9, 1000)] == [("dc2", 20), ("dc1", 10)]


def test_no_more_is_remembered_than_there_is_room_for() -> None:
    rates = Rates(flows_max=100)
    rates.came(0, *(flow(n, 0, 0, 0) for n in range(1, 81)))
    rates.came(1, *(flow(n, 1, 1, n) for n in range(41, 81)))
    rates.came(2, *(flow(n, 2, 0, 0) for n in range(81, 121)))
    assert len(rates) == 80
    assert rates.forgotten == 40
    assert [port for port, *_ in rates.shown(2, 2)] == [80, 79]
    rates.came(3, *(flow(n, 3, 2, 2 * n) for n in range(41, 81)))
    assert rates.shown(3, 1) == [(80, 1, 40)]
