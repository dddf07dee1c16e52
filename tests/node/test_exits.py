"""Why a node does not start, or ends: a line that says so, and the exit status that systemd acts on."""

from __future__ import annotations

import json
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from rocinante.errors import EXIT_DATA, EXIT_FAILED, EXIT_STORAGE, EXIT_TEMPORARY, EXIT_USAGE
from tests.node.tools import FAST, Writers, lead, log_since, log_size, others, put_entries, rest
from tests.support.cluster import ADDRESS, Cluster

FILE_BYTES = 512 * 1024


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two of three nodes have run and written something; node3 never started. None runs."""
    with Cluster(tmp_path_factory.mktemp("exits"), timers=FAST) as cluster:
        cluster.start(1, 2)
        put_entries(cluster, 20, prefix="exits")
        cluster.stop(1)
        cluster.kill(2)
        yield cluster


def ended(cluster: Cluster, number: int) -> tuple[int, list[str]]:
    """Start a node that cannot: its exit status, and what it said beside its log lines (which begin with the time)."""
    offset = log_size(cluster, number) if cluster.nodes[number].log.exists() else 0
    cluster.start(number, wait=False)
    status = cluster.wait_exit(number)
    text = log_since(cluster, number, offset)
    assert "Traceback" not in text
    return status, [line for line in text.splitlines() if not line.startswith("20")]


@pytest.mark.parametrize("which", ["gRPC", "REST"])
def test_a_port_that_is_taken_is_one_line_and_status_1(stopped: Cluster, which: str) -> None:
    node = stopped.nodes[3]
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((ADDRESS, node.grpc if which == "gRPC" else node.rest))
        taken.listen()
        status, said = ended(stopped, 3)
    assert status == EXIT_FAILED
    assert len(said) == 1
    assert "is in use" in said[0]
    assert not node.data.exists(), "nothing was made"


def test_a_directory_that_cannot_be_made_is_one_line_and_status_75(stopped: Cluster) -> None:
    node = stopped.nodes[3]
    before, node.data = node.data, stopped.config / "below-a-file"
    try:
        status, said = ended(stopped, 3)
    finally:
        node.data = before
    assert (status, len(said)) == (EXIT_TEMPORARY, 1)
    assert "cannot use" in said[0]
    assert "Not a directory" in said[0]


def test_a_directory_that_another_node_uses_is_one_line_and_status_75(stopped: Cluster) -> None:
    stopped.start(1, wait=False)
    stopped.wait_ready(1)
    node = stopped.nodes[3]
    before, node.data = node.data, stopped.nodes[1].data
    try:
        status, said = ended(stopped, 3)
    finally:
        node.data = before
        stopped.stop(1)
    assert (status, len(said)) == (EXIT_TEMPORARY, 1)
    assert "is in use by another process" in said[0]


def test_the_directory_of_another_node_is_status_65_and_says_what_to_check(stopped: Cluster) -> None:
    node = stopped.nodes[3]
    before, node.data = node.data, stopped.nodes[1].data
    try:
        status, said = ended(stopped, 3)
    finally:
        node.data = before
    assert (status, len(said)) == (EXIT_DATA, 1)
    assert "belongs to node" in said[0]
    assert "check dataDir" in said[0]


def test_a_newer_format_is_status_65_and_names_both(stopped: Cluster) -> None:
    identity = stopped.nodes[1].data / "identity.json"
    before = identity.read_text()
    identity.write_text(json.dumps({**json.loads(before), "format": 99}))
    try:
        status, said = ended(stopped, 1)
    finally:
        identity.write_text(before)
    assert (status, len(said)) == (EXIT_DATA, 1)
    assert "data format 99" in said[0]
    assert "start the newer version again" in said[0]


def test_a_damaged_log_is_status_65_says_what_to_do_and_is_not_touched(stopped: Cluster) -> None:
    files = [path for path in (stopped.nodes[2].data / "log").iterdir() if path.suffix in {".log", ".ldb"}]
    largest = max(files, key=lambda path: path.stat().st_size)
    content = largest.read_bytes()
    middle = len(content) // 2
    damaged = content[:middle] + bytes(byte ^ 0xFF for byte in content[middle : middle + 64]) + content[middle + 64 :]
    largest.write_bytes(damaged)
    status, said = ended(stopped, 2)
    assert (status, len(said)) == (EXIT_DATA, 1)
    assert "damaged" in said[0]
    assert "must not vote" in said[0]
    assert "join again" in said[0]
    assert ended(stopped, 2)[0] == EXIT_DATA, "nothing repairs it behind one's back"


def test_a_wrong_yaml_is_status_2_with_a_line_for_each_mistake(stopped: Cluster) -> None:
    wrong = stopped.directory / "wrong.yaml"
    wrong.write_text(stopped.config.read_text().replace("tickMs: 10", "tickMs: ten") + "\n    colour: red\n")
    stopped.nodes[3].config = wrong
    try:
        status, said = ended(stopped, 3)
    finally:
        stopped.nodes[3].config = None
    assert status == EXIT_USAGE
    assert len(said) == 2
    assert any("tickMs" in line for line in said)
    assert any("colour" in line for line in said)


def test_a_name_that_is_not_in_the_file_is_status_1(stopped: Cluster) -> None:
    stopped.nodes[3].name, before = "node9", stopped.nodes[3].name
    try:
        status, said = ended(stopped, 3)
    finally:
        stopped.nodes[3].name = before
    assert (status, len(said)) == (EXIT_FAILED, 1)
    assert "no controller is named 'node9'" in said[0]


def test_a_failed_disk_ends_the_node_with_74_and_the_others_go_on(cluster: Cluster) -> None:
    leader = cluster.wait_leader()
    offset = log_size(cluster, leader)
    cluster.nodes[leader].expected_to_run = False
    with Writers(cluster, 2, prefix="exits/disk") as writers:
        writers.wait_more(20)
        # From here on no file of the process may grow beyond this: LevelDB's write fails as on a full disk.
        resource.prlimit(cluster.pid(leader), resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
        with Writers(cluster, 2, prefix="exits/filling") as filling:
            filling.value = "x" * 50_000
            assert cluster.wait_exit(leader, 120.0) == EXIT_STORAGE
        cluster.wait_leader(other_than=leader)
        writers.wait_more(20)
    text = log_since(cluster, leader, offset)
    assert "FATAL: the data directory can no longer be written or trusted" in text
    writers.check()
    cluster.start(leader)
    cluster.wait_equal_digests()


def test_a_nearly_full_disk_raises_an_alarm_refuses_writes_and_answers_reads(tmp_path: Path) -> None:
    with Cluster(tmp_path, timers=FAST) as cluster:
        cluster.start()
        leader = cluster.wait_leader()
        follower = others(cluster, leader)[0]
        cluster.put(leader, "exits/room", "v")
        # The leader alone gets a configuration by which its disk is nearly full.
        cluster.options["storage"] = {"diskReserveBytes": 1024**4}
        cluster.nodes[leader].config = tmp_path / "full.yaml"
        cluster.write_config(tmp_path / "full.yaml")
        cluster.restart(leader)
        lead(cluster, leader)
        cluster.wait_until(lambda: "nearly full" in str(cluster.status(leader)["alarms"]), "the alarm")
        assert "ALARM: the disk is nearly full" in log_since(cluster, leader)
        for node in (leader, follower):
            cluster.wait_until(lambda n=node: _put(cluster, n)[0] != 503, "there is a leader")  # type: ignore[misc]
            answer = _put(cluster, node)
            assert answer[0] == 429, f"through node{node}: {answer}"
            assert "nearly full" in answer[1]
            assert cluster.get(node, "exits/room") == "v"
        assert "nearly full" not in str(cluster.status(follower)["alarms"])


def _put(cluster: Cluster, number: int) -> tuple[int, str]:
    answer = rest(cluster, number, "PUT", "/v1/kv/exits", b"v", timeout_ms=5_000)
    return answer.status, answer.error[1] if answer.status != 200 else ""
