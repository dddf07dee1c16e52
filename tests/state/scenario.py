"""A long, seeded history of entries of every kind, good and bad, in which things meet."""

from __future__ import annotations

import random
from collections.abc import Iterator

from rocinante.flows import FlowFilter, FlowRecord, FlowTuple, encode_batch
from rocinante.state import command
from rocinante.state.command import Kind
from rocinante.state.flows import Rows, encode_delete, encode_delete_where, encode_expire, encode_put
from tests.state.test_etcd_differential import Requests


class History:
    """Entries; `revision` is told by who applies them, so that requests are near it."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._requests = Requests(seed)
        self._seqs = dict.fromkeys(range(1, 7), 0)
        self._now_ms = 1_000

    def saw(self, revision: int) -> None:
        self._requests.revision = revision

    def entries(self, count: int) -> Iterator[bytes]:
        for _ in range(count):
            data = command.pack([self.command() for _ in range(self._random.choice([1, 1, 1, 2, 5]))])
            draw = self._random.random()
            if draw < 0.02:
                data = b""
            elif draw < 0.04:
                data = data[: self._random.randrange(len(data))]
            elif draw < 0.08:
                at = self._random.randrange(len(data))
                data = data[:at] + self._random.randbytes(2) + data[at + 2 :]
            yield data

    def command(self) -> bytes:
        some = self._random
        session = some.choice([0, 0, 1, 2, 3, 4, 5, 6])
        kind = some.choice([Kind.KV_PUT] * 5 + [Kind.FLOW_PUT] * 3 + [Kind.FLOW_DELETE, Kind.FLOW_EXPIRE] + list(Kind))
        seq = ack = 0
        if session:
            seq = max(1, self._seqs[session] + some.choice([1, 1, 1, 1, 0, -1, -3, 2]))
            self._seqs[session] = max(seq, self._seqs[session])
            ack = max(0, seq - some.choice([1, 5, 20]))
        return command.encode(kind, session, seq, ack, self._body(kind))

    def _body(self, kind: Kind) -> bytes:
        some, requests = self._random, self._requests
        origin = some.choice(["dc1", "dc1", "dc2", ""])
        match kind:
            case Kind.KV_PUT:
                return requests.put().SerializeToString()
            case Kind.KV_DELETE:
                return requests.delete().SerializeToString()
            case Kind.KV_TXN:
                return requests.txn().SerializeToString()
            case Kind.KV_COMPACT:
                return b"" if requests.revision < 3 else b"\x08" + _varint(max(1, requests.near()))
            case Kind.FLOW_PUT:
                return encode_put(origin, some.choice(encode_batch([self._flow() for _ in range(some.randint(1, 60))])))
            case Kind.FLOW_DELETE:
                return encode_delete(origin, [self._flow().key for _ in range(some.randint(0, 40))])
            case Kind.FLOW_EXPIRE:
                first = some.randrange(300)
                rows = Rows(origin, some.choice((16, 16, 40, 17)), first, first + some.randrange(200))
                return encode_expire(self._now_ms, rows)
            case Kind.FLOW_DELETE_WHERE:
                first = some.randrange(300)
                rows = Rows(origin, some.choice((16, 16, 40, 17)), first, first + some.randrange(60))
                asked = FlowFilter.parse(backend=some.choice(("", "web")), protocol=some.choice(([], ["udp"])))
                return encode_delete_where(rows, asked)
            case Kind.CLOCK:
                self._now_ms += some.choice([0, 10, 1000, 10_000])
                return self._now_ms.to_bytes(8)
            case _:
                return b""

    def _flow(self) -> FlowRecord:
        some = self._random
        number = some.randrange(400)
        original = FlowTuple.from_text("tcp", f"10.0.{number >> 8}.{number & 255}:1", "10.9.9.9:2")
        if number % 10 == 0:
            original = FlowTuple.from_text("udp", f"[2001:db8::{number}]:1", "[::1]:2")
        record = FlowRecord(original, updated_ms=self._now_ms, deadline_ms=some.choice([0, self._now_ms + 500]))
        if number % 17 == 0:
            record.backend_name = "web"
        return record


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    parts.append(number)
    return bytes(parts)
