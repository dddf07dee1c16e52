"""Log matching (paper, figure 3): two entries of one index and term are the same, and so is all before them.

Looked at where entries come into a log: if an index and term always stand for the same bytes, behind an entry of the
same term, then, by induction, equal places have equal pasts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from rocinante.raft.types import Entry, EntryKind

if TYPE_CHECKING:
    from .host import Host
    from .oracle import Oracle


class _Place(NamedTuple):
    previous_term: int
    """0: not known, where the entry before is compacted."""
    kind: EntryKind
    data: bytes


class LogMatching:
    """See the module."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self._places: dict[tuple[int, int], _Place] = {}
        self.changes: list[Entry] = []
        """Of the membership, in any log that ever was."""

    def pending(self, index: int) -> list[Entry]:
        """Changes behind `index` in some log, which may yet be committed."""
        return [entry for entry in self.changes if entry.index > index]

    def stored(self, host: Host, entries: Sequence[Entry]) -> None:
        """These, one behind the other, are in the host's log now."""
        previous = host.node.driver.core.log.term(entries[0].index - 1)
        places = self._places
        for entry in entries:
            key = (entry.index, entry.term)
            known = places.get(key)
            if known is None:
                places[key] = _Place(previous, entry.kind, entry.data)
                if entry.kind is EntryKind.CONFIG:
                    self.changes.append(entry)
            else:
                if known.data != entry.data or known.kind != entry.kind:
                    self._oracle.fail(f"{host.name} has other bytes than others at {entry.index} of term {entry.term}")
                if known.previous_term != previous and previous:
                    if known.previous_term:
                        self._oracle.fail(
                            f"{host.name} has term {previous} before {entry.index} of term {entry.term}; others have "
                            f"{known.previous_term}"
                        )
                    places[key] = known._replace(previous_term=previous)
            previous = entry.term
            if entry.kind is EntryKind.CONFIG:
                self._oracle.rules.appended(host)
