"""Bugs in the consensus core (rocinante/raft)."""

from __future__ import annotations

from typing import Final

from tests.mutations.bug import bug

ELECTIONS: Final = (
    bug(
        "a vote is told before it is durable",
        "PySyncObj #202",
        ("raft/server.py", "        MessageType.VOTE_RESPONSE,\n", ""),
        script="vote_answers_wait_for_the_disk",
    ),
    bug(
        "a vote that is given in a term already known is not written",
        "PySyncObj #202",
        ("raft/core.py", "self._handed_vote != (self.term, self.vote) or", "self._handed_vote[0] != self.term or"),
        script="vote_in_a_known_term_is_written",
    ),
    bug(
        "a candidate asks for votes before its own is durable",
        "dissertation, 3.8",
        ("raft/server.py", "        MessageType.VOTE,\n", ""),
        script="vote_requests_wait_for_the_disk",
    ),
    bug(
        "a candidate counts its own vote before it is durable",
        "dissertation, 3.8",
        (
            "raft/candidate.py",
            "        self._ask(self.server.term, force=force)\n",
            "        self._ask(self.server.term, force=force)\n        self._count(self.server.id, granted=True)\n",
        ),
        script="own_vote_counts_when_it_is_durable",
    ),
    bug(
        "the vote is forgotten on a step down in the same term",
        "akka-raft #56, CCF #8094",
        ("raft/core.py", "        if term > self.term:\n", "        if term >= self.term:\n"),
        script="vote_is_kept_on_a_step_down_in_the_same_term",
    ),
    bug(
        "any log gets votes",
        "paper, 5.4.1",
        (
            "raft/log.py",
            "return term > self.last_term or (term == self.last_term and index >= self.last_index)",
            "return True",
        ),
        script="figure_7_who_can_be_elected",
    ),
    bug(
        "the longer log gets votes, whatever its last term",
        "paper, 5.4.1",
        (
            "raft/log.py",
            "return term > self.last_term or (term == self.last_term and index >= self.last_index)",
            "return index >= self.last_index",
        ),
        script="figure_7_who_can_be_elected",
    ),
    bug(
        "a voter that answers twice counts twice",
        "xraft #27",
        (
            "raft/candidate.py",
            "        self.votes.setdefault(voter, granted)\n"
            "        return joint_vote(self.server.config, self.votes)\n",
            "        config, own = self.server.config, voter == self.server.id\n"
            "        self.votes.setdefault(voter if own or voter not in self.votes else -len(self.votes), granted)\n"
            "        won = 2 * sum(self.votes.values()) > len(config.voters)\n"
            "        return Vote.WON if won else joint_vote(config, self.votes)\n",
        ),
        script="duplicate_and_old_votes_are_not_counted",
    ),
    bug(
        "votes of an earlier term count",
        "xraft #27",
        (
            "raft/core.py",
            "        elif message.term < self.term:\n",
            "        elif message.term < self.term and message.type is not MessageType.VOTE_RESPONSE:\n",
        ),
        script="duplicate_and_old_votes_are_not_counted",
    ),
    bug(
        "half of the votes elect",
        "paper, 5.2",
        ("raft/quorum.py", "needed = size // 2 + 1", "needed = (size + 1) // 2"),
        script="tables/vote",
    ),
    bug(
        "a stale pre-candidate is not told the term",
        "etcd #8501",
        ("raft/core.py", "            refuse_stale_pre_vote(self, message)\n", "            self.ignored += 1\n"),
        script="pre_vote_stale_term_is_unstuck",
    ),
    bug(
        "a pre-vote raises the term",
        "dissertation, 9.6",
        (
            "raft/core.py",
            "            if kind is MessageType.PRE_VOTE:\n                return True\n",
            "",
        ),
        script="pre_vote_stale_log_does_not_raise_the_term",
    ),
    bug(
        "who hears a leader gives its vote away",
        "dissertation, 4.2.3",
        ("raft/core.py", "if self.in_lease and not message.force:", "if False:"),
        script="check_quorum_lease_refuses_votes",
    ),
    bug(
        "heartbeats of a deposed leader hold off elections",
        "openraft #2080",
        (
            "raft/core.py",
            "        if message.type in _FROM_LEADER and (self.options.check_quorum or self.options.pre_vote):\n",
            "        if message.type in _FROM_LEADER:\n            self.elapsed = 0\n"
            "        if message.type in _FROM_LEADER and (self.options.check_quorum or self.options.pre_vote):\n",
        ),
        script="deposed_leader_does_not_hold_off_elections",
    ),
    bug(
        "a deposed leader is not told of the new term",
        "etcd/raft, stuck candidate",
        (
            "raft/core.py",
            "if message.type in _FROM_LEADER and (self.options.check_quorum or self.options.pre_vote):",
            "if False:",
        ),
        script="stuck_candidate_is_freed_by_its_answer",
    ),
    bug(
        "a leader without a quorum goes on",
        "dissertation, 6.2",
        ("raft/leader.py", "if server.options.check_quorum and not self.replication.quorum_active():", "if False:"),
        script="check_quorum_leader_steps_down",
    ),
    bug(
        "a node that restores a snapshot campaigns",
        "etcd/raft, promotable",
        (
            "raft/server.py",
            "(self.id in config.voters or self.id in config.voters_outgoing) and not self.log.pending_snapshot",
            "self.id in config.voters or self.id in config.voters_outgoing",
        ),
        script="pending_snapshot_keeps_from_campaigning",
    ),
)

