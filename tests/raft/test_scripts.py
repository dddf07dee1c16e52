"""Runs the scripts in `scripts/`. `ROCINANTE_REWRITE=1` writes them anew: read the difference before you commit it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .script import Stage

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.txt"))
REWRITE = bool(os.environ.get("ROCINANTE_REWRITE"))


def play(text: str) -> str:
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


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path: Path) -> None:
    text = path.read_text()
    now = play(text)
    if REWRITE:
        path.write_text(now)
    else:
        assert now == text, f"{path.name} has another outcome; ROCINANTE_REWRITE=1 writes it"


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) > 30
