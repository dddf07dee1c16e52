"""What clients ask of the driver, and the bounded buffer in which it waits.

`Ingress` is the one way into the driver: protocol messages, proposals, reads and acts (calls to run on the driver's
thread), each with a bound of its own. The driver takes everything at once; protocol messages come first, so that a
flood of proposals cannot cost a leader its term.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from rocinante import limits
from rocinante.errors import ResourceExhausted, Unavailable
from rocinante.pb.v1 import peer_pb2 as pb
from rocinante.ports import Outcome, ReadPoint
from rocinante.raft.types import Message
from rocinante.state.command import unframed


@dataclass(slots=True, eq=False)
class Proposal:
    """A command of a client of this node, from its arrival to its outcome."""

    frame: bytes
    """The command as it will stand in an entry."""
    session: int
    seq: int
    deadline: float
    """time.monotonic()"""
    future: Future[Outcome]
    gateway: bool
    """It goes under the node's own session, so the node may give it a new one."""
    once: bool = False
    """It opens a session, and is placed once at most: a second one that arrives when the session has been used and
    closed would open it again without a memory, and what is repeated under it would be carried out twice."""
    tries: int = 0
    """How often it was proposed or forwarded; what was never tried has certainly not happened."""
    refused: str = ""
    """Why the last try was not taken."""
    exhausted: bool = False

    @property
    def command(self) -> bytes:
        """Without its frame."""
        return unframed(self.frame)

    @property
    def key(self) -> tuple[int, int]:
        return self.session, self.seq


@dataclass(slots=True, eq=False)
class Read:
    """A client of this node waits for a linearizable read point."""

    deadline: float
    future: Future[ReadPoint]
    refused: str = ""


@dataclass(slots=True)
class Work:
    """All that the driver takes from the ingress in one go."""

    messages: list[Message] = field(default_factory=list)
    frames: list[tuple[int, pb.PeerMessage]] = field(default_factory=list)
    """(sender, frame): forwarded requests, read points, node information."""
    proposals: list[Proposal] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    acts: list[Callable[[], None]] = field(default_factory=list)


class Ingress:
    """See the module. Thread-safe; only the driver takes."""

    def __init__(self, *, proposals_max: int, bytes_max: int) -> None:
        self._proposals_max = proposals_max
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._work = Work()
        self._scheduled = False
        self.on_work: Callable[[], None] = lambda: None
        """Called (from the thread that puts) when there is something to take after there was nothing."""
        self.waiting = 0
        """Proposals that were taken in and have no outcome yet; the bound holds for them too."""
        self.waiting_bytes = 0
        self.refused = 0
        self.messages_dropped = 0

    def set_limits(self, proposals_max: int, bytes_max: int) -> None:
        """New bounds (SIGHUP), for what comes from now on."""
        self._proposals_max, self._bytes_max = proposals_max, bytes_max

    def put_messages(self, messages: list[Message], frames: list[tuple[int, pb.PeerMessage]]) -> None:
        """Beyond the bound the newest are dropped: Raft sends again."""
        with self._lock:
            room = limits.INGRESS_MESSAGES_MAX - len(self._work.messages) - len(self._work.frames)
            if len(messages) + len(frames) > room:
                self.messages_dropped += len(messages) + len(frames)
                return
            self._work.messages.extend(messages)
            self._work.frames.extend(frames)
            wake, self._scheduled = not self._scheduled, True
        if wake:
            self.on_work()

    def put_proposal(self, proposal: Proposal) -> None:
        """Raises ResourceExhausted when the buffer is full."""
        size = len(proposal.frame)
        with self._lock:
            if self.waiting >= self._proposals_max or (self.waiting and self.waiting_bytes + size > self._bytes_max):
                self.refused += 1
                raise ResourceExhausted(
                    f"too many requests wait ({self.waiting}, {self.waiting_bytes} bytes); try again in a short while"
                )
            self.waiting += 1
            self.waiting_bytes += size
            self._work.proposals.append(proposal)
            wake, self._scheduled = not self._scheduled, True
        if wake:
            self.on_work()

    def proposal_done(self, proposals: int, size_bytes: int) -> None:
        """Their outcome is known, or given up: there is room for others."""
        with self._lock:
            self.waiting -= proposals
            self.waiting_bytes -= size_bytes

    def put_read(self, read: Read) -> None:
        """Raises ResourceExhausted when the buffer is full."""
        with self._lock:
            if len(self._work.reads) >= limits.INGRESS_READS_MAX:
                self.refused += 1
                raise ResourceExhausted("too many reads wait; try again after a short while")
            self._work.reads.append(read)
            wake, self._scheduled = not self._scheduled, True
        if wake:
            self.on_work()

    def put_act(self, act: Callable[[], None]) -> None:
        """Have `act` run on the driver's thread. Raises Unavailable when absurdly many wait (the driver stands
        still).
        """
        with self._lock:
            if len(self._work.acts) >= limits.INGRESS_MESSAGES_MAX:
                raise Unavailable("the node does not keep up")
            self._work.acts.append(act)
            wake, self._scheduled = not self._scheduled, True
        if wake:
            self.on_work()

    def take(self) -> Work:
        """All that waits, at once."""
        with self._lock:
            self._scheduled = False
            work, self._work = self._work, Work()
        return work


class WaitingReads:
    """Read points that wait until the state machine has come far enough. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[tuple[int, list[Read]]] = deque()

    def __len__(self) -> int:
        """Rounds and single waits."""
        return len(self._waiting)

    def add(self, index: int, reads: list[Read], applied: int) -> list[Read]:
        """Those that need not wait come back at once."""
        if index <= applied:
            return reads
        with self._lock:
            self._waiting.append((index, reads))
        return []

    def applied(self, index: int) -> list[Read]:
        """Those whose time has come."""
        if not self._waiting:
            return []
        due: list[Read] = []
        with self._lock:
            kept = [item for item in self._waiting if item[0] > index]
            for at, reads in self._waiting:
                if at <= index:
                    due.extend(reads)
            self._waiting = deque(kept)
        return due

    def give_up_late(self, now: float) -> None:
        """Fail those whose time is up, so that a state machine that stands still gathers no reads."""
        if not self._waiting:
            return
        late: list[Read] = []
        with self._lock:
            kept: deque[tuple[int, list[Read]]] = deque()
            for at, reads in self._waiting:
                late.extend(read for read in reads if read.deadline <= now)
                if left := [read for read in reads if read.deadline > now]:
                    kept.append((at, left))
            self._waiting = kept
        for read in late:
            if not read.future.done():
                read.future.set_exception(Unavailable("this node did not come as far as the read point in time"))
