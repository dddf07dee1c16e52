"""Writers during an operation, and what they saw: `python -m tests.hosts.load ENDPOINTS --rest ENDPOINTS --report F`.

Eight writers of the Python client with its default retries and time-outs, each writing keys of its own, one after the
other with a short pause, until SIGTERM, a file, or a time. (Without a pause they take all of a small machine, whose
nodes then wait for the processor and not for each other.) Beside them a watcher for each node notes when it is away
and whether it led. Then every acknowledged key is read back. The report, one JSON object: `acknowledged`, `errors`
(what the application saw), `lost` (acknowledged, but not there with its value), `twice` (there, but written more than
once), `gap_ms`, the longest time without an acknowledgement, and `nodes`: for each node that went away, in order, how
long, whether it led when its turn began, and the longest gap of its turn. A turn begins when the one before ended:
when that node was back.

Exit status 1 when something was lost, written twice or seen as an error, or a gap was longer than it may be.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import httpx

from rocinante.client import Client
from rocinante.errors import RocinanteError

WRITERS: Final = 8
VALUE: Final = "x" * 100
PAUSE_S: Final = 0.01
POLL_S: Final = 0.1
POLL_TIMEOUT_S: Final = 2.0
SHOWN_MAX: Final = 20
_COUNTS: Final = {"acknowledged": "writes acknowledged", "lost": "lost", "twice": "done twice", "errors": "failed"}


@dataclass(slots=True)
class Writer:
    """One writer's own keys: what was acknowledged, when, and what went wrong."""

    number: int
    prefix: str
    acknowledged: dict[str, str] = field(default_factory=dict)
    acks: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def write(self, endpoints: list[str], stop: threading.Event) -> None:
        with Client(endpoints) as client:
            turn = 0
            while not stop.is_set():
                turn += 1
                key, value = f"{self.prefix}{self.number}/{turn:08}", f"{turn} {VALUE}"
                try:
                    client.kv.put(key, value)
                except RocinanteError as error:
                    self.errors.append(f"{key}: {type(error).__name__}: {error}")
                else:
                    self.acknowledged[key] = value
                    self.acks.append(time.monotonic())
                stop.wait(PAUSE_S)


@dataclass(slots=True)
class Watched:
    """One node, as its REST interface shows it."""

    rest: str
    name: str = ""
    away: list[tuple[float, float]] = field(default_factory=list)
    led: list[float] = field(default_factory=list)

    def watch(self, stop: threading.Event) -> None:
        gone: float | None = None
        with httpx.Client(base_url=f"http://{self.rest}", timeout=POLL_TIMEOUT_S) as http:
            while not stop.wait(POLL_S):
                now = time.monotonic()
                try:
                    status = http.get("/v1/status").json()
                except (httpx.HTTPError, ValueError):
                    gone = now if gone is None else gone
                    continue
                self.name = status["name"]
                if status["role"] == "leader":
                    self.led.append(now)
                if status["ready"] and gone is not None:
                    self.away.append((gone, time.monotonic()))
                    gone = None


@dataclass(slots=True)
class Turn:
    """What one node's time away did to the writers."""

    node: str
    led: bool
    away_ms: int
    gap_ms: int


def longest_gap(acks: list[float], since: float, until: float) -> float:
    """The longest time without an acknowledgement between two moments, in seconds."""
    moments = [since, *(ack for ack in acks if since < ack < until), until]
    return max(after - before for before, after in pairwise(moments))


def turns(nodes: list[Watched], acks: list[float], began: float, ended: float) -> list[Turn]:
    """See the module."""
    found = []
    since = began
    times = sorted((back, left, number) for number, node in enumerate(nodes) for left, back in node.away)
    for position, (back, left, number) in enumerate(times):
        # What a node's return does to the others belongs to its turn; the last turn takes what is left.
        until = ended if position + 1 == len(times) else back
        led = any(since <= moment <= back for moment in nodes[number].led)
        gap = longest_gap(acks, since, until)
        found.append(Turn(nodes[number].name, led, round(1000 * (back - left)), round(1000 * gap)))
        since = back
    return found


