"""Which flows are meant: a conjunction of conditions that works on packed keys and values.

Each condition left out holds for every flow; one with several choices holds when any of them does. Addresses and ports
are those of either end of the original tuple.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from rocinante.flows.errors import FlowError
from rocinante.flows.key import KEY_V4_BYTES, check_range, parse_endpoint, parse_protocol
from rocinante.flows.record import FlowFlag, TcpState
from rocinante.flows.value import BACKEND_OFFSET, FLAGS_OFFSET, NARROW_BYTES, STATE_OFFSET, unpack_tail

CHOICES_MAX: Final = 256
"""Choices of one condition; more are refused, for every record is compared with each."""
_C = TypeVar("_C")
_T = TypeVar("_T")
_HAS_BACKEND: Final = int(FlowFlag.HAS_BACKEND)
_BACKEND_V4: Final = int(FlowFlag.BACKEND_V4)
_FLAGS: Final = struct.Struct(">H")


@dataclass(frozen=True, slots=True)
class Network:
    """A CIDR as numbers: an address is in it when `address & mask == base` (both of the same family)."""

    key_bytes: int
    base: int
    mask: int

    @classmethod
    def parse(cls, text: str, field: str) -> Network:
        """From `192.0.2.0/24` or an address. Raises FlowError, also where bits are set behind the prefix."""
        try:
            network = ipaddress.ip_network(text)
        except ValueError as error:
            raise FlowError(field, f"{text!r} is not an address or a network: {error}") from error
        if isinstance(network, ipaddress.IPv6Network) and network.network_address.scope_id is not None:
            raise FlowError(field, f"{text!r} has a scope, which a flow's address has not")
        return cls(16 if network.version == 4 else 40, int(network.network_address), int(network.netmask))


@dataclass(frozen=True, slots=True)
class BackendMatch:
    """A backend by address (port None: any) or by name."""

    address: bytes = b""
    port: int | None = None
    name: bytes = b""

    @classmethod
    def parse(cls, text: str, field: str = "backend") -> BackendMatch:
        """An address, address:port, [address]:port; whatever is none of them is a name. Raises FlowError."""
        try:
            address, port = parse_endpoint(text, field)
        except FlowError:
            name = text.encode()
            if len(name) > 255:
                raise FlowError(field, f"a name has at most 255 bytes, this one {len(name)}") from None
            return cls(name=name)
        has_port = "]:" in text or text.count(":") == 1
        return cls(address=address, port=port if has_port else None)

    def matches(self, value: bytes) -> bool:
        """Whether the value's backend is this one."""
        if self.name:
            return unpack_tail(value)[0] == self.name
        (flags,) = _FLAGS.unpack_from(value, FLAGS_OFFSET)
        if not flags & _HAS_BACKEND:
            return False
        field_bytes = 4 if len(value) == NARROW_BYTES else 16
        address_bytes = 4 if field_bytes == 4 or flags & _BACKEND_V4 else 16
        if value[BACKEND_OFFSET : BACKEND_OFFSET + address_bytes] != self.address:
            return False
        port_at = BACKEND_OFFSET + field_bytes
        return self.port is None or int.from_bytes(value[port_at : port_at + 2]) == self.port


@dataclass(frozen=True, slots=True)
class FlowFilter:
    """See the module; make it by `parse`. An empty one matches everything."""

    networks: tuple[Network, ...] = ()
    ports: frozenset[int] = frozenset()
    protocols: frozenset[int] = frozenset()
    states: frozenset[int] = frozenset()
    backend: BackendMatch | None = None
    zone: int | None = None
    origin: str = ""

    @classmethod
    def parse(
        cls,
        *,
        address: Sequence[str] = (),
        port: Sequence[int | str] = (),
        protocol: Sequence[int | str] = (),
        tcp_state: Sequence[int | str] = (),
        backend: str = "",
        zone: int | str | None = None,
        origin: str = "",
    ) -> FlowFilter:
        """From what a request says; numbers may come as text, protocols and states by name. Raises FlowError that names
        the field."""
        for field, choices in (("address", address), ("port", port), ("protocol", protocol), ("tcp_state", tcp_state)):
            if len(choices) > CHOICES_MAX:
                raise FlowError(field, f"{len(choices)} choices; at most {CHOICES_MAX}")
        return cls(
            networks=tuple(_each("address", address, Network.parse)),
            ports=frozenset(_each("port", port, _parse_u16)),
            protocols=frozenset(_each("protocol", protocol, parse_protocol)),
            states=frozenset(_each("tcp_state", tcp_state, _parse_state)),
            backend=BackendMatch.parse(backend) if backend else None,
            zone=None if zone is None else _parse_u16(zone, "zone"),
            origin=origin,
        )

    @property
    def is_empty(self) -> bool:
        """Whether it matches everything."""
        return self == FlowFilter()

    def matches(self, key: bytes, value: bytes, origin: str) -> bool:
        """Whether the flow with this packed key and value, owned by `origin`, is meant."""
        if self.origin and origin != self.origin:
            return False
        if self.zone is not None and int.from_bytes(key[:2]) != self.zone:
            return False
        if self.protocols and key[3] not in self.protocols:
            return False
        if self.states and value[STATE_OFFSET] not in self.states:
            return False
        if self.ports and int.from_bytes(key[-4:-2]) not in self.ports and int.from_bytes(key[-2:]) not in self.ports:
            return False
        if self.networks and not self._in_networks(key):
            return False
        return self.backend is None or self.backend.matches(value)

    def _in_networks(self, key: bytes) -> bool:
        middle = 8 if len(key) == KEY_V4_BYTES else 20
        first, second = int.from_bytes(key[4:middle]), int.from_bytes(key[middle:-4])
        return any(
            network.key_bytes == len(key) and network.base in (first & network.mask, second & network.mask)
            for network in self.networks
        )


def _each(field: str, choices: Sequence[_C], parse: Callable[[_C, str], _T]) -> list[_T]:
    return [parse(choice, f"{field}[{number}]") for number, choice in enumerate(choices)]


def _parse_u16(number: int | str, field: str) -> int:
    if isinstance(number, str):
        if not (number.isascii() and number.isdigit()) or len(number) > 5:
            raise FlowError(field, f"{number!r} is not a number in 0 to 65535")
        number = int(number)
    check_range(field, number, 0xFFFF)
    return number


def _parse_state(state: int | str, field: str) -> int:
    if isinstance(state, str) and not state.isdigit():
        name = state.upper()
        if name not in TcpState.__members__:
            raise FlowError(field, f"{state!r} is not one of {', '.join(TcpState.__members__)}")
        return TcpState[name]
    number = _parse_u16(state, field)
    check_range(field, number, max(TcpState))
    return number
