"""The flow tracker, as scenarios. Each line of one is: seconds, who sends (c client, s server), what; then, after
`|`, the flow afterwards:

    state, flags (b both ways, a assured), packets original/reply, seconds until its deadline

The connection is 10.0.0.1:40000 (c) and 10.0.0.2:80 (s). `=` alone means: as after the line before.
"""

from __future__ import annotations

import pytest

from rocinante.agents.packet import decoder
from rocinante.agents.tracker import FlowTracker
from rocinante.flows import FlowFlag, FlowRecord, format_endpoint
from tests.agents.packets import ip_packet

CLIENT, SERVER = "10.0.0.1:40000", "10.0.0.2:80"
DAY = 86_400


def tracker(*, flows_max: int = 1_000, refresh_ms: int = 5_000) -> FlowTracker:
    return FlowTracker(flows_max=flows_max, refresh_ms=refresh_ms)


def send(to: FlowTracker, seconds: float, line: str) -> None:
    data = bytes(ip_packet(line))
    packet = decoder(101)(data, len(data))
    assert packet is not None
    to.add(packet, int(seconds * 1_000))


def everything(of: FlowTracker) -> list[FlowRecord]:
    """All flows as they are, whatever the cluster knows."""
    return [flow.record(0, None) for flow in of._flows.values()]


def describe(record: FlowRecord, now_s: float) -> str:
    flags = ("b" if record.flags & FlowFlag.SEEN_REPLY else "") + ("a" if record.flags & FlowFlag.ASSURED else "")
    left = record.deadline_ms / 1_000 - now_s
    return (
        f"{record.tcp_state.name} {flags or '-'} {record.packets_original}/{record.packets_reply} "
        f"{left:.10g} {format_endpoint(record.original.source, record.original.source_port)}"
    )


HANDSHAKE = """
    0.0 c S  seq=1         | SYN_SENT    -  1/0 120
    0.1 s SA seq=5 ack=2   | SYN_RECV    b  1/1 60
    0.2 c A                | ESTABLISHED ba 2/1 432000
"""

