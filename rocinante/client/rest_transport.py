"""One try over REST: the HTTP connections, and what each failure means.

Contract: thread-safe. A try returns the answer's JSON (or bytes) or raises `Failed`. A node says what went wrong as
`{"error": {"code", "message"}}`, and `code` means what it means everywhere (rocinante/errors.py); an answer without it
was not a node's, so what became of the request is not known.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from rocinante.client.retry import Failed, Next, Try
from rocinante.client.session import SessionRef
from rocinante.errors import (
    AlreadyExists,
    Code,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    OutcomeUnknown,
    OutOfRange,
    ResourceExhausted,
    RocinanteError,
    SessionExpired,
    Unauthenticated,
    Unavailable,
)
from rocinante.identity import format_id
from rocinante.limits import CLIENT_REST_BODY_BYTES_MAX, CLIENT_REST_CONNECTIONS_MAX, REQUEST_TIMEOUT_S_MAX
from rocinante.tokens import bearer

__all__ = ["Ask", "RestTransport", "classify_answer"]

LEADER_HEADER: Final = "Rocinante-Leader"
_ERRORS: Final[dict[str, Callable[[str], RocinanteError]]] = {
    Code.INVALID_ARGUMENT: lambda text: InvalidArgument("", text),
    Code.OUT_OF_RANGE: OutOfRange,
    Code.UNAUTHENTICATED: Unauthenticated,
    Code.NOT_FOUND: NotFound,
    Code.ALREADY_EXISTS: AlreadyExists,
    Code.FAILED_PRECONDITION: FailedPrecondition,
    Code.ABORTED: SessionExpired,
    Code.RESOURCE_EXHAUSTED: ResourceExhausted,
    Code.UNAVAILABLE: Unavailable,
    Code.DEADLINE_EXCEEDED: OutcomeUnknown,
    Code.UNIMPLEMENTED: FailedPrecondition,
    Code.DATA_LOSS: Internal,
    Code.INTERNAL: Internal,
}
_THEN: Final = {
    Code.UNAVAILABLE: Next.ELSEWHERE,
    Code.UNAUTHENTICATED: Next.ELSEWHERE_OR_STOP,
    Code.DEADLINE_EXCEEDED: Next.ELSEWHERE,
    Code.RESOURCE_EXHAUSTED: Next.LATER,
    Code.ABORTED: Next.REOPEN,
}


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, whichever node gets it."""

    method: str
    path: str
    """With everything that is special in it percent-encoded."""
    query: Mapping[str, str | int | list[str]] = field(default_factory=dict)
    body: bytes = b""
    content_type: str = ""

    def headers(self, timeout_s: float, ref: SessionRef | None) -> dict[str, str]:
        timeout_ms = int(min(timeout_s, REQUEST_TIMEOUT_S_MAX) * 1000)
        headers = {"Rocinante-Timeout-Ms": str(max(1, timeout_ms))}
        if self.content_type:
            headers["Content-Type"] = self.content_type
        if ref is not None:
            headers |= {
                "Rocinante-Session": format_id(ref.session),
                "Rocinante-Seq": str(ref.seq),
                "Rocinante-Ack": str(ref.ack),
            }
        return headers


def classify_answer(status: int, body: bytes) -> Failed:
    """What an answer that is no success means."""
    try:
        error = json.loads(body)["error"]
        code, text = Code(error["code"]), str(error["message"])
    except (ValueError, KeyError, TypeError):
        text = f"HTTP {status}, and not from a Rocinante node: is it a REST address?"
        if status < 500:
            return Failed(FailedPrecondition(text), Next.STOP)
        return Failed(Unavailable(text), Next.ELSEWHERE, unknown=True, node_down=True)
    unknown = code in (Code.DEADLINE_EXCEEDED, Code.INTERNAL)
    node_down = code == Code.UNAUTHENTICATED
    return Failed(_ERRORS[code](text), _THEN.get(code, Next.STOP), unknown=unknown, node_down=node_down)


def _broken(error: httpx.HTTPError) -> Failed:
    """What a connection that failed means: only one that was never made certainly carried nothing."""
    words = str(error) or type(error).__name__
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
        text = "connection refused: is the node running?" if "refused" in words else f"cannot connect ({words})"
        return Failed(Unavailable(text), Next.ELSEWHERE, node_down=True)
    if isinstance(error, httpx.TimeoutException):
        return Failed(OutcomeUnknown("no answer in time"), Next.ELSEWHERE, unknown=True, node_down=True)
    if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        return Failed(InvalidArgument("request", words), Next.STOP)
    return Failed(Unavailable(f"the connection broke ({words})"), Next.ELSEWHERE, unknown=True, node_down=True)


class RestTransport:
    """The connections of one client. `saw_leader` gets the gRPC address that an answer names as the leader's."""

    def __init__(self, saw_leader: Callable[[str], None], token: str = "") -> None:
        self._saw_leader = saw_leader
        bounds = httpx.Limits(
            max_connections=CLIENT_REST_CONNECTIONS_MAX, max_keepalive_connections=CLIENT_REST_CONNECTIONS_MAX
        )
        # A cluster is not behind the proxy that the environment names for the web.
        self._http = httpx.Client(headers=bearer(token), limits=bounds, trust_env=False, follow_redirects=False)

    def json(self, ask: Ask, attempt: Try) -> Any:
        """One try; the answer's JSON. Raises Failed."""
        body = self.content(ask, attempt)
        try:
            return json.loads(body)
        except ValueError:
            text = "the answer is not JSON: is it a REST address?"
            raise Failed(Unavailable(text), Next.ELSEWHERE, unknown=True, node_down=True) from None

    def content(self, ask: Ask, attempt: Try) -> bytes:
        """One try; the answer's body. Raises Failed."""
        url = attempt.endpoint + ask.path + (f"?{httpx.QueryParams(ask.query)}" if ask.query else "")
        ends_s = time.monotonic() + attempt.timeout_s
        try:
            with self._http.stream(
                ask.method,
                url,
                content=ask.body or None,
                headers=ask.headers(attempt.timeout_s, attempt.ref),
                timeout=attempt.timeout_s,
            ) as answer:
                body = self._read(answer, ends_s)
                status, leader = answer.status_code, answer.headers.get(LEADER_HEADER, "")
        except httpx.HTTPError as error:
            raise _broken(error) from None
        except RuntimeError as error:  # httpx, of a client that was closed meanwhile
            raise Failed(Unavailable(f"this client is closed ({error})"), Next.STOP, unknown=True) from None
        if leader:
            self._saw_leader(leader)
        if status >= 300:
            raise classify_answer(status, body)
        return body

    def _read(self, answer: httpx.Response, ends_s: float) -> bytes:
        parts, size = [], 0
        for part in answer.iter_bytes():
            parts.append(part)
            size += len(part)
            if size > CLIENT_REST_BODY_BYTES_MAX:
                text = f"the answer has more than {CLIENT_REST_BODY_BYTES_MAX} bytes: ask for smaller pages"
                raise Failed(ResourceExhausted(text), Next.STOP, unknown=True)
            if time.monotonic() > ends_s:
                text = "the answer did not come whole in time"
                raise Failed(OutcomeUnknown(text), Next.ELSEWHERE, unknown=True, node_down=True)
        return b"".join(parts)

    def close(self) -> None:
        self._http.close()
