"""Three nodes of Rocinante against three of Debian's etcd: `python -m tests.benchmarks.compare_etcd [--help]`.

Both run at the same time on this machine, on the loopback interface and the same file system, each with its own
defaults. The same load generator (h2load, a closed loop) sends both the same gRPC calls, in alternating rounds; the
figures are medians over the rounds.

What a figure is worth is checked: one call of each kind first (its gRPC status); every answer of a round has a
message; and after each round of puts the key's version, which counts its changes, is what it was plus the puts that
were sent, on every node of the cluster. A round in which the leadership moved is measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Protocol

import psutil
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table

from rocinante.pb.etcd import rpc_pb2
from rocinante.version import __version__
from tests.benchmarks import h2load
from tests.benchmarks.etcd import Etcd
from tests.support.cluster import Cluster
from tests.support.rpc import Rpc

KEY: Final = b"bench/key"
PUT: Final = "/etcdserverpb.KV/Put"
RANGE: Final = "/etcdserverpb.KV/Range"
REQUESTS_MIN: Final = 100
REQUESTS_MAX: Final = 200_000
WARM_UP_REQUESTS: Final = 100
"""… and as many again for each call in flight beyond the first; they also tell how many make a round."""
TRIES: Final = 3
CATCH_UP_S: Final = 10.0


class System(Protocol):
    """What is measured: a cluster that serves etcd's KV by gRPC."""

    @property
    def name(self) -> str: ...
    def leader(self) -> str | None: ...
    def follower(self) -> str: ...
    def pids(self) -> list[int]: ...
    def endpoints(self) -> list[str]: ...


class Rocinante:
    """A `Cluster` as a `System`."""

    name: Final = "rocinante"

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def leader(self) -> str | None:
        number = self._cluster.leader()
        return None if number is None else self._cluster.endpoint(number)

    def follower(self) -> str:
        leader = self.leader()
        return next(endpoint for endpoint in self.endpoints() if endpoint != leader)

    def pids(self) -> list[int]:
        return [self._cluster.pid(number) for number in self._cluster.running()]

    def endpoints(self) -> list[str]:
        return self._cluster.endpoints()


@dataclass(frozen=True, slots=True)
class Scenario:
    operation: str
    """put, or get: a linearizable range of one key."""
    target: str
    """leader or follower: who is sent the calls."""
    in_flight: int

    def __str__(self) -> str:
        return f"{self.operation} to the {self.target}, {self.in_flight} in flight"


@dataclass(frozen=True, slots=True)
class Figures:
    """Medians over the rounds of one scenario on one system."""

    per_second: float
    median_ms: float
    p99_ms: float
    max_ms: float
    cpu_us_per_request: float
    """Processor time of all three nodes together."""
    requests: int
    rounds: int


