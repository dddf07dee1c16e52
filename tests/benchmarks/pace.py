"""How fast the machine is at the moment: `python -m tests.benchmarks.pace [SECONDS]`.

A virtual processor that shares its core with somebody else's does half as much in a second, and nothing on this side
of the hypervisor says so: no load, no steal, the same processor seconds used. So a fixed piece of Python runs on every
processor at once, and what it came to is kept beside a figure: two figures of different paces do not compare.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from typing import Final, NamedTuple

SECONDS: Final = 2.0
TURNS: Final = 500_000
"""Of the loop that is timed: some tens of milliseconds."""
_LOOP: Final = f"""
import os, sys, time
os.sched_setaffinity(0, {{int(sys.argv[1])}})
end = time.perf_counter() + float(sys.argv[2])
while (began := time.perf_counter()) < end:
    x = 0
    for i in range({TURNS}):
        x += i
    print(time.perf_counter() - began)
"""


class Pace(NamedTuple):
    """Millions of turns a second and processor, all of them busy."""

    slow: float
    """A tenth of the time it was slower …"""
    median: float
    fast: float
    """… and a tenth of the time faster."""

    def __str__(self) -> str:
        return f"{self.median:.1f} ({self.slow:.1f} to {self.fast:.1f})"


def pace_of(durations: list[float]) -> Pace:
    """From the seconds of each turn of the loop, of all processors; there must be ten at least."""
    deciles = statistics.quantiles([TURNS / seconds / 1e6 for seconds in durations], n=10)
    return Pace(round(deciles[0], 2), round(deciles[4], 2), round(deciles[8], 2))


def measure(seconds: float = SECONDS) -> Pace:
    """Takes that long, and all of the machine."""
    loops = [
        subprocess.Popen([sys.executable, "-c", _LOOP, str(processor), str(seconds)], stdout=subprocess.PIPE, text=True)
        for processor in sorted(os.sched_getaffinity(0))
    ]
    return pace_of([float(line) for loop in loops for line in loop.communicate()[0].split()])


if __name__ == "__main__":
    print(measure(float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS))
