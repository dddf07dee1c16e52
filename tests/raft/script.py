"""The language of the scripts in `scripts/`: one verb a line, and what came of it.

A script is a list of blocks: `#` comments, one or more verb lines, `----`, the output, an empty line. `Stage.run` does
what a verb says and returns its lines. What happens inside a verb is told as it happens: Readys (`1: ...`), messages
when they arrive (`1>2 ...`), changes of role. `quiet` and `loud` switch that off and on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any

from rocinante.raft import (
    Change,
    ChangeKind,
    Config,
    ConfigChange,
    Entry,
    EntryKind,
    HardState,
    Message,
    MessageType,
    RaftError,
    RaftOptions,
    Ready,
    SnapshotMeta,
    Transition,
    decode_change,
    encode_change,
)
from rocinante.raft.leader import Leader

from .harness import Cluster, Disk, Node

Arguments = dict[str, str]

_KINDS = {"v": ChangeKind.ADD_VOTER, "l": ChangeKind.ADD_LEARNER}
_TRANSITIONS = {
    "auto": Transition.AUTO,
    "implicit": Transition.JOINT_IMPLICIT,
    "explicit": Transition.JOINT_EXPLICIT,
}


class Stage:
    """One script's cluster."""

    def __init__(self) -> None:
        self.cluster = Cluster([])
        self.lines: list[str] = []
        self.loud = True
        self._told: dict[int, str] = {}

    def run(self, line: str) -> list[str]:
        """Does what one line says; returns what came of it."""
        self.lines = []
        verb, *words = line.split()
        plain = [word for word in words if "=" not in word]
        named = dict(word.split("=", 1) for word in words if "=" in word)
        action: Callable[[list[str], Arguments], None] = getattr(self, "do_" + verb.replace("-", "_"))
        try:
            action(plain, named)
        except (RaftError, ValueError) as error:
            self.lines.append(f"{type(error).__name__}: {error}")
        self._tell_roles()
        return self.lines or ["ok"]

    # --- setting ------------------------------------------------------------------------------------------------

    def do_nodes(self, plain: list[str], named: Arguments) -> None:
        """`nodes 3 learners=4 index=10 OPTION=...`: voters 1 to 3 (or voters=...), that start from a snapshot."""
        voters = _ids(named.pop("voters")) if "voters" in named else set(range(1, int(plain[0]) + 1))
        learners = _ids(named.pop("learners", ""))
        index = int(named.pop("index", "0"))
        config = Config(frozenset(voters), learners=frozenset(learners))
        self.cluster = Cluster(sorted(voters | learners), config=config, options=_options(named), index=index)
        self._attach()

    def do_boot(self, plain: list[str], named: Arguments) -> None:
        """`boot 1 2 3 term=4 vote=2 commit=1 entries=1,1,4`: nodes whose disks hold that; entries by their terms."""
        terms = [int(term) for term in named.get("entries", "").split(",") if term]
        entries = [Entry(i, term, EntryKind.NORMAL, b"%d/%d" % (i, term)) for i, term in enumerate(terms, 1)]
        for word in plain:
            node = self._node(word)
            state = HardState(int(named.get("term", 0)), int(named.get("vote", 0)), int(named.get("commit", 0)))
            node.disk = Disk(state, node.disk.snapshot, (), list(entries))
            self.cluster.restart(node.id)
        self._attach()

    def do_add_node(self, plain: list[str], _: Arguments) -> None:
        self.cluster.add_node(int(plain[0]))
        self._attach()

    def do_restart(self, plain: list[str], named: Arguments) -> None:
        self.cluster.restart(int(plain[0]), ready=named.get("ready") != "no")
        self._attach()

    def do_timeout(self, plain: list[str], _: Arguments) -> None:
        """`timeout 1 4`: the election timeout that node 1 has drawn."""
        self._node(plain[0]).raft.timeout = int(plain[1])

    def do_quiet(self, _plain: list[str], _: Arguments) -> None:
        self._attach()
        self.loud = False

    def do_loud(self, _plain: list[str], _: Arguments) -> None:
        self._attach()
        self.loud = True

    def _attach(self) -> None:
        self.cluster.on_ready = self._tell_ready
        self.cluster.on_deliver = self._tell_message
        for node in self.cluster.nodes.values():
            self._told[node.id] = _role(node)

    # --- requests -----------------------------------------------------------------------------------------------

    def do_campaign(self, plain: list[str], _: Arguments) -> None:
        self._node(plain[0]).raft.campaign()

    def do_tick(self, plain: list[str], _: Arguments) -> None:
        """`tick 1 3`: three ticks of node 1, and nothing that follows from them yet."""
        for _tick in range(int(plain[1]) if len(plain) > 1 else 1):
            self._node(plain[0]).raft.tick()
            self._tell_roles()

    def do_pass(self, plain: list[str], _: Arguments) -> None:
        """`pass 3`: three ticks for all, with all that follows from each."""
        self.cluster.tick(int(plain[0]) if plain else 1)

    def do_propose(self, plain: list[str], _: Arguments) -> None:
        for data in plain[1:]:
            self._node(plain[0]).raft.propose(data.encode())

    def do_change(self, plain: list[str], _: Arguments) -> None:
        """`change 1 v4 l5 r2 explicit`: add voter 4, add learner 5, remove 2."""
        self._node(plain[0]).raft.propose_change(_change(plain[1:]))

    def do_slip(self, plain: list[str], _: Arguments) -> None:
        """`slip 1 v4`, `slip 1 leave`: puts a change into the leader's log that nobody checked, without its result."""
        change = ConfigChange(transition=Transition.LEAVE) if plain[1] == "leave" else _change(plain[1:])
        leader = self._node(plain[0]).raft
        leader.log.append(leader.term, EntryKind.CONFIG, encode_change(change))
        assert isinstance(leader.behaviour, Leader)
        leader.behaviour.replication.due = True

    def do_leave(self, plain: list[str], _: Arguments) -> None:
        self._node(plain[0]).raft.propose_change(ConfigChange(transition=Transition.LEAVE))

    def do_read(self, plain: list[str], _: Arguments) -> None:
        for context in plain[1:]:
            self._node(plain[0]).raft.read_index(int(context))

    def do_transfer(self, plain: list[str], _: Arguments) -> None:
        self._node(plain[0]).raft.transfer(int(plain[1]))

    def do_hurry(self, plain: list[str], _: Arguments) -> None:
        self._node(plain[0]).raft.hurry(int(plain[1]))

    def do_peer_lost_its_log(self, plain: list[str], named: Arguments) -> None:
        self._node(plain[0]).raft.peer_lost_its_log(int(plain[1]), int(named["last"]))

    def do_adopt_vote(self, plain: list[str], _: Arguments) -> None:
        self._node(plain[0]).raft.adopt_vote()

    def do_forget_leader(self, plain: list[str], _: Arguments) -> None:
        self._node(plain[0]).raft.forget_leader()

    def do_set_ready(self, plain: list[str], _: Arguments) -> None:
        self._node(plain[0]).raft.set_ready()

    def do_set_not_ready(self, plain: list[str], _: Arguments) -> None:
        self._node(plain[0]).raft.set_not_ready()

    def do_unreachable(self, plain: list[str], _: Arguments) -> None:
        self._node(plain[0]).raft.report_unreachable(int(plain[1]))

    def do_snapshot_report(self, plain: list[str], _: Arguments) -> None:
        self._node(plain[0]).raft.report_snapshot(int(plain[1]), plain[2] == "ok")

    def do_compact(self, plain: list[str], named: Arguments) -> None:
        self._node(plain[0]).compact(int(named.get("keep", 0)))

    # --- steps --------------------------------------------------------------------------------------------------

    def do_process(self, plain: list[str], _: Arguments) -> None:
        """Takes one Ready: sends, but does not write."""
        self._node(plain[0]).process()

    def do_persist(self, plain: list[str], _: Arguments) -> None:
        self._node(plain[0]).persist(int(plain[1]) if len(plain) > 1 else None)

    def do_apply(self, plain: list[str], _: Arguments) -> None:
        self._node(plain[0]).apply(int(plain[1]) if len(plain) > 1 else None)

    def do_turn(self, plain: list[str], _: Arguments) -> None:
        """Readys, writes and applying, until the node has nothing left to do."""
        self.cluster.turn(self._node(plain[0]))

    def do_stabilize(self, plain: list[str], _: Arguments) -> None:
        self.cluster.stabilize([int(word) for word in plain] or None)

    def do_deliver(self, _plain: list[str], named: Arguments) -> None:
        """`deliver from=1 to=2 type=APPEND count=1 duplicate=yes`: what matches, in order."""
        left = int(named.get("count", 1_000_000))
        twice = named.get("duplicate") == "yes"
        for message in [m for m in self.cluster.network.messages if _matches(m, named)][:left]:
            self.cluster.deliver(_position(self.cluster, message), duplicate=twice)
            self._tell_roles()

    def do_drop(self, _plain: list[str], named: Arguments) -> None:
        left = int(named.get("count", 1_000_000))
        for message in [m for m in self.cluster.network.messages if _matches(m, named)][:left]:
            self.cluster.network.take(_position(self.cluster, message))
            if self.loud:
                self.lines.append("dropped " + show(message))

    def do_reverse(self, _plain: list[str], _: Arguments) -> None:
        """Turns the order of all messages on their way round."""
        self.cluster.network.messages.reverse()

    def do_isolate(self, plain: list[str], _: Arguments) -> None:
        self.cluster.network.isolate(int(plain[0]), self.cluster.nodes)

    def do_cut(self, plain: list[str], _: Arguments) -> None:
        """`cut 1 2`: one way."""
        self.cluster.network.cut.add((int(plain[0]), int(plain[1])))

    def do_heal(self, _plain: list[str], _: Arguments) -> None:
        self.cluster.network.cut.clear()

    def do_send(self, plain: list[str], named: Arguments) -> None:
        """`send HEARTBEAT from=2 to=1 term=3 commit=9 entries=4/3,5/3`: a message that nobody sent."""
        message = Message(MessageType[plain[0]], int(named.pop("to")), int(named.pop("from")), int(named.pop("term")))
        for name, value in named.items():
            if name == "entries":
                pairs = [tuple(map(int, pair.split("/"))) for pair in value.split(",")]
                message.entries = tuple(Entry(index, term, EntryKind.NORMAL, b"") for index, term in pairs)
            elif name == "snapshot":
                index, term = map(int, value.split("/"))
                message.snapshot = SnapshotMeta(index, term, Config(frozenset(self.cluster.nodes)))
            else:
                setattr(message, name, type(getattr(message, name))(int(value)))
        self.cluster.nodes[message.to].raft.step(message)

    # --- looking ------------------------------------------------------------------------------------------------

    def do_states(self, _plain: list[str], _: Arguments) -> None:
        for node in self.cluster.nodes.values():
            raft = node.raft
            self.lines.append(
                f"{node.id}: {_role(node)} vote={raft.vote} leader={raft.leader} "
                f"last={raft.log.last_index}/{raft.log.last_term} commit={raft.log.commit} applied={raft.log.applied}"
            )

    def do_status(self, plain: list[str], _: Arguments) -> None:
        """What a leader knows of its peers."""
        status = self._node(plain[0]).raft.status()
        self.lines.append(
            f"{status.role} term={status.term} commit={status.commit} persisted={status.persisted} "
            f"last={status.last_index} transferee={status.transferee} ignored={status.ignored}"
        )
        for peer, progress in status.peers.items():
            marks = [
                name
                for name, on in (
                    ("paused", progress.paused),
                    ("inactive", not progress.active),
                    ("learner", progress.learner),
                )
                if on
            ]
            if progress.inflight:
                marks.append(f"inflight={progress.inflight}")
            if progress.pending_snapshot:
                marks.append(f"pending={progress.pending_snapshot}")
            self.lines.append(" ".join([f"{peer}: {progress.state} {progress.match}<{progress.next}", *marks]))

    def do_silence(self, _plain: list[str], _: Arguments) -> None:
        for node in self.cluster.nodes.values():
            self.lines.append(f"{node.id}: {_role(node)} silent={node.raft.status().leader_silent_ticks}")

    def do_rotation(self, plain: list[str], _: Arguments) -> None:
        rotation = self._node(plain[0]).raft.status().rotation
        kind = "holding" if rotation.holding else "draining" if rotation.draining else "turn"
        self.lines.append(f"{kind} {rotation.hold_left_ticks or rotation.turn_left_ticks}")

    def do_log(self, plain: list[str], _: Arguments) -> None:
        log = self._node(plain[0]).raft.log
        entries = log.slice(log.first_index, log.last_index, 1 << 30)
        self.lines.append(
            f"from {log.first_index}: {_entries(entries)} commit={log.commit} applied={log.applied} "
            f"persisted={log.persisted}"
        )

    def do_disk(self, plain: list[str], _: Arguments) -> None:
        disk = self._node(plain[0]).disk
        state = disk.hard_state
        self.lines.append(
            f"term={state.term} vote={state.vote} snapshot={disk.snapshot.index}/{disk.snapshot.term} "
            f"{_entries(disk.entries)}"
        )

    def do_machine(self, plain: list[str], _: Arguments) -> None:
        for word in plain or map(str, self.cluster.nodes):
            machine = self._node(word).machine
            data = " ".join(data.decode() for _index, data in machine.data)
            self.lines.append(f"{word}: applied={machine.index} {data}")

    def do_config(self, plain: list[str], _: Arguments) -> None:
        for word in plain or map(str, self.cluster.nodes):
            self.lines.append(f"{word}: {show_config(self._node(word).raft.config)}")

    def do_answers(self, _plain: list[str], _: Arguments) -> None:
        """Everybody does what it has to do now; the answers to requests for votes, and no other messages."""
        for node in self.cluster.nodes.values():
            self.cluster.turn(node)
        answers = (MessageType.VOTE_RESPONSE, MessageType.PRE_VOTE_RESPONSE)
        self.lines += [show(message) for message in self.cluster.network.messages if message.type in answers]

    def do_messages(self, _plain: list[str], _: Arguments) -> None:
        self.lines += [show(message) for message in self.cluster.network.messages]

    # --- telling ------------------------------------------------------------------------------------------------

    def _node(self, word: str) -> Node:
        return self.cluster.nodes[int(word)]

    def _tell_roles(self) -> None:
        for node in self.cluster.nodes.values():
            role = _role(node)
            if self._told.get(node.id) != role:
                self._told[node.id] = role
                if self.loud:
                    self.lines.append(f"{node.id}: becomes {role}")

    def _tell_message(self, message: Message) -> None:
        self._tell_roles()
        if self.loud:
            self.lines.append(show(message))

    def _tell_ready(self, node: Node, ready: Ready) -> None:
        self._tell_roles()
        if not self.loud:
            return
        parts = []
        if ready.hard_state is not None:
            state = ready.hard_state
            parts.append(f"state term={state.term} vote={state.vote} commit={state.commit}")
        if ready.snapshot is not None:
            parts.append(f"snapshot {ready.snapshot.index}/{ready.snapshot.term} {show_config(ready.snapshot.config)}")
        if ready.entries:
            parts.append(f"write {_entries(ready.entries)}")
        if ready.committed:
            parts.append(f"apply {_entries(ready.committed)}")
        parts += [f"read {read.context} at {read.index}" for read in ready.reads]
        parts += [f"read {context} failed" for context in ready.failed_reads]
        if parts:
            self.lines.append(f"{node.id}: " + "; ".join(parts))


