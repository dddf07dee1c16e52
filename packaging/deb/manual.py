"""Manual pages and shell completions, made from the command's own help: `python manual.py DIRECTORY`.

    man/rocinante.1, man/rocinante-VERB.1      what `rocinante VERB --help` says, of its subcommands too
    bash, zsh, fish                            the completions that `rocinante` itself answers

Nothing is written here that the help does not say, but for the frame.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import typer
from typer._completion_shared import get_completion_script

from rocinante.cli.main import PROGRAM, VERBS, app
from rocinante.version import __version__

EXIT_STATUS: Final = (
    ("0", "Done."),
    ("1", "Failed."),
    ("2", "Wrong use, or a wrong configuration."),
    ("3", "Not available now: try again."),
    ("65", "The data directory is damaged, another node's, or of a newer format (rocinante node)."),
    ("74", "The disk failed (rocinante node)."),
    ("75", "The data directory cannot be used now, another process has it or there is no room: try again."),
)


def main() -> None:
    out = Path(sys.argv[1])
    (out / "man").mkdir(parents=True)
    root = typer.main.get_command(app)
    context = root.make_context(PROGRAM, [], resilient_parsing=True)
    (out / "man" / f"{PROGRAM}.1").write_text(overview(root, context))
    for name in VERBS:
        verb = root.get_command(context, name)  # type: ignore[attr-defined]  # it is a group
        (out / "man" / f"{PROGRAM}-{name}.1").write_text(page(name, verb, context))
    for shell in ("bash", "zsh", "fish"):
        script = get_completion_script(prog_name=PROGRAM, complete_var=f"_{PROGRAM.upper()}_COMPLETE", shell=shell)
        (out / shell).write_text(script + "\n")


def overview(root: Any, context: Any) -> str:
    lines = [
        *head(PROGRAM, root.help),
        ".SH SYNOPSIS",
        f".B {PROGRAM}",
        "[\\fIoptions\\fR] \\fIverb\\fR ...",
        ".SH VERBS",
    ]
    for name, verb in VERBS.items():
        lines += [".TP", f".BR {PROGRAM}\\-{name} (1)", roff(verb.help)]
    lines += [".SH OPTIONS", *parameters(root, context), *examples(root.epilog), ".SH EXIT STATUS"]
    for number, meaning in EXIT_STATUS:
        lines += [".TP", f".B {number}", roff(meaning)]
    lines += [
        ".SH FILES", ".TP", ".I /etc/rocinante/rocinante.yaml", "The cluster, as the units of systemd read it.",
        ".TP", ".I /usr/share/doc/rocinante/examples/rocinante.yaml", "Every option of it, with its default and unit.",
        ".TP", ".I /var/lib/rocinante/NAME", "The data of a node.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def page(name: str, verb: Any, parent: Any) -> str:
    """One verb, with all that is below it."""
    context = type(parent)(verb, info_name=name, parent=parent)
    first = (verb.help or "").partition("\n\n")[0]
    lines = head(f"{PROGRAM}-{name}", first or VERBS[name].help)
    lines += [".SH SYNOPSIS", *synopsis(verb, context), ".SH DESCRIPTION", *paragraphs(verb.help), *body(verb, context)]
    for below, inner in subcommands(verb, context):
        lines += [f".SH {roff(below.command_path.upper())}", *synopsis(inner, below), *paragraphs(inner.help)]
        lines += body(inner, below)
    lines += [".SH SEE ALSO", f".BR {PROGRAM} (1)"]
    return "\n".join(lines) + "\n"


def subcommands(command: Any, context: Any) -> Iterator[tuple[Any, Any]]:
    """All commands below this one, with their contexts, in depth."""
    for name in command.list_commands(context) if hasattr(command, "list_commands") else ():
        inner = command.get_command(context, name)
        below = type(context)(inner, info_name=name, parent=context)
        yield below, inner
        yield from subcommands(inner, below)


def body(command: Any, context: Any) -> list[str]:
    return [".PP", *parameters(command, context), *examples(command.epilog)]


def head(name: str, line: str) -> list[str]:
    return [
        f'.TH "{roff(name.upper())}" 1 "" "Rocinante {__version__}" "Rocinante"',
        ".SH NAME", f"{roff(name)} \\- {roff(line.rstrip('.'))}",
    ]  # fmt: skip


def synopsis(command: Any, context: Any) -> list[str]:
    pieces = " ".join(command.collect_usage_pieces(context))
    return [f".B {roff(context.command_path)}", roff(pieces)]


def paragraphs(text: str | None) -> list[str]:
    lines: list[str] = []
    for paragraph in inspect.cleandoc(text or "").split("\n\n"):
        lines += [".PP", roff(" ".join(paragraph.split()))]
    return lines


def parameters(command: Any, context: Any) -> list[str]:
    """Arguments and options, as the help lists them."""
    lines = []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            lines += [".TP", f"\\fB{roff(record[0])}\\fR", roff(" ".join(record[1].split())) or "\\&"]
    return lines


def examples(epilog: str | None) -> list[str]:
    if not epilog:
        return []
    lines = [roff(line.strip()) for line in epilog.splitlines()[1:]]
    return [".PP", "Examples:", ".PP", ".nf", ".RS", *lines, ".RE", ".fi"]


def roff(text: str) -> str:
    """Text in which roff sees no commands. A hyphen of an option is one that can be copied."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("…", "...").replace("·", "\\(bu")
    return f"\\&{text}" if text.startswith(".") else text


if __name__ == "__main__":
    main()
