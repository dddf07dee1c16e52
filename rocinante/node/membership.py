"""Who the members are, kept by the driver: it follows the configuration and tells the transport whom to talk to."""

from __future__ import annotations

import logging
from collections.abc import Callable

from rocinante import limits
from rocinante.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, StorageError, Unavailable
from rocinante.identity import format_id, server_id
from rocinante.node.apply import Restore
from rocinante.node.directory import decode_members, encode_members, split_snapshot
from rocinante.peers import Transport
from rocinante.ports import Member
from rocinante.raft.core import Raft
from rocinante.raft.membership import decode_change
from rocinante.raft.types import (
    Change,
    ChangeKind,
    Config,
    ConfigChange,
    Entry,
    InvalidChange,
    ProposalDropped,
    Role,
    SnapshotMeta,
)
from rocinante.storage.base import SnapshotStore

logger = logging.getLogger(__name__)


class Membership:
    """See the module. Only the driver calls what changes; `published` may be read by anybody."""

    def __init__(
        self,
        node_id: int,
        config: Config,
        members: dict[int, Member],
        *,
        transport: Transport,
        snapshots: SnapshotStore,
        on_removed: Callable[[], None],
        on_member: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_removed` and `on_member` are called on the driver's thread, in the middle of its turn: the one when a
        configuration or a peer says that this node is no member, the other when a configuration has it."""
        self._node_id = node_id
        self._transport = transport
        self._snapshots = snapshots
        self._on_removed = on_removed
        self._on_member = on_member
        self._members = dict(members)
        """All that were ever described: the YAML's, the snapshot's, the changes'."""
        self._config = config
        self.changed_at = 0
        """Index of the last change that this life of the node has applied."""
        self._knowing: set[int] = set()
        """Peers that said that this node is no member any more."""
        self._guests: set[int] = set()
        """Peers outside the configuration whom this node answers all the same (guests.py)."""
        self.published: tuple[tuple[Member, ...], bool] = ((), False)
        self._publish()

    @property
    def described(self) -> dict[int, Member]:
        return self._members

    def name_of(self, identifier: int) -> str:
        member = self._members.get(identifier)
        return member.name if member else format_id(identifier)

    def is_known(self, identifier: int) -> bool:
        """A member, or somebody of whom the YAML says that it may become one."""
        return identifier in self._config.members or (not self._config.members and identifier in self._members)

    def connect(self) -> None:
        """Talk to every member; a node that waits to be added has none and listens only."""
        for identifier in self._config.members or self._members:
            if identifier in self._members:
                self._transport.add(self._members[identifier])

    def _publish(self) -> None:
        learners = self._config.learners | self._config.learners_next
        rows = []
        for identifier in sorted(self._config.members):
            known = self._members.get(identifier)
            if known is not None:
                learner = identifier in learners and identifier not in self._config.voters
                rows.append(Member(known.id, known.name, known.address, known.port, known.rest, learner))
        rows.sort(key=lambda member: (member.name, member.id))
        self.published = (tuple(rows), self._config.joint)

    def _use(self, config: Config) -> None:
        self._config = config
        self._publish()
        self._guests -= config.members
        for identifier in self._transport.peers():
            if identifier not in config.members and identifier not in self._guests:
                self._transport.remove(identifier)
        self.connect()
        if self._node_id in config.members:
            self._knowing.clear()
            self._on_member()

    def meet(self, guest: Member) -> None:
        """Answer one who is ahead of this node, and perhaps leads it, though no configuration known here has it."""
        if guest.id not in self._guests and guest.id not in self._transport.peers():
            self._guests.add(guest.id)
            self._transport.add(guest)
            logger.info("%s (%s) is not known as a member here, but is ahead: answering it", guest.name, guest.endpoint)

    def part(self, identifier: int) -> None:
        """It turned out to be no member."""
        if identifier in self._guests:
            self._guests.discard(identifier)
            self._transport.remove(identifier)

    def changed(self, entry: Entry, config: Config) -> dict[int, Member]:
        """A CONFIG entry is committed; who is described now, for snapshots."""
        change = decode_change(entry.data)
        before = self._config
        self.changed_at = entry.index
        if change.context:
            self._members.update(decode_members(change.context))
        self._use(config)
        if config != before:
            logger.info("membership: %s", ", ".join(self._describe(config)))
        if self._node_id in before.members and self._node_id not in config.members:
            self._on_removed()
        return dict(self._members)

    def stranger_at(self, peer: int, index: int, commit: int) -> None:
        """A peer that has applied everything up to `index` says that this node, which knows of `commit`, is no member.

        Configurations have one order, the log's: if the peer is at least as far, this node was a member and is no
        longer. (A peer that is behind may not have heard of it yet.) The leader tells nobody that it was removed.
        """
        if index < commit:
            return
        self._knowing.add(peer)
        if self._node_id in self._config.members:
            self._on_removed()

    def others_know(self) -> bool:
        """A majority of the voters that are left refuse this node, and would after a restart: they need its vote no
        more. Should they restart before, they could count it in again, and never elect without it.
        """
        voters = self._config.voters - {self._node_id}
        return 2 * len(self._knowing & voters) > len(voters) or not voters

    def _describe(self, config: Config) -> list[str]:
        rows = [self.name_of(identifier) for identifier in sorted(config.voters)]
        rows += [f"{self.name_of(identifier)} (learner)" for identifier in sorted(config.learners)]
        return rows + [f"{self.name_of(i)} (leaving)" for i in sorted(config.voters_outgoing - config.voters)]

    def restore(self, meta: SnapshotMeta) -> Restore:
        """The leader's snapshot is part of the log now: its members count, and the state follows. Raises
        StorageError."""
        file = next((item for item in reversed(self._snapshots.list()) if item.meta.index == meta.index), None)
        if file is None:
            raise StorageError(f"the snapshot of index {meta.index}, which the leader sent, is missing or damaged")
        members, _ = split_snapshot(self._snapshots.read(file, limits.SNAPSHOT_CHUNK_BYTES))
        self._members.update(members)
        self.changed_at = meta.index
        self._use(meta.config)
        content = self._snapshots.read(file, limits.SNAPSHOT_CHUNK_BYTES)
        return Restore(meta, content, dict(self._members))

    # --- changes that clients ask for (on the driver's thread)

    def propose_add(self, core: Raft, member: Member, *, voter: bool) -> tuple[int, int]:
        """(index, term) of the entry. Raises RocinanteError."""
        if member.id in self._config.members:
            raise AlreadyExists(f"{member.endpoint} is a member already")
        if any(known.name == member.name for known in self.published[0]):
            raise AlreadyExists(f"name: {member.name!r} is taken by another member")
        kind = ChangeKind.ADD_VOTER if voter else ChangeKind.ADD_LEARNER
        return self._propose(core, ConfigChange((Change(kind, member.id),), context=encode_members([member])))

    def propose_promote(self, core: Raft, identifier: int) -> tuple[int, int]:
        if identifier not in self._config.members:
            raise NotFound(f"id: {format_id(identifier)} is not a member")
        if identifier not in self._config.learners:
            raise FailedPrecondition(f"{self.name_of(identifier)} is a voter already")
        peer = core.status().peers.get(identifier)
        if core.role is Role.LEADER and (peer is None or not peer.active or self._behind(core, peer.match)):
            lag = core.log.last_index - (peer.match if peer else 0)
            raise FailedPrecondition(
                f"{self.name_of(identifier)} is {lag} entries behind; promote it once it has caught up"
            )
        info = self._transport.info(identifier)
        if info is None:
            # While the log is short it is never far behind: nothing else tells one that was never started.
            raise FailedPrecondition(
                f"{self.name_of(identifier)} has not been heard from; promote it once it runs and has caught up"
            )
        if info.recovering:
            # It gives no vote yet (recovery.py): as a voter it would only make the quorum larger.
            raise FailedPrecondition(f"{self.name_of(identifier)} is still catching up; promote it in a moment")
        return self._propose(core, ConfigChange((Change(ChangeKind.ADD_VOTER, identifier),)))

    @staticmethod
    def _behind(core: Raft, match: int) -> bool:
        return core.log.last_index - match > limits.PROMOTE_LAG_ENTRIES_MAX

    def propose_remove(self, core: Raft, identifier: int) -> tuple[int, int]:
        if identifier not in self._config.members:
            raise NotFound(f"id: {format_id(identifier)} is not a member")
        return self._propose(core, ConfigChange((Change(ChangeKind.REMOVE, identifier),)))

    def _propose(self, core: Raft, change: ConfigChange) -> tuple[int, int]:
        try:
            return core.propose_change(change)
        except ProposalDropped as error:
            if core.role is Role.LEADER:
                raise Unavailable(f"not now: {error.reason}", leader=core.leader) from error
            where = f"ask {self.name_of(core.leader)}" if core.leader else "no leader is known"
            raise Unavailable(f"only the leader changes the membership; {where}", leader=core.leader) from error
        except InvalidChange as error:
            raise FailedPrecondition(str(error)) from error


def member_from(name: str, address: str, port: int, rest: int) -> Member:
    """Raises InvalidArgument naming the field."""
    if not name or len(name) > 63:
        raise InvalidArgument("name", "expected 1 to 63 characters")
    for field, value in (("port", port), ("rest", rest)):
        if not 1 <= value <= 65535:
            raise InvalidArgument(field, f"expected a port from 1 to 65535, got {value}")
    try:
        identifier = server_id(address, port)
    except ValueError:
        raise InvalidArgument("address", f"expected an IP address, got {address!r}") from None
    return Member(identifier, name, address, port, rest)
