"""What `services/` and `rest/` see of the node: one small protocol, so that they never import it.

Futures are `concurrent.futures.Future`: a waitress worker waits on `.result(timeout)`, the gRPC loop turns them into
its own. They are completed by the node's threads; a callback must be short and must not block. A future fails with a
`RocinanteError`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from rocinante import limits
from rocinante.errors import InvalidArgument
from rocinante.identity import endpoint, server_id
from rocinante.state.command import Kind
from rocinante.state.events import AppliedEvents
from rocinante.state.machine import StateMachine


class SessionRef(NamedTuple):
    """A client's name for one request (dissertation, section 6.3)."""

    session: int
    seq: int
    ack: int = 0


class Outcome(NamedTuple):
    """A command was committed and applied here. `result` is what the state machine answered: a message of
    `rocinante.pb` or None.

    A command that the state machine refused (a compacted revision, an unknown session, …) fails the future instead.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index
    term: int
    result: object


class ReadPoint(NamedTuple):
    """The state may be read now: everything up to `index` is applied on this node."""

    index: int  # type: ignore[assignment]  # hides tuple.index
    age_ms: int
    """0 for a linearizable read; else the time since this node last heard from a leader (-1: never)."""


class LogLine(NamedTuple):
    index: int  # type: ignore[assignment]  # hides tuple.index
    term: int
    kind: str
    size_bytes: int
    commands: tuple[str, ...]
    committed: bool


@dataclass(frozen=True, slots=True)
class Member:
    """A member of the cluster as its configuration has it."""

    id: int
    name: str
    address: str
    port: int
    rest: int
    learner: bool = False

    @property
    def endpoint(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


def described_member(address: str, port: int, *, name: str, rest: int) -> Member:
    """The member that somebody wants to add; its id comes from its address, its name too where it has none. Raises
    InvalidArgument.
    """
    try:
        ip = str(ipaddress.ip_address(address))
    except ValueError:
        raise InvalidArgument("address", f"{address!r:.80} is not an IP address") from None
    if not 1 <= port <= 65535:
        raise InvalidArgument("port", f"{port} is not a port (1 to 65535)")
    if not 0 <= rest <= 65535:
        raise InvalidArgument("rest", f"{rest} is not a port (0 to 65535)")
    name = name or endpoint(ip, port)
    if len(name.encode(errors="surrogatepass")) > limits.NAME_BYTES_MAX or not name.isprintable():
        raise InvalidArgument("name", f"expected at most {limits.NAME_BYTES_MAX} printable bytes")
    return Member(server_id(ip, port), name, ip, port, rest)


@dataclass(frozen=True, slots=True)
class PeerView:
    """How this node sees another. `state`, `match` and `lag` are the leader's view, else "" and 0."""

    member: Member
    connected: bool
    heard_ms: int
    """Since the last message from it; -1: never."""
    state: str = ""
    match: int = 0
    lag: int = 0
    """Entries behind the leader's last index (the leader's view), or behind this node's commit (everybody else's)."""
    role: str = ""
    """This and the following: what the peer last said of itself; "" and 0 when it never did."""
    term: int = 0
    commit: int = 0
    applied: int = 0
    version: str = ""


@dataclass(frozen=True, slots=True)
class NodeStatus:
    id: int
    name: str
    address: str
    port: int
    rest: int
    role: str
    """not_ready, follower, candidate or leader."""
    term: int
    leader: int
    commit: int
    applied: int
    last_index: int
    first_index: int
    revision: int
    keys: int
    flows: int
    storage: str
    cluster: str
    datacenter: str
    cluster_id: int
    uptime_ms: int
    grpc_enabled: bool
    not_ready_reason: str = ""
    peers: tuple[PeerView, ...] = ()
    alarms: tuple[str, ...] = ()
    log_bytes: int = 0
    """On disk (or in memory, for the memory engine)."""
    snapshot_index: int = 0
    lineage: str = ""
    """The word that the cluster was restored under; "": it began empty."""

    def leader_member(self) -> Member | None:
        """Who leads, where known: this node itself or one of its peers."""
        if self.leader == self.id:
            return Member(self.id, self.name, self.address, self.port, self.rest)
        return next((peer.member for peer in self.peers if peer.member.id == self.leader), None)


