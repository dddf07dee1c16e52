"""The OpenAPI document is valid, says what there is, and real answers are as it says."""

from __future__ import annotations

import re
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from rocinante.rest.app import FOR_EVERYBODY
from rocinante.rest.openapi import build_document
from rocinante.rest.routes import ROUTES
from tests.rest.conftest import Rest
from tests.rest.test_flows import FULL, flow

DOCUMENT = build_document()


def operations() -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), path): operation
        for path, item in DOCUMENT["paths"].items()
        for method, operation in item.items()
    }


def test_the_document_is_valid(rest: Rest) -> None:
    served = rest.json("GET", "/openapi.json")
    assert served == DOCUMENT
    OpenAPIV31SpecValidator(served).validate()


def test_it_has_the_routes_of_the_application_and_no_other() -> None:
    assert set(operations()) == {(route.method, route.path) for route in ROUTES}


def test_it_says_who_needs_no_token() -> None:
    free = {path for (_, path), operation in operations().items() if operation.get("security") == []}
    assert free == FOR_EVERYBODY
    for (_, path), operation in operations().items():
        assert ("401" in operation["responses"]) == (path not in free), path


def test_every_schema_is_used_and_operation_ids_are_unique() -> None:
    text = str(DOCUMENT["paths"]) + str(DOCUMENT["components"])
    unused = [name for name in DOCUMENT["components"]["schemas"] if f"/schemas/{name}'" not in text]
    unused += [name for name in DOCUMENT["components"]["responses"] if f"/responses/{name}'" not in text]
    assert unused == []
    names = [operation["operationId"] for operation in operations().values()]
    assert len(names) == len(set(names))


def test_the_examples_are_as_their_schemas_say() -> None:
    checked = 0
    for operation in operations().values():
        responses = [_resolved(response) for response in operation["responses"].values()]
        for body in [operation.get("requestBody", {}), *responses]:
            for kind, content in body.get("content", {}).items():
                if kind == "application/json" and "example" in content:
                    check(content["example"], content["schema"])
                    checked += 1
    assert checked > 20


def _resolved(response: dict[str, Any]) -> dict[str, Any]:
    name = response.get("$ref", "").rpartition("/")[2]
    return DOCUMENT["components"]["responses"][name] if name else response


def check(value: Any, schema: dict[str, Any]) -> None:
    whole = {"components": DOCUMENT["components"], **schema}
    jsonschema.Draft202012Validator(whole).validate(value)


