"""A filter's bytes, as a command carries them: every node must read the same from them, whatever its version.

    u8 version = 1
    u8 has a zone | u16 zone
    u16 n | n × u8 protocol        u16 n | n × u8 TCP state        u16 n | n × u16 port
    u16 n | n × (u8 address bytes | base | mask)
    u8 backend: 0 none, 1 an address, 2 an address with its port, 3 a name
       1, 2: u8 length | address | u16 port        3: u8 length | name

Big endian, choices in ascending order. The origin is not in it: a command names it itself.
"""

from __future__ import annotations

import struct
from typing import Final

from rocinante.flows.errors import FlowError
from rocinante.flows.filter import CHOICES_MAX, BackendMatch, FlowFilter, Network
from rocinante.flows.key import KEY_V4_BYTES, KEY_V6_BYTES
from rocinante.flows.record import TcpState

_VERSION: Final = 1
_HEAD: Final = struct.Struct(">BBH")
_COUNT: Final = struct.Struct(">H")
_NONE, _ADDRESS, _ENDPOINT, _NAME = range(4)
_KEY_BYTES: Final = {4: KEY_V4_BYTES, 16: KEY_V6_BYTES}
_ADDRESS_BYTES: Final = {key: address for address, key in _KEY_BYTES.items()}


def encode_filter(asked: FlowFilter) -> bytes:
    """All of it but the origin."""
    parts = [_HEAD.pack(_VERSION, asked.zone is not None, asked.zone or 0)]
    for choices, width in ((asked.protocols, 1), (asked.states, 1), (asked.ports, 2)):
        parts.append(_COUNT.pack(len(choices)))
        parts += [choice.to_bytes(width) for choice in sorted(choices)]
    parts.append(_COUNT.pack(len(asked.networks)))
    for network in sorted(asked.networks, key=lambda one: (one.key_bytes, one.base, one.mask)):
        width = _ADDRESS_BYTES[network.key_bytes]
        parts += (bytes((width,)), network.base.to_bytes(width), network.mask.to_bytes(width))
    return b"".join(parts) + _encode_backend(asked.backend)


def _encode_backend(backend: BackendMatch | None) -> bytes:
    if backend is None:
        return bytes((_NONE,))
    if backend.name:
        return bytes((_NAME, len(backend.name))) + backend.name
    kind = _ADDRESS if backend.port is None else _ENDPOINT
    return bytes((kind, len(backend.address))) + backend.address + (backend.port or 0).to_bytes(2)


def decode_filter(data: bytes) -> FlowFilter:
    """The filter of `encode_filter`'s bytes. Raises FlowError for anything else."""
    reader = _Reader(data)
    version, has_zone, zone = _HEAD.unpack(reader.take(_HEAD.size))
    if version != _VERSION or has_zone > 1:
        raise FlowError("filter", f"version {version} is not one that this node knows")
    protocols, states, ports = (reader.choices(width) for width in (1, 1, 2))
    if any(state > max(TcpState) for state in states):
        raise FlowError("filter", f"TCP state {max(states)} is not known")
    networks = tuple(reader.network() for _ in range(reader.count()))
    made = FlowFilter(networks, ports, protocols, states, reader.backend(), zone if has_zone else None)
    reader.end()
    return made


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) != count:
            raise FlowError("filter", "is cut off")
        self._at += count
        return taken

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width))

    def count(self) -> int:
        count = self.number(2)
        if count > CHOICES_MAX:
            raise FlowError("filter", f"{count} choices; at most {CHOICES_MAX}")
        return count

    def choices(self, width: int) -> frozenset[int]:
        return frozenset(self.number(width) for _ in range(self.count()))

    def network(self) -> Network:
        width = self.number(1)
        if width not in _KEY_BYTES:
            raise FlowError("filter", f"an address has 4 or 16 bytes, not {width}")
        base, mask = self.number(width), self.number(width)
        return Network(_KEY_BYTES[width], base, mask)

    def backend(self) -> BackendMatch | None:
        kind = self.number(1)
        if kind == _NONE:
            return None
        content = self.take(self.number(1))
        if kind == _NAME and content:
            return BackendMatch(name=content)
        if kind in (_ADDRESS, _ENDPOINT) and len(content) in _KEY_BYTES:
            port = self.number(2)
            return BackendMatch(address=content, port=port if kind == _ENDPOINT else None)
        raise FlowError("filter", "its backend cannot be read")

    def end(self) -> None:
        if self._at != len(self._data):
            raise FlowError("filter", f"{len(self._data) - self._at} bytes follow its end")