REPLICATION: Final = (
    bug(
        "an older term's entry is committed by counting",
        "figure 8; PySyncObj #169, NATS #7955",
        ("raft/replication.py", "if index < self.term_start or not", "if not"),
        script="figure_8_older_terms_are_not_committed_by_counting",
    ),
    bug(
        "the leader counts itself before its disk has written",
        "etcd #14370",
        (
            "raft/replication.py",
            "index = joint_commit(server.config, self.matches)",
            "index = joint_commit(server.config, {**self.matches, server.id: server.log.last_index})",
        ),
        script="leader_counts_itself_when_its_disk_has_written",
    ),
    bug(
        "a node alone commits before its disk has written",
        "etcd #14370",
        (
            "raft/leader.py",
            "        index = log.append(server.term, kind, data)\n        self.replication.due = True\n",
            "        index = log.append(server.term, kind, data)\n        self.replication.due = True\n"
            "        self.replication.matches[server.id] = index\n        self.replication.maybe_commit()\n",
        ),
        script="single_node_commits_after_persist",
    ),
    bug(
        "an append is acknowledged before it is durable",
        "dissertation, 3.8",
        (
            "raft/follower.py",
            "    server.outbox_after_persist.append(\n        Message(MessageType.APPEND_RESPONSE, leader,",
            "    server.outbox.append(\n        Message(MessageType.APPEND_RESPONSE, leader,",
        ),
        script="restart_forgets_what_was_not_written",
    ),
    bug(
        "the entry before the new ones is not compared",
        "paper, 5.3",
        (
            "raft/follower.py",
            "if not log.matches(message.log_index, message.log_term):",
            "if message.log_index > log.last_index:",
        ),
        script="figure_7_probe_and_replicate",
    ),
    bug(
        "a late append erases good entries",
        "WRaft #118",
        (
            "raft/log.py",
            "            entries = self._without_known(entries)\n            if not entries:\n                return\n",
            "",
        ),
        script="late_append_erases_nothing",
    ),
    bug(
        "the commit index passes what the append confirmed",
        "figure 2, AppendEntries 5",
        (
            "raft/follower.py",
            "log.commit_to(min(message.commit, last))",
            "log.commit_to(min(message.commit, log.last_index))",
        ),
        script="commit_stays_within_the_append",
    ),
    bug(
        "a heartbeat commits all that the follower has",
        "etcd/raft, lagging_commit",
        (
            "raft/follower.py",
            "    server.log.commit_to(message.commit)\n",
            "    server.log.commit_to(max(message.commit, server.log.last_index))\n",
        ),
        script="commit_of_a_follower_never_goes_back",
    ),
    bug(
        "a heartbeat's commit index is not capped at what the peer holds",
        "etcd/raft, lagging_commit",
        ("raft/replication.py", "commit = min(peer.match, server.log.commit)", "commit = server.log.commit"),
        (
            "raft/follower.py",
            "    server.log.commit_to(message.commit)\n",
            "    server.log.commit_to(min(message.commit, server.log.last_index))\n",
        ),
        script="lagging_commit_in_heartbeats",
    ),
    bug(
        "half is a majority",
        "paper, 5.3",
        ("raft/quorum.py", "return held[size - size // 2 - 1]", "return held[size // 2]"),
        script="tables/commit",
    ),
    bug(
        "match goes back with a late answer",
        "PySyncObj #166",
        (
            "raft/progress.py",
            "        if index <= self.match:\n            return False\n        self.match = index\n",
            "        if index == self.match:\n            return False\n        self.match = index\n",
        ),
        script="match_and_commit_never_go_back",
    ),
    bug(
        "commit goes back with a late append",
        "PySyncObj #167",
        ("raft/log.py", "        if index <= self.commit:\n            return False\n", ""),
        ("raft/follower.py", "    if message.log_index < log.commit:\n", "    if False:\n"),
        script="commit_of_a_follower_never_goes_back",
    ),
    bug(
        "an old write's acknowledgement counts for a newer entry",
        "etcd/raft, async_storage_writes_append_aba_race",
        ("raft/log.py", "            write.last_index = min(write.last_index, index)\n", "            pass\n"),
        script="async_writes_aba_race",
    ),
    bug(
        "a leader applies what is not on its own disk",
        "etcd/raft, async storage",
        (
            "raft/log.py",
            "self.applying < self.commit and self.applying < self.persisted and",
            "self.applying < self.commit and",
        ),
        ("raft/log.py", "min(self.commit, self.persisted), max_bytes", "self.commit, max_bytes"),
        script="leader_applies_only_what_is_on_its_disk",
    ),
    bug(
        "appends that were lost are not noticed",
        "etcd/raft, heartbeat_resp_recovers_from_probing",
        ("raft/replication.py", "        if suspect:\n", "        if False:\n"),
        script="heartbeat_answer_recovers_from_probing",
    ),
    bug(
        "the window does not pause a peer",
        "etcd/raft, replicate_pause",
        ("raft/progress.py", "            self.held = inflights.full\n", "            self.held = False\n"),
        script="replicate_pause_window",
    ),
    bug(
        "a node that lost what it had acknowledged goes on",
        "etcd/raft, commitTo",
        (
            "raft/log.py",
            "            return False\n        if index > self.last_index:\n",
            "            return False\n"
            "        index = min(index, self.last_index)\n"
            "        if index > self.last_index:\n",
        ),
        script="lost_log_is_fatal",
    ),
    bug(
        "a peer that refuses what it acknowledged is asked again at once",
        "found here (commit 72574ef)",
        (
            "raft/progress.py",
            "                self.held = True\n                return False\n            self.next = following\n",
            "                self.held = False\n                return True\n            self.next = following\n",
        ),
        script="peer_that_refuses_what_it_acknowledged",
    ),
)

