"""`rocinante agent sniff --pcap`: from a capture file to the flow table, and all that can be wrong with a file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rocinante.cli.main import run as command
from tests.agents.packets import frame, vlan, write_pcap, write_pcapng
from tests.agents.sniffing import Served, Sniff, sniff
from tests.support.ports import free_port

CLIENT, SERVER = "10.0.0.1:40000", "10.0.0.2:80"
LINES = [
    f"tcp {CLIENT} > {SERVER} S seq=1",
    f"tcp {SERVER} > {CLIENT} SA seq=9 ack=2",
    f"tcp {CLIENT} > {SERVER} A seq=2 ack=10",
    f"tcp {CLIENT} > {SERVER} PA seq=2 ack=10 data=100",
    f"tcp {SERVER} > {CLIENT} FA seq=10 ack=102",
    "udp [2001:db8::1]:5353 > [2001:db8::2]:53 data=30",
    "udp [2001:db8::2]:53 > [2001:db8::1]:5353 data=90",
]
FLOWS = [
    "tcp 10.0.0.1:40000 > 10.0.0.2:80 FIN_WAIT 3/2",
    "udp [2001:db8::1]:5353 > [2001:db8::2]:53 NONE 1/1",
]
LONG_AGO = 1_000_000_000.0


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """The command in this process: exit status, standard output, standard error."""

    def run_here(*arguments: str) -> tuple[int, str, str]:
        status = command(["agent", "sniff", *arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run_here


Here = Callable[..., tuple[int, str, str]]


def frames(lines: list[str] = LINES) -> list[tuple[float, bytes]]:
    return [(LONG_AGO + number / 100, frame(line)) for number, line in enumerate(lines)]


def test_pcap(tmp_path: Path, served: Served) -> None:
    path = write_pcap(tmp_path / "a.pcap", frames())
    status, output, errors = sniff("--pcap", str(path), "-c", served.endpoint, "-o", "json")
    assert status == 0, errors
    assert served.texts() == FLOWS
    assert json.loads(output) == {
        "packets": 7, "flows": 2, "waiting": 0, "records": 2, "batches": 1, "dropped": 0, "malformed": 0, "evicted": 0,
    }  # fmt: skip


def test_a_file_of_long_ago_is_seen_as_of_now(tmp_path: Path, served: Served, here: Here) -> None:
    path = write_pcap(tmp_path / "a.pcap", frames())
    before_ms = time.time() * 1_000 - 1
    assert here("--pcap", str(path), "-c", served.endpoint)[0] == 0
    tcp, udp = served.flows()
    assert before_ms <= tcp.updated_ms <= time.time() * 1_000
    assert tcp.deadline_ms == tcp.updated_ms + 120_000
    assert udp.deadline_ms == udp.updated_ms + 30_000


@pytest.mark.parametrize("form", ["nanoseconds", "pcapng", "vlan", "pcapng vlan"])
def test_other_forms(form: str, tmp_path: Path, served: Served, here: Here) -> None:
    given = [(when, vlan(data, 7) if "vlan" in form else data) for when, data in frames()]
    path = tmp_path / "capture"
    if "pcapng" in form:
        write_pcapng(path, given)
    else:
        write_pcap(path, given, nano=form == "nanoseconds")
    assert here("--pcap", str(path), "-c", served.endpoint)[0] == 0
    assert served.texts() == FLOWS


def test_zone_and_filter(tmp_path: Path, served: Served, here: Here) -> None:
    path = write_pcap(tmp_path / "a.pcap", frames())
    assert here("--pcap", str(path), "-c", served.endpoint, "--zone", "7", "--filter", "udp port 53")[0] == 0
    assert served.texts() == ["udp [2001:db8::1]:5353 > [2001:db8::2]:53 zone 7 NONE 1/1"]


def test_flows_of_an_hour_are_all_written(tmp_path: Path, served: Served, here: Here) -> None:
    """The file is read faster than it was made: a flow that ended long before the file's end is there as well."""
    given = [(LONG_AGO + 60 * n, frame(f"udp 10.0.0.1:{3_000 + n} > 10.0.0.2:53 data=9")) for n in range(60)]
    assert here("--pcap", str(write_pcap(tmp_path / "a.pcap", given)), "-c", served.endpoint)[0] == 0
    assert len(served.flows()) == 60