def _role(node: Node) -> str:
    return f"{node.raft.role} term={node.raft.term}"


def _ids(text: str) -> set[int]:
    return {int(word) for word in text.split(",") if word}


def _change(words: list[str]) -> ConfigChange:
    changes = tuple(
        Change(_KINDS.get(word[0], ChangeKind.REMOVE), int(word[1:]))
        for word in words
        if word[0] in "vlr" and word[1:].isdigit()
    )
    return ConfigChange(changes, next((_TRANSITIONS[word] for word in words if word in _TRANSITIONS), Transition.AUTO))


def _options(named: Arguments) -> RaftOptions:
    known = {field.name: field.type for field in fields(RaftOptions)}
    values: dict[str, Any] = {"election_ticks": 3, "heartbeat_ticks": 1, "pre_vote": False, "check_quorum": False}
    for name, text in named.items():
        if name not in known:
            raise ValueError(f"{name}: no such option")
        values[name] = {"yes": True, "no": False}.get(text, int(text) if text.isdigit() else text)
    return RaftOptions(**values)


def _matches(message: Message, named: Arguments) -> bool:
    return (
        int(named.get("from", message.sender)) == message.sender
        and int(named.get("to", message.to)) == message.to
        and named.get("type", message.type.name) == message.type.name
    )


