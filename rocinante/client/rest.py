"""The Python client over REST, for where gRPC does not reach: keys, flows and status in the same shape as `Client`.

    with RestClient("http://127.0.0.1:8001") as client:
        client.kv.put("greeting", "hello")

The contract is that of `Client` (client/client.py), with the same sessions, retries and errors. What only gRPC has is
not here: transactions, watches, backups. `GET /v1/events` is there for browsers.
"""

from __future__ import annotations

import base64
import random
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any
from urllib.parse import quote

from rocinante.client.deadline import Deadline, check_timeout
from rocinante.client.flow_json import entry_from_json
from rocinante.client.flow_messages import FlowSelection, key_of, selection_to_pb
from rocinante.client.flows import Flow, encode_batches
from rocinante.client.rest_transport import Ask, RestTransport
from rocinante.client.retry import Caller, Failed, Rules, Try
from rocinante.client.router import Router
from rocinante.client.session import Sessions
from rocinante.client.types import (
    DeleteFlowsResult,
    DeleteResult,
    FlowEntry,
    FlowPage,
    KeyValue,
    Member,
    Members,
    PutFlowsResult,
    PutResult,
    to_bytes,
)
from rocinante.errors import InvalidArgument, NotFound, RocinanteError
from rocinante.flows import FlowRecord
from rocinante.identity import format_id, parse_id
from rocinante.limits import (
    CLIENT_CLOSE_TIMEOUT_S,
    CLIENT_ENDPOINTS_MAX,
    CLIENT_LIST_PAGE_RECORDS,
    CLIENT_RANGE_PAGE_KEYS,
    CLIENT_TIMEOUT_S,
    CLIENT_TRY_TIMEOUT_S,
)
from rocinante.tokens import own_token

__all__ = ["RestClient", "RestFlows", "RestKv"]

_JSON = "application/json"
_BYTES = "application/octet-stream"


def _base_urls(base_urls: str | Iterable[str]) -> tuple[str, ...]:
    """Checked, without a slash at the end. Raises InvalidArgument."""
    texts = base_urls.split(",") if isinstance(base_urls, str) else list(base_urls)
    urls = tuple(dict.fromkeys(text.strip().rstrip("/") for text in texts if text.strip()))
    for url in urls:
        if not url.startswith(("http://", "https://")):
            raise InvalidArgument("base_urls", f"{url!r} is not like http://127.0.0.1:8001")
    if not 1 <= len(urls) <= CLIENT_ENDPOINTS_MAX:
        raise InvalidArgument("base_urls", f"{len(urls)} are given, from 1 to {CLIENT_ENDPOINTS_MAX} are expected")
    return urls