class Bench:
    """The checks and the measuring of one system."""

    def __init__(self, system: System, value_bytes: int) -> None:
        self.system = system
        self.moves = 0
        """Rounds that were thrown away because the leadership moved."""
        self._rpc = Rpc()
        self._put = rpc_pb2.PutRequest(key=KEY, value=os.urandom(value_bytes))
        self._range = rpc_pb2.RangeRequest(key=KEY)
        self._value_bytes = value_bytes
        self._puts = 0

    def first_calls(self) -> None:
        """One put and one linearizable get on every node: raises grpc.RpcError when a node refuses."""
        for endpoint in self.system.endpoints():
            self._rpc.call(endpoint, PUT, self._put, rpc_pb2.PutResponse)
            self._puts += 1
            answer = self._rpc.call(endpoint, RANGE, self._range, rpc_pb2.RangeResponse)
            if [kv.value for kv in answer.kvs] != [self._put.value]:
                raise SystemExit(f"{self.system.name}: {endpoint} answers another value than was put")
        self._check_puts()

    def measure(self, scenario: Scenario, seconds: float) -> tuple[h2load.Load, float]:
        """One round of about so many seconds; (load, processor seconds of the cluster)."""
        for _ in range(TRIES):
            before = self._wait_leader()
            endpoint = before if scenario.target == "leader" else self.system.follower()
            warm_up = self._run(scenario, endpoint, WARM_UP_REQUESTS + 20 * scenario.in_flight)
            count = min(REQUESTS_MAX, max(REQUESTS_MIN, scenario.in_flight, int(warm_up.per_second * seconds)))
            busy = self._cpu_seconds()
            load = self._run(scenario, endpoint, count)
            busy = self._cpu_seconds() - busy
            if scenario.operation == "put":
                self._check_puts()
            if self._wait_leader() == before:
                return load, busy
            self.moves += 1
        raise SystemExit(f"{self.system.name}: the leadership moved in {TRIES} rounds of: {scenario}")

    def idle_cpu_percent(self, seconds: float = 2.0) -> float:
        """What the cluster takes of one core when nobody asks anything of it."""
        busy = self._cpu_seconds()
        time.sleep(seconds)
        return 100 * (self._cpu_seconds() - busy) / seconds

    def close(self) -> None:
        self._rpc.close()

    def _run(self, scenario: Scenario, endpoint: str, count: int) -> h2load.Load:
        method, request = (PUT, self._put) if scenario.operation == "put" else (RANGE, self._range)
        load = h2load.run(endpoint, method, request, requests=count, in_flight=scenario.in_flight)
        least = 6 if scenario.operation == "put" else 5 + self._value_bytes
        if load.data_bytes < least * count:
            raise SystemExit(
                f"{self.system.name}: {scenario}: some answers have no message, gRPC refused the calls "
                f"({load.data_bytes} bytes in {count} answers): {self._why_refused(endpoint, method, request)}"
            )
        if scenario.operation == "put":
            self._puts += count
        return load

    def _why_refused(self, endpoint: str, method: str, request: Message) -> str:
        response = rpc_pb2.PutResponse if method == PUT else rpc_pb2.RangeResponse
        try:
            self._rpc.call(endpoint, method, request, response)
        except Exception as error:  # noqa: BLE001 - only to say what it is
            return str(error)
        return "one call alone is answered; a bound under load?"

    def _check_puts(self) -> None:
        """Each put raised the key's version by one, and each node has them all."""
        deadline = time.monotonic() + CATCH_UP_S
        request = rpc_pb2.RangeRequest(key=KEY, serializable=True)
        for endpoint in self.system.endpoints():
            while True:
                answer = self._rpc.call(endpoint, RANGE, request, rpc_pb2.RangeResponse)
                version = answer.kvs[0].version if answer.kvs else 0
                if version == self._puts:
                    break
                if version > self._puts or time.monotonic() > deadline:
                    raise SystemExit(f"{self.system.name}: {self._puts} puts were answered, {endpoint} has {version}")
                time.sleep(0.01)

    def _wait_leader(self) -> str:
        deadline = time.monotonic() + CATCH_UP_S
        while (leader := self.system.leader()) is None:
            if time.monotonic() > deadline:
                raise SystemExit(f"{self.system.name} has no leader")
            time.sleep(0.05)
        return leader

    def _cpu_seconds(self) -> float:
        times = [psutil.Process(pid).cpu_times() for pid in self.system.pids()]
        return sum(each.user + each.system for each in times)


def compare(
    benches: list[Bench], scenarios: list[Scenario], rounds: int, seconds: float, console: Console
) -> dict[Scenario, dict[str, Figures]]:
    """All scenarios, `rounds` times; who is measured first changes from round to round."""
    measured: dict[tuple[Scenario, str], list[tuple[h2load.Load, float]]] = {}
    for number in range(rounds):
        order = benches if number % 2 == 0 else benches[::-1]
        for scenario in scenarios:
            for bench in order:
                load, busy = bench.measure(scenario, seconds)
                measured.setdefault((scenario, bench.system.name), []).append((load, busy))
                console.print(
                    f"round {number + 1}/{rounds}  {bench.system.name:9}  {scenario}: "
                    f"{load.per_second:,.0f}/s, median {load.median_ms:.2f} ms, p99 {load.p99_ms:.2f} ms",
                    highlight=False,
                )
    return {
        scenario: {bench.system.name: _figures(measured[scenario, bench.system.name]) for bench in benches}
        for scenario in scenarios
    }


def _figures(rounds: list[tuple[h2load.Load, float]]) -> Figures:
    loads = [load for load, _ in rounds]
    return Figures(
        per_second=statistics.median(load.per_second for load in loads),
        median_ms=statistics.median(load.median_ms for load in loads),
        p99_ms=statistics.median(load.p99_ms for load in loads),
        max_ms=max(load.max_ms for load in loads),
        cpu_us_per_request=statistics.median(1e6 * busy / load.requests for load, busy in rounds),
        requests=sum(load.requests for load in loads),
        rounds=len(loads),
    )


def ratios(figures: dict[str, Figures]) -> dict[str, float]:
    """Ours divided by etcd's; empty where only one was measured. Above 1 is better for `per_second` and worse for
    the others."""
    if len(figures) < 2:
        return {}
    ours, theirs = figures[Rocinante.name], figures[Etcd.name]
    names = ("per_second", "median_ms", "p99_ms", "cpu_us_per_request")
    return {name: round(getattr(ours, name) / max(getattr(theirs, name), 1e-9), 3) for name in names}


