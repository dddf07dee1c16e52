"""Flows that end together, and watchers of everything, under load: `python -m tests.benchmarks.flow_life [--help]`.

Three real nodes. First a million flows that are due in the same second, while a writer goes on at a fixed rate: how
long until the last is gone on every node, and how long the writer's batches take meanwhile. Then watchers of everything
at a rate of updates: does one fall behind, what do they and the nodes take of the processors.

The records are those of `rocinante bench` (bench/traffic.py), packed. The writer is an open loop: a batch's latency
counts from when it was due to be sent, so that a stall is seen by all that it delays.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
import psutil
from rich.console import Console

from rocinante.bench.bounds import BENCH_FLOW_LIFE_MS, BENCH_ZONE
from rocinante.bench.records import HEADER_BYTES, Encoding, Kind, Pattern
from rocinante.client import Client, EventKind
from rocinante.flows import packed
from tests.support.cluster import Cluster

BATCH: Final = 10_000
ENDING_ZONE: Final = BENCH_ZONE + 1
LEAD_S: Final = 30
"""Until the flows that are written first are due: all must be there before."""
IN_FLIGHT_MAX: Final = 64


def updates(zone: int, batches: int, records: int) -> list[bytes]:
    """Batches as the client's writer sends them, of flows that do not end."""
    now_ms = time.time_ns() // 1_000_000
    made = Pattern(
        Kind.IPV4, records, zone=zone, deadline_ms=now_ms + BENCH_FLOW_LIFE_MS, updated_ms=now_ms,
        encoding=Encoding.PACKED,
    )  # fmt: skip
    return [made.made(number * records, request=False).stamped(number) for number in range(batches)]


def ending(flows: int, deadline_ms: int) -> Iterator[bytes]:
    """Batches of flows that all end at that moment."""
    made = Pattern(Kind.IPV4, BATCH, zone=ENDING_ZONE, deadline_ms=deadline_ms, updated_ms=deadline_ms)
    deadline = np.frombuffer(deadline_ms.to_bytes(8, "big"), np.uint8)
    for first in range(0, flows, BATCH):
        batch = bytearray(made.batch(first, 1))
        rows = np.frombuffer(batch, np.uint8, offset=HEADER_BYTES).reshape(BATCH, made.record_bytes)
        rows[:, made.key_bytes :][:, :8] = deadline
        yield bytes(packed(bytes(batch)))


class Writer:
    """Batches at a rate, from an open loop."""

    def __init__(self, client: Client, batches: list[bytes], records: int, rate: float) -> None:
        self._client, self._batches = client, batches
        self._interval_s = records / rate
        self._pool = ThreadPoolExecutor(4)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.latencies: list[tuple[float, float]] = []
        """(when it was due, how long it took)"""
        self.late = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._pool.shutdown()

    def _run(self) -> None:
        due, turn = time.monotonic(), 0
        under_way: list[Future[None]] = []
        while not self._stop.is_set():
            due += self._interval_s
            if (pause := due - time.monotonic()) > 0:
                self._stop.wait(pause)
            under_way = [one for one in under_way if not one.done()]
            if len(under_way) >= IN_FLIGHT_MAX:
                self.late += 1
                under_way[0].result()
            under_way.append(self._pool.submit(self._put, self._batches[turn % len(self._batches)], due))
            turn += 1

    def _put(self, batch: bytes, due: float) -> None:
        self._client.flows.put(batch, timeout_s=60)
        self.latencies.append((due, time.monotonic() - due))


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else float("nan")


def processors(cluster: Cluster) -> float:
    """Seconds of processor of all nodes."""
    total = 0.0
    for node in cluster.nodes.values():
        if node.process is not None:
            times = psutil.Process(node.process.pid).cpu_times()
            total += times.user + times.system
    return total


