"""Rocinante, Redis and etcd with the same flow records, in turns: `python -m tests.benchmarks.compare [--help]`.

Three nodes of each run at the same time on this machine, on the loopback interface and the same file system: Rocinante
with its defaults, Debian's Redis (a primary and two replicas, appendfsync always, WAIT 1), Debian's etcd. They are
loaded one at a time, A B C A B C …, in a closed loop, by the same generator with requests that it made before the turn;
the figures are medians over the rounds, the ratios are of these medians. All store the same 90 bytes a record; to
Rocinante they go packed, as its client's writer sends them, or (`--encoding plain`) as they are. All keys are new:
before each turn the system is emptied, after it every node must have as many records as were acknowledged.

    best    each with the batch size, depth and connections with which it does most (tried first, twice, briefly)
    writer  one writer on one connection, batches of 1,000, eight of them on their way
    waits   the same, but one that waits for each batch before it sends the next
    single  one record at a time, otherwise idle: a put of one flow, a SET with WAIT, a put of one key
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import uvloop
from rich.console import Console
from rich.table import Table

from rocinante.bench.bounds import BENCH_TABLE_MAX
from rocinante.bench.measured import Latency
from rocinante.bench.records import Encoding
from rocinante.version import __version__
from tests.benchmarks.etcd import Etcd
from tests.benchmarks.redis import Redis
from tests.benchmarks.targets import EtcdTarget, RedisTarget, Rocinante, Sender, Setting, Target, pattern
from tests.support.cluster import Cluster

SYSTEMS: Final = ("rocinante", "redis", "etcd")
SCENARIOS: Final = ("best", "writer", "waits", "single")
CANDIDATES: Final[Mapping[str, Sequence[Setting]]] = {
    "rocinante": (Setting(4_096, 8), Setting(8_192, 4), Setting(16_384, 4), Setting(32_768, 4), Setting(65_536, 3)),
    "redis": (Setting(1_000, 4), Setting(500, 4, 4), Setting(2_000, 2, 4), Setting(5_000, 2, 2), Setting(10_000, 2)),
    "etcd": (Setting(128, 16), Setting(128, 64), Setting(128, 128)),
}
FIXED: Final = {"writer": Setting(1_000, 8), "waits": Setting(1_000, 1), "single": Setting(1, 1)}
PREPARED_PER_S: Final[Mapping[str, int]] = {"rocinante": 1_500_000, "redis": 600_000, "etcd": 100_000}
"""Records that are made for each second of a turn, before it …"""
PREPARED_BATCHES_PER_S: Final = 2_000
"""… but not more batches than this …"""
PREPARED_BYTES_MAX: Final = 512 << 20
"""… or bytes. What is needed beyond it is made while the system is loaded, and counted."""
SETTLE_S: Final = 0.5
"""After a system was emptied: what it still writes is not the next one's."""
TRIES: Final = 2
"""Of each setting, to find the best."""
FLOW_BYTES_MAX: Final = 16 << 30


@dataclass(frozen=True, slots=True)
class Turn:
    """One round of one system."""

    records: int
    seconds: float
    latency: Latency
    cpu_s: float
    """Of all three nodes."""
    made_late: int
    """Batches that were made during the turn."""

    @property
    def per_second(self) -> float:
        return self.records / self.seconds


