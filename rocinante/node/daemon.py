"""The process: `run` is what `rocinante node` does.

Claim a controller, open its storage, start the servers and threads, tell systemd; then wait for a signal. SIGTERM and
SIGINT stop gracefully: hand leadership over, not ready, finish what is in flight, close, exit 0. A second one ends
the process at once. SIGHUP reads the configuration again.
"""

from __future__ import annotations

import gc
import logging
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from types import FrameType

from rocinante import limits
from rocinante.config import NO_FILE, Claim, ClaimError, ClusterConfig, StorageEngine, claim, load_config
from rocinante.errors import (
    EXIT_DATA,
    EXIT_FAILED,
    EXIT_OK,
    EXIT_STORAGE,
    EXIT_TEMPORARY,
    EXIT_USAGE,
    ConfigError,
    DataDirectoryError,
    StorageError,
)
from rocinante.identity import format_id
from rocinante.node.heap import keep_large_buffers
from rocinante.node.journal import Fields, JournalHandler, journal_handler
from rocinante.node.lineage import lineage_of_the_others
from rocinante.node.node import Node
from rocinante.node.notify import Notifier
from rocinante.node.opening import Opened, open_node
from rocinante.node.reload import adopt, plan
from rocinante.rest import RestServer
from rocinante.services.server import GrpcServer
from rocinante.storage import DirectoryUnavailableError, found_identity
from rocinante.tokens import Keyring, Tokens, read_tokens
from rocinante.version import __version__

logger = logging.getLogger(__name__)


def _tokens(config: ClusterConfig) -> Tokens:
    """Raises ConfigError."""
    return Tokens() if config.auth.token_file == NO_FILE else read_tokens(config.auth.token_file)


def setup_logging(level: str) -> JournalHandler | None:
    """One line an event: into the journal where standard error is the journal's, with fields; else on stderr, with the
    time."""
    handler = journal_handler()
    if handler is not None:
        logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    else:
        form = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
        logging.basicConfig(level=level.upper(), format=form, stream=sys.stderr, force=True)
    logging.getLogger("waitress").setLevel(logging.WARNING)  # it tells of every reader of events that goes away
    return handler


def run(config_path: Path, name: str | None = None, data_dir: Path | None = None, *, join: bool = False) -> int:
    """Run one node until it is told to stop; the exit status. Mistakes are told in plain lines on stderr."""
    try:
        config, warnings = load_config(config_path)
        keyring = Keyring(_tokens(config))
    except ConfigError as error:
        print(*(f"rocinante: {problem}" for problem in error.problems), sep="\n", file=sys.stderr)
        return EXIT_USAGE
    journal = setup_logging(config.log.level)
    for warning in warnings:
        logger.warning("%s", warning)
    try:
        with claim(config, name) as claimed:
            return Daemon(config_path, config, claimed, data_dir, keyring, join=join, journal=journal).run()
    except ClaimError as error:
        print(f"rocinante: {error}", file=sys.stderr)
        return EXIT_FAILED


