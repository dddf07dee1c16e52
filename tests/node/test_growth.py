"""Steady writes leave memory and disk flat: what is bounded stays within its bounds."""

from __future__ import annotations

import threading
from pathlib import Path

import psutil

from rocinante.client import Client
from rocinante.client.txn import put
from tests.node.tools import FAST, metrics, wait_drained
from tests.support.cluster import Cluster

PUTS = 15_000
"""In each of three rounds …"""
PUTS_AT_ONCE = 10
"""… so many in a transaction, which is one entry at most."""
KEYS = 500
WRITERS = 8
COMPACT_ENTRIES = 200
MIB = 1024 * 1024


def sizes(cluster: Cluster) -> tuple[int, int]:
    """The largest resident memory of a node, and the largest data directory; bytes."""
    memory = max(psutil.Process(cluster.pid(number)).memory_info().rss for number in cluster.nodes)
    directories = [cluster.nodes[number].data for number in cluster.nodes]
    disk = max(sum(path.stat().st_size for path in data.rglob("*") if path.is_file()) for data in directories)
    return memory, disk


def test_many_puts_of_the_same_keys_leave_memory_and_disk_flat(tmp_path: Path) -> None:
    storage = {"compactEntries": COMPACT_ENTRIES, "keepEntries": 50}
    with Cluster(tmp_path, timers=FAST, storage=storage) as cluster:
        cluster.start()
        leader = cluster.wait_leader()
        with Client(cluster.endpoint(leader), discover=False, timeout_s=60.0) as client:

            def write(number: int) -> None:
                for turn in range(PUTS // WRITERS // PUTS_AT_ONCE):
                    first = (number + turn * WRITERS) * PUTS_AT_ONCE
                    keys = [f"growth/{key % KEYS:04}" for key in range(first, first + PUTS_AT_ONCE)]
                    client.kv.txn().then(*(put(key, b"x" * 100) for key in keys)).commit()

            def write_all() -> tuple[int, int]:
                threads = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                # Old revisions are kept until somebody compacts them, as in etcd: that is the client's to do.
                client.kv.compact(client.kv.put("growth/end", "v").revision)
                cluster.wait_applied()
                return sizes(cluster)

            write_all()
            memory, disk = write_all()
            again_memory, again_disk = write_all()
        assert again_memory - memory < 24 * MIB, f"memory grew from {memory / MIB:.0f} to {again_memory / MIB:.0f} MiB"
        assert again_disk - disk < 24 * MIB, f"disk grew from {disk / MIB:.0f} to {again_disk / MIB:.0f} MiB"
        for number in cluster.nodes:
            assert metrics(cluster, number)["storage_snapshots_taken_total"] >= 3
            wait_drained(cluster, number, "ingress_reads")
        cluster.wait_equal_digests()
