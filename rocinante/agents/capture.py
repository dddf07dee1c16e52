"""Where packets come from: live interfaces (here, through libpcap) and capture files (`pcapfile.py`).

libpcap comes with the package cypcap: packet sockets with a ring that the kernel fills, BPF filters in the kernel,
and on Linux the second sight of each packet on the loopback interface left out. It runs in immediate mode
(TPACKET_V2): with TPACKET_V3 the kernel hands over blocks of packets, and the last, incomplete block of a burst was
seen not to be handed over at all (Linux 6.18).
"""

from __future__ import annotations

import logging
import os
import selectors
import socket
import struct
from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

from rocinante.agents.errors import AgentError
from rocinante.agents.packet import Decoder, Malformed, Packet, decoder
from rocinante.agents.pcapformat import Frame
from rocinante.errors import EXIT_USAGE
from rocinante.flows import format_address
from rocinante.limits import SNIFF_KERNEL_ENDPOINTS_MAX, SNIFF_READ_PACKETS_MAX, SNIFF_RING_BYTES

try:
    import cypcap
except ImportError:  # no wheel for this machine's kind
    cypcap = None

log = logging.getLogger(__name__)

Sink = Callable[[Packet, int], None]
"""Takes a packet and the time of its capture in ms."""
Endpoint = tuple[bytes, int]

_ETHERNET: Final = 1
_DLT: Final = {101: 12}
"""Numbers of link types in files that libpcap calls otherwise on Linux (pcap/dlt.h): RAW."""
_NETMASK_UNKNOWN: Final = 0xFFFF_FFFF
_COOKED: Final = frozenset({113, 276})
"""Link types whose programs libpcap rewrites for the kernel, where the packets have no such header (pcap/dlt.h:
LINUX_SLL and LINUX_SLL2)."""
_SO_ATTACH_FILTER: Final = 26
"""asm-generic/socket.h; the module socket has no name for it."""
_SOCK_FILTER: Final = struct.Struct("=HBBI")
"""struct sock_filter of linux/filter.h: code, jump if true, jump if false, k."""


class Source(Protocol):
    """A capture."""

    malformed: int
    """Packets that claimed to be TCP or UDP and could not be read."""

    def read(self, sink: Sink, timeout_s: float) -> int:
        """Give what has come to `sink`, waiting for it up to `timeout_s`; how many packets there were, of whatever
        protocol.

        Raises AgentError when the capture fails."""

    @property
    def ended(self) -> bool:
        """There will be no more."""

    def leave_out(self, endpoints: Iterable[Endpoint]) -> None:
        """TCP of these endpoints need not be captured. A source may ignore it."""

    def dropped(self) -> int:
        """Packets that the kernel had no room for."""

    def close(self) -> None: ...


def require_libpcap() -> Any:
    """The module cypcap. Raises AgentError when it is not there."""
    if cypcap is None:
        raise AgentError(
            "capturing needs the Python package cypcap: pip install cypcap (where it has no wheel, with libpcap-dev)"
        )
    return cypcap


