"""Bugs in what the log is: replication, commit, snapshots (rocinante/raft)."""

from __future__ import annotations

from typing import Final

from tests.mutations.bug import bug

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
