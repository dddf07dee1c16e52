"""The gRPC switch, and handing leadership over: both begin on one thread and end on another.

Switched off, the node is *not ready*: it takes no protocol or client message by gRPC, and REST goes on. A leader
hands over first.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from rocinante import limits
from rocinante.errors import FailedPrecondition, RocinanteError, Unavailable
from rocinante.pb.v1 import peer_pb2 as pb
from rocinante.raft.types import NONE, RaftError, Role

if TYPE_CHECKING:
    from rocinante.node.node import Node
    from rocinante.services.server import GrpcServer

logger = logging.getLogger(__name__)


class Switch:
    """See the module. `set` may be called from any thread, `hand_over` from any that may wait, `transfer` from the
    driver's only."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._lock = threading.Lock()
        self._carrying = threading.Lock()
        """One change takes effect after the other, and only the one that is still wanted."""
        self.enabled = True
        self.removed = False
        """What the latest configuration says; it may say otherwise later, as long as this node listens."""
        self.gone = False
        """Removed, and not needed by the others any more."""
        self.server: GrpcServer | None = None
        self._asked = NONE
        """Who is to lead. (Written on the driver's thread.)"""
        self._passed_over: set[int] = set()
        """Who was asked and did not, in the present hand-over."""

    @property
    def open(self) -> bool:
        """Whether the node takes part once it is ready. Who was removed does until the others know, after a restart
        too: by what they know they may need its vote."""
        return self.enabled and not self.gone

    def set(self, enabled: bool) -> None:
        """Takes effect in the background; the status shows at once what is wanted."""
        with self._lock:
            if enabled == self.enabled:
                return
            self.enabled = enabled
        threading.Thread(target=self._carry_out, args=(enabled,), name="grpc-switch", daemon=True).start()

    def _carry_out(self, enabled: bool) -> None:
        node = self._node
        logger.warning("gRPC is switched %s", "on" if enabled else "off")
        if not enabled:
            self.hand_over(limits.SWITCH_TIMEOUT_S)
        with self._carrying:
            if self.enabled != enabled or node.stopping.is_set():
                return
            if not enabled:
                self._leave("gRPC is switched off")
                return
            if self.gone:
                return
            node.ingress.put_act(node.transport.resume)
            if node.left_not_ready.is_set():  # a node that still starts looks at `enabled` when it is ready
                if self.server is not None:
                    self.server.set_serving(True)
                node.ingress.put_act(node.driver.core.set_ready)

    def _leave(self, reason: str) -> None:
        """Not ready from now on; who waits hears of it, and may go to another node."""
        node = self._node

        def leave() -> None:
            node.driver.core.set_not_ready()
            node.transport.pause()
            for proposal in node.pending.outstanding():
                node.pending.give_up(proposal, f"not ready: {reason}")

        node.ingress.put_act(leave)
        if self.server is not None:
            self.server.set_serving(False, reason)

    def remove(self) -> None:
        """This node is no member any more. (On the driver's thread.)

        It takes no more requests, but leaves only after a while, when the others know: that its removal is committed
        may be on its way to them, from this very node. Until then they count it in, and may need its vote. And the
        removal may be of a former life: who catches up after it was added again meets it in the log, before the
        addition.
        """
        if not self.removed:
            self.removed = True
            logger.warning("this node was removed from the cluster; it takes no more part")
            self._node.driver.later(limits.REMOVED_LINGER_S, self._leave_for_good)

    def take_back(self) -> None:
        """A configuration has this node. (On the driver's thread.)"""
        if self.removed and not self.gone:
            self.removed = False
            logger.warning("this node was added to the cluster again")

    def _leave_for_good(self) -> None:
        if not self.removed or self.gone:
            return
        status = self._node.driver.core.status()
        timers = self._node.config.timers
        if status.leader not in (NONE, status.id) and status.leader_silent_ticks * timers.tick_ms < timers.election_ms:
            # Somebody leads this node, so it is a member: by what it knows, and only a peer was behind; or by what it
            # has not heard of yet.
            if self._node.membership.is_known(status.id):
                self.take_back()
            else:
                self._node.driver.later(limits.REMOVED_LINGER_S, self._leave_for_good)
            return
        if not self._node.membership.others_know():
            self._node.driver.later(limits.REMOVED_LINGER_S, self._leave_for_good)
            return
        self.gone = True
        self._leave("the node was removed from the cluster")

    # --- leadership

    def hand_over(self, timeout_s: float) -> None:
        """If it leads and somebody else can: let them. (On a thread that may wait.)

        Each of the others gets an election timeout, after which the core gives a transfer up: a host that stands still,
        or a message that got lost, must not cost all the time there is.
        """
        node = self._node
        if node.driver.beat.status.role is not Role.LEADER:
            return
        try:
            self._ask_in_turn(time.monotonic() + timeout_s)
        finally:
            self._passed_over.clear()

    def _ask_in_turn(self, end: float) -> None:
        node = self._node
        moved = node.transfer_leader()
        while True:
            try_s = min(node.config.timers.election_ms / 1000, max(0.0, end - time.monotonic()))
            try:
                leader = moved.result(try_s)
            except RocinanteError as error:
                logger.warning("leadership could not be handed over: %s", error)
                return
            except TimeoutError:
                if time.monotonic() >= end:
                    logger.warning("leadership could not be handed over: time is up")
                    return
                if node.driver.beat.status.role is Role.LEADER:
                    self._passed_over.add(self._asked)
                    moved = node.transfer_leader()
                continue
            logger.info("handed leadership over to %s", node.membership.name_of(leader))
            return

    def transfer(self, to: int) -> None:
        """Begin to move leadership, here or by asking the leader to. Raises RocinanteError."""
        core = self._node.driver.core
        if core.role is Role.LEADER:
            target = to or self._best_voter()
            try:
                core.transfer(target)
            except RaftError as error:
                raise FailedPrecondition(f"to: {error}") from error
            self._asked = target
            logger.info("handing leadership over to %s", self._node.membership.name_of(target))
            return
        if core.leader == NONE:
            raise Unavailable("no leader is known, so there is nothing to move")
        frame = pb.PeerMessage(transfer=pb.TransferRequest(to=to))
        if not self._node.transport.send_frame(core.leader, frame, urgent=True):
            raise Unavailable("the leader cannot be reached from this node", leader=core.leader)

    def _best_voter(self) -> int:
        """The most up-to-date of the others that are connected; one that was asked already comes last."""
        node = self._node
        status = node.driver.core.status()
        others = [
            (identifier not in self._passed_over, peer.match, identifier)
            for identifier, peer in status.peers.items()
            if not peer.learner and identifier != node.id and node.transport.connected(identifier)
        ]
        if not others:
            raise Unavailable("no other voter is connected, so nobody can take over")
        return max(others)[-1]
