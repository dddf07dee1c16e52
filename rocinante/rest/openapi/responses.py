"""The errors that many requests share."""

from __future__ import annotations

from typing import Any, Final

from rocinante.rest.openapi.schemas import ref
from rocinante.tokens import REFUSAL


def _error(description: str, code: str, message: str) -> dict[str, Any]:
    example = {"error": {"code": code, "message": message}}
    return {"description": description, "content": {"application/json": {"schema": ref("Error"), "example": example}}}


RESPONSES: Final[dict[str, Any]] = {
    "BadRequest": _error(
        "A parameter, header or the body is wrong; the message begins with its name. Nothing was changed",
        "INVALID_ARGUMENT",
        "limit: must be between 1 and 10000, not 0",
    ),
    "Unauthenticated": _error(
        "The cluster has access tokens, and none of them was presented; nothing was changed",
        "UNAUTHENTICATED",
        REFUSAL,
    )
    | {"headers": {"WWW-Authenticate": {"schema": {"type": "string"}, "description": "For browsers, which ask then"}}},
    "NotFound": _error("It is not there", "NOT_FOUND", "there is no key 'a'"),
    "Conflict": _error(
        "The state does not allow it, or the condition does not hold; nothing was changed",
        "FAILED_PRECONDITION",
        "'a' has changed (or was made, or deleted) meanwhile: the condition does not hold",
    ),
    "TooLarge": _error(
        "The body is too large; it was not read", "INVALID_ARGUMENT", "body: is larger than 524288 bytes"
    ),
    "Busy": _error(
        "A buffer is full; nothing was changed, try again later (`Retry-After`)",
        "RESOURCE_EXHAUSTED",
        "the ingress buffer is full",
    ),
    "Unavailable": _error(
        "Not now: no leader, not ready, or no answer in time. `UNAVAILABLE` is certain to have changed nothing, "
        "`DEADLINE_EXCEEDED` is not",
        "UNAVAILABLE",
        "no leader is known",
    ),
    "MethodNotAllowed": _error(
        "There is no such method here; `Allow` names those that are",
        "UNIMPLEMENTED",
        "POST is not a method of /v1/status",
    ),
    "Internal": _error("A defect of the node; its log says more", "INTERNAL", "unexpected error, see the node's log"),
}
