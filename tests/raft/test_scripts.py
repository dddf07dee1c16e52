"""Runs the scripts in `scripts/` and the tables in `tables/`.

`ROCINANTE_REWRITE=1` writes them anew: read the difference before you commit it.
"""

from __future__ import annotations

import os

import pytest

from rocinante.raft import Config

from .playing import FILES, HERE, play, play_script, play_table
from .tables import parse_config, row

REWRITE = bool(os.environ.get("ROCINANTE_REWRITE"))


@pytest.mark.parametrize("name", FILES)
def test_golden(name: str) -> None:
    path = FILES[name]
    now = play(path)
    if REWRITE:
        path.write_text(now)
    else:
        assert now == path.read_text(), f"{name} has another outcome; ROCINANTE_REWRITE=1 writes it"


def test_there_are_scripts_and_tables() -> None:
    assert len(FILES) > 90
    assert {"tables/vote", "tables/commit", "tables/membership"} < FILES.keys()


def test_every_script_says_what_it_is_about() -> None:
    silent = [name for name, path in FILES.items() if not path.read_text().startswith("# ")]
    assert not silent


def test_the_table_of_behaviours_names_every_script_and_no_other() -> None:
    text = (HERE / "README.md").read_text()
    named = {word.strip("`") for word in text.replace("|", " ").replace(",", " ").split() if word.startswith("`")}
    assert not [name for name in FILES if name not in named], "README.md does not say what these pin down"
    gone = [name for name in named if "_" in name and name.isidentifier() and name not in FILES]
    assert not [name for name in gone if not name.startswith("test_")], "README.md names what is not there"


def test_a_wrong_result_is_seen_and_rewritten() -> None:
    script = "# A.\nnodes 1\nstates\n----\nnonsense\n"
    assert (
        play_script(script)
        == "# A.\nnodes 1\nstates\n----\n1: follower term=0 vote=0 leader=0 last=0/0 commit=0 applied=0\n"
    )
    assert play_table("# A.\nquorum 3 => 7\nquorum 11 =>\n") == "# A.\nquorum 3  => 2\nquorum 11 => 6\n"


@pytest.mark.parametrize("text", ["votes (1)", "vote 1", "config (1) (2)"])
def test_a_row_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|behind"):
        row(text)


def test_configurations_are_read_as_they_are_shown() -> None:
    config, rest = parse_config("(1 2)&&(2 3) learners=(4) next=(3) autoleave leave")
    assert config == Config(frozenset({1, 2}), frozenset({2, 3}), frozenset({4}), frozenset({3}), auto_leave=True)
    assert rest == ["leave"]
