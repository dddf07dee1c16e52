"""The errors that cross a boundary: one class, one code for each thing that can go wrong with a request.

`code` is the canonical gRPC name; `services/` answers with that status, `rest/` with the HTTP status of the table,
the command line with the exit status. `message` is for a person; where a field of the request is at fault, it begins
with that field's name.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Code(StrEnum):
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    ABORTED = "ABORTED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    UNAVAILABLE = "UNAVAILABLE"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    DATA_LOSS = "DATA_LOSS"
    INTERNAL = "INTERNAL"


HTTP_STATUS: Final[dict[Code, int]] = {
    Code.INVALID_ARGUMENT: 400,
    Code.OUT_OF_RANGE: 400,
    Code.UNAUTHENTICATED: 401,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.FAILED_PRECONDITION: 409,
    Code.ABORTED: 409,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.UNAVAILABLE: 503,
    Code.DEADLINE_EXCEEDED: 503,
    Code.UNIMPLEMENTED: 501,
    Code.DATA_LOSS: 503,
    Code.INTERNAL: 500,
}
"""413 is not here: only the size of an HTTP body earns it, and `rest/` says so itself."""


class RocinanteError(Exception):
    """A request could not be done. `leader` is the server id of the leader where known and useful, else 0."""

    code: Code = Code.INTERNAL

    def __init__(self, message: str, *, leader: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.leader = leader


class InvalidArgument(RocinanteError):
    """The request is malformed; it begins with the name of the field at fault. Nothing was changed."""

    code = Code.INVALID_ARGUMENT

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}" if field else problem)
        self.field = field


class OutOfRange(RocinanteError):
    """A position that does not exist (any more): a compacted or a future revision or index."""

    code = Code.OUT_OF_RANGE


class Unauthenticated(RocinanteError):
    """No token, or one that the node does not accept. Nothing was changed."""

    code = Code.UNAUTHENTICATED


class NotFound(RocinanteError):
    code = Code.NOT_FOUND


class AlreadyExists(RocinanteError):
    code = Code.ALREADY_EXISTS


class FailedPrecondition(RocinanteError):
    """The system is not in a state in which this can be done; a retry without a change will not help."""

    code = Code.FAILED_PRECONDITION


class ResourceExhausted(RocinanteError):
    """A bounded queue, table or size is full. Nothing was changed; try again later."""

    code = Code.RESOURCE_EXHAUSTED


class Unavailable(RocinanteError):
    """Not available now (no leader, not ready, stopping). Certain: the request has not been and will not be carried
    out.
    """

    code = Code.UNAVAILABLE


class OutcomeUnknown(RocinanteError):
    """The wait ended before the answer came: the request may or may not be carried out. Retry with the same client
    session.
    """

    code = Code.DEADLINE_EXCEEDED


class NotApplied(RocinanteError):
    """A write is committed, at `index`, but the members in `missing` (name → why) did not apply it in time."""

    code = Code.UNAVAILABLE

    def __init__(self, index: int, missing: dict[str, str]) -> None:
        who = ", ".join(f"{name} ({why})" for name, why in missing.items())
        super().__init__(f"committed at log index {index}, but not in time applied by {who}")
        self.index = index
        self.missing = missing


class SessionExpired(RocinanteError):
    """The client session is not known (any more), so that a retry cannot be told from a new request."""

    code = Code.ABORTED


class Internal(RocinanteError):
    code = Code.INTERNAL


class ConfigError(Exception):
    """The configuration cannot be used; `problems` holds one line a mistake, with line, key and what was expected."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class StorageError(Exception):
    """A write, sync or integrity failure of the data directory: fatal to the node (exit status `EXIT_STORAGE`)."""


class DataDirectoryError(Exception):
    """The data directory cannot be used as it is (another node's, a newer format, damaged): says why and what to do."""


class DirectoryUnavailableError(DataDirectoryError):
    """The directory may be sound, but cannot be used now: in use, not writable, full. Worth another try (exit status
    `EXIT_TEMPORARY`)."""


EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_UNAVAILABLE: Final = 3
EXIT_STORAGE: Final = 74
"""A failed disk (sysexits' EX_IOERR). systemd must not restart the node: `RestartPreventExitStatus=74`."""
EXIT_DATA: Final = 65
"""Data that must not be used (EX_DATAERR): damaged, foreign or of a newer format. Not restarted either."""
EXIT_TEMPORARY: Final = 75
"""A data directory that cannot be used just now (EX_TEMPFAIL): another process has it, no room. Worth another try."""
