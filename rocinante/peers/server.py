"""The receiving side: gRPC handlers of `rocinante.v1.Peer`, run on the `grpc` event loop.

A stream's first batch says who sends and to whom; what is from another cluster, for another id or of an incompatible
protocol is refused with FAILED_PRECONDITION and counted. Bytes that are no batch end the stream with
INVALID_ARGUMENT; the node is unharmed either way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NoReturn, Protocol

import grpc
from google.protobuf.message import DecodeError

from rocinante import limits
from rocinante.errors import StorageError
from rocinante.identity import format_id
from rocinante.pb.v1 import peer_pb2 as pb
from rocinante.peers.codec import MalformedMessage, decode_config
from rocinante.raft.types import SnapshotMeta

logger = logging.getLogger(__name__)

SERVICE: Final = "rocinante.v1.Peer"
METADATA_STRANGER: Final = "rocinante-not-a-member-at"
"""In the refusal of one who is no member: the index up to which that is known."""


class SnapshotReceiver(Protocol):
    """One snapshot on its way in. Called from one worker thread, in order."""

    def write(self, chunk: bytes) -> None: ...

    def finish(self) -> None:
        """All is there: check it and hand it to the core. Raises ValueError when the digest is wrong."""

    def abort(self) -> None: ...


class PeerReceiver(Protocol):
    """What the node does with what comes from peers. Called on the gRPC loop: nothing here may block."""

    def greet(self, hello: pb.Hello) -> str:
        """Why this peer is refused, or "" when it is welcome."""

    def stranger_at(self, sender: int) -> int:
        """0: a member. Else it is none by all that this node has applied, and that is up to this index."""

    def receive(self, sender: int, messages: Sequence[pb.PeerMessage]) -> None:
        """Raises MalformedMessage; then the stream ends."""

    def receive_snapshot(
        self, sender: int, term: int, meta: SnapshotMeta, total_bytes: int, digest: bytes
    ) -> SnapshotReceiver | None:
        """None: not wanted now (another one is on its way, or it is old)."""


class _RefusedError(Exception):
    """The call ends with this status."""

    def __init__(self, code: grpc.StatusCode, reason: str, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(reason)
        self.code = code
        self.metadata = metadata

    async def abort(self, context: Any) -> None:
        await context.abort(self.code, str(self), self.metadata)


def _refuse(reason: str, code: grpc.StatusCode = grpc.StatusCode.FAILED_PRECONDITION) -> NoReturn:
    raise _RefusedError(code, reason)


class PeerService:
    """Handlers for the server in `services/`; `handler()` gives what gRPC wants."""

    def __init__(self, receiver: PeerReceiver) -> None:
        self._receiver = receiver
        self._disk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="snapshot-write")
        self._refusals: dict[int, str] = {}
        self.refused = 0
        self.malformed = 0

    def handler(self) -> grpc.GenericRpcHandler:
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Exchange": grpc.stream_unary_rpc_method_handler(
                    self._exchange, response_serializer=pb.PeerGoodbye.SerializeToString
                ),
                "InstallSnapshot": grpc.stream_unary_rpc_method_handler(
                    self._install, response_serializer=pb.SnapshotInstalled.SerializeToString
                ),
            },
        )

    def close(self) -> None:
        self._disk.shutdown(wait=False, cancel_futures=True)

    def _greet(self, hello: pb.Hello) -> None:
        refusal = self._receiver.greet(hello)
        if refusal:
            self._note_refusal(hello.sender, refusal)
            _refuse(refusal)
        self._check_member(hello.sender)

    def _check_member(self, sender: int) -> None:
        """Also in the middle of a stream: who was removed hears of it by this, for nobody sends it the entry."""
        if known := self._receiver.stranger_at(sender):
            refusal = f"sender: {format_id(sender)} is not a member of this cluster"
            self._note_refusal(sender, refusal)
            raise _RefusedError(grpc.StatusCode.FAILED_PRECONDITION, refusal, ((METADATA_STRANGER, str(known)),))

    def _note_refusal(self, sender: int, refusal: str) -> None:
        """Count it; one who comes again and again with the same fault gets one line in the log."""
        self.refused += 1
        if self._refusals.get(sender) != refusal:
            if len(self._refusals) >= limits.PEER_PROBLEMS_SAID_MAX:
                self._refusals.clear()
            self._refusals[sender] = refusal
            logger.warning("refused a peer (id %s): %s", format_id(sender), refusal)

    async def _exchange(self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> pb.PeerGoodbye:
        try:
            await self._read_batches(requests)
        except _RefusedError as error:
            await error.abort(context)
        except (DecodeError, MalformedMessage) as error:
            self.malformed += 1
            logger.warning("a peer sent what is no message: %s", error)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"PeerBatch: {error}")
        return pb.PeerGoodbye()

    async def _read_batches(self, requests: AsyncIterator[bytes]) -> None:
        sender = 0
        async for raw in requests:
            batch = pb.PeerBatch.FromString(raw)
            if not sender:
                if not batch.HasField("hello"):
                    raise MalformedMessage("hello: missing in the first batch")
                self._greet(batch.hello)
                sender = batch.hello.sender
            self._check_member(sender)
            self._receiver.receive(sender, batch.messages)

    async def _install(self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> pb.SnapshotInstalled:
        try:
            return await self._read_snapshot(requests)
        except _RefusedError as error:
            await error.abort(context)
        except (DecodeError, ValueError) as error:
            self.malformed += 1
            logger.warning("a snapshot from a peer cannot be used: %s", error)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"SnapshotChunk: {error}")
        raise AssertionError("abort does not return")

    async def _read_snapshot(self, requests: AsyncIterator[bytes]) -> pb.SnapshotInstalled:
        loop = asyncio.get_running_loop()
        receiver: SnapshotReceiver | None = None
        offset = total = 0
        try:
            async for raw in requests:
                chunk = pb.SnapshotChunk.FromString(raw)
                if receiver is None:
                    receiver, total = self._begin_snapshot(chunk), chunk.total_bytes
                    if receiver is None:
                        return pb.SnapshotInstalled(accepted=False, reason="not wanted now")
                if chunk.offset != offset:
                    raise ValueError(f"offset: {chunk.offset} where {offset} was expected")
                offset += len(chunk.data)
                if offset > total:
                    raise ValueError(f"data: more than the {total} bytes announced")
                await loop.run_in_executor(self._disk, receiver.write, chunk.data)
            if receiver is None:
                raise ValueError("empty")
            if offset != total:
                raise ValueError(f"total_bytes: {total} announced, {offset} came")
            finished, receiver = receiver, None
            await loop.run_in_executor(self._disk, finished.finish)
            return pb.SnapshotInstalled(accepted=True)
        except StorageError as error:
            _refuse(str(error), grpc.StatusCode.UNAVAILABLE)
        finally:
            if receiver is not None:
                await asyncio.shield(loop.run_in_executor(self._disk, receiver.abort))

    def _begin_snapshot(self, first: pb.SnapshotChunk) -> SnapshotReceiver | None:
        if not first.HasField("hello"):
            raise MalformedMessage("hello: missing in the first chunk")
        self._greet(first.hello)
        if not first.index or not first.index_term or not first.config.voters:
            raise ValueError("index, index_term, config: must not be empty")
        meta = SnapshotMeta(first.index, first.index_term, decode_config(first.config))
        return self._receiver.receive_snapshot(first.hello.sender, first.term, meta, first.total_bytes, first.digest)