class _Connection:
    """What the parts share: the nodes, the HTTP connections, the session."""

    def __init__(
        self, base_urls: str | Iterable[str], timeout_s: float, try_timeout_s: float, discover: bool, token: str
    ) -> None:
        rng = random.Random()
        seeds = _base_urls(base_urls)
        self._scheme = seeds[0].partition("://")[0]
        self.router = Router(seeds, discover=discover, clock=time.monotonic, rng=rng)
        self.caller = Caller(
            self.router,
            timeout_s=check_timeout(timeout_s),
            try_timeout_s=check_timeout(try_timeout_s),
            clock=time.monotonic,
            rng=rng,
        )
        self._urls: dict[str, str] = {}
        """Of the members, by gRPC address, which is how answers name the leader."""
        self.transport = RestTransport(self._saw_leader, token)
        self._sessions = Sessions(self._open_session)

    def read(self, ask: Ask, timeout_s: float | None = None) -> Any:
        return self._call(ask, Rules(), self.caller.deadline(timeout_s))

    def write(self, ask: Ask, timeout_s: float | None = None) -> Any:
        return self._call(ask, Rules(sessions=self._sessions), self.caller.deadline(timeout_s))

    def close(self) -> None:
        if self.caller.closed:
            return
        session = self._sessions.take()
        self.caller.close()
        if session:
            ask = Ask("DELETE", f"/v1/sessions/{format_id(session)}")
            try:
                endpoint = self.router.pick() or self.router.seeds[0]
                self.transport.json(ask, Try(endpoint, CLIENT_CLOSE_TIMEOUT_S, None))
            except Failed:
                pass  # an idle session ends by itself
        self.transport.close()

    def _call(self, ask: Ask, rules: Rules[Any], deadline: Deadline) -> Any:
        if self.router.discovery_due():
            self._discover(deadline)
        return self.caller.run(lambda attempt: self.transport.json(ask, attempt), rules, deadline)

    def _discover(self, deadline: Deadline) -> None:
        """Ask for the members; a call goes on without them when nobody tells."""
        wait_s = max(0.001, min(deadline.remaining_s() / 2, CLIENT_TRY_TIMEOUT_S))
        ask = Ask("GET", "/v1/members")
        try:
            answer = self.caller.run(
                lambda attempt: self.transport.json(ask, attempt), Rules(), self.caller.deadline(wait_s)
            )
            members = [member_from_json(item) for item in answer["members"]]
        except (RocinanteError, KeyError, TypeError, ValueError):
            return
        self._urls = {member.endpoint: self._url(member) for member in members if member.rest}
        self.router.discovered(self._urls.values())
        for member in members:
            if member.leader:
                self._saw_leader(member.endpoint)

    def _url(self, member: Member) -> str:
        host = f"[{member.address}]" if ":" in member.address else member.address
        return f"{self._scheme}://{host}:{member.rest}"

    def _saw_leader(self, endpoint: str) -> None:
        url = self._urls.get(endpoint)
        if url is not None:
            self.router.saw_leader(url)

    def _open_session(self, deadline: Deadline) -> int:
        ask = Ask("POST", "/v1/sessions", body=b"{}", content_type=_JSON)
        answer = self.caller.run(lambda attempt: self.transport.json(ask, attempt), Rules(), deadline)
        return parse_id(answer["session"])


