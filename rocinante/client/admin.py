"""`client.admin`: acts on one node. `endpoint` says which; without it, the first endpoint that the client was given."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

import grpc

from rocinante.client.connection import Connection
from rocinante.client.retry import Failed
from rocinante.client.stubs import admin
from rocinante.client.types import LogEntry, SnapshotResult, StateDigest
from rocinante.errors import InvalidArgument, Unauthenticated, Unavailable
from rocinante.limits import CLIENT_SAVE_TIMEOUT_S
from rocinante.pb.v1 import admin_pb2

__all__ = ["Admin", "Backup"]


class Admin:
    """Each call goes to one node, once: one that does not answer is Unavailable, and where it
    may have acted, OutcomeUnknown."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def set_grpc(self, enabled: bool, *, endpoint: str | None = None, timeout_s: float | None = None) -> bool:
        """Switch a node's gRPC interface. Off: the node is not ready until REST (`POST /v1/admin/grpc`) switches it on
        again."""
        request = admin_pb2.SetGrpcRequest(enabled=enabled)
        return self._connection.act(admin.SET_GRPC, request, self._connection.only(endpoint), timeout_s).enabled

    def stop(self, *, endpoint: str | None = None, timeout_s: float | None = None) -> None:
        """Have a node stop gracefully, as by SIGTERM. Returns once it has begun."""
        self._connection.act(admin.STOP, admin_pb2.StopRequest(), self._connection.only(endpoint), timeout_s)

    def snapshot(self, *, endpoint: str | None = None, timeout_s: float = CLIENT_SAVE_TIMEOUT_S) -> SnapshotResult:
        """Have a node take a snapshot now and compact its log."""
        node = self._connection.only(endpoint)
        answer = self._connection.act(admin.SNAPSHOT, admin_pb2.SnapshotRequest(), node, timeout_s)
        return SnapshotResult(answer.index, answer.term, answer.bytes, answer.digest)

    def log(
        self, last: int = 20, *, committed: bool = False, endpoint: str | None = None, timeout_s: float | None = None
    ) -> tuple[LogEntry, ...]:
        """The last entries of a node's log, oldest first; `committed`: only those that are."""
        if last < 1:
            raise InvalidArgument("last", f"is {last}, must be at least 1")
        request = admin_pb2.LogRequest(last=last, committed=committed)
        answer = self._connection.ask(admin.LOG, request, self._connection.only(endpoint), timeout_s)
        return tuple(
            LogEntry(entry.index, entry.term, entry.kind, entry.bytes, tuple(entry.commands), bool(entry.committed))
            for entry in answer.entries
        )

    def digest(self, at_index: int = 0, *, endpoint: str | None = None, timeout_s: float | None = None) -> StateDigest:
        """BLAKE2b-256 of a node's whole state once `at_index` is applied (0: now): equal on all nodes at the same
        index."""
        request = admin_pb2.DigestRequest(at_index=at_index)
        answer = self._connection.ask(admin.DIGEST, request, self._connection.only(endpoint), timeout_s)
        return StateDigest(answer.index, answer.digest, answer.revision)

    def save(self, *, endpoint: str | None = None, timeout_s: float = CLIENT_SAVE_TIMEOUT_S) -> Backup:
        """An online backup: the whole state, taken now, to be iterated in chunks."""
        return Backup(self._connection, self._connection.only(endpoint), timeout_s)


class Backup:
    """The content of a snapshot in chunks, once. What the node says of it is filled in with the first chunk.

    Iterating raises Unavailable when the stream breaks or what came is not what the node announced: begin anew.
    """

    def __init__(self, connection: Connection, node: str, timeout_s: float) -> None:
        self._connection = connection
        self._node = node
        self._timeout_s = timeout_s
        self.index = 0
        """The log index after which the state was taken; 0: the node did not say."""
        self.term = 0
        self.total_bytes = 0
        self.digest = b""
        """BLAKE2b-256 of the content; empty: the node did not say."""

    def __iter__(self) -> Iterator[bytes]:
        found, size = blake2b(digest_size=32), 0
        for answer in self._answers():
            if answer.digest:
                self.index, self.term = answer.index, answer.term
                self.total_bytes, self.digest = answer.total_bytes, answer.digest
            if answer.chunk:
                found.update(answer.chunk)
                size += len(answer.chunk)
                yield answer.chunk
        if self.digest and (size, found.digest()) != (self.total_bytes, self.digest):
            raise Unavailable(
                f"{self._node}: the backup was damaged on its way: {size} bytes with digest {found.hexdigest()} came,"
                f" {self.total_bytes} with {self.digest.hex()} were sent; save again"
            )

    def _answers(self) -> Iterator[admin_pb2.SaveResponse]:
        try:
            call = self._connection.transport.callable(self._node, admin.SAVE)
            yield from call(admin_pb2.SaveRequest(), timeout=self._timeout_s)
        except grpc.RpcError as error:
            failed = self._connection.transport.failed(error, "Save")
            raise _broken(failed, self._node) from None
        except Failed as failed:
            raise _broken(failed, self._node) from None


def _broken(failed: Failed, node: str) -> Exception:
    down = failed.unknown or (failed.node_down and not isinstance(failed.error, Unauthenticated))
    return Unavailable(f"{node}: {failed.error.message}") if down else failed.error
