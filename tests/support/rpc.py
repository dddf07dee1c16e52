"""Plain gRPC calls for tests, by method path: no client library in between that could hide a fault by a retry."""

from __future__ import annotations

from typing import TypeVar

import grpc
from google.protobuf.message import Message

Response = TypeVar("Response", bound=Message)

_OPTIONS = [
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    # A node that was killed comes back within milliseconds: do not sit out gRPC's back-off of a minute.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
]


class Rpc:
    """One channel for each endpoint, opened on first use. `close` when done."""

    def __init__(self) -> None:
        self._channels: dict[str, grpc.Channel] = {}
        self._old: list[grpc.Channel] = []

    def call(
        self, endpoint: str, method: str, request: Message, response: type[Response], timeout_s: float = 5.0
    ) -> Response:
        """Call `/package.Service/Method` at `IP:PORT`; raises grpc.RpcError as gRPC does."""
        channel = self._channels.get(endpoint)
        if channel is None:
            channel = self._channels[endpoint] = grpc.insecure_channel(endpoint, options=_OPTIONS)
        stub = channel.unary_unary(
            method, request_serializer=type(request).SerializeToString, response_deserializer=response.FromString
        )
        answer: Response = stub(request, timeout=timeout_s, wait_for_ready=False)
        return answer

    def forget(self, endpoint: str) -> None:
        """Another process listens there from now on: the next call dials it. The old channel may not have noticed yet
        that its connection is gone, or sit out a back-off, and would fail that call; calls that another thread still
        has on it end by themselves.
        """
        if (channel := self._channels.pop(endpoint, None)) is not None:
            self._old.append(channel)

    def close(self) -> None:
        for channel in (*self._channels.values(), *self._old):
            channel.close()
        self._channels.clear()
        self._old.clear()
