"""From a data directory (or none) to what a node starts from: the core's past, the state, the members.

A new cluster starts from one and the same snapshot on all its nodes: entry 1 of term 1, whose content is the list of
members and an empty state. So the members are in the data from the first moment on, whatever becomes of the YAML, and
a node that joins later always gets a snapshot first.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rocinante import limits
from rocinante.config import ClusterConfig, Controller, RotationMode, StorageEngine
from rocinante.errors import DataDirectoryError, StorageError
from rocinante.node.directory import snapshot_head, split_snapshot
from rocinante.node.recovery import BOOTSTRAP_INDEX, CATCHING_UP, Marker
from rocinante.ports import Member
from rocinante.raft.core import Raft
from rocinante.raft.options import RaftOptions
from rocinante.raft.options import RotationMode as CoreRotation
from rocinante.raft.types import Config, HardState, SnapshotMeta
from rocinante.state.machine import StateMachine
from rocinante.storage import Engine, Identity, Loaded, Write, found_identity, open_leveldb, open_memory, unusable

logger = logging.getLogger(__name__)

_ROTATION = {
    RotationMode.OFF: CoreRotation.OFF,
    RotationMode.DELAY_HEARTBEATS: CoreRotation.DELAY_HEARTBEATS,
    RotationMode.TRANSFER: CoreRotation.TRANSFER,
}


@dataclass(slots=True)
class Opened:
    """Everything that a node starts from."""

    engine: Engine
    identity: Identity
    loaded: Loaded
    state: StateMachine
    members: dict[int, Member]
    marker: Marker
    recovering: bool
    """It has no past: see recovery.py."""
    base: tuple[int, int] = (BOOTSTRAP_INDEX, BOOTSTRAP_INDEX)
    """Index and term that this cluster began with."""


def described_members(config: ClusterConfig) -> dict[int, Member]:
    return {item.id: own_member(item) for item in config.controllers}


def own_member(controller: Controller) -> Member:
    """As others know the node that this controller is."""
    return Member(controller.id, controller.name, controller.address, controller.port, controller.rest)


def identity_of(config: ClusterConfig, controller: Controller, lineage: str) -> Identity:
    return Identity(config.cluster_id(lineage), controller.id, config.datacenter, config.name, lineage)


def core_options(config: ClusterConfig) -> RaftOptions:
    """The YAML's times in ticks."""
    timers, rotation = config.timers, config.rotation

    def ticks(milliseconds: int) -> int:
        return max(1, round(milliseconds / timers.tick_ms))

    return RaftOptions(
        election_ticks=ticks(timers.election_ms),
        heartbeat_ticks=ticks(timers.heartbeat_ms),
        lazy_commit=True,
        frugal_reads=True,
        rotation=_ROTATION[rotation.mode],
        rotation_min_ticks=ticks(rotation.min_seconds * 1000),
        rotation_max_ticks=ticks(rotation.max_seconds * 1000),
        rotation_margin_ticks=ticks(max(timers.election_ms // 4, timers.heartbeat_ms)),
    )


def open_node(
    config: ClusterConfig,
    controller: Controller,
    directory: Path,
    *,
    join: bool,
    progress: Callable[[str, int, int], None],
    lineage: str | None = None,
) -> Opened:
    """Open the storage, check and load it, make the state. Raises DataDirectoryError; StorageError: the disk fails.

    `lineage`: of the cluster, where it is known before (lineage.py); None: what the directory says.
    """
    in_memory = config.storage.engine is StorageEngine.MEMORY
    if lineage is None:
        found = None if in_memory else found_identity(directory)
        lineage = found.lineage if found else ""
    identity = identity_of(config, controller, lineage)
    engine: Engine
    if in_memory:
        engine = open_memory(identity)
        marker = Marker(None)
    else:
        engine = open_leveldb(directory, identity, cleanup_on_failure=config.cleanup_on_failure)
        marker = Marker(directory / CATCHING_UP)
    try:
        return _load(config, engine, identity, marker, join=join, progress=progress)
    except (OSError, StorageError) as error:
        engine.abandon()
        raise unusable(directory, error) from error
    except BaseException:
        engine.abandon()
        raise


def _load(
    config: ClusterConfig,
    engine: Engine,
    identity: Identity,
    marker: Marker,
    *,
    join: bool,
    progress: Callable[[str, int, int], None],
) -> Opened:
    began = time.monotonic()
    loaded = engine.log.load(lambda done, total: progress("reading the log", done, total))
    members = described_members(config)
    fresh = loaded.fresh
    if fresh:
        marker.set()
        if not join:
            _bootstrap(engine, members)
            loaded = engine.log.load()
    state = StateMachine()
    if loaded.snapshot.index:
        members |= _restore(engine, loaded.snapshot, state, progress)
    logger.info(
        "%s: %s, snapshot %d, entries to %d, term %d, loaded in %.1f s",
        engine.name,
        "new" if fresh else "found",
        loaded.snapshot.index,
        loaded.snapshot.index + len(loaded.entries),
        loaded.hard_state.term,
        time.monotonic() - began,
    )
    return Opened(
        engine, identity, loaded, state, members, marker, recovering=fresh or marker.exists(), base=marker.base()
    )


def _bootstrap(engine: Engine, members: dict[int, Member]) -> None:
    """The first snapshot of a new cluster; the same on every node."""
    config = Config(voters=frozenset(members))
    meta = SnapshotMeta(BOOTSTRAP_INDEX, BOOTSTRAP_INDEX, config)
    state = StateMachine()
    state.apply(BOOTSTRAP_INDEX, BOOTSTRAP_INDEX, b"")
    sink = engine.snapshots.create(meta)
    sink.write(snapshot_head(members, config))
    with state.freeze() as frozen:
        for chunk in frozen.chunks(limits.SNAPSHOT_CHUNK_BYTES):
            sink.write(chunk)
    sink.finish()
    engine.log.persist([Write(HardState(BOOTSTRAP_INDEX, 0, BOOTSTRAP_INDEX), (), meta)])


def _restore(
    engine: Engine, meta: SnapshotMeta, state: StateMachine, progress: Callable[[str, int, int], None]
) -> dict[int, Member]:
    file = next((item for item in reversed(engine.snapshots.list()) if item.meta.index == meta.index), None)
    if file is None:
        raise DataDirectoryError(
            f"snapshot {meta.index} is missing: wipe the data directory and let the node join again"
        )
    try:
        members, content = split_snapshot(engine.snapshots.read(file, limits.SNAPSHOT_CHUNK_BYTES))
        done = 0

        def counted() -> Iterator[bytes]:
            nonlocal done
            for chunk in content:
                done += len(chunk)
                progress("reading the snapshot", done, file.size_bytes)
                yield chunk

        state.restore(counted())
    except (StorageError, ValueError) as error:
        raise DataDirectoryError(
            f"snapshot {meta.index} is damaged ({error}): wipe the data directory and let the node join again"
        ) from error
    return members


def make_core(opened: Opened, node_id: int, options: RaftOptions) -> Raft:
    loaded = opened.loaded
    return Raft(
        node_id,
        options,
        hard_state=loaded.hard_state,
        snapshot=loaded.snapshot,
        entries=loaded.entries,
        applied=loaded.snapshot.index,
        random=random.Random(random.SystemRandom().getrandbits(64)),
    )