def held(endpoints: list[str], prefix: str) -> dict[str, tuple[str, int]]:
    """All keys of the writers that the cluster has: value and version."""
    found: dict[str, tuple[str, int]] = {}
    with Client(endpoints, timeout_s=60.0) as client:
        for writer in range(WRITERS):
            for kv in client.kv.prefix(f"{prefix}{writer}/"):
                found[kv.key.decode()] = (kv.value.decode(), kv.version)
    return found


def run(endpoints: list[str], rests: list[str], stop: threading.Event, seconds: float) -> dict[str, Any]:
    """Write until told to stop; the report."""
    prefix = f"load/{time.time_ns()}/"
    writers = [Writer(number, prefix) for number in range(WRITERS)]
    nodes = [Watched(rest) for rest in rests]
    threads = [threading.Thread(target=writer.write, args=(endpoints, stop)) for writer in writers]
    threads += [threading.Thread(target=node.watch, args=(stop,)) for node in nodes]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    stop.wait(seconds)
    ended = time.monotonic()
    stop.set()
    for thread in threads:
        thread.join()
    acks = sorted(ack for writer in writers for ack in writer.acks)
    there = held(endpoints, prefix)
    asked = {key: value for writer in writers for key, value in writer.acknowledged.items()}
    errors = [error for writer in writers for error in writer.errors]
    lost = [key for key, value in asked.items() if there.get(key, ("", 0))[0] != value]
    twice = [key for key, (_, version) in there.items() if version != 1]
    return {
        "seconds": round(ended - began, 1),
        "acknowledged": len(asked),
        "errors": len(errors),
        "lost": len(lost),
        "twice": len(twice),
        "examples": [*errors[:SHOWN_MAX], *lost[:SHOWN_MAX], *twice[:SHOWN_MAX]],
        "gap_ms": round(1000 * longest_gap(acks, began, ended)),
        "nodes": [asdict(turn) for turn in turns(nodes, acks, began, ended)],
    }


def in_words(report: dict[str, Any]) -> str:
    """A report in one line."""
    turns = ", ".join(
        f"{turn['gap_ms']} ms ({turn['node']}{' led' if turn['led'] else ''}, away {turn['away_ms'] / 1000:.0f} s)"
        for turn in report["nodes"]
    )
    counts = ", ".join(f"{report[name]} {what}" for name, what in _COUNTS.items())
    return f"{counts}; longest gap {turns or str(report['gap_ms']) + ' ms'}"


def wait_for(path: Path, stop: threading.Event) -> None:
    """Say stop when the file is there."""
    while not stop.wait(POLL_S):
        if path.exists():
            stop.set()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("endpoints", help="of gRPC: IP:PORT,IP:PORT,...")
    parser.add_argument("--rest", required=True, help="of REST: IP:PORT,IP:PORT,...")
    parser.add_argument("--report", type=Path, required=True, help="where to write the report")
    parser.add_argument("--seconds", type=float, default=1800.0, help="the longest time that it writes")
    parser.add_argument("--follower-gap-ms", type=int, default=1000, help="the longest gap for a node that follows")
    parser.add_argument("--leader-gap-ms", type=int, default=2000, help="the longest gap for a node that leads")
    parser.add_argument("--stop-file", type=Path, help="stop when this file is there, too")
    arguments = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if arguments.stop_file is not None:
        threading.Thread(target=wait_for, args=(arguments.stop_file, stop), daemon=True).start()
    report = run(arguments.endpoints.split(","), arguments.rest.split(","), stop, arguments.seconds)
    bounds = {False: arguments.follower_gap_ms, True: arguments.leader_gap_ms}
    late = [f"{turn['node']}: {turn['gap_ms']} ms" for turn in report["nodes"] if turn["gap_ms"] > bounds[turn["led"]]]
    report["too_late"] = late
    scratch = arguments.report.with_suffix(".part")
    scratch.write_text(json.dumps(report, indent=2))
    scratch.rename(arguments.report)  # a report that is there is whole
    bad = report["errors"] or report["lost"] or report["twice"] or late or not report["acknowledged"]
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
