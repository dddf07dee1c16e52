"""Kill the leader, again and again, under writers: `python -m tests.chaos.kill_leader [--help]`.

Three real nodes, writers of the Python client with its default retries, each writing keys of its own. Every few
seconds the leader gets SIGKILL and is started again. At the end, on each node for itself: every acknowledged key is
there with its value, written exactly once (version 1), nothing is there that was not asked for, and the state hashes
are equal. The gap of a kill is the longest time without any acknowledged write from the kill until the next one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from rocinante.client import Client
from rocinante.errors import RocinanteError
from rocinante.pb.etcd import rpc_pb2
from tests.support.cluster import Cluster

VALUE_BYTES = 64
PAGE_KEYS = 5_000
WRITE_TIMEOUT_S = 60.0


@dataclass(slots=True)
class Written:
    """What one writer knows at the end."""

    acknowledged: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    acks: list[float] = field(default_factory=list)
    """time.monotonic() of each acknowledgement."""


@dataclass(slots=True)
class Report:
    seconds: float
    kills: int
    acknowledged: int
    unknown: int
    errors: list[str]
    gaps_s: list[float]
    problems: list[str]

    @property
    def gap_median_s(self) -> float:
        return statistics.median(self.gaps_s) if self.gaps_s else 0.0

    def as_dict(self) -> dict[str, Any]:
        return {
            "seconds": round(self.seconds, 1),
            "kills": self.kills,
            "acknowledged": self.acknowledged,
            "unknown": self.unknown,
            "client_errors": self.errors,
            "gap_median_s": round(self.gap_median_s, 3),
            "gap_max_s": round(max(self.gaps_s, default=0.0), 3),
            "gaps_s": [round(gap, 3) for gap in self.gaps_s],
            "problems": self.problems,
        }


def write(number: int, endpoints: list[str], written: Written, stop: threading.Event) -> None:
    """One writer: one write after the other, each key once."""
    with Client(endpoints, timeout_s=WRITE_TIMEOUT_S) as client:
        turn = 0
        while not stop.is_set():
            turn += 1
            key, value = f"chaos/{number:02}/{turn:08}", f"{number}-{turn}".ljust(VALUE_BYTES, ".")
            try:
                client.kv.put(key, value)
            except RocinanteError as error:
                written.unknown[key] = value
                written.errors.append(f"{key}: {type(error).__name__}: {error}")
            else:
                written.acknowledged[key] = value
                written.acks.append(time.monotonic())


def gaps(kills: list[float], acks: list[float], end: float) -> list[float]:
    """For each kill the longest time without an acknowledgement until the next kill (or the end)."""
    found = []
    for at, until in zip(kills, [*kills[1:], end], strict=True):
        inside = [at, *(ack for ack in acks if at < ack <= until), until]
        # The stretch up to `until` is no gap: the next kill, or the end of the writers, cuts it off.
        steps = [after - before for before, after in pairwise(inside[:-1])]
        found.append(max(steps) if steps else until - at)
    return found


def stored(cluster: Cluster, node: int) -> dict[str, tuple[str, int]]:
    """All keys that this node itself holds: value and version."""
    found: dict[str, tuple[str, int]] = {}
    start, end = b"chaos/", b"chaos0"
    while True:
        request = rpc_pb2.RangeRequest(key=start, range_end=end, limit=PAGE_KEYS, serializable=True)
        response = cluster.call(node, "/etcdserverpb.KV/Range", request, rpc_pb2.RangeResponse, timeout_s=60.0)
        for kv in response.kvs:
            found[kv.key.decode()] = (kv.value.decode(), kv.version)
        if not response.more:
            return found
        start = response.kvs[-1].key + b"\0"


def verify(cluster: Cluster, writers: list[Written]) -> list[str]:
    """What is wrong, in words; empty when nothing is."""
    acknowledged = {key: value for item in writers for key, value in item.acknowledged.items()}
    unknown = {key: value for item in writers for key, value in item.unknown.items()}
    problems = [] if acknowledged else ["no write was acknowledged at all"]
    cluster.wait_equal_digests(timeout_s=60.0)
    for node in cluster.running():
        held = stored(cluster, node)
        lost = [key for key, value in acknowledged.items() if held.get(key, ("", 0))[0] != value]
        twice = [key for key, (_, version) in held.items() if version != 1]
        strange = [key for key in held if key not in acknowledged and key not in unknown]
        for what, keys in (("lost", lost), ("written more than once", twice), ("never asked for", strange)):
            if keys:
                problems.append(f"node{node}: {len(keys)} keys {what}, such as {keys[0]}")
    return problems


def run(
    directory: Path,
    *,
    seconds: float,
    writers: int,
    every_s: float,
    kills_min: int = 1,
    say: Any = print,
    **options: Any,
) -> Report:
    """The whole of it, so many seconds, and longer where there were fewer kills by then; leaves no process behind."""
    written = [Written() for _ in range(writers)]
    stop = threading.Event()
    kills: list[float] = []
    with Cluster(directory, nodes=3, **options) as cluster:
        cluster.start()
        cluster.wait_leader()
        threads = [
            threading.Thread(target=write, args=(number, cluster.endpoints(), item, stop), name=f"writer-{number}")
            for number, item in enumerate(written)
        ]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        try:
            while len(kills) < kills_min or began + seconds - time.monotonic() > every_s * 1.5:
                stop.wait(every_s)
                leader = cluster.wait_leader(timeout_s=60.0)
                kills.append(time.monotonic())
                cluster.kill(leader)
                cluster.wait_leader(timeout_s=60.0, other_than=leader)
                cluster.restart(leader)
                total = sum(len(item.acknowledged) for item in written)
                now = time.monotonic() - began
                say(f"{now:6.1f} s  kill {len(kills):3}  node{leader}  {total:8,} writes acknowledged")
            stop.wait(every_s)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        end = time.monotonic()
        problems = verify(cluster, written)
    acks = sorted(ack for item in written for ack in item.acks)
    return Report(
        seconds=end - began,
        kills=len(kills),
        acknowledged=sum(len(item.acknowledged) for item in written),
        unknown=sum(len(item.unknown) for item in written),
        errors=[error for item in written for error in item.errors],
        gaps_s=gaps(kills, acks, end),
        problems=problems,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0, help="how long the writers write (120)")
    parser.add_argument("--writers", type=int, default=8, help="concurrent writers (8)")
    parser.add_argument("--every", type=float, default=4.0, help="seconds between a recovery and the next kill (4)")
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rocinante-chaos-") as directory:
        report = run(
            Path(directory),
            seconds=arguments.seconds,
            writers=arguments.writers,
            every_s=arguments.every,
            say=lambda line: print(line, file=sys.stderr, flush=True),
        )
    if arguments.json:
        print(json.dumps(report.as_dict(), indent=2))
    else:
        print(
            f"{report.kills} kills in {report.seconds:.0f} s, {report.acknowledged:,} writes acknowledged, "
            f"{report.unknown} of unknown outcome\n"
            f"gap after a kill: median {report.gap_median_s * 1000:.0f} ms, longest {max(report.gaps_s) * 1000:.0f} ms"
        )
        for line in [*report.errors[:10], *report.problems]:
            print(line)
        print(
            "VIOLATION" if report.problems else "every acknowledged write is there, once, on all nodes; equal digests"
        )
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
