"""Who leads, in the form that every answer carries: `rocinante-leader: IP:PORT` in the trailing metadata.

`NodePort.status()` builds a whole picture of the cluster, which is too much for each call, so it is looked at no
more often than every `LEADER_VIEW_AGE_S_MAX`. A client takes the leader as a hint; one that is 50 ms old costs it a
forwarded request at worst.
"""

from __future__ import annotations

from collections.abc import Callable

from rocinante import limits
from rocinante.ports import NodePort, NodeStatus

LEADER_KEY = "rocinante-leader"
Metadata = tuple[tuple[str, str], ...]


class LeaderView:
    """This node's picture of itself and its leader, at most `limits.LEADER_VIEW_AGE_S_MAX` old. Used on the
    event loop only."""

    def __init__(self, node: NodePort, now_s: Callable[[], float]) -> None:
        self._node = node
        self._now_s = now_s
        self._read_at_s = float("-inf")
        self._status: NodeStatus | None = None
        self._metadata: Metadata = ()

    def status(self) -> NodeStatus:
        now_s = self._now_s()
        if self._status is None or now_s - self._read_at_s > limits.LEADER_VIEW_AGE_S_MAX:
            return self._refresh(now_s)
        return self._status

    def metadata(self) -> Metadata:
        """For the trailing metadata; empty where the leader is not known."""
        self.status()
        return self._metadata

    def fresh_metadata(self) -> Metadata:
        """For the answer to a call that failed, which may be because the leader has just changed."""
        self._refresh(self._now_s())
        return self._metadata

    def _refresh(self, now_s: float) -> NodeStatus:
        status = self._node.status()
        leader = status.leader_member()
        self._status, self._read_at_s = status, now_s
        self._metadata = () if leader is None else ((LEADER_KEY, leader.endpoint),)
        return status