SCRIPT = [
    # route, concrete path, request, status
    ("GET", "/livez", "/livez?verbose", {}, 200),
    ("GET", "/readyz", "/readyz", {}, 200),
    ("GET", "/metrics", "/metrics", {}, 200),
    ("GET", "/openapi.json", "/openapi.json", {}, 200),
    ("GET", "/", "/", {}, 200),
    ("GET", "/{file}", "/js/main.js", {}, 200),
    ("GET", "/{file}", "/nothing", {}, 404),
    ("GET", "/v1/status", "/v1/status", {}, 200),
    ("GET", "/v1/status", "/v1/status?x=1", {}, 400),
    ("GET", "/v1/leader", "/v1/leader", {}, 200),
    ("GET", "/v1/role", "/v1/role", {}, 200),
    ("GET", "/v1/peers", "/v1/peers", {}, 200),
    ("GET", "/v1/members", "/v1/members", {}, 200),
    ("GET", "/v1/size", "/v1/size", {}, 200),
    ("GET", "/v1/log", "/v1/log?last=5", {}, 200),
    ("GET", "/v1/committed", "/v1/committed", {}, 200),
    ("GET", "/v1/applied", "/v1/applied?index=1", {}, 200),
    ("GET", "/v1/applied", "/v1/applied?index=1000000&timeout_ms=1", {}, 503),
    ("PUT", "/v1/kv/{key}", "/v1/kv/a/b", {"content": b"\xff"}, 200),
    ("PUT", "/v1/kv/{key}", "/v1/kv/a/b", {"headers": {"If-None-Match": "*"}}, 409),
    ("PUT", "/v1/kv/{key}", "/v1/kv/a/b", {"content": b"v" * 600_000}, 413),
    ("GET", "/v1/kv/{key}", "/v1/kv/a/b", {}, 200),
    ("GET", "/v1/kv/{key}", "/v1/kv/a/b?raw", {}, 200),
    ("GET", "/v1/kv/{key}", "/v1/kv/none", {}, 404),
    ("GET", "/v1/kv", "/v1/kv", {}, 200),
    ("GET", "/v1/kv", "/v1/kv?keys_only", {}, 200),
    ("DELETE", "/v1/kv/{key}", "/v1/kv/a/b", {}, 200),
    ("POST", "/v1/flows", "/v1/flows", {"json": [FULL, flow(), flow("2001:db8::9", protocol=99)]}, 200),
    ("POST", "/v1/flows", "/v1/flows", {"json": []}, 400),
    ("GET", "/v1/flows", "/v1/flows?limit=2", {}, 200),
    ("GET", "/v1/flows/{id}", "/v1/flows/{flow}", {}, 200),
    ("GET", "/v1/flows/{id}", "/v1/flows/{flow}?origin=dc9", {}, 404),
    ("DELETE", "/v1/flows/{id}", "/v1/flows/{flow}", {}, 200),
    ("DELETE", "/v1/flows", "/v1/flows?port=443", {}, 200),
    ("DELETE", "/v1/flows", "/v1/flows", {}, 400),
    ("POST", "/v1/sessions", "/v1/sessions", {"json": {}}, 201),
    ("DELETE", "/v1/sessions/{session}", "/v1/sessions/00ff", {}, 200),
    ("GET", "/v1/events", "/v1/events?types=none", {}, 400),
    ("POST", "/v1/admin/transfer", "/v1/admin/transfer", {"json": {}}, 409),
    ("POST", "/v1/admin/transfer", "/v1/admin/transfer", {"json": {"to": "node1"}}, 200),
    ("POST", "/v1/admin/snapshot", "/v1/admin/snapshot", {"json": {}}, 200),
    ("GET", "/v1/snapshot", "/v1/snapshot", {}, 200),
    ("POST", "/v1/members", "/v1/members", {"json": {"address": "127.0.0.1", "port": 35002, "name": "node2"}}, 201),
    ("POST", "/v1/members", "/v1/members", {"json": {"address": "127.0.0.1", "port": 35002}}, 409),
    ("POST", "/v1/members", "/v1/members", {"json": {"address": "here", "port": 35003}}, 400),
    ("POST", "/v1/members/{member}/promote", "/v1/members/node2/promote", {"json": {}}, 200),
    ("POST", "/v1/members/{member}/promote", "/v1/members/node9/promote", {"json": {}}, 404),
    ("DELETE", "/v1/members/{member}", "/v1/members/127.0.0.1:35002", {}, 200),
    ("DELETE", "/v1/members/{member}", "/v1/members/127.0.0.1:35002", {}, 404),
    ("POST", "/v1/admin/stop", "/v1/admin/stop", {"json": {}}, 202),
    ("POST", "/v1/admin/grpc", "/v1/admin/grpc", {"json": {"enabled": True}}, 202),
    ("GET", "/v1/kv", "without leader", {}, 503),
]


def test_real_answers_are_as_the_document_says(rest: Rest) -> None:
    identifier = ""
    for method, route, path, more, status in SCRIPT:
        if path == "without leader":
            rest.node.be_without_leader()
            path = "/v1/kv"
        answer = rest.http.request(method, path.replace("{flow}", identifier), **more)
        assert answer.status_code == status, f"{method} {path}: {answer.text}"
        described = _resolved(operations()[method, route]["responses"][str(status)])["content"]
        kind = answer.headers["content-type"].partition(";")[0]
        assert kind in described or "*/*" in described, f"{method} {path} answered {kind}"
        if kind == "application/json" and "application/json" in described:
            check(answer.json(), described["application/json"]["schema"])
        if route == "/v1/flows" and method == "GET":
            identifier = answer.json()["flows"][0]["id"]


def test_every_operation_is_in_the_script_above() -> None:
    assert {(method, route) for method, route, *_ in SCRIPT} == set(operations())


def test_the_schemas_refuse_what_is_not_theirs() -> None:
    schema = DOCUMENT["components"]["schemas"]["Error"]
    with pytest.raises(jsonschema.ValidationError):
        check({"error": {"code": "X"}}, schema)
    with pytest.raises(jsonschema.ValidationError):
        check({"error": {"code": "X", "message": "y"}, "more": 1}, schema)


def test_documented_parameters_are_those_that_are_read(rest: Rest) -> None:
    """A query parameter of the document is taken (whatever comes of it); one that is not in it is refused by name."""
    for (method, route), operation in operations().items():
        if method != "GET" or route in {"/{file}", "/", "/v1/events"}:
            continue
        path = re.sub(r"\{key\}", "k", route).replace("{id}", "00000406" + "0" * 24)
        for parameter in operation.get("parameters", []):
            if parameter["in"] == "query":
                answer = rest.http.get(path, params={parameter["name"]: "1"})
                assert "is not a parameter" not in answer.text, f"{route} does not read {parameter['name']}"
        assert "unheard_of: is not a parameter" in rest.http.get(path, params={"unheard_of": "1"}).text
