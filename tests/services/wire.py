"""A client that is nothing but gRPC: paths, messages, statuses, metadata; so that the tests see what is on the wire."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import grpc
from google.protobuf.message import Message

from rocinante import limits

M = TypeVar("M", bound=Message)
Metadata = Sequence[tuple[str, str]]
OPTIONS = [
    ("grpc.max_send_message_length", 64 * limits.MIB),
    ("grpc.max_receive_message_length", 64 * limits.MIB),
    ("grpc.use_local_subchannel_pool", 1),
]
WAIT_S = 30.0


class Failure(NamedTuple):
    """How a call ended that did not end well."""

    code: str
    text: str
    trailing: dict[str, str]


class Wire:
    def __init__(self, target: str) -> None:
        self.channel = grpc.insecure_channel(target, options=OPTIONS)

    def close(self) -> None:
        self.channel.close()

    def call(
        self,
        path: str,
        request: Message | bytes,
        response: type[M],
        *,
        metadata: Metadata = (),
        timeout_s: float = WAIT_S,
    ) -> M:
        """The answer; raises grpc.RpcError."""
        method = self.channel.unary_unary(path, _bytes, response.FromString)
        return method(request, timeout=timeout_s, metadata=metadata)  # type: ignore[no-any-return]

    def call_with_trailing(
        self, path: str, request: Message | bytes, response: type[M], *, metadata: Metadata = ()
    ) -> tuple[M, dict[str, str]]:
        method = self.channel.unary_unary(path, _bytes, response.FromString)
        answer, call = method.with_call(request, timeout=WAIT_S, metadata=metadata)
        return answer, dict(call.trailing_metadata())

    def fail(
        self, path: str, request: Message | bytes, *, metadata: Metadata = (), timeout_s: float = WAIT_S
    ) -> Failure:
        """The failure of a call that must fail."""
        method = self.channel.unary_unary(path, _bytes, bytes)
        try:
            answer = method(request, timeout=timeout_s, metadata=metadata)
        except grpc.RpcError as error:
            return failure(error)
        raise AssertionError(f"{path} succeeded: {answer!r}")

    def future(self, path: str, request: Message, response: type[Message], timeout_s: float = WAIT_S) -> Any:
        return self.channel.unary_unary(path, _bytes, response.FromString).future(request, timeout=timeout_s)

    def stream(self, path: str, request: Message, response: type[M], timeout_s: float = WAIT_S) -> Any:
        """An iterator of answers that can be cancelled."""
        return self.channel.unary_stream(path, _bytes, response.FromString)(request, timeout=timeout_s)

    def duplex(
        self,
        path: str,
        requests: Iterator[Message],
        response: type[M],
        timeout_s: float = WAIT_S,
        *,
        metadata: Metadata = (),
    ) -> Any:
        method = self.channel.stream_stream(path, _bytes, response.FromString)
        return method(requests, timeout=timeout_s, metadata=metadata)


def failure(error: Any) -> Failure:
    return Failure(error.code().name, error.details(), dict(error.trailing_metadata() or ()))


def _bytes(message: Message | bytes) -> bytes:
    return message if isinstance(message, bytes) else message.SerializeToString()
