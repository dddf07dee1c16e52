"""Peers that are in no configuration that this node knows: newcomers whose addition it has not applied yet, or removed.

Raft needs the former: a node takes entries from a leader, and gives votes to candidates, that are not in its own latest
configuration (dissertation, section 4.1). A voter that was away while another was added could else be led by that one
never again. So a stranger is welcome as long as it may know more than this node, and is told so when it does not:
configurations have one order, the log's.
"""

from __future__ import annotations

from collections.abc import Iterable

from rocinante import limits
from rocinante.identity import server_id
from rocinante.pb.v1 import peer_pb2 as pb
from rocinante.ports import Member
from rocinante.raft.types import MessageType


class Guests:
    """See the module. Only the driver's thread calls."""

    def __init__(self) -> None:
        self._members: dict[int, Member] = {}
        self._commits: dict[int, int] = {}
        """Sender → the highest commit index that it told on its present stream."""

    def greet(self, hello: pb.Hello) -> None:
        """Remember where to answer. What does not fit its id is not believed.

        How far it was when it was last refused does not count any more: it dials again to tell what it knows now.
        """
        self._commits.pop(hello.sender, None)
        try:
            fits = bool(hello.address) and server_id(hello.address, hello.port) == hello.sender
        except ValueError:
            fits = False
        if fits:
            self._members[hello.sender] = Member(hello.sender, hello.name, hello.address, hello.port, 0)
            while len(self._members) > limits.PEER_GUESTS_MAX:
                gone = next(iter(self._members))
                del self._members[gone]
                self._commits.pop(gone, None)

    def heard(self, sender: int, frames: Iterable[pb.PeerMessage]) -> None:
        """How far it is, by what it says of itself."""
        if sender not in self._members:
            return
        for frame in frames:
            kind = frame.WhichOneof("message")
            if kind == "raft" and frame.raft.type != MessageType.APPEND:
                continue  # a heartbeat's commit index is no more than this node is known to hold
            commit = frame.info.commit if kind == "info" else frame.raft.commit if kind == "raft" else 0
            if commit > self._commits.get(sender, 0):
                self._commits[sender] = commit

    def ahead(self, sender: int, applied: int) -> Member | None:
        """Its address, if it is known to be further than this node: it may be a member that this node will hear of."""
        return self._members.get(sender) if self._commits.get(sender, 0) > applied else None

    def is_stranger(self, sender: int, applied: int) -> bool:
        """It is in no configuration up to `applied`, and knows of nothing behind that."""
        return sender not in self._members or 0 < self._commits.get(sender, 0) <= applied