class Program:
    """A compiled filter for packets that libpcap did not read."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled

    def matches(self, frame: Frame) -> bool:
        header = cypcap.Pkthdr(ts=frame.time_ms / 1_000, caplen=len(frame.data), len=frame.wire_bytes)
        return bool(self._compiled.offline_filter(header, frame.data))


def compile_filter(expression: str, link_type: int) -> Program:
    """The expression for packets of a link type. Raises AgentError with libpcap's message and the exit status of wrong
    use."""
    handle = require_libpcap().open_dead(_DLT.get(link_type, link_type), 65_535)
    try:
        return Program(_compile(handle, expression))
    finally:
        handle.close()


def check_filter(expression: str) -> None:
    """Raise AgentError unless this is a filter (of an Ethernet; another link type may know less)."""
    compile_filter(expression, _ETHERNET)


def _compile(handle: Any, expression: str) -> Any:
    try:
        return handle.compile(expression, True, _NETMASK_UNKNOWN)
    except cypcap.Error as error:
        raise AgentError(f"--filter {expression!r}: {_message(error)}", EXIT_USAGE) from error


def _replace_filter(handle: Any, program: Any) -> None:
    """Exchange the filter of a socket that captures: the kernel does that between two packets (socket(7))."""
    count, *lines = program.dumps().split(",")
    code = array("B", b"".join(_SOCK_FILTER.pack(*map(int, line.split())) for line in lines))
    address, _ = code.buffer_info()
    try:
        with socket.socket(fileno=os.dup(handle.get_selectable_fd())) as packets:
            packets.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", int(count), address))
    except OSError as error:  # longer than the kernel takes, or no memory for it
        log.info("the kernel keeps its filter: %s", error.strerror)


def _message(error: Any) -> str:
    return str(error.msg or error.code.name)


def own_traffic(endpoints: Sequence[Endpoint]) -> str:
    """The BPF expression for TCP to or from these endpoints."""
    return " or ".join(f"(tcp port {port} and host {format_address(address)})" for address, port in endpoints)


class LiveCapture:
    """Packets of network interfaces, as they come."""

    def __init__(self, interfaces: Sequence[str], *, snaplen: int, expression: str = "") -> None:
        """Raises AgentError: no such interface, not permitted, an unknown link type, a wrong filter."""
        require_libpcap()
        self.malformed = 0
        self._expression = expression
        self._left_out: tuple[Endpoint, ...] = ()
        self._selector = selectors.DefaultSelector()
        self._handles: dict[str, tuple[Any, Decoder]] = {}
        try:
            for interface in dict.fromkeys(interfaces):
                self._open(interface, snaplen)
        except BaseException:
            self.close()
            raise

    def _open(self, interface: str, snaplen: int) -> None:
        handle = cypcap.create(interface)
        try:
            handle.set_snaplen(snaplen)
            handle.set_promisc(False)
            handle.set_immediate_mode(True)
            handle.set_buffer_size(SNIFF_RING_BYTES)
            handle.activate()
            handle.setnonblock(True)
            self._handles[interface] = (handle, decoder(int(handle.datalink())))
        except cypcap.Error as error:
            handle.close()
            raise AgentError(_cannot_capture(interface, error)) from error
        except ValueError as error:
            handle.close()
            raise AgentError(f"--interface {interface}: {error}") from error
        handle.setfilter(self._program(handle))
        self._selector.register(handle.get_selectable_fd(), selectors.EVENT_READ, interface)

    def _program(self, handle: Any) -> Any:
        """For the kernel: the user's expression, without the cluster's own traffic. That part comes first, because
        `vlan` in an expression moves the offsets of all that follows."""
        own = f"not ({own_traffic(self._left_out)})" if 0 < len(self._left_out) <= SNIFF_KERNEL_ENDPOINTS_MAX else ""
        both = " and ".join(part for part in (own, f"({self._expression})" if self._expression else "") if part)
        return _compile(handle, both)

    def read(self, sink: Sink, timeout_s: float) -> int:
        count = 0
        for key, _ in self._selector.select(timeout_s):
            count += self._dispatch(key.data, sink)
        return count

    def _dispatch(self, interface: str, sink: Sink) -> int:
        handle, decode = self._handles[interface]
        count = 0

        def take(header: Any, data: bytes) -> None:
            nonlocal count
            count += 1
            try:
                packet = decode(data, header.len)
            except Malformed:
                self.malformed += 1
                return
            if packet is not None:
                sink(packet, int(header.ts * 1_000))

        try:
            handle.dispatch(SNIFF_READ_PACKETS_MAX, take)
        except cypcap.Error as error:
            self._lost(interface, _message(error))
        return count

    def _lost(self, interface: str, reason: str) -> None:
        """An interface went away: go on with the others."""
        handle, _ = self._handles.pop(interface)
        self._selector.unregister(handle.get_selectable_fd())
        handle.close()
        if not self._handles:
            raise AgentError(f"{interface}: the capture ended: {reason}")
        log.warning("%s: the capture ended: %s; going on with %s", interface, reason, ", ".join(self._handles))

    @property
    def ended(self) -> bool:
        return False

    def leave_out(self, endpoints: Iterable[Endpoint]) -> None:
        """Without losing a packet, as libpcap does when it sets another filter: it lets nothing through for a moment.
        Where that cannot be done the kernel goes on with the filter it has, and who takes the packets leaves out the
        rest."""
        self._left_out = tuple(sorted(set(endpoints)))
        for handle, _ in self._handles.values():
            if int(handle.datalink()) not in _COOKED:
                _replace_filter(handle, self._program(handle))

    def dropped(self) -> int:
        total = 0
        for handle, _ in self._handles.values():
            total += handle.stats().drop
        return total

    def close(self) -> None:
        self._selector.close()
        for handle, _ in self._handles.values():
            handle.close()
        self._handles.clear()


def _cannot_capture(interface: str, error: Any) -> str:
    code = error.code.name
    if code in ("PERM_DENIED", "PROMISC_PERM_DENIED"):
        return (
            f"--interface {interface}: capturing needs the capability CAP_NET_RAW: run it as root, or "
            "`setcap cap_net_raw+ep` on the Python that runs it, or AmbientCapabilities=CAP_NET_RAW in its systemd unit"
        )
    if code == "NO_SUCH_DEVICE":
        return f"--interface {interface}: there is no such interface (`ip link` lists them)"
    if code == "IFACE_NOT_UP":
        return f"--interface {interface}: the interface is down (`ip link set {interface} up`)"
    return f"--interface {interface}: {_message(error)}"
