"""What only a process of its own can show: signals, pipes, terminals, standard input."""

from __future__ import annotations

import os
import pty
import shlex
import signal
import subprocess
from collections.abc import Callable

import pytest

from rocinante.cli import output
from rocinante.client import Client
from tests.cli.conftest import COMMAND, ROOT
from tests.client.serving import Cluster

WAIT_S = 60.0
Spawn = Callable[..., "subprocess.Popen[bytes]"]


def test_the_module_runs(spawn: Spawn) -> None:
    process = spawn("kv", "put", "k", "-", stdin=subprocess.PIPE)
    out, err = process.communicate(b"\0\xff from standard input", timeout=WAIT_S)
    assert (process.returncode, out, err) == (0, b"revision 2\n", b"")
    out, _ = spawn("kv", "get", "--raw", "k").communicate(timeout=WAIT_S)
    assert out == b"\0\xff from standard input"


def test_keys_need_not_be_text(spawn: Spawn, cluster: Cluster) -> None:
    process = spawn("kv", "put", os.fsdecode(b"\xff\xfe"), "v")
    assert process.wait(WAIT_S) == 0
    with Client(cluster.endpoints) as client:
        assert client.kv.get(b"\xff\xfe").value == b"v"


@pytest.mark.parametrize("number", [signal.SIGINT])
@pytest.mark.parametrize("verb", [("kv", "watch", "--prefix"), ("flow", "watch")])
def test_a_watch_ends_cleanly_on_ctrl_c(spawn: Spawn, cluster: Cluster, verb: tuple[str, ...], number: int) -> None:
    start = ("--revision", "1") if verb[0] == "kv" else ("--from-index", "1")
    process = spawn(*verb, *start)
    with Client(cluster.endpoints) as client:
        client.kv.put("k", "v")
        put_flow(client)
    assert process.stdout is not None
    assert b"PUT" in process.stdout.readline(), "it watches"
    process.send_signal(number)
    _, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, err) == (0, b"")


def put_flow(client: Client) -> None:
    from rocinante.flows import FlowRecord, FlowTuple

    client.flows.put([FlowRecord(FlowTuple.from_text("tcp", "192.0.2.1:1", "192.0.2.2:2"))])


@pytest.mark.parametrize("verb", [("kv", "watch", "--prefix", "--revision", "1"), ("kv", "list", "--values")])
def test_a_reader_that_went_away_ends_the_command_quietly(
    spawn: Spawn, cluster: Cluster, verb: tuple[str, ...]
) -> None:
    with Client(cluster.endpoints) as client:
        for number in range(200):
            client.kv.put(f"k{number:03}", b"x" * 500)
        process = spawn(*verb)
        assert process.stdout is not None
        process.stdout.read(10)
        process.stdout.close()
        for number in range(200):
            client.kv.put(f"l{number:03}", b"x" * 500)
    assert process.wait(WAIT_S) == 0
    assert process.stderr is not None
    assert process.stderr.read() == b""


def test_a_narrow_terminal_gets_fewer_columns_and_no_cell_in_two_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "_PLAIN_WIDTH", 30)
    rows = [["node1", "127.0.0.1:35001", "leader", 2]]
    output.say_table(["NODE", "ENDPOINT", "ROLE", "TERM"], rows, right=["TERM"], spare=["ROLE", "TERM"])
    assert capsys.readouterr().out.splitlines() == ["NODE   ENDPOINT         TERM", "node1  127.0.0.1:35001     2"]
    monkeypatch.setattr(output, "_PLAIN_WIDTH", 25)
    output.say_table(["NODE", "ENDPOINT", "ROLE", "TERM"], rows, right=["TERM"], spare=["ROLE", "TERM"])
    assert capsys.readouterr().out.splitlines() == ["NODE   ENDPOINT", "node1  127.0.0.1:35001"]


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_standard_stream_that_is_closed_is_no_reason_to_fail(cluster: Cluster, closed: str) -> None:
    line = f"{shlex.join(COMMAND)} -c {cluster.endpoints[0]} kv put k v {closed}"
    ran = subprocess.run(["sh", "-c", line], cwd=ROOT, capture_output=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)], ids=["terminal", "NO_COLOR"]
)
def test_colours_only_on_a_terminal_and_never_with_no_color(
    cluster: Cluster, environment: dict[str, str], coloured: bool
) -> None:
    for arguments in (["status"], ["--help"]):
        ours, theirs = pty.openpty()
        inherited = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        more = {"TERM": "xterm-256color", "ROCINANTE_CLUSTER": cluster.endpoints[0], **environment}
        process = subprocess.Popen([*COMMAND, *arguments], cwd=ROOT, stdout=theirs, stderr=theirs, env=inherited | more)
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 65536):
                shown += part
        except OSError:
            pass  # Linux's way to say that the other side is closed
        os.close(ours)
        assert process.wait(WAIT_S) == 0
        # NO_COLOR is about colour; bold is not one (no-color.org).
        colours = [code for code in shown.split(b"\x1b[")[1:] if code.startswith((b"3", b"9", b"1;3"))]
        if arguments == ["--help"] or not coloured:
            assert bool(colours) is coloured, shown


def test_no_escape_codes_in_a_pipe_whatever_ci_says(spawn: Spawn) -> None:
    for arguments in (("status",), ("--help",), ("status", "--help"), ("nonsense",)):
        out, err = spawn(*arguments, env={"GITHUB_ACTIONS": "true", "FORCE_COLOR": "1"}).communicate(timeout=WAIT_S)
        assert b"\x1b" not in out + err
