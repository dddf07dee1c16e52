"""A second encoder, written from docs/flow-format.md alone: the standard library, one flow at a time, nothing of ours.

What two encoders agree on byte for byte is what the document says, or both have misread it in the same way.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

REVERSED, HAS_BACKEND, HAS_REPLY, BACKEND_V4, REPLY_V4 = 0x001, 0x020, 0x040, 0x080, 0x100
WRITERS = 0x002 | 0x004 | 0x008 | 0x010
"""The flags that the writer sets; the others are the layout's."""
End = tuple[bytes, int]
"""Address and port."""


@dataclass
class Flow:
    zone: int
    protocol: int
    source: End
    destination: End
    state: int = 0
    flags: int = 0
    deadline_ms: int = 0
    updated_ms: int = 0
    mark: int = 0
    counters: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Packets and bytes of the original direction, of the reply."""
    backend: End | None = None
    reply: tuple[End, End] | None = None
    """Source and destination."""
    name: str = ""
    data: bytes = b""


def end(text: str) -> End:
    """`192.0.2.1:80`, `[2001:db8::1]:80`."""
    host, _, port = text.rpartition(":")
    if host.startswith("["):
        return socket.inet_pton(socket.AF_INET6, host[1:-1]), int(port)
    return socket.inet_pton(socket.AF_INET, host), int(port)


def key(flow: Flow) -> bytes:
    """ "The key: which flow"."""
    (a, a_port), (b, b_port) = sorted([flow.source, flow.destination])
    family = 4 if len(a) == 4 else 6
    return struct.pack(">HBB", flow.zone, family, flow.protocol) + a + b + struct.pack(">HH", a_port, b_port)


def kind(flow: Flow) -> int:
    """1, 2 or 3: the table of kinds, and the sentence below it."""
    if flow.name or flow.data:
        return 3
    if len(flow.source[0]) == 16:
        return 2
    others = ([flow.backend[0]] if flow.backend else []) + ([flow.reply[0][0]] if flow.reply else [])
    return 3 if any(len(address) == 16 for address in others) else 1


def value(flow: Flow) -> bytes:
    """ "The value: what is known of it"."""
    narrow = kind(flow) == 1
    width = 4 if narrow else 16
    flags = flow.flags & WRITERS
    if flow.source > flow.destination:
        flags |= REVERSED
    backend: End = (b"", 0)
    if flow.backend is not None:
        backend = flow.backend
        flags |= HAS_BACKEND
        if not narrow and len(backend[0]) == 4:
            flags |= BACKEND_V4
    reply: tuple[End, End] = ((b"", 0), (b"", 0))
    if flow.reply is not None:
        reply = flow.reply
        flags |= HAS_REPLY
        if not narrow and len(reply[0][0]) == 4:
            flags |= REPLY_V4
    packed = struct.pack(">QQ", flow.deadline_ms, flow.updated_ms)
    packed += struct.pack(">IHBB", flow.mark, flags, flow.state, 0)
    packed += struct.pack(">QQQQ", *flow.counters)
    packed += backend[0].ljust(width, b"\0") + struct.pack(">H", backend[1])
    packed += reply[0][0].ljust(width, b"\0") + reply[1][0].ljust(width, b"\0")
    packed += struct.pack(">HH", reply[0][1], reply[1][1])
    if flow.name or flow.data:
        name = flow.name.encode()
        packed += bytes([len(name)]) + name + struct.pack(">H", len(flow.data)) + flow.data
    return packed


def batches(flows: list[Flow]) -> list[bytes]:
    """ "The batch: how they travel": one for each kind that occurs, by its number."""
    found = []
    for number in (1, 2, 3):
        some = [flow for flow in flows if kind(flow) == number]
        if not some:
            continue
        parts = [b"RFB1", bytes([1, number, 0, 0]), struct.pack(">I", len(some))]
        for flow in some:
            packed_key, packed_value = key(flow), value(flow)
            if number == 3:
                parts.append(struct.pack(">BH", len(packed_key), len(packed_value)))
            parts += [packed_key, packed_value]
        found.append(b"".join(parts))
    return found


def packed(batch: bytes) -> bytes:
    """ "Packed batches": columns of a batch of kind 1 or 2, written out one number at a time."""
    number = batch[5]
    head = [2, 1, 1, 4, 4] if number == 1 else [2, 1, 1, 8, 8, 8, 8]
    address = [4] if number == 1 else [8, 8]
    widths = [*head, 2, 2, 8, 8, 4, 2, 1, 1, 8, 8, 8, 8, *address, 2, *address, *address, 2, 2]
    (count,) = struct.unpack_from(">I", batch, 8)
    record = sum(widths)
    parts = [batch[:5], bytes([number + 3]), batch[6:12]]
    at = 12
    for width in widths:
        values = [int.from_bytes(batch[at + row * record : at + row * record + width], "big") for row in range(count)]
        base = min(values)
        least = next(size for size in (0, 1, 2, 4, 8) if max(values) - base < 256**size)
        parts += [bytes([least]), base.to_bytes(width, "big")]
        parts += [(value - base).to_bytes(least, "big") for value in values]
        at += width
    return b"".join(parts)