TCP_SCENARIOS = {
    "handshake, data, close by the client": HANDSHAKE
    + """
    1.0 c PA data=10       | ESTABLISHED ba 3/1 432000
    1.1 s PA data=10       | ESTABLISHED ba 3/2 432000
    2.0 c FA               | FIN_WAIT    ba 4/2 120
    2.1 s A                | CLOSE_WAIT  ba 4/3 60
    2.2 s FA               | LAST_ACK    ba 4/4 30
    2.3 c A                | TIME_WAIT   ba 5/4 120
    3.0 c A                | TIME_WAIT   ba 6/4 120
    """,
    "close by the server, FIN and ACK in one": HANDSHAKE
    + """
    2.0 s FA               | FIN_WAIT    ba 2/2 120
    2.1 c FA               | LAST_ACK    ba 3/2 30
    2.2 s A                | TIME_WAIT   ba 3/3 120
    """,
    "reset": HANDSHAKE
    + """
    2.0 s R                | CLOSE       ba 2/2 10
    """,
    "refused": """
    0.0 c S seq=1          | SYN_SENT    -  1/0 120
    0.1 s RA               | CLOSE       b  1/1 10
    """,
    "a SYN without an answer is sent again": """
    0.0 c S seq=1          | SYN_SENT    -  1/0 120
    1.0 c S seq=1          | SYN_SENT    -  2/0 120
    3.0 c S seq=1          | SYN_SENT    -  3/0 120
    """,
    "a SYN of an open connection changes nothing": HANDSHAKE
    + """
    1.0 c S seq=900        | ESTABLISHED ba 3/1 431999.2
    """,
    "both open at the same time (RFC 9293, figure 8)": """
    0.0 c S  seq=1         | SYN_SENT    -  1/0 120
    0.1 s S  seq=5         | SYN_SENT2   b  1/1 120
    0.2 c SA seq=1 ack=6   | SYN_RECV    b  2/1 60
    0.3 s SA seq=5 ack=2   | SYN_RECV    b  2/2 59.9
    0.4 c A                | ESTABLISHED ba 3/2 432000
    """,
    "picked up in its middle: a packet of the client first": """
    0.0 c PA data=9        | ESTABLISHED -  1/0 300
    0.1 c PA data=9        | ESTABLISHED -  2/0 300
    0.2 s A                | ESTABLISHED ba 2/1 432000
    """,
    "picked up in its middle: a packet of the server first": """
    0.0 s PA data=9        | ESTABLISHED -  0/1 300
    0.2 c A                | ESTABLISHED ba 1/1 432000
    """,
    "the SYN was missed: the SYN/ACK tells who is who": """
    0.0 s SA seq=5 ack=2   | SYN_RECV    -  0/1 60
    0.1 c A                | ESTABLISHED ba 1/1 432000
    """,
    "the SYN/ACK was missed": """
    0.0 c S seq=1          | SYN_SENT    -  1/0 120
    0.2 c A                | ESTABLISHED -  2/0 300
    0.3 s A                | ESTABLISHED ba 2/1 432000
    """,
    "the end of an unknown connection is not a flow": """
    0.0 c FA               | none
    0.1 s R                | none
    0.2 c                  | none
    """,
    "the same ports again after the close: a new flow": HANDSHAKE
    + """
    2.0 s R                | CLOSE       ba 2/2 10
    3.0 c S seq=70         | SYN_SENT    -  1/0 120
    3.1 s SA seq=9 ack=71  | SYN_RECV    b  1/1 60
    """,
    "the same ports again in TIME_WAIT, opened by the other side": HANDSHAKE
    + """
    2.0 c FA               | FIN_WAIT    ba 3/1 120
    2.1 s FA               | LAST_ACK    ba 3/2 30
    2.2 c A                | TIME_WAIT   ba 4/2 120
    3.0 s S seq=70         | SYN_SENT    -  1/0 120 s
    """,
    "the same ports again, the close was missed": HANDSHAKE
    + """
    9.0 c S seq=70         | ESTABLISHED ba 3/1 431991.2
    9.1 s SA seq=9 ack=71  | SYN_RECV    b  1/1 60
    9.2 c A                | ESTABLISHED ba 2/1 432000
    """,
    "a SYN/ACK that answers no SYN changes nothing": HANDSHAKE
    + """
    9.0 c S seq=70         | ESTABLISHED ba 3/1 431991.2
    9.1 s SA seq=9 ack=5   | ESTABLISHED ba 3/2 431991.1
    """,
    "past its deadline it is another flow": """
    0.0 c S seq=1          | SYN_SENT    -  1/0 120
    121 c S seq=9          | SYN_SENT    -  1/0 120
    """,
}


@pytest.mark.parametrize("name", TCP_SCENARIOS)
def test_tcp(name: str) -> None:
    tracked = tracker()
    for number, line in enumerate(filter(str.strip, TCP_SCENARIOS[name].splitlines()), 1):
        given, expected = line.split("|")
        seconds, who, *what = given.split()
        source, destination = (CLIENT, SERVER) if who == "c" else (SERVER, CLIENT)
        send(tracked, float(seconds), f"tcp {source} > {destination} {' '.join(what)}")
        found = everything(tracked)
        assert len(found) <= 1, f"line {number}: more than one flow"
        state, *rest = expected.split()
        if state == "none":
            assert not found, f"line {number}: {line.strip()}"
            continue
        opener = SERVER if rest[3:] == ["s"] else CLIENT
        assert describe(found[0], float(seconds)) == f"{state} {' '.join(rest[:3])} {opener}", (
            f"line {number}: {line.strip()}"
        )


