"""h2load as a load generator for gRPC: one HTTP/2 connection, a fixed number of calls in flight (a closed loop), one
request body.

h2load sees HTTP only: a call that gRPC refused is a 200 without a message. So callers compare `data_bytes` and the
servers' own state.
"""

from __future__ import annotations

import statistics
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from google.protobuf.message import Message

TIMEOUT_S: Final = 120.0
_HEADERS: Final = ("te: trailers", "content-type: application/grpc")


class LoadFailed(RuntimeError):
    """h2load did not run, or a request failed."""


@dataclass(frozen=True, slots=True)
class Load:
    """What came of one run. Latencies in ms, from the request's first byte to the answer's last."""

    requests: int
    seconds: float
    median_ms: float
    p99_ms: float
    max_ms: float
    data_bytes: int
    """Of all answers' bodies: gRPC messages with their 5-byte prefixes."""

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


def frame(message: Message) -> bytes:
    """A gRPC message as it travels (PROTOCOL-HTTP2.md, Length-Prefixed-Message): uncompressed, length, bytes."""
    body = message.SerializeToString()
    return struct.pack(">BI", 0, len(body)) + body


def run(endpoint: str, method: str, request: Message, *, requests: int, in_flight: int) -> Load:
    """`requests` calls of `/package.Service/Method` at `IP:PORT`, `in_flight` at a time. Raises LoadFailed."""
    with tempfile.TemporaryDirectory(prefix="h2load-") as scratch:
        body, log = Path(scratch, "body"), Path(scratch, "log")
        body.write_bytes(frame(request))
        command = ["h2load", "-t", "1", "-c", "1", "-m", str(in_flight), "-n", str(requests), "-d", str(body)]
        command += [part for header in _HEADERS for part in ("-H", header)]
        command += [f"--log-file={log}", f"http://{endpoint}{method}"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            raise LoadFailed(f"h2load did not end within {TIMEOUT_S:.0f} s: {endpoint}{method}") from None
        if done.returncode != 0:
            raise LoadFailed(f"h2load ended with {done.returncode}: {done.stderr.strip()[-500:]}")
        return _parse(log.read_text(), done.stdout, requests)


def _parse(log: str, report: str, requests: int) -> Load:
    """The log has a line a request: start (µs since the epoch), HTTP status, response time (µs)."""
    rows = [tuple(map(int, line.split())) for line in log.splitlines()]
    failed = [row for row in rows if row[1] != 200]
    if failed or len(rows) != requests:
        raise LoadFailed(f"{len(rows)} of {requests} answered, {len(failed)} not with HTTP 200\n{report[-800:]}")
    times = sorted(row[2] / 1000 for row in rows)
    first, last = min(row[0] for row in rows), max(row[0] + row[2] for row in rows)
    return Load(
        requests=requests,
        seconds=(last - first) / 1e6,
        median_ms=statistics.median(times),
        p99_ms=times[min(len(times) - 1, int(len(times) * 0.99))],
        max_ms=times[-1],
        data_bytes=_data_bytes(report),
    )


def _data_bytes(report: str) -> int:
    """From `traffic: 1.2MB (1234567) total, … headers …, 250KB (256000) data`."""
    line = next(line for line in report.splitlines() if line.startswith("traffic:"))
    data = next(part for part in line.split(",") if part.strip().endswith(" data"))
    return int(data.partition("(")[2].partition(")")[0])
