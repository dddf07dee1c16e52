"""Which controller of the file this process is, so that no two processes are ever the same one.

A claim is two things: the two endpoints' names bound in Linux's abstract socket namespace, which is atomic, ends with
the process however it ends, leaves no file behind, is the same for root and everybody else, and spans exactly what
ports span (the network namespace); and a test that both ports can be bound. The claim is held for the life of the
process; the servers bind the ports themselves afterwards (without SO_REUSEPORT, so that a stranger's listener still
shows).
"""

from __future__ import annotations

import errno
import os
import socket
from types import TracebackType
from typing import Final

import psutil

from rocinante.config.model import ClusterConfig, Controller
from rocinante.config.values import did_you_mean
from rocinante.identity import endpoint

_NAMESPACE: Final = "\0rocinante/claim/"


class ClaimError(Exception):
    """No controller can be claimed; the message is one line and says why, for each that was tried."""


class Claim:
    """This process is `controller` until `close` (or its end)."""

    def __init__(self, controller: Controller, holds: list[socket.socket]) -> None:
        self.controller = controller
        self._holds = holds

    def close(self) -> None:
        """Let it go, so that another process may claim it."""
        for hold in self._holds:
            hold.close()

    def __enter__(self) -> Claim:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _TakenError(Exception):
    """This controller cannot be had: why."""


def claim(config: ClusterConfig, name: str | None = None) -> Claim:
    """Claim the controller `name`, or without a name the first one whose address is on this host and whose ports are
    free.

    Raises ClaimError.
    """
    if name is not None:
        controller = config.controller(name)
        if controller is None:
            names = [known.name for known in config.controllers]
            raise ClaimError(
                f"no controller is named {name!r}{did_you_mean(name, names)}: there are {', '.join(names)}"
            )
        try:
            return _claim(controller)
        except _TakenError as reason:
            raise ClaimError(f"cannot be {name}: {reason}") from None
    reasons = []
    for controller in config.controllers:
        try:
            return _claim(controller)
        except _TakenError as reason:
            reasons.append(f"{controller.name}: {reason}")
    raise ClaimError(f"no controller of cluster {config.name} is free on this host ({'; '.join(reasons)})")


def _claim(controller: Controller) -> Claim:
    holds: list[socket.socket] = []
    try:
        _test_address(controller.address)
        for port in (controller.port, controller.rest):
            holds.append(_hold(controller.address, port))
            _test_port(controller.address, port)
    except _TakenError:
        for hold in holds:
            hold.close()
        raise
    return Claim(controller, holds)


def _hold(address: str, port: int) -> socket.socket:
    place = endpoint(address, port)
    hold = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        hold.bind(_NAMESPACE + place)
    except OSError as error:
        hold.close()
        if error.errno == errno.EADDRINUSE:
            raise _TakenError(f"{place} is claimed{_holder(place)}") from None
        raise _TakenError(f"{place} cannot be claimed: {error.strerror}") from None
    return hold


def _test_address(address: str) -> None:
    try:
        _bind(address, 0)
    except OSError as error:
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            raise _TakenError(f"{address} is not an address of this host") from None
        raise _TakenError(f"{address} cannot be used: {error.strerror}") from None


def _test_port(address: str, port: int) -> None:
    place = endpoint(address, port)
    try:
        _bind(address, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise _TakenError(f"{place} is in use{_user(address, port)}") from None
        if error.errno == errno.EACCES:
            raise _TakenError(f"{place} needs a privilege that this process does not have (ports below 1024)") from None
        raise _TakenError(f"{place} cannot be used: {error.strerror}") from None


def _bind(address: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as test:
        # As gRPC and waitress do: connections of an earlier process in TIME_WAIT do not count, a listener does.
        test.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            test.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        test.bind((address, port))


def _holder(place: str) -> str:
    """Who claimed it, as far as /proc tells."""
    name = "@" + _NAMESPACE[1:] + place
    return _process(next((c.pid for c in _connections("unix") if str(c.laddr) == name), None))


def _user(address: str, port: int) -> str:
    """Who uses the port, as far as /proc tells."""
    wildcards = ("0.0.0.0", "::")
    pids = (
        c.pid
        for c in _connections("tcp")
        if c.laddr and c.laddr.port == port and (c.laddr.ip == address or c.laddr.ip in wildcards) and c.pid
    )
    return _process(next(pids, None))


def _connections(kind: str) -> list[psutil._ntuples.sconn]:
    try:
        return psutil.net_connections(kind)
    except (psutil.Error, OSError):
        return []


def _process(pid: int | None) -> str:
    if pid is None:
        return " by another process"
    if pid == os.getpid():
        return " by this process"
    try:
        return f" by process {pid} ({psutil.Process(pid).name()})"
    except psutil.Error:
        return f" by process {pid}"
