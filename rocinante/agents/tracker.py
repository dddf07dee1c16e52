"""From packets to flows: one record for both directions of a connection, and which records the cluster has not seen
yet. PURE: time is an argument.

Who is the initiator (the original direction):
- TCP: who sent the SYN, or who received the SYN/ACK where that is the first packet seen;
- TCP picked up in its middle: the side with the higher port (servers have the lower one), the sender where they are
  equal;
- UDP: who is seen first, unless that packet comes from a port below 1024 and goes to one that is not: then it is a
  server's answer.

A flow is *urgent* when the cluster does not know its state (new, another TCP state, seen in both directions,
assured), and *stale* when only its counters and deadline moved. `take` hands out urgent ones at once, stale ones
`refresh_ms` after the first change, each as it is now: however many changes there were, the latest state wins. What
could not be written is `give_back`'d.

Deadlines are conntrack's default time-outs (`tcp.py`, and here for UDP). All flows of one time-out stand in one
queue in the order of their last packet, so that expiry and eviction take the head of a queue and cost nothing per
flow that lives.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from rocinante.agents.packet import NO_FRAGMENT, PROTOCOL_TCP, Packet
from rocinante.agents.tcp import ACK, Direction, Event, classify, following, timeout_ms
from rocinante.flows import FlowFlag, FlowRecord, FlowTuple, TcpState
from rocinante.limits import SNIFF_FRAGMENTS_MAX

UDP_UNREPLIED_MS: Final = 30_000
"""udp_timeouts of net/netfilter/nf_conntrack_proto_udp.c (Linux 6.x): UDP_CT_UNREPLIED."""
UDP_REPLIED_MS: Final = 120_000
"""Same place: UDP_CT_REPLIED, for a stream."""
UDP_STREAM_MS: Final = 2_000
"""Same file: a flow seen both ways is a stream, and assured, when it still lives after this time."""
SYSTEM_PORTS: Final = 1024
"""RFC 6335, section 6: ports below are assigned to services."""

Key = tuple[int, bytes, int, bytes, int]
"""protocol, source, source port, destination, destination port: of the original direction."""
Endpoint = tuple[bytes, int]


class Flow:
    """What is known of one connection. Times are in ms of the capture's clock."""

    __slots__ = (
        "assured", "bytes_original", "bytes_reply", "deadline_ms", "first_ms", "key", "packets_original",
        "packets_reply", "reopening", "state", "timeout_ms", "updated_ms",
    )  # fmt: skip

    def __init__(self, key: Key, now_ms: int) -> None:
        self.key = key
        self.state = TcpState.NONE
        self.assured = False
        self.packets_original = self.bytes_original = self.packets_reply = self.bytes_reply = 0
        self.first_ms = self.updated_ms = self.deadline_ms = now_ms
        self.timeout_ms = 0
        self.reopening: tuple[Direction, int] | None = None
        """A SYN that the state did not allow: who sent it and what a SYN/ACK to it acknowledges."""

    @property
    def both_ways(self) -> bool:
        return self.packets_original > 0 and self.packets_reply > 0

    def count(self, direction: Direction, length_bytes: int) -> None:
        if direction is Direction.ORIGINAL:
            self.packets_original += 1
            self.bytes_original += length_bytes
        else:
            self.packets_reply += 1
            self.bytes_reply += length_bytes

    def record(self, zone: int, as_of_ms: int | None) -> FlowRecord:
        """As the cluster keeps it; with `as_of_ms` as if its last packet had come then."""
        shift_ms = 0 if as_of_ms is None else as_of_ms - self.updated_ms
        flags = (FlowFlag.SEEN_REPLY if self.both_ways else 0) | (FlowFlag.ASSURED if self.assured else 0)
        return FlowRecord(
            original=FlowTuple(zone, *self.key),
            tcp_state=self.state,
            flags=FlowFlag(flags),
            deadline_ms=self.deadline_ms + shift_ms,
            updated_ms=self.updated_ms + shift_ms,
            packets_original=self.packets_original,
            bytes_original=self.bytes_original,
            packets_reply=self.packets_reply,
            bytes_reply=self.bytes_reply,
        )


