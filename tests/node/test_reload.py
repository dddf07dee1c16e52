"""SIGHUP: which options change at run time, that they do, and what is said of the others."""

from __future__ import annotations

import os
import signal
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import pytest

from rocinante.config import ClusterConfig, Controller, RotationMode, StorageEngine, StorageOptions, Timers
from rocinante.config.model import IngressLimits, LogLevel, LogOptions, RestOptions, Rotation
from rocinante.config.option import META
from rocinante.node.opening import core_options
from rocinante.node.reload import NEEDS_RESTART, plan
from tests.node.tools import FAST, log_size, wait_log
from tests.support.cluster import Cluster

BASE = ClusterConfig("test", (Controller("node1", "127.0.0.1", 35001, 8001),))

CASES = [
    # what is wanted                                                     changed                       needs a restart
    (replace(BASE, log=LogOptions(LogLevel.DEBUG)), ["log.level"], []),
    (replace(BASE, timers=Timers(election_ms=3_000)), ["timers.electionMs"], []),
    (replace(BASE, timers=Timers(request_timeout_ms=900)), ["timers.requestTimeoutMs"], []),
    (replace(BASE, timers=Timers(tick_ms=10)), [], ["timers.tickMs"]),
    (replace(BASE, rotation=Rotation(RotationMode.TRANSFER)), ["rotation.mode"], []),
    (replace(BASE, limits=IngressLimits(key_bytes=5_000_000)), ["limits.keyBytes"], []),
    (replace(BASE, storage=StorageOptions(compact_entries=300)), ["storage.compactEntries"], []),
    (replace(BASE, storage=StorageOptions(StorageEngine.MEMORY, keep_entries=9)),
                                                                    ["storage.keepEntries"], ["storage.engine"]),
    (replace(BASE, rest=RestOptions(allowed_hosts=("proxy",), threads=3)),
                                                                    ["rest.allowedHosts"], ["rest.threads"]),
    (replace(BASE, name="other", datacenter="dc2"),                      [], ["name", "datacenter"]),
    (replace(BASE, controllers=()), [], ["controllers"]),
    # 25 ms is one tick of the 20 ms that stay, as is the heartbeat: the core would refuse it
    (replace(BASE, timers=Timers(tick_ms=5, heartbeat_ms=5, election_ms=25)),
                                        [], ["timers.tickMs", "timers.heartbeatMs", "timers.electionMs"]),
    (BASE, [], []),
]  # fmt: skip


@pytest.mark.parametrize(("wanted", "changed", "needs_restart"), CASES)
def test_each_option_is_named_by_its_key(wanted: ClusterConfig, changed: list[str], needs_restart: list[str]) -> None:
    planned = plan(BASE, wanted)
    assert [text.split()[0] for text in planned.changed] == changed
    assert [text.split()[0] for text in planned.needs_restart] == needs_restart
    assert planned.core == core_options(planned.running)
    again = plan(planned.running, wanted)
    assert again.changed == ()
    assert again.needs_restart == planned.needs_restart, "told until the restart comes"


def test_what_needs_a_restart_are_options() -> None:
    keys = {"cleanupOnFailure"}
    for field in fields(ClusterConfig):
        section = getattr(BASE, field.name)
        keys |= (
            {f"{field.name}.{item.metadata[META].key}" for item in fields(section)}
            if is_dataclass(section)
            else {field.name}
        )
    assert keys >= NEEDS_RESTART


def test_a_running_cluster_takes_other_times_and_rotates(tmp_path: Path) -> None:
    with Cluster(tmp_path, nodes=3, timers=FAST) as cluster:
        cluster.start()
        leader = cluster.wait_leader()
        cluster.put(leader, "key", "before")
        cluster.options["timers"] = {**FAST, "electionMs": 400, "heartbeatMs": 40, "tickMs": 20}
        cluster.options["rotation"] = {"mode": "transfer", "minSeconds": 1, "maxSeconds": 1}
        cluster.options["log"] = {"level": "debug"}
        cluster.write_config(cluster.config)
        for number in cluster.running():
            offset = log_size(cluster, number)
            os.kill(cluster.pid(number), signal.SIGHUP)
            wait_log(cluster, number, "configuration reloaded: ", offset)
            wait_log(cluster, number, "these changes need a restart: timers.tickMs (10 -> 20)", offset)
            text = cluster.nodes[number].log.read_bytes()[offset:].decode()
            assert all(
                key in text
                for key in (f"timers.electionMs ({FAST['electionMs']} -> 400)", "rotation.mode", "log.level")
            )
        cluster.wait_leader(other_than=leader)  # nobody led again but by rotation
        assert cluster.get(1, "key") == "before"
