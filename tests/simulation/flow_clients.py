"""Clients of the flows: batches, deletes, look-ups; some flows have a deadline, by a clock that may be wrong.

Each answer is held against `flow_model.py` at the index that the node had applied, and against what somebody knew
before the call began.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rocinante.flows import FlowRecord, FlowTuple, encode_batch
from rocinante.ports import Outcome, SessionRef
from rocinante.state.command import Kind
from rocinante.state.flows import encode_delete, encode_put

from .caller import TRY_TIMEOUT_S, Attempt, Caller, read_then
from .clients import History
from .oracle import Oracle
from .world import EPOCH_NS, SimulationFailure, World

if TYPE_CHECKING:
    from .host import Host

ORIGINS: Final = ("dc1", "dc2")
FLOWS: Final = tuple(FlowTuple.from_text("tcp", f"192.0.2.{number}:1000", "198.51.100.1:443") for number in range(1, 6))
LIVES_MS: Final = (0, 0, 500, 3_000, 300_000)
"""Until a flow's deadline; 0: it has none."""


class _Look(NamedTuple):
    """What a node showed."""

    index: int  # type: ignore[assignment]  # hides tuple.index, on purpose
    now_ms: int
    key: bytes
    found: tuple[str, bytes] | None


class FlowClient(Caller):
    """See the module."""

    def __init__(
        self, world: World, number: int, hosts: Callable[[], list[Host]], history: History, oracle: Oracle
    ) -> None:
        super().__init__(world, number, hosts, history)
        self.history = history
        self.oracle = oracle
        self._mark = number << 16

    def call(self) -> None:
        random = self.world.random
        self.idle = False
        verb = random.choices(("get", "put", "delete"), (4, 5, 1))[0]
        flows = random.sample(FLOWS, 1 if verb == "get" else random.randint(1, 3))
        if verb == "get":
            _FlowGet(self, flows[0].key()).begin()
        elif verb == "put":
            _FlowWrite(self, Kind.FLOW_PUT, encode_put(random.choice(ORIGINS), self._batch(flows))).begin()
        else:
            origin = random.choice(("", *ORIGINS))
            _FlowWrite(self, Kind.FLOW_DELETE, encode_delete(origin, [flow.key() for flow in flows])).begin()

    def _batch(self, flows: list[FlowTuple]) -> bytes:
        now_ms = int(EPOCH_NS / 1e6 + self.world.now * 1e3)
        life_ms = self.world.random.choice(LIVES_MS)
        self._mark += 1
        (batch,) = encode_batch(
            FlowRecord(flow, updated_ms=now_ms, deadline_ms=life_ms and now_ms + life_ms, mark=self._mark)
            for flow in flows
        )
        return batch


class _FlowCall(Attempt):
    def __init__(self, client: FlowClient, *, reads: bool) -> None:
        super().__init__(client, reads=reads)
        self.client = client
        self._index = client.history.index

    def given_up(self, *, unknown: bool) -> None:
        """The reference knows what the log has: nothing to remember."""

    def at(self, index: int, what: str, *, wrote: bool) -> None:
        """The answer is of this index."""
        history = self.client.history
        if index < self._index or (wrote and index == self._index):
            raise SimulationFailure(
                f"flow client {self.client.number}: {what} at {index}, but {self._index} was known before it began"
            )
        history.index = max(history.index, index)
        history.done += 1


class _FlowWrite(_FlowCall):
    def __init__(self, client: FlowClient, kind: Kind, body: bytes) -> None:
        super().__init__(client, reads=False)
        self._kind, self._body = kind, body

    def request(self, host: Host, name: SessionRef | None) -> Future[Any]:
        return host.node.propose(self._kind, self._body, session=name, timeout_s=TRY_TIMEOUT_S)

    def ended(self, result: Outcome) -> None:
        # A retry may be answered from memory, at the index of the retry: later than where it was carried out.
        self.at(result.index, self._kind.name, wrote=True)


class _FlowGet(_FlowCall):
    def __init__(self, client: FlowClient, key: bytes) -> None:
        super().__init__(client, reads=True)
        self._key = key

    def request(self, host: Host, name: SessionRef | None) -> Future[Any]:
        def look() -> _Look:
            state = host.node.state
            now_ms = host.wall_ms()
            (entry,) = state.flows_get([self._key], now_ms)
            found = None if entry is None else (entry.origin, entry.value)
            return _Look(state.position.index, now_ms, self._key, found)

        return read_then(host, look)

    def ended(self, result: _Look) -> None:
        self.at(result.index, "a look-up", wrote=False)
        model = self.client.oracle.states.flows
        expected = model.at(result.index, self._key, result.now_ms)
        if expected != result.found:
            raise SimulationFailure(
                f"flow client {self.client.number}: {self._key.hex()} at {result.index} is {result.found}, "
                f"expected {expected}"
            )
        if expected is None and model.at(result.index, self._key, 0) is not None:
            self.client.oracle.reached("a flow is hidden before it is expired")
