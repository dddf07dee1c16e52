"""`rocinante snapshot`: the whole state in a file, and a cluster from a file."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rocinante.cli.common import ClusterCommand, ClusterGroup, OutputCommand, examples, first_answer, settings
from rocinante.cli.output import console, say, say_json, shown
from rocinante.cli.snapshot_file import SavedSnapshot, SnapshotWriter, read_content, read_header
from rocinante.errors import ConfigError, FailedPrecondition, NotFound, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rocinante.config import ClusterConfig, Controller
    from rocinante.state.machine import StateMachine

__all__ = ["app"]

app = typer.Typer(cls=ClusterGroup, help="Save the state to a file, and restore from it.", no_args_is_help=True)


@app.command(
    cls=ClusterCommand,
    epilog=examples(
        "rocinante snapshot save backup.snap",
        "rocinante snapshot save -c 127.0.0.1:35002 backup-$(date +%F).snap",
    ),
)
def save(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it.")],
    force: Annotated[bool, typer.Option("--force", help="Replace FILE when it is there.")] = False,
) -> None:
    """Save the whole state of a running cluster to a file, as the first node that --cluster names and
    that answers has it.

    The file is checked by its digest and by loading it before it gets its name: one that is there can be restored.
    """
    if file.exists() and not force:
        raise FailedPrecondition(f"{file} is there already: choose another name, or say --force")
    options = settings(ctx)
    with options.client() as client, SnapshotWriter(file) as writer:
        node, status = first_answer(client, options.endpoints())
        backup = client.admin.save(endpoint=node)
        with _progress("saving") as advance:
            for chunk in backup:
                writer.write(chunk)
                advance(writer.size_bytes, backup.total_bytes)
        with _progress("checking") as advance:
            state, index, term = _loaded(_counted(writer.content(), writer.size_bytes, advance), str(file))
        if backup.index and (backup.index, backup.term) != (index, term):
            raise FailedPrecondition(
                f"the node announced the state after entry {backup.index} and sent that of {index}"
            )
        saved = writer.finish(cluster=status.cluster, datacenter=status.datacenter, index=index, term=term)
    _report(ctx, "saved to", file, saved, state)


@app.command(
    cls=OutputCommand,
    epilog=examples(
        "rocinante snapshot restore backup.snap --config cluster.yaml --name node1",
        "rocinante snapshot restore backup.snap --config cluster.yaml --name node2 --data-dir /var/lib/rocinante/new2",
    ),
)
def restore(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `snapshot save` wrote.")],
    config: Annotated[Path, typer.Option("--config", metavar="FILE", help="The YAML of the cluster to be.")],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Which controller of it this node is.")],
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", metavar="DIR", help="The directory to make, instead of the YAML's.")
    ] = None,
) -> None:
    """Make the data directory of one node from a saved file, with no node running.

    Do it for every controller of the YAML, with the same file, before any of them is started: the members of the new
    cluster are those of the YAML. Never restore one node of a cluster that runs: wipe its directory instead, and let it
    join again.
    """
    found, controller = _controller(config, name)
    directory = data_dir if data_dir is not None else found.data_directory(controller)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise FailedPrecondition(f"{directory} is not empty: a restore makes a new directory; move it away first")
    saved = read_header(file)
    if (saved.cluster, saved.datacenter) != (found.name, found.datacenter):
        raise FailedPrecondition(
            f"{file} is of cluster {saved.cluster!r} in {saved.datacenter!r}, {config} describes {found.name!r} in"
            f" {found.datacenter!r}: use the YAML of that cluster"
        )
    with _progress("checking") as advance:
        state, index, term = _loaded(_counted(read_content(file, saved), saved.bytes, advance), str(file))
    if (index, term) != (saved.index, saved.term):
        raise FailedPrecondition(f"{file}: the header says entry {saved.index}, the state is that of {index}")
    _make_directory(directory, found, controller, file, saved)
    _report(ctx, "restored to", directory, saved, state)


def _controller(config: Path, name: str) -> tuple[ClusterConfig, Controller]:
    from rocinante.config import StorageEngine, load_config

    found, _ = load_config(config)
    controller = found.controller(name)
    if controller is None:
        known = ", ".join(str(controller.name) for controller in found.controllers)
        raise NotFound(f"{config} has no controller {name!r}; there are {known}")
    if found.storage.engine is StorageEngine.MEMORY:
        raise ConfigError(
            [f"{config}: cluster.storage.engine: memory keeps nothing on disk, so nothing can be restored"]
        )
    return found, controller


def _loaded(chunks: Iterable[bytes], where: str) -> tuple[StateMachine, int, int]:
    """The state in a snapshot's content, which proves that it can be used. Raises FailedPrecondition."""
    from rocinante.node.directory import split_snapshot
    from rocinante.state.machine import StateMachine

    state = StateMachine()
    try:
        _, content = split_snapshot(chunks)
        position = state.restore(content)
    except (StorageError, ValueError) as error:
        raise FailedPrecondition(f"{where}: the content cannot be used: {error}") from error
    return state, position.index, position.term


def _make_directory(
    directory: Path, config: ClusterConfig, controller: Controller, file: Path, saved: SavedSnapshot
) -> None:
    """The data directory, whole or not at all. Raises StorageError, DataDirectoryError."""
    from rocinante.node.directory import snapshot_head, split_snapshot
    from rocinante.node.opening import described_members
    from rocinante.raft.types import Config, HardState, SnapshotMeta
    from rocinante.storage import Identity, Write, open_leveldb

    members = described_members(config)
    voters = Config(voters=frozenset(members))
    meta = SnapshotMeta(saved.index, saved.term, voters)
    made = not directory.exists()
    try:
        engine = open_leveldb(
            directory, Identity(config.cluster_id, controller.id, config.datacenter), cleanup_on_failure=True
        )
        try:
            engine.log.load()
            sink = engine.snapshots.create(meta)
            sink.write(snapshot_head(members, voters))
            _, content = split_snapshot(read_content(file, saved))
            for chunk in content:
                sink.write(chunk)
            sink.finish()
            engine.log.persist([Write(HardState(saved.term, 0, saved.index), (), meta)])
        finally:
            engine.close()
    except BaseException:
        _remove_made(directory, made)
        raise


def _remove_made(directory: Path, made: bool) -> None:
    if made:
        shutil.rmtree(directory, ignore_errors=True)
        return
    for path in directory.iterdir():
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _counted(chunks: Iterable[bytes], total: int, advance: Callable[[int, int], None]) -> Iterator[bytes]:
    done = 0
    for chunk in chunks:
        done += len(chunk)
        advance(done, total)
        yield chunk


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error where that is a terminal, else nothing."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn(f"{what:<9}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console(sys.stderr), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)


def _report(ctx: typer.Context, done: str, path: Path, saved: SavedSnapshot, state: StateMachine) -> None:
    counts = {"keys": state.keys_count(), "flows": state.flows_count(), "revision": state.revision}
    if settings(ctx).json:
        value: dict[str, Any] = {"path": os.fspath(path), **asdict(saved), **counts}
        say_json(value)
        return
    say(
        f"{done} {shown(str(path))}: entry {saved.index} of term {saved.term}, {counts['keys']} keys,"
        f" {counts['flows']} flows, {saved.bytes} bytes, digest {saved.digest[:16]}…"
    )