class Load:
    """A closed loop on one system."""

    def __init__(self, target: Target, setting: Setting) -> None:
        self._target, self._setting = target, setting
        self._next = 0
        self._began: list[float] = []
        self._ended: list[float] = []
        self._stopping = False
        self._made: deque[Sequence[bytes]] = deque()
        self.made_late = 0

    def prepare(self, sender: Sender, seconds: float) -> None:
        """Make the requests of the turn."""
        batch = self._setting.batch
        each_s = min(PREPARED_PER_S[self._target.name], PREPARED_BATCHES_PER_S * batch)
        size = 0
        for first in range(0, int(each_s * seconds), batch):
            made = sender.make(first)
            size += sum(map(len, made))
            if size > PREPARED_BYTES_MAX:
                return
            self._made.append(made)

    async def run(self, seconds: float, warm_up: float) -> Turn:
        """Warm up, measure, and wait until all that was sent is answered; then every node has it all."""
        senders = [await self._target.connect(self._setting) for _ in range(self._setting.connections)]
        self.prepare(senders[0], seconds + warm_up)
        loops = [asyncio.create_task(self._loop(sender)) for sender in senders for _ in range(self._setting.in_flight)]
        try:
            await self._pause(warm_up, loops)
            busy, began_s = cpu_s(self._target), time.monotonic()
            await self._pause(seconds, loops)
            ended_s, busy = time.monotonic(), cpu_s(self._target) - busy
            self._stopping = True
            await asyncio.gather(*loops)
        finally:
            self._stopping = True
            for sender in senders:
                await sender.close()
        pairs = [(began, ended) for began, ended in zip(self._began, self._ended, strict=True)]
        latencies = [ended - began for began, ended in pairs if began_s <= ended < ended_s]
        records = len(latencies) * self._setting.batch
        return Turn(records, ended_s - began_s, Latency.of(latencies), busy, self.made_late)

    @property
    def acknowledged(self) -> int:
        return len(self._ended) * self._setting.batch

    @staticmethod
    async def _pause(seconds: float, loops: list[asyncio.Task[None]]) -> None:
        """A loop that fails ends the turn."""
        if seconds:
            done, _ = await asyncio.wait(loops, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
            for one in done:
                one.result()

    async def _loop(self, sender: Sender) -> None:
        while not self._stopping:
            first, self._next = self._next, self._next + self._setting.batch
            if self._made:
                made = self._made.popleft()  # they were made in the order of `first`
            else:
                self.made_late, made = self.made_late + 1, sender.make(first)
            began_s = time.monotonic()
            await sender.send(made)
            self._began.append(began_s)
            self._ended.append(time.monotonic())


def cpu_s(target: Target) -> float:
    total = 0.0
    for pid in target.pids():
        times = psutil.Process(pid).cpu_times()
        total += times.user + times.system
    return total


def turn(target: Target, setting: Setting, seconds: float, warm_up: float) -> Turn:
    """Raises SystemExit when a node does not have what was acknowledged."""
    target.clear()
    time.sleep(SETTLE_S)
    load = Load(target, setting)
    result = uvloop.run(load.run(seconds, warm_up))
    found = target.records()
    if found != [load.acknowledged] * len(found):
        raise SystemExit(f"{target.name}: {load.acknowledged} records were acknowledged, the nodes have {found}")
    return result


def best_setting(target: Target, seconds: float, say: Console) -> Setting:
    """The one that does most in short tries of each, in turns: the machine's pace is not the same in any two."""
    tried = dict.fromkeys(CANDIDATES[target.name], 0.0)
    for setting in [*tried] * TRIES:
        tried[setting] = max(tried[setting], turn(target, setting, seconds, seconds / 2).per_second)
    for setting, rate in tried.items():
        say.print(f"  {target.name}: {setting}: {rate:,.0f} records/s")
    return max(tried, key=lambda setting: tried[setting])


def compare(targets: Sequence[Target], options: argparse.Namespace, say: Console) -> dict[str, Any]:
    """The figures of each scenario, by system."""
    found: dict[str, Any] = {}
    for scenario in options.scenarios:
        settings = {
            target.name: FIXED[scenario] if scenario in FIXED else best_setting(target, options.seconds / 3, say)
            for target in targets
        }
        turns: dict[str, list[Turn]] = {target.name: [] for target in targets}
        for number in range(options.rounds):
            for target in targets:
                one = turn(target, settings[target.name], options.seconds, options.warm_up)
                turns[target.name].append(one)
                say.print(
                    f"  {scenario} {number + 1}/{options.rounds}: {target.name:9} {settings[target.name]!s:14}"
                    f" {one.per_second:12,.0f} records/s, p50 {one.latency['p50_ms']:.2f} ms"
                )
        found[scenario] = {name: figures(settings[name], some) for name, some in turns.items()}
    return found


def figures(setting: Setting, turns: list[Turn]) -> dict[str, Any]:
    """Medians over the rounds."""

    def median(values: Sequence[float], digits: int = 2) -> float:
        return round(statistics.median(values), digits)

    return {
        "setting": asdict(setting),
        "per_second": median([one.per_second for one in turns], 0),
        "per_second_rounds": [round(one.per_second) for one in turns],
        "p50_ms": median([one.latency["p50_ms"] for one in turns], 3),
        "p99_ms": median([one.latency["p99_ms"] for one in turns], 3),
        "cpu_s_per_million": median([1e6 * one.cpu_s / one.records for one in turns if one.records]),
        "batches_made_late": sum(one.made_late for one in turns),
    }


def ratios(found: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Rocinante's records a second, of each other's; of `single` the median latency."""
    made: dict[str, dict[str, float]] = {}
    for scenario, systems in found.items():
        if "rocinante" not in systems:
            continue
        name = "p50_ms" if scenario == "single" else "per_second"
        ours = systems["rocinante"][name]
        made[scenario] = {
            f"{name}_to_{other}": round(ours / theirs[name], 3)
            for other, theirs in systems.items()
            if other != "rocinante" and theirs[name]
        }
    return made


def show(result: Mapping[str, Any], out: Console) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("scenario")
    table.add_column("system")
    for column in ("batch × depth", "records/s", "p50 ms", "p99 ms", "CPU s/M, all nodes", "Rocinante is"):
        table.add_column(column, justify="right")
    for scenario, systems in result["scenarios"].items():
        for name, one in systems.items():
            ratio = next(
                (value for key, value in result["ratios"].get(scenario, {}).items() if key.endswith(name)), None
            )
            what = "× its latency" if scenario == "single" else "× its rate"
            table.add_row(
                scenario, name, str(Setting(**one["setting"])), f"{one['per_second']:,.0f}", f"{one['p50_ms']:.2f}",
                f"{one['p99_ms']:.2f}", f"{one['cpu_s_per_million']:.2f}", f"{ratio:.2f} {what}" if ratio else "",
            )  # fmt: skip
    out.print(table)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each turn (default 3)")
    parser.add_argument("--warm-up", type=float, default=1.0, help="seconds before it (default 1)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=SCENARIOS)
    parser.add_argument("--encoding", choices=list(Encoding), type=Encoding, default=Encoding.PACKED,
                        help="of Rocinante's batches")  # fmt: skip
    parser.add_argument("--json", type=Path, help="write the figures into this file, too; - is the output, then alone")
    options = parser.parse_args(arguments)
    if options.seconds <= 0 or options.rounds < 1 or options.warm_up < 0:
        parser.error("--seconds must be above 0, --rounds at least 1, --warm-up not negative")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    say, out = (
        Console(stderr=True, highlight=False),
        Console(highlight=False, width=None if sys.stdout.isatty() else 160),
    )
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rocinante-compare-")))
        targets: list[Target] = []
        for name in options.systems:
            say.print(f"starting {name}")
            targets.append(start(name, directory / name, stack, options.encoding))
        found = compare(targets, options, say)
    result = {
        "benchmark": "compare",
        "version": __version__,
        "machine": platform.machine(),
        "processors": psutil.cpu_count(),
        "load_average": round(psutil.getloadavg()[0], 2),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "encoding": options.encoding.value,
        "record_bytes": {
            each.value: round(len(pattern(4_096, each).made(0, request=False)) / 4_096, 2) for each in Encoding
        },
        "scenarios": found,
        "ratios": ratios(found),
    }
    text = json.dumps(result, indent=2)
    if options.json is not None and str(options.json) != "-":
        options.json.write_text(text + "\n")
    if str(options.json) == "-":
        print(text)
    else:
        show(result, out)
    return 0


def start(name: str, directory: Path, stack: ExitStack, encoding: Encoding) -> Target:
    if name == "redis":
        return RedisTarget(stack.enter_context(Redis(directory)))
    if name == "etcd":
        return EtcdTarget(stack.enter_context(Etcd(directory)))
    flows = {"max": BENCH_TABLE_MAX, "maxBytes": FLOW_BYTES_MAX}
    cluster = stack.enter_context(Cluster(directory, flows=flows))
    cluster.start()
    cluster.wait_leader()
    return Rocinante(cluster, encoding)


if __name__ == "__main__":
    sys.exit(main())
