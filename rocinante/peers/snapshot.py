"""Sending a snapshot to one peer: a thread `snapshot-<peer>`, a stream of chunks under gRPC's flow control.

Appends and heartbeats go on over their own channels meanwhile.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator

import grpc

from rocinante import limits
from rocinante.errors import StorageError
from rocinante.pb.v1 import peer_pb2 as pb
from rocinante.peers.channel import CHANNEL_OPTIONS
from rocinante.peers.codec import encode_config
from rocinante.ports import Member
from rocinante.storage.base import SnapshotFile
from rocinante.tokens import bearer_metadata

logger = logging.getLogger(__name__)


class SnapshotTransfer:
    """One transfer. `on_done(ok)` is called once, from its thread."""

    def __init__(
        self,
        peer: Member,
        hello: pb.Hello,
        term: int,
        snapshot: SnapshotFile,
        content: Iterable[bytes],
        on_done: Callable[[bool], None],
        token: str = "",
    ) -> None:
        """`token`: what this node presents."""
        self.peer = peer
        self.sent_bytes = 0
        self._hello = hello
        self._term = term
        self._snapshot = snapshot
        self._content = content
        self._on_done = on_done
        self._metadata = bearer_metadata(token)
        self._stopped = threading.Event()
        self._call: grpc.Future[pb.SnapshotInstalled] | None = None
        self._called = threading.Event()
        self._given_up = ""
        """Why this end did not go on."""
        self._thread = threading.Thread(target=self._run, name=f"snapshot-{peer.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        ok, problem = False, "the transfer failed"
        index = self._snapshot.meta.index
        logger.info("sending snapshot %d (%d bytes) to %s", index, self._snapshot.size_bytes, self.peer.name)
        try:
            with grpc.insecure_channel(self.peer.endpoint, options=CHANNEL_OPTIONS) as channel:
                install = channel.stream_unary(
                    "/rocinante.v1.Peer/InstallSnapshot",
                    request_serializer=pb.SnapshotChunk.SerializeToString,
                    response_deserializer=pb.SnapshotInstalled.FromString,
                )
                self._call = install.future(
                    self._chunks(), timeout=limits.SNAPSHOT_TRANSFER_TIMEOUT_S, metadata=self._metadata
                )
                self._called.set()
                answer = self._call.result()
                ok = answer.accepted
                problem = answer.reason
        except grpc.FutureCancelledError:
            problem = self._given_up
        except grpc.RpcError as error:
            problem = f"{error.code().name}: {error.details()}"
        finally:
            # Whatever happened: a transfer that never ends would be the last one to this peer.
            if ok:
                logger.info("snapshot %d is at %s", index, self.peer.name)
            else:
                logger.warning("snapshot %d did not get to %s: %s", index, self.peer.name, problem)
            self._on_done(ok)

    def _chunks(self) -> Iterator[pb.SnapshotChunk]:
        meta = self._snapshot.meta
        first = pb.SnapshotChunk(
            hello=self._hello,
            term=self._term,
            index=meta.index,
            index_term=meta.term,
            config=encode_config(meta.config),
            total_bytes=self._snapshot.size_bytes,
            digest=self._snapshot.digest,
        )
        yield first
        try:
            for data in self._content:
                if self._stopped.is_set():
                    self._give_up("this node stops")
                    return
                yield pb.SnapshotChunk(offset=self.sent_bytes, data=data)
                self.sent_bytes += len(data)
        except StorageError as error:
            logger.error("snapshot %d cannot be read for %s: %s", meta.index, self.peer.name, error)  # noqa: TRY400
            self._give_up("it cannot be read")

    def _give_up(self, why: str) -> None:
        """(On gRPC's thread.) An iterator that raised would be a stack in the log, one that just ended a snapshot that
        is too short."""
        self._given_up = why
        self._called.wait()
        assert self._call is not None
        self._call.cancel()
