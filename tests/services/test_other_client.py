"""Another etcd client in the same process (aetcd, from PyPI): its `etcdserverpb` messages and ours do not
clash, and it works.

aetcd generates the same message names into protobuf's default pool; ours live in a pool of their own
(rocinante/pb/pool.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from google.protobuf import descriptor_pool

from rocinante.pb.etcd import rpc_pb2
from rocinante.pb.pool import POOL
from rocinante.services.server import GrpcServer

aetcd: Any = pytest.importorskip("aetcd", reason="aetcd is a development dependency (pip install aetcd)")
WAIT_S = 60.0


def scenario(server: GrpcServer, steps: Callable[[Any], Awaitable[None]]) -> None:
    async def run() -> None:
        async with aetcd.Client(host="127.0.0.1", port=server.port) as client:
            await asyncio.wait_for(steps(client), WAIT_S)

    asyncio.run(run())


def test_both_have_their_own_messages_of_the_same_name() -> None:
    theirs = descriptor_pool.Default().FindMessageTypeByName("etcdserverpb.PutRequest")
    ours = POOL.FindMessageTypeByName("etcdserverpb.PutRequest")
    assert theirs is not ours
    assert rpc_pb2.PutRequest.DESCRIPTOR is ours
    request = rpc_pb2.PutRequest(key=b"k", value=b"v", prev_kv=True)
    message = aetcd.rpc.PutRequest.FromString(request.SerializeToString())
    assert (message.key, message.value, message.prev_kv) == (b"k", b"v", True)


def test_put_get_and_delete(server: GrpcServer) -> None:
    async def steps(client: Any) -> None:
        await client.put(b"k1", b"one")
        await client.put(b"k2", b"two")
        got = await client.get(b"k1")
        assert (got.value, got.version) == (b"one", 1)
        assert [kv.value async for kv in _each(await client.get_prefix(b"k"))] == [b"one", b"two"]
        assert await client.delete(b"k1")
        assert await client.get(b"k1") is None

    scenario(server, steps)


def test_transaction(server: GrpcServer) -> None:
    async def steps(client: Any) -> None:
        await client.put(b"k", b"1")
        succeeded, _ = await client.transaction(
            compare=[client.transactions.value(b"k") == b"1"],
            success=[client.transactions.put(b"k", b"2")],
            failure=[client.transactions.put(b"k", b"other")],
        )
        assert succeeded
        assert (await client.get(b"k")).value == b"2"

    scenario(server, steps)


def test_watch(server: GrpcServer) -> None:
    async def steps(client: Any) -> None:
        watch = await client.watch(b"k")
        await client.put(b"k", b"1")
        await client.delete(b"k")
        seen = []
        async for event in watch:
            seen.append((str(event.kind), event.kv.value))
            if len(seen) == 2:
                await watch.cancel()
                break
        assert seen == [("PUT", b"1"), ("DELETE", b"")]

    scenario(server, steps)


def test_an_error_arrives_as_its_own(server: GrpcServer) -> None:
    async def steps(client: Any) -> None:
        with pytest.raises(Exception, match="key is not provided"):
            await client.put(b"", b"v")

    scenario(server, steps)


async def _each(values: Any) -> Any:
    for value in values:
        yield value
