"""What all verbs share: the options that say which cluster, how to print and how long to wait, and the client made from
them.

The options stand before the verb or after it (`rocinante -o json status`, `rocinante status -o json`); what stands
later counts. Verbs get them by `cls=ClusterCommand` (cluster, config, output, timeout) or `cls=OutputCommand` (output
only), and read them by `settings(ctx)`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from rocinante.cli.output import Output
from rocinante.errors import (
    EXIT_FAILED,
    EXIT_UNAVAILABLE,
    EXIT_USAGE,
    AlreadyExists,
    InvalidArgument,
    OutcomeUnknown,
    ResourceExhausted,
    RocinanteError,
    Unauthenticated,
    Unavailable,
)
from rocinante.limits import CLIENT_TIMEOUT_S, CLIENT_TIMEOUT_S_MAX, CLIENT_TRY_TIMEOUT_S

if TYPE_CHECKING:
    from rocinante.client import Client, Status

__all__ = [
    "CLUSTER_VARIABLE",
    "ClusterCommand",
    "ClusterGroup",
    "OutputCommand",
    "Settings",
    "common_parameters",
    "examples",
    "exit_status",
    "first_answer",
    "hint",
    "settings",
]

CLUSTER_VARIABLE: Final = "ROCINANTE_CLUSTER"
DEFAULT_CLUSTER: Final = "127.0.0.1:35001,127.0.0.1:35002,127.0.0.1:35003"
"""The nodes of `rocinante dev` and of the example YAML: any one of them may have been killed."""
DEFAULT_SHOWN: Final = "127.0.0.1, ports 35001 to 35003"
HOSTS_TOKENS: Final = Path("/etc/rocinante/tokens")
"""Where Ansible puts a node's."""
_PANEL: Final = "Cluster and output"


@dataclass(slots=True)
class Settings:
    """The common options of one run; None: not given."""

    cluster: str | None = None
    config: Path | None = None
    output: Output | None = None
    timeout_s: float | None = None

    @property
    def json(self) -> bool:
        return self.output is Output.JSON

    def endpoints(self) -> tuple[str, ...]:
        """The nodes to ask: of --cluster, else of --config, else of the environment, else this host's first three.

        Raises InvalidArgument, ConfigError.
        """
        from rocinante.client.router import parse_endpoints

        if self.config is None:
            _take_token_of(HOSTS_TOKENS)
        if self.cluster is not None:
            if self.config is not None:
                raise InvalidArgument("--config", "is given together with --cluster: one of them names the nodes")
            return parse_endpoints(self.cluster)
        if self.config is not None:
            from rocinante.config import load_config
            from rocinante.identity import endpoint

            config, _ = load_config(self.config)
            _take_token_of(config.auth.token_file)
            return tuple(endpoint(controller.address, controller.port) for controller in config.controllers)
        return parse_endpoints(os.environ.get(CLUSTER_VARIABLE) or DEFAULT_CLUSTER)

    def client(self) -> Client:
        """A client of the cluster; use it as a context manager."""
        from rocinante.client import Client

        return Client(self.endpoints(), timeout_s=self.timeout_s or CLIENT_TIMEOUT_S)


def _take_token_of(file: Path) -> None:
    """A node's tokens, of which whoever may read them presents the first, if he was given none. Raises ConfigError."""
    from rocinante.tokens import VARIABLE, client_token

    if VARIABLE not in os.environ and file.is_file() and os.access(file, os.R_OK):
        os.environ[VARIABLE] = client_token(file)


def _take_token(ctx: typer.Context, value: Path | None) -> Path | None:
    """Into the environment: from there all clients take it, those of other processes of a benchmark too."""
    if value is not None and not ctx.resilient_parsing:
        from rocinante.errors import ConfigError
        from rocinante.tokens import VARIABLE, client_token

        try:
            os.environ[VARIABLE] = client_token(value)
        except ConfigError as error:
            raise typer.BadParameter("; ".join(error.problems), ctx=ctx) from None
    return value


def settings(ctx: typer.Context) -> Settings:
    """The settings of this run, from any context in it."""
    if not isinstance(ctx.obj, Settings):
        ctx.obj = ctx.find_root().obj if isinstance(ctx.find_root().obj, Settings) else Settings()
    found: Settings = ctx.obj
    return found


def first_answer(client: Client, endpoints: Sequence[str]) -> tuple[str, Status]:
    """The first of these nodes that answers, under the address it was reached by, and what it says of itself.

    Raises Unavailable when none does.
    """
    failures: list[str] = []
    timeout_s = CLIENT_TRY_TIMEOUT_S if len(endpoints) > 1 else None
    for endpoint in endpoints:
        try:
            return endpoint, client.cluster.status(endpoint, timeout_s=timeout_s)
        except Unavailable as error:
            failures.append(error.message)
    raise Unavailable("; ".join(failures))


