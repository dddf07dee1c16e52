"""The `rocinante` command: finds the verb, loads only its module, and turns every failure into one line and an exit
status.

Exit status (fixed): 0 done, 1 failed, 2 wrong use, 3 not available now; a node that ends may have its own
(rocinante/errors.py). Each verb is a module of this package that exports a Typer `app` or a function `register(app)`;
the table below gives its line in `rocinante --help`, so that the help loads none of them.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from rocinante.cli.common import (
    Settings,
    common_parameters,
    examples,
    exit_status,
    hint,
)
from rocinante.cli.output import complain, reader_gone, write
from rocinante.errors import (
    EXIT_DATA,
    EXIT_FAILED,
    EXIT_OK,
    EXIT_STORAGE,
    EXIT_TEMPORARY,
    EXIT_USAGE,
    ConfigError,
    DataDirectoryError,
    DirectoryUnavailableError,
    RocinanteError,
    StorageError,
)
from rocinante.version import __version__

if TYPE_CHECKING:
    from typer._click.core import Command, Context
    from typer._click.shell_completion import CompletionItem

__all__ = ["main", "run"]

PROGRAM: Final = "rocinante"


class Verb(NamedTuple):
    module: str
    help: str
    panel: str


_USE: Final = "Use a cluster"
_RUN: Final = "Run nodes"
_MORE: Final = "More"

VERBS: Final[dict[str, Verb]] = {
    "node": Verb("rocinante.cli.node", "Run one node of a cluster.", _RUN),
    "dev": Verb("rocinante.cli.dev", "Run a whole cluster on this machine, in one terminal.", _RUN),
    "config": Verb("rocinante.cli.config", "Check a cluster YAML.", _RUN),
    "status": Verb("rocinante.cli.status", "Show how the nodes are doing.", _USE),
    "members": Verb("rocinante.cli.members", "List, add, promote and remove nodes.", _USE),
    "leader": Verb("rocinante.cli.leader", "Show the leader, or hand leadership over.", _USE),
    "kv": Verb("rocinante.cli.kv", "Put, get, delete, list and watch keys.", _USE),
    "flow": Verb("rocinante.cli.flow", "Put, get, list, watch, rank and delete flows.", _USE),
    "snapshot": Verb("rocinante.cli.snapshot", "Save the state to a file, and restore from it.", _USE),
    "log": Verb("rocinante.cli.log", "Show the last entries of a node's log.", _USE),
    "agent": Verb("rocinante.cli.agent", "Keep the flow table current from this machine's traffic.", _MORE),
    "bench": Verb("rocinante.cli.bench", "Measure a cluster.", _MORE),
    "version": Verb("rocinante.cli.version", "Show the version.", _MORE),
}


def load_verb(name: str) -> Command:
    """The command of a verb, from its module. Raises ImportError when the module or what it needs is missing."""
    module = importlib.import_module(VERBS[name].module)
    app = getattr(module, "app", None)
    if app is None:
        app = typer.Typer()
        module.register(app)
    app._add_completion = False
    command = typer.main.get_command(app)
    if isinstance(command, TyperGroup) and set(command.commands) == {name}:
        command = command.commands[name]  # `register` added the verb itself
    command.name = name
    _unwrap_help(command)
    return command


def _unwrap_help(command: Command) -> None:
    """Join the lines of each paragraph, which are the source's: the terminal has a width of its own."""
    if command.help:
        paragraphs = command.help.split("\n\n")
        command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    if isinstance(command, TyperGroup):
        for inner in command.commands.values():
            _unwrap_help(inner)


class Verbs(TyperGroup):
    """The group of all verbs. While a list of them is wanted (help, completion) it gives their lines from the table."""

    def __init__(self, *, params: Sequence[Any] | None = None, **kwargs: Any) -> None:
        super().__init__(params=[*(params or ()), *common_parameters()], **kwargs)
        self._listing = False

    @contextmanager
    def _list_only(self) -> Iterator[None]:
        self._listing = True
        try:
            yield
        finally:
            self._listing = False

    def list_commands(self, _ctx: Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        verb = VERBS.get(cmd_name)
        if verb is None:
            return None
        if self._listing:
            return TyperCommand(cmd_name, help=verb.help, rich_help_panel=verb.panel)
        if cmd_name not in self.commands:
            try:
                self.commands[cmd_name] = load_verb(cmd_name)
            except ModuleNotFoundError as error:
                ctx.fail(f"'{cmd_name}' needs the Python module {error.name}, which is not installed")
        return self.commands[cmd_name]

    def resolve_command(self, ctx: Context, args: list[str]) -> Any:
        if args and args[0] not in VERBS:
            from difflib import get_close_matches

            close = get_close_matches(args[0], VERBS)
            ctx.fail(f"no such verb {args[0]!r}" + (f", did you mean {close[0]!r}?" if close else ""))
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Context, formatter: Any) -> None:
        with self._list_only():
            super().format_help(ctx, formatter)

    def shell_complete(self, ctx: Context, incomplete: str) -> list[CompletionItem]:
        with self._list_only():
            return super().shell_complete(ctx, incomplete)


