"""What each flow is at each index of the log: a reference, independent of the product's tables.

A look-up on a node that has applied up to an index must give what stands here at that index. With the order of indexes
kept by the clients (nothing is read that is older than what somebody knew before), each flow is linearizable: the log's
order is the witness, so no search is needed.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Final

from rocinante.state.command import Kind

_TIMES: Final = struct.Struct(">QQ")
_V4: Final = struct.Struct("16s74s")
_HEADER_BYTES: Final = 12
_NEVER: Final = -1

Change = tuple[int, bytes | None]
"""(index, value from there on)."""
ExpiredKeys = tuple[str, tuple[bytes, ...]]
"""(origin, keys) that one command dropped."""


class FlowModel:
    """See the module. It knows batches of the IPv4 kind, which are all that the clients write."""

    def __init__(self) -> None:
        self._history: dict[tuple[str, bytes], list[Change]] = {}
        self.expired = 0

    def apply(self, index: int, commands: Iterable[tuple[int, bytes]], expired: Iterator[ExpiredKeys]) -> str:
        """The commands of the entry at `index` that were carried out, in order. What is wrong, or "".

        An expiry names rows of the product's tables; `expired` has what it dropped, which must have been due.
        """
        for kind, body in commands:
            if kind == Kind.FLOW_PUT:
                origin, rest = _origin(body)
                for key, value in _V4.iter_unpack(rest[_HEADER_BYTES:]):
                    self._history.setdefault((origin, key), []).append((index, value))
            elif kind == Kind.FLOW_DELETE:
                origin, rest = _origin(body)
                self._delete(index, origin, _keys(rest))
            elif kind == Kind.FLOW_EXPIRE and (wrong := self._expire(index, int.from_bytes(body[:8]), next(expired))):
                return wrong
        return ""

    def _delete(self, index: int, origin: str, keys: Iterable[bytes]) -> None:
        for key in keys:
            for (name, known), history in self._history.items():
                if known == key and (not origin or origin == name) and history[-1][1] is not None:
                    history.append((index, None))

    def _expire(self, index: int, now_ms: int, dropped: ExpiredKeys) -> str:
        origin, keys = dropped
        for key in keys:
            history = self._history.get((origin, key), [(0, None)])
            value = history[-1][1]
            if value is None or not 0 < _TIMES.unpack_from(value)[0] <= now_ms:
                return f"entry {index} expires {key.hex()} of {origin!r} at {now_ms}, which is {value!r}"
            history.append((index, None))
            self.expired += 1
        return ""

    def at(self, index: int, key: bytes, now_ms: int) -> tuple[str, bytes] | None:
        """(origin, value) of the newest that is not past its deadline at `now_ms`, when `index` is applied."""
        found, newest = None, _NEVER
        for (origin, known), history in sorted(self._history.items()):
            if known != key:
                continue
            place = bisect_right(history, index, key=lambda change: change[0])
            value = history[place - 1][1] if place else None
            if value is None:
                continue
            deadline, updated = _TIMES.unpack_from(value)
            if not 0 < deadline <= now_ms and updated > newest:
                found, newest = (origin, value), updated
        return found


def _origin(body: bytes) -> tuple[str, bytes]:
    end = 1 + body[0]
    return body[1:end].decode(), body[end:]


def _keys(rest: bytes) -> Iterator[bytes]:
    at = 4
    while at < len(rest):
        end = at + 1 + rest[at]
        yield rest[at + 1 : end]
        at = end
