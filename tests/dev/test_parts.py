"""The small parts of the launcher: routes, capabilities, typed keys, the table."""

from __future__ import annotations

import io
import os
import pty
import termios
from collections.abc import Iterator

import pytest
from rich.console import Console

from rocinante.dev.process import Condition
from rocinante.dev.sniffing import default_interface, may_capture
from rocinante.dev.typing_line import CommandInput
from rocinante.dev.view import LiveView, PlainView, Row
from rocinante.dev.watching import Health

ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth1\t00000000\t0100A8C0\t0003\t0\t0\t200\t00000000\t0\t0\t0
eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""
ROUTES6 = (
    "00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
    "fe80000000000000000000000000ffff 00000400 00000001 00000000 00000003     eth7\n"
    "00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
    "00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n"
)


@pytest.mark.parametrize(
    ("ipv4", "ipv6", "expected"),
    [
        (ROUTES, ROUTES6, "eth0"),
        (ROUTES.splitlines()[0], ROUTES6, "eth7"),
        (ROUTES.splitlines()[0] + "\neth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n", "", ""),
        ("", "", ""),
    ],
)
def test_the_interface_of_the_default_route(ipv4: str, ipv6: str, expected: str) -> None:
    assert default_interface(ipv4, ipv6) == expected


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [("000001ffffffffff", True), ("0000000000002000", True), ("0000000000001000", False), ("0000000000000000", False)],
)
def test_cap_net_raw(capabilities: str, expected: bool) -> None:
    assert may_capture(f"Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t{capabilities}\n") is expected


@pytest.fixture
def wake() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_keys_of_a_terminal(wake: tuple[int, int]) -> None:
    outer, inner = pty.openpty()
    before = termios.tcgetattr(inner)
    with CommandInput(inner, wake[0], interactive=True) as commands:
        os.write(outer, b"k 3\x7f2\rt ")
        assert commands.read(5) == ["k 2"]
        assert commands.typed == "t "
        os.write(outer, b"\x15")
        assert (commands.read(5), commands.typed) == ([], "")
        os.write(outer, b"\x1b[A")
        assert (commands.read(5), commands.typed) == ([], "")
        os.write(outer, b"\r\x04")
        assert commands.read(5) == ["q"]
        os.write(wake[1], b"x")
        assert commands.read(5) == []
        assert not termios.tcgetattr(inner)[3] & termios.ECHO
    assert termios.tcgetattr(inner) == before
    os.close(inner)
    os.close(outer)


def test_a_terminal_that_goes_away_means_quit(wake: tuple[int, int]) -> None:
    outer, inner = pty.openpty()
    with CommandInput(inner, wake[0], interactive=True) as commands:
        os.close(outer)
        assert commands.read(5) == ["q"]
        assert commands.read(0) == []
    os.close(inner)


def test_the_end_of_a_pipe_is_only_the_end_of_the_commands(wake: tuple[int, int]) -> None:
    reading, writing = os.pipe()
    with CommandInput(reading, wake[0], interactive=False) as commands:
        os.write(writing, b"k 1\n\ns")
        assert commands.read(5) == ["k 1"]
        os.write(writing, b" 1")
        os.close(writing)
        assert commands.read(5) == []
        assert commands.read(5) == ["s 1"]
        assert commands.read(0) == []
    os.close(reading)


HEALTH = Health("leader", 3, 1_234, 1_230, 56.7, 8, 9, "node1", "")
ROWS = [
    Row("node1", 4_711, Condition.RUNNING, HEALTH, "http://127.0.0.1:8001/"),
    Row("node2", 0, Condition.DIED, None, "http://127.0.0.1:8002/", "exit status 74: the disk failed"),
    Row("node3", 4_713, Condition.RUNNING, None, "http://127.0.0.1:8003/"),
]


def drawn(width: int) -> list[str]:
    file = io.StringIO()
    view = LiveView(Console(file=file, width=width, force_terminal=True, color_system=None, height=30))
    view.start()
    view.say("node2 died")
    view.show(ROWS, "s 2")
    view.stop()
    drawing = file.getvalue().rpartition("\x1b[2K")[2].replace("\x1b[?25h", "")
    return [line.rstrip() for line in drawing.rstrip().splitlines()]


def test_the_table() -> None:
    lines = drawn(120)
    assert lines[0].split() == "node pid state term commit applied rate flows keys page".split()  # noqa: SIM905
    assert lines[1].split() == [
        "node1",
        "4711",
        "leader",
        "3",
        "1,234",
        "1,230",
        "57/s",
        "8",
        "9",
        "http://127.0.0.1:8001/",
    ]
    assert lines[2].split() == ["node2", "died", "exit", "status", "74:", "the", "disk", "failed"]
    assert lines[3].split() == ["node3", "4713", "starting", "http://127.0.0.1:8003/"]
    assert "node2 died" in lines[5]
    assert lines[-1] == "> s 2▏"


@pytest.mark.parametrize(
    ("width", "columns"),
    [
        (100, "node pid state term commit applied rate flows keys page"),
        (80, "node state term commit rate flows keys page"),
        (70, "node state term commit rate flows page"),
        (60, "node state term commit rate page"),
    ],
)
def test_a_narrow_terminal_does_without_some_columns_but_not_without_the_page(width: int, columns: str) -> None:
    lines = drawn(width)
    assert lines[0].split() == columns.split()
    assert lines[1].endswith("http://127.0.0.1:8001/")
    assert max(map(len, lines)) <= width


def test_where_even_that_is_too_wide_the_last_column_is_cut_and_messages_wrap() -> None:
    lines = drawn(40)
    assert lines[1].split()[:5] == ["node1", "leader", "3", "1,234", "57/s"]
    assert max(map(len, lines)) <= 40


def test_plain_lines_say_what_changed_and_now_and_then_all() -> None:
    file = io.StringIO()
    view = PlainView(Console(file=file, width=200), interval_s=1_000)
    view.show(ROWS, "")
    view.show(ROWS, "")
    assert file.getvalue().splitlines() == ["node1: leader in term 3", "node2: died", "node3: starting"]
    often = io.StringIO()
    view = PlainView(Console(file=often, width=200), interval_s=0)
    view.show(ROWS, "")
    assert "node1 leader applied 1230 57/s flows 8 keys 9 | node2 died | node3 starting" in often.getvalue()
