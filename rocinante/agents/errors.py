"""What ends an agent: a line for a person and an exit status."""

from __future__ import annotations

from rocinante.errors import EXIT_FAILED


class AgentError(Exception):
    """The agent cannot start or go on; the message is one line that says what to do."""

    def __init__(self, message: str, status: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.status = status
