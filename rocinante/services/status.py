"""The one place that turns an error into a gRPC status."""

from __future__ import annotations

from typing import Any, Final

import grpc

from rocinante.errors import Code, RocinanteError

GRPC_STATUS: Final[dict[Code, Any]] = {code: grpc.StatusCode[code.value] for code in Code}
"""`Code` bears gRPC's own names; a code without a status fails here, at import."""

INTERNAL_TEXT: Final = "internal error; the node's log says more"
"""What a client learns of an exception that nobody foresaw: no stack, no path, no value."""


def grpc_status(error: RocinanteError) -> tuple[Any, str]:
    """The status and the text that a client gets."""
    return GRPC_STATUS[error.code], error.message