def table(results: dict[Scenario, dict[str, Figures]]) -> Table:
    view = Table(title="three nodes, one machine; ratio: Rocinante / etcd")
    for title in ("operation", "sent to", "in flight", "system"):
        view.add_column(title)
    for title in ("per second", "median ms", "p99 ms", "max ms", "CPU µs/request"):
        view.add_column(title, justify="right")
    for scenario, figures in results.items():
        first = (scenario.operation, scenario.target, str(scenario.in_flight))
        for name, f in figures.items():
            numbers = (f"{f.per_second:,.0f}", f"{f.median_ms:.2f}", f"{f.p99_ms:.2f}", f"{f.max_ms:.1f}")
            view.add_row(*first, name, *numbers, f"{f.cpu_us_per_request:,.0f}")
            first = ("", "", "")
        if ratio := ratios(figures):
            cells = [f"[bold]{ratio[name]:.2f}[/]" for name in ("per_second", "median_ms", "p99_ms")]
            view.add_row("", "", "", "[bold]ratio[/]", *cells, "", f"{ratio['cpu_us_per_request']:.1f}")
        view.add_section()
    return view


def document(
    results: dict[Scenario, dict[str, Figures]],
    benches: list[Bench],
    idle: dict[str, float],
    arguments: argparse.Namespace,
) -> dict[str, object]:
    return {
        "machine": {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "kernel": platform.release(),
            "load_average": os.getloadavg()[0],
        },
        "rocinante": __version__,
        "value_bytes": arguments.value_bytes,
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
        "idle_cpu_percent_of_a_core": {name: round(percent, 1) for name, percent in idle.items()},
        "rounds_repeated_because_the_leader_moved": {bench.system.name: bench.moves for bench in benches},
        "results": [
            {**asdict(scenario), **{name: asdict(f) for name, f in figures.items()}, "ratio": ratios(figures)}
            for scenario, figures in results.items()
        ],
    }


def _start(arguments: argparse.Namespace, directory: Path, stack: ExitStack) -> Iterator[System]:
    for name in arguments.systems:
        if name == Etcd.name:
            yield stack.enter_context(Etcd(directory / "etcd"))
        else:
            cluster = stack.enter_context(Cluster(directory / "rocinante", storage={"engine": arguments.storage}))
            cluster.start()
            cluster.wait_leader()
            yield Rocinante(cluster)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="compare_etcd", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--in-flight", type=_numbers, default=[1, 10, 100], help="calls at a time (1,10,100)")
    parser.add_argument("--operations", type=lambda text: text.split(","), default=["put", "get"], help="put,get")
    parser.add_argument("--targets", type=lambda text: text.split(","), default=["leader", "follower"])
    parser.add_argument("--systems", type=lambda text: text.split(","), default=["etcd", "rocinante"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="about how long one measurement lasts (3)")
    parser.add_argument("--value-bytes", type=int, default=100)
    parser.add_argument("--storage", choices=["leveldb", "memory"], default="leveldb", help="Rocinante's engine")
    parser.add_argument("--dir", type=Path, help="where the data goes (a new temporary directory, removed afterwards)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file (-: only JSON, to stdout)")
    arguments = parser.parse_args()
    for option, allowed in (
        ("operations", {"put", "get"}),
        ("targets", {"leader", "follower"}),
        ("systems", {"etcd", "rocinante"}),
    ):
        if unknown := set(getattr(arguments, option)) - allowed:
            parser.error(f"--{option}: {', '.join(sorted(unknown))} is not one of {', '.join(sorted(allowed))}")
    if arguments.rounds < 1 or arguments.seconds <= 0 or min(arguments.in_flight) < 1 or arguments.value_bytes < 1:
        parser.error("--rounds, --seconds, --in-flight and --value-bytes must be positive")
    for tool in ("h2load", *(["etcd"] if "etcd" in arguments.systems else [])):
        if shutil.which(tool) is None:
            parser.error(f"{tool} is missing; packaging/apt-test.txt names its package")
    return arguments


def main() -> int:
    arguments = _arguments()
    console = Console(stderr=str(arguments.json) == "-", soft_wrap=True)
    if not console.is_terminal:
        console.width = 120
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the clusters are ended and the data removed
    scenarios = [
        Scenario(operation, target, in_flight)
        for operation in arguments.operations
        for target in arguments.targets
        for in_flight in arguments.in_flight
    ]
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="compare-etcd-", dir=arguments.dir)))
        benches = [Bench(system, arguments.value_bytes) for system in _start(arguments, directory, stack)]
        for bench in benches:
            stack.callback(bench.close)
            bench.first_calls()
        console.print(f"load average of this machine: {os.getloadavg()[0]:.1f}", highlight=False)
        idle = {bench.system.name: bench.idle_cpu_percent() for bench in benches}
        for name, percent in idle.items():
            console.print(f"{name}: {percent:.0f} % of a core while idle", highlight=False)
        results = compare(benches, scenarios, arguments.rounds, arguments.seconds, console)
        report = document(results, benches, idle, arguments)
    if str(arguments.json) == "-":
        print(json.dumps(report, indent=2))
        return 0
    console.print(table(results))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
