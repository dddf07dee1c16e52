"""Which node a client asks next: the leader where known, then the others, those that just failed last.

Contract: thread-safe; knows endpoints (strings) and nothing of how they are reached. An endpoint is `HOST:PORT`, an
IPv6 address in brackets, or for REST a base URL. The seeds that the user gave are never forgotten: they may be the only
ones that are reachable from here.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from rocinante.errors import InvalidArgument
from rocinante.limits import (
    CLIENT_DISCOVERY_INTERVAL_S,
    CLIENT_ENDPOINTS_MAX,
    CLIENT_NODE_REST_S,
    CLIENT_NODE_REST_S_MAX,
)

__all__ = ["Router", "parse_endpoint", "parse_endpoints"]


def parse_endpoint(text: str) -> str:
    """`HOST:PORT` or `[IPv6]:PORT`, checked and without white space. Raises InvalidArgument naming `cluster`."""
    endpoint = text.strip()
    host, separator, port = endpoint.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not separator or not bare or "/" in endpoint or (":" in bare and bare == host):
        raise InvalidArgument("cluster", f"{text!r} is not HOST:PORT (an IPv6 address goes in brackets: [::1]:35001)")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
        raise InvalidArgument("cluster", f"{text!r}: the port must be a number from 1 to 65535")
    return endpoint


def parse_endpoints(endpoints: str | Iterable[str]) -> tuple[str, ...]:
    """One endpoint, several separated by commas, or a list of them; at least one, each once."""
    texts = endpoints.split(",") if isinstance(endpoints, str) else list(endpoints)
    found = tuple(dict.fromkeys(parse_endpoint(text) for text in texts if text.strip()))
    if not found:
        raise InvalidArgument("cluster", "no endpoint given, expected HOST:PORT[,HOST:PORT]")
    if len(found) > CLIENT_ENDPOINTS_MAX:
        raise InvalidArgument("cluster", f"{len(found)} endpoints, at most {CLIENT_ENDPOINTS_MAX} are kept")
    return found


@dataclass(slots=True)
class _Health:
    failures: int = 0
    rest_until_s: float = 0.0


class Router:
    """The endpoints of one cluster as a client sees them. `clock` gives monotonic seconds."""

    def __init__(self, seeds: Sequence[str], *, discover: bool, clock: Callable[[], float], rng: random.Random) -> None:
        self._lock = threading.Lock()
        self._seeds = tuple(seeds)
        self._found: tuple[str, ...] = ()
        self._health: dict[str, _Health] = {}
        self._leader = ""
        self._discover = discover
        self._discovery_due_s = 0.0
        self._clock = clock
        self._rng = rng

    @property
    def seeds(self) -> tuple[str, ...]:
        return self._seeds

    @property
    def endpoints(self) -> tuple[str, ...]:
        """All that are known, the seeds first."""
        with self._lock:
            return self._known()

    @property
    def leader(self) -> str:
        """Where the leader was last seen; "" when that is not known."""
        return self._leader

    def pick(self, tried: Collection[str] = ()) -> str | None:
        """The best endpoint that is not in `tried`; None when all were tried."""
        with self._lock:
            candidates = [endpoint for endpoint in self._known() if endpoint not in tried]
            if not candidates:
                return None
            now = self._clock()
            awake = [e for e in candidates if self._health.get(e, _Health()).rest_until_s <= now]
            if self._leader in awake:
                return self._leader
            if awake:
                return self._rng.choice(awake)
            return min(candidates, key=lambda e: self._health[e].rest_until_s)

    def worked(self, endpoint: str) -> None:
        if endpoint in self._health:
            with self._lock:
                self._health.pop(endpoint, None)

    def failed(self, endpoint: str) -> None:
        """The node did not answer: ask it last for a while, and look who else there is."""
        with self._lock:
            health = self._health.setdefault(endpoint, _Health())
            health.failures += 1
            rest_s = min(CLIENT_NODE_REST_S_MAX, CLIENT_NODE_REST_S * 2.0 ** min(health.failures - 1, 10))
            health.rest_until_s = self._clock() + rest_s
            if self._leader == endpoint:
                self._leader = ""
            self._discovery_due_s = min(self._discovery_due_s, self._clock() + CLIENT_NODE_REST_S)

    def saw_leader(self, endpoint: str) -> None:
        """A node said who leads. Without discovery only what the user gave is believed to be reachable."""
        if endpoint == self._leader:
            return
        with self._lock:
            known = endpoint in self._known()
            if not known and self._discover and endpoint and len(self._found) < CLIENT_ENDPOINTS_MAX:
                self._found = (*self._found, endpoint)
                known = True
            self._leader = endpoint if known else ""

    def discovery_due(self) -> bool:
        """Whether it is time to ask for the members; True to one caller only."""
        if not self._discover or self._clock() < self._discovery_due_s:
            return False
        with self._lock:
            if self._clock() < self._discovery_due_s:
                return False
            self._discovery_due_s = self._clock() + CLIENT_DISCOVERY_INTERVAL_S
            return True

    def discovered(self, endpoints: Iterable[str]) -> None:
        """The members as a node of the cluster has them; replaces what was discovered before."""
        with self._lock:
            self._found = tuple(dict.fromkeys(endpoints))[:CLIENT_ENDPOINTS_MAX]
            known = set(self._known())
            self._health = {e: health for e, health in self._health.items() if e in known}
            if self._leader not in known:
                self._leader = ""

    def _known(self) -> tuple[str, ...]:
        return (*self._seeds, *(e for e in self._found if e not in self._seeds))