def expiry(cluster: Cluster, options: argparse.Namespace, say: Console) -> dict[str, float]:
    load = updates(BENCH_ZONE, 20, 1000)
    with Client(cluster.endpoints(), timeout_s=60, try_timeout_s=30) as client:
        deadline_ms = int((time.time() + LEAD_S) * 1000)
        for batch in ending(options.flows, deadline_ms):
            client.flows.put(batch)
        for one in load:
            client.flows.put(one)
        left_s = deadline_ms / 1000 - time.time()
        say.print(f"{options.flows} flows are there, {left_s:.1f} s before they are due")
        writer = Writer(client, load, 1000, options.rate)
        writer.start()
        time.sleep(max(0.0, left_s))
        due, before = time.monotonic(), processors(cluster)
        expected = 1000 * len(load)
        while any(int(str(cluster.status(number)["flows"])) > expected for number in cluster.nodes):
            time.sleep(0.05)
        done_s = time.monotonic() - due
        taken_s = processors(cluster) - before
        writer.stop()
        during = [took for at, took in writer.latencies if due <= at <= due + done_s]
        calm = [took for at, took in writer.latencies if at < due]
        cluster.wait_equal_digests()
    return {
        "flows": options.flows,
        "updates_per_second": options.rate,
        "gone_after_s": done_s,
        "p50_before_ms": quantile(calm, 0.5) * 1000,
        "p99_before_ms": quantile(calm, 0.99) * 1000,
        "p50_during_ms": quantile(during, 0.5) * 1000,
        "p99_during_ms": quantile(during, 0.99) * 1000,
        "writer_was_late": writer.late,
        "processor_s_while_expiring": taken_s,
    }


def watch(endpoint: str, seconds: float) -> None:
    """(In a process of its own.) Read everything; print what came as JSON."""
    with Client(endpoint, discover=False) as client:
        begun, size, events, fell_behind = time.monotonic(), 0, 0, 0
        with client.flows.watch(snapshot=True, batches=True) as changes:
            threading.Timer(seconds, changes.close).start()
            for change in changes:
                if change.kind is EventKind.RESET:
                    fell_behind += 1
                    size = events = 0
                    begun = time.monotonic()
                size, events = size + len(change.batch), events + 1
        taken = psutil.Process().cpu_times()
        figures = {
            "times_from_the_start": fell_behind,
            "records_per_second": size / 90 / (time.monotonic() - begun),
            "processor_s": taken.user + taken.system,
        }
    print(json.dumps(figures))


def watchers(cluster: Cluster, options: argparse.Namespace, say: Console) -> dict[str, object]:
    endpoints = cluster.endpoints()
    load = updates(BENCH_ZONE, 3, BATCH)
    command = [sys.executable, "-m", "tests.benchmarks.flow_life", "--watch"]
    with Client(endpoints, timeout_s=60, try_timeout_s=30) as client:
        for batch in load:
            client.flows.put(batch)
        begun, before = time.monotonic(), processors(cluster)
        children = [
            subprocess.Popen(
                [*command, endpoints[number % len(endpoints)], "--seconds", str(options.seconds)],
                stdout=subprocess.PIPE,
            )
            for number in range(options.watchers)
        ]
        writer = Writer(client, load, BATCH, options.watch_rate)
        writer.start()
        figures = [json.loads(child.communicate()[0]) for child in children]
        taken_s, lasted_s = processors(cluster) - before, time.monotonic() - begun
        writer.stop()
    return {
        "watchers": figures,
        "updates_per_second_asked_for": options.watch_rate,
        "updates_per_second": len(writer.latencies) * BATCH / lasted_s,
        "node_processor_share": taken_s / lasted_s,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--flows", type=int, default=1_000_000, help="that end together (default 1,000,000)")
    parser.add_argument("--rate", type=float, default=100_000, help="updates a second meanwhile")
    parser.add_argument("--watchers", type=int, default=4)
    parser.add_argument("--watch-rate", type=float, default=300_000, help="updates a second that they watch")
    parser.add_argument("--seconds", type=float, default=20, help="of watching")
    parser.add_argument("--only", choices=("expiry", "watch"))
    parser.add_argument("--watch", metavar="HOST:PORT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.watch:
        watch(options.watch, options.seconds)
        return 0
    say = Console(stderr=True)
    found: dict[str, object] = {"load_average": psutil.getloadavg()[0]}
    for name, measure in (("expiry", expiry), ("watch", watchers)):
        if options.only in (None, name):
            with tempfile.TemporaryDirectory() as directory, Cluster(Path(directory)) as cluster:
                cluster.start()
                cluster.wait_leader()
                found[name] = measure(cluster, options, say)
    print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
