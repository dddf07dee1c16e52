"""A stream to a peer that refuses it: dialled again and again, and told to the log once."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import grpc
import pytest

from rocinante import limits
from rocinante.identity import server_id
from rocinante.pb.v1 import peer_pb2 as pb
from rocinante.peers.channel import EXCHANGE, Channel
from rocinante.peers.outbox import Outbox
from rocinante.ports import Member

HOST = "127.0.0.1"


class Peer(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Refuses every stream with the next of `reasons`, over and over, until it is told to welcome them."""

    def __init__(self, *reasons: str) -> None:
        self.reasons = reasons
        self.welcomes = False
        self.streams = 0
        self.came = asyncio.Condition()

    def service(self, details: Any) -> Any:
        return grpc.stream_unary_rpc_method_handler(self._exchange) if details.method == EXCHANGE else None

    async def _exchange(self, requests: Any, context: Any) -> bytes:
        async with self.came:
            self.streams += 1
            self.came.notify_all()
        if not self.welcomes:
            await context.abort(grpc.StatusCode.UNAVAILABLE, self.reasons[self.streams % len(self.reasons)])
        async for _ in requests:
            pass
        return b""

    async def wait_for_streams(self, more: int) -> None:
        wanted = self.streams + more
        async with self.came:
            await asyncio.wait_for(self.came.wait_for(lambda: self.streams >= wanted), 60)


async def scenario(peer: Peer, problems: list[str], connected: list[str], caplog: pytest.LogCaptureFixture) -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((peer,))
    port = server.add_insecure_port(f"{HOST}:0")
    await server.start()
    member = Member(server_id(HOST, port), "node2", HOST, port, 0)
    outbox = Outbox(messages_max=16, bytes_max=limits.MIB)
    channel = Channel("append", member, pb.Hello(sender=1, to=member.id), outbox, on_change=lambda: None)
    channel.start()
    try:
        await peer.wait_for_streams(12)
        problems.extend(record.getMessage() for record in caplog.records)
        peer.welcomes = True
        await peer.wait_for_streams(1)
        await asyncio.sleep(limits.PEER_SETTLED_S * 2)  # what is waited for is that nothing breaks
        connected.append(caplog.records[-1].getMessage())
        await server.stop(0)
    finally:
        await asyncio.gather(*filter(None, [channel.stop()]), return_exceptions=True)
        await server.stop(0)


def test_reasons_that_take_turns_are_told_once_each_until_the_peer_is_back(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="rocinante.peers.channel")
    problems: list[str] = []
    connected: list[str] = []
    asyncio.run(scenario(Peer("not ready: starting", "not ready: gRPC is off"), problems, connected, caplog))
    assert 1 <= len(problems) <= 3, problems
    assert len(set(problems)) == len(problems)
    assert not any("Internal error from Core" in problem for problem in problems)
    assert connected[0].endswith("connected")


async def looked(takes: int, resets: bool) -> list[int]:
    """What a channel says of a peer whose socket takes so many connections before it is closed; -1: it stays open."""
    gone: list[int] = []
    taken = 0

    def take(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        taken += 1
        if taken == takes:
            server.close()
        if resets:
            writer.transport.abort()
        writer.close()

    server = await asyncio.start_server(take, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    member = Member(server_id(HOST, port), "node2", HOST, port, 0)
    outbox = Outbox(messages_max=16, bytes_max=limits.MIB)
    hello = pb.Hello(sender=1, to=member.id)
    channel = Channel("heartbeat", member, hello, outbox, on_change=lambda: None, on_gone=gone.append)
    channel.connects = 1
    if not takes:
        server.close()
    await channel._look_whether_gone()
    server.close()
    assert set(gone) <= {member.id}
    return gone


@pytest.mark.parametrize("resets", [False, True], ids=["", "resets"])
@pytest.mark.parametrize(("takes", "gone"), [(0, 1), (1, 1), (2, 1), (-1, 0)])
def test_a_process_that_is_killed_may_take_connections_for_a_moment(takes: int, gone: int, resets: bool) -> None:
    """Its sockets are closed one after the other: it is looked again, before an election is left to the time-out."""
    assert len(asyncio.run(looked(takes, resets))) == gone
