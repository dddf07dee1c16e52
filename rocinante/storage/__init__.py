"""A node's storage: hard state, log and snapshots behind the interface of `base`, on disk (`leveldb`) or not
(`memory`)."""

from rocinante.errors import DirectoryUnavailableError
from rocinante.storage.base import (
    Engine,
    Identity,
    Loaded,
    LogStore,
    Progress,
    SnapshotFile,
    SnapshotSink,
    SnapshotStore,
    Write,
)
from rocinante.storage.directory import check_unused, found_identity, is_full, unusable
from rocinante.storage.leveldb import open_leveldb
from rocinante.storage.memory import open_memory

__all__ = [
    "DirectoryUnavailableError",
    "Engine",
    "Identity",
    "Loaded",
    "LogStore",
    "Progress",
    "SnapshotFile",
    "SnapshotSink",
    "SnapshotStore",
    "Write",
    "check_unused",
    "found_identity",
    "is_full",
    "open_leveldb",
    "open_memory",
    "unusable",
]
