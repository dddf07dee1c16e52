"""Plays golden files: scripts (a verb, `----`, what came of it) and tables (`what => result`, a line each).

Both are played into the text that they would be now. The tests compare it with the file, or write it there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from .script import Stage
from .tables import row

HERE: Final = Path(__file__).parent
FILES: Final = {
    **{path.stem: path for path in sorted((HERE / "scripts").glob("*.txt"))},
    **{f"tables/{path.stem}": path for path in sorted((HERE / "tables").glob("*.txt"))},
}
"""All golden files by name."""


def play(path: Path) -> str:
    """The text of the file with the results that it has now."""
    text = path.read_text()
    return play_table(text) if path.parent.name == "tables" else play_script(text)


def play_script(text: str) -> str:
    """The script with the output that its verbs have now."""
    stage = Stage()
    out: list[str] = []
    commands: list[str] = []
    skipping = False
    for line in text.splitlines():
        if skipping:
            skipping = bool(line.strip())
            if skipping:
                continue
        if line == "----":
            results = [stage.run(command) for command in commands]
            produced = [entry for result in results for entry in result if entry != "ok"]
            out += ["----", *(produced or ["ok"]), ""]
            commands = []
            skipping = True
        else:
            if line.strip() and not line.startswith("#"):
                commands.append(line)
            if line.strip() or (out and out[-1] != ""):
                out.append(line)
    assert not commands, f"verbs without ----: {commands}"
    return "\n".join(out).rstrip("\n") + "\n"


def play_table(text: str) -> str:
    """The table with the results that its rows have now, in one column."""
    out: list[str] = []
    block: list[tuple[str, str]] = []

    def flush() -> None:
        width = max((len(left) for left, _ in block), default=0)
        out.extend(f"{left:{width}} => {right}" for left, right in block)
        block.clear()

    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            left = line.split("=>")[0].strip()
            block.append((left, row(left)))
        else:
            flush()
            out.append(line)
    flush()
    return "\n".join(out).rstrip("\n") + "\n"