def _position(cluster: Cluster, message: Message) -> int:
    return next(i for i, other in enumerate(cluster.network.messages) if other is message)


def _entries(entries: Iterable[Entry]) -> str:
    return "[" + ", ".join(_entry(entry) for entry in entries) + "]"


def _entry(entry: Entry) -> str:
    if entry.kind is EntryKind.CONFIG:
        change = decode_change(entry.data)
        letters = {ChangeKind.ADD_VOTER: "v", ChangeKind.ADD_LEARNER: "l", ChangeKind.REMOVE: "r"}
        words = [f"{letters[kind]}{node}" for kind, node in change.changes] or [change.transition.name.lower()]
        return f"{entry.index}/{entry.term} <{' '.join(words)}>"
    return f"{entry.index}/{entry.term} {entry.data.decode()}".rstrip()


def show_config(config: Config) -> str:
    def ids(nodes: frozenset[int]) -> str:
        return "(" + " ".join(map(str, sorted(nodes))) + ")"

    text = ids(config.voters)
    if config.joint:
        text += "&&" + ids(config.voters_outgoing)
    if config.learners:
        text += " learners=" + ids(config.learners)
    if config.learners_next:
        text += " next=" + ids(config.learners_next)
    return text + (" autoleave" if config.auto_leave else "")


