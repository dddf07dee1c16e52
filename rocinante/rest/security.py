"""What protects a browser's user: the headers of every answer, and who may be meant by `Host`.

There are no cookies. Without access tokens (tokens.py) a browser may use what it can reach; with them it asks its
user for one and sends it along with every request, whichever page makes it. So a foreign page in that browser is kept
out: by `Host` (DNS rebinding, as in etcd's CVE-2018-1098), by asking for a JSON content type (no CORS-simple request
changes anything), and by a policy that allows the page's own files only.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Set
from typing import Final

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def fixed_headers() -> dict[str, str]:
    """The headers that every answer has."""
    return {
        "Content-Security-Policy": CONTENT_SECURITY_POLICY,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
    }


def is_host_allowed(host: str, names: Set[str]) -> bool:
    """Whether a request may call this node so. `host` is the header: a name or address, and perhaps a port.

    Addresses always pass: a rebinding page is called by a *name* that its owner made point here, and the browser
    sends that name. An absent header passes too: no browser leaves it out, and health checks in HTTP/1.0 do.
    """
    host = host.strip().lower()
    if not host:
        return True
    if host.startswith("["):
        name = host[1:].partition("]")[0]
    else:
        name = host.rpartition(":")[0] if host.count(":") == 1 else host
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name.rstrip(".") in names
    return True


def error_body(code: str, message: str, leader: str = "") -> bytes:
    """The one form of an error. `leader` is IP:PORT where it helps.

    A message may quote half of a surrogate pair, which JSON can write and UTF-8 cannot; it goes out as it came in,
    escaped.
    """
    error = {"code": code, "message": message}
    if leader:
        error["leader"] = leader
    return json.dumps({"error": error}, ensure_ascii=False).encode(errors="backslashreplace") + b"\n"
