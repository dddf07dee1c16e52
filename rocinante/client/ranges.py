"""Ranges of keys, as etcd's wire API spells them."""

from __future__ import annotations

from rocinante.client.types import to_bytes
from rocinante.errors import InvalidArgument

__all__ = ["FROM_KEY", "key_range", "prefix_end"]

FROM_KEY = b"\0"
"""As a range end: no end. With the key `\\0`: all keys."""


def prefix_end(prefix: bytes) -> bytes:
    """The first key after all that begin with `prefix` (etcd's clientv3.GetPrefixRangeEnd)."""
    for at in range(len(prefix) - 1, -1, -1):
        if prefix[at] < 0xFF:
            return prefix[:at] + bytes([prefix[at] + 1])
    return FROM_KEY


def key_range(key: bytes | str, *, prefix: bool = False, range_end: bytes | str | None = None) -> tuple[bytes, bytes]:
    """(key, range_end) for a request: one key, all that begin with it, or [key, range_end).

    Raises InvalidArgument for an empty key without `prefix`, and for both kinds of range at once.
    """
    start = to_bytes(key, "key")
    if prefix and range_end is not None:
        raise InvalidArgument("range_end", "is given together with prefix: one of them says where the range ends")
    if prefix:
        return start or FROM_KEY, prefix_end(start)
    if not start:
        raise InvalidArgument("key", "is empty")
    return start, b"" if range_end is None else to_bytes(range_end, "range_end")