SNAPSHOTS: Final = (
    bug(
        "an old snapshot erases a newer log",
        "etcd #1763",
        ("raft/follower.py", "    if snapshot.index > log.commit:\n", "    if snapshot.index > log.applied:\n"),
        ("raft/follower.py", "        if log.matches(snapshot.index, snapshot.term):\n", "        if False:\n"),
        (
            "raft/log.py",
            "        if snapshot.index <= self.commit:\n"
            '            raise FatalInconsistency(f"snapshot {snapshot.index} is behind commit {self.commit}")\n',
            "",
        ),
        script="old_snapshot_is_ignored",
    ),
    bug(
        "a snapshot erases what the log has behind it",
        "figure 13, step 6; etcd #1763",
        ("raft/follower.py", "        if log.matches(snapshot.index, snapshot.term):\n", "        if False:\n"),
        script="snapshot_fast_forwards_commit",
    ),
    bug(
        "a conflicting log is kept around a snapshot",
        "openraft #559",
        (
            "raft/follower.py",
            "        if log.matches(snapshot.index, snapshot.term):\n",
            "        if snapshot.index <= log.last_index:\n",
        ),
        script="snapshot_replaces_a_conflicting_log",
    ),
    bug(
        "a snapshot's end is not noticed",
        "etcd/raft, snapshot_succeed_via_app_resp",
        (
            "raft/leader.py",
            "if progress is None or progress.state is not ProgressState.SNAPSHOT:",
            "if True:",
        ),
        script="snapshot_report_ends_the_wait",
    ),
    bug(
        "a snapshot does not bring its configuration",
        "dissertation, 5.1",
        ("raft/follower.py", "            server.apply_snapshot_config(snapshot.config)\n", ""),
        script="snapshot_configuration_replaces_the_old",
    ),
    bug(
        "a snapshot counts as applied before it is durable",
        "etcd/raft, async storage",
        (
            "raft/log.py",
            "and self.applying < self.persisted and not self._pending_snapshot",
            "and self.applying < self.persisted",
        ),
        (
            "raft/log.py",
            "        self._pending_snapshot = self._snapshot_unhanded = snapshot.index\n",
            "        self._pending_snapshot = self._snapshot_unhanded = snapshot.index\n"
            "        self.applied = self.applying = snapshot.index\n",
        ),
        script="snapshot_applies_after_it_is_durable",
    ),
)

