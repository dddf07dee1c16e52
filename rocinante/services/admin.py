"""rocinante.v1.Admin: acts on this one node."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from google.protobuf.message import Message

from rocinante import limits
from rocinante.errors import InvalidArgument
from rocinante.pb.v1 import admin_pb2 as pb
from rocinante.ports import LogLine
from rocinante.services.call import Call, Calls, Handlers, Unary

SERVICE = "rocinante.v1.Admin"


class AdminService:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._node = calls.node

    def handlers(self) -> Handlers:
        methods: dict[str, tuple[type[Message], Unary[Any]]] = {
            "SetGrpc": (pb.SetGrpcRequest, self.set_grpc),
            "Stop": (pb.StopRequest, self.stop),
            "Snapshot": (pb.SnapshotRequest, self.snapshot),
            "Log": (pb.LogRequest, self.log),
            "Digest": (pb.DigestRequest, self.digest),
        }
        handlers = {
            f"/{SERVICE}/{name}": self._calls.unary(f"/{SERVICE}/{name}", request, handler)
            for name, (request, handler) in methods.items()
        }
        handlers[f"/{SERVICE}/Save"] = self._calls.stream(f"/{SERVICE}/Save", pb.SaveRequest, self.save)
        return handlers

    async def set_grpc(self, _call: Call, request: pb.SetGrpcRequest) -> pb.SetGrpcResponse:
        """Off answers first, and takes effect then; on cannot come this way (REST can)."""
        asyncio.get_running_loop().call_soon(self._node.set_grpc, request.enabled)
        return pb.SetGrpcResponse(enabled=request.enabled)

    async def stop(self, _call: Call, _request: pb.StopRequest) -> pb.StopResponse:
        self._node.stop()
        return pb.StopResponse()

    async def snapshot(self, call: Call, _request: pb.SnapshotRequest) -> pb.SnapshotResponse:
        info = await call.wait(self._node.snapshot())
        return pb.SnapshotResponse(index=info.index, term=info.term, bytes=info.size_bytes, digest=info.digest)

    async def log(self, _call: Call, request: pb.LogRequest) -> pb.LogResponse:
        if request.last > limits.LOG_LINES_MAX:
            raise InvalidArgument("last", f"{request.last} is more than {limits.LOG_LINES_MAX}")
        lines = self._node.log(request.last or limits.LOG_LINES_DEFAULT, committed=request.committed)
        return pb.LogResponse(entries=[_log_entry(line) for line in lines])

    async def digest(self, call: Call, request: pb.DigestRequest) -> pb.DigestResponse:
        index, digest, revision = await call.wait(self._node.digest(request.at_index))
        return pb.DigestResponse(index=index, digest=digest, revision=revision)

    async def save(self, call: Call, _request: pb.SaveRequest) -> None:
        """The chunks are read from the disk on a worker thread, one at a time, as fast as the client takes them."""
        offload = self._calls.offload
        info, chunks = await offload(self._node.save)
        try:
            await call.write(
                pb.SaveResponse(index=info.index, term=info.term, total_bytes=info.size_bytes, digest=info.digest)
            )
            while chunk := await offload(next, chunks, b""):
                await call.write(pb.SaveResponse(chunk=chunk))
        finally:
            _close(chunks)


def _close(chunks: Iterator[bytes]) -> None:
    close = getattr(chunks, "close", None)
    if close is not None:
        close()


def _log_entry(line: LogLine) -> pb.LogEntry:
    return pb.LogEntry(
        index=line.index,
        term=line.term,
        kind=line.kind,
        bytes=line.size_bytes,
        commands=line.commands,
        committed=line.committed,
    )
