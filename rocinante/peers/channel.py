"""One of the two streams to a peer: the task `append-<peer>` or `heartbeat-<peer>` on the driver's event loop.

It dials, says Hello, and keeps the stream until it breaks; then it dials again after a short, jittered wait. Each
channel is a connection of its own, so that a large append under flow control never holds up a heartbeat. A batch
carries all that waited.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any, Final

import grpc

from rocinante import limits
from rocinante.pb.v1 import peer_pb2 as pb
from rocinante.peers.codec import Encoded, join_batch
from rocinante.peers.outbox import Outbox
from rocinante.peers.server import METADATA_STRANGER
from rocinante.ports import Member
from rocinante.tokens import Keyring, bearer_metadata

logger = logging.getLogger(__name__)

EXCHANGE: Final = "/rocinante.v1.Peer/Exchange"

_WRITE_FAILED: Final = "Internal error from Core"

CHANNEL_OPTIONS: Final = (
    ("grpc.use_local_subchannel_pool", 1),  # else gRPC would share one connection between both channels
    ("grpc.max_send_message_length", limits.GRPC_MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", limits.GRPC_MESSAGE_BYTES_MAX),
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", limits.PEER_REDIAL_MS_MAX // 2),  # default 1 s: a cluster would start slowly
    ("grpc.max_reconnect_backoff_ms", limits.PEER_REDIAL_MS_MAX),
    ("grpc.keepalive_time_ms", limits.PEER_KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", limits.PEER_KEEPALIVE_TIMEOUT_MS),
    ("grpc.http2.ping_timeout_ms", limits.PEER_KEEPALIVE_TIMEOUT_MS),  # of keepalive's pings too: by default a minute
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.enable_http_proxy", 0),
)


class Channel:
    """See the module. `kind` is `append` or `heartbeat`."""

    def __init__(
        self,
        kind: str,
        peer: Member,
        hello: pb.Hello,
        outbox: Outbox,
        on_change: Callable[[], None],
        on_gone: Callable[[int], None] | None = None,
        on_stranger: Callable[[int], None] | None = None,
        keyring: Keyring | None = None,
    ) -> None:
        """`on_stranger`: the peer says that this node is no member by all that it has applied, and how far that is."""
        self.kind = kind
        self.peer = peer
        self.outbox = outbox
        self.batches = 0
        self.bytes = 0
        self.connects = 0
        self._hello = hello
        self._keyring = keyring or Keyring()
        self._on_change = on_change
        self._on_gone = on_gone
        self._on_stranger = on_stranger
        self._refused = False
        self._stopped = False
        """Said beside the cancellation: `asyncio.wait_for` (until 3.12) and grpcio may swallow that."""
        self._settling: asyncio.TimerHandle | None = None
        self._last_problem = ""
        self._said: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """On the loop's thread."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"{self.kind}-{self.peer.name}")

    def stop(self) -> asyncio.Task[None] | None:
        """On the loop's thread; the task, which ends soon."""
        self._stopped = True
        self.outbox.close()
        if self._task is not None:
            self._task.cancel()
        return self._task

    async def _run(self) -> None:
        while not self._stopped:
            try:
                problem = await self._connect_once()
            except asyncio.CancelledError:
                # grpcio raises it also for a stream that ended with status CANCELLED; only `stop` may end this task.
                if (task := asyncio.current_task()) is None or task.cancelling():
                    raise
                problem = "CANCELLED"
            except Exception as error:  # top of the task: without it the peer would be cut off for ever
                logger.exception("%s channel to %s failed", self.kind, self.peer.name)
                problem = f"failed: {error!r}"
            if self._settling is not None:
                self._settling.cancel()
            self.outbox.close()
            self._on_change()
            if problem != self._last_problem:
                self._say_once(problem)
                self._last_problem = problem
                await self._look_whether_gone()
            longest_s = limits.PEER_REFUSED_REDIAL_S if self._refused else limits.PEER_REDIAL_MS_MAX / 1000
            await asyncio.sleep(random.uniform(0.5, 1.0) * longest_s)

    def _say_once(self, problem: str) -> None:
        """One line in the log for each reason until the peer is back: redials go on several times a second, and their
        reasons take turns."""
        if problem not in self._said and len(self._said) < limits.PEER_PROBLEMS_SAID_MAX:
            self._said.add(problem)
            logger.info("%s channel to %s (%s): %s", self.kind, self.peer.name, self.peer.endpoint, problem)

    async def _connect_once(self) -> str:
        """Hold one stream until it ends; why it ended, for people."""
        self._refused = False
        async with grpc.aio.insecure_channel(self.peer.endpoint, options=CHANNEL_OPTIONS) as channel:
            exchange = channel.stream_unary(
                EXCHANGE,
                response_deserializer=pb.PeerGoodbye.FromString,
            )
            call = None
            try:
                # The first write waits for the stream to begin, which one that was refused at once never does.
                async with asyncio.timeout(limits.PEER_DIAL_TIMEOUT_S):
                    await channel.channel_ready()
                    call = exchange(metadata=bearer_metadata(self._keyring.tokens.presented))
                    await call.write(pb.PeerBatch(hello=self._hello).SerializeToString())
                self._opened()
                call.add_done_callback(lambda _: self.outbox.close())
                while messages := await self.outbox.take(limits.PEER_BATCH_BYTES_MAX):
                    await self._write(call, messages)
                goodbye = await call
            except TimeoutError:
                return "cannot be reached"
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError):
                # Why it ended, the call itself knows; the latter two are a write on a call that has just ended.
                async with asyncio.timeout(limits.PEER_DIAL_TIMEOUT_S):
                    return await self._failed(call)
            return f"closed by the peer: {goodbye.reason}" if goodbye.reason else "closed by the peer"

    async def _failed(self, call: Any) -> str:
        code = await call.code()
        self._refused = code in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.UNAUTHENTICATED)
        for key, value in await call.trailing_metadata() or ():
            if key == METADATA_STRANGER and self._on_stranger is not None and value.isdigit():
                self._on_stranger(int(value))
        details = await call.details()
        # grpcio's words for a write that met the end of the call: the peer's own reason is lost then.
        if code is grpc.StatusCode.INTERNAL and details == _WRITE_FAILED:
            return self._last_problem or "the peer ended the stream (it stops, or is not ready)"
        return f"{code.name}: {details}"

    async def _look_whether_gone(self) -> None:
        """A host that refuses the connection lives, but the node on it does not: no need to wait for a time-out."""
        if self._on_gone is None or not self.connects:
            return
        for pause_s in (0.0, *limits.PEER_GONE_LOOKS_S):
            await asyncio.sleep(pause_s)
            try:
                dial = asyncio.open_connection(self.peer.address, self.peer.port)
                _, writer = await asyncio.wait_for(dial, limits.PEER_GONE_TIMEOUT_S)
            except ConnectionRefusedError:
                self._on_gone(self.peer.id)
                return
            except TimeoutError:
                return
            except OSError:
                continue  # reset: it took the connection in the moment in which it ended
            writer.close()

    def _opened(self) -> None:
        self.outbox.open()
        self.connects += 1
        # A peer that is not ready or refuses this node would else fill the log with ups and downs.
        self._settling = asyncio.get_running_loop().call_later(limits.PEER_SETTLED_S, self._settled)
        self._on_change()

    def _settled(self) -> None:
        self._last_problem = ""
        self._said.clear()
        logger.info("%s channel to %s (%s): connected", self.kind, self.peer.name, self.peer.endpoint)

    async def _write(self, call: Any, messages: list[Encoded]) -> None:
        batch = join_batch(messages)
        self.batches += 1
        self.bytes += len(batch)
        await call.write(batch)