class SnapshotInfo(NamedTuple):
    index: int  # type: ignore[assignment]  # hides tuple.index
    term: int
    size_bytes: int
    digest: bytes


class Watch(Protocol):
    """A bounded queue of what was applied, filled by the node, read by one consumer."""

    def get(self, timeout_s: float) -> AppliedEvents | None:
        """The next entry's events in log order; None when nothing came in time.

        Raises OutOfRange when the watcher fell behind or asked for what is no longer kept: it must start again from a
        snapshot; raises Unavailable when the node stops.
        """

    def on_events(self, wake: WakeUp) -> None:
        """Call `wake()` (from a node thread; short, not blocking) whenever `get` may have something."""

    def close(self) -> None: ...


class WakeUp(Protocol):
    def __call__(self) -> None: ...


class NodePort(Protocol):
    """The node, as its interfaces see it. All methods may be called from any thread and return without blocking."""

    @property
    def state(self) -> StateMachine:
        """For reading only. Each of its reading methods takes its lock for a bounded time."""

    def propose(
        self, kind: Kind, body: bytes, *, session: SessionRef | None = None, timeout_s: float | None = None
    ) -> Future[Outcome]:
        """Have a command committed and applied here; a follower forwards it to the leader.

        Raises at once, or fails the future, with: Unavailable (not ready, no leader within the time; certain: not
        done), ResourceExhausted (the ingress buffer is full), OutcomeUnknown (time is up; it may still happen), or
        whatever the state machine refuses it with.
        """

    def now_ms(self) -> int:
        """The cluster's time (unix ms), by which flows end: what is past its deadline by it is hidden."""

    def prepare_flows(self, batch: bytes | memoryview) -> bytes | memoryview:
        """A checked batch as it goes into the log: with a deadline for each record that states none. About 5 ms for
        65,536 records."""

    def read(self, *, linearizable: bool = True, timeout_s: float | None = None) -> Future[ReadPoint]:
        """When the state may be read: after a ReadIndex round (linearizable), or at once."""

    def wait_applied(self, index: int, *, timeout_s: float | None = None) -> Future[ReadPoint]:
        """When this node's own state has the log index. Raises or fails with Unavailable (not ready, or it does not
        come so far in time); ResourceExhausted (too many wait)."""

    def watch(self, from_index: int = 0) -> Watch:
        """Events of all entries after `from_index` (0: from now on). Raises OutOfRange, ResourceExhausted."""

    def status(self) -> NodeStatus: ...

    def members(self) -> tuple[tuple[Member, ...], bool]:
        """All members, and whether a membership change is under way."""

    def add_member(self, member: Member, *, voter: bool) -> Future[int]:
        """The index at which the change is committed. Raises InvalidArgument, AlreadyExists, FailedPrecondition,
        Unavailable.
        """

    def promote_member(self, identifier: int) -> Future[int]: ...

    def remove_member(self, identifier: int) -> Future[int]: ...

    def transfer_leader(self, to: int = 0) -> Future[int]:
        """The id of the new leader, once it leads. `to` 0: the most up-to-date voter."""

    def set_grpc(self, enabled: bool) -> None:
        """Off: not ready; the node takes no protocol or client message by gRPC until it is switched on again. A
        leader hands over first.
        """

    def stop(self) -> None:
        """Begin a graceful stop, as by SIGTERM."""

    def snapshot(self) -> Future[SnapshotInfo]:
        """Take a snapshot now and compact the log behind it."""

    def save(self) -> tuple[SnapshotInfo, Iterator[bytes]]:
        """The latest snapshot file, taken now, in chunks: an online backup."""

    def log(self, last: int, *, committed: bool = False) -> Sequence[LogLine]:
        """The last entries of the log as this node has it, oldest first."""

    def digest(self, at_index: int = 0) -> Future[tuple[int, bytes, int]]:
        """(index, BLAKE2b-256 of the whole state after that entry, revision), once `at_index` is applied."""

    def metrics(self) -> dict[str, float]:
        """Everything that is counted or measured in the node, by Prometheus name (without the `rocinante_` prefix);
        labels in braces.
        """