app = typer.Typer(
    cls=Verbs,
    name=PROGRAM,
    help="TCP/UDP flow state and keys, agreed by Raft, shared between load balancers, firewalls and data centres.",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    epilog=examples(
        "rocinante dev",
        "rocinante -c 127.0.0.1:35001 status",
        "rocinante kv put greeting hello",
        "rocinante flow list --state ESTABLISHED -o json",
    ),
)


def _show_version(value: bool) -> None:
    if value:
        write(f"{PROGRAM} {__version__}\n")
        raise typer.Exit(EXIT_OK)


@app.callback()
def root(
    ctx: typer.Context,
    version: Annotated[  # noqa: ARG001 - its callback does it
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """The options before the verb are kept in the context by their callbacks."""
    if not isinstance(ctx.obj, Settings):
        ctx.obj = Settings()


def _plain_help_off_terminals() -> None:
    """Typer colours its help where a CI system's variables are set, terminal or not; and so do NO_COLOR's opposites."""
    from typer import rich_utils

    if not sys.stdout.isatty():
        rich_utils.FORCE_TERMINAL = False


def run(args: Sequence[str] | None = None) -> int:
    """Run one command line; the exit status. Never raises but for what ends the process itself."""
    arguments = list(sys.argv[1:] if args is None else args)
    _plain_help_off_terminals()
    command = typer.main.get_command(app)
    try:
        result = command.main(arguments or ["--help"], prog_name=PROGRAM, standalone_mode=False)
        sys.stdout.flush()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else EXIT_FAILED if ended.code else EXIT_OK
    except BrokenPipeError:
        return _quiet_end()
    except Exception as error:  # noqa: BLE001 - the top of the command: whatever it is, the user gets a line, not a stack
        return _failed(error)
    if not arguments:
        return EXIT_USAGE
    return result if isinstance(result, int) else EXIT_OK


def _quiet_end() -> int:
    try:
        reader_gone()
    except typer.Exit:
        return EXIT_OK


def _failed(error: Exception) -> int:
    """One line (or, of a configuration, one line a mistake) on standard error, and the exit status."""
    if isinstance(error, typer.TyperException):
        return _wrong_use(error)
    if isinstance(error, RocinanteError):
        advice = hint(error)
        complain(f"{error.message.rstrip('.')}" + (f"; {advice}" if advice else ""))
        return exit_status(error)
    if isinstance(error, ConfigError):
        for problem in error.problems:
            complain(problem)
        return EXIT_USAGE
    if isinstance(error, StorageError | DataDirectoryError):
        complain(str(error))
        if isinstance(error, StorageError):
            return EXIT_STORAGE
        return EXIT_TEMPORARY if isinstance(error, DirectoryUnavailableError) else EXIT_DATA
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        complain(f"{where}{error.strerror or error}")
        return EXIT_FAILED
    if isinstance(error, typer.Abort):
        complain("aborted")
        return EXIT_FAILED
    complain(f"internal error, please report it: {type(error).__name__}: {error}")
    return EXIT_FAILED


def _wrong_use(error: typer.TyperException) -> int:
    ctx = getattr(error, "ctx", None)
    path = ctx.command_path if ctx is not None else PROGRAM
    verb = path.removeprefix(PROGRAM).strip()
    message = error.format_message().rstrip(".").replace("Value error, ", "") or "Missing command"
    complain(f"{verb + ': ' if verb else ''}{message}; see `{path} --help`")
    return error.exit_code


def _open_what_is_closed() -> None:
    """A shell may start a command without some of the standard streams (`>&-`); Python then has None in their place."""
    if sys.stdin is None:
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 - for the life of the process
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115


def main() -> None:
    """The entry point. A second Ctrl-C while ending ends at once."""
    _open_what_is_closed()
    try:
        status = run()
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    raise SystemExit(status)


if __name__ == "__main__":
    main()
