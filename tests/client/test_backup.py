"""What a node announces of a backup is held against what came, with a server that lies."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

import grpc
import pytest

from rocinante.client import Client
from rocinante.errors import Unavailable
from rocinante.pb.v1 import admin_pb2

CHUNKS = [b"first", b"second", b"third"]
DIGEST = blake2b(b"".join(CHUNKS), digest_size=32).digest()


@contextmanager
def sending(*answers: admin_pb2.SaveResponse, then: grpc.StatusCode | None = None) -> Iterator[str]:
    """A server whose Admin.Save sends these answers, and then fails where asked to."""

    def save(_request: Any, context: grpc.ServicerContext) -> Iterator[admin_pb2.SaveResponse]:
        yield from answers
        if then is not None:
            context.abort(then, "the test says so")

    handler = grpc.unary_stream_rpc_method_handler(
        save, admin_pb2.SaveRequest.FromString, admin_pb2.SaveResponse.SerializeToString
    )
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("rocinante.v1.Admin", {"Save": handler})])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(0).wait()


HEAD = admin_pb2.SaveResponse(index=7, term=2, total_bytes=16, digest=DIGEST)
PARTS = [admin_pb2.SaveResponse(chunk=chunk) for chunk in CHUNKS]


def test_what_was_announced_came() -> None:
    with sending(HEAD, *PARTS) as endpoint, Client(endpoint) as client:
        backup = client.admin.save()
        assert list(backup) == CHUNKS
        assert (backup.index, backup.term, backup.total_bytes, backup.digest) == (7, 2, 16, DIGEST)


@pytest.mark.parametrize(
    ("answers", "then", "message"),
    [
        ([HEAD, *PARTS[:-1]], None, "damaged on its way: 11 bytes"),
        ([HEAD, PARTS[0], PARTS[2], PARTS[1]], None, "damaged on its way: 16 bytes"),
        ([HEAD, PARTS[0]], grpc.StatusCode.UNAVAILABLE, "the test says so"),
    ],
    ids=["too short", "another order", "broken off"],
)
def test_what_was_announced_did_not_come(
    answers: list[admin_pb2.SaveResponse], then: grpc.StatusCode | None, message: str
) -> None:
    with (
        sending(*answers, then=then) as endpoint,
        Client(endpoint) as client,
        pytest.raises(Unavailable, match=message),
    ):
        list(client.admin.save())
