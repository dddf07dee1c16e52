"""A whole cluster in memory, where nothing happens unless the test says so.

A `Cluster` has nodes and a `Network`. A node has the core under test, a `Disk` and a `Machine` (the state machine).
Every step is explicit: `process` takes a Ready and sends what may be sent at once; `persist` completes the oldest
write, and only then sends what waited for it; `apply` feeds the machine; `deliver` hands over one message. So a test
decides what is on disk when a node crashes, and in which order all of it happens. Nothing here reads a clock or a
global source of randomness: the same calls give the same run.

The harness checks, whenever it can see it: persist before send, one leader a term, and that what was committed or
applied anywhere is the same everywhere and for ever (`Oracle`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from random import Random

from rocinante.raft import (
    Config,
    Entry,
    EntryKind,
    HardState,
    Message,
    MessageType,
    Raft,
    RaftOptions,
    ReadState,
    Ready,
    Role,
    SnapshotMeta,
)

Content = tuple[tuple[int, bytes], ...]
"""What a snapshot carries: the machine's (index, data) pairs."""


@dataclass
class Disk:
    """What a crash leaves: hard state, snapshot with its content, and the log."""

    hard_state: HardState = field(default_factory=HardState)
    snapshot: SnapshotMeta = field(default_factory=SnapshotMeta)
    content: Content = ()
    entries: list[Entry] = field(default_factory=list)

    def write(self, ready: Ready, content: Content | None) -> None:
        """One synced write: the snapshot replaces the log, entries replace a conflicting suffix."""
        if ready.snapshot is not None:
            assert content is not None, "a snapshot came without its content"
            self.snapshot, self.content, self.entries = ready.snapshot, content, []
        if ready.entries:
            first = ready.entries[0].index
            while self.entries and self.entries[-1].index >= first:
                self.entries.pop()
            assert first == (self.last_index + 1), f"a gap before {first}: the disk ends at {self.last_index}"
            self.entries.extend(ready.entries)
        if ready.hard_state is not None:
            assert ready.hard_state.term >= self.hard_state.term, "the stored term fell"
            if ready.hard_state.term == self.hard_state.term:
                assert self.hard_state.vote in (0, ready.hard_state.vote), "the stored vote changed"
            self.hard_state = ready.hard_state

    def save_snapshot(self, meta: SnapshotMeta, content: Content, keep_after: int) -> None:
        self.snapshot, self.content = meta, content
        self.entries = [entry for entry in self.entries if entry.index > keep_after]

    @property
    def last_index(self) -> int:
        return self.entries[-1].index if self.entries else self.snapshot.index

    def term(self, index: int) -> int:
        if index == self.snapshot.index:
            return self.snapshot.term
        for entry in reversed(self.entries):
            if entry.index == index:
                return entry.term
        return 0


@dataclass
class Machine:
    """The state machine: remembers what it was given. `config` is the one after the last applied entry."""

    index: int = 0
    term: int = 0
    config: Config = field(default_factory=Config)
    data: list[tuple[int, bytes]] = field(default_factory=list)

    def apply(self, entry: Entry, config: Config | None) -> None:
        assert entry.index == self.index + 1, f"entry {entry.index} was applied after {self.index}"
        self.index, self.term = entry.index, entry.term
        if config is not None:
            self.config = config
        elif entry.data:
            self.data.append((entry.index, entry.data))

    def load(self, meta: SnapshotMeta, content: Content) -> None:
        self.index, self.term, self.config = meta.index, meta.term, meta.config
        self.data = list(content)

    def snapshot(self) -> tuple[SnapshotMeta, Content]:
        return SnapshotMeta(self.index, self.term, self.config), tuple(self.data)


