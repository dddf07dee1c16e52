"""Compaction, and nodes that come back to a log that no longer reaches as far back as they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rocinante import limits
from rocinante.client import Client
from rocinante.errors import OutOfRange
from tests.node.tools import (
    FAST,
    Writers,
    held,
    log_since,
    log_size,
    metrics,
    others,
    put_entries,
    put_many,
    rest,
    settle,
    wait_log,
)
from tests.support.cluster import Cluster

ENTRIES = 100
KEPT = 10


@pytest.fixture(scope="module")
def compacting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    storage = {"compactEntries": ENTRIES, "keepEntries": KEPT}
    timers = {**FAST, "electionMs": 1500}  # a change of leader by chance, on a busy machine, is told from a defect
    with Cluster(tmp_path_factory.mktemp("compacting"), timers=timers, storage=storage) as cluster:
        cluster.start()
        yield cluster


@pytest.fixture
def small_log(compacting: Cluster) -> Cluster:
    settle(compacting)
    return compacting


def number(cluster: Cluster, node: int, key: str) -> int:
    return int(str(cluster.status(node)[key]))


def data_bytes(cluster: Cluster, node: int) -> int:
    return sum(path.stat().st_size for path in cluster.nodes[node].data.rglob("*") if path.is_file())


def test_the_log_is_compacted_on_every_node_and_only_so_much_of_it_is_kept(small_log: Cluster) -> None:
    put_entries(small_log, 5 * ENTRIES, prefix="snapshots/compacted")
    small_log.wait_applied()

    def compacted() -> bool:
        return all(
            number(small_log, node, "last_index") - number(small_log, node, "first_index") < 2 * ENTRIES + KEPT
            for node in small_log.nodes
        )

    small_log.wait_until(compacted, "every log is short")
    for node in small_log.nodes:
        files = sorted(path.name for path in (small_log.nodes[node].data / "snapshots").iterdir())
        assert 1 <= len(files) <= 3, files
        assert number(small_log, node, "snapshot_index") > ENTRIES


def test_a_follower_that_missed_more_than_the_log_has_gets_a_snapshot_and_goes_on_from_it(small_log: Cluster) -> None:
    leader = small_log.wait_leader()
    follower = others(small_log, leader)[0]
    small_log.put(leader, "snapshots/first", "v")
    small_log.kill(follower)
    put_entries(small_log, 5 * ENTRIES, prefix="snapshots/missed")
    offset = log_size(small_log, follower)
    small_log.start(follower)
    small_log.wait_equal_digests()
    assert "receiving snapshot" in log_since(small_log, follower, offset)
    assert "replacing the state by the snapshot" in log_since(small_log, follower, offset)
    assert len(held(small_log, follower, "snapshots/missed")) >= 5 * ENTRIES
    put_entries(small_log, ENTRIES // 2, prefix="snapshots/after")
    small_log.wait_equal_digests()
    # What happened in the meantime is not known there entry by entry.
    with (
        Client(small_log.endpoint(follower), discover=False, timeout_s=60.0) as client,
        client.flows.watch(from_index=2) as watch,
        pytest.raises(OutOfRange, match="snapshot"),
    ):
        next(watch)
    # It starts from what it got.
    small_log.kill(follower)
    small_log.start(follower)
    small_log.wait_equal_digests()


def test_all_three_are_killed_and_start_from_their_snapshots_and_what_follows_them(small_log: Cluster) -> None:
    put_entries(small_log, 2 * ENTRIES + ENTRIES // 2, prefix="snapshots/all")
    small_log.wait_applied()
    before = held(small_log, 1, "snapshots/all")
    for node in small_log.nodes:
        small_log.kill(node)
    small_log.start()
    small_log.wait_leader()
    small_log.wait_equal_digests()
    for node in small_log.nodes:
        assert held(small_log, node, "snapshots/all") == before


def test_a_follower_is_killed_while_a_snapshot_comes_in_and_is_whole_afterwards(small_log: Cluster) -> None:
    leader = small_log.wait_leader()
    follower = others(small_log, leader)[0]
    small_log.kill(follower)
    put_many(small_log, 200, prefix="snapshots/cut", value=b"x" * 60_000)
    put_entries(small_log, 2 * ENTRIES, prefix="snapshots/cut2")
    offset = log_size(small_log, follower)
    small_log.start(follower, wait=False)
    wait_log(small_log, follower, "receiving snapshot", offset)
    small_log.kill(follower)
    small_log.start(follower)
    small_log.wait_equal_digests()
    assert not [path for path in (small_log.nodes[follower].data / "snapshots").iterdir() if path.name[0] == "."]


def test_a_large_snapshot_goes_out_while_writes_go_on(small_log: Cluster) -> None:
    leader = small_log.wait_leader()
    follower = others(small_log, leader)[0]
    small_log.kill(follower)
    put_many(small_log, 400, prefix="snapshots/large", value=b"x" * 51_200)
    put_entries(small_log, 2 * ENTRIES, prefix="snapshots/large2")
    with Writers(small_log, 2, prefix="snapshots/meanwhile") as writers:
        writers.wait_more(20)
        offset = log_size(small_log, follower)
        small_log.start(follower)
        wait_log(small_log, follower, "replacing the state by the snapshot", offset)
        writers.wait_more(20)
    writers.check()
    assert small_log.wait_leader() == leader, "nobody's heartbeats waited for it"
    assert metrics(small_log, leader)["storage_snapshot_bytes"] > 20_000_000


def test_a_snapshot_by_hand_is_taken_at_once_and_two_who_ask_both_get_one(small_log: Cluster) -> None:
    node = small_log.wait_leader()
    small_log.put(node, "snapshots/hand", "v")
    answers = [rest(small_log, node, "POST", "/v1/admin/snapshot", {}) for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].json["index"] <= answers[1].json["index"]
    small_log.wait_until(
        lambda: number(small_log, node, "snapshot_index") >= answers[0].json["index"], "the log begins there"
    )


def test_deleted_keys_leave_the_disk(tmp_path: Path) -> None:
    storage = {"compactEntries": ENTRIES, "keepEntries": 0}
    with Cluster(tmp_path, nodes=1, timers=FAST, storage=storage) as cluster:
        cluster.start()
        cluster.wait_leader()
        put_many(cluster, 400, prefix="big", value=b"x" * 51_200)
        put_entries(cluster, ENTRIES, prefix="small")
        # Log and snapshot both hold the values: measured before the snapshot is written, only half would be there, and
        # LevelDB keeps that half until there is more to give back (limits.LOG_RECLAIM_BYTES).
        cluster.wait_until(lambda: number(cluster, 1, "snapshot_index") >= ENTRIES, "the snapshot with the values")
        large = data_bytes(cluster, 1)
        with Client(cluster.endpoint(1)) as client:
            revision = client.kv.delete("big/", prefix=True).revision
            client.kv.compact(revision)
        put_entries(cluster, 3 * ENTRIES, prefix="small2")
        cluster.wait_until(lambda: data_bytes(cluster, 1) < large - 15_000_000, "the room is given back")
        digest = cluster.wait_equal_digests()
        cluster.kill(1)
        cluster.start()
        cluster.wait_leader()
        assert len(held(cluster, 1, "small2")) >= 3 * ENTRIES
        assert digest


def test_a_large_state_is_not_written_for_every_little_and_large_entries_are_not_kept_by_number(tmp_path: Path) -> None:
    storage = {"compactEntries": 1000, "compactBytes": limits.MIB, "keepEntries": 10_000}
    value = b"x" * 400 * limits.KIB
    with Cluster(tmp_path, nodes=1, timers=FAST, storage=storage) as cluster:
        cluster.start()
        cluster.wait_leader()
        put_many(cluster, 200, prefix="state", value=value)
        cluster.wait_until(
            lambda: metrics(cluster, 1)["storage_snapshot_bytes"] > limits.COMPACT_CHEAP_BYTES, "a large snapshot"
        )
        # What was measured is on the disk before the log is cut: one more, asked for, is behind all of that.
        taken = rest(cluster, 1, "POST", "/v1/admin/snapshot", {}).json["index"]
        cluster.wait_until(lambda: number(cluster, 1, "snapshot_index") >= taken, "the log begins there")
        kept = number(cluster, 1, "last_index") - number(cluster, 1, "first_index")
        assert kept * len(value) <= limits.COMPACT_KEEP_BYTES + 2 * limits.MIB
        before = number(cluster, 1, "snapshot_index")
        put_many(cluster, 10, prefix="little", value=value)
        assert number(cluster, 1, "snapshot_index") == before, "4 MB of log, 80 of state"
        put_many(cluster, 200, prefix="state", value=value)
        cluster.wait_until(lambda: number(cluster, 1, "snapshot_index") > before, "a snapshot, for as much again")
