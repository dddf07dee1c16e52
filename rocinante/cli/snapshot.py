"""`rocinante snapshot`: the whole state in a file, and a cluster from a file."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from rocinante.cli.common import ClusterCommand, ClusterGroup, OutputCommand, examples, first_answer, settings
from rocinante.cli.output import complain, console, say, say_json, shown
from rocinante.errors import ConfigError, FailedPrecondition, InvalidArgument, NotFound
from rocinante.identity import format_id
from rocinante.limits import LINEAGE_CHARACTERS_MAX, RESTORE_SKIP
from rocinante.snapshot_file import SavedSnapshot, SnapshotWriter, read_content, read_header

if TYPE_CHECKING:
    from collections.abc import Callable

    from rocinante.config import ClusterConfig, Controller
    from rocinante.state.machine import StateMachine

__all__ = ["app"]

app = typer.Typer(
    cls=ClusterGroup,
    help="Save the state to a file, check such a file, and restore a cluster from it.",
    no_args_is_help=True,
)

_LINEAGE: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._:-]{{0,{LINEAGE_CHARACTERS_MAX - 1}}}")
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A file that `snapshot save` wrote.")]


@app.command(
    cls=ClusterCommand,
    epilog=examples(
        "rocinante snapshot save backup.snap",
        "rocinante snapshot save -c 127.0.0.1:35002 backup-$(date +%F).snap",
        "rocinante snapshot save last.snap --data-dir /var/lib/rocinante/test-node2",
    ),
)
def save(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it.")],
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir",
            metavar="DIR",
            help="Take it from the data directory of a node that is stopped, not from a running cluster: when a"
            " majority is lost for good.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE when it is there.")] = False,
) -> None:
    """Save the whole state of a running cluster to a file, as the first node that --cluster names and
    that answers has it.

    The file is checked by its digest and by loading it before it gets its name: one that is there can be restored.
    """
    with SnapshotWriter(file, replace=force) as writer:
        if data_dir is not None:
            saved, state = _save_left_behind(data_dir, writer)
        else:
            saved, state = _save_online(ctx, file, writer)
    _report(ctx, "saved to", file, saved, state)


def _save_online(ctx: typer.Context, file: Path, writer: SnapshotWriter) -> tuple[SavedSnapshot, StateMachine]:
    options = settings(ctx)
    with options.client() as client:
        node, status = first_answer(client, options.endpoints())
        backup = client.admin.save(endpoint=node)
        with _progress("saving") as advance:
            for chunk in backup:
                writer.write(chunk)
                advance(writer.size_bytes, backup.total_bytes)
    state = _checked(writer.content(), writer.size_bytes, str(file))
    if backup.index and (backup.index, backup.term) != state.position:
        raise FailedPrecondition(
            f"the node announced the state after entry {backup.index} and sent that of {state.position.index}"
        )
    saved = writer.finish(
        cluster=status.cluster,
        datacenter=status.datacenter,
        index=state.position.index,
        term=state.position.term,
        lineage=status.lineage,
        taken_ms=_now_ms(),
    )
    return saved, state


def _save_left_behind(data_dir: Path, writer: SnapshotWriter) -> tuple[SavedSnapshot, StateMachine]:
    """From the disk of a stopped node: the state that it had, and all of its log behind it."""
    from rocinante.node.restoring import left_behind

    with _progress("reading") as advance:
        found = left_behind(data_dir, advance)
    identity, state = found.identity, found.state
    if not found.caught_up:
        complain(
            "this node had started without data and had not caught up when it stopped: what it never got is missing;"
            " save from another one if there is one"
        )
    if found.unconfirmed:
        complain(
            f"the last {found.unconfirmed} entries were not known to be committed on this node; they are saved, since a"
            " lost leader may have acknowledged them"
        )
    writer.write(found.head)
    with state.freeze() as frozen:
        for chunk in frozen.chunks():
            writer.write(chunk)
    saved = writer.finish(
        cluster=identity.cluster or format_id(identity.cluster_id),
        datacenter=identity.datacenter,
        index=state.position.index,
        term=state.position.term,
        lineage=identity.lineage,
        taken_ms=_now_ms(),
    )
    return saved, state


@app.command(cls=OutputCommand, epilog=examples("rocinante snapshot verify backup.snap"))
def verify(ctx: typer.Context, file: FileArgument) -> None:
    """Check a saved file, with no cluster: that it is whole, and that a cluster can begin with it."""
    saved = read_header(file)
    state = _checked(read_content(file, saved), saved.bytes, str(file), saved)
    _report(ctx, "whole:", file, saved, state)


@app.command(
    cls=OutputCommand,
    epilog=examples(
        "rocinante snapshot restore backup.snap --config cluster.yaml --name node1 --lineage 2026-11-23",
        "rocinante snapshot restore backup.snap --config cluster.yaml",
    ),
)
def restore(
    ctx: typer.Context,
    file: FileArgument,
    config: Annotated[Path, typer.Option("--config", metavar="FILE", help="The YAML of the cluster to be.")],
    name: Annotated[
        str | None,
        typer.Option(
            "--name", metavar="NAME", help="Only this controller's directory (default: one for each, on this host)."
        ),
    ] = None,
    lineage: Annotated[
        str | None,
        typer.Option(
            "--lineage",
            metavar="WORD",
            help="A word that this cluster never had, the same for all its nodes (with --name it must be given).",
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir",
            metavar="DIR",
            help="With --name: the directory to make; without: where to make them all, instead of the YAML's dataDir.",
        ),
    ] = None,
    skip: Annotated[
        int,
        typer.Option(
            "--skip",
            metavar="N",
            min=0,
            max=2**62,
            help="Revisions and log indexes to leave out, more than the lost cluster made after the save.",
        ),
    ] = RESTORE_SKIP,
    force: Annotated[
        bool, typer.Option("--force", help="Move a directory that is there aside (it is never deleted).")
    ] = False,
) -> None:
    """Make the data directories of a new cluster from a saved file, with no node of it running.

    The members are those of the YAML, which need not be those that the file was saved from. Each host gets its
    directory by the same command with the same --lineage, before any node is started. The new cluster has an id of its
    own: nodes from before the restore, and those restored under another word, are refused.
    """
    saved = read_header(file)
    found, chosen = _chosen(config, name)
    word = _check_lineage(lineage, saved, alone=name is None or len(found.controllers) == 1)
    if saved.datacenter != found.datacenter:
        raise FailedPrecondition(
            f"{file} is of datacenter {saved.datacenter!r}, which owns its flows; {config} says {found.datacenter!r}:"
            f" set datacenter: {saved.datacenter} there"
        )
    directories = {controller.name: _directory(found, controller, data_dir, name) for controller in chosen}
    if not force:
        _check_free(directories.values())
    state = _checked(read_content(file, saved), saved.bytes, str(file), saved)
    counted = _counts(state)
    state.skip(skip, skip)
    moved = _make(found, chosen, directories, state, word, force=force)
    _report_restored(ctx, list(directories.values()), moved, saved, counted, found.cluster_id(word), word)


def _chosen(config: Path, name: str | None) -> tuple[ClusterConfig, tuple[Controller, ...]]:
    """The cluster, and whose directories are to be made."""
    from rocinante.config import StorageEngine, load_config

    found, _ = load_config(config)
    if found.storage.engine is StorageEngine.MEMORY:
        raise ConfigError(
            [f"{config}: cluster.storage.engine: memory keeps nothing on disk, so nothing can be restored"]
        )
    if name is None:
        return found, found.controllers
    controller = found.controller(name)
    if controller is None:
        known = ", ".join(str(controller.name) for controller in found.controllers)
        raise NotFound(f"{config} has no controller {name!r}; there are {known}")
    return found, (controller,)


def _check_lineage(lineage: str | None, saved: SavedSnapshot, *, alone: bool) -> str:
    """The word that tells the new cluster from all that had its name before. `alone`: nobody else has to know it."""
    today = time.strftime("%Y-%m-%dT%H%M%SZ", time.gmtime())
    if lineage is None:
        if not alone:
            raise InvalidArgument(
                "--lineage",
                f"is missing: choose a word that this cluster never had, and use it for every node of it, such as"
                f" --lineage {today}",
            )
        return f"{today}-{secrets.token_hex(2)}"
    if not _LINEAGE.fullmatch(lineage):
        raise InvalidArgument(
            "--lineage", f"{lineage[:80]!r} is not 1 to {LINEAGE_CHARACTERS_MAX} letters, digits and . _ : -"
        )
    if lineage == saved.lineage:
        raise InvalidArgument(
            "--lineage", f"{lineage!r} is that of the cluster that was saved: its nodes could mix in; choose another"
        )
    return lineage


def _directory(config: ClusterConfig, controller: Controller, data_dir: Path | None, name: str | None) -> Path:
    usual = config.data_directory(controller)
    if data_dir is None:
        return usual.absolute()
    return (data_dir if name is not None else data_dir / usual.name).absolute()


def _check_free(directories: Iterable[Path]) -> None:
    for directory in directories:
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise FailedPrecondition(
                f"{directory} is not empty: a restore makes a new directory; say --force to have it moved aside"
            )


def _make(
    config: ClusterConfig,
    chosen: tuple[Controller, ...],
    directories: dict[str, Path],
    state: StateMachine,
    lineage: str,
    *,
    force: bool,
) -> list[Path]:
    """All or none. Returns what was moved aside."""
    from rocinante.node.restoring import make_directory, put_aside

    made: list[Path] = []
    moved: dict[Path, Path] = {}
    try:
        for controller in chosen:
            directory = directories[controller.name]
            aside = put_aside(directory, lineage) if force else None
            if aside is not None:
                moved[directory] = aside
            make_directory(directory, config, controller, state, lineage, aside=aside)
            made.append(directory)
    except BaseException:
        for directory in made:
            shutil.rmtree(directory, ignore_errors=True)
        for directory, aside in moved.items():
            aside.rename(directory)
        raise
    return list(moved.values())


def _checked(chunks: Iterable[bytes], total: int, where: str, saved: SavedSnapshot | None = None) -> StateMachine:
    """The state in a snapshot's content, which is loaded as a node would, and is the one that the header says."""
    from rocinante.node.restoring import state_of

    with _progress("checking") as advance:
        state = state_of(_counted(chunks, total, advance), where)
    if saved is not None and (saved.index, saved.term) != state.position:
        raise FailedPrecondition(
            f"{where}: the header says entry {saved.index}, the state is that of {state.position.index}; use another"
            " copy"
        )
    return state


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


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


