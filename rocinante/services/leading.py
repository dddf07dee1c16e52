"""The field of bytes that a request begins with, found without parsing the request.

protobuf copies such a field twice, once into its message and once out of it, and for a batch of flows that is
megabytes. Every known encoder writes fields in the order of their numbers, so field 1 comes first; where it does not,
`leading_field` says so, and the request is parsed as a whole.
"""

from __future__ import annotations

from typing import Final

_FIELD_1: Final = 1 << 3 | 2
"""Number 1, wire type 2: a length follows."""
_LENGTH_BYTES_MAX: Final = 5


def leading_field(raw: bytes) -> tuple[int, int]:
    """Where the content of field 1 begins and ends; (0, 0) where the message does not begin with it, or is cut off."""
    if not raw or raw[0] != _FIELD_1:
        return 0, 0
    length = 0
    for at, byte in enumerate(raw[1 : 1 + _LENGTH_BYTES_MAX]):
        length |= (byte & 0x7F) << 7 * at
        if byte < 0x80:
            start = at + 2
            return (start, start + length) if start + length <= len(raw) else (0, 0)
    return 0, 0


def leading_end(raw: bytes) -> int:
    return leading_field(raw)[1]
