"""A node without a past must not vote as if it had none.

A voter whose data directory was lost has forgotten whom it voted for and what it acknowledged. If it voted again, an
entry that it once helped to commit could be lost (reference: "a wiped node votes again under its old id"). From
inside, it cannot be told from a node that starts for the very first time. So every node that starts empty holds back
its vote, and does not campaign, until it knows that no harm can come of it:

- *new cluster*: a majority of the configured voters, itself included, are all new: none has more than what the
  cluster began with, which is nothing, or the snapshot that it was restored from; or
- *caught up*: it heard from so many others (n // 2 + 1 of them) that they share a member with every quorum it may
  ever have voted in, its own term is at least the highest of theirs, and it has applied everything that was committed
  and all that the leader had in its log when it asked (an acknowledgement of its former life may still be on its way
  to the leader, and commit an entry then). What it acknowledged once, it has again; in no term that it may have voted
  in does it vote once more.

Until then it takes entries and acknowledges them like any other node. The state survives a restart as a marker file.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from rocinante.pb.v1 import peer_pb2 as pb
from rocinante.raft.core import Raft
from rocinante.raft.types import Message, MessageType

logger = logging.getLogger(__name__)

_ASKS_FOR_A_VOTE = frozenset({MessageType.VOTE, MessageType.PRE_VOTE, MessageType.TIMEOUT_NOW})

BOOTSTRAP_INDEX = 1
"""Every new cluster starts from the same snapshot at this index and term: its members, and nothing else."""
CATCHING_UP: Final = "CATCHING-UP"
"""The marker's name in a data directory."""
_BASE: Final = re.compile(r"^begun from (\d+) of term (\d+)$", re.MULTILINE)


class Marker:
    """Survives a restart: this directory belongs to a node that has not caught up yet."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def exists(self) -> bool:
        return self._path is not None and self._path.exists()

    def set(self, base: tuple[int, int] = (BOOTSTRAP_INDEX, BOOTSTRAP_INDEX)) -> None:
        """`base`: index and term of the snapshot that the cluster begins with."""
        if self._path is not None:
            with self._path.open("w") as file:
                file.write("this node started without data and has not caught up with its cluster yet\n")
                file.write(f"begun from {base[0]} of term {base[1]}\n")
                file.flush()
                os.fsync(file.fileno())
            self._sync_directory(self._path.parent)

    def base(self) -> tuple[int, int]:
        """What `set` was told."""
        if self._path is None or not self._path.exists():
            return BOOTSTRAP_INDEX, BOOTSTRAP_INDEX
        found = _BASE.search(self._path.read_text(errors="replace"))
        return (int(found[1]), int(found[2])) if found else (BOOTSTRAP_INDEX, BOOTSTRAP_INDEX)

    def clear(self) -> None:
        if self._path is not None and self._path.exists():
            self._path.unlink()
            self._sync_directory(self._path.parent)

    @staticmethod
    def _sync_directory(directory: Path) -> None:
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class Recovery:
    """See the module. Only the driver calls."""

    def __init__(
        self,
        core: Raft,
        marker: Marker,
        *,
        active: bool,
        on_done: Callable[[], None],
        base: tuple[int, int] = (BOOTSTRAP_INDEX, BOOTSTRAP_INDEX),
    ) -> None:
        self._core = core
        self._marker = marker
        self._on_done = on_done
        self._base_index, self._base_term = base
        self._infos: dict[int, pb.NodeInfo] = {}
        self.active = active
        self._target = 0
        self._adopted_term = 0
        """The term whose vote was adopted and may not be durable yet, else 0."""
        self.withheld = 0
        if active:
            self._check()

    def admits(self, message: Message) -> bool:
        """False: it asks for what this node must not give yet.

        A leader that has not heard of the loss may tell a commit index that this node acknowledged in its former life;
        to the core that would be the end. It holds for what is in the log, and the rest follows.
        """
        if not self.active:
            return True
        if message.type in _ASKS_FOR_A_VOTE:
            self.withheld += 1
            return False
        if message.type is MessageType.HEARTBEAT:
            message.commit = min(message.commit, self._core.log.last_index)
        return True

    def heard(self, sender: int, info: pb.NodeInfo) -> None:
        """What a peer says of itself."""
        if not self.active:
            return
        known = self._infos.setdefault(sender, info)
        if (info.term, info.last_index, info.commit) > (known.term, known.last_index, known.commit):
            self._infos[sender] = info
        self._check()

    def check(self) -> None:
        """Now and then, and when the core moved on."""
        if self.active:
            self._check()
        elif self._adopted_term:
            # Only once the adopted vote is on the disk may a restart believe that this node remembers.
            durable = self._core.durable
            if durable.term > self._adopted_term or (durable.term == self._adopted_term and durable.vote):
                self._adopted_term = 0
                self._marker.clear()

    def _check(self) -> None:
        voters = self._core.config.voters
        others = {peer: info for peer, info in self._infos.items() if peer in voters and peer != self._core.id}
        is_voter = self._core.id in voters
        fresh = [
            info for info in others.values() if info.last_index <= self._base_index and info.term <= self._base_term
        ]
        majority = len(voters) // 2 + 1
        if is_voter and len(fresh) == len(others) and len(fresh) + 1 >= majority:
            if self._core.log.last_index <= self._base_index:
                self._done("a majority of the voters is new: this is a new cluster")
            return
        core = self._core
        enough = bool(voters) and len(others) >= min(majority, len(voters - {core.id}))
        if not enough or core.leader not in others:
            return
        if not self._target:
            committed = max(info.commit for info in others.values())
            self._target = max(BOOTSTRAP_INDEX, committed, others[core.leader].last_index)
        if core.term >= max(info.term for info in others.values()) and core.log.applied >= self._target:
            core.adopt_vote()
            self._adopted_term = core.term
            self._done(f"caught up to entry {core.log.applied} in term {core.term}")

    def _done(self, why: str) -> None:
        self.active = False
        if not self._adopted_term:
            self._marker.clear()
        logger.info("this node started without data; it votes from now on: %s", why)
        self._on_done()

    @property
    def reason(self) -> str:
        """For people, while it is active."""
        return "started without data: takes entries, gives no vote before it has caught up" if self.active else ""
