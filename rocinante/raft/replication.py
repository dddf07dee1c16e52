"""Replication: what the leader sends to each peer, what the answers mean, and what is committed by them.

Contract: appends are not sent when something happens but when the next Ready is made: `flush` writes at most one
append to each peer, with as many entries as `max_append_bytes` allows, so that all proposals between two Readys share
it. `due` says that a flush would send something.

`matches` is the input of the commit rule: what each peer, and this node's own disk, is known to hold. Only entries of
the leader's own term are committed by counting (paper, section 5.4.2, figure 8); those before them come along.
"""

from __future__ import annotations

from .progress import NO_NUDGE, Inflights, Progress, ProgressState
from .quorum import Vote, joint_commit, joint_vote
from .server import Server
from .types import Config, Entry, Message, MessageType

_APPEND = MessageType.APPEND
_PROBE = ProgressState.PROBE
_REPLICATE = ProgressState.REPLICATE
_SNAPSHOT = ProgressState.SNAPSHOT


class Replication:
    """The peers of one leader in one term."""

    __slots__ = ("bump_due", "due", "matches", "peers", "server", "term_start")

    def __init__(self, server: Server) -> None:
        self.server = server
        self.due = False
        self.bump_due = False
        """Whether the next flush also tells peers a commit index and nothing else (of interest with `lazy_commit`)."""
        self.term_start = server.log.last_index + 1
        """Index of the no-op that opens this leader's term: at and behind it, every entry is of this term."""
        self.matches: dict[int, int] = {server.id: server.log.persisted}
        self.peers: dict[int, Progress] = {}
        for peer in sorted(server.config.members - {server.id}):
            self._add(peer, next_index=server.log.last_index + 1, recent_active=False)

    def _add(self, peer: int, *, next_index: int, recent_active: bool) -> None:
        options = self.server.options
        window = Inflights(options.max_inflight_appends, options.max_inflight_bytes)
        self.peers[peer] = Progress(peer, next_index, window, recent_active=recent_active)
        self.matches[peer] = 0

    def reconfigure(self, config: Config) -> None:
        """Follows a new configuration. A new peer counts as active until the next check of the quorum."""
        members = config.members - {self.server.id}
        for peer in [peer for peer in self.peers if peer not in members]:
            del self.peers[peer], self.matches[peer]
        for peer in sorted(members - self.peers.keys()):
            self._add(peer, next_index=max(1, self.server.log.last_index), recent_active=True)
        self.due = True

    # --- sending ------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """One append, or a snapshot, to each peer that can take it and has a use for it."""
        self.due = False
        log = self.server.log
        last, commit = log.last_index, log.commit
        eager = self.bump_due or not self.server.options.lazy_commit
        self.bump_due = False
        cut: dict[int, tuple[Entry, ...]] = {}
        for peer in self.peers.values():
            wanted, peer.wants_append = peer.wants_append, False
            if peer.held or peer.state is _SNAPSHOT:
                continue
            if not wanted and peer.next > last:
                hurried = peer.sent_commit < peer.hurry_to
                if not (eager or hurried) or not peer.can_bump_commit(commit):
                    continue
            if self._send_append(peer, cut) and peer.next <= last and not peer.held and peer.state is not _SNAPSHOT:
                self.due = True

    def _send_append(self, peer: Progress, cut: dict[int, tuple[Entry, ...]]) -> bool:
        server = self.server
        log = server.log
        start = peer.next
        previous = start - 1
        if previous < log.low:
            return self._send_snapshot(peer)
        entries: tuple[Entry, ...] = ()
        # A full window lets only an empty append through, so that lost ones are noticed.
        if start <= log.last_index and not (peer.state is _REPLICATE and peer.inflights.full):
            known = cut.get(start)
            if known is None:  # peers that are level share one slice
                known = cut[start] = log.slice(start, log.last_index, server.options.max_append_bytes)
            entries = known
        server.outbox.append(
            Message(_APPEND, peer.id, server.id, server.term, previous, log.term(previous), entries, log.commit)
        )
        peer.sent_commit = log.commit
        last = previous + len(entries)
        peer.sent(last, log.size(previous, last) if entries else 0)
        return True

    def _send_snapshot(self, peer: Progress) -> bool:
        """Entries that the peer needs are compacted (paper, section 7). Not to one that is not there to take it."""
        if not peer.recent_active:
            return False
        server = self.server
        snapshot = server.log.snapshot
        peer.become_snapshot(snapshot.index)
        server.outbox.append(Message(MessageType.SNAPSHOT, peer.id, server.id, server.term, snapshot=snapshot))
        return True

    def broadcast_heartbeat(self, context: int, *, timer: bool) -> None:
        """A heartbeat to every peer. Its commit index is one that the peer is known to hold (`match`).

        `timer`: it was due anyway, and is not only a round of reads: its answer is a reason to look for lost appends.
        """
        server = self.server
        for peer in self.peers.values() if timer else self._enough_for_a_round(context):
            commit = min(peer.match, server.log.commit)
            peer.sent_commit = max(peer.sent_commit, commit)
            if timer:
                peer.nudge_match = peer.match
            server.outbox.append(
                Message(MessageType.HEARTBEAT, peer.id, server.id, server.term, commit=commit, context=context)
            )

    def bump_commits(self) -> None:
        """Once a tick: whoever was not told the commit index is told now."""
        commit = self.server.log.commit
        if any(peer.can_bump_commit(commit) for peer in self.peers.values()):
            self.bump_due = self.due = True

    def hurry(self, peer_id: int) -> None:
        """Somebody at this peer waits for what is in the log now: tell it at once when that is committed."""
        peer = self.peers.get(peer_id)
        if peer is not None:
            peer.hurry_to = self.server.log.last_index
            self.due = self.due or peer.can_bump_commit(self.server.log.commit)

    def _enough_for_a_round(self, context: int) -> list[Progress]:
        """As many peers as make a quorum with this node, of those that answered the last heartbeat; in turns."""
        config = self.server.config
        everybody = list(self.peers.values())
        if not self.server.options.frugal_reads or config.joint or self.server.id not in config.voters:
            return everybody
        lively = [p for p in everybody if p.id in config.voters and p.recent_active and p.nudge_match == NO_NUDGE]
        needed = len(config.voters) // 2
        if len(lively) < needed:
            return everybody
        first = context % len(lively) if lively else 0
        return [*lively[first:], *lively[:first]][:needed]

    def want(self, peer: Progress) -> None:
        """An append to `peer`, even an empty one."""
        peer.wants_append = True
        self.due = True

    def start_over(self, peer_id: int, last_index: int) -> None:
        """The peer lost what it had acknowledged; its log ends at `last_index` now. What is committed stays so."""
        peer = self.peers.get(peer_id)
        if peer is not None and peer.match > last_index:
            peer.start_over(last_index)
            self.matches[peer_id] = 0
            self.want(peer)

    # --- answers ------------------------------------------------------------------------------------------------

    def on_rejected(self, peer: Progress, message: Message) -> None:
        """The logs differ at `message.log_index`: step back, over all our terms above the follower's hint at once."""
        hint = message.hint_index
        if message.hint_term > 0:
            hint, _ = self.server.log.find_conflict_by_term(hint, message.hint_term)
        if peer.back_off(message.log_index, hint):
            if peer.state is _REPLICATE:
                peer.become_probe()
            self.want(peer)

    def on_accepted(self, peer: Progress, index: int) -> bool:
        """The peer holds everything up to `index`, on its disk. Returns whether more is committed by that."""
        log = self.server.log
        if not peer.update(index):
            if index == peer.match and peer.state is _PROBE:
                peer.become_replicate()
                self.due = True
            return False
        self.matches[peer.id] = index
        if peer.state is _REPLICATE:
            peer.inflights.free_to(index)
        elif peer.state is _PROBE or index + 1 >= log.first_index:
            # From SNAPSHOT too, whatever became of it: the peer has caught up with what the log still holds.
            peer.become_replicate()
        if peer.next <= log.last_index or peer.can_bump_commit(log.commit):
            self.due = True
        return index > log.commit and self.maybe_commit()

    def on_heartbeat_answer(self, peer: Progress) -> None:
        """The peer lives. If no append was answered since the timer's heartbeat left, the last ones may be lost."""
        peer.recent_active = True
        suspect = peer.nudge_match == peer.match or (peer.state is _PROBE and peer.nudge_match != NO_NUDGE)
        peer.nudge_match = NO_NUDGE
        if suspect:
            peer.held = False
            if peer.match < self.server.log.last_index or peer.state is _PROBE:
                self.want(peer)

    # --- counting -----------------------------------------------------------------------------------------------

    def maybe_commit(self) -> bool:
        """Commits what a quorum holds, if it is of this term. Returns whether the commit index moved."""
        server = self.server
        index = joint_commit(server.config, self.matches)
        if index < self.term_start or not server.log.commit_to(index):
            return False
        self.due = True
        changes = server.log.config_indexes
        if changes and changes[-1] > server.log.applied:
            # Never lazily: who is removed by it may stop as soon as it knows, and the others must know by then.
            self.bump_due = True
        return True

    @property
    def committed_in_term(self) -> bool:
        return self.server.log.commit >= self.term_start

    def quorum_active(self) -> bool:
        """Whether a quorum was heard since the last time that this was asked (dissertation, section 6.2)."""
        active = {peer.id: peer.recent_active for peer in self.peers.values()}
        active[self.server.id] = True
        return joint_vote(self.server.config, active) is Vote.WON

    def set_active(self, active: bool) -> None:
        for peer in self.peers.values():
            peer.recent_active = active