def show(message: Message) -> str:
    """One line for a message: only the fields that count."""
    text = f"{message.sender}>{message.to} {message.type.name} term={message.term}"
    kind = message.type
    if kind is MessageType.APPEND:
        text += f" after={message.log_index}/{message.log_term} commit={message.commit} {_entries(message.entries)}"
    elif kind in (MessageType.VOTE, MessageType.PRE_VOTE):
        text += f" last={message.log_index}/{message.log_term}" + _known(message) + (" force" if message.force else "")
    elif kind is MessageType.HEARTBEAT:
        text += f" commit={message.commit}" + (f" round={message.context}" if message.context else "")
    elif kind is MessageType.HEARTBEAT_RESPONSE:
        text += f" round={message.context}" if message.context else ""
    elif kind is MessageType.SNAPSHOT and message.snapshot is not None:
        text += f" {message.snapshot.index}/{message.snapshot.term} {show_config(message.snapshot.config)}"
    elif kind is MessageType.APPEND_RESPONSE and not message.reject:
        text += f" upto={message.log_index}"
    elif kind is MessageType.APPEND_RESPONSE:
        text += f" rejects={message.log_index} hint={message.hint_index}/{message.hint_term}"
    if kind in (MessageType.VOTE_RESPONSE, MessageType.PRE_VOTE_RESPONSE):
        text += (" no" if message.reject else " yes") + _known(message)
    return text


def _known(message: Message) -> str:
    return f" knows={message.commit}/{message.hint_term}" if message.commit else ""
