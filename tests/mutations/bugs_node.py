"""Bugs in what surrounds the core: disk, recovery, requests, sessions, snapshots. Tests and the simulator see them."""

from __future__ import annotations

from typing import Final

from tests.mutations.bug import bug

DISK: Final = (
    bug(
        "term and vote are not written",
        "PySyncObj #202",
        ("node/disk.py", "return ready.must_persist", "return bool(ready.entries) or ready.snapshot is not None"),
    ),
    bug(
        "a write is acknowledged before it is synced",
        "etcd #14370",
        (
            "node/disk.py",
            "    def put(self, ready: Ready) -> None:\n",
            "    def put(self, ready: Ready) -> None:\n        self.on_written([ready])\n",
        ),
    ),
    bug(
        "a conflicting suffix stays in the stored log",
        "paper, figure 2",
        ("storage/leveldb.py", "                _delete(batch, write.entries[-1].index + 1, last)\n", ""),
        ("storage/leveldb.py", "if index != due or index > bounds.last:", "if index != due:"),
        ("storage/leveldb.py", "        if due != bounds.last + 1:\n", "        if False:\n"),
        script="tests/storage/test_log.py::test_a_conflicting_suffix_is_replaced",
    ),
    bug(
        "a compaction drops entries that its snapshot does not hold",
        "paper, figure 13",
        ("storage/leveldb.py", "first = max(bounds.first, keep_from)", "first = max(bounds.first, bounds.last + 1)"),
    ),
)

RECOVERY: Final = (
    bug(
        "a wiped node votes at once under its old id",
        "reference: a wiped node votes again",
        ("node/recovery.py", "        self.active = active\n", "        self.active = False\n"),
        ("node/recovery.py", "        if active:\n            self._check()\n", ""),
        script="tests/node/test_recovery_rules.py::test_it_gives_no_vote_and_does_not_run",
    ),
    bug(
        "a wiped node votes before it has what it may have acknowledged",
        "reference: a wiped node votes again",
        (
            "node/recovery.py",
            "            self._target = max(BOOTSTRAP_INDEX, committed, others[core.leader].last_index)\n",
            "            self._target = BOOTSTRAP_INDEX\n",
        ),
        script="tests/node/test_recovery_rules.py::test_it_waits_for_all_that_the_leader_had_when_it_asked",
    ),
    bug(
        "a wiped node votes a second time in the term in which it catches up",
        "reference: a wiped node votes again",
        ("node/recovery.py", "            core.adopt_vote()\n", ""),
        script="tests/node/test_recovery_rules.py::test_the_vote_of_the_term_in_which_it_catches_up_is_the_leaders",
    ),
    bug(
        "a wiped node asks too few what was committed",
        "reference: a wiped node votes again",
        ("node/recovery.py", "len(others) >= min(majority, len(voters - {core.id}))", "bool(others)"),
        script="tests/node/test_recovery_rules.py::test_it_asks_so_many_that_one_of_them_was_in_every_quorum",
    ),
)

REQUESTS: Final = (
    bug(
        "what was tried is called certainly not done",
        "Jepsen: a time-out is not a failure",
        ("node/pending.py", "        if proposal.tries:\n", "        if False:\n"),
        script="tests/node/test_outcomes.py::test_what_was_tried_may_have_happened",
    ),
    bug(
        "a change of leader is called a refusal",
        "Jepsen: a time-out is not a failure",
        (
            "node/proposing.py",
            "        self._put_first(again)\n        self._retry_at",
            "        for proposal in again:\n"
            "            proposal.tries = 0\n"
            "            self._pending.give_up(proposal)\n"
            "        self._retry_at",
        ),
        script="tests/node/test_outcomes.py::test_a_change_of_leader_is_no_answer_but_another_try",
    ),
    bug(
        "a command of an ended session gets a new name whatever it was",
        "a retried request is applied twice",
        ("node/pending.py", "        if proposal.tries == 1:\n", "        if True:\n"),
        script="tests/node/test_outcomes.py"
        "::test_a_command_of_an_ended_gateway_session_gets_a_new_name_only_if_it_was_tried_once",
    ),
    bug(
        "a follower reads before it has applied the read point",
        "dissertation, 6.4",
        ("node/requests.py", "        if index <= applied:\n            return reads\n", "        return reads\n"),
        script="tests/node/test_outcomes.py::test_a_read_waits_until_its_point_is_applied",
    ),
    bug(
        "what is refused counts as tried no more, though another try may be in the log",
        "Jepsen: a time-out is not a failure",
        ("node/proposing.py", "            proposal.tries -= 1\n", "            proposal.tries = 0\n"),
        script="tests/node/test_outcomes.py::test_a_refusal_takes_back_only_the_try_that_was_refused",
    ),
)

STATE: Final = (
    bug(
        "a retried request is applied twice",
        "dissertation, 6.3",
        (
            "state/sessions.py",
            "        return self._outcomes.get((session, seq))\n",
            "        if (session, seq) in self._outcomes:\n"
            "            known.seqs = sorted(set(known.seqs) - {seq})\n"
            "            self._drop(session, seq)\n"
            "        return None\n",
        ),
        script="tests/state/test_sessions.py::test_a_retry_is_answered_and_not_carried_out",
    ),
    bug(
        "a retry whose result was forgotten is applied again",
        "dissertation, 6.3",
        ("state/sessions.py", "        if seq < known.floor:\n", "        if False:\n"),
        script="tests/state/test_sessions.py::test_an_acknowledged_result_is_forgotten_and_its_retry_refused",
    ),
    bug(
        "snapshots forget what sessions had done",
        "dissertation, 6.3",
        ("state/sessions.py", "        return sessions, outcomes\n", "        return sessions, []\n"),
        script="tests/state/test_snapshot.py::test_what_is_restored_answers_the_same",
    ),
    bug(
        "entries are applied again after a restart: a snapshot says that it is older than it is",
        "reference: entries applied again",
        (
            "node/snapshotter.py",
            "meta = SnapshotMeta(apply.applied, apply.applied_term, apply.config)",
            "meta = SnapshotMeta(apply.applied - 1, apply.applied_term, apply.config)",
        ),
        script="tests/node/test_snapshotter.py::test_its_configuration_is_that_of_its_index_with_learners_and_both_halves",
    ),
    bug(
        "a snapshot's configuration is not that of its index",
        "dissertation, 5.1",
        (
            "node/snapshotter.py",
            "meta = SnapshotMeta(apply.applied, apply.applied_term, apply.config)",
            "meta = SnapshotMeta(apply.applied, apply.applied_term, type(apply.config)(apply.config.voters))",
        ),
        script="tests/node/test_snapshotter.py::test_its_configuration_is_that_of_its_index_with_learners_and_both_halves",
    ),
)

NODE: Final = (*DISK, *RECOVERY, *REQUESTS, *STATE)
