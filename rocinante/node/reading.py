"""How the driver gets read points (ReadIndex, dissertation section 6.4).

All reads that came since the last turn share one round. A follower asks the leader for the point, and serves the read
itself once it has applied that far. A read changes nothing, so a failed round is simply asked for again until the
deadline.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from rocinante import limits
from rocinante.errors import Unavailable
from rocinante.node.proposing import FrameSender
from rocinante.node.requests import Read, WaitingReads
from rocinante.pb.v1 import peer_pb2 as pb
from rocinante.ports import ReadPoint
from rocinante.raft.core import Raft
from rocinante.raft.types import NONE, ReadNotPossible, ReadState, Role


class Reader:
    """See the module. Only the driver calls."""

    def __init__(self, core: Raft, waiting: WaitingReads, send_frame: FrameSender, applied: Callable[[], int]) -> None:
        self._core = core
        self._waiting = waiting
        self._send_frame = send_frame
        self._applied = applied
        self._next_context = random.SystemRandom().getrandbits(48) + 1
        """Not from 1: an answer to this node's former life must not be taken for one to a read of this life."""
        self._asked: dict[int, tuple[list[Read], float]] = {}
        """Context of a round under way → its reads, and when it was asked for (time.monotonic())."""
        self._remote: dict[int, tuple[int, int]] = {}
        """Context of a round for a follower → (follower, its own context)."""
        self._idle: list[Read] = []
        self._pause_until = 0.0
        self._place = (0, NONE)
        self.rounds = 0

    @property
    def waiting(self) -> int:
        return len(self._idle) + sum(len(reads) for reads, _ in self._asked.values())

    def take(self, reads: list[Read]) -> None:
        self._idle.extend(reads)

    def run(self) -> None:
        """Ask for the point of all reads that wait."""
        core = self._core
        place = (core.term, core.leader)
        if place != self._place:
            self._place = place
            self._pause_until = 0.0
            self._ask_again(list(self._asked))
        if not self._idle or len(self._asked) >= limits.READ_ROUNDS_MAX:
            return
        now = time.monotonic()
        if now < self._pause_until:
            return
        context = self._new_context()
        if core.role is Role.LEADER:
            try:
                core.read_index(context)
            except ReadNotPossible as error:
                self._refuse(str(error), now)
                return
        elif core.leader == NONE:
            self._refuse("there is no leader at the moment", now)
            return
        else:
            frame = pb.PeerMessage(read=pb.ReadRequest(context=context))
            if not self._send_frame(core.leader, frame, urgent=True):
                self._refuse("the leader cannot be reached from this node", now)
                return
        self.rounds += 1
        self._asked[context] = (self._idle, now)
        self._idle = []

    def _new_context(self) -> int:
        context = self._next_context
        self._next_context += 1
        return context

    def _refuse(self, reason: str, now: float) -> None:
        self._pause_until = now + limits.REFUSED_PAUSE_S
        for read in self._idle:
            read.refused = reason

    def _ask_again(self, contexts: list[int]) -> None:
        for context in contexts:
            reads, _ = self._asked.pop(context, ([], 0.0))
            self._idle.extend(read for read in reads if not read.future.done())

    def answered(self, states: tuple[ReadState, ...], failed: tuple[int, ...]) -> None:
        """What the core's Ready says."""
        for state in states:
            remote = self._remote.pop(state.context, None)
            if remote is None:
                self._point(state.context, state.index)
            else:
                self._core.hurry(remote[0])
                answer = pb.ReadResponse(context=remote[1], index=state.index)
                self._send_frame(remote[0], pb.PeerMessage(read_response=answer), urgent=True)
        for context in failed:
            remote = self._remote.pop(context, None)
            if remote is None:
                self._ask_again([context])
            else:
                self._answer_refused(*remote, "leadership was lost")

    def _point(self, context: int, index: int) -> None:
        reads, _ = self._asked.pop(context, ([], 0.0))
        applied = self._applied()
        ready = self._waiting.add(index, reads, applied)
        if not ready and reads and (now_applied := self._applied()) >= index:
            # The apply thread went past the index between the check and the add, and may not look again for long.
            ready = self._waiting.applied(now_applied)
            applied = now_applied
        for read in ready:
            if not read.future.done():
                read.future.set_result(ReadPoint(applied, 0))

    def take_request(self, sender: int, request: pb.ReadRequest) -> None:
        """A follower asks for a point."""
        if len(self._remote) >= limits.READ_ROUNDS_MAX:
            self._answer_refused(sender, request.context, "too many reads wait at the leader")
            return
        context = self._new_context()
        try:
            self._core.read_index(context)
        except ReadNotPossible as error:
            self._answer_refused(sender, request.context, str(error))
            return
        self._remote[context] = (sender, request.context)

    def _answer_refused(self, to: int, context: int, reason: str) -> None:
        answer = pb.ReadResponse(context=context, refused=reason)
        self._send_frame(to, pb.PeerMessage(read_response=answer), urgent=True)

    def take_response(self, response: pb.ReadResponse) -> None:
        if not response.refused:
            self._point(response.context, response.index)
            return
        reads, _ = self._asked.get(response.context, ([], 0.0))
        self._ask_again([response.context])
        for read in reads:
            read.refused = f"the leader refused it: {response.refused}"
        self._pause_until = time.monotonic() + limits.REFUSED_PAUSE_S

    def sweep(self, now: float) -> None:
        """Now and then: give up what is late, ask again where no answer came."""
        if self._core.role is not Role.LEADER:
            self._ask_again([at for at, (_, asked) in self._asked.items() if now - asked > limits.READ_RETRY_S])
        kept = []
        for read in self._idle:
            if read.future.done():
                continue
            if read.deadline <= now:
                read.future.set_exception(Unavailable(read.refused or "no read point came in time"))
            else:
                kept.append(read)
        self._idle = kept
        self._waiting.give_up_late(now)
        for context in list(self._asked):
            reads, asked = self._asked[context]
            late = [read for read in reads if read.deadline <= now and not read.future.done()]
            for read in late:
                read.future.set_exception(Unavailable("the leader did not confirm its leadership in time"))
            left = [read for read in reads if not read.future.done()]
            if left:
                self._asked[context] = (left, asked)
            elif late:
                del self._asked[context]
