"""What the flows of the benchmarks are like: a seeded mix as a load balancer sees it (docs/benchmarks.md, in words).

Contract. Flow number n (below BENCH_FLOWS_MAX) of a family always has the same key, and `numbers` finds n again from
it; all keys differ. A flow's client (one of 65,536 in 1,024 prefixes) and ephemeral port follow from n by a
multiplication that scatters neighbours; its service (protocol, server, port) repeats every SERVICE_SLOTS numbers. What
is known of a flow is a row of a pool: row n, or, when the flow is written again, another one of the same service. So
records differ from each other in every field that differs in real traffic, and are made by copying columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rocinante.bench.bounds import BENCH_FLOWS_MAX
from rocinante.flows import Backend, FlowColumns, FlowFlag, TcpState, decode_batch, encode_batch, encode_columns
from rocinante.flows.columns import KEY_FIELDS
from rocinante.flows.key import FAMILY_V4, FAMILY_V6, KEY_V4_BYTES

__all__ = ["FRAME_BYTES", "Pool", "fixed_pool", "keys_of", "named_pool", "numbers_of"]

SEED: Final = 20_261
SERVICE_SLOTS: Final = 1_024
POOL_ROWS: Final = 16 * SERVICE_SLOTS
NAMED_ROWS: Final = 4 * SERVICE_SLOTS
"""Of records with a backend's name, which are made one by one."""
AGE_MS_MAX: Final = 5_000
"""A record is up to so much older than its batch: it was updated since its writer looked last."""
_TCP, _UDP, _ICMP, _ICMPV6 = 6, 17, 1, 58
SERVICES: Final = (
    # percent of the flows, protocol, port, whether it is behind the balancer (else: a server in the same network)
    (45, _TCP, 443, True),
    (10, _TCP, 80, True),
    (2, _TCP, 25, True),
    (13, _UDP, 443, True),
    (8, _TCP, 8443, False),
    (5, _TCP, 5432, False),
    (3, _TCP, 22, False),
    (12, _UDP, 53, False),
    (2, _ICMP, 0, False),
)
TCP_STATES: Final = {
    TcpState.ESTABLISHED: (62, 432_000), TcpState.TIME_WAIT: (20, 120), TcpState.SYN_SENT: (5, 120),
    TcpState.FIN_WAIT: (4, 120), TcpState.CLOSE: (4, 10), TcpState.CLOSE_WAIT: (3, 60),
    TcpState.SYN_RECV: (1, 60), TcpState.LAST_ACK: (1, 30),
}  # fmt: skip
"""Percent of the TCP flows, and how many seconds such a flow lives without news (docs/flows.md)."""
UDP_S, UDP_STREAM_S, ICMP_S = 30, 120, 30
UDP_REPLIED_PERCENT: Final = 60
SERVERS: Final = 64
"""Behind each service; the busiest one has about a fifth of its flows (1/rank)."""
BACKENDS: Final = 32
_TAIL: Final = 1.2
"""Of the Pareto distribution of a flow's packets: a few flows have most of them."""
_PACKETS_MAX: Final = 1 << 28

_NUMBER_BITS: Final = BENCH_FLOWS_MAX.bit_length() - 1
_PORT_BITS: Final = 14
_CLIENT_BITS: Final = _NUMBER_BITS - _PORT_BITS
_PREFIX_BITS: Final = 10
_PORTS_FROM: Final = 32_768
_SCATTER: Final = 0x2C1B_3C6D
_GATHER: Final = pow(_SCATTER, -1, BENCH_FLOWS_MAX)
_INTERFACE: Final = 0x9E37_79B9_7F4A_7C15
_INTERFACE_INVERSE: Final = pow(_INTERFACE, -1, 1 << 64)
FRAME_BYTES: Final = 3
"""What stands before the key in a record of the variable kind."""
_LONE_BACKEND: Final = 0x0A00_6401
_OUTSIDE_V4, _INSIDE_V4 = 0xCB00_7100, 0x0A00_0000
"""203.0.113.0/24 is above all clients, 10.0.0.0/24 below: the client is endpoint a in the one case, b in the other."""
_OUTSIDE_V6, _INSIDE_V6 = 0x2001_0DB8_FFFF_0000, 0x2001_0DB8_0000_0000
_NETWORKS_V4: Final = ((0x0A01_0000, 65_000), (0x6440_0000, 16_384), (0xAC10_0000, 4_096), (0xC0A8_0000, 256))
"""Where the clients' prefixes are drawn from: first address, number of /24 networks."""

