"""What flows cost on their way in and out: `python -m tests.benchmarks.flow_paths [codec] [writer] [lookup]`.

codec: CPU time of this process for a record: columns to batches and back, objects to batches and back, the keys of
columns, and a writer's collecting (no network). writer: one writer of columns against three nodes on this machine, new
flows and then known ones. lookup: packed look-ups of random flows on a follower, stale, in batches of 1,000, from
several processes; half of the keys are not there with --misses. Prints one line a figure, or --json.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rocinante.client import Client
from rocinante.client.flow_pending import Pending, pairs_of
from rocinante.flows import FlowColumns, decode_batch, decode_columns, encode_batch, encode_columns, encode_keys
from tests.support.cluster import Cluster

RECORDS = 65_536
ROUNDS = 7
FIRST = 0x0A000000


def columns(first: int, count: int, *, wide: bool = False) -> FlowColumns:
    """So many flows, each field a column."""
    source: Any = np.arange(FIRST + first, FIRST + first + count, dtype=np.uint32)
    destination: Any = np.full(count, 0xC0000201, np.uint32)
    if wide:
        source, destination = _wide(source), _wide(destination)
    numbers = np.arange(count, dtype=np.uint64)
    return FlowColumns(
        source=source,
        destination=destination,
        protocol=np.full(count, 6, np.uint8),
        source_port=(numbers % 60_000).astype(np.uint16),
        destination_port=np.full(count, 443, np.uint16),
        tcp_state=np.full(count, 3, np.uint8),
        updated_ms=numbers + 1,
        mark=numbers.astype(np.uint32),
        backend=source,
        backend_port=np.full(count, 8443, np.uint16),
        packets_original=numbers,
        bytes_original=numbers,
        packets_reply=numbers,
        bytes_reply=numbers,
    )


def _wide(addresses: Any) -> Any:
    made = np.zeros((len(addresses), 16), np.uint8)
    made[:, 12:] = addresses.astype(">u4").view(np.uint8).reshape(-1, 4)
    return made


def ns(records: int, work: Callable[[], object]) -> float:
    """CPU time of the fastest round, in nanoseconds a record."""
    times = []
    for _ in range(ROUNDS):
        began = time.process_time_ns()
        work()
        times.append(time.process_time_ns() - began)
    return min(times) / records


def codec() -> dict[str, float]:
    figures: dict[str, float] = {}
    for kind, wide in (("IPv4", False), ("IPv6", True)):
        flows = columns(0, RECORDS, wide=wide)
        (batch, *_) = batches = encode_columns(flows)
        count = len(decode_columns(batch))
        objects = decode_batch(batch)[:5_000]
        some = encode_batch(objects)
        figures |= {
            f"{kind}: columns to batches, ns": ns(RECORDS, lambda flows=flows: encode_columns(flows)),  # type: ignore[misc]
            f"{kind}: a batch to columns, ns": ns(count, lambda batch=batch: decode_columns(batch)),  # type: ignore[misc]
            f"{kind}: keys of columns, ns": ns(RECORDS, lambda flows=flows: encode_keys(flows)),  # type: ignore[misc]
            f"{kind}: objects to batches, ns": ns(len(objects), lambda objects=objects: encode_batch(objects)),  # type: ignore[misc]
            f"{kind}: batches to objects, ns": ns(len(objects), lambda some=some: [decode_batch(b) for b in some]),  # type: ignore[misc]
            f"{kind}: a writer's collecting, ns": ns(RECORDS, lambda batches=batches: collect(batches)),  # type: ignore[misc]
        }
    return figures


def collect(batches: Sequence[bytes]) -> None:
    """What a writer does with encoded batches but send them."""
    pending = Pending()
    for batch in batches:
        for pairs in pairs_of(batch):
            pending.add(pairs)
    while (taken := pending.take(4096, 1 << 20)) is not None:
        pending.release(taken.keys, len(taken.batch))


def writer(cluster: Cluster, flows: int) -> dict[str, float]:
    """Flows a second of one writer whose caller has columns."""
    figures = {}
    with Client(cluster.endpoints(), timeout_s=60) as client:
        for what in ("new", "known"):
            with client.flows.writer() as one:
                began = time.monotonic()
                for first in range(0, flows, 4096):
                    one.put(columns(first, min(4096, flows - first)))
                one.flush()
                figures[f"one writer, {what} flows a second"] = flows / (time.monotonic() - began)
    return figures


def look_up(endpoint: str, seed: int, flows: int, misses: bool, seconds: float, decode: bool, told: Any) -> None:
    """One process: threads that ask one after the other, as many look-ups as fit."""
    rng = np.random.default_rng(seed)
    spread = 2 * flows if misses else flows
    asked = []
    for _ in range(64):
        numbers = rng.integers(0, spread, 1000)
        made = columns(0, 1000)
        made.source = (FIRST + numbers).astype(np.uint32)
        made.source_port = (numbers % 4096).astype(np.uint16)  # as `columns` numbers each batch of 4,096
        made.backend = None
        asked.append(encode_keys(made))
    counts = []
    stop = threading.Event()
    with Client(endpoint, discover=False, timeout_s=30) as client:

        def ask(first: int) -> None:
            done = found = at = 0
            while not stop.is_set():
                answer = client.flows.get_many(asked[(first + at) % len(asked)], stale=True, endpoint=endpoint)
                if decode:
                    answer.columns()
                at, done, found = at + 1, done + len(answer), found + 1000 - answer.packed.found.count(0)
            counts.append((done, found))

        threads = [threading.Thread(target=ask, args=(number * 16,)) for number in range(3)]
        for thread in threads:
            thread.start()
        stop.wait(seconds)
        stop.set()
        for thread in threads:
            thread.join()
    told.put((sum(done for done, _ in counts), sum(found for _, found in counts)))


def lookups(cluster: Cluster, options: argparse.Namespace) -> dict[str, float]:
    leader = cluster.wait_leader()
    follower = next(number for number in cluster.nodes if number != leader)
    with Client(cluster.endpoints(), timeout_s=120) as client, client.flows.writer() as one:
        for first in range(0, options.flows, 4096):
            one.put(columns(first, min(4096, options.flows - first)))
        one.barrier("all")
    context = multiprocessing.get_context("spawn")
    figures = {}
    for decode in (False, True):
        told: Any = context.Queue()
        arguments = (options.flows, options.misses, options.seconds, decode, told)
        workers = [
            context.Process(target=look_up, args=(cluster.endpoint(follower), seed, *arguments))
            for seed in range(options.processes)
        ]
        before = cpu_s(cluster, follower)
        for worker in workers:
            worker.start()
        results = [told.get() for _ in workers]
        for worker in workers:
            worker.join()
        done, found = sum(done for done, _ in results), sum(found for _, found in results)
        what = "look-ups a second, read as columns" if decode else "look-ups a second"
        figures[what] = done / options.seconds
        figures[f"{what}: found, %"] = 100 * found / done
        figures[f"{what}: follower's CPU, ns each"] = (cpu_s(cluster, follower) - before) / done * 1e9
    return figures


def cpu_s(cluster: Cluster, number: int) -> float:
    fields = Path(f"/proc/{cluster.pid(number)}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="codec, writer, lookup; all when none is named")
    parser.add_argument("--flows", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--misses", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    parts = options.parts or ["codec", "writer", "lookup"]
    if unknown := set(parts) - {"codec", "writer", "lookup"}:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    figures: dict[str, float] = codec() if "codec" in parts else {}
    if {"writer", "lookup"} & set(parts):
        with tempfile.TemporaryDirectory() as directory, Cluster(Path(directory)) as cluster:
            cluster.start()
            cluster.wait_leader()
            if "writer" in parts:
                figures |= writer(cluster, options.flows)
            if "lookup" in parts:
                figures |= lookups(cluster, options)
    if options.json:
        print(json.dumps({name: round(value, 1) for name, value in figures.items()}))
        return
    for name, value in figures.items():
        print(f"{name:52} {value:14,.0f}")


if __name__ == "__main__":
    main()
