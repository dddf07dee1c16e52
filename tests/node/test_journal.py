"""Log lines in the journal's native protocol, over a real socket; the real journal is asked in tests/systemd."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from logging_journald import JournaldTransport

from rocinante.node.journal import JournalHandler, journal_handler


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What the journal listens on."""
    path = tmp_path / "socket"
    monkeypatch.setattr(JournaldTransport, "SOCKET_PATH", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(path))
        listening.settimeout(10.0)
        yield listening


def log_to(handler: logging.Handler) -> logging.Logger:
    logger = logging.Logger("rocinante.test")
    logger.addHandler(handler)
    return logger


def fields(datagram: bytes) -> dict[str, str]:
    """Of the protocol's two forms: NAME=value, and NAME, length and value for one of several lines."""
    found = {}
    while datagram:
        line, _, datagram = datagram.partition(b"\n")
        name, is_short, value = line.partition(b"=")
        if not is_short:
            length = int.from_bytes(datagram[:8], "little")
            value, datagram = datagram[8 : 8 + length], datagram[9 + length :]
        found[name.decode()] = value.decode()
    return found


def test_a_line_has_its_fields(journal: socket.socket) -> None:
    handler = JournalHandler()
    handler.fields = lambda: {"NODE": "node1", "ROLE": "leader", "TERM": 7}
    log_to(handler).warning("disk %d%% full", 93)
    found = fields(journal.recv(65536))
    assert found["MESSAGE"] == "disk 93% full"
    assert (found["PRIORITY"], found["NODE"], found["ROLE"], found["TERM"]) == ("4", "node1", "leader", "7")
    assert found["LOGGER"] == "rocinante.test"
    assert found["CODE_FUNC"] == "test_a_line_has_its_fields"


@pytest.mark.parametrize(
    ("level", "priority"), [("debug", "7"), ("info", "6"), ("warning", "4"), ("error", "3"), ("critical", "2")]
)
def test_the_priority_is_syslogs(journal: socket.socket, level: str, priority: str) -> None:
    getattr(log_to(JournalHandler()), level)("said")
    assert fields(journal.recv(65536))["PRIORITY"] == priority


def test_a_traceback_and_a_message_of_several_lines(journal: socket.socket) -> None:
    try:
        raise ValueError("wrong")
    except ValueError:
        log_to(JournalHandler()).exception("two\nlines")
    found = fields(journal.recv(65536))
    assert found["MESSAGE"] == "two\nlines: ValueError: wrong"
    assert found["TRACEBACK"].startswith("Traceback (most recent call last)")
    assert found["TRACEBACK"].endswith("ValueError: wrong")


def test_no_line_is_lost_while_the_journal_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(JournaldTransport, "SOCKET_PATH", tmp_path / "nobody")
    log_to(JournalHandler()).error("said")
    assert capsys.readouterr().err == "ERROR   rocinante.test: said\n"


def test_the_journal_is_used_only_where_standard_error_is_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "stderr").open("w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        state = os.fstat(stderr.fileno())
        for value, used in (
            ("", False),
            ("nonsense", False),
            (f"{state.st_dev}:{state.st_ino + 1}", False),
            (f"{state.st_dev}:{state.st_ino}", True),
        ):
            monkeypatch.setenv("JOURNAL_STREAM", value)
            assert (journal_handler() is not None) is used, value
