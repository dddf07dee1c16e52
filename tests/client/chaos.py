"""A TCP proxy that breaks connections at the worst moments: before a request reached the node, or after it was carried
out and before its answer.

It needs no knowledge of HTTP: a key stands in the request's bytes as it is, so the proxy sees when the request for it
passes.
"""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable
from enum import Enum

PATIENCE_S = 30.0


class Cut(Enum):
    BEFORE = "the request is not passed on"
    AFTER = "the request is passed on and carried out; the answer is not passed back"


class ChaosProxy:
    """Listens on `port` and passes everything to `target`, but for what `cut` and `be_random` say."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._cuts: dict[bytes, tuple[Cut, Callable[[], bool]]] = {}
        self._random: random.Random | None = None
        self._random_share = 0.0
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads: list[threading.Thread] = []
        self._closed = threading.Event()
        self.made: list[Cut] = []
        """The cuts that were made."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    def cut(self, marker: bytes, how: Cut, done: Callable[[], bool] = lambda: True) -> None:
        """Break the connection when bytes with `marker` pass to the node, once; AFTER: when `done` says that it was
        carried out."""
        with self._lock:
            self._cuts[marker] = (how, done)

    def be_random(self, seed: int, share: float) -> None:
        """Break that share of all transfers, in either direction."""
        self._random, self._random_share = random.Random(seed), share

    def close(self) -> None:
        self._closed.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            _kill(*pair)
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, name="chaos", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                near, _ = self._listener.accept()
            except OSError:
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self._target), timeout=PATIENCE_S)
                far.settimeout(None)
            except OSError:
                near.close()  # nobody is there: whoever asked is told at once, as without a proxy
                continue
            with self._lock:
                self._pairs.append((near, far))
            gate = threading.Event()
            gate.set()
            self._start(self._to_node, near, far, gate)
            self._start(self._to_client, near, far, gate)

    def _to_node(self, near: socket.socket, far: socket.socket, gate: threading.Event) -> None:
        while data := _receive(near):
            how, done = self._wanted(data)
            if how is Cut.BEFORE:
                break
            if how is Cut.AFTER:
                gate.clear()
            if not _send(far, data):
                break
            if how is Cut.AFTER:
                deadline_s = time.monotonic() + PATIENCE_S
                while not done() and time.monotonic() < deadline_s:
                    self._closed.wait(0.002)
                break
        _kill(near, far)
        gate.set()

    def _to_client(self, near: socket.socket, far: socket.socket, gate: threading.Event) -> None:
        while data := _receive(far):
            gate.wait()
            if self._unlucky():
                self.made.append(Cut.AFTER)
                break
            if not _send(near, data):
                break
        _kill(near, far)

    def _wanted(self, data: bytes) -> tuple[Cut | None, Callable[[], bool]]:
        with self._lock:
            for marker in self._cuts:
                if marker in data:
                    how, done = self._cuts.pop(marker)
                    self.made.append(how)
                    return how, done
        if self._unlucky():
            self.made.append(Cut.BEFORE)
            return Cut.BEFORE, bool
        return None, bool

    def _unlucky(self) -> bool:
        with self._lock:
            return self._random is not None and self._random.random() < self._random_share


def _receive(source: socket.socket) -> bytes:
    try:
        return source.recv(65536)
    except OSError:
        return b""


def _send(to: socket.socket, data: bytes) -> bool:
    try:
        to.sendall(data)
    except OSError:
        return False
    return True


def _kill(*sockets: socket.socket) -> None:
    for one in sockets:
        try:
            one.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        one.close()
