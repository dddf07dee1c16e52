"""The rules of membership (dissertation, chapter 4), with arithmetic of their own: not the core's.

A committed change alters at most one voter, or begins a joint configuration whose outgoing half is what was before, or
ends one; never zero voters; nobody is voter and learner; at most one change is not committed at any time.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final

from rocinante.raft.membership import decode_config
from rocinante.raft.types import Config, Entry

if TYPE_CHECKING:
    from .host import Host
    from .oracle import Oracle


TOLD_SIZES: Final = (1, 3, 5, 7)


class MembershipRules:
    """See the module."""

    def __init__(self, oracle: Oracle, config: Config) -> None:
        self._oracle = oracle
        self._indexes = [1]
        self._configs = [config]
        """Each committed one, with the index where it begins."""
        self.ever = set(config.members)
        """All that were members once."""
        self._joint_since = 0
        """The term of the entry that began the joint configuration."""

    @property
    def config(self) -> Config:
        return self._configs[-1]

    @property
    def index(self) -> int:
        """Of the last change."""
        return self._indexes[-1]

    def since(self, index: int) -> list[Config]:
        """All that were in force at `index` or after it."""
        return self._configs[bisect_right(self._indexes, index) - 1 :]

    def appended(self, host: Host) -> None:
        """A change came into this log."""
        log = host.node.driver.core.log
        pending = [index for index in log.config_indexes if index > self._oracle.commit_max]
        if len(pending) > 1:
            self._oracle.fail(f"{host.name} has changes of the membership at {pending}, none of them committed")

    def committed(self, entry: Entry) -> None:
        config, before = decode_config(entry.data), self.config
        if config is None:
            self._oracle.fail(f"the change at {entry.index} does not say its result")
            return
        if wrong := _wrong(before, config):
            self._oracle.fail(f"the change at {entry.index} {wrong}: {before} to {config}")
        self._tell(entry, before, config)
        self.ever |= config.members
        self._indexes.append(entry.index)
        self._configs.append(config)

    def _tell(self, entry: Entry, before: Config, config: Config) -> None:
        reached = self._oracle.reached
        if config.joint:
            self._joint_since = entry.term
            kept = len(config.voters & config.voters_outgoing)
            reached("joint configuration left by itself" if config.auto_leave else "joint configuration left by hand")
            if len(config.voters ^ config.voters_outgoing) > 2 or not kept:
                reached("joint configuration that changes three voters or more")
            if config.learners_next:
                reached("demotion staged until the joint configuration is left")
        elif before.joint:
            if entry.term != self._joint_since:
                reached("joint configuration left by a later leader")
        elif config.voters < before.voters:
            reached("voter demoted" if before.voters - config.voters <= config.learners else "voter removed")
        elif config.voters > before.voters:
            reached("learner promoted" if config.voters - before.voters <= before.learners else "voter added at once")
        elif config.learners > before.learners:
            reached("learner added")
        elif config.learners < before.learners:
            reached("learner removed")
        if not config.joint and len(config.voters) in TOLD_SIZES:
            reached(f"change to {len(config.voters)} voter{'s' if len(config.voters) > 1 else ''}")


def _wrong(before: Config, config: Config) -> str:
    if not config.voters:
        return "leaves no voter"
    if config.learners & (config.voters | config.voters_outgoing):
        return "makes somebody voter and learner"
    if before.joint:
        ends = not config.joint and config.voters == before.voters
        return (
            "" if ends and config.learners == before.learners | before.learners_next else "does not end what is joint"
        )
    if config.joint:
        return "" if config.voters_outgoing == before.voters else "forgets who voted before"
    return "changes several voters at once" if len(config.voters ^ before.voters) > 1 else ""