Array = NDArray[Any]


class _Services(NamedTuple):
    """By slot."""

    protocol: Array
    port: Array
    """0: none of its own, both are the client's (ICMP)."""
    host: Array
    balanced: Array

    def protocol_of(self, slot: Array, key_bytes: int) -> Array:
        found = self.protocol[slot]
        return np.where((found == _ICMP) & (key_bytes != KEY_V4_BYTES), _ICMPV6, found)

    def port_of(self, slot: Array, client_port: Array) -> Array:
        found = self.port[slot]
        return np.where(found != 0, found, client_port)


class Pool(NamedTuple):
    """Rows of values, encoded; the times are counted from the batch's."""

    values: Array
    """A row each, of bytes; both times are zero."""
    age_ms: Array
    """How much older than its batch."""
    life_ms: Array
    """From its update to its end."""

    def row_of(self, numbers: Array, written: Array) -> Array:
        """Of each flow: another row of its service for another number of the write."""
        turn = written // SERVICE_SLOTS % (len(self.values) // SERVICE_SLOTS)
        row: Array = numbers & SERVICE_SLOTS - 1 | turn * SERVICE_SLOTS
        return row


@cache
def _services() -> _Services:
    rng = np.random.default_rng(SEED)
    shares = np.array([share for share, *_ in SERVICES]) / 100
    drawn = rng.choice(len(SERVICES), SERVICE_SLOTS, p=shares)
    ranks = 1 / np.arange(1, SERVERS + 1)
    host = 1 + rng.choice(SERVERS, SERVICE_SLOTS, p=ranks / ranks.sum())
    table = np.array([(protocol, port, balanced) for _, protocol, port, balanced in SERVICES])
    return _Services(table[drawn, 0], table[drawn, 1], host, table[drawn, 2].astype(np.bool_))