class Daemon:
    """One run of one node."""

    def __init__(
        self,
        config_path: Path,
        config: ClusterConfig,
        claimed: Claim,
        data_dir: Path | None,
        keyring: Keyring,
        *,
        join: bool,
        journal: JournalHandler | None = None,
    ) -> None:
        self._config_path = config_path
        self._config = config
        self._keyring = keyring
        self._controller = claimed.controller
        self._directory = data_dir or config.data_directory(claimed.controller)
        self._join = join
        self._notifier = Notifier()
        self._journal = journal
        self._name_lines()
        self._woken, self._wake = socket.socketpair()
        """The kernel's signal writes a byte: what a handler in Python does while the main thread waits on an Event may
        deadlock."""
        self._stop_signalled = False
        self._reload_signalled = False
        self._extended_at = 0.0

    def run(self) -> int:
        keep_large_buffers()
        for end in (self._woken, self._wake):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        controller = self._controller
        logger.info(
            "Rocinante %s, %s of %s/%s, id %s, gRPC %s, REST %s",
            __version__,
            controller.name,
            self._config.name,
            self._config.datacenter,
            format_id(controller.id),
            controller.endpoint,
            controller.rest_endpoint,
        )
        if self._config.storage.engine is StorageEngine.MEMORY:
            logger.warning("storage is memory: nothing is kept on disk, a restarted node has lost all it knew")
        try:
            opened = self._open()
        except DirectoryUnavailableError as error:
            print(f"rocinante: {error}", file=sys.stderr)
            return EXIT_TEMPORARY
        except DataDirectoryError as error:
            print(f"rocinante: {error}", file=sys.stderr)
            return EXIT_DATA
        except StorageError as error:
            print(f"rocinante: {error}", file=sys.stderr)
            return EXIT_STORAGE
        # What was loaded stays; the garbage collector need not look at it again and again: with 300,000 keys a
        # full collection took half a second on a busy machine.
        gc.collect()
        gc.freeze()
        return self._serve(opened)

    def _open(self) -> Opened:
        """Raises DataDirectoryError; StorageError: the disk fails."""
        config, controller = self._config, self._controller
        in_memory = config.storage.engine is StorageEngine.MEMORY
        found = None if in_memory else found_identity(self._directory)
        lineage = found.lineage if found else ""
        if not in_memory and found is None:
            lineage = lineage_of_the_others(config, controller, self._keyring.tokens.presented)
        join = self._join or bool(lineage)  # a restored cluster did not begin with nothing
        return open_node(config, controller, self._directory, join=join, progress=self._progress, lineage=lineage)

    def _name_lines(self, node: Node | None = None) -> None:
        """The fields of a line in the journal."""
        if self._journal is None:
            return
        own = {"NODE": self._controller.name, "CLUSTER": self._config.name, "DATACENTER": self._config.datacenter}

        def fields() -> Fields:
            if node is None:
                return own
            status = node.driver.beat.status
            leader = node.membership.name_of(status.leader) if status.leader else ""
            now: Fields = {"ROLE": status.role.public, "TERM": status.term, "LEADER": leader, "COMMIT": status.commit}
            return {**own, **now}

        self._journal.fields = fields

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        """Only note it; the main thread acts. A second request to stop ends the process at once."""
        if number == signal.SIGHUP:
            self._reload_signalled = True
        elif self._stop_signalled:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        else:
            self._stop_signalled = True

    def _progress(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._extended_at < limits.START_EXTEND_S / 10 and done < total:
            return
        if self._extended_at:
            logger.info("%s: %d of %d", what, done, total)
        self._extended_at = now
        self._notifier.extend_timeout(limits.START_EXTEND_S)
        self._notifier.status(f"not ready: {what}, {done} of {total}")

    def _serve(self, opened: Opened) -> int:
        controller = self._controller
        node = Node(self._config, controller, opened, keyring=self._keyring)
        server = GrpcServer(
            node,
            host=controller.address,
            port=controller.port,
            extra_handlers=[node.peer_service.handler()],
            keyring=self._keyring,
            thread_name="driver",
        )
        node.switch.server = server
        rest = RestServer(
            node,
            host=controller.address,
            port=controller.rest,
            wwwroot=controller.wwwroot,
            threads=self._config.rest.threads,
            allowed_hosts=self._config.rest.allowed_hosts,
            metrics_sources=[server.metrics],
            keyring=self._keyring,
        )
        try:
            server.start()
            rest.start()
        except OSError as error:
            print(f"rocinante: {error.strerror or error}", file=sys.stderr)
            server.stop(0)
            node.engine.abandon()
            return EXIT_FAILED
        node.start(server.loop)
        self._name_lines(node)
        self._notifier.start(lambda: node.driver.turn, lambda: self._describe(node))
        self._wait_until_ready(node, server)
        self._wait_for_stop(node, server, rest)
        self._stop(node, server, rest)
        return EXIT_OK

    def _wait_until_ready(self, node: Node, server: GrpcServer) -> None:
        while not node.left_not_ready.wait(limits.READY_POLL_S):
            self._progress("applying the log", node.apply.applied, node.driver.beat.status.commit)
            if self._stop_wanted(node):
                return
        if node.switch.open:
            server.set_serving(True)
        logger.info("ready: the page is at http://%s/", self._controller.rest_endpoint)
        self._notifier.status(self._describe(node))
        self._notifier.ready()

    def _stop_wanted(self, node: Node) -> bool:
        return node.stop_asked.is_set() or self._stop_signalled

    def _wait_for_stop(self, node: Node, server: GrpcServer, rest: RestServer) -> None:
        while not self._stop_wanted(node):
            if select.select([self._woken], [], [], limits.SIGNAL_POLL_S)[0]:
                self._woken.recv(limits.KIB)
            if self._reload_signalled:
                self._reload_signalled = False
                self._reload(node, server, rest)

    def _stop(self, node: Node, server: GrpcServer, rest: RestServer) -> None:
        logger.info("stopping")
        self._notifier.stopping()
        node.drain(limits.DRAIN_TIMEOUT_S)
        server.set_serving(False, "the node is stopping")
        node.leave()
        server.stop(limits.GRPC_STOP_GRACE_S)
        rest.stop()
        node.close()
        logger.info("stopped")

    def _describe(self, node: Node) -> str:
        status = node.driver.beat.status
        reason = node.not_ready_reason()
        leader = node.membership.name_of(status.leader) if status.leader else "none"
        line = f"{status.role.public}, term {status.term}, leader {leader}, commit {status.commit}"
        return f"not ready: {reason}; {line}" if reason else line

    def _reload(self, node: Node, server: GrpcServer, rest: RestServer) -> None:
        """SIGHUP: what can change at run time does; what cannot is named."""
        self._notifier.reloading()
        try:
            config, warnings = load_config(self._config_path)
            tokens = _tokens(config)
        except ConfigError as error:
            logger.error("the configuration was not reloaded:\n%s", error)  # noqa: TRY400  (the lines say it all)
        else:
            for warning in warnings:
                logger.warning("%s", warning)
            planned = plan(self._config, config)
            adopt(node, rest, planned)
            self._config = planned.running
            changed = list(planned.changed)
            if self._adopt_tokens(tokens, server, rest):
                changed.append(f"the access tokens ({tokens.described})")
            logger.info("configuration reloaded: %s", "; ".join(changed) or "nothing changed")
            if planned.needs_restart:
                logger.warning("these changes need a restart: %s", "; ".join(planned.needs_restart))
        self._notifier.ready()

    def _adopt_tokens(self, tokens: Tokens, server: GrpcServer, rest: RestServer) -> bool:
        """Whether they are others. Who is not let in any more does not keep the streams that he has."""
        before, self._keyring.tokens = self._keyring.tokens, tokens
        if tokens.lets_in_fewer_than(before):
            server.end_streams("the access tokens have changed")
            rest.end_streams()
        return tokens != before
