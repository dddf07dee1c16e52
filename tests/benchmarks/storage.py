"""What the durable engine costs here: `python -m tests.benchmarks.storage [--directory DIR] [--json]`.

It writes to a new directory below DIR (default: the current directory, for /tmp may be memory) and removes it. Every
figure is of the engine as the node uses it: checksums, the mark, one synced batch per `persist`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rocinante.raft.types import Entry, EntryKind, HardState, SnapshotMeta
from rocinante.storage import Engine, Identity, Write, open_leveldb

ME = Identity(1, 1, "benchmark")


class Bench:
    """One engine, and where its log ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.engine: Engine = open_leveldb(path, ME)
        self.engine.log.load()
        self.next = 1

    def write(self, entries: int, entry_bytes: int) -> float:
        """One synced write; its time in seconds."""
        data = os.urandom(entry_bytes)
        batch = [Entry(self.next + i, 1, EntryKind.NORMAL, data) for i in range(entries)]
        self.next += entries
        started = time.perf_counter()
        self.engine.log.persist([Write(HardState(1, 1, self.next - 2), batch)])
        return time.perf_counter() - started

    def compact(self, keep: int) -> float:
        """A snapshot of everything so far, then the compaction; the latter's time in seconds."""
        meta = SnapshotMeta(self.next - 1, 1)
        sink = self.engine.snapshots.create(meta)
        sink.write(b"state")
        sink.finish()
        started = time.perf_counter()
        self.engine.log.compact(meta, max(self.next - keep, 1))
        took = time.perf_counter() - started
        self.engine.snapshots.prune(1)
        return took

    def reload(self) -> tuple[int, float]:
        """(entries, seconds) of a restart."""
        self.engine.close()
        started = time.perf_counter()
        self.engine = open_leveldb(self.path, ME)
        entries = len(self.engine.log.load().entries)
        return entries, time.perf_counter() - started


def spread(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        "median_ms": round(ordered[len(ordered) // 2] * 1e3, 3),
        "p99_ms": round(ordered[len(ordered) * 99 // 100] * 1e3, 3),
        "max_ms": round(ordered[-1] * 1e3, 1),
    }


def raw_sync(directory: Path, count: int) -> dict[str, float]:
    """What the disk itself takes: append 512 bytes, fdatasync."""
    seconds = []
    with tempfile.TemporaryFile(dir=directory) as file:
        for _ in range(count):
            started = time.perf_counter()
            os.write(file.fileno(), bytes(512))
            os.fdatasync(file.fileno())
            seconds.append(time.perf_counter() - started)
    return spread(seconds)


def steady(directory: Path, entry_bytes: int, per_write: int, total: int, every: int) -> dict[str, Any]:
    """Write as fast as possible, compacting every so many entries: the disk must stay flat, no write stall long."""
    bench = Bench(directory)
    seconds: list[float] = []
    compactions: list[float] = []
    sizes: list[int] = []
    started = time.perf_counter()
    last = 0
    while bench.next <= total:
        seconds.append(bench.write(per_write, entry_bytes))
        if bench.next - last > every:
            last = bench.next
            sizes.append(bench.engine.log.size_bytes())
            compactions.append(bench.compact(keep=every // 4))
    mb_per_s = bench.next * entry_bytes / 1e6 / (time.perf_counter() - started)
    bench.engine.close()
    return {
        **spread(seconds),
        "compact_max_ms": round(max(compactions) * 1e3, 1),
        "mb_per_s": round(mb_per_s, 1),
        "live_mib": round(every * 1.25 * entry_bytes / 2**20),
        "disk_max_mib": max(sizes) >> 20,
        "disk_end_mib": sizes[-1] >> 20,
    }


def snapshots(directory: Path, mib: int) -> dict[str, float]:
    engine = open_leveldb(directory, ME)
    chunk = os.urandom(2**20)
    started = time.perf_counter()
    sink = engine.snapshots.create(SnapshotMeta(1, 1))
    for _ in range(mib):
        sink.write(chunk)
    written = sink.finish()
    wrote = time.perf_counter() - started
    started = time.perf_counter()
    for _ in engine.snapshots.read(written, 2**20):
        pass
    read = time.perf_counter() - started
    engine.close()
    return {"write_mb_per_s": round(mib * 1.048576 / wrote), "read_mb_per_s": round(mib * 1.048576 / read)}


def measure(directory: Path) -> dict[str, dict[str, Any]]:
    results: dict[str, dict[str, Any]] = {"fdatasync of 512 B, without LevelDB": raw_sync(directory, 1000)}
    for name, count, entries, size in (
        ("persist 1 x 100 B", 3000, 1, 100),
        ("persist 1 x 64 KiB", 1000, 1, 65536),
        ("persist 100 x 100 B", 500, 100, 100),
    ):
        bench = Bench(directory / name.replace(" ", ""))
        results[name] = spread([bench.write(entries, size) for _ in range(count)])
        bench.engine.close()
    bench = Bench(directory / "load")
    for _ in range(100):
        bench.write(1000, 100)
    entries, seconds = bench.reload()
    bench.engine.close()
    results["restart with 100,000 entries of 100 B"] = {
        "entries": entries,
        "seconds": round(seconds, 2),
        "entries_per_s": round(entries / seconds),
    }
    results["steady 10 x 200 B"] = steady(directory / "small", 200, 10, 400_000, 20_000)
    results["steady 10 x 4 KiB"] = steady(directory / "middle", 4096, 10, 300_000, 20_000)
    results["steady 1 x 64 KiB"] = steady(directory / "large", 65536, 1, 20_000, 2_000)
    results["snapshot of 512 MiB"] = snapshots(directory / "snapshot", 512)
    return results


def main() -> int:
    """Print the figures, one line each, or as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, default=Path())
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory, prefix="bench-storage-") as directory:
        results = measure(Path(directory))
    if arguments.json:
        json.dump(results, sys.stdout, indent=2)
        print()
    else:
        for name, figures in results.items():
            print(f"{name:40}", "  ".join(f"{key} {value}" for key, value in figures.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