def _counts(state: StateMachine) -> dict[str, int]:
    return {"keys": state.keys_count(), "flows": state.flows_count(), "revision": state.revision}


def _line(path: Path, saved: SavedSnapshot, counts: dict[str, int]) -> str:
    return (
        f"{shown(str(path))}: entry {saved.index} of term {saved.term}, {counts['keys']} keys, {counts['flows']} flows,"
        f" {saved.bytes} bytes, digest {saved.digest[:16]}…"
    )


def _report(ctx: typer.Context, done: str, path: Path, saved: SavedSnapshot, state: StateMachine) -> None:
    counts = _counts(state)
    if settings(ctx).json:
        say_json({"path": os.fspath(path), **asdict(saved), **counts})
        return
    say(f"{done} {_line(path, saved, counts)}")


def _report_restored(
    ctx: typer.Context,
    directories: list[Path],
    moved: list[Path],
    saved: SavedSnapshot,
    counts: dict[str, int],
    cluster_id: int,
    lineage: str,
) -> None:
    if settings(ctx).json:
        value: dict[str, Any] = {
            "paths": [os.fspath(path) for path in directories],
            "moved": [os.fspath(path) for path in moved],
            **asdict(saved),
            **counts,
            "lineage": lineage,
            "cluster_id": format_id(cluster_id),
        }
        say_json(value)
        return
    for path in moved:
        say(f"what was there is now {shown(str(path))}")
    for path in directories:
        say(f"restored to {_line(path, saved, counts)}")
    say(f"the new cluster is {format_id(cluster_id)}, lineage {lineage}: it has nothing to do with nodes of any other")
