"""One of the two streams to a peer: the thread `append-<peer>` or `heartbeat-<peer>`.

The thread dials, says Hello, and keeps the stream until it breaks; then it dials again after a short, jittered wait.
gRPC takes the batches from `_batches` in a thread of its own (named `…-send` here): that is the one that waits on the
outbox. Each batch carries all that waited.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator
from typing import Final

import grpc

from rocinante import limits
from rocinante.pb.v1 import peer_pb2 as pb
from rocinante.peers.outbox import Outbox
from rocinante.ports import Member

logger = logging.getLogger(__name__)

EXCHANGE: Final = "/rocinante.v1.Peer/Exchange"

CHANNEL_OPTIONS: Final = (
    ("grpc.use_local_subchannel_pool", 1),  # else gRPC would share one connection between both channels
    ("grpc.max_send_message_length", limits.GRPC_MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", limits.GRPC_MESSAGE_BYTES_MAX),
    ("grpc.enable_retries", 0),
    ("grpc.keepalive_time_ms", limits.PEER_KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", limits.PEER_KEEPALIVE_TIMEOUT_MS),
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
    ) -> None:
        self.kind = kind
        self.peer = peer
        self.outbox = outbox
        self.batches = 0
        self.bytes = 0
        self.connects = 0
        self._hello = hello
        self._on_change = on_change
        self._stopped = threading.Event()
        self._last_problem = ""
        self._thread = threading.Thread(target=self._run, name=f"{kind}-{peer.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self.outbox.close()

    def join(self, timeout_s: float) -> None:
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stopped.is_set():
            problem = self._connect_once()
            self.outbox.close()
            self._on_change()
            if problem != self._last_problem and not self._stopped.is_set():
                logger.info("%s channel to %s (%s): %s", self.kind, self.peer.name, self.peer.endpoint, problem)
                self._last_problem = problem
            self._stopped.wait(random.uniform(0.5, 1.0) * limits.PEER_REDIAL_MS_MAX / 1000)

    def _connect_once(self) -> str:
        """Hold one stream until it ends; why it ended, for people."""
        with grpc.insecure_channel(self.peer.endpoint, options=CHANNEL_OPTIONS) as channel:
            try:
                grpc.channel_ready_future(channel).result(timeout=limits.PEER_DIAL_TIMEOUT_S)
            except grpc.FutureTimeoutError:
                return "cannot be reached"
            if self._stopped.is_set():
                return "stopped"
            exchange = channel.stream_unary(
                EXCHANGE,
                request_serializer=pb.PeerBatch.SerializeToString,
                response_deserializer=pb.PeerGoodbye.FromString,
            )
            self.outbox.open()
            self.connects += 1
            ended = threading.Event()
            call = exchange.future(self._batches(ended))
            logger.info("%s channel to %s (%s): connected", self.kind, self.peer.name, self.peer.endpoint)
            self._last_problem = ""
            self._on_change()
            try:
                goodbye = call.result()
            except grpc.RpcError as error:
                return f"{error.code().name}: {error.details()}"
            except grpc.FutureCancelledError:
                return "cancelled"
            finally:
                ended.set()
                self.outbox.close()
            return f"closed by the peer: {goodbye.reason}" if goodbye.reason else "closed by the peer"

    def _batches(self, ended: threading.Event) -> Iterator[pb.PeerBatch]:
        """What gRPC sends, taken by its own thread until this stream has ended."""
        threading.current_thread().name = f"{self.kind}-{self.peer.name}-send"
        yield pb.PeerBatch(hello=self._hello)
        while not ended.is_set() and not self._stopped.is_set():
            messages = self.outbox.take(limits.PEER_BATCH_BYTES_MAX, limits.PEER_TAKE_TIMEOUT_S)
            if messages:
                batch = pb.PeerBatch(messages=messages)
                self.batches += 1
                self.bytes += batch.ByteSize()
                yield batch
