"""A transfer of a snapshot that this end cannot go on with: the peer and the log are told, and there is no stack."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from rocinante.errors import StorageError
from rocinante.identity import server_id
from rocinante.pb.v1 import peer_pb2 as pb
from rocinante.peers.snapshot import SnapshotTransfer
from rocinante.ports import Member
from rocinante.raft.types import Config, SnapshotMeta
from rocinante.storage.base import SnapshotFile

HOST = "127.0.0.1"
WAIT_S = 60.0
CHUNK = b"x" * 1_000


class Peer(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Takes what comes, and answers how much that was when the stream ends; `ended` says how it ended."""

    def __init__(self) -> None:
        self.came = threading.Event()
        self.ended: queue.SimpleQueue[str] = queue.SimpleQueue()

    def service(self, details: Any) -> Any:
        return grpc.stream_unary_rpc_method_handler(self._install) if "InstallSnapshot" in details.method else None

    def _install(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        size = 0
        try:
            for raw in requests:
                size += len(pb.SnapshotChunk.FromString(raw).data)
                self.came.set()
        except grpc.RpcError:
            self.ended.put("cancelled")
            raise
        self.ended.put("whole")
        return pb.SnapshotInstalled(accepted=True, reason=str(size)).SerializeToString()


def transfer(
    content: Callable[[Peer], Iterator[bytes]], meanwhile: Callable[[Peer, SnapshotTransfer], None]
) -> tuple[bool, str]:
    """(whether it is there, how the stream ended at the peer)."""
    peer, done = Peer(), queue.SimpleQueue[bool]()
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((peer,))
    port = server.add_insecure_port(f"{HOST}:0")
    server.start()
    try:
        member = Member(server_id(HOST, port), "node2", HOST, port, 0)
        file = SnapshotFile(SnapshotMeta(7, 1, Config(voters=frozenset({1, member.id}))), 3 * len(CHUNK), bytes(32))
        hello = pb.Hello(sender=1, to=member.id)
        one = SnapshotTransfer(member, hello, 1, file, content(peer), done.put)
        one.start()
        meanwhile(peer, one)
        return done.get(timeout=WAIT_S), peer.ended.get(timeout=WAIT_S)
    finally:
        server.stop(None).wait(WAIT_S)


def whole(_peer: Peer) -> Iterator[bytes]:
    yield from (CHUNK, CHUNK, CHUNK)


def unreadable(_peer: Peer) -> Iterator[bytes]:
    yield CHUNK
    raise StorageError("cannot read the snapshot 7.snap: Input/output error")


def endless(_peer: Peer) -> Iterator[bytes]:
    while True:
        yield CHUNK


def stop(peer: Peer, one: SnapshotTransfer) -> None:
    assert peer.came.wait(WAIT_S)
    one.stop()


@pytest.mark.parametrize(
    ("content", "meanwhile", "outcome", "said"),
    [
        (whole, lambda *_: None, (True, "whole"), [("INFO", "snapshot 7 is at node2")]),
        (
            unreadable,
            lambda *_: None,
            (False, "cancelled"),
            [
                (
                    "ERROR",
                    "snapshot 7 cannot be read for node2: cannot read the snapshot 7.snap: Input/output error",
                ),
                ("WARNING", "snapshot 7 did not get to node2: it cannot be read"),
            ],
        ),
        (endless, stop, (False, "cancelled"), [("WARNING", "snapshot 7 did not get to node2: this node stops")]),
    ],
)
def test_how_a_transfer_ends(
    content: Callable[[Peer], Iterator[bytes]],
    meanwhile: Callable[[Peer, SnapshotTransfer], None],
    outcome: tuple[bool, str],
    said: list[tuple[str, str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    assert transfer(content, meanwhile) == outcome
    lines = [
        (record.levelname, record.getMessage()) for record in caplog.records if not record.name.startswith("asyncio")
    ]
    assert lines == [("INFO", "sending snapshot 7 (3000 bytes) to node2"), *said]