class Oracle:
    """Sees everything, and objects to what Raft rules out (paper, figure 3)."""

    def __init__(self) -> None:
        self.leaders: dict[int, int] = {}
        self.committed: dict[int, Entry] = {}
        self.commit_max = 0
        self._seen: dict[int, int] = {}

    def look(self, node: Node) -> None:
        raft = node.raft
        if raft.role is Role.LEADER:
            self._look_at_leader(node)
        log = raft.log
        for index in range(max(self._seen.get(node.id, 0) + 1, log.first_index), log.commit + 1):
            self._look_at_committed(node.id, log.entry(index))
        self._seen[node.id] = max(self._seen.get(node.id, 0), log.commit)
        self.commit_max = max(self.commit_max, log.commit)

    def restarted(self, node: int) -> None:
        self._seen.pop(node, None)

    def _look_at_leader(self, node: Node) -> None:
        term, raft = node.raft.term, node.raft
        if self.leaders.get(term) == node.id:
            return
        assert term not in self.leaders, f"term {term} has two leaders: {self.leaders[term]} and {node.id}"
        self.leaders[term] = node.id
        for index, entry in self.committed.items():  # leader completeness
            if index >= raft.log.first_index:
                assert raft.log.term(index) == entry.term, f"leader {node.id} of term {term} lacks committed {index}"

    def _look_at_committed(self, node: int, entry: Entry) -> None:
        known = self.committed.setdefault(entry.index, entry)
        assert known == entry, f"node {node} committed {entry}, but {known} was committed before"


class Node:
    """One member: core, disk, machine, and the work in between that is not done yet."""

    def __init__(self, cluster: Cluster, node_id: int, disk: Disk, options: RaftOptions, *, ready: bool = True) -> None:
        self.cluster = cluster
        self.id = node_id
        self.disk = disk
        self.options = options
        self.machine = Machine()
        self.machine.load(disk.snapshot, disk.content)
        self.writes: deque[Ready] = deque()
        self.to_apply: deque[tuple[Entry, Config | None]] = deque()
        self.arrived: dict[int, Content] = {}
        self.reads: list[ReadState] = []
        self.failed_reads: list[int] = []
        self.raft = Raft(
            node_id,
            options,
            hard_state=disk.hard_state,
            snapshot=disk.snapshot,
            entries=tuple(disk.entries),
            applied=disk.snapshot.index,
            random=Random(cluster.random.getrandbits(64)),
            ready=ready,
        )

    def process(self) -> Ready:
        """Takes a Ready: sends what needs no disk, queues the write and the entries to apply."""
        ready = self.raft.ready()
        if self.cluster.on_ready is not None:
            self.cluster.on_ready(self, ready)
        for message in ready.messages:
            self.cluster.send(self, message)
        self.writes.append(ready)
        for entry in ready.committed:
            assert self.disk.term(entry.index) == entry.term, f"{entry.index} is applied, but not on the own disk"
            config = self.raft.apply_change(entry) if entry.kind is EntryKind.CONFIG else None
            self.to_apply.append((entry, config))
        self.reads.extend(ready.reads)
        self.failed_reads.extend(ready.failed_reads)
        self.cluster.oracle.look(self)
        return ready

    def persist(self, count: int | None = None) -> int:
        """Completes the oldest `count` writes, all by default. Returns how many."""
        done = 0
        while self.writes and done != count:
            ready = self.writes.popleft()
            content = None
            if ready.snapshot is not None:
                content = self.arrived.pop(ready.snapshot.index)
                self.to_apply.clear()
                self.machine.load(ready.snapshot, content)
            self.disk.write(ready, content)
            for message in ready.messages_after_persist:
                self.cluster.send(self, message)
            self.raft.persisted(ready.number)
            self.cluster.oracle.look(self)
            done += 1
        return done

    def apply(self, count: int | None = None) -> int:
        """Feeds the machine the next `count` entries, all by default. Returns how many."""
        done = 0
        while self.to_apply and done != count:
            self.machine.apply(*self.to_apply.popleft())
            done += 1
        if done:
            self.raft.applied_to(self.machine.index)
        return done

    def compact(self, keep: int = 0) -> None:
        """Makes a snapshot of what is applied and drops the log, but for the last `keep` entries before it."""
        meta, content = self.machine.snapshot()
        if meta.index <= self.disk.snapshot.index or self.writes or self.raft.log.pending_snapshot:
            return
        index = max(self.raft.log.first_index - 1, meta.index - keep)
        self.disk.save_snapshot(meta, content, index)
        self.raft.compact(index, meta)


