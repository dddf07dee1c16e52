"""Access tokens on real nodes: who is let in (gRPC, REST, peers), and how tokens are changed while all goes on."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import grpc
import httpx
import pytest

from rocinante.client import Client
from rocinante.client.rest import RestClient
from rocinante.errors import EXIT_TEMPORARY, ConfigError, RocinanteError, Unauthenticated
from rocinante.flows import FlowRecord, FlowTuple
from rocinante.tokens import VARIABLE, bearer, read_tokens
from tests.node.tools import FAST
from tests.support.cluster import Cluster, Status
from tests.support.keyrings import NEW, OLD


def write_tokens(path: Path, *lines: str) -> None:
    path.touch(mode=0o600)
    path.write_text("".join(f"{line}\n" for line in lines))


def reload(cluster: Cluster, number: int, expected: str) -> None:
    """SIGHUP, and wait until the node has said that it did it."""
    log = cluster.nodes[number].log
    before = log.read_text().count(expected)
    os.kill(cluster.pid(number), signal.SIGHUP)
    cluster.wait_until(lambda: log.read_text().count(expected) > before, f"node{number}: {expected}")


def change(cluster: Cluster, path: Path, *lines: str) -> None:
    """The file of all nodes, which read it one after the other; the cluster must be whole in between."""
    write_tokens(path, *lines)
    tokens = [line for line in lines if line != "anonymous"]
    for number in cluster.nodes:
        for node in cluster.nodes.values():
            node.headers = bearer(tokens[0] if tokens else "")
        reload(cluster, number, "configuration reloaded: the access tokens")
        cluster.wait_until(lambda: are_connected(cluster), "all peers are connected")


def are_connected(cluster: Cluster) -> bool:
    """By all nodes; each of them lets this test in."""
    statuses = [node.status() for node in cluster.nodes.values()]
    return all(status is not None and are_peers_connected(status) for status in statuses)


def are_peers_connected(status: Status) -> bool:
    return all(peer["connected"] for peer in cast(list[dict[str, bool]], status["peers"]))


@pytest.fixture(autouse=True)
def no_token_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[tuple[Cluster, Path]]:
    """Three nodes that ask for OLD."""
    path = tmp_path / "tokens"
    write_tokens(path, "# the only one", "", OLD)
    with Cluster(tmp_path / "cluster", nodes=3, timers=FAST, auth={"tokenFile": str(path)}) as cluster:
        for node in cluster.nodes.values():
            node.headers = bearer(OLD)
        cluster.start()
        cluster.wait_leader()
        yield cluster, path


def test_who_has_no_token_is_refused(closed: tuple[Cluster, Path]) -> None:
    cluster, _ = closed
    url = cluster.nodes[1].url
    with Client(cluster.endpoints(), token=OLD) as client, RestClient(url, token=OLD) as rest:
        client.kv.put("k", b"v")
        found = rest.kv.get("k")
        assert found is not None
        assert found.value == b"v"
    for token in ("", NEW):
        with Client(cluster.endpoints(), token=token) as client, pytest.raises(Unauthenticated):
            client.kv.put("k", b"stranger")
        with Client(cluster.endpoints(), token=token) as client, pytest.raises(Unauthenticated):
            list(client.kv.watch("k"))
        with RestClient(url, token=token) as rest, pytest.raises(Unauthenticated):
            rest.kv.put("k", b"stranger")
    with Client(cluster.endpoints(), token=OLD) as client:
        found = client.kv.get("k")
        assert found is not None
        assert found.value == b"v"
    metrics = httpx.get(f"{url}/metrics", headers=bearer(OLD)).text
    refused = [line for line in metrics.splitlines() if line.startswith("rocinante_requests_unauthenticated_total")]
    assert float(refused[0].split()[-1]) >= 2
    for path in ("/", "/v1/status", "/metrics", "/v1/events"):
        answer = httpx.get(url + path)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Basic realm=")
        assert OLD not in answer.text
        script = httpx.get(url + path, headers={"X-Requested-With": "XMLHttpRequest"})
        assert (script.status_code, script.headers["www-authenticate"]) == (401, 'Bearer realm="Rocinante"')
    assert httpx.get(f"{url}/livez").status_code == 200
    assert httpx.get(f"{url}/readyz").status_code == 200
    browser = base64.b64encode(f"me:{OLD}".encode()).decode()
    assert httpx.get(url, headers={"Authorization": f"Basic {browser}"}).status_code == 200
    assert not any(OLD in node.log.read_text() for node in cluster.nodes.values())


def test_as_etcds_clients_present_it_and_health_without(closed: tuple[Cluster, Path]) -> None:
    cluster, _ = closed
    with grpc.insecure_channel(cluster.endpoint(1)) as channel:
        status = channel.unary_unary("/rocinante.v1.Cluster/Status", response_deserializer=bytes)
        assert status(b"", metadata=(("token", OLD),), timeout=30)
        for metadata in ((), (("token", NEW),), (("authorization", OLD),), (("authorization", "Basic !"),)):
            with pytest.raises(grpc.RpcError) as refused:
                status(b"", metadata=metadata, timeout=30)
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=30)


def test_a_node_that_is_far_behind_gets_a_snapshot(tmp_path: Path) -> None:
    write_tokens(tmp_path / "tokens", OLD)
    auth = {"tokenFile": str(tmp_path / "tokens")}
    storage = {"compactEntries": 100, "keepEntries": 0}
    with Cluster(tmp_path / "cluster", nodes=3, timers=FAST, auth=auth, storage=storage) as cluster:
        for node in cluster.nodes.values():
            node.headers = bearer(OLD)
        cluster.start()
        behind = next(number for number in cluster.nodes if number != cluster.wait_leader())
        cluster.stop(behind)
        with Client(cluster.endpoints(), token=OLD) as client:
            for number in range(300):
                client.kv.put(f"k{number}", b"")
        cluster.start(behind)
        log = cluster.nodes[behind].log
        cluster.wait_until(lambda: "replacing the state by the snapshot" in log.read_text(), "it has the snapshot")
        cluster.wait_until(lambda: are_connected(cluster), "all peers are connected")


def test_a_saved_cluster_begins_again_and_a_node_without_data_finds_it(
    closed: tuple[Cluster, Path], tmp_path: Path
) -> None:
    cluster, path = closed
    file = tmp_path / "state.snap"

    def rocinante(*words: str) -> None:
        command = [sys.executable, "-m", "rocinante.cli.main", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr

    with Client(cluster.endpoints(), token=OLD) as client:
        client.kv.put("k", b"v")
    rocinante("snapshot", "save", str(file), "--cluster", ",".join(cluster.endpoints()), "--token-file", str(path))
    for number in cluster.nodes:
        cluster.stop(number)
    for number in (1, 2):
        node = cluster.nodes[number]
        where = ("--config", str(cluster.config), "--name", node.name, "--data-dir", str(node.data))
        rocinante("snapshot", "restore", str(file), *where, "--lineage", "second", "--force")
    cluster.start(1, 2)
    cluster.wait_leader()
    shutil.rmtree(cluster.nodes[3].data)
    cluster.start(3)
    cluster.wait_until(lambda: are_connected(cluster), "all peers are connected")
    assert [cluster.status(number)["lineage"] for number in cluster.nodes] == ["second"] * 3
    with Client([cluster.endpoint(3)], token=OLD) as client:
        found = client.kv.get("k")
        assert found is not None
        assert found.value == b"v"


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ((), "has 0 tokens, expected 1 to 8"),
        ([f"{OLD}{number}" for number in range(9)], "has 9 tokens, expected 1 to 8"),
        ((OLD, "", OLD), ":3: stands there twice"),
        ((f"{OLD} {NEW}",), ":1: no token"),
        (("x" * 129,), ":1: no token"),
        (("#" * 20_000,), "has more than 16384 bytes"),
    ],
)
def test_a_wrong_file(lines: Sequence[str], problem: str, tmp_path: Path) -> None:
    write_tokens(tmp_path / "tokens", *lines)
    with pytest.raises(ConfigError) as refused:
        read_tokens(tmp_path / "tokens")
    assert problem in str(refused.value)
    assert OLD not in str(refused.value)


def test_a_node_with_another_token_is_no_peer(closed: tuple[Cluster, Path], tmp_path: Path) -> None:
    cluster, _ = closed
    follower = next(number for number in cluster.nodes if number != cluster.wait_leader())
    node = cluster.nodes[follower]
    cluster.stop(follower)
    write_tokens(tmp_path / "others", NEW)
    node.config = tmp_path / "other.yaml"
    node.config.write_text(cluster.config.read_text().replace(str(tmp_path / "tokens"), str(tmp_path / "others")))
    node.headers = bearer(NEW)
    cluster.start(follower, wait=False)
    cluster.wait_until(lambda: "UNAUTHENTICATED" in node.log.read_text(), "it is refused")
    assert not are_connected(cluster)
    for _ in range(10):  # whichever node each asks first
        with Client(cluster.endpoints(), token=OLD) as client:
            client.kv.put("k", b"the others go on")
            with client.flows.writer() as writer:
                writer.put(FlowRecord(FlowTuple.from_text("udp", "10.0.0.1:7", "192.0.2.1:53")), until="committed")
        with Client(cluster.endpoints(), token=OLD) as client, client.kv.watch("k", from_revision=1) as watch:
            assert next(iter(watch))
        with RestClient([node.url for node in cluster.nodes.values()], token=OLD) as rest:
            assert rest.kv.get("k") is not None
    with Client([cluster.endpoint(follower)], token=OLD) as client, pytest.raises(Unauthenticated):
        client.kv.put("k", b"")
    node.config = None
    node.headers = bearer(OLD)
    cluster.stop(follower)
    cluster.start(follower)
    cluster.wait_until(lambda: are_connected(cluster), "it is a peer again")


def test_a_node_with_another_token_and_without_data_does_not_begin(
    closed: tuple[Cluster, Path], tmp_path: Path
) -> None:
    """It could not ask which cluster it is."""
    cluster, _ = closed
    node = cluster.nodes[2]
    cluster.stop(2)
    shutil.rmtree(node.data)
    write_tokens(tmp_path / "others", NEW)
    node.config = tmp_path / "other.yaml"
    node.config.write_text(cluster.config.read_text().replace(str(tmp_path / "tokens"), str(tmp_path / "others")))
    cluster.start(2, wait=False)
    assert cluster.wait_exit(2) == EXIT_TEMPORARY
    assert "does not accept its access token" in node.log.read_text()
    node.config = None
    cluster.start(2)
    cluster.wait_until(lambda: are_connected(cluster), "it is a peer")


def test_tokens_change_while_all_goes_on(closed: tuple[Cluster, Path]) -> None:
    cluster, path = closed
    stopping = threading.Event()
    failures: list[RocinanteError] = []
    written: list[int] = []

    def write(token: str) -> None:
        with Client(cluster.endpoints(), token=token) as client:
            while not stopping.is_set():
                try:
                    client.kv.put(f"{token}/{len(written)}", b"")
                    written.append(1)
                except RocinanteError as error:
                    failures.append(error)
                    return

    leader, term = cluster.wait_leader(), cluster.status(1)["term"]
    old = threading.Thread(target=write, args=(OLD,))
    old.start()
    change(cluster, path, OLD, NEW)
    change(cluster, path, NEW, OLD)
    new = threading.Thread(target=write, args=(NEW,))
    new.start()
    with Client(cluster.endpoints(), token=OLD) as client:
        ended: list[BaseException] = []

        def follow() -> None:
            try:
                list(client.kv.watch("never"))
            except RocinanteError as error:
                ended.append(error)

        # Many: some begin in the moment in which the token is taken away.
        watchers = [threading.Thread(target=follow) for _ in range(20)]
        for watcher in watchers:
            watcher.start()
        assert not failures
        change(cluster, path, NEW)
        for watcher in watchers:
            watcher.join(30)
    old.join(30)
    assert not old.is_alive()
    assert [type(error) for error in failures] == [Unauthenticated], "who still has the old one"
    assert [type(error) for error in ended] == [Unauthenticated] * len(watchers), "streams that were open too"
    count = len(written)
    cluster.wait_until(lambda: len(written) > count, "who has the new one goes on")
    stopping.set()
    new.join(30)
    assert len(failures) == 1
    assert (cluster.wait_leader(), cluster.status(1)["term"]) == (leader, term), "nobody lost its leader"


def test_a_cluster_begins_and_ends_to_ask_for_tokens_while_all_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    write_tokens(path, "anonymous")
    with Cluster(tmp_path / "cluster", nodes=3, timers=FAST, auth={"tokenFile": str(path)}) as cluster:
        cluster.start()
        cluster.wait_leader()
        for lines in (("anonymous", NEW), (NEW, "anonymous"), (NEW,), (NEW, "anonymous"), ("anonymous",)):
            change(cluster, path, *lines)
            with Client(cluster.endpoints(), token=NEW) as client:
                client.kv.put("k", b"")
            with Client(cluster.endpoints()) as client:
                if "anonymous" in lines:
                    client.kv.put("k", b"")
                else:
                    with pytest.raises(Unauthenticated):
                        client.kv.put("k", b"")


def test_the_command_presents_the_token_that_it_is_given(closed: tuple[Cluster, Path], tmp_path: Path) -> None:
    cluster, path = closed
    write_tokens(tmp_path / "wrong", NEW)

    def status(*options: str, **environment: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "rocinante.cli.main", "kv", "put", "k", "v", *options]
        done = subprocess.run(
            command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False
        )
        return done.returncode, done.stderr

    nodes = ("--cluster", ",".join(cluster.endpoints()))
    assert status(*nodes, "--token-file", str(path)) == (0, "")
    assert status(*nodes, **{VARIABLE: OLD}) == (0, "")
    assert status("--config", str(cluster.config)) == (0, "")
    for wrong in (status(*nodes), status(*nodes, "--token-file", str(tmp_path / "wrong"))):
        assert wrong[0] == 1
        assert "no access token" in wrong[1]
        assert "give --token-file" in wrong[1]
    assert "cannot be read" in status(*nodes, "--token-file", str(tmp_path / "none"))[1]


def test_a_file_that_is_wrong_changes_nothing(closed: tuple[Cluster, Path]) -> None:
    cluster, path = closed
    path.write_text(f"{OLD}\nshort\n")
    reload(cluster, 1, f"{path}:2: no token: expected 16 to 128 letters")
    write_tokens(path, NEW)
    path.chmod(0o644)
    reload(cluster, 1, "everybody on this host may use it")
    with Client(cluster.endpoints(), token=OLD) as client:
        client.kv.put("k", b"")
    log = cluster.nodes[1].log.read_text()
    assert "the configuration was not reloaded" in log
    assert "short" not in log
