"""What a benchmark is to do, and what came of it. Times in seconds unless the name says ms; sizes in bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from rocinante import limits
from rocinante.bench import bounds
from rocinante.errors import InvalidArgument


class Operation(StrEnum):
    PUT = "put"
    GET = "get"
    MIXED = "mixed"


@dataclass(frozen=True, slots=True)
class Plan:
    """One stage: a closed loop of `clients`, each with one call in flight. Ends after `seconds` or `count` calls,
    whichever is given.

    Raises InvalidArgument, with the name of the field.
    """

    endpoints: tuple[str, ...]
    """IP:PORT. Clients are spread over them."""
    operation: Operation = Operation.PUT
    clients: int = 1
    seconds: float | None = 10.0
    count: int | None = None
    key_bytes: int = 32
    value_bytes: int = 100
    keys: int = 1_000
    """Different keys, taken at random."""
    get_percent: int = 50
    """Of a mixed load."""
    serializable: bool = False
    """Gets are answered by the node that is asked, from what it has."""
    warm_up: float = 1.0
    """Load before the measurement begins."""
    timeout: float = limits.REQUEST_TIMEOUT_S
    processes: int = 1
    prefix: bytes = b"bench/"

    def __post_init__(self) -> None:
        if not self.endpoints:
            raise InvalidArgument("endpoints", "none given")
        if (self.seconds is None) == (self.count is None):
            raise InvalidArgument("seconds", "give either a duration or a number of calls")
        within("clients", self.clients, 1, bounds.BENCH_CLIENTS_MAX)
        within("seconds", self.seconds if self.seconds is not None else 1, 0.1, bounds.BENCH_SECONDS_MAX)
        within("count", self.count if self.count is not None else 1, 1, bounds.BENCH_CALLS_MAX)
        within("key_bytes", self.key_bytes, len(self.prefix) + len(str(self.keys)), limits.KEY_BYTES_MAX)
        within("value_bytes", self.value_bytes, 0, limits.VALUE_BYTES_MAX)
        within("keys", self.keys, 1, bounds.BENCH_KEYS_MAX)
        within("get_percent", self.get_percent, 0, 100)
        within("warm_up", self.warm_up, 0, bounds.BENCH_SECONDS_MAX)
        within("timeout", self.timeout, 0.001, limits.REQUEST_TIMEOUT_S_MAX)
        within("processes", self.processes, 1, min(self.clients, bounds.BENCH_PROCESSES_MAX))

    def key(self, number: int) -> bytes:
        """The key of that number, filled up to `key_bytes`."""
        return self.prefix + str(number).zfill(self.key_bytes - len(self.prefix)).encode()


def within(field_name: str, value: float, least: float, most: float) -> None:
    """Raises InvalidArgument, with the name of the field."""
    if not least <= value <= most:
        raise InvalidArgument(field_name, f"{value:g} is not between {least:g} and {most:g}")


@dataclass(slots=True)
class Sample:
    """What one load process measured."""

    latencies: Sequence[float]
    """Of the calls that succeeded."""
    errors: Counter[str]
    """Calls that failed, by gRPC status."""
    elapsed: float


@dataclass(frozen=True, slots=True)
class Result:
    """What one stage came to."""

    operation: Operation
    clients: int
    calls: int
    """That succeeded."""
    errors: dict[str, int]
    elapsed: float
    median_ms: float
    p99_ms: float
    max_ms: float
    mean_ms: float
    per_second: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "per_second", self.calls / self.elapsed if self.elapsed else 0.0)

    @classmethod
    def of(cls, plan: Plan, samples: Sequence[Sample]) -> Result:
        """All load processes together: they ran at the same time."""
        times = sorted(time for sample in samples for time in sample.latencies)
        errors: Counter[str] = Counter()
        for sample in samples:
            errors.update(sample.errors)
        return cls(
            operation=plan.operation,
            clients=plan.clients,
            calls=len(times),
            errors=dict(errors),
            elapsed=max((sample.elapsed for sample in samples), default=0.0),
            median_ms=1000 * quantile(times, 0.5),
            p99_ms=1000 * quantile(times, 0.99),
            max_ms=1000 * quantile(times, 1.0),
            mean_ms=1000 * sum(times) / len(times) if times else 0.0,
        )


def quantile(ordered: Sequence[float], q: float) -> float:
    """The smallest value that at least a share `q` of `ordered` does not exceed (nearest rank); 0 when it is empty."""
    if not len(ordered):
        return 0.0
    rank = -(-len(ordered) * q // 1)  # the ceiling
    return ordered[max(0, int(rank) - 1)]
