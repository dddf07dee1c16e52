"""The files of the page, and the OpenAPI document.

The page is found, in this order, in the configured `wwwroot`, beside the sources, where a wheel puts it, and inside
the package: so a `wwwroot` that does not exist costs a warning and not the page.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import bottle

from rocinante.errors import NotFound
from rocinante.rest.context import RestContext
from rocinante.rest.http import Reply, Request
from rocinante.rest.openapi import build_document

logger = logging.getLogger(__name__)
INDEX: Final = "index.html"
REPOSITORY: Final = Path(__file__).resolve().parents[2]


def _candidates() -> Iterator[Path]:
    yield REPOSITORY / "www"
    yield Path(sys.prefix) / "share" / "rocinante" / "www"
    packaged = importlib.resources.files("rocinante") / "www"
    if isinstance(packaged, Path):
        yield packaged


def find_wwwroot(configured: Path | None) -> Path | None:
    """The directory with the page's files; None where there is none at all. Warns where it is not the configured
    one.
    """
    if configured is not None and (configured / INDEX).is_file():
        return configured.resolve()
    found = next((path.resolve() for path in _candidates() if (path / INDEX).is_file()), None)
    if configured is not None:
        logger.warning(
            "wwwroot %s has no %s; %s", configured, INDEX, f"serving {found}" if found else "there is no page to serve"
        )
    return found


def get_file(context: RestContext, request: Request) -> Reply:
    """A file of the page. What lies outside the directory, by `..` or by a link, is not there."""
    root = context.wwwroot
    if root is None:
        raise NotFound("there is no page on this node; REST is below /v1, see /openapi.json")
    name = request.arguments.get("file", INDEX)
    try:
        path = (root / name).resolve()
        is_inside = (
            path.is_relative_to(root)
            and path.is_file()
            and not any(part.startswith(".") for part in path.parts[len(root.parts) :])
        )
    except (OSError, ValueError):
        is_inside = False
    if not is_inside:
        raise NotFound(f"there is nothing at /{name[:200]}")
    return _file_reply(bottle.static_file(str(path.relative_to(root)), root=str(root)))


def _file_reply(answer: Any) -> Reply:
    """Bottle answers conditional and range requests; the headers that it chose are kept."""
    headers = {name: value for name, value in answer.headerlist if name.lower() not in {"content-type"}}
    headers["Cache-Control"] = "no-cache"
    return Reply(
        answer.body, answer.status_code, answer.get_header("Content-Type", "application/octet-stream"), headers
    )


def get_openapi(_: RestContext, request: Request) -> Reply:
    """The OpenAPI 3.1 document of this interface."""
    request.query.finish()
    return Reply(_openapi_bytes())


@functools.cache
def _openapi_bytes() -> bytes:
    return json.dumps(build_document(), ensure_ascii=False, indent=1).encode() + b"\n"