UDP_SCENARIOS = {
    "a question and its answer": """
    0.0 10.0.0.1:40000 > 10.0.0.9:53   | -  1/0 30
    0.1 10.0.0.9:53 > 10.0.0.1:40000   | b  1/1 30
    """,
    "the answer is seen first": """
    0.0 10.0.0.9:53 > 10.0.0.1:40000   | -  0/1 30
    0.1 10.0.0.1:40000 > 10.0.0.9:53   | b  1/1 30
    """,
    "a stream is assured after two seconds": """
    0.0 10.0.0.1:40000 > 10.0.0.9:9000 | -  1/0 30
    1.0 10.0.0.9:9000 > 10.0.0.1:40000 | b  1/1 30
    2.0 10.0.0.1:40000 > 10.0.0.9:9000 | b  2/1 30
    2.1 10.0.0.1:40000 > 10.0.0.9:9000 | ba 3/1 120
    """,
    "one way only": """
    0.0 10.0.0.1:40000 > 10.0.0.9:514  | -  1/0 30
    5.0 10.0.0.1:40000 > 10.0.0.9:514  | -  2/0 30
    """,
}


@pytest.mark.parametrize("name", UDP_SCENARIOS)
def test_udp(name: str) -> None:
    tracked = tracker()
    for line in UDP_SCENARIOS[name].strip().splitlines():
        given, expected = line.split("|")
        seconds, source, _, destination = given.split()
        send(tracked, float(seconds), f"udp {source} > {destination} data=5")
        (record,) = everything(tracked)
        assert describe(record, float(seconds)) == f"NONE {' '.join(expected.split())} 10.0.0.1:40000", line


def test_counters_are_bytes_from_the_ip_header_on() -> None:
    tracked = tracker()
    send(tracked, 0, f"udp {CLIENT} > {SERVER} data=100")
    send(tracked, 0, f"udp {SERVER} > {CLIENT} data=50")
    (record,) = everything(tracked)
    assert (record.bytes_original, record.bytes_reply) == (128, 78)


def test_fragments_count_for_the_flow_of_the_first() -> None:
    tracked = tracker()
    first = decoder(101)(bytes(ip_packet(f"udp {CLIENT} > {SERVER} data=100")), 128)
    assert first is not None
    later = first._replace(source_port=0, destination_port=0, fragment=7, has_ports=False, length_bytes=1_000)
    tracked.add(later, 0)
    assert tracked.counters.stray == 1
    tracked.add(first._replace(fragment=7), 1)
    tracked.add(later, 2)
    (record,) = everything(tracked)
    assert (record.packets_original, record.bytes_original) == (2, 1_128)


def test_urgent_at_once_counters_after_the_refresh_time() -> None:
    tracked = tracker(refresh_ms=5_000)
    send(tracked, 0, f"tcp {CLIENT} > {SERVER} S seq=1")
    send(tracked, 0, f"tcp {SERVER} > {CLIENT} SA seq=1 ack=2")
    send(tracked, 0, f"tcp {CLIENT} > {SERVER} A")
    assert [record.tcp_state.name for record in tracked.take(10).records] == ["ESTABLISHED"]
    for tenth in range(1, 40):
        send(tracked, 1 + tenth / 10, f"tcp {CLIENT} > {SERVER} PA data=10")
    assert tracked.take(10).keys == []
    assert tracked.waiting == 1
    send(tracked, 6.1, f"tcp {SERVER} > {CLIENT} A")
    assert [record.packets_original for record in tracked.take(10).records] == [2 + 39]
    assert tracked.waiting == 0
    send(tracked, 6.2, f"tcp {SERVER} > {CLIENT} FA")
    assert [record.tcp_state.name for record in tracked.take(10).records] == ["FIN_WAIT"]


def test_what_was_not_written_goes_again_in_its_latest_state() -> None:
    tracked = tracker()
    send(tracked, 0, f"tcp {CLIENT} > {SERVER} S seq=1")
    taken = tracked.take(10)
    send(tracked, 0.1, f"tcp {SERVER} > {CLIENT} SA seq=1 ack=2")
    tracked.give_back(taken.keys)
    assert [record.tcp_state.name for record in tracked.take(10).records] == ["SYN_RECV"]
    assert tracked.take(10).keys == []


