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
    members: dict[int, Member] = {}
    for row in json.loads(data):
        identifier = server_id(row["address"], row["port"])
        members[identifier] = Member(identifier, row["name"], row["address"], row["port"], row["rest"])
    return members


def snapshot_head(members: dict[int, Member], config: Config) -> bytes:
    """What stands before the state in a snapshot: the descriptions of all members of `config`."""
    data = encode_members(member for member in members.values() if member.id in config.members)
    return _LENGTH.pack(len(data)) + data


def split_snapshot(chunks: Iterable[bytes]) -> tuple[dict[int, Member], Iterator[bytes]]:
    """The members at the head of a snapshot, and the rest of it: the state. Raises StorageError."""
    source = iter(chunks)
    head = b""
    needed = _LENGTH.size
    for chunk in source:
        head += chunk
        if len(head) >= _LENGTH.size:
            needed = _LENGTH.size + int(_LENGTH.unpack_from(head)[0])
            if needed > _HEAD_BYTES_MAX:
                raise StorageError(f"a snapshot's list of members has {needed} bytes, which cannot be")
        if len(head) >= needed > _LENGTH.size:
            break
    if len(head) < needed:
        raise StorageError("a snapshot ends within its list of members")
    try:
        members = decode_members(head[_LENGTH.size : needed])
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"a snapshot's list of members cannot be read: {error}") from error

    def rest() -> Iterator[bytes]:
        if len(head) > needed:
            yield head[needed:]
        yield from source

    return members, rest()