def test_standard_input_while_it_comes(served: Served, tmp_path: Path) -> None:
    """`tcpdump -U -w - | …`: what has come is written although there is no end; SIGTERM ends it."""
    data = write_pcap(tmp_path / "a.pcap", frames()).read_bytes()
    reading, writing = os.pipe()
    with Sniff("--pcap", "-", "-c", served.endpoint, stdin=reading) as run:
        os.close(reading)
        os.write(writing, data)
        served.wait_for(lambda texts: texts == FLOWS)
        status, _, errors = run.end(signal.SIGTERM)
        os.close(writing)
    assert status == 0, errors


def test_standard_input_that_ends(served: Served, tmp_path: Path) -> None:
    path = write_pcapng(tmp_path / "a.pcapng", frames())
    with path.open("rb") as file:
        assert sniff("--pcap", "-", "-c", served.endpoint, stdin=file)[0] == 0
    assert served.texts() == FLOWS


def test_a_file_that_grows(served: Served, tmp_path: Path) -> None:
    data = write_pcap(tmp_path / "a.pcap", frames()).read_bytes()
    path = tmp_path / "growing.pcap"
    cut = 24 + 2 * (16 + len(frame(LINES[0]))) + 5  # in the middle of the third record
    path.write_bytes(data[:cut])
    with Sniff("--pcap", str(path), "-c", served.endpoint, "--follow") as run:
        served.wait_for(lambda texts: texts == ["tcp 10.0.0.1:40000 > 10.0.0.2:80 SYN_RECV 1/1"])
        with path.open("ab") as file:
            file.write(data[cut:])
        served.wait_for(lambda texts: texts == FLOWS)
        assert run.end(signal.SIGINT)[0] == 0


def test_idle_ends_it(served: Served, tmp_path: Path, here: Here) -> None:
    path = write_pcap(tmp_path / "a.pcap", frames())
    assert here("--pcap", str(path), "-c", served.endpoint, "--follow", "--idle", "0.3")[0] == 0
    assert served.texts() == FLOWS


def test_malformed_packets_are_counted_and_the_rest_is_read(served: Served, tmp_path: Path, here: Here) -> None:
    given = frames()
    given.insert(3, (LONG_AGO, given[0][1][:40]))
    _, output, _ = here("--pcap", str(write_pcap(tmp_path / "a.pcap", given)), "-c", served.endpoint, "-o", "json")
    assert json.loads(output)["malformed"] == 1
    assert served.texts() == FLOWS


GOOD = frame(LINES[0])


def pcap_bytes(tmp_path: Path, link_type: int = 1) -> bytes:
    return write_pcap(tmp_path / "good.pcap", frames(), link_type).read_bytes()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(lambda data: b"", "at byte 0: truncated: magic number has 4 bytes, only 0 are there", id="empty"),
        pytest.param(lambda data: b"hello, no capture", "at byte 0: magic number 68656c6c: not a pcap", id="text"),
        pytest.param(lambda data: data[:20], "at byte 0: truncated: file header has 24 bytes, only 20", id="header"),
        pytest.param(lambda data: data[:-3], "truncated: packet has 168 bytes, only 165 are there", id="cut"),
        pytest.param(lambda data: data[:30], "at byte 24: truncated: packet header has 16 bytes, only 6", id="begun"),
        pytest.param(lambda data: data[:32] + b"\xff\xff\xff\x7f" + data[36:],
                     "at byte 32: captured length 2147483647: at most 262144, after 0 packets", id="absurd length"),
        pytest.param(lambda data: data[:20] + b"\x69\0\0\0" + data[24:],
                     "link type 105 is not supported; supported are", id="wireless"),
        pytest.param(lambda data: data[:4] + b"\x09\0" + data[6:], "at byte 4: version 9.4: only 2.x", id="version"),
    ],
)  # fmt: skip
def test_bad_pcap(damage: object, message: str, tmp_path: Path, served: Served, here: Here) -> None:
    path = tmp_path / "bad.pcap"
    path.write_bytes(damage(pcap_bytes(tmp_path)))  # type: ignore[operator]
    status, _, errors = here("--pcap", str(path), "-c", served.endpoint)
    assert status == 1
    line = errors.splitlines()[-1]
    assert line.startswith(f"rocinante: agent sniff: --pcap {path}: "), errors
    assert message in line
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (8, b"\0\0\0\0", "at byte 8: byte-order magic is wrong"),
        (12, b"\7\0", "at byte 12: pcapng version 7.0"),
        (24, b"\0\0\0\0", "at byte 24: the block's length at its end differs"),
        (32, b"\xff\xff\xff\xff", "at byte 32: block length 4294967295"),
        (56, b"\1\0\0\0", "at byte 56: interface 1: the section describes 1"),
        (68, b"\xff\0\0\0", "at byte 68: captured length 255: the block has 56 bytes for it"),
        (48, b"\3\0\0\0", "at byte 48: simple packet blocks have no time"),
    ],
)
def test_bad_pcapng(offset: int, value: bytes, message: str, tmp_path: Path, served: Served, here: Here) -> None:
    path = write_pcapng(tmp_path / "a.pcapng", frames())
    data = bytearray(path.read_bytes())
    data[offset : offset + len(value)] = value
    path.write_bytes(data)
    status, _, errors = here("--pcap", str(path), "-c", served.endpoint)
    assert status == 1
    assert message in errors.splitlines()[-1]