@cache
def _clients_v4() -> tuple[Array, Array, Array]:
    """(address of each client, the networks in order, which prefix each of these is)."""
    rng = np.random.default_rng(SEED + 1)
    all_of_them = np.concatenate([first // 256 + np.arange(count) for first, count in _NETWORKS_V4])
    networks = rng.choice(all_of_them, 1 << _PREFIX_BITS, replace=False).astype(np.uint32)
    client = np.arange(1 << _CLIENT_BITS)
    host = 2 + 3 * (client >> _PREFIX_BITS)
    addresses = networks[client & (1 << _PREFIX_BITS) - 1] << np.uint32(8) | host.astype(np.uint32)
    order = np.argsort(networks)
    return addresses, networks[order], order


@cache
def _clients_v6() -> tuple[Array, Array]:
    """(upper, lower half of each client's address): a /48 for each prefix, interfaces that look random."""
    client = np.arange(1 << _CLIENT_BITS, dtype=np.uint64)
    prefix = client & np.uint64((1 << _PREFIX_BITS) - 1)
    upper = np.uint64(_INSIDE_V6) | (prefix * np.uint64(37) + np.uint64(256)) << np.uint64(16) | prefix & np.uint64(3)
    return upper, (client + np.uint64(1)) * np.uint64(_INTERFACE)


def _ends(numbers: Array) -> tuple[Array, Array, Array]:
    """(client, its port, slot of the service) of each flow."""
    scattered = numbers.astype(np.int64) * _SCATTER & (BENCH_FLOWS_MAX - 1)
    port = (scattered & (1 << _PORT_BITS) - 1) + _PORTS_FROM
    return scattered >> _PORT_BITS, port, numbers & (SERVICE_SLOTS - 1)


def keys_of(numbers: Sequence[int] | Array, key_bytes: int, zone: int) -> Array:
    """The packed keys of these flows, as an array of KEY_FIELDS."""
    client, port, slot = _ends(np.asarray(numbers, np.int64))
    services = _services()
    keys = np.empty(len(client), KEY_FIELDS[key_bytes])
    keys["zone"], keys["protocol"] = zone, services.protocol_of(slot, key_bytes)
    outside, server_port = services.balanced[slot], services.port_of(slot, port)
    keys["a_port"], keys["b_port"] = np.where(outside, port, server_port), np.where(outside, server_port, port)
    if key_bytes == KEY_V4_BYTES:
        keys["family"] = FAMILY_V4
        theirs, server = _clients_v4()[0][client], _server_v4()[slot]
        keys["a"], keys["b"] = np.where(outside, theirs, server), np.where(outside, server, theirs)
        return keys
    keys["family"] = FAMILY_V6
    upper, lower = (half[client] for half in _clients_v6())
    server, host = _server_v6()[slot], services.host[slot].astype(np.uint64)
    keys["a"], keys["b"] = np.where(outside, upper, server), np.where(outside, server, upper)
    keys["a_low"], keys["b_low"] = np.where(outside, lower, host), np.where(outside, host, lower)
    return keys


def numbers_of(keys: Array) -> Array:
    """Which flows these keys are of: the inverse of `keys_of`."""
    if keys.dtype.itemsize == KEY_V4_BYTES:
        inside = keys["a"] < _INSIDE_V4 + 256
        address = np.where(inside, keys["b"], keys["a"]).astype(np.int64)
        _, networks, order = _clients_v4()
        prefix = order[np.searchsorted(networks, address >> 8)]
        client = ((address & 255) - 2) // 3 << _PREFIX_BITS | prefix
    else:
        inside = keys["a"] == _INSIDE_V6
        lower = np.where(inside, keys["b_low"], keys["a_low"]).astype(np.uint64)
        client = (lower * np.uint64(_INTERFACE_INVERSE) - np.uint64(1)).astype(np.int64)
    port = np.where(inside, keys["b_port"], keys["a_port"]).astype(np.int64)
    numbers: Array = ((client << _PORT_BITS | port - _PORTS_FROM) * _GATHER) & (BENCH_FLOWS_MAX - 1)
    return numbers


@cache
def _server_v4() -> Array:
    services = _services()
    return np.where(services.balanced, _OUTSIDE_V4, _INSIDE_V4).astype(np.uint32) | services.host.astype(np.uint32)


@cache
def _server_v6() -> Array:
    return np.where(_services().balanced, np.uint64(_OUTSIDE_V6), np.uint64(_INSIDE_V6))


class _Life(NamedTuple):
    state: Array
    flags: Array
    life_s: Array


def _lives(protocol: Array, rng: np.random.Generator) -> _Life:
    """TCP states in their proportions, and whether answers were seen."""
    rows = len(protocol)
    states = np.array(list(TCP_STATES))
    shares = np.array([share for share, _ in TCP_STATES.values()]) / 100
    drawn = rng.choice(len(states), rows, p=shares)
    tcp, udp = protocol == _TCP, protocol == _UDP
    state = np.where(tcp, states[drawn], 0)
    seen = np.where(tcp, state != TcpState.SYN_SENT, rng.random(rows) < UDP_REPLIED_PERCENT / 100)
    assured = np.where(
        tcp, (state != TcpState.SYN_SENT) & (state != TcpState.SYN_RECV), seen & (rng.random(rows) < 0.5)
    )
    life_s = np.where(tcp, np.array([seconds for _, seconds in TCP_STATES.values()])[drawn], ICMP_S)
    life_s = np.where(udp, np.where(seen, UDP_STREAM_S, UDP_S), life_s)
    return _Life(state, seen * int(FlowFlag.SEEN_REPLY) | assured * int(FlowFlag.ASSURED), life_s)


def _columns(rows: int, key_bytes: int) -> tuple[FlowColumns, Array, Array]:
    """(the records of flows 0 to `rows`, their ages, their lives)."""
    rng = np.random.default_rng(SEED + 2)
    client, port, slot = _ends(np.arange(rows))
    services = _services()
    protocol, balanced = services.protocol[slot], services.balanced[slot]
    life = _lives(protocol, rng)
    packets = np.minimum(1 + rng.pareto(_TAIL, rows) * 4, _PACKETS_MAX).astype(np.int64)
    packets = np.where(life.state == TcpState.SYN_SENT, 1 + packets % 4, packets)
    seen = (life.flags & int(FlowFlag.SEEN_REPLY)) != 0
    answers = np.where(seen, 1 + (packets * rng.uniform(0.5, 2.5, rows)).astype(np.int64), 0)
    backend = 0x0A00_6400 | 1 + (services.host[slot] * 7 + rng.integers(0, 4, rows)) % BACKENDS
    v4 = key_bytes == KEY_V4_BYTES
    if v4:
        source, destination = _clients_v4()[0][client], _server_v4()[slot]
    else:
        halves = _clients_v6()
        source = _packed(halves[0][client], halves[1][client])
        destination = _packed(_server_v6()[slot], services.host[slot].astype(np.uint64))
        backend = _packed(np.full(rows, _INSIDE_V6 | 1, np.uint64), backend.astype(np.uint64))
    made = FlowColumns(
        source=source,
        destination=destination,
        protocol=services.protocol_of(slot, key_bytes),
        source_port=port,
        destination_port=services.port_of(slot, port),
        tcp_state=life.state,
        flags=life.flags,
        backend=backend,
        backend_port=np.where(balanced, 8_000 + services.port[slot] % 1_000, 0),
        has_backend=balanced,
        packets_original=packets,
        bytes_original=packets * rng.integers(52, 700, rows),
        packets_reply=answers,
        bytes_reply=answers * rng.integers(52, 1_460, rows),
    )
    return made, rng.integers(0, AGE_MS_MAX, rows).astype(np.uint64), (life.life_s * 1_000).astype(np.uint64)


def _packed(upper: Array, lower: Array) -> Array:
    """IPv6 addresses as rows of 16 bytes."""
    both = np.empty((len(upper), 2), ">u8")
    both[:, 0], both[:, 1] = upper, lower
    return both.view(np.uint8)


@cache
def fixed_pool(key_bytes: int) -> Pool:
    """Of the fixed kind that has such keys."""
    made, age_ms, life_ms = _columns(POOL_ROWS, key_bytes)
    (batch,) = encode_columns(made)
    return Pool(_rows(batch, POOL_ROWS)[:, key_bytes:], age_ms, life_ms)


@cache
def named_pool() -> tuple[Pool, bytes]:
    """Of the variable kind: the IPv4 flows with the name of a backend, all of one length; and what stands before each
    record's key."""
    made, age_ms, life_ms = _columns(NAMED_ROWS, KEY_V4_BYTES)
    (fixed,) = encode_columns(made)
    records = list(decode_batch(fixed))
    for number, record in enumerate(records):
        record.backend = record.backend or Backend(_LONE_BACKEND.to_bytes(4, "big"), 8_080)
        record.backend_name = f"pool-{number % 4}/web-{record.backend.address[3] % 10}.example.net"
    (batch,) = encode_batch(records)
    rows = _rows(batch, NAMED_ROWS)
    return Pool(rows[:, FRAME_BYTES + KEY_V4_BYTES :], age_ms, life_ms), rows[0, :FRAME_BYTES].tobytes()


def _rows(batch: bytes, records: int) -> Array:
    """A batch of records of one length, a row each."""
    width = len(batch) // records
    return np.frombuffer(batch, np.uint8, offset=len(batch) - width * records).reshape(records, width)