class RestKv:
    """Keys. Text is taken as UTF-8; what comes back is bytes."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    def put(self, key: bytes | str, value: bytes | str, *, timeout_s: float | None = None) -> PutResult:
        """Write a key. Raises InvalidArgument, OutcomeUnknown, Unavailable, ResourceExhausted."""
        ask = Ask("PUT", _key_path(key), body=to_bytes(value, "value"), content_type=_BYTES)
        return PutResult(int(self._connection.write(ask, timeout_s)["revision"]), None)

    def get(
        self, key: bytes | str, *, revision: int = 0, serializable: bool = False, timeout_s: float | None = None
    ) -> KeyValue | None:
        """One key, as it is now or was at `revision`; None when it is not there. Raises OutOfRange."""
        ask = Ask("GET", _key_path(key), _query(revision=revision, serializable=serializable))
        try:
            return key_from_json(self._connection.read(ask, timeout_s))
        except NotFound:
            return None

    def delete(self, key: bytes | str, *, timeout_s: float | None = None) -> DeleteResult:
        """Delete a key. One that is not there is no error: `deleted` is 0."""
        answer = self._connection.write(Ask("DELETE", _key_path(key)), timeout_s)
        return DeleteResult(int(answer["deleted"]), int(answer["revision"]), ())

    def prefix(
        self,
        prefix: str = "",
        *,
        revision: int = 0,
        keys_only: bool = False,
        serializable: bool = False,
        page: int = CLIENT_RANGE_PAGE_KEYS,
        timeout_s: float | None = None,
    ) -> Iterator[KeyValue]:
        """All keys that begin with `prefix`, in order, by pages, all at the revision of the first page."""
        if page < 1:
            raise InvalidArgument("page", f"is {page}, must be at least 1")
        cursor = ""
        while True:
            query = _query(
                prefix=prefix,
                limit=page,
                cursor=cursor,
                revision=revision,
                keys_only=keys_only,
                serializable=serializable,
            )
            answer = self._connection.read(Ask("GET", "/v1/kv", query), timeout_s)
            revision = revision or int(answer["revision"])
            yield from map(key_from_json, answer["keys"])
            cursor = answer["cursor"]
            if not cursor:
                return


class RestFlows:
    """The flow table."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    def put(
        self, flows: Iterable[FlowRecord] | bytes, *, origin: str = "", timeout_s: float | None = None
    ) -> PutFlowsResult:
        """Write records, or one encoded batch, as `Client.flows.put` does."""
        records = index = 0
        deadline = self._connection.caller.deadline(timeout_s)
        for batch in encode_batches(flows):
            ask = Ask("POST", "/v1/flows", _query(origin=origin), batch, _BYTES)
            answer = self._connection.write(ask, max(0.001, deadline.remaining_s()))
            records, index = records + int(answer["records"]), int(answer["index"])
        return PutFlowsResult(records, index)

    def get(
        self, flows: Iterable[Flow], *, stale: bool = False, timeout_s: float | None = None
    ) -> tuple[FlowEntry | None, ...]:
        """Each flow, in the order asked, None where there is none; a request each."""
        keys = [key_of(one, f"flows[{number}]") for number, one in enumerate(flows)]
        deadline = self._connection.caller.deadline(timeout_s)
        return tuple(self._get(key, stale, max(0.001, deadline.remaining_s())) for key in keys)

    def _get(self, key: bytes, stale: bool, timeout_s: float) -> FlowEntry | None:
        ask = Ask("GET", f"/v1/flows/{key.hex()}", _query(consistency="stale" if stale else ""))
        try:
            return entry_from_json(self._connection.read(ask, timeout_s))
        except NotFound:
            return None

    def page(
        self,
        selection: FlowSelection | None = None,
        *,
        limit: int = CLIENT_LIST_PAGE_RECORDS,
        cursor: bytes = b"",
        stale: bool = False,
        timeout_s: float | None = None,
    ) -> FlowPage:
        """Some flows, and the cursor for those that follow. `index` and `age_ms` are not told by REST's JSON: 0."""
        query = _query(
            limit=limit,
            cursor=cursor.decode("ascii", "replace"),
            consistency="stale" if stale else "",
            **_conditions(selection),
        )
        answer = self._connection.read(Ask("GET", "/v1/flows", query), timeout_s)
        return FlowPage(tuple(map(entry_from_json, answer["flows"])), str(answer["cursor"]).encode(), 0, 0)

    def list(
        self,
        selection: FlowSelection | None = None,
        *,
        page: int = CLIENT_LIST_PAGE_RECORDS,
        stale: bool = False,
        timeout_s: float | None = None,
    ) -> Iterator[FlowEntry]:
        """All flows that are meant, by pages."""
        cursor = b""
        while True:
            found = self.page(selection, limit=page, cursor=cursor, stale=stale, timeout_s=timeout_s)
            yield from found.flows
            cursor = found.cursor
            if not cursor:
                return

    def delete(self, flows: Iterable[Flow], *, origin: str = "", timeout_s: float | None = None) -> DeleteFlowsResult:
        """Delete flows of an origin, a request each; those that are not there are not counted."""
        keys = [key_of(one, f"flows[{number}]") for number, one in enumerate(flows)]
        deadline = self._connection.caller.deadline(timeout_s)
        deleted = index = 0
        for key in keys:
            ask = Ask("DELETE", f"/v1/flows/{key.hex()}", _query(origin=origin))
            answer = self._connection.write(ask, max(0.001, deadline.remaining_s()))
            deleted, index = deleted + int(answer["deleted"]), int(answer["index"])
        return DeleteFlowsResult(deleted, index)

    def delete_where(
        self,
        selection: FlowSelection | None = None,
        *,
        origin: str = "",
        everything: bool = False,
        timeout_s: float | None = None,
    ) -> DeleteFlowsResult:
        """Delete all flows of an origin that are meant, as `Client.flows.delete_where`."""
        conditions = {**_conditions(selection), "origin": origin, "all": everything}
        deleted = index = 0
        cursor = ""
        while True:
            ask = Ask("DELETE", "/v1/flows", _query(cursor=cursor, **conditions))
            answer = self._connection.read(ask, timeout_s)
            deleted, index = deleted + int(answer["deleted"]), max(index, int(answer["index"]))
            cursor = str(answer["cursor"])
            if not cursor:
                return DeleteFlowsResult(deleted, index)


