"""Who is in the cluster, and where: the configuration (which ids) and the description of each (name, addresses).

The ids are Raft's; the descriptions travel as the context of membership changes and at the head of every snapshot, so
that a node which was added later is known to all, also after a restart with an older YAML. The driver owns it; what
it publishes is immutable.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator
from typing import Final

from rocinante.errors import StorageError
from rocinante.identity import server_id
from rocinante.ports import Member
from rocinante.raft.types import Config
from rocinante.state.sections import FrameCheck

_LENGTH: Final = struct.Struct(">I")
_HEAD_BYTES_MAX: Final = 1024 * 1024


def encode_members(members: Iterable[Member]) -> bytes:
    """Deterministic: sorted by id."""
    rows = [
        {"name": member.name, "address": member.address, "port": member.port, "rest": member.rest}
        for member in sorted(members, key=lambda member: member.id)
    ]
    return json.dumps(rows, sort_keys=True, separators=(",", ":")).encode()


def decode_members(data: bytes) -> dict[int, Member]:
    """Raises ValueError for what `encode_members` never writes."""
    try:
        rows = json.loads(data)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(rows, list):
        raise ValueError("not a list")  # noqa: TRY004  (the content is wrong, not the caller)
    members: dict[int, Member] = {}
    for row in rows:
        member = _decode_member(row)
        members[member.id] = member
    return members


def _decode_member(row: object) -> Member:
    if not isinstance(row, dict) or set(row) != {"name", "address", "port", "rest"}:
        raise ValueError("a member has a name, an address, a port and a rest port, and nothing else")
    name, address, port, rest = row["name"], row["address"], row["port"], row["rest"]
    if not isinstance(name, str) or not isinstance(address, str):
        raise ValueError(f"name, address: {name!r:.80}, {address!r:.80} are not text")  # noqa: TRY004  (the same)
    name.encode()  # JSON can write half of a surrogate pair, which nothing that shows it could
    for number in (port, rest):
        if type(number) is not int or not 0 <= number <= 65535:
            raise ValueError(f"port, rest: {number!r:.80} is not a port")
    return Member(server_id(address, port), name, address, port, rest)


def snapshot_head(members: dict[int, Member], config: Config) -> bytes:
    """What stands before the state in a snapshot: the descriptions of all members of `config`."""
    data = encode_members(member for member in members.values() if member.id in config.members)
    return _LENGTH.pack(len(data)) + data


def split_snapshot(chunks: Iterable[bytes]) -> tuple[dict[int, Member], Iterator[bytes]]:
    """The members at the head of a snapshot, and the rest of it: the state. Raises StorageError."""
    source = iter(chunks)
    head = b""
    for chunk in source:
        head += chunk
        try:
            found = _split_head(head)
        except ValueError as error:
            raise StorageError(str(error)) from error
        if found is not None:
            break
    else:
        raise StorageError("a snapshot ends within its list of members")
    members, first = found

    def rest() -> Iterator[bytes]:
        if first:
            yield first
        yield from source

    return members, rest()


def _split_head(head: bytes) -> tuple[dict[int, Member], bytes] | None:
    """The members, and what follows them in `head`; None where it is too short. Raises ValueError."""
    if len(head) < _LENGTH.size:
        return None
    end = _LENGTH.size + int(_LENGTH.unpack_from(head)[0])
    if end > _HEAD_BYTES_MAX:
        raise ValueError(f"a snapshot's list of members has {end} bytes, which cannot be")
    if len(head) < end:
        return None
    try:
        return decode_members(head[_LENGTH.size : end]), head[end:]
    except ValueError as error:
        raise ValueError(f"a snapshot's list of members cannot be read: {error}") from error


class ContentCheck:
    """Whether what comes in from a peer can be a snapshot that this software reads: the list of members, and the
    state's sections with their checksums.

    To know it before the snapshot replaces the log: a digest says only that all came that was sent, and a node that has
    nothing but a snapshot that it cannot read does not start again.
    """

    def __init__(self) -> None:
        self._head: bytes | None = b""
        self._frames = FrameCheck()

    def feed(self, chunk: bytes) -> None:
        """Raises ValueError that says what is wrong."""
        if self._head is None:
            self._frames.feed(chunk)
            return
        self._head += chunk
        if (found := _split_head(self._head)) is not None:
            self._head = None
            self._frames.feed(found[1])

    def end(self) -> None:
        """Nothing follows. Raises ValueError."""
        if self._head is not None:
            raise ValueError("a snapshot ends within its list of members")
        self._frames.end()
