"""Bugs in elections: votes, terms, pre-vote, check-quorum (rocinante/raft)."""

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
