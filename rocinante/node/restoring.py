"""Data directories for a cluster that begins with the state of another one: from a saved snapshot, and from what a node
left on its disk. Offline: no node runs on any of these directories.

What a restored cluster must not do is use a number twice for two things. The cluster that the snapshot was taken from
went on after it, and its clients have seen what came then: so the new one leaves out revisions and log indexes
(`StateMachine.skip`), it has an id of its own (`lineage`), and its nodes hold back their vote as the nodes of any new
cluster do (recovery.py), so that one of them which is restored a second time, when the others have gone on, harms
nobody.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from rocinante import limits
from rocinante.config import ClusterConfig, Controller
from rocinante.errors import DataDirectoryError, FailedPrecondition, StorageError
from rocinante.node.directory import snapshot_head, split_snapshot
from rocinante.node.opening import described_members, identity_of
from rocinante.node.recovery import CATCHING_UP, Marker
from rocinante.raft.types import Config, EntryKind, HardState, SnapshotMeta
from rocinante.state.machine import StateMachine
from rocinante.storage import Engine, Identity, Write, check_unused, found_identity, open_leveldb

Progress = Callable[[int, int], None]


def state_of(chunks: Iterable[bytes], where: str) -> StateMachine:
    """The state in a snapshot's content, which proves that it can be used. Raises FailedPrecondition."""
    state = StateMachine()
    try:
        _, content = split_snapshot(chunks)
        state.restore(content)
    except (StorageError, ValueError) as error:
        raise FailedPrecondition(f"{where}: the content cannot be used: {error}; use another copy") from error
    return state


class LeftBehind(NamedTuple):
    """What a stopped node has on its disk."""

    identity: Identity
    state: StateMachine
    head: bytes
    """The list of members, as a snapshot begins with."""
    unconfirmed: int
    """Entries of the log behind the commit index that the node knew: they are in the state. Some of them were
    acknowledged by a leader that is lost, others perhaps by nobody."""
    caught_up: bool
    """False: the node had started without data, and had not yet all that it may have acknowledged before."""


def left_behind(directory: Path, progress: Progress) -> LeftBehind:
    """All that a node knew when it stopped. Raises DataDirectoryError, with what to do; StorageError."""
    identity = found_identity(directory)
    if identity is None:
        raise DataDirectoryError(
            f"{directory} is not a node's data directory: that is <dataDir>/<cluster>-<node>, with identity.json in it"
        )
    engine = open_leveldb(directory, identity)
    try:
        return _read(engine, identity, directory, progress)
    finally:
        engine.close()


def _read(engine: Engine, identity: Identity, directory: Path, progress: Progress) -> LeftBehind:
    loaded = engine.log.load(progress)
    meta = loaded.snapshot
    file = next((item for item in reversed(engine.snapshots.list()) if item.meta.index == meta.index), None)
    if file is None:
        raise DataDirectoryError(f"{directory} has nothing yet: its node never heard from a leader")
    state = StateMachine()
    members, content = split_snapshot(engine.snapshots.read(file, limits.SNAPSHOT_CHUNK_BYTES))
    state.restore(content)
    for entry in loaded.entries:
        state.apply(entry.index, entry.term, b"" if entry.kind is EntryKind.CONFIG else entry.data)
    last = meta.index + len(loaded.entries)
    return LeftBehind(
        identity,
        state,
        snapshot_head(members, meta.config),
        max(0, last - loaded.hard_state.commit),
        not (directory / CATCHING_UP).exists(),
    )


def make_directory(
    directory: Path,
    config: ClusterConfig,
    controller: Controller,
    state: StateMachine,
    lineage: str,
    *,
    aside: Path | None = None,
) -> None:
    """The data directory of one node of a cluster that begins with `state`, whole or not at all. `aside` is what was
    there before.

    Raises OSError, StorageError, DataDirectoryError.
    """
    building = directory.with_name(f".{directory.name}.restoring")
    shutil.rmtree(building, ignore_errors=True)  # of a restore that was killed: nobody else makes this name
    try:
        _fill(building, config, controller, state, lineage)
        _give_away(building, next(path for path in (directory, aside, directory.parent) if path and path.exists()))
        building.rename(directory)
        _sync(directory.parent)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def _fill(directory: Path, config: ClusterConfig, controller: Controller, state: StateMachine, lineage: str) -> None:
    members = described_members(config)
    voters = Config(voters=frozenset(members))
    index, term = state.position
    meta = SnapshotMeta(index, term, voters)
    engine = open_leveldb(directory, identity_of(config, controller, lineage))
    try:
        engine.log.load()
        sink = engine.snapshots.create(meta)
        sink.write(snapshot_head(members, voters))
        with state.freeze() as frozen:
            for chunk in frozen.chunks():
                sink.write(chunk)
        sink.finish()
        engine.log.persist([Write(HardState(term, 0, index), (), meta)])
        Marker(directory / CATCHING_UP).set((index, term))
    finally:
        engine.close()


def _give_away(directory: Path, like: Path) -> None:
    """What root makes belongs to the owner of what was there before, for the service has a user of its own."""
    if os.geteuid() != 0:
        return
    owner = like.stat()
    for path in (directory, *directory.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def put_aside(directory: Path, stamp: str) -> Path | None:
    """Move what is there out of the way, never delete it. None: there was nothing. Raises FailedPrecondition, OSError,
    DirectoryUnavailableError: a node uses it.

    An empty directory is left: the new one takes its place.
    """
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return None
    check_unused(directory)
    aside = directory.with_name(f"{directory.name}.before-{stamp}")
    if aside.exists():
        raise FailedPrecondition(f"{aside} is there already: move it away first")
    directory.rename(aside)
    return aside
