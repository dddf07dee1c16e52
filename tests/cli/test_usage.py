"""Wrong use, help, completion: what needs no cluster."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from pathlib import Path

import pytest

from rocinante.cli.main import VERBS
from tests.cli.conftest import COMMAND, ROOT, Run
from tests.support.ports import free_port

MINE = ("node", "config", "status", "members", "leader", "kv", "flow", "snapshot", "log", "version")
COMMANDS = [
    *((verb,) for verb in MINE),
    *(("kv", verb) for verb in ("put", "get", "del", "list", "watch")),
    *(("flow", verb) for verb in ("put", "get", "list", "watch", "delete")),
    *(("members", verb) for verb in ("list", "add", "promote", "remove")),
    *(("leader", verb) for verb in ("show", "transfer")),
    *(("snapshot", verb) for verb in ("save", "restore")),
    ("config", "check"),
    *(("bench", verb) for verb in ("kv", "flows", "watch", "lookup", "failover", "restart", "snapshot")),
]
GROUPS = {("kv",), ("flow",), ("members",), ("leader",), ("snapshot",), ("config",)}

WRONG = [
    (["nonsense"], "no such verb 'nonsense'; see `rocinante --help`"),
    (["statsu"], "no such verb 'statsu', did you mean 'status'?"),
    (["--nonsense"], "No such option: --nonsense"),
    (["status", "extra"], "status: Got unexpected extra argument"),
    (["status", "-o", "xml"], "'xml' is not one of 'table', 'json'"),
    (["-o", "xml", "status"], "'xml' is not one of 'table', 'json'"),
    (["status", "-o", "xml"], "'--output' / '-o': 'xml' is not"),
    (["status", "--timeout", "soon"], "status: Invalid value for '--timeout'"),
    (["status", "--timeout", "0"], "0 is not above 0"),
    (["status", "--timeout", "nan"], "nan is not above 0"),
    (["status", "-c", "nowhere"], "cluster: 'nowhere' is not HOST:PORT"),
    (["status", "-c", "127.0.0.1:99999"], "port must be a number from 1 to 65535"),
    (["status", "-c", "a:1", "--config", "x.yaml"], "--config: is given together with --cluster"),
    (["status", "--config", "/nonexistent.yaml"], "/nonexistent.yaml"),
    (["node"], "node: Missing option '--config'"),
    (["kv", "put"], "kv put: Missing argument 'KEY'"),
    (["kv", "put", "k"], "give either VALUE"),
    (["kv", "put", "k", "v", "--file", "f"], "give either VALUE"),
    (["kv", "gte", "k"], "No such command 'gte'. Did you mean 'get'"),
    (["kv", "get", "k", "--revision", "-1"], "'--revision'"),
    (["kv", "watch", ""], "key: is empty"),
    (["flow", "put"], "describe a flow by --protocol"),
    (["flow", "put", "--protocol", "tcp", "--source", "192.0.2.1:1"], "flow.destination: is missing"),
    (["flow", "put", "--protocol", "quic", "--source", "1.2.3.4:1", "--destination", "1.2.3.4:2"], "flow.protocol"),
    (["flow", "put", "--reply-source", "1.2.3.4:1"], "--reply-source and --reply-destination go together"),
    (["flow", "get"], "name a flow: its ID"),
    (["flow", "get", "--protocol", "tcp"], "a tuple needs all of --protocol, --source and --destination"),
    (["flow", "get", "zz"], "'zz' is not a flow id"),
    (["flow", "list", "--state", "OPEN"], "'OPEN' is not one of NONE"),
    (["flow", "list", "--port", "70000"], "'--port'"),
    (["members", "add", "nowhere"], "'nowhere' is not HOST:PORT"),
    (["log", "-n", "0"], "log: Invalid value for '--last'"),
    (["snapshot", "restore", "f"], "Missing option"),
    (["config", "check", "/nonexistent.yaml"], "/nonexistent.yaml"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[" ".join(arguments) for arguments, _ in WRONG])
def test_wrong_use_is_one_line_and_status_2(cli: Run, arguments: list[str], message: str) -> None:
    ran = cli(*arguments)
    assert ran.status == 2, ran.err
    assert message in ran.err
    assert (ran.out, ran.err.count("\n")) == (b"", 1)
    assert ran.err.startswith("rocinante: ")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_help_has_examples_that_begin_with_the_command(cli: Run, command: tuple[str, ...]) -> None:
    ran = cli(*command, "--help")
    assert (ran.status, ran.err) == (0, "")
    assert "Usage: rocinante " + " ".join(command) in ran.text
    if command not in GROUPS:
        examples = ran.text.partition("Examples:")[2]
        assert f"rocinante {' '.join(command)}" in examples


def test_every_verb_is_in_the_help_and_has_a_module_or_says_what_is_missing(cli: Run) -> None:
    text = cli("--help").text
    for name, verb in VERBS.items():
        assert f"│ {name}" in text
        if name in MINE:
            assert importlib.util.find_spec(verb.module) is not None


def test_help_is_quick_because_it_loads_no_verb() -> None:
    code = "import sys; from rocinante.cli.main import run; run(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([COMMAND[0], "-c", code], capture_output=True, cwd=ROOT, check=True)
    loaded = done.stderr.decode().split()
    assert not {"grpc", "httpx", "plyvel", "yaml", "google.protobuf", "rocinante.client.client"} & set(loaded)
    assert not [name for name in loaded if name.startswith("rocinante.cli.") and name.endswith(tuple(VERBS))]


def test_no_arguments_show_the_help_and_are_wrong_use(cli: Run) -> None:
    ran = cli()
    assert (ran.status, "Usage: rocinante" in ran.text) == (2, True)


def test_version(cli: Run) -> None:
    assert cli("--version").text.startswith("rocinante 0.")
    assert set(json.loads(cli("version", "-o", "json").out)) == {"version", "protocol_version", "data_format", "python"}


@pytest.mark.parametrize("arguments", [["status"], ["kv", "put", "a", "b"], ["members"], ["flow", "list"], ["log"]])
def test_nobody_there_is_status_3(cli: Run, arguments: list[str]) -> None:
    ran = (
        cli(*arguments, "-c", f"127.0.0.1:{free_port()}", "--timeout", "0.3")
        if arguments != ["members"]
        else cli("-c", f"127.0.0.1:{free_port()}", "--timeout", "0.3", *arguments)
    )
    assert (ran.status, ran.out, ran.err.count("\n")) == (3, b"", 1)
    assert "connection refused: is the node running" in ran.err


@pytest.mark.parametrize(
    ("shell", "words"), [("bash", "complete -o default -F"), ("zsh", "compdef"), ("fish", "complete --command")]
)
def test_completion_scripts(shell: str, words: str, tmp_path: Path) -> None:
    environment = {**os.environ, "_ROCINANTE_COMPLETE": f"source_{shell}", "HOME": str(tmp_path)}
    done = subprocess.run(
        [*COMMAND, "--show-completion", shell], capture_output=True, cwd=ROOT, env=environment, check=False
    )
    assert words in done.stdout.decode()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("rocinante st", "status"),
        ("rocinante kv ", "watch"),
        ("rocinante kv put --pre", "--previous"),
        ("rocinante status --ou", "--output"),
    ],
)
def test_completion_completes(line: str, expected: str, tmp_path: Path) -> None:
    words = line.split(" ")
    environment = {
        **os.environ,
        "_ROCINANTE_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
        "HOME": str(tmp_path),
    }
    done = subprocess.run([*COMMAND], capture_output=True, cwd=ROOT, env=environment, check=False)
    assert expected in done.stdout.decode().split()


def test_completion_is_installed_where_the_shell_looks(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(
        [*COMMAND, "--install-completion", "bash"], capture_output=True, cwd=ROOT, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert any("rocinante" in path.read_text() for path in tmp_path.rglob("*") if path.is_file())


GOOD = """\
artifact:
  cleanupOnFailure: true
  cluster:
    name: test
    controllers:
      - {address: 127.0.0.1, port: 35001, rest: 8001}
      - {address: 127.0.0.1, port: 35002, rest: 8002}
"""


def test_config_check(cli: Run, tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(GOOD)
    assert cli("config", "check", str(file)).text == f"{file}: valid; cluster test in dc1, 2 controllers\n"
    found = json.loads(cli("config", "check", str(file), "-o", "json").out)
    assert (found["valid"], [one["name"] for one in found["controllers"]]) == (True, ["node1", "node2"])
    file.write_text(GOOD.replace("35002", "99999").replace("name: test", "nmae: test"))
    ran = cli("config", "check", str(file))
    assert ran.status == 2
    assert ran.err.count("\n") >= 2, "one line a mistake"
    assert all(str(file) in line for line in ran.err.splitlines())
    assert json.loads(cli("-o", "json", "config", "check", str(file)).out)["valid"] is False
