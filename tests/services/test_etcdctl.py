"""The stock etcdctl (Debian's etcd-client) against our server."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from rocinante.services.server import GrpcServer
from rocinante.tokens import REFUSAL, Keyring, Tokens
from tests.support.keyrings import NEW, OLD
from tests.support.local_node import LocalNode
from tests.support.tools import requires

pytestmark = requires("etcdctl")
Serve = Callable[..., GrpcServer]
Run = Callable[..., subprocess.CompletedProcess[str]]
WAIT_S = 60.0


def arguments(server: GrpcServer) -> list[str]:
    return ["etcdctl", f"--endpoints=127.0.0.1:{server.port}"]


@pytest.fixture
def run(server: GrpcServer) -> Run:
    def call(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "ETCDCTL_API": "3"}
        command = [*arguments(server), *words]
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=WAIT_S, env=environment, check=False
        )

    return call


SCRIPT = [
    # words, what comes out
    (("put", "k1", "one"), "OK\n"),
    (("put", "k1", "two", "--prev-kv"), "OK\nk1\none\n"),
    (("put", "k2", "three"), "OK\n"),
    (("get", "k1"), "k1\ntwo\n"),
    (("get", "k", "--prefix", "--print-value-only"), "two\nthree\n"),
    (("get", "k", "--prefix", "--keys-only", "--sort-by=KEY", "--order=DESCEND"), "k2\n\nk1\n\n"),
    (("get", "k1", "--rev=2", "--print-value-only"), "one\n"),
    (("get", "--from-key", "k2", "--consistency=s"), "k2\nthree\n"),
    (("get", "nothing"), ""),
    (("del", "k", "--prefix"), "2\n"),
    (("get", "k", "--prefix"), ""),
    (("put", "k1", "four"), "OK\n"),
    (("compaction", "5"), "compacted revision 5\n"),
]


@pytest.mark.parametrize(
    ("anonymous", "options", "code", "output"),
    [
        (False, ("--user", f"anybody:{OLD}"), 0, "OK"),
        (False, ("--user", "anybody", "--password", OLD), 0, "OK"),
        (False, ("--user", f"anybody:{NEW}"), 1, "authentication failed, invalid user ID or password"),
        (False, (), 1, REFUSAL),
        (True, ("--user", f"anybody:{OLD}"), 0, "OK"),
        (True, ("--user", f"anybody:{NEW}"), 0, "OK"),  # "authentication is not enabled": it goes on without
        (True, (), 0, "OK"),
    ],
)
def test_a_token_is_the_password_of_any_user(
    anonymous: bool, options: tuple[str, ...], code: int, output: str, node: LocalNode, serve: Serve
) -> None:
    server = serve(node, keyring=Keyring(Tokens(accepted=(OLD,), anonymous=anonymous)))
    command = [*arguments(server), *options, "put", "k", "v"]
    environment = {**os.environ, "ETCDCTL_API": "3"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, env=environment, check=False)
    assert (done.returncode != 0) == bool(code), done.stderr
    assert output in done.stdout + done.stderr
    assert not any(token in done.stdout + done.stderr for token in (OLD, NEW))


def test_put_get_del_and_compaction(run: Run) -> None:
    for words, output in SCRIPT:
        done = run(*words)
        assert (done.stdout, done.returncode) == (output, 0), (words, done.stderr)
    failed = run("get", "k1", "--rev=2")
    assert failed.returncode != 0
    assert "etcdserver: mvcc: required revision has been compacted" in failed.stderr


def test_txn(run: Run) -> None:
    run("put", "k", "1")
    txn = 'value("k") = "1"\n\nput k 2\nget k\n\nput k other\n\n'
    done = run("txn", stdin=txn)
    assert (done.stdout, done.returncode) == ("SUCCESS\n\nOK\n\nk\n2\n", 0), done.stderr
    done = run("txn", stdin=txn)
    assert done.stdout == "FAILURE\n\nOK\n"


def test_json_shows_a_full_header(run: Run) -> None:
    run("put", "k", "v")
    done = run("get", "k", "-w", "json")
    for field in ('"cluster_id":', '"member_id":', '"revision":2', '"raft_term":', '"count":1'):
        assert field in done.stdout


def test_an_error_of_the_server_is_shown(run: Run) -> None:
    failed = run("put", "k", "v", "--lease=7")
    assert failed.returncode != 0
    assert "requested lease not found" in failed.stderr


@pytest.fixture
def watch(server: GrpcServer) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    running: list[subprocess.Popen[bytes]] = []

    def start(*words: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "ETCDCTL_API": "3"}
        command = [*arguments(server), "watch", *words]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def read_until(process: subprocess.Popen[bytes], expected: bytes) -> bytes:
    """What the process has written when it ends with `expected`, or when the time is up."""
    assert process.stdout is not None
    until_s = time.monotonic() + WAIT_S
    found = b""
    while not found.endswith(expected) and (left_s := until_s - time.monotonic()) > 0:
        if select.select([process.stdout], [], [], left_s)[0]:
            chunk = os.read(process.stdout.fileno(), 65536)
            if not chunk:
                break
            found += chunk
    return found


def test_watch_from_a_revision_and_on(run: Run, watch: Callable[..., subprocess.Popen[bytes]]) -> None:
    run("put", "k1", "one")
    run("put", "k2", "two")
    process = watch("k", "--prefix", "--rev=2", "--prev-kv")
    expected = b"PUT\nk1\none\nPUT\nk2\ntwo\n"
    assert read_until(process, expected) == expected
    run("put", "k1", "three")
    run("del", "k2")
    expected = b"PUT\nk1\none\nk1\nthree\nDELETE\nk2\ntwo\nk2\n\n"
    assert read_until(process, expected) == expected


def test_watch_of_a_compacted_revision_says_so(run: Run, watch: Callable[..., subprocess.Popen[bytes]]) -> None:
    for value in ("1", "2", "3"):
        run("put", "k", value)
    run("compaction", "4")
    process = watch("k", "--rev=2")
    _, error = process.communicate(timeout=WAIT_S)
    assert b"required revision has been compacted" in error
    assert process.returncode != 0
