"""REST and the web page: a Bottle application on waitress that sees the node through `rocinante.ports`."""

from __future__ import annotations

from rocinante.rest.server import RestServer

__all__ = ["RestServer"]