def test_what_is_gone_does_not_come_back() -> None:
    tracked = tracker()
    send(tracked, 0, f"tcp {CLIENT} > {SERVER} S seq=1")
    taken = tracked.take(10)
    assert tracked.expire(119_999) == 0
    assert tracked.expire(120_000) == 1
    tracked.give_back(taken.keys)
    assert (len(tracked), tracked.waiting, tracked.take(10).keys) == (0, 0, [])


def test_a_batch_is_bounded() -> None:
    tracked = tracker()
    for port in range(25):
        send(tracked, 0, f"udp 10.0.0.1:{2_000 + port} > {SERVER}")
    assert [len(tracked.take(10).keys) for _ in range(4)] == [10, 10, 5, 0]


def test_times_can_be_as_if_the_last_packet_came_now() -> None:
    tracked = tracker()
    send(tracked, 5, f"tcp {CLIENT} > {SERVER} S seq=1")
    (record,) = tracked.take(1, as_of_ms=1_000_000).records
    assert (record.updated_ms, record.deadline_ms) == (1_000_000, 1_120_000)


def test_a_full_table_forgets_what_would_end_first() -> None:
    tracked = tracker(flows_max=3)
    send(tracked, 0, "tcp 10.0.0.1:1001 > 10.0.0.2:80 A")  # ESTABLISHED, one way: 300 s
    send(tracked, 0, "udp 10.0.0.1:1002 > 10.0.0.2:80")  # 30 s
    send(tracked, 1, "udp 10.0.0.1:1003 > 10.0.0.2:80")
    for second in range(2, 5):
        send(tracked, second, f"tcp 10.0.0.1:{2_000 + second} > 10.0.0.2:80 S")  # 120 s
    ports = sorted(record.original.source_port for record in everything(tracked))
    assert ports == [1_001, 2_003, 2_004]
    assert tracked.counters.evicted == 3
    assert tracked.waiting == 3


def test_own_endpoints_are_left_out_in_both_directions_but_only_their_tcp() -> None:
    tracked = tracker()
    tracked.ignore = frozenset({(bytes([10, 0, 0, 2]), 80)})
    send(tracked, 0, f"tcp {CLIENT} > {SERVER} S")
    send(tracked, 0, f"tcp {SERVER} > {CLIENT} SA")
    send(tracked, 0, f"udp {CLIENT} > {SERVER}")
    send(tracked, 0, "tcp 10.0.0.1:40000 > 10.0.0.3:80 S")
    assert tracked.counters.own == 2
    assert [str(record.original) for record in everything(tracked)] == [
        "udp 10.0.0.1:40000 > 10.0.0.2:80",
        "tcp 10.0.0.1:40000 > 10.0.0.3:80",
    ]


def test_time_never_goes_back() -> None:
    tracked = tracker()
    send(tracked, 10, f"udp {CLIENT} > {SERVER}")
    send(tracked, 4, f"udp {CLIENT} > {SERVER}")
    (record,) = everything(tracked)
    assert (record.updated_ms, record.deadline_ms) == (10_000, 40_000)


def test_a_million_packets_of_short_connections_leave_nothing_behind() -> None:
    """Queues, fragments and dirty sets do not grow with what is gone."""
    tracked = tracker(flows_max=500)
    data = bytes(ip_packet(f"tcp {CLIENT} > {SERVER} S"))
    packet = decoder(101)(data, len(data))
    assert packet is not None
    for number in range(20_000):
        ports = packet._replace(source_port=number % 60_000, sequence=number)
        for flags, turn in ((0x02, False), (0x14, True)):
            one = ports._replace(flags=flags)
            if turn:
                one = one._replace(
                    source=one.destination,
                    source_port=one.destination_port,
                    destination=one.source,
                    destination_port=one.source_port,
                )
            tracked.add(one, number)
    tracked.expire(10_000_000)
    assert len(tracked) == tracked.waiting == 0
    assert not any(tracked._queues.values())