class RestClient:
    """A connection to a cluster by REST.

    `base_urls`: of one or more nodes, such as `http://127.0.0.1:8001`, as a list or separated by commas. The rest is as
    in `Client`.
    """

    def __init__(
        self,
        base_urls: str | Iterable[str],
        *,
        timeout_s: float = CLIENT_TIMEOUT_S,
        try_timeout_s: float = CLIENT_TRY_TIMEOUT_S,
        discover: bool = True,
        token: str | None = None,
    ) -> None:
        self._connection = _Connection(base_urls, timeout_s, try_timeout_s, discover, own_token(token))
        self.kv = RestKv(self._connection)
        self.flows = RestFlows(self._connection)

    def __enter__(self) -> RestClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def endpoints(self) -> tuple[str, ...]:
        """All nodes that are known, as base URLs, those that were given first."""
        return self._connection.router.endpoints

    @property
    def leader(self) -> str:
        """The base URL of the leader; "" when not known."""
        return self._connection.router.leader

    def status(self, *, timeout_s: float | None = None) -> dict[str, Any]:
        """What the node that answers says of itself and its peers (`GET /v1/status`). Needs no leader."""
        answer: dict[str, Any] = self._connection.read(Ask("GET", "/v1/status"), timeout_s)
        return answer

    def members(self, *, timeout_s: float | None = None) -> Members:
        answer = self._connection.read(Ask("GET", "/v1/members"), timeout_s)
        return Members(tuple(map(member_from_json, answer["members"])), bool(answer["changing"]), 0)

    def close(self) -> None:
        """End the session on the cluster (waits half a second at most), close the connections. May be repeated."""
        self._connection.close()


def _key_path(key: bytes | str) -> str:
    name = to_bytes(key, "key")
    if not name:
        raise InvalidArgument("key", "is empty")
    return "/v1/kv/" + quote(name, safe="").replace(".", "%2E")  # a key may be "..", which is no path segment


def _query(**values: Any) -> dict[str, str | int | list[str]]:
    """Parameters that say something: nothing empty, no zero, true as the word."""
    return {name: "true" if value is True else value for name, value in values.items() if value}


def _conditions(selection: FlowSelection | None) -> dict[str, Any]:
    message = selection_to_pb(selection)
    if message is None:
        return {}
    return {
        "address": list(message.address),
        "port": [str(port) for port in message.port],
        "protocol": [str(protocol) for protocol in message.protocol],
        "state": [str(state) for state in message.tcp_state],
        "backend": message.backend,
        "zone": str(message.zone) if message.HasField("zone") else "",
        "origin": message.origin,
    }


def key_from_json(item: dict[str, Any]) -> KeyValue:
    """A key as the REST API shows it."""
    numbers = [int(item[name]) for name in ("create_revision", "mod_revision", "version", "lease")]
    return KeyValue(_bytes(item, "key"), _bytes(item, "value"), *numbers)


def _bytes(item: dict[str, Any], name: str) -> bytes:
    text = str(item.get(name, ""))
    return base64.b64decode(text) if item.get(f"{name}_encoding") == "base64" else text.encode()


def member_from_json(item: dict[str, Any]) -> Member:
    return Member(
        parse_id(item["id"]),
        str(item["name"]),
        str(item["address"]),
        int(item["port"]),
        int(item["rest"]),
        bool(item["learner"]),
        bool(item["leader"]),
    )
