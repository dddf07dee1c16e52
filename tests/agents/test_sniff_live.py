"""Live capture on the loopback interface, with real connections. Needs CAP_NET_RAW."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator

import pytest

from rocinante.agents.capture import LiveCapture
from rocinante.agents.packet import Packet
from tests.agents.sniffing import Served, Sniff, sniff
from tests.support.ports import free_port

pytestmark = pytest.mark.root


@contextlib.contextmanager
def sniffing(served: Served, *more: str) -> Iterator[Sniff]:
    with Sniff("-i", "lo", "-c", served.endpoint, "--flush-ms", "50", *more) as run:
        run.wait_line("capturing from lo")
        yield run
        status, _, errors = run.end(signal.SIGTERM)
        assert status == 0, errors


def tcp_exchange(family: int, host: str, port: int) -> tuple[socket.socket, socket.socket, int]:
    with socket.create_server((host, port), family=family) as listener:
        client = socket.create_connection((host, port))
        server, _ = listener.accept()
    client.sendall(b"question")
    server.recv(100)
    server.sendall(b"answer")
    client.recv(100)
    return client, server, client.getsockname()[1]


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_tcp_connection_from_its_first_packet_to_its_last(served: Served, family: int, host: str) -> None:
    port = free_port(host)
    shown = f"[{host}]" if ":" in host else host
    with sniffing(served, "--filter", f"tcp port {port}"):
        client, server, client_port = tcp_exchange(family, host, port)
        name = f"tcp {shown}:{client_port} > {shown}:{port}"
        served.wait_for(lambda texts: [text.split()[-2] for text in texts] == ["ESTABLISHED"])
        client.close()
        server.close()
        (text,) = served.wait_for(lambda texts: texts != [] and "TIME_WAIT" in texts[0])
    assert text.startswith(f"{name} TIME_WAIT ")
    # Each packet is on the loopback interface twice, and counted once: SYN, ACK, data, ACK, FIN, ACK; some may be one.
    (record,) = served.flows()
    assert 5 <= record.packets_original <= 6
    assert 4 <= record.packets_reply <= 5


def test_a_reset_connection(served: Served) -> None:
    port = free_port()
    with sniffing(served, "--filter", f"tcp port {port}"):
        client, server, _ = tcp_exchange(socket.AF_INET, "127.0.0.1", port)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        served.wait_for(lambda texts: texts != [] and " CLOSE " in texts[0])
        server.close()


def test_udp_and_its_bytes(served: Served) -> None:
    port = free_port()
    with sniffing(served, "--filter", f"udp port {port}"):
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
            socket.socket(type=socket.SOCK_DGRAM) as client,
        ):
            server.bind(("127.0.0.1", port))
            for _ in range(3):
                client.sendto(b"x" * 100, ("127.0.0.1", port))
                _, sender = server.recvfrom(200)
            server.sendto(b"y" * 10, sender)
            client.recv(20)
        served.wait_for(lambda texts: texts != [] and texts[0].endswith("/1"))
    (record,) = served.flows()  # after the last flush: with all counters
    assert (record.packets_original, record.bytes_original) == (3, 3 * 128)
    assert (record.packets_reply, record.bytes_reply) == (1, 38)


def test_the_own_connection_is_left_out_unless_it_is_wanted(served: Served) -> None:
    own = served.endpoint.rpartition(":")[2]
    port = free_port()
    with sniffing(served, "--filter", f"tcp port {own} or tcp port {port}"):
        for connection in tcp_exchange(socket.AF_INET, "127.0.0.1", port)[:2]:
            connection.close()
        served.wait_for(lambda texts: any(f":{port} " in text for text in texts))
    assert not [text for text in served.texts() if f":{own} " in text]
    with sniffing(served, "--filter", f"tcp port {own}", "--include-own"):
        served.wait_for(lambda texts: any(f"127.0.0.1:{own} " in text for text in texts))


SEND = """
import socket, sys, time
to = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(int(sys.argv[2])):
    to.sendto(b"x", ("127.0.0.1", int(sys.argv[1])))
    time.sleep(0.00005)
"""


def test_no_packet_is_lost_while_what_is_left_out_changes() -> None:
    port, sent, read = free_port(), 4_000, 0
    own = [(bytes((127, 0, 0, 1)), 1), (bytes((127, 0, 0, 1)), 2)]

    def count(_packet: Packet, _time_ms: int) -> None:
        nonlocal read
        read += 1

    with contextlib.closing(LiveCapture(["lo"], snaplen=128, expression=f"udp port {port}")) as capture:
        with subprocess.Popen([sys.executable, "-c", SEND, str(port), str(sent)]) as sender:
            while sender.poll() is None:
                capture.read(count, 0.01)
                capture.leave_out(own[:1])
                capture.leave_out(own)
        while capture.read(count, 0.1):
            pass
    assert read == sent


def test_what_is_left_out_does_not_leave_the_kernel() -> None:
    with contextlib.ExitStack() as stack:
        ports = [free_port(), free_port()]
        filter_ = " or ".join(f"tcp port {port}" for port in ports)
        capture = stack.enter_context(contextlib.closing(LiveCapture(["lo"], snaplen=128, expression=filter_)))
        capture.leave_out([(bytes((127, 0, 0, 1)), ports[0])])
        seen: set[int] = set()
        for port in ports:
            for connection in tcp_exchange(socket.AF_INET, "127.0.0.1", port)[:2]:
                connection.close()
        while capture.read(lambda packet, _: seen.update((packet.source_port, packet.destination_port)), 0.1):
            pass
    assert ports[0] not in seen
    assert ports[1] in seen


def test_no_such_interface() -> None:
    status, _, errors = sniff("-i", "nothing0")
    assert status == 1
    assert "--interface nothing0: there is no such interface" in errors


def test_without_the_capability_one_line_says_what_to_do() -> None:
    dropped = ("setpriv", "--bounding-set=-net_raw,-net_admin", "--inh-caps=-net_raw,-net_admin")
    if os.spawnlp(os.P_WAIT, dropped[0], *dropped, "true"):
        pytest.skip("setpriv cannot drop capabilities here")
    status, _, errors = sniff("-i", "lo", prefix=dropped)
    assert status == 1
    assert len(errors.splitlines()) == 1
    assert "capturing needs the capability CAP_NET_RAW: run it as root" in errors
