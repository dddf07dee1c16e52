"""Bugs in what a leader does for others: membership, reads, transfer (rocinante/raft)."""

from __future__ import annotations

from typing import Final

from tests.mutations.bug import bug

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
    bug(
        "a refused candidate is not told that its voter lost the vote",
        "raft-rs, maybe_commit_by_vote; found here (seed 21019)",
        (
            "raft/candidate.py",
            "            learn_commit(self.server, message)\n",
            "            pass\n",
        ),
        script="votes_tell_what_is_committed",
    ),
    bug(
        "a voter is not told by a request that others count",
        "raft-rs, maybe_commit_by_vote",
        ("raft/voting.py", "    learn_commit(server, message)\n    pre_vote", "    pre_vote"),
        script="votes_tell_what_is_committed",
    ),
    bug(
        "what is said to be committed is believed of another entry",
        "found here (in review)",
        (
            "raft/voting.py",
            "log.matches(commit, message.hint_term)",
            "commit <= log.last_index",
        ),
        script="votes_tell_what_is_committed",
    ),
    bug(
        "a change that was applied is not written down soon",
        "found here (seed 21019)",
        ("raft/core.py", "        if self._handed_commit < entry.index:\n", "        if False:\n"),
        script="change_add_voter",
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