def _keep(name: str) -> Callable[[typer.Context, Any], Any]:
    def keep(ctx: typer.Context, value: Any) -> Any:
        if value is not None and not ctx.resilient_parsing:
            setattr(settings(ctx), name, value)
        return value

    return keep


def _check_timeout(ctx: typer.Context, value: float | None) -> float | None:
    if value is not None and not 0 < value <= CLIENT_TIMEOUT_S_MAX:
        raise typer.BadParameter(f"{value:g} is not above 0 and at most {CLIENT_TIMEOUT_S_MAX:.0f} seconds", ctx=ctx)
    kept: float | None = _keep("timeout_s")(ctx, value)
    return kept


ClusterOption = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        "-c",
        metavar="HOST:PORT[,HOST:PORT]",
        help=f"gRPC addresses of one or more nodes (environment: {CLUSTER_VARIABLE}; default {DEFAULT_SHOWN}).",
        callback=_keep("cluster"),
        expose_value=False,
        rich_help_panel=_PANEL,
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Take the nodes from this cluster YAML.",
        callback=_keep("config"),
        expose_value=False,
        rich_help_panel=_PANEL,
    ),
]
TokenFileOption = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="Present the first access token of this file (default: that of ROCINANTE_TOKEN, of --config's "
        f"nodes, or of {HOSTS_TOKENS}, where it may be read).",
        callback=_take_token,
        expose_value=False,
        rich_help_panel=_PANEL,
    ),
]
OutputOption = Annotated[
    Output | None,
    typer.Option(
        "--output",
        "-o",
        help="A table for people, or JSON for programs (default table).",
        callback=_keep("output"),
        expose_value=False,
        rich_help_panel=_PANEL,
    ),
]
TimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        help=f"How long a request may take with all its tries (default {CLIENT_TIMEOUT_S:g}).",
        callback=_check_timeout,
        expose_value=False,
        rich_help_panel=_PANEL,
    ),
]


def _cluster_and_output(  # their callbacks keep the values, so that the function gets none
    cluster: ClusterOption = None,
    config: ConfigOption = None,
    token_file: TokenFileOption = None,
    output: OutputOption = None,
    timeout: TimeoutOption = None,
) -> None: ...


def _output_only(output: OutputOption = None) -> None: ...


def _parameters(function: Callable[..., None]) -> list[Any]:
    """The parsed form of a function's options, as Typer makes it."""
    carrier = typer.Typer(add_completion=False)
    carrier.command()(function)
    return [parameter for parameter in typer.main.get_command(carrier).params if parameter.name != "help"]


def common_parameters() -> list[Any]:
    """The options that say which cluster, how to print and how long to wait, for a command's `params`."""
    return _parameters(_cluster_and_output)


class ClusterCommand(TyperCommand):
    """A command that takes the common options after the verb too."""

    def __init__(self, *args: Any, params: Sequence[Any] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, params=[*(params or ()), *common_parameters()], **kwargs)


class ClusterGroup(TyperGroup):
    """A group of commands that takes the common options before its command too."""

    def __init__(self, *, params: Sequence[Any] | None = None, **kwargs: Any) -> None:
        super().__init__(params=[*(params or ()), *common_parameters()], **kwargs)


class OutputCommand(TyperCommand):
    """A command that asks no cluster; of the common options it takes `-o`."""

    def __init__(self, *args: Any, params: Sequence[Any] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, params=[*(params or ()), *_parameters(_output_only)], **kwargs)


def examples(*lines: str) -> str:
    """The end of a command's help."""
    return "\n".join(("Examples:", *(f"  {line}" for line in lines)))


def exit_status(error: RocinanteError) -> int:
    """1 failed, 2 wrong use, 3 not available now."""
    if isinstance(error, Unavailable | OutcomeUnknown | ResourceExhausted):
        return EXIT_UNAVAILABLE
    return EXIT_USAGE if isinstance(error, InvalidArgument) else EXIT_FAILED


def hint(error: RocinanteError) -> str:
    """What to do next, where the message does not say it."""
    if isinstance(error, OutcomeUnknown):
        return "read it back before you repeat it"
    if isinstance(error, Unavailable):
        return "check that the nodes run (rocinante status), or name others with --cluster"
    if isinstance(error, ResourceExhausted):
        return "try again later"
    if isinstance(error, Unauthenticated):
        return "give --token-file FILE, or set ROCINANTE_TOKEN"
    if isinstance(error, AlreadyExists):
        return "see `rocinante members`"
    return ""
