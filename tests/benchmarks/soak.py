"""Does anything grow without bound? `python -m tests.benchmarks.soak [--help]`, or `make soak`.

Three real nodes take as many log entries as an hour of steady writes makes (50 a second), as fast as they go: puts
of a bounded set of keys, whose old revisions are compacted as an operator would, and batches of flows that end and
are expired. Memory (resident) and disk (allocated blocks) of every node are sampled all the time. The first third of
the entries is growing up: caches fill, the first snapshots and compactions happen. Then nothing may grow: the
highest value of the last third may exceed the highest of the second by a small tolerance only.

Exit status: 0 flat, 1 grown.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil
from rich.console import Console

from rocinante.client import Client
from rocinante.errors import OutcomeUnknown, ResourceExhausted, Unavailable
from rocinante.flows import FlowRecord, FlowTuple, TcpState
from tests.support.cluster import Cluster

MIB: Final = 1024 * 1024
ENTRIES: Final = 180_000
"""An hour at 50 writes a second, each an entry of its own."""
KEYS: Final = 1_000
VALUE: Final = b"x" * 200
FLOWS: Final = 20_000
FLOWS_A_BATCH: Final = 100
FLOW_LIFE_MS: Final = 5_000
REVISIONS_KEPT: Final = 1_000
COMPACT_EVERY_S: Final = 5.0
SAMPLE_EVERY_S: Final = 1.0
STALL_S: Final = 60.0
"""Without a new entry for so long, the cluster is stuck."""
RSS_TOLERANCE: Final = 1.05
RSS_TOLERANCE_BYTES: Final = 6 * MIB
DISK_TOLERANCE: Final = 1.15
DISK_TOLERANCE_BYTES: Final = 8 * MIB


@dataclass(frozen=True, slots=True)
class Sample:
    entries: int
    """Applied since the start, on the leader."""
    rss: dict[int, int]
    """Bytes, by node."""
    disk: dict[int, int]


@dataclass(slots=True)
class Writers:
    """The load: threads that write until told to stop. Refusals for lack of room are waited out, and counted."""

    client: Client
    stop: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)
    busy: int = 0
    failure: BaseException | None = None

    def start(self, puts: int) -> None:
        for number in range(puts):
            self._thread(f"put-{number}", self._puts(random.Random(number)))
        self._thread("flows", self._flows(random.Random(puts)))
        self._thread("compact", self._compactions())

    def end(self) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def _thread(self, name: str, step: Callable[[], None]) -> None:
        def run() -> None:
            while not self.stop.is_set():
                try:
                    step()
                except (ResourceExhausted, Unavailable, OutcomeUnknown):
                    self.busy += 1
                    self.stop.wait(0.1)
                except Exception as error:  # noqa: BLE001 - the top of the thread
                    self.failure = error
                    self.stop.set()

        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        self.threads.append(thread)

    def _puts(self, draw: random.Random) -> Callable[[], None]:
        def step() -> None:
            self.client.kv.put(f"soak/{draw.randrange(KEYS)}", VALUE)

        return step

    def _flows(self, draw: random.Random) -> Callable[[], None]:
        def step() -> None:
            now = int(time.time() * 1000)
            first = draw.randrange(FLOWS)
            self.client.flows.put(_flow(number % FLOWS, now) for number in range(first, first + FLOWS_A_BATCH))
            self.stop.wait(0.01)

        return step

    def _compactions(self) -> Callable[[], None]:
        def step() -> None:
            if not self.stop.wait(COMPACT_EVERY_S):
                revision = self.client.kv.put("soak/compaction", b"").revision
                if revision > 2 * REVISIONS_KEPT:
                    self.client.kv.compact(revision - REVISIONS_KEPT)

        return step


def _flow(number: int, now_ms: int) -> FlowRecord:
    original = FlowTuple.from_text("tcp", f"10.{number >> 8}.0.{number & 255}:{1024 + number}", "10.255.0.1:443")
    return FlowRecord(
        original, TcpState.ESTABLISHED, updated_ms=now_ms, deadline_ms=now_ms + FLOW_LIFE_MS, packets_original=number
    )


def sample(cluster: Cluster, first: int) -> Sample:
    applied = max(int(str(status["applied"])) for status in cluster.statuses().values())
    rss = {number: psutil.Process(cluster.pid(number)).memory_info().rss for number in cluster.nodes}
    disk = {number: _allocated(node.data) for number, node in cluster.nodes.items()}
    return Sample(applied - first, rss, disk)


def _allocated(directory: Path) -> int:
    total = 0
    for path in directory.rglob("*"):
        try:
            total += path.stat().st_blocks * 512
        except FileNotFoundError:  # LevelDB has just removed it
            continue
    return total


def watch(cluster: Cluster, writers: Writers, entries: int, console: Console) -> list[Sample]:
    """Sample until so many entries are applied. Raises SystemExit when the load fails or nothing moves any more."""
    first = sample(cluster, 0).entries
    samples = [sample(cluster, first)]
    moved = began = time.monotonic()
    while samples[-1].entries < entries:
        if writers.stop.wait(SAMPLE_EVERY_S):
            raise SystemExit(f"the load failed: {writers.failure!r}")
        now = sample(cluster, first)
        if now.entries > samples[-1].entries:
            moved = time.monotonic()
        elif time.monotonic() - moved > STALL_S:
            raise SystemExit(f"no entry was applied for {STALL_S:.0f} s: {cluster.statuses()}")
        samples.append(now)
        if len(samples) % 10 == 0:
            memory = " ".join(f"{size / MIB:.0f}" for size in now.rss.values())
            disk = " ".join(f"{size / MIB:.1f}" for size in now.disk.values())
            console.print(
                f"{time.monotonic() - began:5.0f} s  {now.entries:8,} of {entries:,} entries  "
                f"memory {memory} MiB  disk {disk} MiB  waited {writers.busy} times",
                highlight=False,
            )
    return samples


def verdict(samples: list[Sample], entries: int) -> tuple[list[dict[str, object]], bool]:
    """For each node and size: the highest of each third, and whether the last is within the tolerance; and whether
    all are."""
    thirds = [
        [each for each in samples if n <= 3 * each.entries / entries < n + 1 or (n == 2 and each.entries >= entries)]
        for n in range(3)
    ]
    if not all(len(third) >= 3 for third in thirds):
        raise SystemExit(f"too few samples to judge ({[len(third) for third in thirds]}): take more --entries")
    rows: list[dict[str, object]] = []
    for name, factor, slack in (
        ("rss", RSS_TOLERANCE, RSS_TOLERANCE_BYTES),
        ("disk", DISK_TOLERANCE, DISK_TOLERANCE_BYTES),
    ):
        for number in samples[0].rss:
            highest = [max(getattr(each, name)[number] for each in third) for third in thirds]
            flat = highest[2] <= highest[1] * factor + slack
            rows.append(
                {"node": number, "size": name, "highest_mib": [round(h / MIB, 1) for h in highest], "flat": flat}
            )
    return rows, all(bool(row["flat"]) for row in rows)


def main() -> int:
    parser = argparse.ArgumentParser(prog="soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--entries", type=int, default=ENTRIES, help=f"log entries to make ({ENTRIES:,})")
    parser.add_argument("--writers", type=int, default=4, help="threads that put (4)")
    parser.add_argument("--compact-entries", type=int, default=20_000, help="a node's storage.compactEntries (20,000)")
    parser.add_argument("--json", type=Path, help="write the verdict to this file")
    arguments = parser.parse_args()
    if arguments.entries < 3 * arguments.compact_entries:
        parser.error("--entries: at least three times --compact-entries, so that each third sees a compaction")
    console = Console(soft_wrap=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    storage = {"compactEntries": arguments.compact_entries, "keepEntries": arguments.compact_entries // 4}
    with tempfile.TemporaryDirectory(prefix="soak-") as scratch, Cluster(Path(scratch), storage=storage) as cluster:
        cluster.start()
        cluster.wait_leader()
        with Client(cluster.endpoints()) as client:
            writers = Writers(client)
            writers.start(arguments.writers)
            try:
                samples = watch(cluster, writers, arguments.entries, console)
            finally:
                writers.end()
        cluster.wait_equal_digests(timeout_s=60)
    rows, flat = verdict(samples, arguments.entries)
    for row in rows:
        console.print(f"node{row['node']} {row['size']:4} highest of each third: {row['highest_mib']} MiB, "
                      f"{'flat' if row['flat'] else 'GROWN'}", highlight=False)  # fmt: skip
    if arguments.json:
        arguments.json.write_text(json.dumps({"entries": samples[-1].entries, "sizes": rows, "flat": flat}, indent=2))
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
