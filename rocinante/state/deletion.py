"""A deletion by filter, step by step: the rows are gone through, and each range of them in which something is meant
becomes one command (FLOW_DELETE_WHERE), which all replicas carry out alike. Whoever uses it proposes the commands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from rocinante.flows import FlowFilter
from rocinante.state.flows import encode_delete_where
from rocinante.state.machine import StateMachine

PAGES_MAX: Final = 16
"""Ranges of FLOW_EXPIRE_ROWS_MAX rows that one step looks through (about 2 ms each with a filter)."""
EVERY_ORIGIN: Final = "*"
"""As an origin, where a request means all of them. No datacenter has such a name."""


@dataclass(slots=True)
class Deletion:
    """Of what a filter means, origin included ("": all). `cursor`: where to begin, then how far it is."""

    state: StateMachine
    asked: FlowFilter
    cursor: bytes = b""
    complete: bool = False
    """All rows were gone through."""
    deleted: int = 0
    index: int = 0
    """Of the last command."""
    looked_at: int = 0
    _behind: bytes = field(default=b"", init=False)

    def step(self) -> bytes | None:
        """The body of the next command, which `took` is to be told of; None: there was nothing in what was looked at.

        Raises InvalidArgument for a cursor that is none.
        """
        for _ in range(PAGES_MAX):
            page = self.state.flows_matching(self.asked, self.cursor)
            if page.rows is not None:
                self.looked_at += page.rows.stop - page.rows.first
            self._behind = page.cursor
            if page.rows is not None and page.matching:
                return encode_delete_where(page.rows, self.asked)
            self._advance()
            if self.complete:
                break
        return None

    def took(self, index: int, deleted: object) -> None:
        """The command of the last step was carried out."""
        if not isinstance(deleted, int):
            raise TypeError(f"a deletion of flows answered {deleted!r}")
        self.index, self.deleted = index, self.deleted + deleted
        self._advance()

    def _advance(self) -> None:
        self.cursor = self._behind
        self.complete = not self.cursor
