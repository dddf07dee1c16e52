"""A random life of a cluster, from one integer: crashes, cuts, loss, doubles, reordering, slow disks, changes.

`Simulation(seed).run()` prints the seed and either returns or raises. Safety is checked all along by the
harness's oracle, reads by `_check_reads`; at the end everything is healed and the cluster must be live again.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from rocinante.raft import (
    Change,
    ChangeKind,
    ConfigChange,
    InvalidChange,
    ProposalDropped,
    RaftOptions,
    ReadNotPossible,
    Role,
    RotationMode,
    TransferRefused,
    Transition,
)

from .harness import Cluster, Node

MESSAGES_MAX = 100
"""Messages on their way before the oldest are lost."""
WRITES_MAX = 3
"""Readys of one node that wait for its disk."""
NODE_ID_MAX = 7
HEAL_TICKS_MAX = 400
SNAPSHOT_TICKS_MAX = 20


class Simulation:
    """One run."""

    def __init__(self, seed: int, *, steps: int = 4000) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.steps = steps
        self.counter = 0
        self.reads: dict[int, int] = {}
        self.acknowledged: list[tuple[int, int, bytes]] = []
        self.options = self._draw_options()
        size = self.random.choice((1, 2, 3, 3, 3, 4, 5))
        self.cluster = Cluster(range(1, size + 1), options=self.options, seed=seed)
        self.changes = self.options.pre_vote or self.options.check_quorum
        storm = self.random.choice((0.2, 0.5, 1.0))
        actions: list[tuple[float, Callable[[], None]]] = [
            (500, self._deliver),
            (230, self._process),
            (230, self._persist),
            (160, self._apply),
            (45, self._tick),
            (60, self._propose),
            (20, self._read),
            (12, self._change if self.changes else self._propose),
            (4 * storm, self._transfer),
            (5 * storm, self._crash),
            (5 * storm, self._cut),
            (2, self._heal_links),
            (8, self._compact),
            (3 * storm, self._toggle_ready),
            (4 * storm, self._report),
            (2 * storm, self._forget_leader),
            (10, self._hurry),
        ]
        self._actions = [action for _, action in actions]
        self._weights = [weight for weight, _ in actions]

    def _draw_options(self) -> RaftOptions:
        pick = self.random.choice
        return RaftOptions(
            election_ticks=5,
            heartbeat_ticks=1,
            pre_vote=pick((True, True, False)),
            check_quorum=pick((True, True, False)),
            lazy_commit=pick((True, False)),
            frugal_reads=pick((True, False)),
            max_inflight_appends=pick((1, 2, 256)),
            max_append_bytes=pick((1, 100, 1_000_000)),
            max_committed_bytes=pick((1, 100, 1_000_000)),
            max_uncommitted_bytes=pick((200, 1_000_000)),
            rotation=pick((RotationMode.OFF, RotationMode.OFF, *RotationMode)),
            rotation_min_ticks=20,
            rotation_max_ticks=60,
            rotation_margin_ticks=2,
        )

    def run(self) -> None:
        print(f"seed {self.seed}, {self.options}")  # pytest shows it for what fails
        for _ in range(self.steps):
            self.random.choices(self._actions, self._weights)[0]()
        self.cluster.check_log_matching()
        self._heal_and_check()

    # --- what happens -------------------------------------------------------------------------------------------

    def _node(self) -> Node:
        return self.cluster.nodes[self.random.choice(list(self.cluster.nodes))]

    def _leader(self) -> Node | None:
        """Any node that believes it leads, an old one too."""
        leaders = [node for node in self.cluster.nodes.values() if node.raft.role is Role.LEADER]
        return self.random.choice(leaders) if leaders else None

    def _deliver(self) -> None:
        messages = self.cluster.network.messages
        while len(messages) > MESSAGES_MAX:
            self.cluster.network.take(0)
        if not messages:
            return
        # Mostly in order, sometimes not.
        position = 0 if self.random.random() < 0.6 else self.random.randrange(len(messages))
        luck = self.random.random()
        if luck < 0.06:
            self.cluster.network.take(position)
        else:
            self.cluster.deliver(position, duplicate=luck > 0.95)

    def _process(self) -> None:
        node = self._node()
        if node.raft.has_ready() and len(node.writes) < WRITES_MAX:
            node.process()
            self._check_reads(node)

    def _persist(self) -> None:
        self._node().persist(self.random.choice((1, None)))

    def _apply(self) -> None:
        self._node().apply(self.random.choice((1, 3, None)))

    def _tick(self) -> None:
        if self.random.random() < 0.7:
            for node in self.cluster.nodes.values():
                node.raft.tick()
        else:
            self._node().raft.tick()

    def _propose(self) -> None:
        leader = self._leader()
        if leader is None:
            return
        self.counter += 1
        data = b"%d" % self.counter
        try:
            index, term = leader.raft.propose(data)
        except ProposalDropped:
            return
        self.acknowledged.append((index, term, data))

    def _read(self) -> None:
        leader = self._leader()
        if leader is None:
            return
        self.counter += 1
        try:
            leader.raft.read_index(self.counter)
        except ReadNotPossible:
            return
        self.reads[self.counter] = self.cluster.oracle.commit_max

    def _check_reads(self, node: Node) -> None:
        for read in node.reads:
            before = self.reads.pop(read.context)
            assert read.index >= before, f"stale read: {read}, but {before} was committed before it began"
        for context in node.failed_reads:
            del self.reads[context]
        node.reads.clear()
        node.failed_reads.clear()

    def _change(self) -> None:
        leader = self._leader()
        if leader is None:
            return
        kinds = list(ChangeKind)
        targets = self.random.sample(range(1, NODE_ID_MAX + 1), self.random.choice((1, 1, 2, 3)))
        changes = tuple(Change(self.random.choice(kinds), target) for target in targets)
        transition = self.random.choice((Transition.AUTO, Transition.JOINT_IMPLICIT, Transition.JOINT_EXPLICIT))
        change = ConfigChange(changes, transition)
        if leader.raft.config.joint and self.random.random() < 0.7:
            change = ConfigChange(transition=Transition.LEAVE)
        try:
            leader.raft.propose_change(change)
        except (InvalidChange, ProposalDropped):
            return
        for _, target in change.changes:
            if target not in self.cluster.nodes:
                self.cluster.add_node(target, self.options)

    def _transfer(self) -> None:
        leader = self._leader()
        if leader is None:
            return
        try:
            leader.raft.transfer(self.random.choice(list(self.cluster.nodes)))
        except (TransferRefused, ProposalDropped):
            return

    def _crash(self) -> None:
        node = self._node()
        self._check_reads(node)
        self.cluster.restart(node.id)

    def _cut(self) -> None:
        network, ids = self.cluster.network, list(self.cluster.nodes)
        kind = self.random.randrange(3)
        if kind == 0:
            network.isolate(self.random.choice(ids), ids)
        elif kind == 1:  # one way
            network.cut.add((self.random.choice(ids), self.random.choice(ids)))
        else:
            group = set(self.random.sample(ids, self.random.randint(0, len(ids))))
            network.cut |= {(a, b) for a in ids for b in ids if (a in group) != (b in group)}

    def _heal_links(self) -> None:
        self.cluster.network.cut.clear()

    def _compact(self) -> None:
        self._node().compact(self.random.choice((0, 2, 10)))

    def _toggle_ready(self) -> None:
        node = self._node()
        if node.raft.role is Role.NOT_READY:
            node.raft.set_ready()
        else:
            node.raft.set_not_ready()

    def _report(self) -> None:
        leader = self._leader()
        if leader is not None:
            target = self.random.choice(list(self.cluster.nodes))
            if self.random.random() < 0.5:
                leader.raft.report_unreachable(target)
            else:
                leader.raft.report_snapshot(target, self.random.random() < 0.5)

    def _forget_leader(self) -> None:
        self._node().raft.forget_leader()

    def _hurry(self) -> None:
        self._node().raft.hurry(self.random.choice(list(self.cluster.nodes)))

    # --- the end ------------------------------------------------------------------------------------------------

    def _heal_and_check(self) -> None:
        cluster = self.cluster
        cluster.network.cut.clear()
        for node in cluster.nodes.values():
            node.raft.set_ready()
        marker = b"after the storm"
        proposed: tuple[int, int] | None = None
        for tick in range(HEAL_TICKS_MAX):
            cluster.tick()
            leader = cluster.leader
            if leader is None:
                continue
            if tick % SNAPSHOT_TICKS_MAX == 0:  # the caller's duty: a snapshot that was lost is reported
                for peer in cluster.nodes:
                    leader.raft.report_snapshot(peer, ok=False)
            if proposed is not None and self._everywhere(leader, proposed):
                break
            if proposed is None or proposed[1] != leader.raft.term:
                proposed = self._propose_marker(leader, marker)
        else:
            raise AssertionError(f"not live {HEAL_TICKS_MAX} ticks after everything was healed: {self._describe()}")
        cluster.check_log_matching()
        self._check_history()

    def _propose_marker(self, leader: Node, marker: bytes) -> tuple[int, int] | None:
        try:
            return leader.raft.propose(marker)
        except ProposalDropped:
            return None

    def _everywhere(self, leader: Node, proposed: tuple[int, int]) -> bool:
        """Whether every member has applied what was proposed after the storm, and they all hold the same."""
        members = [self.cluster.nodes[member] for member in leader.raft.config.members]
        if leader.raft.config.joint:
            self._leave_joint(leader)
            return False
        return all(node.machine.index >= proposed[0] for node in members) and self._agree(members)

    def _leave_joint(self, leader: Node) -> None:
        if not leader.raft.config.auto_leave:
            try:
                leader.raft.propose_change(ConfigChange(transition=Transition.LEAVE))
            except (InvalidChange, ProposalDropped):
                return  # not now

    def _agree(self, members: list[Node]) -> bool:
        upto = min(node.machine.index for node in members)
        states = {tuple(pair for pair in node.machine.data if pair[0] <= upto) for node in members}
        assert len(states) == 1, "the state machines differ"
        return True

    def _check_history(self) -> None:
        """A proposal whose (index, term) was committed is there, once, with its data; others are nowhere."""
        committed = self.cluster.oracle.committed
        for index, term, data in self.acknowledged:
            entry = committed.get(index)
            if entry is not None and entry.term == term:
                assert entry.data == data
        data_seen = [entry.data for entry in committed.values() if entry.data.isdigit()]
        assert len(data_seen) == len(set(data_seen)), "a proposal was committed twice"

    def _describe(self) -> str:
        return "; ".join(
            f"{node.id} {node.raft.role} t{node.raft.term} {node.raft.log.commit}/{node.raft.log.last_index}"
            for node in self.cluster.nodes.values()
        )
