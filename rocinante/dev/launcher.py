"""The launcher: starts the nodes, shows how they are, obeys the commands, and leaves no process behind.

Everything happens in the main thread (children follow the thread that started them, see `child.py`), but for the
status questions (`watching.py`) and a transfer of leadership, which waits for the cluster.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from rocinante.client import Client
from rocinante.config import StorageEngine
from rocinante.dev import layout, sniffing
from rocinante.dev.layout import NodePlace
from rocinante.dev.process import Child, Condition
from rocinante.dev.typing_line import CommandInput
from rocinante.dev.view import HELP, Row, View
from rocinante.dev.watching import StatusPoller
from rocinante.errors import EXIT_OK, RocinanteError
from rocinante.identity import server_id
from rocinante.limits import (
    DEV_LOG_BYTES_MAX,
    DEV_REFRESH_INTERVAL_S,
    DEV_SNIFFER_STOP_TIMEOUT_S,
    DEV_STOP_PATIENCE_S,
    DEV_STOP_TIMEOUT_S,
    DEV_TRANSFER_TIMEOUT_S,
)

_END_POLL_S: Final = 0.05
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Options:
    directory: Path
    nodes: int = 3
    storage: StorageEngine = StorageEngine.LEVELDB
    base_port: int | None = None
    sniff: bool = False
    fresh: bool = False


@dataclass(slots=True)
class _Node:
    place: NodePlace
    child: Child
    poller: StatusPoller


class Launcher:
    """One run. `run` returns the exit status."""

    def __init__(self, options: Options, view: View) -> None:
        self._options = options
        self._view = view
        self._nodes: list[_Node] = []
        self._sniffer: Child | None = None
        self._quitting = 0
        self._messages: queue.Queue[str] = queue.Queue()
        self._transfer: threading.Thread | None = None
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_writer, False)
        self._commands: dict[str, Callable[[_Node], None]] = {
            "k": self._kill,
            "s": self._start,
            "t": self._make_leader,
            "p": lambda node: node.child.pause(),
            "c": self._resume,
        }

    def run(self, *, interactive: bool) -> int:
        """`interactive`: standard input is a terminal, and its keys are read one by one. Raises DevError when it
        cannot start."""
        with layout.locked(self._options.directory):
            if self._options.fresh:
                layout.wipe(self._options.directory)
            places = layout.lay_out(
                self._options.directory, self._options.nodes, self._options.storage, self._options.base_port
            )
            with self._signals():
                try:
                    self._view.start()
                    self._begin(places)
                    with CommandInput(sys.stdin.fileno(), self._wake_reader, interactive=interactive) as commands:
                        self._loop(commands)
                except OSError as error:
                    # The terminal is gone (EIO, EPIPE): nothing can be said, but everything must be ended.
                    if not _is_terminal_gone(error):
                        raise
                finally:
                    self._end()
        return EXIT_OK

    def _begin(self, places: Sequence[NodePlace]) -> None:
        config = layout.config_path(self._options.directory)
        for place in places:
            command = ["-m", "rocinante.cli.main", "node", "--config", str(config), "--name", place.name]
            child = Child(place.name, [*command, "--data-dir", str(place.data)], place.log)
            _bound(place.log)
            child.start()
            self._nodes.append(_Node(place, child, StatusPoller(place.name, place.url)))
        self._view.say(f"data, logs and cluster.yaml are in {self._options.directory}")
        for place in places:
            self._view.say(f"{place.name}: gRPC {place.endpoint}, page {place.url}")
        if self._options.sniff:
            self._begin_sniffer(places)

    def _begin_sniffer(self, places: Sequence[NodePlace]) -> None:
        names = sniffing.interfaces()
        endpoints = ",".join(place.endpoint for place in places)
        if not sniffing.may_capture():
            shown = " ".join(f"-i {name}" for name in names)
            self._view.say("not root, so no sniffer: for this machine's connections, run in another terminal:")
            self._view.say(f"sudo {_own_command()} -c {places[0].endpoint} agent sniff {shown}")
            return
        command = ["-m", "rocinante.cli.main", "-c", endpoints, "agent", "sniff"]
        for name in names:
            command += ["-i", name]
        log = self._options.directory / "sniffer.log"
        _bound(log)
        self._sniffer = Child("sniffer", command, log)
        self._sniffer.start()
        self._view.say(f"the sniffer watches {' and '.join(names)}")

    def _loop(self, commands: CommandInput) -> None:
        while not self._quitting:
            self._reap()
            while not self._messages.empty():
                self._view.say(self._messages.get())
            self._view.show(self._rows(), commands.typed)
            for line in commands.read(DEV_REFRESH_INTERVAL_S):
                self._obey(line)

    def _reap(self) -> None:
        for child in self._children():
            if child.poll():
                self._view.say(f"{child.name} died: {child.describe_end()}: {child.last_line()}")

    def _rows(self) -> list[Row]:
        rows = []
        for node in self._nodes:
            health = node.poller.latest if node.child.condition is Condition.RUNNING else None
            child, place = node.child, node.place
            rows.append(Row(place.name, child.pid, child.condition, health, place.url, _note(child)))
        if self._sniffer is not None:
            child = self._sniffer
            note = child.last_line() if child.alive else _note(child)
            rows.append(Row("sniffer", child.pid, child.condition, None, "", note))
        return rows

    def _obey(self, line: str) -> None:
        verb, *arguments = line.split()
        if verb in ("q", "quit", "exit"):
            self._quitting += 1
        elif verb in ("?", "h", "help"):
            self._view.say(HELP)
        elif verb not in self._commands or len(arguments) != 1:
            self._view.say(f"{line!r} is not a command: {HELP}")
        elif (node := self._named(arguments[0])) is None:
            self._view.say(f"{line!r}: there are the nodes 1 to {len(self._nodes)}")
        else:
            try:
                self._commands[verb](node)
            except ValueError as error:
                self._view.say(str(error))
            else:
                if verb in "kpc":
                    self._view.say(f"{node.place.name} {node.child.condition}")

    def _named(self, text: str) -> _Node | None:
        number = text.removeprefix("node")
        if not number.isdecimal() or not 1 <= int(number) <= len(self._nodes):
            return None
        return self._nodes[int(number) - 1]

    def _kill(self, node: _Node) -> None:
        node.child.kill()
        node.poller.forget()

    def _start(self, node: _Node) -> None:
        _bound(node.place.log)
        node.poller.forget()  # what it said before it ended, however it ended
        node.child.start()
        self._view.say(f"{node.place.name} started, pid {node.child.pid}")

    def _resume(self, node: _Node) -> None:
        if node.child.condition is not Condition.PAUSED:
            raise ValueError(f"{node.place.name} is not paused")
        node.child.resume()

    def _make_leader(self, node: _Node) -> None:
        if self._transfer is not None and self._transfer.is_alive():
            raise ValueError("another transfer is under way")
        endpoints = [other.place.endpoint for other in self._nodes if other.child.alive]
        target = server_id(layout.ADDRESS, node.place.port)

        def transfer() -> None:
            try:
                with Client(endpoints) as client:
                    client.cluster.transfer(target, timeout_s=DEV_TRANSFER_TIMEOUT_S)
            except RocinanteError as error:
                self._messages.put(f"{node.place.name} was not made leader: {error.message}")
            else:
                self._messages.put(f"{node.place.name} leads")

        self._transfer = threading.Thread(target=transfer, name="transfer", daemon=True)
        self._transfer.start()

    def _children(self) -> list[Child]:
        nodes = [node.child for node in self._nodes]
        return nodes if self._sniffer is None else [*nodes, self._sniffer]

    def _end(self) -> None:
        """Stop the sniffer, then the nodes, gracefully and within bounds; a second signal kills at once."""
        for node in self._nodes:
            node.poller.close()
        self._say_safely(f"stopping {len([child for child in self._children() if child.alive])} processes")
        self._end_all([self._sniffer] if self._sniffer else [], DEV_SNIFFER_STOP_TIMEOUT_S)
        self._end_all([node.child for node in self._nodes], DEV_STOP_TIMEOUT_S)
        for node in self._nodes:
            node.poller.join()
        try:
            self._view.stop()
        except OSError:
            pass
        _let_go_of_a_terminal_that_is_gone()
        os.close(self._wake_reader)
        os.close(self._wake_writer)

    def _end_all(self, children: Sequence[Child], timeout_s: float) -> None:
        """SIGTERM to all; a second one after a while, which a node takes for "at once" (the last ones have nobody to
        hand leadership to); SIGKILL when the time is up or the user insists."""
        began, insisted = time.monotonic(), self._quitting
        asked_again = False
        for child in children:
            child.terminate()
        while left := [child for child in children if not child.wait(0)]:
            waited_s = time.monotonic() - began
            if waited_s >= DEV_STOP_PATIENCE_S and not asked_again:
                asked_again = True
                for child in left:
                    child.terminate()
            if waited_s >= timeout_s or self._quitting > max(insisted, 1):
                for child in left:
                    self._say_safely(f"{child.name} did not end in time: killed")
                    child.kill()
            left[0].wait(_END_POLL_S)

    def _say_safely(self, message: str) -> None:
        try:
            self._view.say(message)
        except OSError:  # the terminal is gone
            pass

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def quit_on(_number: int, _frame: FrameType | None) -> None:
            self._quitting += 1

        before = {number: signal.signal(number, quit_on) for number in _SIGNALS}
        wake = signal.set_wakeup_fd(self._wake_writer, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wake)
            for number, old in before.items():
                signal.signal(number, old)


def _note(child: Child) -> str:
    """Why it does not run, where the user does not know that anyway."""
    return f"{child.describe_end()}: {child.last_line()}" if child.condition is Condition.DIED else ""


def _own_command() -> str:
    """How a shell in this directory calls the `rocinante` command, as short as it can be."""
    script = Path(sys.executable).with_name("rocinante")
    if not script.exists():
        return f"{sys.executable} -m rocinante.cli.main"
    return str(script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script)


def _is_terminal_gone(error: OSError) -> bool:
    return isinstance(error, BrokenPipeError) or error.errno == 5  # EIO


def _let_go_of_a_terminal_that_is_gone() -> None:
    """What could not be written to it would be tried again at the interpreter's end, which makes that status 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def _bound(log: Path) -> None:
    """Keep one older log beside a new one."""
    if log.exists() and log.stat().st_size > DEV_LOG_BYTES_MAX:
        log.replace(log.with_suffix(".log.1"))
