"""The OpenAPI 3.1 document of the REST interface, built from `schemas.py` and `paths.py`.

A test holds its paths and methods equal to `routes.ROUTES` both ways, and checks real answers against its schemas.
"""

from __future__ import annotations

from typing import Any

from rocinante.rest.openapi.paths import PATHS
from rocinante.rest.openapi.responses import RESPONSES
from rocinante.rest.openapi.schemas import SCHEMAS
from rocinante.version import __version__

__all__ = ["build_document"]

DESCRIPTION = """\
Every node answers all of this; a request for the leader is forwarded to it. What needs no consensus (health, status, \
log, peers, metrics) is answered in every state of the node.

Errors are `{"error": {"code", "message"}}`; the code is gRPC's name. 503 says who leads, where that is known. \
`DEADLINE_EXCEEDED` means that the write may or may not happen: send it again in the same session, and it happens once.

Where the cluster has access tokens, all but `/livez` and `/readyz` answers 401 `UNAUTHENTICATED` to who presents none \
of them, as a bearer or as the password of any user.
"""


SECURITY = {"bearer": {"type": "http", "scheme": "bearer"}, "basic": {"type": "http", "scheme": "basic"}}


def build_document() -> dict[str, Any]:
    """The document, ready for JSON."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Rocinante",
            "version": __version__,
            "summary": "TCP/UDP flow state and keys, agreed by Raft",
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "This node"}],
        "security": [{}, {"bearer": []}, {"basic": []}],
        "tags": [
            {"name": "health", "description": "For load balancers and monitoring"},
            {"name": "status", "description": "What this node knows of itself and of the others"},
            {"name": "kv", "description": "Keys and values"},
            {"name": "flows", "description": "The flow table"},
            {"name": "events", "description": "What changes, as it changes"},
            {"name": "sessions", "description": "Writes that may be sent again"},
            {"name": "admin", "description": "What acts on this node or on the leadership"},
            {"name": "page", "description": "The web page"},
        ],
        "paths": PATHS,
        "components": {"schemas": SCHEMAS, "responses": RESPONSES, "securitySchemes": SECURITY},
    }