MEMBERSHIP: Final = (
    bug(
        "a joint configuration commits by its new half alone",
        "dissertation, 4.3",
        (
            "raft/quorum.py",
            "return min(incoming, majority_commit(config.voters_outgoing, matches))",
            "return incoming",
        ),
        script="joint_needs_both_halves",
    ),
    bug(
        "a joint configuration elects by its new half alone",
        "dissertation, 4.3",
        ("raft/quorum.py", "return min(incoming, majority_vote(config.voters_outgoing, votes))", "return incoming"),
        script="joint_needs_both_halves",
    ),
    bug(
        "a learner counts for the majority",
        "dissertation, 4.2.1",
        (
            "raft/quorum.py",
            "    incoming = majority_commit(config.voters, matches)\n",
            "    incoming = majority_commit(config.voters | config.learners, matches)\n",
        ),
        script="tables/commit",
    ),
    bug(
        "two voters change in one simple change",
        "dissertation, 4.1",
        (
            "raft/membership.py",
            "(voters_changed <= 1 or not config.voters)",
            "(voters_changed <= 2 or not config.voters)",
        ),
        script="tables/membership",
    ),
    bug(
        "the last voter can be removed",
        "etcd/raft, confchange",
        ("raft/membership.py", "    if not voters:\n", "    if False:\n"),
        ("raft/membership.py", "    if not config.voters and config.members:\n", "    if False:\n"),
        script="tables/membership",
    ),
    bug(
        "a demoted voter loses its vote before the joint configuration is left",
        "etcd/raft, confchange_v2_replace_leader",
        ("raft/membership.py", "(staged if node in outgoing else learners).add(node)", "learners.add(node)"),
        (
            "raft/membership.py",
            "    if config.learners & (config.voters | config.voters_outgoing):\n",
            "    if False:\n",
        ),
        script="tables/membership",
    ),
    bug(
        "a second change begins before the first is applied",
        "dissertation, 4.1",
        (
            "raft/leader.py",
            "if self.pending_change > server.log.applied:\n            raise",
            "if False:\n            raise",
        ),
        script="change_rules",
    ),
    bug(
        "a new leader changes the membership before its first commit",
        "Ongaro 2015: two disjoint majorities",
        (
            "raft/leader.py",
            "        if not self.replication.committed_in_term:\n            raise InvalidChange",
            "        if False:\n            raise InvalidChange",
        ),
        script="change_waits_for_the_first_commit",
    ),
    bug(
        "a removed leader goes on leading",
        "dissertation, 4.2.2",
        (
            "raft/leader.py",
            "if server.id not in config.voters and server.id not in config.voters_outgoing:",
            "if False:",
        ),
        script="change_remove_the_leader",
    ),
    bug(
        "a joint configuration is left again and again",
        "etcd/raft, auto-leave once",
        ("raft/leader.py", "config.auto_leave) or self.pending_change > server.log.applied:", "config.auto_leave):"),
        script="change_auto_leave_is_proposed_once",
    ),
    bug(
        "a node campaigns with a committed change that it has not applied",
        "etcd/raft, hup",
        (
            "raft/core.py",
            "if not self.promotable or log.has_config_between(log.applied, log.commit):",
            "if not self.promotable:",
        ),
        script="unapplied_change_keeps_from_campaigning",
    ),
    bug(
        "who loses the vote gets entries behind the one that takes it",
        "found here (commit f245bb6)",
        ("raft/leader.py", "        if self.removal:\n", "        if False:\n"),
        script="change_takes_no_votes_with_a_tail",
    ),
)

