"""What REST and the gRPC metadata are made of before a handler sees them: paths, queries, JSON bodies, sessions."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import BytesIO, StringIO
from typing import Any, Final

from rocinante.errors import HTTP_STATUS, Code, InvalidArgument
from rocinante.rest.app import RestApp
from rocinante.rest.context import RestContext
from rocinante.services.call import session_of
from tests.fuzz.targets import Target
from tests.support.local_node import LocalNode

STATUS: Final = {200, 201, 204, 304, 400, 404, 405, 409, 413, 429, 503}
OWN_STATUS: Final = {405, 413}
"""Those that HTTP says by itself, not a `Code`."""
_started: list[tuple[LocalNode, RestApp]] = []


def _app() -> RestApp:
    """One node, with a thread of its own, for all executions of this process."""
    if not _started:
        node = LocalNode()
        _started.append((node, RestApp(RestContext(node, consensus_slots=4))))
    return _started[0][1]


def close() -> None:
    """End the node, if one was started."""
    while _started:
        _started.pop()[0].close()


METHODS: Final = (b"GET", b"PUT", b"POST", b"DELETE")
HEADERS: Final = {
    b"content-type": "CONTENT_TYPE",
    b"if-match": "HTTP_IF_MATCH",
    b"if-none-match": "HTTP_IF_NONE_MATCH",
    b"rocinante-session": "HTTP_ROCINANTE_SESSION",
    b"rocinante-seq": "HTTP_ROCINANTE_SEQ",
    b"rocinante-ack": "HTTP_ROCINANTE_ACK",
    b"rocinante-timeout-ms": "HTTP_ROCINANTE_TIMEOUT_MS",
    b"host": "HTTP_HOST",
}


def one_request(data: bytes) -> None:
    """`METHOD SP path[?query] LF (header: value LF)… LF body`, as WSGI gets it, through routes, handlers and errors."""
    head, _, body = data.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    method, _, target = first.partition(b" ")
    if method not in METHODS or b"/v1/events" in target or b"/v1/admin" in target:
        return  # a stream does not end; what switches the node off is for the tests over HTTP
    path, _, query = target.partition(b"?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method.decode(),
        "SCRIPT_NAME": "",
        "PATH_INFO": _unquote(path).decode("latin-1"),
        "QUERY_STRING": query.decode("latin-1"),
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": BytesIO(body),
        "wsgi.errors": StringIO(),
        "wsgi.url_scheme": "http",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "HTTP_HOST": "localhost",
    }
    for line in lines:
        name, _, value = line.partition(b": ")
        if variable := HEADERS.get(name.lower()):
            environ[variable] = value.decode("latin-1")
    environ["bottle.raw_path"] = environ["PATH_INFO"]
    environ["HTTP_ROCINANTE_TIMEOUT_MS"] = environ.get("HTTP_ROCINANTE_TIMEOUT_MS", "1000")
    seen: list[str] = []

    def start_response(status: str, headers: list[tuple[str, str]], _error: object = None) -> Callable[..., object]:
        seen.append(status)
        for name, value in headers:
            assert "\n" not in name + value
            assert "\r" not in name + value
            value.encode("latin-1")
        return seen.append

    answer = b"".join(_app().wsgi(environ, start_response))
    status = int(seen[0].split()[0])
    assert status in STATUS, (seen, answer)
    if status >= 400:
        code = Code(json.loads(answer)["error"]["code"])
        assert HTTP_STATUS[code] == status or status in OWN_STATUS, (seen, answer)


def _unquote(path: bytes) -> bytes:
    from urllib.parse import unquote_to_bytes

    return unquote_to_bytes(path)


def one_session(data: bytes) -> None:
    """A call's metadata: lines `key value`."""
    metadata = [line.partition(b" ")[::2] for line in data.split(b"\n")]
    try:
        found = session_of([(key.decode("latin-1"), value.decode("latin-1")) for key, value in metadata])
    except InvalidArgument as error:
        assert error.field.startswith("rocinante-")
        return
    if found is not None:
        assert 0 < found.session < 2**64
        assert 0 <= found.ack <= found.seq < 2**64


def request_seeds() -> list[bytes]:
    from tests.fuzz.targets.flows import json_seeds

    flow = json_seeds()[0]
    json_type = b"\ncontent-type: application/json\n\n"
    return [
        b"PUT /v1/kv/a/b%00%ff\n\nvalue",
        b"GET /v1/kv/a?raw&serializable=1&revision=2",
        b'DELETE /v1/kv/a\nif-match: "3"\n\n',
        b"PUT /v1/kv/a\nif-none-match: *\nrocinante-session: 00000000000000ff\nrocinante-seq: 1\nrocinante-ack: 0\n\nv",
        b"GET /v1/kv?prefix=a&limit=2&cursor=YQ&keys_only=true",
        b"POST /v1/flows?origin=dc2" + json_type + b"[" + flow + b"]",
        b"GET /v1/flows?limit=5&cursor=AQ&address=10.0.0.0/8,::1&port=80&protocol=tcp&state=NONE&backend=x&zone=1",
        b"GET /v1/flows/00000406c0000201c6336407a10801bb?consistency=stale",
        b"DELETE /v1/flows/00000406c0000201c6336407a10801bb",
        b"POST /v1/sessions" + json_type + b"{}",
        b"DELETE /v1/sessions/00000000000000ff",
        b"GET /v1/status",
        b"GET /v1/log?last=5",
        b"GET /v1/committed?last=5",
        b"GET /metrics",
        b"GET /\nhost: evil.example\n\n",
        b"GET /openapi.json",
        b"POST /v1/flows\ncontent-type: application/json\n\n" + b'[{"\\ud800": 1}]',
    ]


def session_seeds() -> list[bytes]:
    return [
        b"rocinante-session 00000000000000ff\nrocinante-seq 7\nrocinante-ack 6",
        b"rocinante-session ffffffffffffffff\nrocinante-seq 18446744073709551615",
        b"other x",
    ]


TARGETS: Final = [
    Target("rest_request", one_request, request_seeds, 2048, 400),
    Target("session", one_session, session_seeds, 256),
]