def test_what_was_read_before_the_damage_is_written(tmp_path: Path, served: Served, here: Here) -> None:
    path = tmp_path / "cut.pcap"
    path.write_bytes(pcap_bytes(tmp_path)[:-3])
    assert here("--pcap", str(path), "-c", served.endpoint)[0] == 1
    assert served.texts() == [FLOWS[0], "udp [2001:db8::1]:5353 > [2001:db8::2]:53 NONE 1/0"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pcap", "/nowhere/a.pcap"], "--pcap /nowhere/a.pcap: No such file or directory"),
        (["--pcap", "/"], "--pcap /: is a directory"),
        ([], "give either --interface (once or more) or --pcap"),
        (["-i", "lo", "--pcap", "-"], "give either --interface"),
        (["-i", "lo", "--follow"], "--follow: only for --pcap"),
        (
            ["--pcap", "-", "--filter", "tcp prot 80"],
            "--filter 'tcp prot 80': can't parse filter expression: syntax error",
        ),
        (["--pcap", "-", "--filter", "host 1.2.3.4.5"], "--filter 'host 1.2.3.4.5': "),
        (["--pcap", "-", "--refresh-ms", "60000"], "--refresh-ms"),
        (["--pcap", "-", "--zone", "65536"], "--zone"),
        (["--pcap", "-", "--max-flows", "0"], "--max-flows"),
        (["--pcap", "-", "-c", "nonsense"], "nonsense"),
    ],
)
def test_wrong_use(arguments: list[str], message: str, here: Here) -> None:
    status, _, errors = here(*arguments)
    assert status == 2, errors
    assert message in " ".join(errors.split()), errors
    assert "Traceback" not in errors


def test_no_cluster_at_all(tmp_path: Path) -> None:
    """A file whose flows nobody takes: said once, exit status 3 (not available now)."""
    path = write_pcap(tmp_path / "a.pcap", frames())
    with Sniff("--pcap", str(path), "-c", f"127.0.0.1:{free_port()}", "--timeout", "0.3") as run:
        run.wait_line("the cluster takes no flows now, the capture goes on")
        status, _, errors = run.end(signal.SIGTERM)
    assert status == 3
    assert errors.count("takes no flows now") == 1
    assert "2 flows are not written" in errors.splitlines()[-1]


def test_the_cluster_comes_back_and_gets_the_latest_state(tmp_path: Path, served: Served) -> None:
    """While it is away nothing is lost but the states in between."""
    data = write_pcap(tmp_path / "a.pcap", frames()).read_bytes()
    cut = 24 + 16 + len(frame(LINES[0]))
    served.node.be_without_leader()
    reading, writing = os.pipe()
    with Sniff("--pcap", "-", "-c", served.endpoint, "--timeout", "0.3", stdin=reading) as run:
        os.close(reading)
        os.write(writing, data[:cut])
        run.wait_line("takes no flows now")
        os.write(writing, data[cut:])
        os.close(writing)
        served.node.be_normal()
        run.wait_line("takes flows again after")
        status, _, errors = run.end(None)
    assert status == 0, errors
    assert served.texts() == FLOWS


def test_nothing_but_a_file_is_needed_for_a_pipe_to_nowhere(served: Served) -> None:
    """Standard input that was never a capture."""
    status, _, errors = sniff("--pcap", "-", "-c", served.endpoint, stdin=subprocess.DEVNULL)
    assert status == 1
    assert "--pcap standard input: at byte 0: truncated" in errors