READS_AND_TRANSFER: Final = (
    bug(
        "a new leader reads before its first commit",
        "etcd #7331",
        (
            "raft/leader.py",
            "        if not self.replication.committed_in_term:\n            raise ReadNotPossible",
            "        if False:\n            raise ReadNotPossible",
        ),
        script="reads_wait_for_the_first_commit",
    ),
    bug(
        "a leader reads without asking anybody",
        "etcd #20418",
        (
            "raft/reads.py",
            "            confirmed = joint_commit(config, self._acks)\n",
            "            confirmed = self._last\n",
        ),
        script="reads_from_before_a_pause_are_not_fresh",
    ),
    bug(
        "an answer to an earlier round confirms a later read",
        "etcd #20418",
        (
            "raft/reads.py",
            "        if self._acks.get(peer, 0) < number <= self._last:\n            self._acks[peer] = number\n",
            "        self._acks[peer] = self._last\n",
        ),
        script="reads_from_before_a_pause_are_not_fresh",
    ),
    bug(
        "reads are forgotten when leadership is lost",
        "etcd/raft, reset",
        (
            "raft/leader.py",
            "        self.server.reads_failed.extend(self.reads.fail_all())\n",
            "        self.reads.fail_all()\n",
        ),
        script="reads_fail_when_leadership_is_lost",
    ),
    bug(
        "a transfer that failed blocks the leader for ever",
        "dissertation, 3.10",
        (
            "raft/leader.py",
            "                return\n            self._abort_transfer()\n",
            "                return\n",
        ),
        script="transfer_is_given_up",
    ),
    bug(
        "a leader that hands over takes proposals",
        "dissertation, 3.10",
        (
            "raft/leader.py",
            '            raise ProposalDropped("leadership transfer in progress", self.transferee)\n',
            "            pass\n",
        ),
        script="transfer_to_an_up_to_date_voter",
    ),
    bug(
        "leadership goes to a learner",
        "etcd/raft, transfer to a learner",
        (
            "raft/leader.py",
            "if to not in config.voters and to not in config.voters_outgoing:",
            "if to not in config.members:",
        ),
        script="transfer_is_refused",
    ),
)

RAFT: Final = (*ELECTIONS, *REPLICATION, *SNAPSHOTS, *MEMBERSHIP, *READS_AND_TRANSFER)
