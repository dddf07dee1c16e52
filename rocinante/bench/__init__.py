"""Benchmarks of a running cluster: a closed loop of clients, and what it measured.

It talks to the cluster by gRPC alone, so it measures what any client would see.
"""

from rocinante.bench.keys import clear, fill
from rocinante.bench.plan import Operation, Plan, Result
from rocinante.bench.processes import run

__all__ = ["Operation", "Plan", "Result", "clear", "fill", "run"]