@dataclass(slots=True)
class Counters:
    """What happened since the start."""

    packets: int = 0
    """TCP and UDP packets that were counted in a flow."""
    bytes: int = 0
    created: int = 0
    expired: int = 0
    evicted: int = 0
    """Forgotten before their time because there was no room."""
    own: int = 0
    """Packets to or from the endpoints that are not recorded."""
    stray: int = 0
    """TCP segments that begin no flow (FIN, RST, no flag), and fragments whose first one was not seen."""


class Taken(NamedTuple):
    """Flows to be written: keys for `give_back`, and the records."""

    keys: list[Key]
    records: list[FlowRecord]


class FlowTracker:
    """All flows that are alive. Not thread-safe."""

    def __init__(self, *, flows_max: int, refresh_ms: int, zone: int = 0, ignore: Iterable[Endpoint] = ()) -> None:
        self._flows: dict[Key, Flow] = {}
        self._queues: dict[int, OrderedDict[Key, Flow]] = {}
        self._urgent: dict[Key, Flow] = {}
        self._stale: OrderedDict[Key, int] = OrderedDict()
        self._fragments: OrderedDict[tuple[int, bytes, bytes, int], tuple[Key, Direction]] = OrderedDict()
        self._flows_max = flows_max
        self._refresh_ms = refresh_ms
        self._zone = zone
        self.ignore = frozenset(ignore)
        """TCP endpoints whose traffic is not recorded."""
        self.now_ms = 0
        """The capture's clock: the latest time that was given. It never goes back."""
        self.counters = Counters()

    def __len__(self) -> int:
        return len(self._flows)

    @property
    def waiting(self) -> int:
        """Flows whose latest state the cluster has not seen."""
        return len(self._urgent) + len(self._stale)

    def add(self, packet: Packet, now_ms: int) -> None:
        """Count one packet at `now_ms` of the capture's clock."""
        self.now_ms = now_ms = max(now_ms, self.now_ms)
        if not packet.has_ports:
            self._add_fragment(packet, now_ms)
            return
        if self.ignore and packet.protocol == PROTOCOL_TCP and self._is_own(packet):
            self.counters.own += 1
            return
        key: Key = packet[:5]
        direction = Direction.ORIGINAL
        flow = self._flows.get(key)
        if flow is None:
            flow = self._flows.get(_turned(key))
            direction = Direction.REPLY
        if flow is not None and flow.deadline_ms <= now_ms:
            self._forget(flow)
            self.counters.expired += 1
            flow = None
        if flow is None:
            begun = self._begin(packet, key, now_ms)
            if begun is None:
                self.counters.stray += 1
                return
            flow, direction = begun
        if packet.protocol == PROTOCOL_TCP:
            flow = self._step_tcp(flow, direction, packet, now_ms)
        else:
            self._step_udp(flow, direction, packet, now_ms)
        if packet.fragment != NO_FRAGMENT:
            self._remember_fragment(packet, flow)

    def expire(self, now_ms: int) -> int:
        """Forget the flows whose deadline has passed; the cluster expires its records by itself. How many there
        were."""
        self.now_ms = now_ms = max(now_ms, self.now_ms)
        expired = 0
        for queue in self._queues.values():
            while queue:
                flow = next(iter(queue.values()))
                if flow.deadline_ms > now_ms:
                    break
                self._forget(flow)
                expired += 1
        self.counters.expired += expired
        return expired

    def take(self, limit: int, *, as_of_ms: int | None = None, everything: bool = False) -> Taken:
        """Up to `limit` flows to be written now, urgent ones first; stale ones when it is time, or `everything`.

        `as_of_ms`: their times are as if the last packet of each had come then (a file of last year is to be seen
        today).
        """
        taken = Taken([], [])
        while self._urgent and len(taken.keys) < limit:
            key = next(iter(self._urgent))
            flow = self._urgent.pop(key)
            taken.keys.append(key)
            taken.records.append(flow.record(self._zone, as_of_ms))
        while self._stale and len(taken.keys) < limit:
            key, since_ms = next(iter(self._stale.items()))
            if not everything and self.now_ms - since_ms < self._refresh_ms:
                break
            del self._stale[key]
            taken.keys.append(key)
            taken.records.append(self._flows[key].record(self._zone, as_of_ms))
        return taken

    def give_back(self, keys: Iterable[Key]) -> None:
        """These were taken and not written. What lives of them is urgent again."""
        for key in keys:
            if (flow := self._flows.get(key)) is not None:
                self._urgent[key] = flow
                self._stale.pop(key, None)

    def _is_own(self, packet: Packet) -> bool:
        return (packet.source, packet.source_port) in self.ignore or (
            packet.destination,
            packet.destination_port,
        ) in self.ignore

    def _begin(self, packet: Packet, key: Key, now_ms: int) -> tuple[Flow, Direction] | None:
        """A flow for a packet that belongs to none; None when it cannot begin one."""
        swap = False
        if packet.protocol == PROTOCOL_TCP:
            event = classify(packet.flags)
            if event not in (Event.SYN, Event.SYN_ACK, Event.ACK):
                return None
            swap = event is Event.SYN_ACK or (event is Event.ACK and packet.source_port < packet.destination_port)
        else:
            swap = packet.source_port < SYSTEM_PORTS <= packet.destination_port
        if len(self._flows) >= self._flows_max:
            self._evict()
        return self._create(_turned(key) if swap else key, now_ms), Direction.REPLY if swap else Direction.ORIGINAL

    def _create(self, key: Key, now_ms: int) -> Flow:
        """A flow without a packet, which is counted next."""
        flow = Flow(key, now_ms)
        self._flows[key] = self._urgent[key] = flow
        self._queues.setdefault(flow.timeout_ms, OrderedDict())[key] = flow
        self.counters.created += 1
        return flow

    def _step_tcp(self, flow: Flow, direction: Direction, packet: Packet, now_ms: int) -> Flow:
        event = classify(packet.flags)
        if flow.state is TcpState.NONE and (event is Event.SYN_ACK or direction is Direction.REPLY):
            # The first packet is the answerer's: there is no row for that, because conntrack would refuse it.
            state: TcpState | None = TcpState.SYN_RECV if event is Event.SYN_ACK else TcpState.ESTABLISHED
        else:
            state = following(flow.state, direction, event)
            closed = flow.state is TcpState.TIME_WAIT or flow.state is TcpState.CLOSE
            if closed and state is TcpState.SYN_SENT:
                return self._reopen(flow, direction, packet, TcpState.SYN_SENT, Direction.ORIGINAL, now_ms)
            if state is None and self._answers_ignored_syn(flow, direction, packet, event):
                return self._reopen(flow, direction, packet, TcpState.SYN_RECV, Direction.REPLY, now_ms)
        before, was_both_ways = flow.state, flow.both_ways
        self._count(flow, direction, packet, now_ms)
        if state is None:
            if event is Event.SYN:
                flow.reopening = (direction, (packet.sequence + 1) & 0xFFFF_FFFF)
            self._touch(flow, now_ms)
            return flow
        flow.state = state
        changed = state is not before or flow.both_ways != was_both_ways
        if (
            state is TcpState.ESTABLISHED
            and not flow.assured
            and flow.both_ways
            and before in (TcpState.SYN_RECV, TcpState.ESTABLISHED)
        ):
            flow.assured = changed = True
        self._extend(flow, timeout_ms(state, flow.both_ways), now_ms)
        self._touch(flow, now_ms, urgent=changed)
        return flow

    @staticmethod
    def _answers_ignored_syn(flow: Flow, direction: Direction, packet: Packet, event: Event) -> bool:
        """The end of the last connection on these ports was missed: somebody answers the SYN that came out of place
        (conntrack: "out of sync", TCP_CONNTRACK_IGNORE)."""
        if event is not Event.SYN_ACK or flow.reopening is None or not packet.flags & ACK:
            return False
        sender, expected = flow.reopening
        return sender is not direction and packet.acknowledgement == expected

    def _reopen(
        self, flow: Flow, direction: Direction, packet: Packet, state: TcpState, role: Direction, now_ms: int
    ) -> Flow:
        """Another connection on the ports of one that has ended: a new flow, for which `role` is the packet's
        direction."""
        self._forget(flow)
        flow = self._create(flow.key if direction is role else _turned(flow.key), now_ms)
        if state is TcpState.SYN_RECV:
            flow.packets_original = 1  # the SYN that was taken for a stray packet of the old connection
            flow.bytes_original = packet.length_bytes
        flow.state = state
        self._count(flow, role, packet, now_ms)
        self._extend(flow, timeout_ms(state, flow.both_ways), now_ms)
        return flow

    def _step_udp(self, flow: Flow, direction: Direction, packet: Packet, now_ms: int) -> None:
        was_both_ways = flow.both_ways
        self._count(flow, direction, packet, now_ms)
        both_ways = flow.both_ways
        changed = both_ways != was_both_ways
        timeout = UDP_UNREPLIED_MS
        if both_ways and now_ms - flow.first_ms > UDP_STREAM_MS:
            timeout = UDP_REPLIED_MS
            if not flow.assured:
                flow.assured = changed = True
        self._extend(flow, timeout, now_ms)
        self._touch(flow, now_ms, urgent=changed)

    def _count(self, flow: Flow, direction: Direction, packet: Packet, now_ms: int) -> None:
        self.counters.packets += 1
        self.counters.bytes += packet.length_bytes
        flow.count(direction, packet.length_bytes)
        flow.updated_ms = now_ms

    def _touch(self, flow: Flow, now_ms: int, *, urgent: bool = False) -> None:
        if urgent:
            self._urgent[flow.key] = flow
            self._stale.pop(flow.key, None)
        elif flow.key not in self._stale and flow.key not in self._urgent:
            self._stale[flow.key] = now_ms

    def _extend(self, flow: Flow, timeout: int, now_ms: int) -> None:
        """Move the flow to the end of the queue of its time-out."""
        flow.deadline_ms = now_ms + timeout
        if timeout == flow.timeout_ms:
            self._queues[timeout].move_to_end(flow.key)
            return
        del self._queues[flow.timeout_ms][flow.key]
        flow.timeout_ms = timeout
        self._queues.setdefault(timeout, OrderedDict())[flow.key] = flow

    def _evict(self) -> None:
        """Make room: forget the flow whose deadline is nearest. It is the least recently seen of those with its
        time-out."""
        heads = (next(iter(queue.values())) for queue in self._queues.values() if queue)
        self._forget(min(heads, key=lambda flow: flow.deadline_ms))
        self.counters.evicted += 1

    def _forget(self, flow: Flow) -> None:
        del self._flows[flow.key]
        del self._queues[flow.timeout_ms][flow.key]
        self._urgent.pop(flow.key, None)
        self._stale.pop(flow.key, None)

    def _remember_fragment(self, packet: Packet, flow: Flow) -> None:
        """Later fragments of the datagram have no ports (RFC 791, section 3.2): they find their flow by the
        identification."""
        direction = Direction.ORIGINAL if packet[:5] == flow.key else Direction.REPLY
        self._fragments[(packet.protocol, packet.source, packet.destination, packet.fragment)] = (flow.key, direction)
        if len(self._fragments) > SNIFF_FRAGMENTS_MAX:
            self._fragments.popitem(last=False)

    def _add_fragment(self, packet: Packet, now_ms: int) -> None:
        found = self._fragments.get((packet.protocol, packet.source, packet.destination, packet.fragment))
        flow = self._flows.get(found[0]) if found else None
        if found is None or flow is None:
            self.counters.stray += 1
            return
        self._count(flow, found[1], packet, now_ms)
        self._touch(flow, now_ms)


def _turned(key: Key) -> Key:
    protocol, source, source_port, destination, destination_port = key
    return protocol, destination, destination_port, source, source_port
