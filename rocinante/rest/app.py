"""The WSGI application: Bottle finds the route, this module does what all routes share.

Every answer, an error too, has the fixed headers of `security.py`, `Rocinante-Leader` where a leader is known, and
JSON errors `{"error": {"code", "message"}}`. What a handler raises is mapped in one place, `errors.HTTP_STATUS`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import bottle

from rocinante import limits
from rocinante.errors import HTTP_STATUS, Code, Internal, InvalidArgument, RocinanteError, Unauthenticated
from rocinante.ports import NodeStatus
from rocinante.rest.context import RestContext
from rocinante.rest.http import JSON_TYPE, Query, Reply, Request
from rocinante.rest.routes import ROUTES, Route
from rocinante.rest.security import error_body, fixed_headers, is_host_allowed
from rocinante.tokens import REFUSAL, offered_in_header

logger = logging.getLogger(__name__)
bottle.BaseRequest.MEMFILE_MAX = limits.REST_BODY_BYTES_MAX
FOR_EVERYBODY: Final = frozenset({"/livez", "/readyz"})
"""Of load balancers. All else, the page too, asks for a token where there are tokens."""
BASIC: Final = 'Basic realm="Rocinante: any name, and the token", charset="UTF-8"'
"""For which a browser asks its user."""
BEARER: Final = 'Bearer realm="Rocinante"'
"""For a script of a page (`X-Requested-With`), which tells its user itself."""
HTTP_CODES: Final = {404: Code.NOT_FOUND, 405: Code.UNIMPLEMENTED}


class RestApp:
    """The routes of `routes.py` over one node. `wsgi` is the application."""

    def __init__(self, context: RestContext) -> None:
        self._context = context
        self._bottle = bottle.Bottle(catchall=True)
        self._bottle.config["json.enable"] = False
        self._bottle.default_error_handler = self._framework_error
        for route in ROUTES:
            self._bottle.route(route.pattern or route.path, method=route.method, callback=self._callback(route))

    def wsgi(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        answer: Iterable[bytes] = self._bottle(environ, start_response)
        return answer

    def _callback(self, route: Route) -> Callable[..., Any]:
        def call(**arguments: str) -> Any:
            started = time.perf_counter()
            statistics = self._context.statistics
            with statistics.in_flight.track_inprogress():
                reply = self._answer(route, bottle.request.environ, arguments)
            statistics.requests.labels(route.method, route.path, str(reply.status)).inc()
            if isinstance(reply.body, bytes):
                statistics.latency.labels(route.path).observe(time.perf_counter() - started)
            return self._respond(reply)

        return call

    def _answer(self, route: Route, environ: dict[str, Any], arguments: dict[str, str]) -> Reply:
        try:
            host = environ.get("HTTP_HOST", "")
            if not is_host_allowed(host, self._context.allowed_hosts):
                self._context.statistics.refused.labels("host").inc()
                raise InvalidArgument(
                    "host", f"{host[:100]!r} is not a name of this node (see allowedHosts in the configuration)"
                )
            tokens = self._context.keyring.tokens
            offered = offered_in_header(environ.get("HTTP_AUTHORIZATION", ""))
            if route.path not in FOR_EVERYBODY and not tokens.allows(offered):
                self._context.keyring.refused += 1
                raise Unauthenticated(REFUSAL)
            return route.handler(self._context, _request(environ, arguments))
        except Unauthenticated as error:
            reply = self._error(error)
            reply.headers["WWW-Authenticate"] = BEARER if "HTTP_X_REQUESTED_WITH" in environ else BASIC
            return reply
        except RocinanteError as error:
            return self._error(error)
        except Exception:
            logger.exception("%s %s failed", route.method, route.path)
            return self._error(Internal("unexpected error, see the node's log"))

    def _error(self, error: RocinanteError) -> Reply:
        status = HTTP_STATUS[error.code]
        leader = _leader_endpoint(self._context.node.status()) if status == 503 else ""
        headers = {"Retry-After": "1"} if status in {429, 503} else {}
        return Reply(error_body(error.code, error.message, leader), status, headers=headers)

    def _respond(self, reply: Reply) -> Any:
        headers = self._common_headers() | {"Content-Type": reply.content_type} | reply.headers
        if reply.index:
            headers["Rocinante-Index"] = str(reply.index)
        headers.setdefault("Cache-Control", "no-store")
        return bottle.HTTPResponse(reply.body, reply.status, headers)

    def _framework_error(self, error: Any) -> bytes:
        """What Bottle refuses by itself: an unknown path, a wrong method, or a defect."""
        status = error.status_code
        self._context.statistics.requests.labels(bottle.request.method[:16], "(none)", str(status)).inc()
        path = bottle.request.path[:200]
        if status == 405:
            allowed = {name.strip() for name in error.headers.get("Allow", "").split(",")}
            bottle.response.set_header("Allow", ", ".join(sorted(allowed | ({"HEAD"} if "GET" in allowed else set()))))
            message = f"{bottle.request.method[:16]} is not a method of {path}"
        elif status == 404:
            message = f"there is nothing at {path}"
        else:
            message = "unexpected error, see the node's log"
            logger.error("%s %s failed in the framework: %s", bottle.request.method, path, error.exception)
        for name, value in (self._common_headers() | {"Content-Type": JSON_TYPE, "Cache-Control": "no-store"}).items():
            bottle.response.set_header(name, value)
        return error_body(HTTP_CODES.get(status, Code.INTERNAL), message)

    def _common_headers(self) -> dict[str, str]:
        headers = fixed_headers()
        if leader := _leader_endpoint(self._context.node.status()):
            headers["Rocinante-Leader"] = leader
        return headers


def _leader_endpoint(status: NodeStatus) -> str:
    member = status.leader_member()
    return member.endpoint if member else ""


def _request(environ: dict[str, Any], arguments: dict[str, str]) -> Request:
    headers = {name[5:].lower().replace("_", "-"): value for name, value in environ.items() if name.startswith("HTTP_")}
    headers["content-type"] = environ.get("CONTENT_TYPE", "")
    return Request(
        method=environ["REQUEST_METHOD"],
        raw_path=environ["bottle.raw_path"].encode("latin-1"),
        query=Query(environ.get("QUERY_STRING", "")),
        headers=headers,
        read_body=lambda: environ["wsgi.input"].read(limits.REST_BODY_BYTES_MAX),
        arguments=arguments,
        is_connected=lambda: not _is_gone(environ),
    )


def _is_gone(environ: dict[str, Any]) -> bool:
    disconnected = environ.get("waitress.client_disconnected")
    return bool(disconnected and disconnected())