class Network:
    """Messages on their way, and the links that are cut. Order, loss and doubles are the test's decision."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.contents: dict[int, Content] = {}
        self.cut: set[tuple[int, int]] = set()
        self.dropped = 0

    def send(self, message: Message, content: Content | None = None) -> bool:
        """Whether the message is on its way; on a cut link it is lost."""
        if (message.sender, message.to) in self.cut:
            self.dropped += 1
            return False
        self.messages.append(message)
        if content is not None:
            self.contents[id(message)] = content
        return True

    def take(self, position: int) -> tuple[Message, Content | None]:
        message = self.messages.pop(position)
        return message, self.contents.pop(id(message), None)

    def isolate(self, node: int, others: Iterable[int]) -> None:
        for other in others:
            self.cut |= {(node, other), (other, node)}


class Cluster:
    """Nodes and the network between them."""

    def __init__(
        self,
        ids: Iterable[int],
        *,
        config: Config | None = None,
        options: RaftOptions | None = None,
        seed: int = 0,
        index: int = 0,
        ready: bool = True,
    ) -> None:
        """Nodes `ids` that all know `config` (all of them voters by default) and start from a snapshot at `index`."""
        ids = list(ids)
        self.random = Random(seed)
        self.options = options if options is not None else RaftOptions(election_ticks=10, heartbeat_ticks=1)
        self.network = Network()
        self.oracle = Oracle()
        self.nodes: dict[int, Node] = {}
        self.on_ready: Callable[[Node, Ready], None] | None = None
        self.on_deliver: Callable[[Message], None] | None = None
        start = SnapshotMeta(index, 1 if index else 0, config if config is not None else Config(frozenset(ids)))
        for node_id in ids:
            disk = Disk(HardState(start.term, 0, index), start)
            self.nodes[node_id] = Node(self, node_id, disk, self.options, ready=ready)

    def add_node(self, node_id: int, options: RaftOptions | None = None) -> Node:
        """A new node that knows nothing, not even a configuration."""
        node = self.nodes[node_id] = Node(self, node_id, Disk(), options or self.options)
        return node

    # --- one step each ------------------------------------------------------------------------------------------

    def send(self, sender: Node, message: Message) -> None:
        check_persisted_before_send(sender, message)
        content = None
        if message.type is MessageType.SNAPSHOT:
            assert message.snapshot == sender.disk.snapshot, "the leader sends a snapshot that it does not have"
            content = sender.disk.content
        # The wire copies: what the sender does to its message later is not seen by the receiver.
        self.network.send(replace(message), content)

    def deliver(self, position: int = 0, *, duplicate: bool = False) -> Message:
        """Hands over the message at `position`; `duplicate`: it stays on its way too."""
        message, content = self.network.take(position)
        if duplicate:
            self.network.send(replace(message), content)
        if self.on_deliver is not None:
            self.on_deliver(message)
        node = self.nodes.get(message.to)
        if node is not None:
            if message.snapshot is not None and content is not None and node.raft.role is not Role.NOT_READY:
                node.arrived[message.snapshot.index] = content
            node.raft.step(message)
            self.oracle.look(node)
        return message

    def restart(self, node_id: int, *, options: RaftOptions | None = None, ready: bool = True) -> Node:
        """Kill and start: what was not written is gone."""
        old = self.nodes[node_id]
        self.oracle.restarted(node_id)
        node = Node(self, node_id, old.disk, options or old.options, ready=ready)
        self.nodes[node_id] = node
        return node

    # --- many steps ---------------------------------------------------------------------------------------------

    def turn(self, node: Node) -> bool:
        """Does all that a node has to do now: Ready, write, apply. Returns whether there was anything."""
        busy = False
        while node.raft.has_ready() or node.writes or node.to_apply:
            busy = True
            if node.raft.has_ready():
                node.process()
            node.persist()
            node.apply()
        return busy

    def stabilize(self, only: Iterable[int] | None = None, *, limit: int = 10_000) -> None:
        """Until nothing is left to do among `only` (all by default)."""
        chosen = set(self.nodes if only is None else only)
        for _ in range(limit):
            busy = False
            for node_id in sorted(chosen):
                busy |= self.turn(self.nodes[node_id])
            position = next((i for i, m in enumerate(self.network.messages) if m.to in chosen), None)
            if position is not None:
                self.deliver(position)
            elif not busy:
                return
        raise AssertionError(f"not stable after {limit} messages")

    def tick(self, count: int = 1, only: Iterable[int] | None = None) -> None:
        """Time for all (or `only` some) nodes, each tick followed by all that it causes."""
        for _ in range(count):
            for node_id in sorted(self.nodes if only is None else only):
                self.nodes[node_id].raft.tick()
            self.stabilize()

    # --- looking ------------------------------------------------------------------------------------------------

    @property
    def leader(self) -> Node | None:
        """The leader of the highest term, if there is one."""
        leaders = [node for node in self.nodes.values() if node.raft.role is Role.LEADER]
        return max(leaders, key=lambda node: node.raft.term, default=None)

    def elect(self, node_id: int) -> Node:
        """Makes `node_id` the leader, without time passing."""
        node = self.nodes[node_id]
        node.raft.campaign()
        self.stabilize()
        assert node.raft.role is Role.LEADER, f"{node_id} is {node.raft.role}"
        return node

    def check_log_matching(self) -> None:
        """If two logs hold an entry of the same index and term, they agree on it and on all before it."""
        nodes = list(self.nodes.values())
        for position, left in enumerate(nodes):
            for right in nodes[position + 1 :]:
                _check_pair(left.raft, right.raft)


def _check_pair(left: Raft, right: Raft) -> None:
    first = max(left.log.first_index, right.log.first_index)
    last = min(left.log.last_index, right.log.last_index)
    agreed = False
    for index in range(last, first - 1, -1):
        same_term = left.log.term(index) == right.log.term(index)
        assert same_term or not agreed, f"nodes {left.id} and {right.id} agree behind {index}, but not on it"
        if same_term:
            agreed = True
            assert left.log.entry(index) == right.log.entry(index), f"two entries {index} of one term"


def check_persisted_before_send(node: Node, message: Message) -> None:
    """What a message promises must be on the sender's disk (dissertation, section 3.8)."""
    disk, kind = node.disk, message.type
    state = disk.hard_state
    if kind is MessageType.VOTE:
        assert state.term >= message.term, f"{message} before its term is on disk"
        assert state.term > message.term or state.vote == node.id, f"{message} before the own vote is on disk"
    elif kind is MessageType.VOTE_RESPONSE and not message.reject:
        assert state.term >= message.term, f"{message} before its term is on disk"
        assert state.term > message.term or state.vote == message.to, f"{message} before the vote is on disk"
    elif kind is MessageType.APPEND_RESPONSE:
        assert state.term >= message.term, f"{message} before its term is on disk"
        if not message.reject and state.term == message.term:
            assert disk.last_index >= message.log_index, f"{message}, but the disk ends at {disk.last_index}"
    elif kind in (MessageType.APPEND, MessageType.HEARTBEAT, MessageType.SNAPSHOT, MessageType.TIMEOUT_NOW):
        assert state.term >= message.term, f"{message}: a leader whose term is not on its disk"
